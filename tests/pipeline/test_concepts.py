"""A survey of a ladder that has concepts: its table, its verdicts, and the report's section."""

from dataclasses import replace
from pathlib import Path

import pytest

import thalweg
from thalweg.concepts.columns import CONCEPTS
from thalweg.ladders import bilingual
from thalweg.ladders.bilingual.training import ValueTrainer
from thalweg.pipeline.concepts import RELATED
from thalweg.pipeline.verdicts import CONCEPT_MEASURES


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> thalweg.Run:
    world = bilingual.Settings(entities=40, relations=2, values=3, lines=1000)
    ladder = bilingual.ladder(world)
    twins = {bilingual.TWO_WORLDS: ValueTrainer(world, steps=20, two_worlds=True)}
    small = replace(ladder, rungs=ladder.rungs[:1], train=ValueTrainer(world, steps=20), twins=twins)
    out = tmp_path_factory.mktemp("bilingual")
    settings = {"seeds": 1, "workers": 1, "resamples": 100, "twins": ("untrained", bilingual.TWO_WORLDS)}
    return thalweg.survey(small, out=out / "run", cache=out / "cache", **settings)


def test_every_control_has_every_measure(run: thalweg.Run):
    table = run.concepts
    assert dict(table.schema) == CONCEPTS
    models = table.filter(layer="").filter(table.filter(layer="")["rung"] != "")
    measures = {control: set(rows["measure"]) for (control,), rows in models.group_by("control")}
    whole = {"probe_within", "patch_mismatched", "patch_within", *RELATED}
    assert measures.pop("shuffled") == whole - {"probe_within", "patch", "patch_mismatched", "patch_within", "carried"}
    scored = whole | {"crisp_shared", "crisp_all"}  # of networks whose units the survey scores
    assert measures == dict.fromkeys(("trained", "untrained", "two-worlds"), scored) | {"rerandomised": whole}
    layers = set(table["layer"]) - {""}
    assert layers == {"blocks.0:in", "blocks.0.neurons", "blocks.0.residual"}
    behind = table.filter(layer="blocks.0.residual", measure="patch")
    assert behind["value"].abs().max() < 1e-5  # no later token reads it there


def test_measures_are_related_and_judged(run: thalweg.Run):
    related = run.concepts.filter(rung="")
    assert len(related) == 8 * 7 // 2
    assert set(related["n"]) == {1}
    judged = {record["measure"] for record in run.shape if record["measure"].startswith("concept_")}
    assert judged == {f"concept_{name}" for name in CONCEPT_MEASURES}


def test_a_finished_run_of_before_has_no_concepts(run: thalweg.Run, tmp_path: Path):
    older = thalweg.open_run(run.path)
    older.record.pop("concepts")
    assert older.concepts.is_empty()


def test_units_that_answer_in_both_languages_stand_beside_all_units(run: thalweg.Run):
    rows = run.concepts.filter(control="trained", layer="")
    every, shared = (rows.filter(measure=name).row(0, named=True) for name in ("crisp_all", "crisp_shared"))
    crisp = run.models.filter(control="trained")["crisp"].item()
    assert 0 <= shared["n"] <= every["n"] <= 4 * 4 + 4  # its neurons and its residual stream
    assert every["n"] > 10
    assert every["value"] == pytest.approx(crisp, abs=0.1)  # that is a mean over layers


def test_goals_are_redirected_in_trained_networks_the_untrained_one_and_the_control(run: thalweg.Run):
    redirected = run.edits.filter(method="redirect", measure="redirected")
    assert set(redirected["control"]) == {"trained", "two-worlds", "untrained", "shuffled"}
    assert {"edit_redirected", "edit_reached", "edit_redirected_kept"} <= {record["measure"] for record in run.shape}
    untrained = redirected.filter(control="untrained")
    assert 0 <= untrained["value"].item() < 0.6
    assert untrained["n"].item() == 26  # a third of the entities, in both languages
