"""A survey of a ladder that has concepts: its table, its verdicts, and the report's section."""

from dataclasses import replace
from pathlib import Path

import pytest

import thalweg
from thalweg.concepts.columns import CONCEPTS
from thalweg.ladders import bilingual
from thalweg.ladders.bilingual.training import ValueTrainer
from thalweg.pipeline.concepts import RELATED


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
    assert measures == dict.fromkeys(("trained", "untrained", "two-worlds", "rerandomised"), whole)
    layers = set(table["layer"]) - {""}
    assert layers == {"blocks.0:in", "blocks.0.neurons", "blocks.0.residual"}
    behind = table.filter(layer="blocks.0.residual", measure="patch")
    assert behind["value"].abs().max() < 1e-5  # no later token reads it there


def test_measures_are_related_and_judged(run: thalweg.Run):
    related = run.concepts.filter(rung="")
    assert len(related) == 8 * 7 // 2
    assert set(related["n"]) == {1}
    judged = {record["measure"] for record in run.shape if record["measure"].startswith("concept_")}
    assert judged == {f"concept_{name}" for name in ("retrieval", "cka", "overlap", "probe", "patch", "carried")}


def test_a_finished_run_of_before_has_no_concepts(run: thalweg.Run, tmp_path: Path):
    older = thalweg.open_run(run.path)
    older.record.pop("concepts")
    assert older.concepts.is_empty()
