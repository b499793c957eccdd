"""The tables of a run, put together from what each model's task left behind."""

import math
from collections.abc import Mapping, Sequence

import polars as pl

from thalweg.capability.columns import CAPABILITY
from thalweg.concepts.columns import CONCEPTS
from thalweg.edits.columns import EDITS
from thalweg.files.whole import read_frame, read_json
from thalweg.measures.base import MEAN
from thalweg.measures.headlines import HEADLINES, PLAIN, is_headline
from thalweg.pipeline.capability import capability_file
from thalweg.pipeline.claims import claims
from thalweg.pipeline.concepts import concept_relations, concepts_file
from thalweg.pipeline.edits import edit_relations, edits_file
from thalweg.pipeline.job import Model, factors_of
from thalweg.pipeline.parts import Part, populations_again, read_draws, read_part, scores_of
from thalweg.pipeline.relations import gain_relations, relations
from thalweg.recording.readout import NEURONS, RANDOM
from thalweg.runs.directory import RunDirectory
from thalweg.scoring.aggregate import ModelScores, frame, rung_scores
from thalweg.scoring.columns import FACTORS, MODEL_KEY, NETWORK_KEY
from thalweg.scoring.gains import gains_of
from thalweg.scoring.populations import Population, populations_table
from thalweg.stimuli import modalities
from thalweg.strength import axes as strength

VERSION = 2  # of what is made of the parts; raised when numbers of a table change


def gather(run: RunDirectory, models: Sequence[Model], others: Sequence[Model] = ()) -> dict[str, pl.DataFrame]:
    """All tables of a run, by name, put together from the parts of its models, and of those in `others` bases."""
    seed = models[0].settings.seed
    observers = {model.ladder.name: model.observers[0].name for model in models}
    measured = [*models, *others]
    parts = {model.name: read_part(model) for model in measured}

    def together(table: str) -> pl.DataFrame:
        return pl.concat([part.table(table) for part in parts.values()])

    rungs, populations = _rungs(measured, parts)
    scores = pl.concat([together("scores"), *map(frame, rungs)])
    factors, names = _factors(run, models), [factor.name for factor in factors_of(models)]
    again = together("reliability")
    rows = _with_factors(_models(run, models, scores, again, observers), factors, names)
    of_units = populations_table([*populations, *_gains(models, others)], seed=seed)
    in_others = [_models(run, others, scores, again, observers)] if others else []
    return {
        "models": pl.concat([rows, *in_others], how="diagonal_relaxed"),
        "factors": factors,
        "relations": pl.concat([relations(rows, names), gain_relations(rows, of_units, names)]),
        "claims": claims(
            rows, scores.filter(is_headline(observers)), of_units, names, axis=models[0].settings.strength, seed=seed
        ),
        "capability": _capability(run, models),
        "concepts": (shared := _concepts(run, models, rows)),
        "edits": _edits(run, models, rows, shared),
        "scores": scores,
        "populations": of_units,
        "layers": together("layers"),
        "distributions": together("distributions").sort(*MODEL_KEY, "measure", "bin"),
        "missing": together("missing").sort(*MODEL_KEY, "measure", "note"),
        "gallery": pl.concat([read_frame(run / model.gallery_file) for model in models]),
    }


def _rungs(models: Sequence[Model], parts: Mapping[str, Part]) -> tuple[list[ModelScores], list[Population]]:
    """The scores of all rungs, and the statistics of all models' units; the draws of one rung are in memory at a
    time.
    """
    seeds: dict[tuple[str, str, str], list[Model]] = {}
    for model in models:
        seeds.setdefault((model.ladder.name, model.rung.name, model.other_basis), []).append(model)
    rungs: list[ModelScores] = []
    populations: list[Population] = []
    for group in seeds.values():
        draws = [read_draws(model) for model in group]
        mine = [parts[model.name] for model in group]
        populations += [
            each for part, drawn in zip(mine, draws, strict=True) for each in populations_again(part, drawn)
        ]
        for control in group[0].controls:
            scores = [scores_of(part, control, drawn) for part, drawn in zip(mine, draws, strict=True)]
            rungs.append(rung_scores(scores, seed=group[0].settings.seed))
    return rungs, populations


def _gains(models: Sequence[Model], others: Sequence[Model]) -> list[Population]:
    """What each basis beside the neurons gains on them, of all models and their twins."""
    beside: dict[str, list[Model]] = {}
    for other in others:
        beside.setdefault(other.network_name, []).append(other)
    gains: list[Population] = []
    for model in models:
        if model.basis == NEURONS and model.network_name in beside:
            rows = pl.concat(map(_headline_rows, (model, *beside[model.network_name])))
            settings = model.settings
            observer = model.observers[0].name
            gains += gains_of(rows, observer, resamples=settings.resamples, seed=settings.seed)
    return gains


def _headline_rows(model: Model) -> pl.DataFrame:
    """The rows of the table of units for the headline measures, by the headline's observer."""
    kept = ~pl.col("exchanged") & (pl.col("observer") == model.observers[0].name) & (pl.col("band") == MEAN)
    rows = pl.scan_parquet(model.run / model.units_file).filter(kept, pl.col("measure").is_in([*HEADLINES.values()]))
    return rows.select(*MODEL_KEY, "depth", "unit", "measure", "value", "note").collect()


def _factors(run: RunDirectory, models: Sequence[Model]) -> pl.DataFrame:
    """The factors of all models and their layers."""
    if not factors_of(models):
        return pl.DataFrame(schema=FACTORS)
    return pl.concat([read_frame(run / f"parts/{model.name}-factors.parquet") for model in models])


def _capability(run: RunDirectory, models: Sequence[Model]) -> pl.DataFrame:
    """What the best-scored units carry, of all models of which it was weighed."""
    weighed = [read_frame(run / capability_file(model)) for model in models if model.settings.weighs_capability]
    return pl.concat(weighed) if weighed else pl.DataFrame(schema=CAPABILITY)


def _concepts(run: RunDirectory, models: Sequence[Model], rows: pl.DataFrame) -> pl.DataFrame:
    """How far concepts are shared between languages, of all models whose ladder has concepts, and which measures of
    that go together.
    """
    parts = [read_frame(run / concepts_file(model)) for model in models if model.ladder.concepts]
    if not parts:
        return pl.DataFrame(schema=CONCEPTS)
    together = pl.concat(parts)
    return pl.concat([together, concept_relations(rows, together)])


def _edits(run: RunDirectory, models: Sequence[Model], rows: pl.DataFrame, concepts: pl.DataFrame) -> pl.DataFrame:
    """What edits of facts do, of all models whose ladder has any, and what goes with their crossing over."""
    parts = [read_frame(run / edits_file(model)) for model in models if model.ladder.edited]
    if not parts:
        return pl.DataFrame(schema=EDITS)
    together = pl.concat(parts)
    return pl.concat([together, edit_relations(rows, concepts, together)])


def _with_factors(rows: pl.DataFrame, factors: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """The table of models with a column for each factor, and its interval."""
    for name in names:
        chosen = factors.filter(factor=name, layer="").select(
            *NETWORK_KEY,
            pl.col("value").alias(name),
            pl.col("low").alias(f"{name}_low"),
            pl.col("high").alias(f"{name}_high"),
        )
        rows = rows.join(chosen, on=NETWORK_KEY, how="left", maintain_order="left")
    return rows


def _models(
    run: RunDirectory,
    models: Sequence[Model],
    scores: pl.DataFrame,
    again: pl.DataFrame,
    observers: Mapping[str, str],
) -> pl.DataFrame:
    """A row for each model and control: what it is, how strong, how its training ended, and its headline scores."""
    rows = pl.concat([_model_rows(run, model) for model in models], how="diagonal_relaxed")
    axes = [*strength.AXES, strength.SHARE]
    rows = rows.with_columns(pl.lit(None).alias(axis) for axis in axes if axis not in rows.columns)
    rows = rows.cast({"seed": pl.Int32}).with_columns(pl.col(axes).cast(pl.Float64).fill_null(math.nan))
    shown = scores.filter(is_headline(observers) & pl.col("seed").is_not_null())
    shown = shown.join(again, on=[*MODEL_KEY, "measure"], how="left")
    for word, measure in {**HEADLINES, PLAIN: PLAIN}.items():
        headline = shown.filter(measure=measure).select(
            *MODEL_KEY,
            pl.col("score").alias(word),
            pl.col("low").alias(f"{word}_low"),
            pl.col("high").alias(f"{word}_high"),
            pl.col("coverage").alias(f"{word}_coverage"),
            pl.col("reliability").alias(f"{word}_reliability"),
        )
        rows = rows.join(headline, on=MODEL_KEY, how="left", maintain_order="left")
    counts = scores.filter(pl.col("seed").is_not_null()).select(*MODEL_KEY, "n_units", "n_failed").unique()
    return rows.join(counts, on=MODEL_KEY, how="left", maintain_order="left")


def _model_rows(run: RunDirectory, model: Model) -> pl.DataFrame:
    """A row for a model and each of its twins, with the summary of its training; the rotated twin has that
    of the trained one.
    """
    about = read_json(run / model.about_file)
    order = [rung.name for rung in model.ladder.rungs].index(model.rung.name)
    return pl.DataFrame(
        [
            {
                **model.key,
                "control": control,
                "basis": RANDOM if control == "rotated" else model.basis,
                "order": order,
                "modality": modalities.of(model.ladder).name,
                **about["trained" if control == "rotated" else control],
            }
            for control in model.controls
        ],
        infer_schema_length=None,
    )
