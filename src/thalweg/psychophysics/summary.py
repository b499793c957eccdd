"""What some responses say by themselves: scores of models with their intervals, lapses, reliability, comparisons."""

from dataclasses import asdict
from typing import Any

import numpy as np
import polars as pl

from thalweg.agreement.correlation import ends, reliabilities
from thalweg.agreement.units import answering
from thalweg.measures.choices import score_choices
from thalweg.psychophysics.alpha import nominal_alpha
from thalweg.psychophysics.clustered import clustered
from thalweg.psychophysics.detection import by_sides, d_prime, lapse_of_all, without_lapses
from thalweg.psychophysics.mixed import Mixed, fit_mixed
from thalweg.psychophysics.ranks import bootstrapped, compare_models
from thalweg.psychophysics.tables import MODEL, unit_names
from thalweg.runs.answers import ANSWERS
from thalweg.runs.people import PREFIX, VERSION

GROUP = ["ladder", "control"]  # whose models are compared with each other


def as_answers(main: pl.DataFrame, study: str) -> pl.DataFrame:
    """Responses to main trials as rows of a table of answers."""
    named = main.with_columns(
        pl.lit(f"{PREFIX}{study}").alias("observer"),
        pl.lit(VERSION).alias("version"),
        pl.lit(None).alias("confidence"),
        pl.lit("").alias("note"),
        pl.lit("").alias("made_from"),
    )
    return named.select(*ANSWERS).cast(pl.Schema(ANSWERS))


def summarise(responses: pl.DataFrame, study: str, seed: int) -> dict[str, Any]:
    """What some responses say.

    Args:
        responses: Main and catch trials of some participants.
        study: The study's name.
        seed: Of what is drawn.

    Returns:
        A record: `models` and `bands`, rows of numbers; `lapse`, `alpha`; and for the models of each ladder and control
        `reliability`, `mixed` and `comparison`.
    """
    main, catch = responses.filter(kind="main"), responses.filter(kind="catch")
    lapse = lapse_of_all(int((~catch["correct"]).sum()), len(catch))
    models = [_model(names, rows, study, seed, lapse.value) for names, rows in _by(main, MODEL)]
    return {
        "n_participants": main["participant"].n_unique(),
        "n_responses": len(main),
        "models": models,
        "bands": [_band(names, rows) for names, rows in _by(main, [*MODEL, "band"])],
        "lapse": {**asdict(lapse), "n_catch": len(catch)},
        "alpha": _alpha(main),
        "reliability": [{**names, **_reliability(rows, study, seed)} for names, rows in _by(main, GROUP)],
        "mixed": [{**names, **asdict(_mixed(rows))} for names, rows in _by(main, GROUP)],
        "comparison": [{**names, **_comparison(rows)} for names, rows in _by(main, GROUP)],
    }


def _by(rows: pl.DataFrame, key: list[str]) -> list[tuple[dict[str, Any], pl.DataFrame]]:
    """The rows of each group, in the order of its name."""
    groups = rows.partition_by(key, maintain_order=True)
    named = [({name: group[name][0] for name in key}, group) for group in groups]
    return sorted(named, key=lambda pair: tuple(map(str, pair[0].values())))


def unit_scores(main: pl.DataFrame) -> pl.DataFrame:
    """The share of right answers about each unit, with Wilson's interval."""
    return score_choices(as_answers(main, "")).units.drop("observer", "version", "n_failed")


def _model(names: dict[str, Any], rows: pl.DataFrame, study: str, seed: int, lapse: float) -> dict[str, Any]:
    """The scores of one model."""
    over_layers = score_choices(as_answers(rows, study)).models.row(0, named=True)
    units = unit_scores(rows)["value"].to_numpy()
    low, high = bootstrapped(units, seed)
    every = clustered(rows["correct"], unit_names(rows), rows["participant"])
    sides = by_sides(rows["picked"], rows["correct"])
    sure = rows.drop_nulls("confidence")
    return {
        **names,
        "n_responses": len(rows),
        "n_units": len(units),
        "n_participants": rows["participant"].n_unique(),
        **{name: over_layers[name] for name in ("value", "low", "high")},
        "mean_of_units": {"value": float(units.mean()), "low": low, "high": high},
        "hierarchical": asdict(every),
        "without_lapses": without_lapses(every.value, lapse) if np.isfinite(lapse) else float("nan"),
        "d_prime": asdict(d_prime(every, len(rows))),
        "sides": None if sides is None else asdict(sides),
        "confidence_right": sure.filter("correct")["confidence"].mean(),
        "confidence_wrong": sure.filter(~pl.col("correct"))["confidence"].mean(),
        "median_seconds": rows["seconds"].median(),
    }


def _band(names: dict[str, Any], rows: pl.DataFrame) -> dict[str, Any]:
    share = clustered(rows["correct"], unit_names(rows), rows["participant"])
    return {**names, "n": len(rows), **{name: getattr(share, name) for name in ("value", "low", "high")}}


def _alpha(main: pl.DataFrame) -> dict[str, Any]:
    """Krippendorff's alpha of what was picked; of whether it was right, where what was picked is not known."""
    of = "picked" if main["picked"].null_count() == 0 else "correct"
    several = main.filter(pl.len().over("trial") > 1)
    return {"of": of, "value": nominal_alpha(main["trial"], main[of]), "n_trials": several["trial"].n_unique()}


def _reliability(rows: pl.DataFrame, study: str, seed: int) -> dict[str, Any]:
    """How well random halves of the answers agree on the units, at full length; and the ceiling that this sets."""
    answered = answering(as_answers(rows, study), seed=seed)
    if len(answered.units) < 2:
        return {**dict.fromkeys(("value", "low", "high", "ceiling"), float("nan")), "n_units": len(answered.units)}
    draws = reliabilities(answered.scores, seed)
    low, high = ends(draws[1:])
    value = float(draws[0])
    return {"value": value, "low": low, "high": high, "ceiling": float(np.sqrt(value)), "n_units": len(answered.units)}


def _mixed(rows: pl.DataFrame) -> Mixed:
    name = rows.select(pl.concat_str("rung", "seed", separator=", seed ", ignore_nulls=True)).to_series()
    several = rows["seed"].n_unique() > 1
    return fit_mixed(
        rows["correct"].to_numpy(),
        (name if several else rows["rung"]).to_list(),
        rows["participant"].to_list(),
        unit_names(rows).to_list(),
    )


def _comparison(rows: pl.DataFrame) -> dict[str, Any]:
    by_rung = unit_scores(rows).group_by("rung", maintain_order=True)
    return asdict(compare_models({str(rung): part["value"].to_numpy() for (rung,), part in by_rung}))
