"""All measures of a network, as rows of a table."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from thalweg.concepts.estimates import Scores, averaged, mean_of
from thalweg.concepts.pairs import ConceptPairs, unrelated
from thalweg.concepts.patching import PATCHES, patching
from thalweg.concepts.representations import Reader, hits, represent
from thalweg.concepts.sharing import MEASURES, PROBES
from thalweg.models.records import Layer

CARRIED = "carried"
ALL_MEASURES = (*MEASURES, *PROBES, *PATCHES, CARRIED)
SHUFFLED = "shuffled"
ALL_LAYERS = ""
Row = dict[str, Any]
Values = Mapping[str, Float[Tensor, "2 concept unit"]]  # by layer


def network_rows(reader: Reader, pairs: ConceptPairs, layers: Sequence[Layer], *, seed: int) -> Iterator[Row]:
    """Rows of the table for one network: each measure at each layer, and its mean over layers.

    Args:
        reader: The network.
        pairs: The concepts.
        layers: Where they are read and patched.
        seed: Of unrelated pairs and of the bootstrap.
    """
    yield from shared_rows(represent(reader, pairs, layers), pairs.classes, seed=seed)
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
    """Rows of patching, by layer."""
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


def shuffled_rows(reader: Reader, pairs: ConceptPairs, layers: Sequence[Layer], *, seed: int) -> Iterator[Row]:
    """The rows of representations for pairs of unrelated concepts."""
    rows = shared_rows(shuffled(represent(reader, pairs, layers), seed=seed), pairs.classes, seed=seed)
    yield from (row for row in rows if row["measure"] != "probe_within")  # it has no pairs


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
