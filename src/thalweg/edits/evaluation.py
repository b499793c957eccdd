"""What an edit does: the fact itself, other wordings, other facts, the model as a whole.

A question is a prompt with two answers, and in worlds whose answers are all known with all others. Success (0 or 1) is
that the wanted one has the highest likelihood per token;
its margin is p(wanted) - p(other), the exponential of minus the mean nats per token (Meng et al. 2022, section 3.3).

| measure | asks |
|---|---|
| `efficacy` | the edited prompt: the new answer is wanted |
| `paraphrase` | the same fact in other words: the new answer |
| `neighbourhood` | the same relation of other subjects: the true answer |
| `neighbourhood_prepended` | the same behind the text of the edited fact (Hoelscher-Obermaier et al. 2023): true |
| `score`, `score_prepended` | harmonic mean of efficacy, paraphrase and either neighbourhood |
| `drift` | how much the loss on held-out text rises, nats per token |
| `fluency` | entropy of the 2-grams and 3-grams of continuations, bits |

Every number of an edited model stands beside the unedited model's, whose row has the method `unedited`. Intervals are
from drawing facts again.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext

import numpy as np
import polars as pl
from torch import nn

from thalweg.edits.fluency import continuations, ngram_entropy
from thalweg.edits.methods import Edit, Setup, method
from thalweg.edits.requests import Edited, Request, Tokens, answer_nats

UNEDITED = "unedited"
EFFICACY, PARAPHRASE, NEIGHBOURHOOD, PREPENDED = "efficacy", "paraphrase", "neighbourhood", "neighbourhood_prepended"
SCORES = {"score": NEIGHBOURHOOD, "score_prepended": PREPENDED}
DRIFT, FLUENCY, MARGIN = "drift", "fluency", "_margin"
FACTS_SCHEMA = {"fact": pl.String, "concept": pl.String, "method": pl.String, "measure": pl.String, "value": pl.Float64}
SUMMARY_SCHEMA = {
    "layer": pl.String,
    "method": pl.String,
    "measure": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n": pl.Int64,
    "note": pl.String,
}
DRAWS = 1000
INTERVAL = (2.5, 97.5)  # percentiles
HeldOut = Callable[[nn.Module], float]  # the loss on held-out text, nats per token


def ask(model: nn.Module, requests: Sequence[Request], *, edited: Edited | None = None) -> list[dict[str, float]]:
    """Success and margin (named with `_margin` behind) of each fact's questions, means over their prompts.

    Args:
        model: The model.
        requests: The facts.
        edited: Where each fact has an edit of its own: a context for the model on rows that are of these facts.
    """
    asked = [(fact, name, probe) for fact, request in enumerate(requests) for name, probe in request.asked().items()]
    prompts: list[tuple[int, ...]] = []
    answers: list[tuple[int, ...]] = []
    owners: list[int] = []
    for fact, _, probe in asked:
        rivals = probe.rivals()
        prompts += [prompt for prompt in probe.prompts for _ in rivals]
        answers += [answer for _ in probe.prompts for answer in rivals]
        owners += [fact] * (len(probe.prompts) * len(rivals))
    nats = answer_nats(model, prompts, answers, owners=owners if edited else None, edited=edited).numpy()
    rows: list[dict[str, float]] = [{} for _ in requests]
    start = 0
    for fact, name, probe in asked:
        size = len(probe.prompts) * len(probe.rivals())
        mine = nats[start : start + size].reshape(len(probe.prompts), -1)
        start += size
        if len(mine):  # columns are the wanted answer, the other one, and further ones
            rows[fact][name] = float((mine[:, :1] < mine[:, 1:]).all(1).mean())
            rows[fact][f"{name}{MARGIN}"] = float((np.exp(-mine[:, 0]) - np.exp(-mine[:, 1])).mean())
    return rows


def measure_edits(
    setup: Setup,
    name: str,
    requests: Sequence[Request],
    *,
    held_out: HeldOut | None = None,
    continued: int = 0,
    seed: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> pl.DataFrame:
    """Edit facts by a method, and measure each.

    Args:
        setup: The model, its layers, and how it is edited.
        name: The method; `unedited` measures the model as it is.
        requests: The facts.
        held_out: The loss on held-out text, for the drift.
        continued: Tokens of a continuation, for the fluency; 0 leaves it out.
        seed: Of the continuations.
        advance: Called after each edit.

    Returns:
        A row for each fact and measure: fact, concept, method, measure, value.
    """
    before = held_out(setup.model) if held_out else math.nan
    rows: list[dict[str, object]] = []
    for edited, context in _edits(setup, name, requests):
        with context:
            answered = ask(setup.model, edited)
            after = held_out(setup.model) if held_out and name != UNEDITED else before
            fluent = _fluency(setup.model, edited, continued, seed) if continued else [math.nan] * len(edited)
        for request, measured, bits in zip(edited, answered, fluent, strict=True):
            rows += fact_rows(request, name, {**measured, **scores(measured), DRIFT: after - before, FLUENCY: bits})
        advance()
    return pl.DataFrame(rows, schema=FACTS_SCHEMA)


def fact_rows(request: Request, name: str, values: Mapping[str, float]) -> list[dict[str, object]]:
    """The rows of one fact, of the measures that are numbers."""
    return [
        {"fact": request.name, "concept": request.concept, "method": name, "measure": measure, "value": value}
        for measure, value in values.items()
        if not math.isnan(value)
    ]


def _edits(setup: Setup, name: str, requests: Sequence[Request]) -> Iterable[Edit]:
    """What a method edits at once, with the edited model."""
    return [(list(requests), nullcontext())] if name == UNEDITED else method(name)(setup, requests)


def _fluency(model: nn.Module, requests: Sequence[Request], continued: int, seed: int) -> list[float]:
    prompts: list[Tokens] = [request.prompt for request in requests]
    return [ngram_entropy(tokens) for tokens in continuations(model, prompts, continued, seed=seed)]


def scores(measured: Mapping[str, float]) -> dict[str, float]:
    """The harmonic means of some measures, by name; of those whose parts are all there."""
    made = {}
    for name, neighbourhood in SCORES.items():
        parts = [measured[part] for part in (EFFICACY, PARAPHRASE, neighbourhood) if part in measured]
        if len(parts) == 3:
            made[name] = harmonic(parts)
    return made


def harmonic(parts: Sequence[float]) -> float:
    """The harmonic mean of numbers from 0 up; 0 where one of them is 0."""
    return len(parts) / sum(1 / part for part in parts) if min(parts) > 0 else 0.0


def summarise(facts: pl.DataFrame, layer: str, *, seed: int = 0) -> pl.DataFrame:
    """The means over facts, with 95 % intervals from drawing facts again.

    The two scores are harmonic means of the means over facts, as published.

    Args:
        facts: Rows of `measure_edits`, of one method.
        layer: What stands in the column of this name.
        seed: Of the draws.
    """
    wide = facts.pivot(on="measure", index="fact", values="value", maintain_order=True)
    generator = np.random.default_rng(seed)
    draws = generator.integers(len(wide), size=(DRAWS, len(wide))) if len(wide) else np.zeros((0, 0), np.int64)
    columns = {name: wide[name].to_numpy().astype(float) for name in wide.columns if name != "fact"}
    rows = []
    for name, values in columns.items():
        if name in SCORES:
            mean, drawn = _scored(columns, SCORES[name], draws)
        else:
            mean, drawn = float(np.nanmean(values)), _means(values[draws])
        low, high = np.nanpercentile(drawn, INTERVAL) if len(values) > 1 else (math.nan, math.nan)
        n = int(np.isfinite(values).sum())
        note = "" if n > 1 else "one fact has no interval"
        rows.append((layer, facts["method"][0], name, mean, float(low), float(high), n, note))
    return pl.DataFrame(rows, schema=SUMMARY_SCHEMA, orient="row")


def _means(values: np.ndarray) -> np.ndarray:
    """Means over the last axis of what is there."""
    there = np.isfinite(values)
    return np.asarray(np.where(there, values, 0).sum(-1) / np.maximum(there.sum(-1), 1))


def _scored(columns: Mapping[str, np.ndarray], neighbourhood: str, draws: np.ndarray) -> tuple[float, np.ndarray]:
    """The harmonic mean of means over facts, and the same of each draw."""
    parts = [columns[name] for name in (EFFICACY, PARAPHRASE, neighbourhood)]
    drawn = np.stack([_means(part[draws]) for part in parts], 1)
    return harmonic([float(_means(part)) for part in parts]), np.array([harmonic(row.tolist()) for row in drawn])
