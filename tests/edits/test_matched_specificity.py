"""Facts edited side by side, and fine-tuning compared where it is as specific as ROME."""

from dataclasses import replace

import polars as pl
import pytest
import torch

from edits.test_edits import world_windows
from support import facts as world
from thalweg import ThalwegError
from thalweg.edits.beside import ask_beside, groups
from thalweg.edits.crossing import edit_network
from thalweg.edits.evaluation import FACTS_SCHEMA, ask, measure_edits
from thalweg.edits.matching import MATCHED, STEPS, _place, fine_tuned_alike
from thalweg.edits.methods import EditSettings, Setup, changed, rome_changes
from thalweg.edits.moments import second_moments
from thalweg.edits.projections import projections

REQUESTS = [world.request(subject) for subject in range(4)]


@pytest.fixture(scope="module")
def setup() -> Setup:
    model = world.knowing()
    last = projections(model, torch.tensor([REQUESTS[0].prompt] * 2))[-1]
    moments = second_moments(model, last, world_windows(), tokens=1000)
    return Setup(model, (last,), {last.name: moments}, EditSettings(site="last", ridge=0.01))


def of_specificity(value: float) -> pl.DataFrame:
    row = {"fact": "a", "concept": "", "method": "rome", "measure": "neighbourhood", "value": value}
    return pl.DataFrame([row], schema=FACTS_SCHEMA)


def test_facts_that_are_asked_side_by_side_answer_as_if_each_had_the_model_alone(setup: Setup):
    changes = torch.stack(list(rome_changes(setup, REQUESTS)))
    beside = ask_beside(setup, REQUESTS, changes)
    for request, change, answered in zip(REQUESTS, changes, beside, strict=True):
        with changed({setup.last: change}):
            assert answered == pytest.approx(ask(setup.model, [request])[0], abs=1e-5)
        (alone,) = ask_beside(setup, [request], change[None])
        assert answered == pytest.approx(alone, abs=1e-5)


def test_facts_are_grouped_by_the_size_of_the_matrix(setup: Setup, monkeypatch: pytest.MonkeyPatch):
    assert [len(group) for group in groups(setup, REQUESTS)] == [4]
    rows = max(1 + sum(len(probe.prompts) for probe in each.probes.values()) for each in REQUESTS)
    monkeypatch.setattr("thalweg.edits.beside.NUMBERS_AT_ONCE", 2 * rows * 16 * 64)
    assert [len(group) for group in groups(setup, REQUESTS)] == [2, 2]
    changes = torch.stack(list(rome_changes(setup, REQUESTS)))
    assert len(ask_beside(setup, REQUESTS, changes)) == 4


def test_fine_tuning_is_read_where_it_is_as_specific_as_another_method(setup: Setup):
    wanted = 0.6
    before = {name: value.clone() for name, value in setup.model.state_dict().items()}
    made = fine_tuned_alike(setup, REQUESTS, of_specificity(wanted))
    assert made.filter(measure="neighbourhood")["value"].mean() == pytest.approx(wanted)
    assert set(made["method"]) == {MATCHED}
    steps = made.filter(measure="steps")["value"]
    assert 0 < steps[0] <= STEPS[-1]
    assert steps.n_unique() == 1
    later = fine_tuned_alike(setup, REQUESTS, of_specificity(wanted / 2))
    assert later.filter(measure="steps")["value"][0] > steps[0]
    assert (
        later.filter(measure="efficacy_margin")["value"].mean()
        >= made.filter(measure="efficacy_margin")["value"].mean()
    )
    assert all(torch.equal(setup.model.state_dict()[name], value) for name, value in before.items())


def test_fine_tuning_that_is_to_spare_everything_is_the_unedited_model(setup: Setup):
    made = fine_tuned_alike(setup, REQUESTS, of_specificity(1.0))
    plain = measure_edits(setup, "unedited", REQUESTS)
    for measure in ("efficacy", "neighbourhood"):
        assert made.filter(measure=measure)["value"].to_list() == plain.filter(measure=measure)["value"].to_list()


@pytest.mark.parametrize(
    ("path", "wanted", "place"),
    [
        ((1.0, 0.5, 0.0), 0.75, (0, 0.5)),
        ((1.0, 0.5, 0.0), 0.25, (1, 0.5)),
        ((1.0, 0.9, 0.8), 0.1, (2, 0.0)),
        ((0.4, 0.3), 0.6, (0, 0.0)),
    ],
)
def test_a_path_is_read_where_it_first_falls_to_a_value(path, wanted, place):
    assert _place(path, wanted) == pytest.approx(place)


def test_specificity_needs_a_neighbourhood(setup: Setup):
    bare = [replace(request, probes={}) for request in REQUESTS]
    with pytest.raises(ThalwegError, match="no fact has neighborhood_prompts"):
        fine_tuned_alike(setup, bare, of_specificity(0.5))


def test_methods_of_a_ladder_are_the_same_side_by_side(setup: Setup):
    from edits.test_crossing import in_two_wordings

    near = [world.request(subject).probes["neighbourhood"] for subject in range(world.SUBJECTS)]
    requests = [
        replace(request, probes={**request.probes, "neighbourhood": probe})
        for request, probe in zip(in_two_wordings(), near, strict=True)
    ]
    made = edit_network(world.knowing(), requests, world_windows(), seed=0).facts
    alone = measure_edits(setup, "rome", requests).filter(measure="efficacy_margin")
    beside = made.filter(method="rome", measure="efficacy_margin")
    assert beside["fact"].to_list() == alone["fact"].to_list()
    assert beside["value"].to_list() == pytest.approx(alone["value"].to_list(), abs=1e-4)
    assert {"rome", "memit", "steer", MATCHED} <= set(made["method"])
