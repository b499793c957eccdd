"""One network from its plan to its numbers: it is trained, its units are scored, and its mediators measured."""

from typing import Any

import polars as pl
import torch

from thalweg.causes.plan import NetworkPlan
from thalweg.causes.rendering import make_renderer
from thalweg.causes.task import Task, make_task
from thalweg.causes.training import Asked, Trained, ask, overfitting, train
from thalweg.causes.truth import (
    best_feature,
    feature_directions,
    mean_dimensionality,
    silent,
    single_feature_score,
)

POOL = 4000  # new stimuli that units are scored on
STRENGTH = 8000  # new stimuli that losses are taken on
OFFSET = 10_000  # from a network's seed to that of its new stimuli


def measure_network(plan: NetworkPlan, *, task_seed: int = 0) -> tuple[dict[str, Any], pl.DataFrame]:
    """Train and measure one network.

    Args:
        plan: The network.
        task_seed: Of the images' strokes: the task, which all networks share.

    Returns:
        The network's row, and the rows of its units.
    """
    task = make_task()
    renderer = make_renderer(plan.modality, task.n_latents, task_seed)
    trained = train(plan, task, renderer)
    generator = torch.Generator().manual_seed(plan.seed + OFFSET)
    new = ask(task, renderer, POOL, plan.density, 0.0, generator)
    clean = ask(task, renderer, STRENGTH, plan.density, 0.0, generator)
    noisy = ask(task, renderer, STRENGTH, plan.density, plan.label_noise, generator)
    units, layers = measure_units(trained, new, task, seed=plan.seed)
    scores = units.group_by("layer", maintain_order=True).agg(pl.col("crisp", "r2").drop_nans().mean())
    row = {
        "n_parameters": sum(weight.numel() for weight in trained.network.parameters()),
        **overfitting(trained, plan, noisy, clean),
        "dimensionality": sum(layers) / len(layers),
        "crisp": scores["crisp"].mean(),
        "r2": scores["r2"].mean(),
        "n_units": len(units),
        "n_silent": int(units["crisp"].is_nan().sum()),
    }
    return {name: float("nan") if value is None else value for name, value in row.items()}, units


@torch.no_grad()
def measure_units(trained: Trained, new: Asked, task: Task, *, seed: int) -> tuple[pl.DataFrame, list[float]]:
    """The rows of a network's units, and the mean feature dimensionality of each layer."""
    features, names = new.draw.features, task.feature_names
    rows: list[pl.DataFrame] = []
    layers: list[float] = []
    hidden = trained.network.hidden(new.shown)
    sizes = [values.shape[1] for values in hidden]
    scores = single_feature_score(torch.cat(hidden, 1), features, seed=seed).split(sizes)  # all layers at once: faster
    for layer, (values, crisp) in enumerate(zip(hidden, scores, strict=True)):
        r2, best = best_feature(values, features)
        layers.append(mean_dimensionality(feature_directions(values, features)))
        rows.append(
            pl.DataFrame(
                {
                    "layer": layer,
                    "unit": range(values.shape[1]),
                    "crisp": crisp.masked_fill(silent(values), torch.nan).numpy(),
                    "r2": r2.numpy(),
                    "feature": [
                        "" if quiet else names[place]
                        for place, quiet in zip(best.tolist(), silent(values).tolist(), strict=True)
                    ],
                    "density": (values > 0).float().mean(0).numpy(),
                }
            )
        )
    return pl.concat(rows), layers
