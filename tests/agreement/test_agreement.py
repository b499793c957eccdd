"""Agreement of observers that answer single trials with others: planted truths at the level of tables."""

import numpy as np
import polars as pl
import pytest

from thalweg.agreement.correlation import Scores, correlate, spearman_brown
from thalweg.agreement.curves import answer_points, answer_verdicts
from thalweg.agreement.table import agreements, biases
from thalweg.agreement.units import answering, model_weights, within_models
from thalweg.factors.relation import spearman
from thalweg.prompting.forms import DETECTION
from thalweg.runs.answers import ANSWERS
from thalweg.runs.asked import ASKED

HEADLINES = {"predictable": "one_sided"}
BANDS = ("extreme", "v90", "v75")


def planted(truth: np.ndarray, per_unit: int, *, observer: str = "reader", seed: int = 0) -> pl.DataFrame:
    """Answers that are right with the probability that is planted for each unit: (model, unit)."""
    generator = np.random.default_rng(seed)
    rows = [
        {
            "trial": f"{model}-{unit}-{place}",
            "observer": observer,
            "version": 1,
            "ladder": "steps",
            "rung": f"rung-{model}",
            "seed": 0,
            "control": "trained",
            "layer": f"layer-{unit % 2}",
            "unit": unit,
            "band": BANDS[place % 3],
            "picked": place % 2,
            "correct": bool(generator.random() < truth[model, unit]),
            "confidence": None,
            "seconds": 0.1,
            "note": "",
        }
        for model, unit in np.ndindex(truth.shape)
        for place in range(per_unit)
    ]
    return pl.DataFrame(rows, schema=ANSWERS)


def lists(truth: np.ndarray, per_unit: int, *, seed: int = 0) -> pl.DataFrame:
    """Replies to lists of ten, of whose stimuli each is judged right with the probability planted for its unit."""
    generator = np.random.default_rng(seed)
    belongs = np.arange(10) < 5
    rows = []
    for model, unit in np.ndindex(truth.shape):
        for place in range(per_unit):
            picked = np.where(generator.random(10) < truth[model, unit], belongs, ~belongs)
            rows.append(
                {
                    "question": f"{model}-{unit}-{place}",
                    "rung": f"rung-{model}",
                    "layer": f"layer-{unit % 2}",
                    "unit": unit,
                    "queries": list(range(10)),
                    "right": np.flatnonzero(belongs).tolist(),
                    "picked": np.flatnonzero(picked).tolist(),
                }
            )
    fixed = {"form": DETECTION, "model": "reader", "version": 1, "ladder": "steps", "seed": 0, "control": "trained"}
    silent = {"band": "", "numbers": [], "note": "", "trial": "", "observer": ""}
    return pl.DataFrame([row | fixed | silent for row in rows], schema=ASKED)


def table_of_units(scores: np.ndarray) -> pl.DataFrame:
    """A table of units in which an observer of vectors has these scores in every band: (model, unit)."""
    rows = [
        {"rung": f"rung-{model}", "unit": unit, "layer": f"layer-{unit % 2}", "band": band, "measure": measure}
        | {"value": float(scores[model, unit])}
        for model, unit in np.ndindex(scores.shape)
        for measure, bands in (("two_choice", BANDS), ("one_sided", ("mean",)))
        for band in bands
    ]
    fixed = {"ladder": "steps", "control": "trained", "observer": "hog", "capacity": "", "exchanged": False}
    return pl.DataFrame(rows).with_columns(
        pl.lit(0, pl.Int32).alias("seed"),
        pl.col("unit").cast(pl.Int32),
        *(pl.lit(v).alias(k) for k, v in fixed.items()),
    )


def models_table(strengths: np.ndarray) -> pl.DataFrame:
    rows = [{"rung": f"rung-{index}", "bits": float(bits)} for index, bits in enumerate(strengths)]
    fixed = {"ladder": "steps", "kind": "step", "control": "trained", "seed": 0}
    return pl.DataFrame(rows).with_columns(pl.lit(value).alias(name) for name, value in fixed.items())


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return np.random.default_rng(5).uniform(0.5, 1.0, (8, 40))


def test_noise_in_the_answers_is_taken_out_of_the_correlation(truth: np.ndarray):
    """The observer of vectors is the planted truth: without noise the correlation would be one."""
    table = agreements(planted(truth, 24), table_of_units(truth), HEADLINES)
    units = table.filter(level="units", measure="two_choice").row(0, named=True)
    # Binomial noise of 24 answers takes away: reliability = var(p) / (var(p) + E[p (1 - p)] / 24)
    expected = truth.var() / (truth.var() + (truth * (1 - truth)).mean() / 24)
    assert units["n"] == truth.size
    assert units["reliability"] == pytest.approx(expected, abs=0.05)
    assert units["reliability_low"] < expected < units["reliability_high"]
    assert units["rho"] == pytest.approx(np.sqrt(expected), abs=0.05)
    assert units["rho"] < units["corrected"]
    assert units["corrected_low"] < 1 < units["corrected_high"]
    assert set(table["measure"]) == {"two_choice", "predictable"}


def test_a_form_of_lists_is_compared_as_an_observer(truth: np.ndarray):
    asked = lists(truth, 4)
    failed = asked.with_columns(pl.lit("no answer could be read").alias("note"), pl.lit([0]).alias("picked"))
    asked = pl.concat([asked, failed.with_columns(pl.col("question") + "-failed").cast(pl.Schema(ASKED))])
    table = agreements(planted(truth, 24), table_of_units(truth), HEADLINES, asked=asked)
    own = table.filter(observer=f"reader, {DETECTION}", level="units")
    (with_vectors,) = own.filter(other="hog").to_dicts()
    assert with_vectors["measure"] == "predictable"
    assert 0.8 < with_vectors["reliability"] < 0.95  # 40 judgements of a probability from .5 to 1
    assert with_vectors["rho"] < 0.97
    assert with_vectors["corrected_low"] < 1 < with_vectors["corrected_high"]
    (with_answers,) = own.filter(measure="answers").to_dicts()
    assert with_answers["other"] == "reader, version 1"
    assert with_answers["corrected_low"] < 1 < with_answers["corrected_high"]


def test_a_form_that_always_says_the_same_agrees_with_nobody(truth: np.ndarray):
    few = truth[:2, :10]
    asked = lists(few, 2).with_columns(pl.lit([], pl.List(pl.Int16)).alias("picked"))
    table = agreements(planted(few, 4), table_of_units(few), HEADLINES, asked=asked)
    own = table.filter(observer=f"reader, {DETECTION}", level="units", other="hog")
    assert own["rho"].is_nan().all()
    assert own["note"].to_list() == ["all scores of one side are the same"]


def test_whoever_guesses_agrees_with_nobody_and_no_correction_is_made(truth: np.ndarray):
    table = agreements(planted(np.full_like(truth, 0.5), 24), table_of_units(truth), HEADLINES)
    units = table.filter(level="units", measure="two_choice").row(0, named=True)
    assert units["low"] < 0 < units["high"]
    assert np.isnan(units["corrected"])
    assert "reliability" in units["note"]


def test_differences_between_models_alone_are_no_agreement_within_them():
    generator = np.random.default_rng(0)
    level = np.linspace(0.55, 0.95, 8)[:, None]
    vectors = level + generator.normal(0, 0.02, (8, 30))
    table = agreements(planted(np.broadcast_to(level, (8, 30)), 24), table_of_units(vectors), HEADLINES)
    by_level = {row["level"]: row for row in table.filter(measure="two_choice").to_dicts()}
    assert by_level["units"]["rho"] > 0.7
    assert abs(by_level["units within models"]["rho"]) < 0.2
    assert by_level["models"]["rho"] > 0.9
    assert by_level["models"]["n"] == 8


def test_two_readers_are_compared_over_the_units_that_both_have(truth: np.ndarray):
    first, second = planted(truth, 24), planted(truth[:5], 24, observer="people", seed=1)
    table = agreements(pl.concat([first, second]), table_of_units(truth), HEADLINES)
    beside = table.filter(measure="answers", level="units")
    assert beside.select("observer", "other").rows() == [
        ("people", "reader, version 1"),
        ("reader", "people, version 1"),
    ]
    assert beside["n"].to_list() == [200, 200]
    assert beside["rho"][0] == pytest.approx(beside["rho"][1])
    assert beside["corrected"].to_list() == pytest.approx([1, 1], abs=0.12)


def test_a_reader_with_too_few_answers_of_every_unit_stops_nobody(truth: np.ndarray):
    both = pl.concat([planted(truth, 24), planted(truth, 3, observer="hasty", seed=1)])
    table = agreements(both, table_of_units(truth), HEADLINES)
    hasty = table.filter((pl.col("observer") == "hasty") | (pl.col("other") == "hasty, version 1"))
    assert set(hasty["observer"]) == {"hasty", "reader"}
    assert hasty["note"].str.contains("fewer than 5").all()
    alone = agreements(planted(truth, 24), table_of_units(truth), HEADLINES)
    assert table.filter(pl.col("observer") == "reader", ~pl.col("other").str.contains("hasty")).equals(alone)


def test_a_band_counts_with_the_weight_of_its_answers(truth: np.ndarray):
    """One that answered the easy band alone is compared with the scores of that band alone."""
    units = table_of_units(truth).with_columns(
        pl.when(band="extreme").then("value").otherwise(pl.lit(0.5)).alias("value")
    )
    answers = planted(truth, 24).filter(band="extreme")
    rho = agreements(answers, units, {}).filter(level="units")["rho"][0]
    assert rho > 0.6


def test_too_few_or_equal_scores_give_a_reason(truth: np.ndarray):
    few = agreements(planted(truth[:1, :3], 12), table_of_units(truth), HEADLINES)
    assert few["note"].str.contains("fewer than 5").all()
    same = agreements(planted(np.ones((1, 9)), 12), table_of_units(truth), HEADLINES)
    assert same.filter(level="units")["note"].str.contains("the same").all()
    assert same["rho"].is_nan().all()


def test_spearman_and_spearman_brown_by_hand():
    draws = np.array([[1.0, 1, 1, 1], [1, 2, 0, 1], [2, 0, 1, 1]])  # how often each thing is there
    one, two = np.array([1.0, 2, 3, 4]), np.array([1.0, 3, 2, 4])
    assert spearman(one, two, draws).tolist() == [0.8, 1, 1]
    assert np.isnan(spearman(np.ones(4), two, draws)).all()
    two[2] = np.nan
    assert np.isnan(spearman(one, two, draws)).tolist() == [True, False, True]
    assert spearman_brown(np.array([0.5, -0.3])).tolist() == [pytest.approx(2 / 3), 0.0]


def test_the_interval_covers_at_its_rate():
    """Scores of 60 things with a correlation of about .5, many times."""
    generator, inside = np.random.default_rng(3), 0
    truth = 6 / np.pi * np.arcsin(0.5 / 2)  # Spearman's of a bivariate normal with r = .5
    for seed in range(60):
        one, noise = generator.normal(size=(2, 60))
        agreement = correlate(Scores(one), Scores(0.5 * one + np.sqrt(0.75) * noise), seed=seed)
        inside += agreement.low <= truth <= agreement.high
    assert inside >= 52  # of 60 at 95 %: fewer come about once in a hundred times


def test_halves_share_the_answers_and_the_bands(truth: np.ndarray):
    answered = answering(planted(truth, 6))
    first, second = answered.scores.first, answered.scores.second
    assert first is not None
    assert second is not None
    assert (first + second) / 2 == pytest.approx(np.broadcast_to(answered.scores.value, first.shape))
    assert (first != second).any()


def test_models_are_means_over_layers_of_means_over_units():
    units = pl.DataFrame({"model": ["a"] * 3 + ["b"], "layer": ["x", "x", "y", "x"], "unit": [0, 1, 2, 0]})
    models, weights = model_weights(units, ["model"])
    assert models["model"].to_list() == ["a", "b"]
    assert weights.tolist() == [[0.25, 0.25, 0.5, 0], [0, 0, 0, 1]]
    keyed = units.rename({"model": "rung"}).with_columns(ladder=pl.lit("l"), seed=0, control=pl.lit("trained"))
    centred = within_models(keyed, Scores(np.array([0.0, 1.0, 2.0, 9.0]))).value
    assert centred[:3].tolist() == [-1, 0, 1]
    assert np.isnan(centred[3])


def test_the_curve_of_a_reader_has_a_verdict_by_the_rule():
    truth = np.repeat(np.linspace(0.55, 0.95, 8)[:, None], 20, 1)
    answers, models = planted(truth, 24), models_table(np.arange(8.0))
    points = answer_points(answers, models)
    rungs = points.filter(pl.col("seed").is_null())
    assert rungs["score"].to_numpy() == pytest.approx(truth[:, 0], abs=0.06)
    assert (rungs["low"] < rungs["score"]).all()
    assert rungs["n"].to_list() == [480] * 8
    (verdict,) = answer_verdicts(points, models, axis="bits").values()
    assert verdict["verdict"] == "increasing"
    assert (verdict["observer"], verdict["measure"]) == ("reader", "answers")


def test_a_habit_of_picking_the_first_is_shown(truth: np.ndarray):
    answers = planted(truth, 10).with_columns(pl.lit(0, pl.Int8).alias("picked"))
    failed = answers.with_row_index().with_columns(
        pl.when(pl.col("index") < 5).then(None).otherwise("correct").alias("correct")
    )
    (row,) = biases(failed.drop("index")).to_dicts()
    assert row["first"] == 1
    assert row["first_low"] > 0.99
    assert (row["n"], row["n_failed"]) == (truth.size * 10 - 5, 5)
