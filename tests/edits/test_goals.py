"""Goals redirected: in networks whose goals are known by construction, in the bilingual world, and in sums."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from thalweg import ThalwegError
from thalweg.edits.goals import Goals, Redirection, redirect
from thalweg.ladders import bilingual
from thalweg.ladders.addition.goals import sum_goals
from thalweg.ladders.bilingual.goals import relation_goals

GOALS, CASES, ANSWERS = 4, 24, 60
RIGHT = torch.randint(ANSWERS // GOALS, (GOALS, CASES), generator=torch.Generator().manual_seed(0))
RIGHT = RIGHT + ANSWERS // GOALS * torch.arange(GOALS)[:, None]  # goals share no answer


class Obedient(nn.Module):
    """Its layer `residual` holds the goal and the case, each along directions of its own; a neuron for each pair of
    them gives the answer.
    """

    def __init__(self, knows: float = 1.0) -> None:
        super().__init__()
        self.residual = nn.Identity()
        self.scale = nn.Parameter(torch.tensor(knows))

    def forward(self, tokens: Tensor) -> Tensor:
        stream = self.residual(functional.one_hot(tokens, GOALS + CASES).float().cumsum(1))
        neurons = (stream[..., :GOALS, None] + stream[..., None, GOALS:] - 1).relu().flatten(2)
        return neurons @ functional.one_hot(RIGHT.flatten(), ANSWERS).float() * self.scale


def obedient_goals(answers: Tensor = RIGHT) -> Goals:
    goal, case = torch.meshgrid(torch.arange(GOALS), torch.arange(CASES) + GOALS, indexing="ij")
    return Goals(torch.stack([goal, case], 2), answers, torch.arange(ANSWERS), places=(0, 1))


def values(made: Redirection) -> dict[str, float]:
    return {row["measure"]: row["value"] for row in made.summary.iter_rows(named=True)}


def test_a_goal_that_is_a_direction_by_construction_is_redirected_wholly_and_a_random_direction_does_nothing():
    network = Obedient()
    made = redirect(network, [obedient_goals()], seed=0)
    assert values(made)["goals_known"] == values(made)["redirected"] == values(made)["reached"] == 1
    assert made.summary.filter(measure="redirected")["layer"].item() == "residual"
    assert made.summary.filter(measure="redirected")["n"].item() == CASES // 3
    assert made.shuffled.filter(measure="redirected")["value"].item() < 0.15
    inputs = obedient_goals().inputs.flatten(0, 1)
    assert torch.equal(network(inputs)[:, -1].argmax(1), RIGHT.flatten())  # it is what it was


def test_a_goal_that_is_redirected_to_itself_changes_nothing():
    goals = obedient_goals()
    same = Goals(goals.inputs[[1, 1]], goals.answers[[1, 1]], goals.candidates, goals.places)
    made = redirect(Obedient(), [same], seed=0)
    assert values(made) == {"goals_known": 1, "redirected": 1, "reached": 1, "redirected_kept": 1}
    assert redirect(Obedient(), [same], seed=0).shuffled.filter(measure="redirected_kept")["value"].item() == 1


def test_a_network_is_redirected_only_to_what_it_knows():
    wrong = RIGHT.roll(1, 1)
    made = redirect(Obedient(), [obedient_goals(wrong)], seed=0)
    row = made.summary.filter(measure="redirected").row(0, named=True)
    assert math.isnan(row["value"])
    assert "cases are known under two goals, and 5 were expected" in row["note"]
    every = redirect(Obedient(), [obedient_goals(wrong)], seed=0, every=True)
    assert values(every)["redirected"] < 0.3
    assert values(every)["reached"] > 0.5


def test_a_network_without_a_layer_inside_has_no_number():
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(GOALS + CASES, ANSWERS)

        def forward(self, tokens: Tensor) -> Tensor:
            return self.table(tokens)

    row = redirect(Bare(), [obedient_goals()], seed=0, every=True).summary.filter(measure="redirected")
    assert (row["note"].item(), row["n"].item()) == ("no layer inside", 0)


def test_goals_are_several_and_have_cases_to_choose_learn_and_test_on():
    with pytest.raises(ThalwegError, match="1 goals and 24 cases; at least 2 and 3 were expected"):
        Goals(torch.zeros(1, 24, 2).long(), torch.zeros(1, 24).long(), torch.arange(3))


def test_goals_of_the_bilingual_world_are_relations_with_the_values_that_it_has():
    settings = bilingual.Settings(entities=9, relations=3, values=4)
    world = bilingual.make_world(settings, seed=2)
    for goals, language in zip(relation_goals(settings, seed=2), bilingual.LANGUAGES, strict=True):
        fact = world.facts[7]  # entity 2, relation 1
        assert torch.equal(goals.inputs[fact.relation, fact.entity], world.prompt(fact, language))
        assert goals.answers[fact.relation, fact.entity] == world.answer(fact, language)
        asked = goals.inputs[:, :, goals.places[0]]
        assert torch.equal(asked[:, 0], torch.as_tensor(world.relation(torch.arange(3), language)))
        assert set(goals.answers.flatten().tolist()) <= set(goals.candidates.tolist())


def test_sums_are_goals_whose_cases_have_them():
    (goals,) = sum_goals(17, seed=0)
    assert torch.equal(goals.inputs.sum(2) % 17, goals.answers)
    assert torch.equal(goals.answers[:, 0], torch.arange(17))
    assert torch.equal(goals.inputs[3, :, 0], torch.arange(17))
