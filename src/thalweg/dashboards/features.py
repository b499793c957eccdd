"""A unit as SAEDashboard describes one: the texts that drive it with its value at each token, texts from all over its
range, how its values spread, and the tokens that it promotes and suppresses.

The fields are those of `NeuronpediaDashboardFeature` of SAEDashboard 0.8.0; what a run does not know is empty.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from thalweg.compute.devices import all_finite
from thalweg.explore.logits import direct_logits
from thalweg.explore.showing import StimulusFiles
from thalweg.explore.values import UnitValues
from thalweg.explore.weights import Loaded, values_along

HIGHEST = 20  # texts of the highest values
INTERVALS = 5  # of equal width, from the least to the greatest value that is known
OF_AN_INTERVAL = 5  # texts
TOKENS = 10  # that are promoted, and that are suppressed
BINS = 40  # of the histogram of logits
DIGITS = 5  # after the point, as SAEDashboard rounds
UNKNOWN = (
    "neuron_alignment_indices",
    "neuron_alignment_values",
    "neuron_alignment_l1",
    "correlated_neurons_indices",
    "correlated_neurons_l1",
    "correlated_neurons_pearson",
    "correlated_features_indices",
    "correlated_features_l1",
    "correlated_features_pearson",
    "decoder_weights_dist",
    "vector",
)
Along = Mapping[int, Float[Tensor, "unit place"]]


@dataclass(frozen=True)
class Bin:
    """Texts whose values lie in one interval; `contains` is the share of the random sample that does."""

    low: float
    high: float
    contains: float
    stimuli: tuple[int, ...]


def bins(values: UnitValues) -> list[Bin]:
    """The highest texts, marked by -1 for `low` and `contains` as SAEDashboard does; then intervals from the top."""
    known = {which: value for which, value in values.known.items() if np.isfinite(value)}
    if not known:
        return []
    ranked = sorted(known, key=lambda which: (-known[which], which))
    edges = np.linspace(known[ranked[-1]], known[ranked[0]], INTERVALS + 1)
    sample = values.ordered[1]
    found = [Bin(-1.0, _rounded(known[ranked[0]]), -1.0, tuple(ranked[:HIGHEST]))]
    for low, high in zip(edges[-2::-1], edges[:0:-1], strict=True):
        top = high == edges[-1]
        inside = [which for which in ranked if low <= known[which] and (top or known[which] < high)]
        share = np.mean((sample >= low) & ((sample < high) | top)) if len(sample) else 0.0
        spread = np.linspace(0, len(inside) - 1, min(OF_AN_INTERVAL, len(inside))).round().astype(int)
        chosen = tuple(inside[place] for place in spread)
        found.append(Bin(_rounded(low), _rounded(high), _rounded(share), chosen))
    return found


def features(
    loaded: Loaded, layer: str, units: Sequence[int], values: Sequence[UnitValues], files: StimulusFiles, source: str
) -> list[dict[str, Any]]:
    """Some units of a layer, each as SAEDashboard describes one.

    Args:
        loaded: Their network.
        layer: The layer's name.
        units: Their numbers in the layer.
        values: What was recorded of each.
        files: The texts.
        source: What the texts are called.
    """
    binned = [bins(each) for each in values]
    wanted = sorted({which for own in binned for each in own for which in each.stimuli})
    along = {which: found[layer] for which, found in values_along(loaded, {layer: units}, wanted)}
    logits = direct_logits(loaded, layer, list(units))
    last = loaded.layers[layer].reduction == "last"
    described = []
    unknown: dict[str, list[float]] = {name: [] for name in UNKNOWN}
    for place, (unit, own) in enumerate(zip(units, values, strict=True)):
        shown = [each for group in binned[place] for each in _activations(group, along, place, files, at_the_end=last)]
        described.append(
            {
                "feature_index": unit,
                **unknown,
                **_logits(None if logits is None else logits[place], files.pool),
                **_spread(own),
                "n_prompts_total": own.count,
                "n_tokens_in_prompt": files.pool.length,
                "dataset": source,
                "activations": shown,
            }
        )
    return described


def _activations(
    group: Bin, along: Along, place: int, files: StimulusFiles, *, at_the_end: bool
) -> list[dict[str, Any]]:
    """The texts of one bin with the unit's value at each token; one with a value that is not finite is left out."""
    listed = []
    for which in group.stimuli:
        tokens, values = list(files.shown(which).pieces), along[which][place]
        if len(tokens) != len(values) or not all_finite(values):
            continue
        listed.append(
            {
                "bin_min": group.low,
                "bin_max": group.high,
                "bin_contains": group.contains,
                "tokens": tokens,
                "values": [_rounded(value) for value in values.tolist()],
                "qualifying_token_index": len(tokens) - 1 if at_the_end else int(values.argmax()),
            }
        )
    return listed


def _spread(values: UnitValues) -> dict[str, Any]:
    """How the values of whole texts spread over the random sample."""
    sample = values.ordered[1]
    counts, edges = values.histogram()
    return {
        "frac_nonzero": _rounded(np.mean(sample != 0)) if len(sample) else 0.0,
        "freq_hist_data_bar_values": _middles(edges),
        "freq_hist_data_bar_heights": counts.tolist(),
    }


def _logits(logits: Float[Tensor, " token"] | None, pool: Any) -> dict[str, Any]:
    """The tokens that a unit promotes and suppresses, and how all logits spread; empty where they are not known."""
    names = ("pos_str", "pos_values", "neg_str", "neg_values")
    spread = ("logits_hist_data_bar_heights", "logits_hist_data_bar_values")
    if logits is None or not all_finite(logits):
        return {name: [] for name in (*names, *spread)}
    known = logits[: len(pool.vocabulary)]
    sides: list[list[Any]] = []
    for largest in (True, False):
        values, tokens = known.topk(min(TOKENS, len(known)), largest=largest)
        sides += [
            [pool.vocabulary.pieces[token].decode("utf-8", "replace") for token in tokens.tolist()],
            [_rounded(value) for value in values.tolist()],
        ]
    counts, edges = np.histogram(known.double().numpy(), BINS)
    return dict(zip(names, sides, strict=True)) | dict(zip(spread, (counts.tolist(), _middles(edges)), strict=True))


def _middles(edges: NDArray[np.float64]) -> list[float]:
    """The middle of each bin of a histogram."""
    return [_rounded(value) for value in (edges[:-1] + edges[1:]) / 2]


def _rounded(value: float) -> float:
    return round(float(value), DIGITS)


def has_places(loaded: Loaded, layer: str) -> bool:
    """Whether the units of a layer have a value at each token of a text."""
    return any(layer in found for _, found in values_along(loaded, {layer: [0]}, [0]))
