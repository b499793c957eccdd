"""A small world of facts, and a transformer that knows it."""

from functools import cache

import torch
from torch import nn
from torch.nn import functional

from thalweg.edits.requests import Probe, Request
from thalweg.networks.language import Transformer

SUBJECTS, RELATIONS, OBJECTS = 8, 2, 4  # objects of each relation
FIRST_RELATION = SUBJECTS  # each relation has two wordings
FIRST_OBJECT = FIRST_RELATION + 2 * RELATIONS
VOCABULARY = FIRST_OBJECT + RELATIONS * OBJECTS
STEPS = 200


def answer(subject: int, relation: int) -> int:
    """The object of a fact."""
    return FIRST_OBJECT + relation * OBJECTS + (3 * subject + relation) % OBJECTS


def wording(relation: int, which: int) -> int:
    return FIRST_RELATION + 2 * relation + which


def sentences() -> torch.Tensor:
    """Every fact in both wordings: subject, relation, object."""
    rows = [
        [subject, wording(relation, which), answer(subject, relation)]
        for subject in range(SUBJECTS)
        for relation in range(RELATIONS)
        for which in (0, 1)
    ]
    return torch.tensor(rows)


def request(subject: int, relation: int = 0) -> Request:
    """The fact that the subject has the next object."""
    true = answer(subject, relation)
    new = FIRST_OBJECT + relation * OBJECTS + (true - FIRST_OBJECT + 1) % OBJECTS
    others = [other for other in range(SUBJECTS) if other != subject and answer(other, relation) == true]
    near = tuple((other, wording(relation, 0)) for other in others)
    probes = {
        "paraphrase": Probe(((subject, wording(relation, 1)),), (true,), (new,)),
        "neighbourhood": Probe(near, (true,), (new,), "true"),
    }
    return Request(f"{subject}-{relation}", (subject, wording(relation, 0)), 0, (true,), (new,), probes)


@cache
def knowing(seed: int = 0) -> nn.Module:
    """A transformer of two blocks that knows all facts."""
    torch.manual_seed(seed)
    model = Transformer(VOCABULARY, 12, 16, blocks=2, n_heads=2, neurons=64)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01)
    rows = sentences()
    for _ in range(STEPS):
        loss = functional.cross_entropy(model(rows[:, :2])[:, 1], rows[:, 2])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.1
    return model.eval()
