"""The concepts of a bilingual world as the measures of sharing take them."""

import torch
from torch import Tensor

from thalweg.concepts.pairs import ConceptPairs, Questions
from thalweg.ladders.bilingual.world import LANGUAGES, LENGTH, Settings, World, make_world, other_than
from thalweg.models.records import Layer
from thalweg.stimuli.base import Splits

# The forms of sentence in the order in which they are contexts: in the first the entity stands at the same place in
# both languages and before the relation, so that what is patched in there is read together with the relation.
CONTEXT_FORMS = {"A": (2, 0, 1), "B": (1, 2, 0)}
PATCHED = 2  # contexts, about two relations: patching takes most of the time
STREAM = Layer("blocks.0:in", "last", unit_axis=2)  # embeddings with their positions


def concept_pairs(settings: Settings, seed: int, splits: Splits | None = None) -> ConceptPairs:
    """The entities of a world, each in sentences of every form about every relation, in both languages.

    Probes are asked for the values under each relation. The questions are the facts that one language alone states,
    asked in the usual form of the other.

    Args:
        settings: The world's.
        seed: The run's.
        splits: The stimuli, which say nothing that the world does not.
    """
    world = make_world(settings, seed=seed)
    entities = torch.arange(settings.entities)
    places: list[Tensor] = []
    tokens: list[Tensor] = []
    for language in LANGUAGES:
        contexts = [
            world.sentences(entities, torch.full_like(entities, relation), language, form)
            for form in CONTEXT_FORMS[language]
            for relation in range(settings.relations)
        ]
        tokens.append(torch.stack(contexts, 1))
        at = [world.subject_place(language, form) for form in CONTEXT_FORMS[language]]
        row = torch.tensor(at).repeat_interleave(settings.relations)
        places.append(row.expand(settings.entities, -1))
    placed = torch.stack(places)
    return ConceptPairs(
        torch.stack(tokens),
        placed,
        torch.full_like(placed, LENGTH - 1),
        patched=min(PATCHED, settings.relations),
        classes=world.values.T.contiguous(),
        questions=questions(world) if settings.held_out else None,
    )


def questions(world: World) -> Questions:
    """The facts that sentences of one language alone state, asked in the other."""
    asked = [(fact, other_than(fact.seen)) for fact in world.facts if fact.seen in LANGUAGES]
    candidates: list[Tensor] = [world.candidates(fact.relation, language) for fact, language in asked]
    return Questions(
        torch.stack([world.prompt(fact, language) for fact, language in asked]),
        torch.stack(candidates),
        torch.tensor([fact.value for fact, _ in asked]),
    )
