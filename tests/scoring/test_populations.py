"""What the mean over units hides: statistics of units whose scores are made up, and their null."""

import numpy as np
import polars as pl
import pytest

from thalweg.scoring.populations import STATISTICS, populations_of, populations_table

KEY = {"ladder": "l", "kind": "k", "measure": "one_sided", "observer": "image", "band": "mean", "exchanged": False}


def units(layers: list[dict[str, np.ndarray]], *, rung: str = "r", seed: int = 0) -> pl.DataFrame:
    """Rows of the table of units: for each layer the scores by control."""
    return pl.concat(
        pl.DataFrame({"value": values.astype(np.float32), "unit": range(len(values))}).with_columns(
            *(pl.lit(value).alias(name) for name, value in KEY.items()),
            pl.lit(rung).alias("rung"),
            pl.lit(seed).alias("seed"),
            pl.lit(control).alias("control"),
            pl.lit("random" if control == "rotated" else "neurons").alias("basis"),
            pl.lit(depth).alias("depth"),
        )
        for depth, layer in enumerate(layers)
        for control, values in layer.items()
    )


def scores(frame: pl.DataFrame) -> dict[tuple[str, str], dict]:
    table = populations_table(populations_of(frame, "image", resamples=200, seed=0), seed=0)
    assert set(table["statistic"]) <= set(STATISTICS)
    rows = table.filter(pl.col("seed").is_not_null()).iter_rows(named=True)
    return {(row["control"], row["statistic"]): row for row in rows}


def test_two_populations_that_move_apart_are_seen_where_the_mean_is_the_same():
    together = np.full(100, 0.7) + np.linspace(-0.01, 0.01, 100)
    apart = np.concatenate([together[:50] - 0.2, together[50:] + 0.2])
    before, after = (scores(units([{"trained": each, "rotated": together}])) for each in (together, apart))
    assert before["trained", "minus_rotated"]["score"] == pytest.approx(0, abs=1e-6)
    assert after["trained", "minus_rotated"]["score"] == pytest.approx(0, abs=1e-6)
    assert after["trained", "p10"]["score"] < before["trained", "p10"]["score"] - 0.15
    assert after["trained", "p90"]["score"] > before["trained", "p90"]["score"] + 0.15
    assert after["trained", "above_rotated"]["score"] == 0.5
    for row in after.values():
        assert row["low"] <= row["score"] <= row["high"]


def test_layers_count_once_and_units_without_a_score_not_at_all():
    wide, narrow = np.linspace(0.5, 0.6, 90), np.linspace(0.8, 0.9, 10)
    layers = [{"trained": np.append(wide, np.nan)}, {"trained": narrow}, {"trained": np.array([0.1, np.nan, 0.2])}]
    row = scores(units(layers))["trained", "p90"]
    assert row["score"] == pytest.approx((np.percentile(wide, 90) + np.percentile(narrow, 90)) / 2, abs=1e-6)
    assert (row["n_units"], row["n_measured"]) == (104, 102)


@pytest.mark.parametrize(("count", "known"), [(6, False), (7, True)])
def test_percentiles_of_few_units_lie_in_their_interval_or_are_missing(count: int, known: bool):
    generator = np.random.default_rng(0)
    found = scores(units([{"trained": generator.normal(0.7, 0.1, count)} for _ in range(40)]))
    for name in ("p10", "p90"):
        row = found["trained", name]
        assert (row["low"] <= row["score"] <= row["high"]) == known
        assert np.isnan(row["score"]) != known


def test_units_that_are_as_their_rotation_stand_above_it_in_five_per_cent_at_most():
    generator = np.random.default_rng(0)
    shares, differences = [], []
    for _ in range(200):
        trained, rotated = generator.normal(0.7, 0.05, (2, 64))
        found = scores(units([{"trained": trained, "rotated": rotated}]))
        shares.append(found["trained", "above_rotated"]["score"])
        difference = found["trained", "minus_rotated"]
        differences.append(difference["low"] <= 0 <= difference["high"])
    assert np.mean(shares) < 0.05 + 3 * np.std(shares) / np.sqrt(len(shares))
    assert np.mean(differences) > 0.90


def test_a_rotation_of_too_few_directions_says_nothing():
    found = scores(units([{"trained": np.linspace(0.6, 0.9, 12), "rotated": np.linspace(0.5, 0.6, 12)}]))
    assert np.isnan(found["trained", "above_rotated"]["score"])
    assert found["trained", "minus_rotated"]["score"] == pytest.approx(0.2, abs=1e-6)


def test_a_rung_is_the_mean_of_its_seeds():
    models = [
        each
        for seed, centre in enumerate((0.6, 0.8))
        for each in populations_of(
            units([{"trained": np.linspace(centre, centre + 0.1, 20)}], seed=seed), "image", resamples=100, seed=0
        )
    ]
    table = populations_table(models, seed=0).filter(statistic="p10")
    rung = table.filter(pl.col("seed").is_null()).row(0, named=True)
    assert rung["score"] == pytest.approx(table.filter(pl.col("seed").is_not_null())["score"].mean())
    assert rung["low"] < 0.65 < 0.75 < rung["high"]
