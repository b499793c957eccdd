"""The curves of a run and their verdicts: which scores are judged against which strength, and in which groups of
rungs.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from thalweg.capability.total import STATED
from thalweg.compute import engines as engine
from thalweg.files import whole
from thalweg.files.identity import digest
from thalweg.measures.base import MEAN, Z
from thalweg.measures.headlines import HEADLINES, PLAIN, is_headline
from thalweg.pipeline.settings import Settings
from thalweg.progress import Stages
from thalweg.recording.readout import NEURONS
from thalweg.runs.directory import RunDirectory
from thalweg.scoring import columns
from thalweg.scoring.columns import in_main_basis
from thalweg.scoring.gains import GAIN
from thalweg.shape import Models, compare, judge
from thalweg.strength import axes as strength

ALL = "all"
LEAST_COVERAGE = (
    0.25  # a mean over fewer of a model's units is that of an unusual few: shown, but no verdict rests on it
)
CONCEPT = "concept_"  # before the name of a measure of sharing, in a verdict
CONCEPT_MEASURES = (
    *("retrieval", "cka", "overlap", "shared_units", "probe", "patch", "carried"),  # of patching bits
    *("crisp_shared", "crisp_all"),
)
EDIT = "edit_"  # before the name of a measure of edits, in a verdict
OF_FACTS = ("efficacy", "paraphrase", "neighbourhood", "score", "transfer", "transfer_neighbourhood")
EDIT_MEASURES = {  # of a method
    **dict.fromkeys(("rome", "memit", "steer", "fine-tune-matched"), OF_FACTS),
    "redirect": ("redirected", "reached", "redirected_kept"),
}
UNNAMED = ("rome", "redirect")  # methods that a verdict does not name
CAPABILITY_MEASURES = {"tic": "tic", "tic_excess": "excess"}  # the measure in a verdict, and its column


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One question of shape: the scores of some models, against one strength axis."""

    ladder: str
    kind: str = ALL
    control: str = "trained"
    basis: str = NEURONS
    measure: str
    observer: str
    band: str = MEAN
    capacity: str = ""
    axis: str
    headline: str = ""  # "predictable" or "crisp" for the headline verdicts, else empty
    strength: tuple[float, ...]
    score: tuple[float, ...]
    se: tuple[float, ...]
    rung: tuple[str, ...]
    seed: int
    statistic: str = MEAN  # of the units of a model


def judged(curve: Curve) -> dict[str, Any]:
    """The verdict of one curve, as a record."""
    verdict = judge(
        np.array(curve.strength),
        np.array(curve.score),
        se=np.array(curve.se),
        group=curve.rung,
        seed=curve.seed,
    )
    names = (
        "ladder",
        "kind",
        "control",
        "basis",
        "measure",
        "observer",
        "band",
        "capacity",
        "statistic",
        "axis",
        "headline",
    )
    return {**{name: getattr(curve, name) for name in names}, **verdict.to_record()}


def curves(
    models: pl.DataFrame, table: pl.DataFrame, settings: Settings, observers: Mapping[str, str]
) -> Iterator[Curve]:
    """All curves that a report judges.

    On the headline's strength axis: both headlines and `two_choice`, for every observer and kind, and for the
    headline's observer (one for each ladder) each band too. On the other axes: the headlines. Models of which less than
    a quarter of the units could be measured have no score here.
    """
    rows = _rows(models, table.filter(in_main_basis(settings.other_bases)))
    measures = [*HEADLINES.values(), PLAIN]
    over_bands = pl.col("band") == MEAN
    words = {name: word for word, name in HEADLINES.items()}
    by_headline = pl.col("observer") == pl.col("ladder").replace(observers)
    chosen = pl.col("measure").is_in(measures) & (over_bands | by_headline)
    keys = ["ladder", *columns.SCORE_KEY]
    for axis in strength.AXES:
        keep = chosen if axis == settings.strength else chosen & over_bands & by_headline
        if axis != settings.strength:
            keep &= pl.col(axis).is_not_nan().any().over("ladder")  # an axis that all models of a ladder lack
        for (ladder, measure, observed, band, capacity), group in rows.filter(keep).group_by(keys, maintain_order=True):
            for kind in _kinds(group):
                shown = group if kind == ALL else group.filter(pl.col("kind") == kind)
                is_headline = axis == settings.strength and observed == observers[str(ladder)] and band == MEAN
                yield Curve(
                    ladder=str(ladder),
                    kind=kind,
                    basis=str(group["basis"][0]),
                    measure=str(measure),
                    observer=str(observed),
                    band=str(band),
                    capacity=str(capacity),
                    axis=axis,
                    headline=words.get(str(measure), "") if is_headline else "",
                    **_points(shown, axis),
                    seed=settings.seed,
                )


def other_curves(
    models: pl.DataFrame, table: pl.DataFrame, settings: Settings, observers: Mapping[str, str]
) -> Iterator[Curve]:
    """The curves in the bases beside the main one: those of the headline measures, by the headline's observer, over all
    kinds.
    """
    rows = _rows(models, table.filter(pl.col("basis").is_in(settings.other_bases)))
    rows = rows.filter(is_headline(observers), pl.col("measure").is_in([*HEADLINES.values()]))
    key = ["ladder", "basis", "measure", "observer", "capacity"]
    for (ladder, basis, measure, observed, capacity), group in rows.group_by(key, maintain_order=True):
        yield Curve(
            ladder=str(ladder),
            basis=str(basis),
            measure=str(measure),
            observer=str(observed),
            capacity=str(capacity),
            axis=settings.strength,
            **_points(group, settings.strength),
            seed=settings.seed,
        )


def population_curves(models: pl.DataFrame, populations: pl.DataFrame, settings: Settings) -> Iterator[Curve]:
    """The curves of what the mean over units hides: by headline and statistic, over all kinds. In a basis beside the
    main one, of what it gains on the neurons.
    """
    rows = _rows(models, populations)
    of_gain = pl.col("statistic").str.starts_with(GAIN)
    rows = rows.filter(~pl.col("basis").is_in(settings.other_bases) | of_gain)
    key = ["ladder", "basis", "measure", "observer", "statistic"]
    for (ladder, basis, measure, observed, statistic), group in rows.group_by(key, maintain_order=True):
        yield Curve(
            ladder=str(ladder),
            basis=str(basis),
            measure=str(measure),
            observer=str(observed),
            axis=settings.strength,
            **_points(group, settings.strength),
            seed=settings.seed,
            statistic=str(statistic),
        )


def capability_curves(
    models: pl.DataFrame, capability: pl.DataFrame, settings: Settings, observers: Mapping[str, str]
) -> Iterator[Curve]:
    """The curves of what the best-scored units carry, and of how much more that is than what random ones do: at the
    stated cut, by mean ablation, as shares of the bits that can be gained, which is the scale that the least difference
    that matters is meant for. Models of which only some units were measured have no number here.
    """
    rows = capability.filter(ablation="mean", cut=STATED, control="trained")
    rows = rows.filter(pl.col("n_measured") == pl.col("n_units")).with_columns(coverage=pl.lit(1.0))
    for measure, column in CAPABILITY_MEASURES.items():
        shares = [(pl.col(f"{column}{end}") / pl.col("achievable")) for end in ("", "_low", "_high")]
        named = [share.alias(name) for share, name in zip(shares, ("score", "low", "high"), strict=True)]
        for (ladder,), group in _rows(models, rows.with_columns(named)).group_by("ladder", maintain_order=True):
            for kind in _kinds(group):
                yield Curve(
                    ladder=str(ladder),
                    kind=kind,
                    measure=measure,
                    observer=observers[str(ladder)],
                    axis=settings.strength,
                    **_points(group if kind == ALL else group.filter(kind=kind), settings.strength),
                    seed=settings.seed,
                )


def concept_curves(
    models: pl.DataFrame, concepts: pl.DataFrame, settings: Settings, observers: Mapping[str, str]
) -> Iterator[Curve]:
    """The curves of how far concepts are shared, by measure: means over layers, against the headline's strength axis
    and against the number of parameters.
    """
    named = {f"{CONCEPT}{measure}": measure for measure in CONCEPT_MEASURES}
    yield from _named_curves(models, concepts.filter(layer=""), named, settings, observers)


def edit_curves(
    models: pl.DataFrame, edits: pl.DataFrame, settings: Settings, observers: Mapping[str, str]
) -> Iterator[Curve]:
    """The curves of what edits of facts by each method do, and edits of goals, by measure."""
    for method, measures in EDIT_MEASURES.items():
        named = {edit_measure(method, measure): measure for measure in measures}
        yield from _named_curves(models, edits.filter(method=method), named, settings, observers)


def edit_measure(method: str, measure: str) -> str:
    """What a verdict on edits calls its measure: with the method behind a colon, but for ROME and for goals."""
    return f"{EDIT}{measure}" if method in UNNAMED else f"{EDIT}{measure}:{method}"


def _named_curves(
    models: pl.DataFrame,
    table: pl.DataFrame,
    measures: Mapping[str, str],
    settings: Settings,
    observers: Mapping[str, str],
) -> Iterator[Curve]:
    """The curves of some measures of a table of trained models, by their names in verdicts, against the headline's
    strength axis and against the number of parameters.
    """
    rows = table.filter(control="trained").rename({"value": "score"}).with_columns(coverage=pl.lit(1.0))
    for name, measure in measures.items():
        grouped = _rows(models, rows.filter(measure=measure)).group_by("ladder", maintain_order=True)
        for (ladder,), group in grouped:
            for axis in dict.fromkeys((settings.strength, "parameters")):
                yield Curve(
                    ladder=str(ladder),
                    measure=name,
                    observer=observers[str(ladder)],
                    axis=axis,
                    **_points(group, axis),
                    seed=settings.seed,
                )


def _points(rows: pl.DataFrame, axis: str) -> dict[str, Any]:
    """The columns of a curve: strengths, scores, their standard errors, and rungs."""
    return {
        "strength": tuple(rows[axis].cast(pl.Float64)),
        "score": tuple(rows["score"]),
        "se": tuple((rows["high"] - rows["low"]) / (2 * Z)),
        "rung": tuple(rows["rung"]),
    }


def _rows(models: pl.DataFrame, table: pl.DataFrame) -> pl.DataFrame:
    """The scores of trained models with their strengths; NaN where too few units could be measured."""
    rows = table.filter(pl.col("seed").is_not_null() & (pl.col("control") == "trained"))
    axes = models.filter(pl.col("control") == "trained")
    axes = axes.select("ladder", "rung", "seed", "order", *strength.AXES, strength.SHARE)
    axes = axes.unique(["ladder", "rung", "seed"], keep="first", maintain_order=True)  # the same in every basis
    enough = pl.col("coverage") >= LEAST_COVERAGE
    rows = rows.with_columns(pl.when(enough).then("score").otherwise(math.nan).alias("score"))
    rows = rows.join(axes, on=["ladder", "rung", "seed"], maintain_order="left")
    return rows.sort("order", "seed", maintain_order=True)


def comparisons(
    models: pl.DataFrame,
    table: pl.DataFrame,
    settings: Settings,
    observers: Mapping[str, str],
    independent: Mapping[str, str],
) -> list[dict[str, Any]]:
    """For each headline, whether the ladders' curves have the same shape on the strength axis that they share.

    Only ladders whose rungs are `independent` of each other take part (checkpoints of one run are not), each by the
    name of its field.
    """
    rows = _rows(models, table.filter(in_main_basis(settings.other_bases))).filter(is_headline(observers))
    records = []
    for word, measure in HEADLINES.items():
        ladders = {}
        for ladder, field in independent.items():
            scored = rows.filter(ladder=ladder, measure=measure)
            ladders[f"{field} ({ladder})"] = Models(
                scored[strength.SHARE].to_numpy(), scored["score"].to_numpy(), scored["rung"].to_list()
            )
        if len(ladders) > 1:
            records.append({"headline": word, **compare(ladders, seed=settings.seed).to_record()})
    return records


def _kinds(group: pl.DataFrame) -> list[str]:
    """All rungs together, then each kind of which there are several."""
    kinds = group["kind"].unique(maintain_order=True).to_list()
    return [ALL, *kinds] if len(kinds) > 1 else [ALL]


def judge_all(
    run: RunDirectory, settings: Settings, observers: Mapping[str, str], independent: Mapping[str, str], stages: Stages
) -> None:
    """Judge every curve of a run and write shape.json and comparison.json, unless they are there already.

    `observers` are the headline's, by ladder; `independent` the fields of the ladders whose rungs are no
    checkpoints of one run.
    """
    inputs = digest(whole.read_json(run / "steps/tables.json"), settings.strength, independent)
    if not run.stale_reason("shape", inputs):
        return
    models, scores, populations, capability, concepts, edits = (
        whole.read_frame(run / f"{name}.parquet")
        for name in ("models", "scores", "populations", "capability", "concepts", "edits")
    )
    questions = [
        *curves(models, scores, settings, observers),
        *population_curves(models, populations, settings),
        *other_curves(models, scores, settings, observers),
        *capability_curves(models, capability, settings, observers),
        *concept_curves(models, concepts, settings, observers),
        *edit_curves(models, edits, settings, observers),
    ]
    with stages("shape", len(questions)) as advance:
        records: dict[int, dict[str, Any]] = {}
        for index, record in engine.run(judged, questions, settings.engine_config):
            records[index] = record
            advance()
    whole.write_json(run / "shape.json", [records[index] for index in sorted(records)])
    whole.write_json(run / "comparison.json", comparisons(models, scores, settings, observers, independent))
    run.finish("shape", inputs, ["shape.json", "comparison.json"])
