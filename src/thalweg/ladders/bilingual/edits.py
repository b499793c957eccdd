"""Facts of a bilingual world as edits: changed through one language, asked in both.

A fact that both languages state is given another value of its relation, by the usual form of one language's sentence.
The other forms are perfect paraphrases; facts of other entities that have the old value are the neighbourhood; and the
same questions in the other language show whether the edit crosses over. An answer counts only if it beats all values of
the relation in the language of the question: else an edit could seem to cross over because it disturbs.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from thalweg.edits.requests import Probe, Request, Tokens
from thalweg.ladders.bilingual.world import FORMS, LANGUAGES, Fact, Language, Settings, World, make_world, other_than

FACTS = 60  # of each language, at most: drawn from those that both state and that have a neighbourhood
NEIGHBOURS = 6


def fact_requests(settings: Settings, seed: int) -> tuple[Request, ...]:
    """The edits of a world: as many by sentences of A as by sentences of B, of different facts.

    Args:
        settings: The world's.
        seed: The run's.
    """
    world = make_world(settings, seed=seed)
    generator = np.random.default_rng([seed, 21])
    known = [fact for fact in world.facts if fact.seen == "both" and world.neighbourhood(fact, 1)]
    order = generator.permutation(len(known))
    half = min(FACTS, len(known) // 2)
    requests = []
    for number, language in enumerate(LANGUAGES):
        for index in order[number * half : (number + 1) * half]:
            fact = known[index]
            shift = 1 + int(generator.integers(settings.values - 1))
            requests.append(request(world, fact, (fact.value + shift) % settings.values, language))
    return tuple(requests)


def request(world: World, fact: Fact, value: int, language: Language) -> Request:
    """A fact that is given another value by a sentence of one language."""
    far = other_than(language)
    near = world.neighbourhood(fact, NEIGHBOURS)
    probes = {
        "paraphrase": _probe(world, [fact], value, language, forms=range(1, len(FORMS[language]))),
        "neighbourhood": _probe(world, near, value, language, wants="true"),
        "transfer": _probe(world, [fact], value, far, forms=range(len(FORMS[far]))),
        "transfer_neighbourhood": _probe(world, near, value, far, wants="true"),
        "known": _probe(world, [fact], value, language, wants="true"),
        "known_in_other": _probe(world, [fact], value, far, wants="true"),
    }
    edited = _probe(world, [fact], value, language)
    return Request(
        f"{language}: {world.text(edited.prompts[0][1:])}",
        edited.prompts[0],
        world.subject_place(language),
        edited.true,
        edited.new,
        {"efficacy": edited, **probes},
        concept=world.words[int(world.entity(fact.entity, "A"))].strip(),
        language=language,
    )


def _probe(
    world: World,
    facts: Sequence[Fact],
    value: int,
    language: Language,
    *,
    forms: Sequence[int] = (0,),
    wants: str = "new",
) -> Probe:
    """Questions about facts with the same old value."""
    prompts = tuple(_tokens(world.prompt(fact, language, form)) for fact in facts for form in forms)
    relation = facts[0].relation
    true, new = (int(world.value(relation, each, language)) for each in (facts[0].value, value))
    candidates = _tokens(world.candidates(relation, language))
    return Probe(prompts, (true,), (new,), "true" if wants == "true" else "new", candidates)


def _tokens(tokens: Tensor) -> Tokens:
    return tuple(int(token) for token in tokens.to(torch.long))
