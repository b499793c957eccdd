"""How many features a layer uses at once, and in all.

A dictionary (a sparse autoencoder) writes a layer's values as sums of few latents. If the layer holds more features
than it has units, the dictionary should use more latents than there are units: that is superposition, as far as a
dictionary shows it. How many latents count is the exponential of the entropy of their shares of the total activation
(Bereska et al. 2025).

That number follows the dictionary's size and how well it reconstructs, so models can be compared at equal error alone.
Here one TopK dictionary is trained for every k at once, drawn log-uniformly for each batch, and the numbers are read
off where a tenth of the variance is left unexplained, by interpolation over k. And the number follows the covariance of
the layer: Gaussian values have effective features too. So the same is done for a Gaussian surrogate, values of the same
mean and covariance passed through the same nonlinearity. What features do, beyond what covariance does, is in how many
latents are needed at once: k of the layer over k of its surrogate.

On request (`--factors effective_features`), since it trains two dictionaries a layer, and takes seconds for each.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor, nn

from thalweg.compute.adam import Adam
from thalweg.factors.base import Estimate, Rows, factor
from thalweg.measures.base import Z

EXPANSION, MOST_LATENTS = 4, 1024  # latents for each unit, and at most
UNEXPLAINED = 0.1  # of the variance, where numbers are read off
LEAST_ROWS = 4  # for each unit, of which a quarter is held out: fewer leave the covariance unknown
BATCH, CYCLE, MOST_CYCLES = 256, 500, 8
RATE = 1e-2  # Adam's at the start of a cycle, over which it falls to 0 as a cosine
GAIN = 0.03  # of the error: training ends when a cycle takes less off
GROUPS = 10  # of held-out rows, left out in turn for the interval
GROUP = "effective_features"  # what they are asked for by

CITE = "Bereska et al. 2025, Superposition as Lossy Compression (arXiv 2512.13568); surrogate and ratio are thalweg's"


@factor(
    version=1,
    unit="features",
    range=(1.0, math.inf),
    higher_is="more features in use",
    cite=CITE,
    on_request=GROUP,
)
def effective_features(rows: Mapping[str, Rows]) -> Estimate:
    """The effective number of features that a TopK dictionary uses where it leaves a tenth of the variance unexplained:
    F = exp(H(p)); the mean over layers.

    p is each latent's share of the sum of all activations, H its entropy in nats. Latents are four for each unit that
    varies, and at most 1,024. Values are what the layer passes on, at several places of stimuli of the pool; three
    quarters of the rows train the dictionary, in cycles of 500 steps, until its error on the rest falls by less than
    3 % (or for eight cycles), and the rest give all numbers. Of 24 and 32 planted features it counts 23 and 31. The
    interval leaves out ten groups of held-out rows in turn (jackknife), so it does not hold how another training would
    differ; n counts rows.

    A layer has no number if it has fewer than four rows a unit, or if a tenth is not reached at the largest k (half of
    the latents, or as many as units). NaN where no layer has one, and for rotated twins and units that are made of
    neurons already.

    How it can mislead: it grows with the number of units and with the dimensions that their covariance fills, features
    or not: read it beside that of the surrogate, and `effective_features_ratio` before either; the cap of 1,024 latents
    bounds it.
    """
    return _over_layers(rows, lambda fit, surrogate, width: fit.features)


@factor(
    version=1,
    unit="features per unit",
    range=(0.0, math.inf),
    higher_is="more superposition",
    cite=CITE,
    on_request=GROUP,
)
def features_per_unit(rows: Mapping[str, Rows]) -> Estimate:
    """Effective features for each unit that varies: psi = F / N; the mean over layers.

    F is that of `effective_features`, with its interval. Above 1 the layer is said to be in superposition; NaN where
    there is no F.

    How it can mislead: Gaussian values have it above 1 too: see `features_per_unit_surrogate`.
    """
    return _over_layers(rows, lambda fit, surrogate, width: fit.features / width)


@factor(
    version=1,
    unit="features per unit",
    range=(0.0, math.inf),
    higher_is="more, without any features",
    cite=CITE,
    on_request=GROUP,
)
def features_per_unit_surrogate(rows: Mapping[str, Rows]) -> Estimate:
    """What `features_per_unit` is for Gaussian values of the layer's mean and covariance, passed through its
    nonlinearity; the mean over layers.

    The mean and the covariance are those of the values before the nonlinearity. As many rows are drawn as the layer
    has. NaN where the surrogate's error does not reach a tenth.

    How it can mislead: a surrogate has no higher moments, so a layer that differs from it need not hold features.
    """
    return _over_layers(rows, lambda fit, surrogate, width: surrogate.features / width)


@factor(
    version=1,
    unit="ratio",
    range=(0.0, math.inf),
    higher_is="as many latents at once as Gaussian values need",
    cite=CITE,
    on_request=GROUP,
)
def effective_features_ratio(rows: Mapping[str, Rows]) -> Estimate:
    """How many latents are needed at once to leave a tenth of the variance unexplained, over how many the Gaussian
    surrogate needs; the mean over layers.

    1 says that the dictionary finds nothing beyond mean and covariance; below 1, that the layer's values are sums of
    fewer features than Gaussian values are. k is interpolated on a logarithmic scale. 24 planted features in 12
    dimensions, 1.2 of them at once, give .49 and .52 by two seeds. NaN where either error does not reach a tenth.

    How it can mislead: both dictionaries are trained once, and the interval does not hold how another training would
    differ; the pair of a layer and its surrogate is compared, not two layers.
    """
    return _over_layers(rows, lambda fit, surrogate, width: fit.k / surrogate.k)


@dataclass(frozen=True, eq=False)
class Fit:
    """What a dictionary needs where it leaves a tenth unexplained, from all held-out rows and then without each group:
    how many latents at once, and the effective number of all that it uses. NaN where a tenth is not reached.
    """

    k: Float64[Tensor, " left_out"]
    features: Float64[Tensor, " left_out"]


def _over_layers(rows: Mapping[str, Rows], of: Callable[[Fit, Fit, int], Float64[Tensor, " left_out"]]) -> Estimate:
    """The mean over layers of a number of each layer's fit, its surrogate's and its width, with the jackknife's
    interval.
    """
    numbers: dict[str, Tensor] = {}
    notes: list[str] = []
    for name, layer in rows.items():
        note, fits = _fits(layer)
        notes += [note] if note else []
        numbers[name] = of(*fits) if fits else torch.full((GROUPS + 1,), torch.nan, dtype=torch.float64)
    layers = {name: float(number[0]) for name, number in numbers.items()}
    there = [number for number in numbers.values() if not number[0].isnan()]
    if not there:
        reason = notes[0] if notes else "a tenth of the variance stays unexplained at the largest k"
        return Estimate(math.nan, note=reason if rows else "units are no neurons here", layers=layers)
    value, *without = torch.stack(there).mean(0).tolist()
    half = Z * math.sqrt(GROUPS - 1) * float(torch.tensor(without).std(correction=0))
    count = min(len(layer.before) for layer in rows.values())
    return Estimate(value, max(0.0, value - half), value + half, count, layers=layers)


@lru_cache(maxsize=16)  # the factors of this file share them
def _fits(layer: Rows) -> tuple[str, tuple[Fit, Fit, int] | None]:
    """The fits of a layer and of its surrogate, and how many units vary; or why there are none."""
    before = layer.before[:, layer.before.isfinite().all(0)]
    generator = torch.Generator().manual_seed(0)
    surrogate = layer.nonlinearity(gaussian(before, generator))
    values = layer.nonlinearity(before)
    varies = values.std(0) > 1e-6 * values.std(0).max().clamp_min(1e-12)
    width = int(varies.sum())
    if width < 2:
        return "fewer than two units of the layer vary", None
    if len(values) < LEAST_ROWS * width:
        return f"{len(values)} rows are too few for a dictionary of {width} units; {LEAST_ROWS} a unit are needed", None
    return "", (fit(values[:, varies], generator), fit(surrogate[:, varies], generator), width)


def gaussian(values: Float[Tensor, "row unit"], generator: torch.Generator) -> Float[Tensor, "row unit"]:
    """As many rows of Gaussian values with the mean and the covariance of these: random sums of the centred rows."""
    mean = values.mean(0)
    mixed: Tensor = torch.randn(len(values), len(values), generator=generator) @ (values - mean)
    return mixed / math.sqrt(len(values) - 1) + mean


def exp_entropy(activity: Float64[Tensor, "*group latent"]) -> Float64[Tensor, "*group"]:
    """exp(H(p)) with p each latent's share of the total activity: k where k latents share it evenly, 1 for one."""
    shares = activity / activity.sum(-1, keepdim=True)
    effective: Tensor = torch.special.entr(shares).sum(-1).exp()
    return effective


def fit(values: Float[Tensor, "row unit"], generator: torch.Generator) -> Fit:
    """Train a dictionary on three quarters of the rows, and read off the rest what it needs."""
    order = torch.randperm(len(values), generator=generator)
    values = values[order].float() - values.mean(0)
    values = values / values.square().mean().sqrt()
    cut = len(values) * 3 // 4
    dictionary = train(values[:cut], values[cut:], generator)
    return read_off(dictionary, values[cut:])


class TopK(nn.Module):
    """A dictionary of latents of which the k largest are active, for any k."""

    def __init__(self, width: int, latents: int, generator: torch.Generator) -> None:
        super().__init__()
        directions = nn.functional.normalize(torch.randn(latents, width, generator=generator), dim=1)
        self.decoder, self.encoder = nn.Parameter(directions.clone()), nn.Parameter(directions.T.clone())
        self.bias, self.centre = nn.Parameter(torch.zeros(latents)), nn.Parameter(torch.zeros(width))

    def latents(self, values: Float[Tensor, "row unit"], k: int) -> Float[Tensor, "row latent"]:
        """The activations: nothing but the k largest, and none below zero."""
        active = ((values - self.centre) @ self.encoder + self.bias).relu()
        least = active.detach().topk(k, dim=1).values[:, -1:]
        largest: Tensor = active * (active >= least)
        return largest

    def restored(self, latents: Float[Tensor, "row latent"]) -> Float[Tensor, "row unit"]:
        """The values that the latents stand for."""
        decoded: Tensor = latents @ nn.functional.normalize(self.decoder, dim=1) + self.centre
        return decoded

    @property
    def largest(self) -> int:
        """The largest k that is trained."""
        return max(1, min(len(self.centre), len(self.bias) // 2))

    def grid(self) -> list[int]:
        """The k at which numbers are taken: about eight an octave, all small ones."""
        steps = torch.logspace(0, math.log2(self.largest), 8 * max(1, math.ceil(math.log2(self.largest))), base=2)
        return sorted({round(float(step)) for step in steps})


def train(
    values: Float[Tensor, "row unit"], held_out: Float[Tensor, "other_row unit"], generator: torch.Generator
) -> TopK:
    """Train a dictionary, k drawn log-uniformly for each batch, in cycles, until its error on held-out rows no longer
    falls from one cycle's end to the next.
    """
    width = values.shape[1]
    dictionary = TopK(width, min(EXPANSION * width, MOST_LATENTS), generator)
    optimiser, best = Adam(dictionary.parameters(), RATE), math.inf
    for _ in range(MOST_CYCLES):
        for step in range(CYCLE):
            optimiser.learning_rate = RATE * (1 + math.cos(math.pi * step / CYCLE)) / 2
            batch = values[torch.randint(len(values), (BATCH,), generator=generator)]
            k = round(dictionary.largest ** float(torch.rand(1, generator=generator)))
            loss = (dictionary.restored(dictionary.latents(batch, k)) - batch).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        error = _error(dictionary, held_out)
        if error > best - GAIN:
            break
        best = error
    return dictionary


@torch.no_grad()
def _error(dictionary: TopK, values: Float[Tensor, "row unit"]) -> float:
    """The logarithm of the mean squared error, the mean over some k."""
    errors = [
        (dictionary.restored(dictionary.latents(values, k)) - values).square().mean() for k in dictionary.grid()[::4]
    ]
    return float(torch.stack(errors).log().mean())


@torch.no_grad()
def read_off(dictionary: TopK, values: Float[Tensor, "row unit"]) -> Fit:
    """What a dictionary needs, from held-out rows, all of them and without each group in turn."""
    member = nn.functional.one_hot(torch.arange(len(values)) % GROUPS, GROUPS).double()
    keep = torch.cat([torch.ones(len(values), 1, dtype=torch.float64), 1 - member], 1)  # (row, left_out)
    variance = keep.T @ (values - values.mean(0)).square().sum(1).double()
    grid = dictionary.grid()
    unexplained: list[Tensor] = []
    features: list[Tensor] = []
    for k in grid:
        latents = dictionary.latents(values, k)
        error = (dictionary.restored(latents) - values).square().sum(1).double()
        unexplained.append(keep.T @ error / variance)
        features.append(exp_entropy(keep.T @ latents.double()))
    curves = torch.stack(unexplained, 1), torch.stack(features, 1)  # (left_out, k)
    logs = torch.tensor(grid, dtype=torch.float64).log()
    pairs = [_crossing(error, logs, count) for error, count in zip(*curves, strict=True)]
    k, count = torch.tensor(pairs, dtype=torch.float64).T
    return Fit(k.exp(), count)


def _crossing(
    error: Float64[Tensor, " k"], logs: Float64[Tensor, " k"], features: Float64[Tensor, " k"]
) -> tuple[float, float]:
    """The logarithm of the k at which a tenth is left unexplained, and the features there; NaN if that is not reached;
    those of the smallest k if that explains more.
    """
    below: Bool[Tensor, " k"] = error <= UNEXPLAINED
    if not below.any():
        return math.nan, math.nan
    right = int(below.long().argmax())
    if right == 0:
        return float(logs[0]), float(features[0])
    share = float((error[right - 1] - UNEXPLAINED) / (error[right - 1] - error[right]))

    def between(ends: Sequence[float]) -> float:
        return ends[0] + share * (ends[1] - ends[0])

    return between(logs[right - 1 : right + 1].tolist()), between(features[right - 1 : right + 1].tolist())
