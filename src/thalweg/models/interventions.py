"""Interventions: a model runs with the values of a layer changed, for as long as a context lasts.

A layer is anything that `measure` accepts: a module's output, or with ":in" after its name its input. What is changed
are its neurons (all, or some `units`), or its coordinates along some `directions`; places that the layer skips are left
alone. Values come with their neurons on the last axis: (batch, *place, neuron).
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace as with_fields
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from thalweg.errors import ThalwegError, unknown
from thalweg.models.hooks import capture_activations, replacing_values
from thalweg.models.pooling import units_on_axis_1
from thalweg.models.records import Layer

Ablation = Literal["zero", "mean", "resample"]
ABLATIONS = ("zero", "mean", "resample")
Change = Callable[[Float[Tensor, "*row unit"]], Float[Tensor, "*row unit"]]
Units = Sequence[int] | Int[Tensor, " unit"]
Directions = Float[Tensor, "direction neuron"]


@contextmanager
def replace(
    model: nn.Module,
    layer: Layer | str,
    change: Change,
    *,
    units: Units | None = None,
    directions: Directions | None = None,
) -> Generator[None]:
    """Run the model with what a function makes of a layer's values in their place.

    Args:
        model: any module.
        layer: where; a name stands for a layer with its units on axis 1.
        change: from values (..., unit) to values of the same shape. It is given all neurons, or `units` alone, or the
            coordinates along `directions`.
        units: indices of neurons.
        directions: linearly independent rows (direction, neuron). A value x has the coordinates c = x D⁺ (least
            squares); it becomes x + (change(c) - c) D, so what is orthogonal to all directions stays.

    Raises:
        ThalwegError: No such layer, unit or neuron, or `change` returns another shape.

    Example:
        >>> import torch
        >>> from thalweg.models import interventions
        >>> model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.ReLU())
        >>> with interventions.replace(model, "0", lambda values: -values, units=[1]):
        ...     model(torch.tensor([[2.0, -3.0]]))
        tensor([[2., 3.]])
    """
    layer = Layer(layer) if isinstance(layer, str) else layer
    if units is not None and directions is not None:
        raise ThalwegError("an intervention is on units or on directions; both were given")

    def changed(values: Tensor) -> Tensor:
        if directions is not None:
            return _along(values, directions, change, layer.name)
        if units is not None:
            return _at(values, units, change, layer.name)
        return _checked(change(values), values, layer.name)

    with replacing_values(model, layer, changed):
        yield


@contextmanager
def ablate(
    model: nn.Module,
    layer: Layer | str,
    by: Ablation = "zero",
    *,
    values: Float[Tensor, "row neuron"] | None = None,
    units: Units | None = None,
    directions: Directions | None = None,
    seed: int = 0,
) -> Generator[None]:
    """Run the model with values of a layer taken away.

    Args:
        model: any module.
        layer: where, as for `replace`.
        by: `zero` puts zeros; `mean` the mean of `values`; `resample` rows of `values` drawn with replacement, one for
            each place of each stimulus, so that every unit keeps its distribution.
        values: what the layer does on reference stimuli, as `values_of` returns it.
        units: Indices of neurons, as for `replace`.
        directions: As for `replace`; `values` are projected on them.
        seed: of the rows that are drawn.

    Raises:
        ThalwegError: As `replace`; no such ablation, or `values` are missing.

    Example:
        >>> import torch
        >>> from thalweg.models import interventions
        >>> model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.ReLU())
        >>> with interventions.ablate(model, "0", "mean", values=torch.tensor([[1.0, 2.0], [3.0, 4.0]])):
        ...     model(torch.zeros(1, 2))
        tensor([[2., 3.]])
    """
    if by not in ABLATIONS:
        raise unknown("ablation", by, ABLATIONS)
    if by != "zero" and values is None:
        raise ThalwegError(f"ablation by {by!r} takes `values`, those of the layer on reference stimuli (`values_of`)")
    change: Change = torch.zeros_like
    if by != "zero" and values is not None:
        known = _in_terms_of(values, units, directions)
        change = _mean_of(known) if by == "mean" else _drawn_from(known, seed)
    with replace(model, layer, change, units=units, directions=directions):
        yield


@contextmanager
def patch(
    model: nn.Module,
    layer: Layer | str,
    values: Float[Tensor, "*row unit"],
    *,
    units: Units | None = None,
    directions: Directions | None = None,
) -> Generator[None]:
    """Run the model with values of a layer from another run.

    Args:
        model: any module.
        layer: where, as for `replace`.
        values: what is put there, in a shape that can be expanded to the layer's (batch, *place, unit); with `units` or
            `directions`, the values of these alone.
        units: indices of neurons, as for `replace`.
        directions: as for `replace`.

    Raises:
        ThalwegError: As `replace`, or the shapes do not fit.

    Example:
        >>> import torch
        >>> from thalweg.models import interventions
        >>> model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.ReLU())
        >>> with interventions.patch(model, "0", torch.tensor([5.0, 6.0])):
        ...     model(torch.zeros(1, 2))
        tensor([[5., 6.]])
    """
    with replace(model, layer, lambda now: _expanded(values, now), units=units, directions=directions):
        yield


@contextmanager
def add(
    model: nn.Module, layer: Layer | str, vector: Float[Tensor, "*row neuron"], *, scale: float = 1.0
) -> Generator[None]:
    """Run the model with a vector added to a layer's values, at all places (steering).

    Args:
        model: any module.
        layer: where, as for `replace`.
        vector: (neuron), or any shape that can be expanded to the layer's (batch, *place, neuron).
        scale: what the vector is multiplied by.

    Raises:
        ThalwegError: As `replace`, or the shapes do not fit.

    Example:
        >>> import torch
        >>> from thalweg.models import interventions
        >>> model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.ReLU())
        >>> with interventions.add(model, "0", torch.tensor([1.0, 2.0]), scale=3.0):
        ...     model(torch.zeros(1, 2))
        tensor([[3., 6.]])
    """
    with replace(model, layer, lambda now: now + scale * _expanded(vector, now)):
        yield


def values_of(model: nn.Module, layer: Layer | str, inputs: Tensor) -> Float[Tensor, "row neuron"]:
    """The values of a layer on some inputs.

    Args:
        model: Any module.
        layer: Where, as for `replace`.
        inputs: What the model is given.

    Returns:
        A row (neuron) for each place of each input; places that the layer skips are left out.

    Example:
        >>> import torch
        >>> from thalweg.models import interventions
        >>> model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.ReLU())
        >>> interventions.values_of(model, "0", torch.tensor([[2.0, -3.0]]))
        tensor([[ 2., -3.]])
    """
    layer = Layer(layer) if isinstance(layer, str) else layer
    with torch.inference_mode(), capture_activations(model, [layer]) as captured:
        model(inputs)
        output = units_on_axis_1(captured[layer.name], with_fields(layer, reduction="max"))  # all its places
    return output.movedim(1, -1).flatten(0, -2).clone()


def _at(values: Tensor, units: Units, change: Change, layer: str) -> Tensor:
    chosen = torch.as_tensor(units, device=values.device)
    if len(chosen) and not 0 <= int(chosen.min()) <= int(chosen.max()) < values.shape[-1]:
        wrong = int(chosen.max()) if int(chosen.min()) >= 0 else int(chosen.min())
        raise ThalwegError(f"layer {layer!r} has {values.shape[-1]} neurons, and no neuron {wrong}")
    before = values[..., chosen]
    after = _checked(change(before), before, layer)
    return values.index_copy(-1, chosen, after.to(values.dtype))


def _along(values: Tensor, directions: Tensor, change: Change, layer: str) -> Tensor:
    if directions.shape[1] != values.shape[-1]:
        raise ThalwegError(f"layer {layer!r} has {values.shape[-1]} neurons; directions have {directions.shape[1]}")
    rows = directions.to(values)
    before = _coordinates(values, rows)
    after = _checked(change(before), before, layer)
    changed: Tensor = values + (after - before) @ rows
    return changed


def _in_terms_of(values: Tensor, units: Units | None, directions: Directions | None) -> Tensor:
    """Values of neurons as those of some units, or as coordinates along directions."""
    if directions is not None:
        return _coordinates(values, directions)
    return values if units is None else values[:, torch.as_tensor(units)]


def _mean_of(rows: Tensor) -> Change:
    mean = rows.mean(0)
    return lambda current: mean.to(current).expand_as(current)


def _drawn_from(rows: Tensor, seed: int) -> Change:
    generator = torch.Generator().manual_seed(seed)

    def drawn(current: Tensor) -> Tensor:
        indices = torch.randint(len(rows), current.shape[:-1], generator=generator)
        return rows[indices.to(rows.device)].to(current)

    return drawn


def _coordinates(values: Tensor, directions: Tensor) -> Tensor:
    """Least-squares coordinates of values along directions; the inverse is made in float32, for half has none."""
    made: Tensor = values @ torch.linalg.pinv(directions.to(values).float()).to(values.dtype)
    return made


def _checked(made: Tensor, before: Tensor, layer: str) -> Tensor:
    if made.shape != before.shape:
        raise ThalwegError(
            f"layer {layer!r}: values of shape {tuple(before.shape)} became {tuple(made.shape)}; the same was expected"
        )
    return made


def _expanded(values: Tensor, now: Tensor) -> Tensor:
    try:
        return values.to(now).expand_as(now)
    except RuntimeError as wrong:
        raise ThalwegError(
            f"values of shape {tuple(values.shape)} cannot take the place of values of shape {tuple(now.shape)}"
        ) from wrong
