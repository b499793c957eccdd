"""Superposition, memorisation and double descent (Henighan et al. 2023): python -m benchmarks.double_descent

Sparse features pass through a bottleneck and are to come out again, x' = ReLU(W^T W x + b), as in
`benchmarks.toy_models`, but a network is trained on a fixed set of T points of length 1. With few points it keeps the
points and not the features: each takes m / T of a dimension,

    D_X(t) = |h_t|^2 / sum over s of (h_t / |h_t| . h_s)^2        with h = W x, so that D_X T / m is 1.

With many points it learns features; between lies a peak of the test loss. Prints the table of
docs/results/toy-models.md. A loss is the sum over features and the mean over points: 1 is what saying nothing costs.
"""

import argparse
import math
import time
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

SIZES = (5, 10, 30, 100, 300, 1000, 3000, 10_000)


@dataclass(frozen=True)
class Setting:
    """So many features at a density, in so many dimensions, and how training goes: full batches, a learning rate that
    rises linearly and falls as a cosine.
    """

    features: int = 1000
    dimensions: int = 2
    density: float = 0.01
    steps: int = 3000
    learning_rate: float = 1e-2
    warm_up: float = 0.05
    decay: float = 1e-2


@dataclass(frozen=True)
class Outcome:
    """The losses on the training set and on new points, and the median D_X T / m of the training points."""

    train: float
    test: float
    share: float


def points(setting: Setting, count: int, generator: torch.Generator) -> Float[Tensor, "point feature"]:
    """Sparse points of length 1; one without any feature is drawn one."""
    shape = count, setting.features
    values = torch.rand(shape, generator=generator) * (torch.rand(shape, generator=generator) < setting.density)
    empty = (values == 0).all(1)
    values[empty, torch.randint(setting.features, (int(empty.sum()),), generator=generator)] = 1.0
    return values / values.norm(dim=1, keepdim=True)


def point_dimensionality(hidden: Float[Tensor, "point dimension"]) -> Float[Tensor, " point"]:
    """The share of a dimension that each point takes up: D_X."""
    lengths = hidden.norm(dim=1)
    along = (hidden / lengths.clamp_min(1e-12)[:, None]) @ (hidden.T @ hidden)  # sums over the other points
    return lengths.square() / (along * hidden).sum(1).div(lengths.clamp_min(1e-12)).clamp_min(1e-12)


def trained(setting: Setting, count: int, seed: int, *, n_test: int = 2000) -> Outcome:
    """Train on so many points, and weigh what came out."""
    generator = torch.Generator().manual_seed(seed)
    shown, new = points(setting, count, generator), points(setting, n_test, generator)
    scale = math.sqrt(2 / (setting.features + setting.dimensions))
    weights = (torch.randn(setting.dimensions, setting.features, generator=generator) * scale).requires_grad_()
    bias = torch.zeros(setting.features, requires_grad=True)
    optimiser = torch.optim.AdamW([weights, bias], lr=setting.learning_rate, weight_decay=setting.decay)

    def loss_on(values: Tensor) -> Tensor:
        outputs = torch.relu(values @ weights.T @ weights + bias)
        return (outputs - values).square().sum(1).mean()

    rising = max(1, round(setting.warm_up * setting.steps))
    for step in range(setting.steps):
        done = (step - rising) / max(1, setting.steps - rising)
        rate = (step + 1) / rising if step < rising else 0.5 + 0.5 * math.cos(math.pi * done)
        optimiser.param_groups[0]["lr"] = setting.learning_rate * rate
        loss = loss_on(shown)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        share = point_dimensionality(shown @ weights.T).median() * count / setting.dimensions
        return Outcome(float(loss_on(shown)), float(loss_on(new)), float(share))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=Setting.steps)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    setting = Setting(steps=asked.steps)
    print("| training points | train loss | test loss | gap | median D_X T / m |\n|---|---|---|---|---|", flush=True)
    for count in asked.sizes:
        end = trained(setting, count, asked.seed)
        print(
            f"| {count:,} | {end.train:.3f} | {end.test:.3f} | {end.test - end.train:.3f} | {end.share:.3f} |",
            flush=True,
        )
    print(f"\n{setting}, seed {asked.seed}, {time.process_time():.0f} s of CPU")


if __name__ == "__main__":
    main()
