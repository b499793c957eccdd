"""What two runs differ in: how they were made, the scores of their rungs, the scores of their units, their verdicts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from thalweg.errors import readable
from thalweg.files.whole import read_json
from thalweg.markup import bullets, element
from thalweg.measures.base import MEAN
from thalweg.runs.recordings import model_file
from thalweg.runs.run import Run

SIDES = ("first", "second")
MODEL = ["ladder", "rung", "seed", "control"]
CURVE = ["ladder", "kind", "control", "measure", "observer", "band", "capacity", "statistic", "axis", "basis"]
MADE = {"what": pl.String, "first": pl.String, "second": pl.String}
ABSENT = "not there"
SCORE = ("score", "low", "high")
SAID = 5  # settings that a sentence names


@dataclass(frozen=True, eq=False)
class RunComparison:
    """Two runs beside each other. Each table is made when it is first asked for, of the runs' main basis.

    Attributes:
        first: One run.
        second: The other run.

    Example:
        >>> import thalweg
        >>> run = thalweg.open_run("runs/small-digits")
        >>> same = thalweg.compare_runs(run, run)
        >>> len(same.made), same.scores["difference"].abs().max(), same.units["rho"].min()
        (0, 0.0, 1.0)
    """

    first: Run
    second: Run

    @property
    def names(self) -> tuple[str, str]:
        """The names of the runs: their folders', with the folders above them where these are the same."""
        paths = self.first.path.resolve(), self.second.path.resolve()
        for parts in range(1, max(len(path.parts) for path in paths)):
            first, second = ("/".join(path.parts[-parts:]) for path in paths)
            if first != second:
                return readable(first), readable(second)
        return f"{paths[0].name} (first)", f"{paths[1].name} (second)"

    @cached_property
    def made(self) -> pl.DataFrame:
        """What differs in how the runs were made: settings, versions of packages, measures, observers and factors, the
        device, the hashes of the stimuli, and what `thalweg measure` was called with. A row each: what it is, and what
        each run says of it.
        """
        first, second = (dict(_made(run.record)) for run in (self.first, self.second))
        names = [name for name in (first | second) if first.get(name, ABSENT) != second.get(name, ABSENT)]
        rows = [{"what": name, "first": first.get(name, ABSENT), "second": second.get(name, ABSENT)} for name in names]
        return pl.DataFrame(rows, schema=MADE)

    @cached_property
    def only_in_one(self) -> pl.DataFrame:
        """The models and twins that one run alone has: ladder, rung, seed, control, and which run has it."""
        first, second = (_models(run) for run in (self.first, self.second))
        parts = [
            mine.join(other, on=MODEL, how="anti", maintain_order="left").with_columns(pl.lit(side).alias("run"))
            for mine, other, side in ((first, second, "first"), (second, first, "second"))
        ]
        return pl.concat(parts)

    @cached_property
    def scores(self) -> pl.DataFrame:
        """The headline scores of the rungs that both runs have, trained and twins, by each run's own headline measure
        and observer.

        Columns: ladder, rung, kind, control, headline, the score of each run with its 95 % interval (`first`,
        `first_low`, ...), the `difference` (second minus first) with its interval, `apart` where that excludes 0. The
        interval takes the two runs as independent: its half-width is the root of the sum of the squared half-widths.
        Where they share models or stimuli it is too wide.
        """
        key = ["ladder", "rung", "kind", "control", "headline"]
        first, second = (
            _scores(run).rename({"score": side, "low": f"{side}_low", "high": f"{side}_high"})
            for run, side in zip((self.first, self.second), SIDES, strict=True)
        )
        both = first.join(second, on=key, how="inner", maintain_order="left")
        halves = [(pl.col(f"{side}_high") - pl.col(f"{side}_low")) / 2 for side in SIDES]
        half = (halves[0].pow(2) + halves[1].pow(2)).sqrt()
        difference = pl.col("second") - pl.col("first")
        return both.with_columns(
            difference=difference, low=difference - half, high=difference + half, apart=difference.abs() > half
        )

    @cached_property
    def same_weights(self) -> pl.DataFrame:
        """The models that have the same weights in both runs: ladder, rung, seed."""
        first, second = (_weights(run) for run in (self.first, self.second))
        return pl.DataFrame(
            [name for name, weights in first.items() if second.get(name) == weights],
            schema={"ladder": pl.String, "rung": pl.String, "seed": pl.Int32},
            orient="row",
        )

    @cached_property
    def units(self) -> pl.DataFrame:
        """How the headline scores of single units agree, for each model that has the same weights in both runs: ladder,
        rung, seed, control, headline, n units with a score in both, Spearman's `rho`, the mean `difference` (second
        minus first) and the `greatest` one, without its sign. In models that were trained apart, units of one number
        have nothing to do with each other.
        """
        key = [*MODEL, "layer", "unit", "headline"]
        same = self.same_weights
        first, second = (
            _unit_scores(run).rename({"value": side}).join(same.lazy(), on=same.columns, how="semi")
            for run, side in zip((self.first, self.second), SIDES, strict=True)
        )
        difference = pl.col("second") - pl.col("first")
        return (
            first.join(second, on=key, how="inner")
            .group_by(*MODEL, "headline")
            .agg(
                n=pl.len(),
                rho=pl.corr("first", "second", method="spearman"),
                difference=difference.mean(),
                greatest=difference.abs().max(),
            )
            .sort([*MODEL, "headline"])
            .collect()
        )

    @cached_property
    def verdicts(self) -> pl.DataFrame:
        """The verdicts of both runs on each curve: the curve's key, its headline if it is one, what each run says, and
        whether they say the `same`. A verdict that one run alone has is missing in the other. A single model makes no
        curve.
        """
        first, second = (
            run.verdicts.filter(pl.col("ladder").is_in(_with_curves(run))).select(
                *CURVE, "headline", pl.col("verdict").alias(side)
            )
            for run, side in zip((self.first, self.second), SIDES, strict=True)
        )
        both = first.join(second, on=[*CURVE, "headline"], how="full", coalesce=True, nulls_equal=True)
        same = pl.col("first").eq_missing(pl.col("second"))
        return both.with_columns(same=same).sort([pl.col("headline") == "", *CURVE], nulls_last=True)

    @property
    def sentences(self) -> list[str]:
        """What the comparison comes to, in a few sentences."""
        return [*_on_verdicts(self), *_on_scores(self), *_on_units(self), _on_making(self)]

    def _repr_html_(self) -> str:
        """How a notebook shows it."""
        return element("p", element("b", " and ".join(self.names))) + bullets(self.sentences)


def compare_runs(first: Run, second: Run) -> RunComparison:
    """Put two runs beside each other.

    Args:
        first: A run, as `open_run` gives it.
        second: Another one.

    Returns:
        What differs, as tables and sentences.

    Example:
        >>> import thalweg
        >>> run = thalweg.open_run("runs/small-digits")
        >>> thalweg.compare_runs(run, run).sentences[-1]
        'They were made alike: the same settings, versions and stimuli.'
    """
    return RunComparison(first.in_basis(first.bases[0]), second.in_basis(second.bases[0]))


def _made(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What was stated of a run's making, as names and texts."""
    yield from ((f"setting {name}", str(value)) for name, value in record["settings"].items())
    yield from ((f"version of {name}", str(value)) for name, value in record["versions"].items())
    yield "device", str(record.get("device"))
    for ladder, about in record["ladders"].items():
        yield f"stimuli of {ladder} (hash)", about["data_hash"]
        if about.get("call"):
            yield f"arguments of {ladder}", " ".join(about["call"])  # with choices of a measurement, as its units
        for observer in about["observers"]:
            yield f"observer {observer['name']} of {ladder}", f"version {observer['version']}"
    for what in ("measures", "factors"):
        for name, about in record[what].items():
            yield f"{what[:-1]} {name}", f"version {about['version']}"
    yield from (
        (f"headline {about['headline']}", name) for name, about in record["measures"].items() if about["headline"]
    )


def _models(run: Run) -> pl.DataFrame:
    return run.models.select(pl.col("seed").cast(pl.Int32) if name == "seed" else name for name in MODEL)


def _weights(run: Run) -> dict[tuple[str, str, int], str]:
    """What each model's weights are: the digest of their file, or of what a model that exists already is loaded
    from.
    """
    found = {}
    for ladder, rung, seed in run.models.select("ladder", "rung", "seed").unique().iter_rows():
        step = read_json(run.path / f"steps/train-{model_file(ladder, rung, seed)}.json")
        file = f"weights/{model_file(ladder, rung, seed)}.safetensors"
        existing = run.record["ladders"][ladder].get("weights", {}).get(rung)  # not in runs of older versions
        found[ladder, rung, seed] = step["outputs"].get(file, existing or step["inputs"])
    return found


def _with_curves(run: Run) -> list[str]:
    """The ladders of a run that have several models."""
    rungs = run.models.group_by("ladder").agg(pl.col("rung").n_unique())
    return rungs.filter(pl.col("rung") > 1)["ladder"].to_list()


def _is_headline(run: Run) -> pl.Expr:
    """Which rows are headline scores: each ladder's first observer, by the run's headline measures."""
    observers = {name: about["observers"][0]["name"] for name, about in run.record["ladders"].items()}
    observer = pl.col("ladder").replace_strict(observers, default="", return_dtype=pl.String)
    return (
        (pl.col("band") == MEAN) & (pl.col("observer") == observer) & pl.col("measure").is_in([*run.headlines.values()])
    )


def _headline(run: Run) -> pl.Expr:
    """The headline that a row's measure is."""
    words = {measure: word for word, measure in run.headlines.items()}
    return pl.col("measure").replace_strict(words, default="", return_dtype=pl.String).alias("headline")


def _scores(run: Run) -> pl.DataFrame:
    """The headline scores of rungs: those of the rung where it has several seeds, else those of its only model."""
    rows = run.scores.filter(_is_headline(run) & pl.col("seed").is_null())
    return rows.select(
        "ladder", "rung", "kind", "control", _headline(run), *(pl.col(name).fill_nan(None) for name in SCORE)
    )


def _unit_scores(run: Run) -> pl.LazyFrame:
    rows = run.scan_units().filter(_is_headline(run) & ~pl.col("exchanged") & pl.col("value").is_not_nan())
    return rows.select(*MODEL, "layer", "unit", _headline(run), pl.col("value").cast(pl.Float64))


def _on_verdicts(runs: RunComparison) -> Iterator[str]:
    """The headline verdicts over all kinds, and how many others differ."""
    shown = runs.verdicts.filter((pl.col("headline") != "") & (pl.col("kind") == "all"))
    for row in shown.iter_rows(named=True):
        what = f"{row['ladder']}, {row['headline']}"
        if row["same"]:
            yield f"{what}: {row['first']} in both."
        else:
            said = (f"{row[side] or 'no verdict'} in {name}" for side, name in zip(SIDES, runs.names, strict=True))
            yield f"{what}: {', '.join(said)}."
    in_both = runs.verdicts.drop_nulls(["first", "second"])
    if len(in_both):
        yield f"{in_both['same'].sum()} of the {len(in_both)} verdicts that both runs have are the same."


def _on_scores(runs: RunComparison) -> Iterator[str]:
    scores = runs.scores.drop_nulls("difference")
    if scores.is_empty():
        yield "They have no rung in common that both could measure."
        return
    apart, largest = int(scores["apart"].sum()), float(np.abs(scores["difference"].to_numpy()).max())
    yield (
        f"{apart} of {len(scores)} headline scores of rungs and twins differ by more than their intervals together; "
        f"the largest difference is {largest:.3f}."
    )


def _on_units(runs: RunComparison) -> Iterator[str]:
    rho = runs.units.filter(pl.col("control") == "trained").drop_nulls("rho").drop_nans("rho")["rho"].to_numpy()
    if len(rho):
        yield (
            f"Unit by unit, scores of trained models agree with a median rank correlation of {np.median(rho):.2f} "
            f"({rho.min():.2f} to {rho.max():.2f} over models and headlines)."
        )
    elif runs.same_weights.is_empty() and len(runs.scores):
        yield "No model has the same weights in both, so units cannot be compared one by one."
    elif len(runs.scores):
        yield "Models have the same weights in both, but no units with scores in both that could be ranked."


def _on_making(runs: RunComparison) -> str:
    names = runs.made["what"].to_list()
    if not names:
        return "They were made alike: the same settings, versions and stimuli."
    more = f" and {len(names) - SAID} more" if len(names) > SAID else ""
    return f"They differ in how they were made: {', '.join(names[:SAID])}{more}."
