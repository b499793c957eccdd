"""Edits through one language and questions in the other; facts of the bilingual world; curves and relations."""

import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from edits.test_edits import world_windows
from support import facts as world
from thalweg.edits.crossing import edit_network
from thalweg.edits.evaluation import ask
from thalweg.edits.requests import Probe, Request
from thalweg.ladders import bilingual
from thalweg.ladders.bilingual.edits import fact_requests, request
from thalweg.pipeline.edits import edit_relations
from thalweg.pipeline.settings import Settings
from thalweg.pipeline.verdicts import edit_curves

SMALL = bilingual.Settings(entities=40, relations=2, values=4)


def in_two_wordings() -> list[Request]:
    """The facts of a small world, whose two wordings stand for two languages."""
    made = []
    for subject in range(world.SUBJECTS):
        plain = world.request(subject)
        far = plain.probes["paraphrase"].prompts
        probes = {
            "transfer": Probe(far, plain.true, plain.new),
            "known": Probe((plain.prompt,), plain.true, plain.new, "true"),
            "known_in_other": Probe(far, plain.true, plain.new, "true"),
        }
        made.append(replace(plain, probes=probes, language="A"))
    return made


def test_a_fact_of_two_wordings_crosses_over_as_far_as_its_keys_overlap():
    model = world.knowing()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    made = edit_network(model, in_two_wordings(), world_windows(), seed=0)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    value = {(row["method"], row["measure"]): row for row in made.summary.iter_rows(named=True)}
    assert value["unedited", "known_in_both"]["value"] == 1
    assert value["unedited", "transfer"]["value"] == 0
    assert value["rome", "transfer"]["value"] > 0.5
    assert value["rome", "key_overlap"]["value"] > 0.5
    assert value["rome", "transfer"]["n"] == world.SUBJECTS
    assert not any(measure.startswith("known_in_other") for _, measure in value)
    margins = made.facts.filter(method="rome", measure="transfer_margin")["value"].to_numpy()
    overlaps = made.facts.filter(measure="key_overlap")["value"].to_numpy()
    ranks = [np.argsort(np.argsort(numbers)) for numbers in (margins, overlaps)]
    assert value["rome", "transfer ~ key_overlap"]["value"] == pytest.approx(np.corrcoef(*ranks)[0, 1], abs=0.05)


def test_keys_that_are_the_same_overlap_wholly():
    same = [
        replace(item, probes={**item.probes, "transfer": replace(item.probes["transfer"], prompts=(item.prompt,))})
        for item in in_two_wordings()
    ]
    made = edit_network(world.knowing(), same, world_windows(), seed=0)
    assert made.facts.filter(measure="key_overlap")["value"].to_list() == pytest.approx([1] * len(same))


def test_a_model_that_knows_too_little_has_no_number():
    torch.manual_seed(0)
    strange = [replace(item, true=item.new, new=item.true) for item in in_two_wordings()]
    swapped = [
        replace(
            item, probes={name: replace(probe, true=probe.new, new=probe.true) for name, probe in item.probes.items()}
        )
        for item in strange
    ]
    made = edit_network(world.knowing(), swapped, world_windows(), seed=0)
    rows = made.summary.filter(measure="transfer")
    assert rows["value"].is_nan().all()
    assert rows["note"][0] == "0 of 8 facts are known in both languages, and 5 were expected"
    assert made.facts.is_empty()


def test_facts_of_the_bilingual_world_are_asked_as_it_says_them():
    there = bilingual.make_world(SMALL, seed=3)
    fact = next(fact for fact in there.facts if fact.seen == "both" and there.neighbourhood(fact))
    made = request(there, fact, (fact.value + 1) % 4, "A")
    assert there.text(made.prompt) == there.text(there.prompt(fact, "A"))
    assert made.true == (there.answer(fact, "A"),)
    assert made.subject_end == there.subject_place("A")
    transfer, near = made.probes["transfer"], made.probes["transfer_neighbourhood"]
    assert [there.text(prompt) for prompt in transfer.prompts] == [
        there.text(there.prompt(fact, "B", form)) for form in range(3)
    ]
    assert transfer.true == (there.answer(fact, "B"),)
    assert set(transfer.candidates) == set(there.candidates(fact.relation, "B").tolist())
    assert transfer.new[0] in transfer.candidates
    assert near.wants == "true"
    others = {int(there.values[other.entity, fact.relation]) for other in there.neighbourhood(fact)}
    assert others == {fact.value}


def test_edits_of_the_world_are_the_same_by_seed_and_half_of_each_language():
    made = fact_requests(SMALL, seed=0)
    assert made == fact_requests(SMALL, seed=0)
    assert made != fact_requests(SMALL, seed=1)
    languages = [item.language for item in made]
    assert languages.count("A") == languages.count("B") == len(made) / 2
    assert len({item.name for item in made}) == len(made)
    torch.manual_seed(0)
    model = bilingual.ladder(SMALL).rungs[0].build().eval()
    assert len(ask(model, made[:3])) == 3


def tables(rungs: int = 6) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Models of known strength, a measure of sharing that goes with it, and edits that go with the measure alone."""
    key = [{"ladder": "a", "rung": f"r{n}", "seed": seed} for n in range(rungs) for seed in range(2)]
    order = np.random.default_rng(0).permutation(len(key))
    models = pl.DataFrame([{**row, "control": "trained", "bits": float(n)} for n, row in enumerate(key)])
    shared = pl.DataFrame(
        [{**row, "control": "trained", "layer": "", "measure": "probe", "value": float(order[n])} for n, row in
         enumerate(key)]
    )  # fmt: skip
    about = {"control": "trained", "layer": "l", "method": "rome", "measure": "transfer", "note": ""}
    edits = pl.DataFrame(
        [{**row, **about, "value": float(order[n]) / 20, "low": 0.1, "high": 0.2, "n": 9} for n, row in enumerate(key)]
    )
    return models, shared, edits


def test_crossing_goes_with_sharing_and_not_with_strength():
    made = edit_relations(*tables())
    value = {row["measure"]: row["value"] for row in made.iter_rows(named=True)}
    assert value["transfer ~ probe"] == pytest.approx(1)
    assert abs(value["transfer ~ strength"]) < 0.7
    assert set(value) == {"transfer ~ strength", "transfer ~ probe", "transfer ~ probe, strength held"}
    assert set(made["rung"]) == {""}


def test_edits_have_curves_against_strength_and_size():
    models, _, edits = tables()
    axes = {name: pl.col("bits") for name in ("loss", "share", "accuracy", "parameters", "train_tokens", "order")}
    columns = ["bits", *axes]
    models = models.with_columns(**axes)
    from thalweg.strength import axes as strength

    models = models.with_columns(
        pl.col("bits").alias(name) for name in (*strength.AXES, strength.SHARE) if name not in columns
    )
    other = edits.with_columns(method=pl.lit("memit"), value=1 - pl.col("value"))
    made = list(edit_curves(models, pl.concat([edits, other]), Settings(), {"a": "tokens"}))
    assert [(curve.measure, curve.axis) for curve in made] == [
        ("edit_transfer", "bits"),
        ("edit_transfer", "parameters"),
        ("edit_transfer:memit", "bits"),
        ("edit_transfer:memit", "parameters"),
    ]
    assert len(made[0].score) == 12
    assert not any(map(math.isnan, made[0].score))
    assert made[2].score == pytest.approx([1 - score for score in made[0].score])
