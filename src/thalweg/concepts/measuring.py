"""All measures of a network, as rows of a table."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from thalweg.concepts.estimates import Scores, averaged, mean_of
from thalweg.concepts.pairs import ConceptPairs, unrelated
from thalweg.concepts.patching import PATCHES, patching
from thalweg.concepts.representations import Reader, hits, represent
from thalweg.concepts.sharing import MEASURES, PROBES, answering
from thalweg.models.records import Layer

CARRIED = "carried"
CRISP_SHARED, CRISP_ALL = "crisp_shared", "crisp_all"
ALL_MEASURES = (*MEASURES, *PROBES, *PATCHES, CARRIED)
SHUFFLED = "shuffled"
ALL_LAYERS = ""
LEAST_UNITS = 5  # with fewer there is no mean
Row = dict[str, Any]
Values = Mapping[str, Float[Tensor, "2 concept unit"]]  # by layer
UnitScores = Mapping[str, tuple[Int[Tensor, " measured"], Float[Tensor, " measured"]]]  # by layer: units, their scores


def network_rows(
    reader: Reader, pairs: ConceptPairs, layers: Sequence[Layer], *, seed: int, values: Values | None = None
) -> Iterator[Row]:
    """Rows of the table for one network: each measure at each layer, and its mean over layers.

    Args:
        reader: The network.
        pairs: The concepts.
        layers: Where they are read and patched.
        seed: Of unrelated pairs and of the bootstrap.
        values: The representations, where they are known already.
    """
    yield from shared_rows(values or represent(reader, pairs, layers), pairs.classes, seed=seed)
    yield from patched_rows(reader, pairs, layers, seed=seed)
    if pairs.questions is not None:
        note = f"chance {1 / pairs.questions.candidates.shape[1]:.3g}"
        yield _row(CARRIED, ALL_LAYERS, mean_of(hits(reader, pairs.questions), note), seed)


def shared_rows(values: Values, classes: Int[Tensor, "task concept"] | None, *, seed: int) -> Iterator[Row]:
    """Rows of the measures of representations, by layer."""
    made = {name: {layer: measure(pair) for layer, pair in values.items()} for name, measure in MEASURES.items()}
    if classes is not None:
        for name, probe in PROBES.items():
            made[name] = {layer: probe(pair, classes) for layer, pair in values.items()}
    yield from _rows(made, seed)


def patched_rows(reader: Reader, pairs: ConceptPairs, layers: Sequence[Layer], *, seed: int) -> Iterator[Row]:
    """Rows of patching, by layer; none where no context is patched."""
    if not pairs.patched:
        return
    by_measure: dict[str, dict[str, Scores]] = {}
    for layer in layers:
        for name, scores in patching(reader, pairs, layer, seed=seed).items():
            by_measure.setdefault(name, {})[layer.name] = scores
    yield from _rows(by_measure, seed)


def shuffled(values: Values, *, seed: int) -> Values:
    """The representations with the concepts of the second language exchanged: pairs of unrelated concepts, which every
    measure of sharing should find unlike. Patching has its own control.
    """
    other = unrelated(next(iter(values.values())).shape[1], seed)
    return {name: torch.stack([pair[0], pair[1][other]]) for name, pair in values.items()}


def shuffled_rows(values: Values, pairs: ConceptPairs, *, seed: int) -> Iterator[Row]:
    """The rows of representations for pairs of unrelated concepts."""
    rows = shared_rows(shuffled(values, seed=seed), pairs.classes, seed=seed)
    yield from (row for row in rows if row["measure"] != "probe_within")  # it has no pairs


def crisp_rows(values: Values, scores: UnitScores, *, seed: int) -> Iterator[Row]:
    """How crisp the units are that answer to a concept in both languages, beside all units that were scored: rows by
    layer, and for the units of all layers together.
    """
    parts: dict[str, list[Tensor]] = {CRISP_SHARED: [], CRISP_ALL: []}
    for layer, (units, scored) in scores.items():
        shared = answering(values[layer]).any(0)[units]
        for name, some in ((CRISP_SHARED, scored[shared]), (CRISP_ALL, scored)):
            parts[name].append(some)
            yield _crisp_row(name, layer, some, seed)
    for name, all_layers in parts.items():
        if all_layers:
            yield _crisp_row(name, ALL_LAYERS, torch.cat(all_layers), seed)


def _crisp_row(measure: str, layer: str, scores: Float[Tensor, " unit"], seed: int) -> Row:
    known = scores[scores.isfinite()]
    if len(known) >= LEAST_UNITS:
        return _row(measure, layer, mean_of(known, "units"), seed)
    note = f"{len(known)} units, and {LEAST_UNITS} were expected"
    nothing = {"value": math.nan, "low": math.nan, "high": math.nan}
    return {"layer": layer, "measure": measure, **nothing, "n": len(known), "note": note}


def _rows(by_measure: Mapping[str, Mapping[str, Scores]], seed: int) -> Iterator[Row]:
    for name, by_layer in by_measure.items():
        for layer, scores in by_layer.items():
            yield _row(name, layer, scores, seed)
        note = next(iter(by_layer.values())).note
        yield _row(name, ALL_LAYERS, averaged(list(by_layer.values()), note), seed)


def _row(measure: str, layer: str, scores: Scores, seed: int) -> Row:
    low, high = scores.interval(seed)
    return {
        "layer": layer,
        "measure": measure,
        "value": scores.value,
        "low": low,
        "high": high,
        "n": scores.n,
        "note": scores.note,
    }
