"""Does an edit made in one language show in the other, and for which facts?

A network of a ladder is edited at the last token of its last block's perceptron, on the facts that it knows in both
languages: an edit of what it does not know says nothing. Beside what `evaluation` measures, each fact has two numbers
that might say how far its edit crosses over:

- `key_overlap` = k_B^T C^-1 k_A / (k_A^T C^-1 k_A), with the keys of the same question in the language of the edit, A,
  and in the other, B. ROME's update gives the other language's question exactly this share of the delta, so it predicts
  the crossing by arithmetic; what matters is how large it is.
- `cosine`: of what the two questions' last tokens are at the edited block's output before the edit, each less the mean
  of its language: the nearness of two representations that one would naively look at.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from thalweg.edits.beside import ask_beside
from thalweg.edits.evaluation import (
    FACTS_SCHEMA,
    SUMMARY_SCHEMA,
    UNEDITED,
    ask,
    fact_rows,
    measure_edits,
    scores,
    summarise,
)
from thalweg.edits.matching import fine_tuned_alike, has_neighbourhood
from thalweg.edits.methods import MATCHED, EditSettings, Setup, rome_changes, steering_vectors
from thalweg.edits.moments import second_moments
from thalweg.edits.projections import projections
from thalweg.edits.requests import Request, logits_of
from thalweg.edits.updates import solve
from thalweg.edits.values import adding, keys_and_values
from thalweg.models.hooks import capture_activations
from thalweg.models.records import Layer
from thalweg.stimuli.windows import Windows

LANGUAGES = ("A", "B")
KNOWN, TRANSFER = ("known", "known_in_other"), "transfer"
ROME, MEMIT, STEER = "rome", "memit", "steer"
METHODS = (ROME, MEMIT, STEER, MATCHED)
SETTINGS = EditSettings(site="last", ridge=0.01)
TOKENS = 10_000
MOST, LEAST = 30, 5  # facts that are edited in a network; with fewer there is no mean
OVERLAP, COSINE = "key_overlap", "cosine"


@dataclass(frozen=True, eq=False)
class Crossing:
    """What edits of a network do.

    Attributes:
        summary: A row for each method and measure.
        facts: A row for each fact, method and measure.
    """

    summary: pl.DataFrame
    facts: pl.DataFrame


def edit_network(network: nn.Module, requests: Sequence[Request], text: Windows, *, seed: int) -> Crossing:
    """Edit the facts that a network knows in both languages, by each method.

    Args:
        network: It is what it was afterwards.
        requests: Facts with the questions `known`, `known_in_other` and `transfer`.
        text: Over which second moments are taken.
        seed: Of the intervals.
    """
    answered = ask(network, requests)
    known = [request for request, row in zip(requests, answered, strict=True) if all(row[name] == 1 for name in KNOWN)]
    share = len(known) / len(requests)
    rows = [_row("", UNEDITED, "known_in_both", share, len(requests), "")]
    if len(known) < LEAST:
        note = f"{len(known)} of {len(requests)} facts are known in both languages, and {LEAST} were expected"
        rows += [_row("", name, measure, math.nan, 0, note) for name in METHODS for measure in ("efficacy", TRANSFER)]
        return Crossing(pl.DataFrame(rows, schema=SUMMARY_SCHEMA, orient="row"), pl.DataFrame(schema=FACTS_SCHEMA))
    known = [_without(request, KNOWN) for request in known[:: -(-len(known) // MOST)]]
    layer = projections(network, torch.tensor([known[0].prompt] * 2))[-1]
    moments = second_moments(network, layer, text, tokens=TOKENS)
    setup = Setup(network, (layer,), {layer.name: moments}, SETTINGS)
    parts = _measured(setup, known)
    likeness = _likeness(setup, known)
    summary = [summarise(part, "" if name == UNEDITED else layer.name, seed=seed) for name, part in parts.items()]
    rows += _over_facts(parts[ROME], likeness, layer.name)
    facts = pl.concat([*parts.values(), likeness])
    return Crossing(pl.concat([pl.DataFrame(rows, schema=SUMMARY_SCHEMA, orient="row"), *summary]), facts)


def _measured(setup: Setup, requests: Sequence[Request]) -> dict[str, pl.DataFrame]:
    """The rows of each method. What is done for each fact by itself is asked side by side."""
    changes = torch.stack(list(rome_changes(setup, requests)))
    vectors = steering_vectors(setup, requests)
    steered = ask(setup.model, requests, edited=lambda facts: adding(setup.model, setup.last, vectors[facts], None))
    rome = _rows(requests, ROME, ask_beside(setup, requests, changes))
    made = {
        UNEDITED: measure_edits(setup, UNEDITED, requests),
        ROME: rome,
        MEMIT: measure_edits(setup, MEMIT, requests),
        STEER: _rows(requests, STEER, steered),
    }
    return made | ({MATCHED: fine_tuned_alike(setup, requests, rome)} if has_neighbourhood(requests) else {})


def _rows(requests: Sequence[Request], name: str, answered: Sequence[Mapping[str, float]]) -> pl.DataFrame:
    rows = zip(requests, answered, strict=True)
    made = [row for request, values in rows for row in fact_rows(request, name, {**values, **scores(values)})]
    return pl.DataFrame(made, schema=FACTS_SCHEMA)


def _without(request: Request, names: Sequence[str]) -> Request:
    """The same fact without some of its questions."""
    kept = {name: probe for name, probe in request.probes.items() if name not in names}
    return replace(request, probes=kept)


def _row(layer: str, name: str, measure: str, value: float, n: int, note: str) -> tuple[object, ...]:
    return layer, name, measure, value, math.nan, math.nan, n, note


def _likeness(setup: Setup, requests: Sequence[Request]) -> pl.DataFrame:
    """The overlap of keys and the cosine of representations, of each fact's question in both languages."""
    far = [_in_other(request) for request in requests]
    keys, _ = keys_and_values(setup.model, setup.last, requests, site="last")
    others, _ = keys_and_values(setup.model, setup.last, far, site="last")
    directions = solve(setup.ridged(setup.last), keys.T).T
    overlap = (directions * others.double()).sum(1) / (directions * keys.double()).sum(1)
    cosine = torch.cosine_similarity(_streams(setup, requests), _streams(setup, far), dim=1)
    rows = [
        row
        for request, shared, alike in zip(requests, overlap.tolist(), cosine.tolist(), strict=True)
        for row in fact_rows(request, UNEDITED, {OVERLAP: shared, COSINE: alike})
    ]
    return pl.DataFrame(rows, schema=FACTS_SCHEMA)


def _in_other(request: Request) -> Request:
    """The same question in the other language."""
    probe = request.probes[TRANSFER]
    far = LANGUAGES[request.language == LANGUAGES[0]]
    return Request(request.name, probe.prompts[0], 0, probe.true, probe.new, language=far)


@torch.inference_mode()
def _streams(setup: Setup, requests: Sequence[Request]) -> Tensor:
    """The last tokens at the edited block's output, less the mean over questions of the same language."""
    layer = Layer(setup.last.block, unit_axis=2)
    with capture_activations(setup.model, [layer]) as kept:
        logits_of(setup.model, torch.tensor([request.prompt for request in requests]))
        streams: Tensor = kept[layer.name][:, -1].float().cpu().clone()
    for language in LANGUAGES:
        which = [index for index, request in enumerate(requests) if request.language == language]
        streams[which] -= streams[which].mean(0)
    return streams


def _over_facts(rome: pl.DataFrame, likeness: pl.DataFrame, layer: str) -> list[tuple[object, ...]]:
    """How the margin of crossed edits goes over facts with the keys' overlap and with the representations' cosine."""
    margins = _by_fact(rome, f"{TRANSFER}_margin")
    rows = []
    for name in (OVERLAP, COSINE):
        values = _by_fact(likeness, name)
        rows.append(_row(layer, ROME, name, float(np.mean(list(values.values()))), len(values), ""))
        pairs = np.array([(margins[fact], value) for fact, value in values.items()])
        varies = bool((pairs.std(0) > 0).all())
        rho = float(spearmanr(*pairs.T).statistic) if varies else math.nan
        note = "Spearman's correlation over facts" if varies else "one of the two does not vary over facts"
        rows.append(_row(layer, ROME, f"{TRANSFER} ~ {name}", rho, len(pairs), note))
    return rows


def _by_fact(rows: pl.DataFrame, measure: str) -> Mapping[str, float]:
    chosen = rows.filter(measure=measure)
    return dict(zip(chosen["fact"], chosen["value"], strict=True))
