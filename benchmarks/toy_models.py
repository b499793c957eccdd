"""Toy models of superposition (Elhage et al. 2022): python -m benchmarks.toy_models [--seeds 3] [--only equal]

Sparse features of unequal or of equal importance pass through a bottleneck, x' = ReLU(W^T W x + b), and are to come out
again. Prints tables for docs/results/toy-models.md:

- planted geometries, whose feature dimensionalities are known exactly;
- 20 features in 5 dimensions, of importance 0.7^i, at seven densities: how many are represented (|W_i| > .5), the
  dimensions that each takes up, D* = m / |W|^2, and how much of the bottleneck they fill, the sum of D_i;
- 100 features in 10 dimensions, of equal importance: the plateau of antipodal pairs, where D* and D_i stay at 1/2;
- a null: random directions, and a bottleneck that was never trained, which show no plateau.

Feature dimensionality is that of `thalweg.causes.truth`. All densities are trained at once, as one batch of models.
"""

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from thalweg.causes.truth import dimensionality, feature_directions

REPRESENTED = 0.5  # the least length of a direction that counts as a feature's (Elhage et al. 2022)


@dataclass(frozen=True)
class Toy:
    """So many features in so many dimensions, with the importance of each relative to the one before, at these
    densities.
    """

    features: int
    dimensions: int
    decay: float
    densities: tuple[float, ...]
    steps: int
    batch: int = 1024
    learning_rate: float = 1e-3


UNEQUAL = Toy(20, 5, 0.7, (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001), steps=8000)
EQUAL = Toy(100, 10, 1.0, (1.0, 0.65, 0.425, 0.277, 0.181, 0.118, 0.077, 0.05), steps=5000)


def started(toy: Toy, seed: int) -> Float[Tensor, "model dimension feature"]:
    """The untrained weights of a model for each density: Xavier's normal initialisation."""
    generator = torch.Generator().manual_seed(seed)
    shape = len(toy.densities), toy.dimensions, toy.features
    return torch.randn(shape, generator=generator) * math.sqrt(2 / (toy.dimensions + toy.features))


def train(toy: Toy, seed: int) -> Float[Tensor, "model dimension feature"]:
    """The trained weights of a model for each density."""
    generator = torch.Generator().manual_seed(seed + 1_000_003)
    weights = started(toy, seed).requires_grad_()
    bias = torch.zeros(len(toy.densities), 1, toy.features, requires_grad=True)
    importance = toy.decay ** torch.arange(toy.features)
    density = torch.tensor(toy.densities)[:, None, None]
    optimiser = torch.optim.AdamW([weights, bias], lr=toy.learning_rate)
    shape = len(toy.densities), toy.batch, toy.features
    for _ in range(toy.steps):
        inputs = torch.rand(shape, generator=generator) * (torch.rand(shape, generator=generator) < density)
        outputs = torch.relu(inputs @ weights.mT @ weights + bias)
        loss = (importance * (outputs - inputs).square()).sum((0, 2)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return weights.detach()


def planted() -> dict[str, tuple[Float[Tensor, "feature dimension"], float]]:
    """Geometries whose features all have one dimensionality, and what it is."""

    def polygon(corners: int) -> Tensor:
        angles = 2 * math.pi * torch.arange(corners, dtype=torch.float64) / corners
        return torch.stack([angles.cos(), angles.sin()], 1).float()

    tetrahedron = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    square = polygon(4)
    turn = torch.tensor([[1.0, 1], [-1, 1]]) / math.sqrt(2)  # by an eighth
    height = torch.full((4, 1), math.sqrt(0.5))  # at which the eight corners are a tight frame
    antiprism = torch.cat([torch.cat([square, height], 1), torch.cat([square @ turn, -height], 1)])
    angles = 2 * math.pi / 9 * torch.outer(torch.arange(9), torch.arange(1, 3))
    harmonic = torch.cat([angles.cos(), angles.sin()], 1)  # nine vectors that are a tight frame of four dimensions
    return {
        "orthogonal": (torch.eye(3), 1.0),
        "antipodal pair": (torch.tensor([[1.0], [-1.0]]), 1 / 2),
        "triangle": (polygon(3), 2 / 3),
        "pentagon": (polygon(5), 2 / 5),
        "tetrahedron": (tetrahedron, 3 / 4),
        "square antiprism": (antiprism, 3 / 8),
        "7 in a plane": (polygon(7), 2 / 7),
        "9 in four dimensions": (harmonic, 4 / 9),
    }


def described(weights: Float[Tensor, "dimension feature"]) -> tuple[int, float, float, float]:
    """How many features are represented, the dimensions that each takes up, the median dimensionality of those that are
    represented, and the sum of all dimensionalities.
    """
    shares, lengths = dimensionality(weights.T), weights.norm(dim=0)
    shown = lengths > REPRESENTED
    median = float(shares[shown].median()) if shown.any() else math.nan
    return int(shown.sum()), len(weights) / float(lengths.square().sum()), median, float(shares.sum())


def recovered(weights: Float[Tensor, "dimension feature"], density: float, seed: int) -> float:
    """The sum of the dimensionalities when directions are not read off the weights, but found by regression of the
    bottleneck's values on the features, as in tasks whose features are known.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = 20_000, weights.shape[1]
    inputs = torch.rand(shape, generator=generator) * (torch.rand(shape, generator=generator) < density)
    return float(dimensionality(feature_directions(inputs @ weights.T, inputs)).sum())


def _mean(rows: Sequence[Sequence[float]]) -> list[float]:
    return torch.tensor(rows, dtype=torch.float64).mean(0).tolist()


def _print(toy: Toy, seeds: int) -> None:
    start = time.process_time()
    trained = [train(toy, seed) for seed in range(seeds)]
    print(f"\n{toy.features} features, {toy.dimensions} dimensions, importance {toy.decay:g}^i, {toy.steps:,} steps")
    print("\n| density | represented | D* | median D_i | sum D_i | sum D_i by regression |\n|---|---|---|---|---|---|")
    for place, density in enumerate(toy.densities):
        rows = [
            [*described(models[place]), recovered(models[place], density, seed)] for seed, models in enumerate(trained)
        ]
        count, share, median, total, found = _mean(rows)
        print(f"| {density:g} | {count:.1f} | {share:.3f} | {median:.3f} | {total:.2f} | {found:.2f} |")
    untrained = _mean([described(started(toy, seed)[0]) for seed in range(seeds)])
    print(f"| never trained | {untrained[0]:.1f} | {untrained[1]:.3f} | {untrained[2]:.3f} | {untrained[3]:.2f} | |")
    print(f"\nseeds 0 to {seeds - 1}, {time.process_time() - start:.0f} s of CPU")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--only", choices=("unequal", "equal"), default=None)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print("| geometry | dimensionality | exact |\n|---|---|---|")
    for name, (directions, exact) in planted().items():
        shares = dimensionality(directions)
        print(f"| {name} | {shares.min():.6f} to {shares.max():.6f} | {exact:.6f} |")
    random = torch.randn(100, 10, generator=torch.Generator().manual_seed(0))
    print(f"| null: 100 random directions in 10 dimensions, median | {dimensionality(random).median():.3f} | |")
    for toy in [toy for name, toy in (("unequal", UNEQUAL), ("equal", EQUAL)) if asked.only in (None, name)]:
        _print(replace(toy, steps=asked.steps or toy.steps), asked.seeds)


if __name__ == "__main__":
    main()
