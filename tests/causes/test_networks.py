"""Networks of the experiment: they learn, learn wrong answers by heart where there are few, and never do online."""

import math
from dataclasses import replace

import pytest
import torch

from thalweg.causes.measuring import measure_network
from thalweg.causes.networks import SOFTMAX_LINEAR, build
from thalweg.causes.plan import ONLINE, NetworkPlan
from thalweg.causes.rendering import make_renderer
from thalweg.causes.task import make_task
from thalweg.causes.training import train

PLAN = NetworkPlan("factorial", 0, 64, 48, 1, 0.4, "tokens", 0.2, steps=400)


@pytest.fixture(scope="module")
def rows() -> dict[str, dict]:
    plans = {"few": PLAN, "online": replace(PLAN, examples=ONLINE)}
    return {name: measure_network(plan)[0] for name, plan in plans.items()}


def test_few_examples_are_learned_by_heart_and_online_ones_are_not(rows: dict[str, dict]):
    assert rows["few"]["memorised"] > 0.5
    assert rows["few"]["gap_bits"] > 0.5
    assert rows["online"]["memorised"] == rows["online"]["gap_bits"] == 0
    assert math.isnan(rows["online"]["train_bits"])
    assert rows["online"]["strength_bits"] > rows["few"]["strength_bits"]
    assert rows["online"]["accuracy"] > 0.7


def test_scores_and_dimensionality_lie_in_their_range(rows: dict[str, dict]):
    for row in rows.values():
        assert 0.5 < row["crisp"] <= 1
        assert 0 < row["r2"] <= 1
        assert 0 < row["dimensionality"] <= 1
        assert row["n_units"] == 48


def test_the_same_plan_gives_the_same_numbers_and_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    plan = replace(PLAN, steps=20, dropout=0.2, l1=0.1)
    first, second = (measure_network(plan) for _ in range(2))
    assert first[0] == pytest.approx(second[0], abs=0, nan_ok=True)
    assert first[1].equals(second[1])
    assert torch.equal(before, torch.random.get_rng_state())


def test_sparse_weights_are_sparse_and_a_student_learns_from_its_teacher():
    task = make_task()
    renderer = make_renderer("tokens", task.n_latents, 0)
    sparse = train(replace(PLAN, kept_weights=0.25, steps=20), task, renderer).network
    weight = sparse.linear[0].weight
    assert float((weight != 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    student, plain = (train(replace(PLAN, steps=20, teacher_width=width), task, renderer).network for width in (64, 0))
    assert not torch.equal(student.head.weight, plain.head.weight)


def test_softmax_linear_units_weigh_each_value_by_its_share():
    network = build(4, 3, 1, 2, seed=0, nonlinearity=SOFTMAX_LINEAR)
    shown = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    values = network.linear[0](shown).detach()
    assert network.hidden(shown)[0].detach() == pytest.approx(values * values.softmax(1) * 3)
