"""Where a model's units are: its layers, found by running it once.

A model says which modules it is made of, but neither in which order they run, nor which nonlinearity comes after which
convolution, nor whether a module runs at all. So a small batch is sent through, and every module's turn is noted with
the tensor that it was given and the one that it gave. A module follows another when it is given the very tensor that
the other gave, unchanged: as a residual sum is a new tensor, or the old one changed in place, a rectifier behind it is
not taken for the rectifier of the last convolution.

Units are taken before the nonlinearity. Where a normalisation follows a convolution or a linear map, its output is
taken instead, for that is what the nonlinearity is given; where a module is both normalisation and activation, what its
activation is given. What a model computes by functions, not by modules, cannot be seen: a functional activation leaves
`Layer.nonlinearity` empty, and a rotated twin is then rotated before it.

Layers that run several times in a pass, or not at all, or whose output's first axis is not the batch (windows of an
image, tokens first) have no one value a unit and stimulus; they are left out, with the reason.
"""

import fnmatch
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from thalweg.errors import ThalwegError, unknown
from thalweg.models.hooks import INPUT
from thalweg.models.nonlinearities import as_function, is_activation
from thalweg.models.records import Layer
from thalweg.models.tracing import Turn, traced

CONVOLUTIONS = nn.modules.conv._ConvNd
NAMED = 5  # modules that a message names
NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


@dataclass(frozen=True)
class LayerInfo:
    """A layer that a model was found to have: where its units are taken, what computes them, and how many they are.

    `kind` is `convolution`, `linear` or `block` (a whole transformer block). `source` is the module that computes the
    units, which is not the layer's own where a normalisation follows.
    """

    layer: Layer
    kind: str
    units: int
    source: str = ""


def discover_layers(model: nn.Module, batch: Shaped[Tensor, "batch ..."]) -> tuple[LayerInfo, ...]:
    """The layers of a model whose units can be measured, in the order in which they run.

    Convolutions have their units on axis 1, linear maps and transformer blocks on the last.

    Raises:
        ThalwegError: the model cannot be run on the batch.
    """
    turns = traced(model, batch)
    return tuple(tap for tap, reason in _candidates(model, turns, len(batch)) if not reason)


def layers_left_out(model: nn.Module, batch: Shaped[Tensor, "batch ..."]) -> dict[str, str]:
    """The reason for each convolution, linear map and transformer block that cannot be measured, and for every other
    module with weights of its own, by name; normalisations, which have the units of another layer, do not count.
    """
    turns = traced(model, batch)
    candidates = [*_candidates(model, turns, len(batch))]
    reasons = {tap.source: reason for tap, reason in candidates if reason}
    known = {tap.source for tap, _ in candidates} | {tap.layer.name.removesuffix(INPUT) for tap, _ in candidates}
    for name, module in model.named_modules():
        if name not in known and not _is_norm(module) and _has_weights(module):
            reasons[name] = _why_not_found(module)
    return reasons


def nothing_found(model: nn.Module, batch: Shaped[Tensor, "batch ..."]) -> ThalwegError:
    """The error for a model without a layer that can be measured: what it has, and how a layer is named."""
    reasons = [f"{name or 'the model itself'} {reason}" for name, reason in layers_left_out(model, batch).items()]
    more = f" and {len(reasons) - NAMED} more" if len(reasons) > NAMED else ""
    has = (
        f"its modules with weights: {'; '.join(reasons[:NAMED])}{more}" if reasons else "it has no module with weights"
    )
    return ThalwegError(
        f"no convolution, linear map or transformer block of the model can be measured; {has}. Name the modules whose "
        "outputs hold units in the subject: thalweg.Subject(..., layers=(thalweg.Layer(NAME, unit_axis=1),)), where "
        "unit_axis is the axis of the output that they lie on"
    )


def listed(names: Sequence[str]) -> str:
    """Some names of modules, and how many more there are; "" is the model's own."""
    shown = [name or "the model itself" for name in names[:NAMED]]
    return ", ".join(shown) + (f" and {len(names) - NAMED} more:" if len(names) > NAMED else ":")


def _has_weights(module: nn.Module) -> bool:
    """Whether a module has weights of its own, quantised ones included."""
    has_parameters = any(True for _ in module.parameters(recurse=False))
    return has_parameters or _is_quantised(module) or isinstance(module, torch.jit.ScriptModule)


def _is_quantised(module: nn.Module) -> bool:
    return "quantized" in type(module).__module__ and hasattr(module, "weight")


def _why_not_found(module: nn.Module) -> str:
    """Why a module with weights is not among the layers."""
    kind = type(module).__name__
    if isinstance(module, nn.RNNBase):
        return (
            f"is recurrent ({kind}): its output holds a state for each step, not a convolution's or linear map's units"
        )
    if isinstance(module, nn.MultiheadAttention):
        return f"is an attention ({kind}) whose heads are no module's output"
    if _is_quantised(module):
        return f"is quantised ({kind}): its numbers are not those that were trained"
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        return f"looks its values up ({kind}) and computes none"
    if isinstance(module, torch.jit.ScriptModule):
        return "is compiled by TorchScript, in which no layer can be watched"
    return f"is of a class ({kind}) that is not known to hold units"


def select_layers(model: nn.Module, batch: Shaped[Tensor, "batch ..."], names: Sequence[str]) -> tuple[LayerInfo, ...]:
    """The taps of the modules of these names, as they are: no normalisation takes a convolution's place.

    For selections that were published. The units of linear maps, of normalisations over the last axis and of tokens are
    on the last axis, all others on axis 1.

    Raises:
        ThalwegError: a name that the model does not have, or a module that cannot be measured.
    """
    turns = traced(model, batch)
    modules = dict(model.named_modules())
    taps = []
    for name in names:
        if name not in modules:
            raise unknown("layer of the model", name, (known for known in modules if known))
        module_turns = [turn for turn in turns if turn.name == name]
        tap, reason = _tap(module_turns, turns, _kind(modules[name]), name, len(batch))
        if reason:
            raise ThalwegError(f"layer {name!r} {reason}; name a layer that runs once in a pass")
        taps.append(tap)
    return tuple(taps)


def matching_layers(
    taps: Sequence[LayerInfo], patterns: Sequence[str], *, without: Callable[[], Mapping[str, str]] = dict
) -> tuple[LayerInfo, ...]:
    """The taps whose layer, or the module that computes it, has a name that fits one of the patterns; all without any.

    Patterns are the shell's: `layer4.*`, `*conv2`, `blocks.[0-3].*`; a whole name fits whatever it has in it. `without`
    gives the layers that were left out,
    with the reason.

    Raises:
        ThalwegError: a pattern that nothing fits; near names are offered, or the reason is given.
    """
    for pattern in patterns:
        if not any(_fits(tap, pattern) for tap in taps):
            reasons = [f"layer {name!r} {reason}" for name, reason in without().items() if _matches(name, pattern)]
            if reasons:
                raise ThalwegError(f"no layer that {pattern!r} fits can be measured: {'; '.join(reasons[:3])}")
            raise unknown("layer", pattern, {name for tap in taps for name in _names(tap)})
    return tuple(tap for tap in taps if not patterns or any(_fits(tap, pattern) for pattern in patterns))


def sample_units(taps: Sequence[LayerInfo], n: int, seed: int) -> tuple[Layer, ...]:
    """The layers of `n` units drawn at random: first a layer, each as likely as any other, then a unit of it.

    A unit that was drawn already is drawn again, layer and all (Zimmermann, Klein & Brendel 2023, `sample_units.py` of
    their repository brendel-group/imi). So narrow layers are as well represented as wide ones.

    Raises:
        ThalwegError: there are fewer than `n` units.
    """
    if n > (total := sum(tap.units for tap in taps)):
        raise ThalwegError(f"{n} units were to be drawn from {len(taps)} layers that hold {total} units")
    generator = np.random.default_rng(seed)
    units: list[set[int]] = [set() for _ in taps]
    while sum(map(len, units)) < n:
        index = int(generator.integers(len(taps)))
        units[index].add(int(generator.integers(taps[index].units)))
    return tuple(
        replace(tap.layer, unit_ids=tuple(sorted(unit_ids)))
        for tap, unit_ids in zip(taps, units, strict=True)
        if unit_ids
    )


def _names(tap: LayerInfo) -> set[str]:
    """What a user may call a layer."""
    return {tap.layer.name, tap.layer.name.removesuffix(INPUT), tap.source}


def _fits(tap: LayerInfo, pattern: str) -> bool:
    return any(_matches(name, pattern) for name in _names(tap))


def _matches(name: str, pattern: str) -> bool:
    return name == pattern or fnmatch.fnmatchcase(name, pattern)


def _candidates(model: nn.Module, turns: list[Turn], rows: int) -> Iterator[tuple[LayerInfo, str]]:
    """Every convolution, linear map and transformer block with the reason why it is left out, if it is."""
    modules = {name: module for name, module in model.named_modules() if _kind(module)}
    ran = [name for name in dict.fromkeys(turn.name for turn in turns) if name in modules]
    for name in [*ran, *(name for name in modules if name not in ran)]:
        kind = _kind(modules[name])
        module_turns = [turn for turn in turns if turn.name == name]
        if kind == "block" and module_turns and not _keeps_shape(module_turns[0]):
            continue
        if kind != "block" and len(module_turns) == 1:
            norm = _next(module_turns[0], turns)
            if norm is not None and _is_norm(norm.module):
                yield _normalised(norm, turns, kind, name, rows)
                continue
        yield _tap(module_turns, turns, kind, name, rows)


def _kind(module: nn.Module) -> str:
    if isinstance(module, CONVOLUTIONS):
        return "convolution"
    if isinstance(module, nn.Linear):
        return "linear"
    attends = re.compile("att(ention|n)", re.IGNORECASE)
    named = type(module).__name__
    inside = any(attends.search(type(child).__name__) for child in module.children())
    return "block" if inside and (not attends.search(named) or "block" in named.lower()) else ""


def _keeps_shape(turn: Turn) -> bool:
    """Whether a module takes in and gives tokens of one width, as a transformer block does."""
    return (
        turn.gave is not None
        and turn.given is not None
        and turn.gave.ndim == 3
        and turn.gave.shape[-1] == turn.given.shape[-1]
    )


def _normalised(norm: Turn, turns: list[Turn], kind: str, source: str, rows: int) -> tuple[LayerInfo, str]:
    """The tap behind the normalisation that follows a convolution or a linear map."""
    module_turns = [turn for turn in turns if turn.name == norm.name]
    inside = [
        turn
        for turn in turns
        if turn.name.startswith(f"{norm.name}.") and is_activation(turn) and len(module_turns) == 1
    ]
    if not inside:
        return _tap(module_turns, turns, kind, source, rows)
    activation = inside[0]
    at_input = Turn(f"{activation.name}{INPUT}", activation.module, None, 0, activation.given)
    tap, reason = _tap([at_input], turns, kind, source, rows)
    return replace(tap, layer=replace(tap.layer, nonlinearity=as_function(activation.module))), reason


def _tap(module_turns: list[Turn], turns: list[Turn], kind: str, source: str, rows: int) -> tuple[LayerInfo, str]:
    """The tap at a module's output, or the reason why there is none."""
    nowhere = LayerInfo(Layer(source), kind, 0, source)
    if len(module_turns) != 1:
        return nowhere, f"ran {len(module_turns)} times in one pass" if module_turns else "did not run in the pass"
    turn = module_turns[0]
    if turn.gave is None or turn.gave.ndim < 2:
        return nowhere, "gave no tensor of shape (batch, unit, ...)"
    if turn.gave.is_complex():
        return nowhere, "gave complex numbers, and a unit has one real value"
    if turn.gave.shape[0] != rows:
        return nowhere, f"gave {turn.gave.shape[0]} rows for a batch of {rows}"
    axis = _units_axis(turn, kind)
    following = _next(turn, turns)
    nonlinearity = as_function(following.module) if following is not None and is_activation(following) else None
    layer = Layer(turn.name, "max", nonlinearity, axis)
    return LayerInfo(layer, kind, turn.gave.shape[axis], source), ""


def _units_axis(turn: Turn, kind: str) -> int:
    """The axis that holds the units: the last one for linear maps, tokens, and norms over the last axis."""
    assert turn.gave is not None
    over_last = isinstance(turn.module, nn.LayerNorm) and not type(turn.module).__name__.endswith("2d")
    last = kind in ("linear", "block") or over_last or (turn.gave.ndim == 3 and kind != "convolution")
    return turn.gave.ndim - 1 if last else 1


def _next(turn: Turn, turns: list[Turn]) -> Turn | None:
    """The next turn that is given what this one gave, unchanged; modules that pass on what they are given don't count.

    Containers are given it too: what counts is the module inside that works on it.
    """
    for later in turns[turns.index(turn) + 1 :] if turn in turns else []:
        if later.given is turn.gave and turn.gave is not None and _works(later):
            return later if later.given_version == turn.gave_version else None
    return None


def _works(turn: Turn) -> bool:
    alone = not any(True for _ in turn.module.children())
    passes_on = turn.gave is turn.given and turn.gave_version == turn.given_version
    return (alone and not passes_on) or isinstance(turn.module, (CONVOLUTIONS, nn.Linear)) or _is_norm(turn.module)


def _is_norm(module: nn.Module) -> bool:
    """Whether a module normalises, and at most activates besides."""
    named = "norm" in type(module).__name__.lower()
    inside = list(module.children())
    return isinstance(module, NORMS) or (
        named
        and not any(isinstance(part, (CONVOLUTIONS, nn.Linear, nn.Sequential)) or _is_norm(part) for part in inside)
    )


def summary(taps: Sequence[LayerInfo]) -> str:
    """How many layers and units there are of each kind."""
    layers, units = Counter(tap.kind for tap in taps), Counter[str]()
    for tap in taps:
        units[tap.kind] += tap.units
    return ", ".join(f"{layers[kind]} {kind} layers ({units[kind]:,} units)" for kind in layers) or "no layers"
