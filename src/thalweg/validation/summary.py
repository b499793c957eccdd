"""What planted units' scores say: a mean for each group, the rank correlation with the number of latents, and how far
apart neighbouring groups are; intervals from drawing units again.
"""

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import rankdata

from thalweg.measures.base import MEAN
from thalweg.report.text import decimal, listing, missing, percent
from thalweg.validation.planted import MAXIMA, SUMS, TURNED, Group

RESAMPLES = 1000
PERCENTILES = (2.5, 97.5)
KEY = ["named", "measure", "observer", "band", "capacity"]
COLUMNS = {
    "group": pl.String,
    "named": pl.Boolean,  # whether the observer's dictionary holds the latents' names
    "latents": pl.Int32,  # of a unit; 0 for noise, null for directions
    "observer": pl.String,  # empty where no observer takes part
    "measure": pl.String,
    "band": pl.String,
    "capacity": pl.String,
    "mean": pl.Float64,  # over the units that have a score
    "low": pl.Float64,
    "high": pl.Float64,
    "n_units": pl.Int32,
    "coverage": pl.Float64,  # the share of units that have a score
}
ONE, NOISY, SPARSE_NOISE = "one latent", "one latent, noisy", "sparse noise"
CONTRASTS = (  # neighbouring groups, the simpler first; and one latent against all that are made of more
    (ONE, NOISY),
    *((ONE, f"sum of {size}") for size in SUMS),
    *((f"sum of {size}", f"sum of {more}") for size, more in pairwise(SUMS)),
    *((ONE, f"max of {size}") for size in MAXIMA),
    *((f"max of {size}", f"max of {more}") for size, more in pairwise(MAXIMA)),
    (ONE, f"rotation of {TURNED}"),
    (f"rotation of {TURNED}", "rotation of all"),
    ("direction", "direction, rectified"),
    ("direction", "direction, standardised"),
    (ONE, SPARSE_NOISE),
    ("direction", "noise"),
)


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores of a group's units, and the draws of its units.

    Attributes:
        group: The group.
        values: (score, unit), NaN where a unit has none; a row for each of the columns that `KEY` names.
        draws: (draw, unit), how often each unit is drawn.
    """

    group: Group
    values: np.ndarray
    draws: np.ndarray


def group_scores(rows: pl.DataFrame, groups: Sequence[Group], *, seed: int) -> tuple[pl.DataFrame, list[Scores]]:
    """The scores by group, and the measure, observer, band and capacity of each.

    Args:
        rows: Those of `score_planted`.
        groups: The groups that were scored.
        seed: It decides which units are drawn again.
    """
    kept = rows.filter(~pl.col("exchanged"))
    key = kept.select(KEY).unique(maintain_order=True)
    scores = []
    for group in groups:
        units = group.values.shape[1]
        table = np.full((len(key), units), np.nan)
        mine = kept.filter(pl.col("layer") == group.name)
        place = mine.select(KEY).join(key.with_row_index("place"), on=KEY, how="left", maintain_order="left")["place"]
        table[place.to_numpy(), mine["unit"].to_numpy()] = mine["value"].to_numpy()
        random = np.random.default_rng([seed, zlib.crc32(group.name.encode())])  # a group more changes no other's draws
        draws = random.multinomial(units, np.full(units, 1 / units), RESAMPLES)
        scores.append(Scores(group, table, draws))
    return key, scores


def _moments(scores: Scores) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of the units that have a score, for the units themselves (row 0) and for each draw: (1 + draw,
    score), NaN where no unit has one.
    """
    weights = np.concatenate([np.ones((1, scores.values.shape[1])), scores.draws])
    there = ~np.isnan(scores.values)
    values = np.where(there, scores.values, 0)
    count = weights @ there.T
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = weights @ values.T / count
        centre = np.where(there, scores.values - np.nan_to_num(mean[0])[:, None], 0)  # near the mean: nothing cancels
        shift = weights @ centre.T / count
        variance = (weights @ np.square(centre).T / count - shift**2).clip(0) * count / (count - 1)
    return mean, np.where(count > 1, variance, np.nan)


def _interval(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The percentiles of each column's draws; NaN where a column has a draw without a number."""
    low, high = np.percentile(draws, PERCENTILES, axis=0)
    return low, high


def means(key: pl.DataFrame, scores: Sequence[Scores]) -> pl.DataFrame:
    """A row for each group, measure, observer, band and capacity: `validation.parquet`."""
    frames = []
    for each in scores:
        mean, _ = _moments(each)
        low, high = _interval(mean[1:])
        frames.append(
            key.with_columns(
                pl.lit(each.group.name).alias("group"),
                pl.lit(each.group.latents, pl.Int32).alias("latents"),
                pl.Series("mean", mean[0]),
                pl.Series("low", low),
                pl.Series("high", high),
                pl.lit(each.values.shape[1]).alias("n_units"),
                pl.Series("coverage", (~np.isnan(each.values)).mean(1)),
            )
        )
    return pl.concat(frames).select(pl.col(name).cast(dtype) for name, dtype in COLUMNS.items())


def stands_for_measure() -> pl.Expr:
    """Rows whose score stands for their measure: the mean over its bands, or each of its bands where it has no mean."""
    mean = pl.col("band") == MEAN
    return mean | ~mean.any().over("measure")


def _whole(key: pl.DataFrame) -> Iterator[tuple[int, dict[str, Any]]]:
    """The place and the key of each score that stands for its measure."""
    for row in key.with_row_index("place").filter(stands_for_measure()).iter_rows(named=True):
        yield row.pop("place"), row


def correlations(key: pl.DataFrame, scores: Sequence[Scores], *, seed: int) -> list[dict[str, Any]]:
    """The rank correlation (Spearman's) of each measure and observer with the number of latents, over the units of one
    latent and their sums, and over those of one latent and their maxima. A measure of single things is near -1.

    Units without a score are left out; the intervals are from drawing units within groups again.
    """
    records = []
    for kind in ("sum", "max"):
        chosen = [each for each in scores if each.group.kind == kind or each.group.name == ONE]
        latents = np.concatenate([np.full(each.values.shape[1], each.group.latents) for each in chosen])
        values = np.concatenate([each.values for each in chosen], 1)
        random = np.random.default_rng([seed, len(kind)])
        starts = np.cumsum([0, *(each.values.shape[1] for each in chosen)])
        drawn = [random.integers(start, end, (RESAMPLES, end - start)) for start, end in pairwise(starts.tolist())]
        order = np.concatenate([np.arange(len(latents))[None], np.concatenate(drawn, 1)])
        for place, row in _whole(key):
            rho = np.concatenate([_spearman(values[place][part], latents[part]) for part in np.array_split(order, 8)])
            low, high = _interval(rho[1:])
            n = int((~np.isnan(values[place])).sum())
            records.append(row | {"over": kind, "rho": rho[0], "low": low, "high": high, "n_units": n})
    return records


def _spearman(values: np.ndarray, latents: np.ndarray) -> np.ndarray:
    """Spearman's correlation along the last axis, without places whose value is NaN; NaN where nothing varies."""
    there = ~np.isnan(values)
    count = there.sum(-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        ranks = [
            np.where(there, rankdata(np.where(there, each, np.inf), axis=-1), 0) for each in (values, latents)
        ]  # those without a value rank last, and do not move the others
        left, right = (np.where(there, each - each.sum(-1, keepdims=True) / count, 0) for each in ranks)
        rho: np.ndarray = (left * right).sum(-1) / np.sqrt(np.square(left).sum(-1) * np.square(right).sum(-1))
    return rho


def sensitivities(key: pl.DataFrame, scores: Sequence[Scores]) -> list[dict[str, Any]]:
    """How far apart the groups of each contrast are, for each measure and observer.

    d = (mean of the first - mean of the second) / square root of the mean of their variances: positive where the first
    group, which is made of fewer things, scores higher.
    """
    by_name = {each.group.name: _moments(each) for each in scores}
    records = []
    for first, second in CONTRASTS:
        if first not in by_name or second not in by_name:
            continue
        (mean, variance), (other, other_variance) = by_name[first], by_name[second]
        with np.errstate(invalid="ignore", divide="ignore"):
            difference, d = mean - other, (mean - other) / np.sqrt((variance + other_variance) / 2)
        d = np.where(np.isfinite(d), d, np.nan)
        ends = [_interval(each[1:]) for each in (difference, d)]
        for place, row in _whole(key):
            record = {"first": first, "second": second, "difference": difference[0, place], "d": d[0, place]}
            for name, (low, high) in zip(("difference", "d"), ends, strict=True):
                record |= {f"{name}_low": low[place], f"{name}_high": high[place]}
            records.append(row | record)
    return records


def reliabilities(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """The rank correlation, over all planted units, of each score with that of exchanged halves (test-retest), for the
    headline's observer and the measures that are taken twice.

    Args:
        rows: Those of `score_planted`.
    """
    both = rows.filter("exchanged").join(rows.filter(~pl.col("exchanged")), on=[*KEY, "layer", "unit"], suffix="_first")
    both = both.filter(pl.col("value").is_not_nan() & pl.col("value_first").is_not_nan())
    rho = pl.corr("value_first", "value", method="spearman").alias("rho")
    listed = both.group_by(KEY, maintain_order=True).agg(rho, pl.len().alias("n_units"))
    return listed.filter(stands_for_measure()).to_dicts()


def sentences(
    table: pl.DataFrame, contrasts: Sequence[Mapping[str, Any]], headlines: Mapping[str, str], observer: str
) -> dict[str, str]:
    """By headline, one sentence that says whether it tells one latent from many.

    Args:
        table: The means of groups.
        contrasts: The sensitivities.
        headlines: The measure of each headline.
        observer: The headline's observer.
    """
    chosen = {}
    for word, measure in headlines.items():
        mine = table.filter(measure=measure, observer=observer, band=MEAN)
        means = {named: dict(mine.filter(named=named).select("group", "mean").iter_rows()) for named in (True, False)}
        coverage: dict[str, float] = dict(mine.filter(named=True).select("group", "coverage").iter_rows())
        first = f"{word.capitalize()} ({measure}, observer {observer})"
        if missing(means[True][ONE]):
            noisy = means[True].get(NOISY)
            but = "" if missing(noisy) else f"; with a little noise added one latent scores {decimal(noisy)}"
            chosen[word] = f"{first} says nothing of one latent on these stimuli: no such unit has a score{but}."
            continue
        above = {
            each["second"]: each["difference_low"] > 0
            for each in contrasts
            if each["first"] == ONE and each["named"] and (each["measure"], each["observer"]) == (measure, observer)
        }
        parts = [_of_sums(means[True], above), *_of_rotation(means[True], above)]
        if not missing(means[False].get(ONE)) and abs(means[False][ONE] - means[True][ONE]) >= 0.005:
            parts.append(f"without the latents' names in the dictionary one latent scores {decimal(means[False][ONE])}")
        if coverage[ONE] < 0.95:
            parts.append(f"only {percent(coverage[ONE])} of the single latents have a score at all")
        chosen[word] = f"{first} {'; '.join(parts)}."
    return chosen


def _of_sums(means: Mapping[str, float], above: Mapping[str, bool]) -> str:
    """Whether one latent stands above sums of latents."""
    sums = [size for size in SUMS if not missing(means.get(f"sum of {size}"))]
    apart = [size for size in sums if above[f"sum of {size}"]]
    one = f"one latent ({decimal(means[ONE])})"
    if not sums:
        return f"gives {one}, and no sum has a score"
    ends = [(str(size), decimal(means[f"sum of {size}"])) for size in dict.fromkeys((sums[0], sums[-1]))]
    sizes, scores = (" to ".join(each) for each in zip(*ends, strict=True))
    every = f"sums of {sizes} latents ({scores})"
    if not apart:
        return f"does not tell {one} from {every}"
    if apart == sums:
        return f"tells {one} from {every}"
    others = [str(size) for size in sums if size not in apart]
    return f"tells {one} from sums of {listing([str(size) for size in apart])} latents, but not of {listing(others)}"


def _of_rotation(means: Mapping[str, float], above: Mapping[str, bool]) -> Iterator[str]:
    """Whether one latent stands above a rotation of eight."""
    rotated = f"rotation of {TURNED}"
    if not missing(means.get(rotated)):
        verb = "stands" if above[rotated] else "does not stand"
        yield f"one latent {verb} above a rotation of {TURNED} ({decimal(means[rotated])})"


def for_json(part: Any) -> Any:
    """The same with numbers as Python has them, and None for those that are not finite."""
    if isinstance(part, Mapping):
        return {name: for_json(each) for name, each in part.items()}
    if isinstance(part, (list, tuple)):
        return [for_json(each) for each in part]
    if isinstance(part, np.generic):
        part = part.item()
    return None if isinstance(part, float) and not math.isfinite(part) else part
