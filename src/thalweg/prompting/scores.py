"""What the replies of language models are worth: a score for each unit and model by form, with floors beside it.

A form that asks for one of several is scored by the share of right answers. One that asks for a list is scored by its
balanced accuracy over the listed stimuli, the mean of the shares of right answers among those that belong and those
that do not: whoever always answers the same has 0.5. A simulation is scored by Pearson's correlation between the
predicted and the real values over the tokens of all of a unit's texts together (Bills et al. 2023).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import torch
from scipy.stats import rankdata, t

from thalweg.measures.base import Z, wilson
from thalweg.measures.choices import mean_over_layers
from thalweg.prompting.forms import CHANCE, EXPLANATION, SIMULATION

MODEL = ["model", "version", "form", "ladder", "rung", "seed", "control"]
UNIT = [*MODEL, "layer", "unit"]
NAMES: dict[str, Any] = {
    **dict.fromkeys(("model", "form", "ladder", "rung", "control"), pl.String),
    **dict.fromkeys(("version", "seed"), pl.Int32),
}
NUMBERS = dict.fromkeys(("value", "low", "high", "auc"), pl.Float64)
COUNTS = dict.fromkeys(("n", "n_failed"), pl.Int64)
FLOORS = dict.fromkeys(("chance", "majority"), pl.Float64)
UNIT_SCORES = {**NAMES, "layer": pl.String, "unit": pl.Int32, **NUMBERS, **COUNTS}
MODEL_SCORES = {**NAMES, **NUMBERS, **FLOORS, "n_units": pl.Int64, **COUNTS, "refused": pl.Int64}


def unit_scores(asked: pl.DataFrame) -> pl.DataFrame:
    """A row for each unit and form: `value` with its 95 % interval (Wilson's over answers or listed stimuli; of a
    simulation Fisher's over texts), `auc` where a list came with probabilities, `n` answers, `n_failed` without one.
    """
    rows = []
    for key, group in asked.filter(pl.col("form") != EXPLANATION).group_by(UNIT, maintain_order=True):
        named = dict(zip(UNIT, key, strict=True))
        answered = group.filter(pl.col("note") == "")
        score = score_replies(str(named["form"]), answered.to_dicts())
        rows.append({**named, **score, "n": len(answered), "n_failed": len(group) - len(answered)})
    return pl.DataFrame(rows, schema=UNIT_SCORES).sort(UNIT)


def score_replies(form: str, answers: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The score of a unit by some replies in one form: `value`, `low`, `high`, `auc`; NaN where there is none."""
    if form == SIMULATION:
        return _simulated(answers)
    if not answers:
        return dict.fromkeys(NUMBERS, float("nan"))
    if _has_lists(form):
        right, said = _judged(answers)
        shares = [list(each["numbers"]) or [float("nan")] * len(each["queries"]) for each in answers]
        return {**_proportion(_balanced(right, said), len(right)), "auc": area(np.concatenate(shares), right)}
    return {**_proportion(value_of_replies(form, answers), len(answers)), "auc": float("nan")}


def value_of_replies(form: str, answers: Sequence[Mapping[str, Any]]) -> float:
    """The score of a unit by some replies in one form; NaN where there is none. Its interval takes far longer."""
    if form == SIMULATION:
        return _correlation(answers)
    if not answers:
        return float("nan")
    if _has_lists(form):
        return _balanced(*_judged(answers))
    return float(np.mean([set(answer["picked"]) == set(answer["right"]) for answer in answers]))


def _has_lists(form: str) -> bool:
    return form.startswith(("detection", "fuzzing"))


def _judged(answers: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Of all stimuli of some lists: whether each belongs, and whether it was said to."""
    right, picked = (
        np.array([place in answer[side] for answer in answers for place in range(len(answer["queries"]))])
        for side in ("right", "picked")
    )
    return right, picked


def _balanced(right: np.ndarray, said: np.ndarray) -> float:
    """Balanced accuracy: the mean of the shares of those that belong, and of those that don't, that were said right."""
    return float((said[right].mean() + (~said[~right]).mean()) / 2)


def area(share: np.ndarray, right: np.ndarray) -> float:
    """The area under the ROC curve; NaN where a share is missing."""
    if np.isnan(share).any() or right.all() or not right.any():
        return float("nan")
    ranks, n = rankdata(share), int(right.sum())
    return float((ranks[right].sum() - n * (n + 1) / 2) / (n * (len(right) - n)))


def _proportion(value: float, n: int) -> dict[str, float]:
    low, high = wilson(torch.tensor(float(value), dtype=torch.float64), torch.tensor(float(n)), Z)
    return {"value": float(value), "low": float(low), "high": float(high)}


def _simulated(answers: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Pearson's correlation over all tokens, with Fisher's interval over texts; NaN where either side is constant."""
    score = dict.fromkeys(NUMBERS, float("nan"))
    score["value"] = _correlation(answers)
    if len(answers) > 3 and not np.isnan(score["value"]):
        centre, half = np.arctanh(np.clip(score["value"], -0.9999, 0.9999)), Z / np.sqrt(len(answers) - 3)
        score |= {"low": float(np.tanh(centre - half)), "high": float(np.tanh(centre + half))}
    return score


def _correlation(answers: Sequence[Mapping[str, Any]]) -> float:
    """Pearson's correlation over all tokens of all texts; NaN where either side is constant."""
    if not answers:
        return float("nan")
    said, real = (
        np.concatenate([np.array(each[name], dtype=float) for each in answers]) for name in ("numbers", "truth")
    )
    if said.std() > 0 and real.std() > 0:
        return float(np.corrcoef(said, real)[0, 1])
    return float("nan")


def model_scores(asked: pl.DataFrame) -> pl.DataFrame:
    """A row for each model or twin and form: the mean over layers of the mean over units, with a 95 % interval from the
    differences between units; beside it `chance` and `majority`, the score of whoever always gives the commonest right
    answer; and how many replies failed, of which so many were refused.
    """
    units = unit_scores(asked)
    rows = []
    for key, group in units.group_by(MODEL, maintain_order=True):
        named = dict(zip(MODEL, key, strict=True))
        form = str(named["form"])
        scored = group.filter(pl.col("value").is_not_nan())
        layers = [part["value"].to_numpy() for _, part in scored.group_by("layer", maintain_order=True)]
        value, low, high = (_mean_correlation if form == SIMULATION else mean_over_layers)(layers)
        own = asked.filter(**named)
        counts: dict[str, Any] = {name: int(group[name].sum()) for name in COUNTS}
        rows.append(
            {
                **named,
                **{"value": value, "low": low, "high": high, "auc": _mean(scored["auc"])},
                **{"chance": CHANCE[form], "majority": _majority(form, own.filter(pl.col("note") == ""))},
                "n_units": len(scored),
                **counts,
                "refused": int(own["note"].str.starts_with("refused").sum()),
            }
        )
    return pl.DataFrame(rows, schema=MODEL_SCORES)


def _mean(values: pl.Series) -> float:
    there = values.filter(values.is_not_nan())
    return float("nan") if there.is_empty() else float(there.to_numpy().mean())


def _mean_correlation(layers: Sequence[np.ndarray]) -> tuple[float, float, float]:
    """The mean over layers, with Student's interval from the differences between units; NaN ends for too few units."""
    if not layers:
        return float("nan"), float("nan"), float("nan")
    value = float(np.mean([layer.mean() for layer in layers]))
    spread = [layer.var(ddof=1) / len(layer) for layer in layers if len(layer) > 1]
    free = sum(len(layer) - 1 for layer in layers)
    if len(spread) < len(layers):
        return value, float("nan"), float("nan")
    half = float(t.ppf(0.975, free) * np.sqrt(sum(spread)) / len(layers))
    return value, value - half, value + half


def _majority(form: str, answered: pl.DataFrame) -> float:
    """The score of whoever always gives the commonest right answer."""
    if form == SIMULATION:
        return 0.0
    if form.startswith(("detection", "fuzzing")):
        return 0.5
    letters = answered["right"].list.first().drop_nulls()
    return float(letters.value_counts()["count"].to_numpy().max() / len(letters)) if len(letters) else float("nan")
