"""The goals of a bilingual world: the attribute that a sentence asks for, named by the word of the relation.

The same entity is asked about under each relation, in the usual form of each language. A goal may be edited at its own
word or at the last one, where the answer is read: in a network of one block nothing reads the goal's word later.
"""

import torch

from thalweg.edits.goals import Goals
from thalweg.ladders.bilingual.world import LANGUAGES, LENGTH, Settings, make_world


def relation_goals(settings: Settings, seed: int) -> tuple[Goals, ...]:
    """The relations as goals, of each language.

    Args:
        settings: The world's, with two relations or more.
        seed: The run's.
    """
    world = make_world(settings, seed=seed)
    entities, relations = torch.arange(settings.entities), range(settings.relations)
    made = []
    for language in LANGUAGES:
        inputs = [world.sentences(entities, torch.full_like(entities, each), language, 0) for each in relations]
        answers = [torch.as_tensor(world.value(each, world.values[:, each], language)) for each in relations]
        candidates = torch.cat([world.candidates(each, language) for each in relations])
        places = (world.relation_place(language), LENGTH - 1)
        made.append(Goals(torch.stack(inputs), torch.stack(answers), candidates, places))
    return tuple(made)
