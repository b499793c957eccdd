"""Whether a model is what every measurement takes for granted: found out with a few stimuli, before the long work.

A unit's value is taken to be a function of the stimulus alone. Some models break this: dropout that stays on, a
normalisation over the batch, a `view` that crops at random, a module that never leaves training mode. Their scores
would change with the seed or with the size of the batches, and nothing would show it. So a few stimuli are prepared
twice, and sent through the model together, together again, and in two batches, and every measured layer's values are
compared.

Arithmetic alone makes the values of two batches differ in their last digits, more so in half precision: a layer is
named only where the differences, root mean square over units and stimuli and each on the scale of its unit's spread,
are beyond what rounding explains (`NOISE`). From `GRAVE` on, a tenth of the spread, a score would mean little, and the
problem is one to refuse; below, one to say.

A check is a function from a `Specimen` to problems; `CHECKS` lists them. To check something else of a modality, write
such a function and add it there.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from thalweg.compute.devices import PRECISIONS, given, in_precision, placed
from thalweg.errors import ThalwegError
from thalweg.models.hooks import capture_activations
from thalweg.models.loading import quiet
from thalweg.models.pooling import pooled, units_on_axis_1
from thalweg.models.records import Layer
from thalweg.models.tracing import cannot_run
from thalweg.stimuli import modalities
from thalweg.stimuli.base import Stimuli

FEW = 4  # stimuli that a model is given
VIEWED = 8  # stimuli that are prepared twice: one that is flipped by chance half of the time stays hidden once in 256
NAMED = 3  # layers that a message names
NOISE = {"float32": 1e-3, "float16": 0.02, "bfloat16": 0.1}
NOISE_ON_CUDA = 0.02  # of float32: its convolutions may multiply in TF32, which has ten bits
GRAVE, TIMES_NOISE = 0.1, 3.0  # of a unit's spread; in half precision what rounding explains comes near it
FLAT = 0.1  # of a unit's size: its spread counts as this at least, for rounding grows with the size

Values = Mapping[str, Float[Tensor, "stimulus unit"]]  # of each layer


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a model: of what kind, a sentence for the user, and whether it is to be refused."""

    kind: str
    text: str
    grave: bool


@dataclass(frozen=True, eq=False)
class Specimen:
    """A model with a few stimuli and the layers that are to be measured."""

    model: nn.Module
    stimuli: Stimuli
    layers: tuple[Layer, ...]
    device: str
    precision: str

    @property
    def noise(self) -> float:
        """What rounding alone may make of a difference, on the scale of a unit's values."""
        tf32 = self.device != "cpu" and self.precision == "float32"
        return NOISE_ON_CUDA if tf32 else NOISE[self.precision]

    def values(self, inputs: Shaped[Tensor, "stimulus ..."]) -> Values:
        """Each layer's values, a row for each stimulus.

        Raises:
            ThalwegError: the model fails on the inputs.
        """
        return self._read(inputs, _unit_values)

    def values_up_to(self, inputs: Int[Tensor, "stimulus token"], end: int) -> Mapping[str, Float[Tensor, "row unit"]]:
        """Each layer's values at the tokens before `end`, a row for each stimulus and token; none of a layer that has
        not a place for each token.

        Raises:
            ThalwegError: the model fails on the inputs.
        """

        def read(output: Tensor, layer: Layer) -> Float[Tensor, "row unit"]:
            laid = units_on_axis_1(output, replace(layer, reduction="max"))
            if laid.ndim != 3 or laid.shape[2] != inputs.shape[1]:
                return torch.empty(0, 1)
            return laid[:, :, :end].movedim(1, 2).flatten(0, 1).float().cpu().clone()

        return self._read(inputs, read)

    def units(self, inputs: Int[Tensor, "stimulus token"]) -> dict[str, int]:
        """How many units each layer has on these inputs.

        Raises:
            ThalwegError: the model fails on the inputs.
        """
        counts = self._read(inputs, lambda output, layer: torch.empty(units_on_axis_1(output, layer).shape[1]))
        return {name: len(each) for name, each in counts.items()}

    def _read(self, inputs: Tensor, read: Callable[[Tensor, Layer], Tensor]) -> Mapping[str, Tensor]:
        """What a function of a layer's output and the layer makes of each layer, in one pass over the inputs."""
        layers = {layer.name: layer for layer in self.layers}
        batch = given(inputs, self.device, PRECISIONS[self.precision])
        with (
            torch.inference_mode(),
            capture_activations(self.model, self.layers, read=lambda name, output: read(output, layers[name])) as seen,
            quiet(),
        ):
            try:
                self.model(batch)
            except ThalwegError:
                raise
            except Exception as wrong:
                raise cannot_run(self.model, batch, wrong) from wrong
        return dict(seen)


Check = Callable[[Specimen], list[Problem]]


def problems(
    model: nn.Module,
    stimuli: Stimuli,
    layers: Sequence[Layer],
    *,
    device: str = "cpu",
    precision: str = "float32",
) -> list[Problem]:
    """The problems of a model's layers with these stimuli, grave or not.

    Raises:
        ThalwegError: the model fails on a few of the stimuli.
    """
    model = in_precision(placed(model.eval(), device), PRECISIONS[precision])
    specimen = Specimen(model, stimuli, tuple(layers), device, precision)
    found: list[Problem] = []
    for check in CHECKS:
        found += check(specimen)
        if any(problem.grave for problem in found):  # it would be met again by those that follow
            break
    return found


def refuse(problems: Sequence[Problem], model: str) -> None:
    """Refuse a model that has a grave problem.

    Raises:
        ThalwegError: one is grave; names all that are.
    """
    if grave := [problem.text for problem in problems if problem.grave]:
        raise ThalwegError(f"{model}: {'; '.join(grave)}")


def few(stimuli: Stimuli, most: int) -> Stimuli:
    """At most so many of the stimuli, evenly spread over all."""
    return stimuli.take(torch.linspace(0, len(stimuli) - 1, min(most, len(stimuli))).long())


def chance_and_batch(specimen: Specimen) -> list[Problem]:
    """The same stimuli prepared twice, run twice, and run in two batches."""
    shown = few(specimen.stimuli, VIEWED)
    inputs, again = shown.batch(slice(None)), shown.batch(slice(None))
    if inputs.shape != again.shape or not torch.equal(inputs.nan_to_num(), again.nan_to_num()):
        return [Problem("view", VIEW, grave=True)]
    inputs = few(shown, FEW).batch(slice(None))
    whole = specimen.values(inputs)
    if problem := _not_finite(whole):
        return [problem]
    repeated = _differences(whole, specimen.values(inputs))
    half = -(-len(inputs) // 2)
    parts = [specimen.values(part) for part in inputs.split(half)]
    cut = _differences(whole, {name: torch.cat([part[name] for part in parts]) for name in whole})
    training = _in_training(specimen.model)
    by_chance = _problem("chance", CHANCE, repeated, specimen.noise, training)
    if by_chance:
        return by_chance  # what differs by chance differs between batches too
    return _problem("batch", BATCH, cut, specimen.noise, training)


def _windows(specimen: Specimen, least: int) -> Int[Tensor, "stimulus token"] | None:
    """A few windows of so many tokens at least; None where the stimuli are none."""
    if not modalities.of(specimen.stimuli).tokens:
        return None
    inputs = few(specimen.stimuli, FEW).batch(slice(None))
    return inputs if inputs.ndim == 2 and inputs.shape[1] >= least else None


def tokens_for_units(specimen: Specimen) -> list[Problem]:
    """Windows of text and the same without their last token: no layer may have a unit for each token."""
    if (inputs := _windows(specimen, 3)) is None:
        return []
    whole, shorter = specimen.units(inputs), specimen.units(inputs[:, :-1])
    length = inputs.shape[1]
    if not (names := [name for name, units in whole.items() if (units, shorter[name]) == (length, length - 1)]):
        return []
    return [Problem("tokens", f"{_listed(names)} {TOKENS}", grave=True)]


def looks_ahead(specimen: Specimen) -> list[Problem]:
    """Windows of text whose second halves are exchanged: nothing may change in the first halves."""
    if (inputs := _windows(specimen, 2)) is None:
        return []
    end = inputs.shape[1] // 2
    changed = torch.cat([inputs[:, :end], inputs[:, end:].roll(1, 0).flip(1)], 1)
    before, after = specimen.values_up_to(inputs, end), specimen.values_up_to(changed, end)
    differences = {name: size for name, size in _differences(before, after).items() if before[name].numel()}
    if not (names := [name for name, size in differences.items() if size > specimen.noise]):
        return []
    return [Problem("ahead", f"the values of {_listed(names)} {AHEAD}", grave=True)]


CHECKS: tuple[Check, ...] = (tokens_for_units, chance_and_batch, looks_ahead)

TOKENS = (
    "would have a unit for each token: their units lie on another axis; name it, and where a unit's value is read: "
    "thalweg.Layer(NAME, unit_axis=2, reduction='last')"
)

VIEW = (
    "its `view` makes another input of the same picture each time; leave out what is drawn at random (crops, flips, "
    "colours), as for testing"
)
CHANCE = (
    "differ each time the same stimuli are given; a unit's value must not depend on chance: switch off what is "
    "drawn at random (functional dropout needs training=self.training), or leave the layer out with --layers"
)
AHEAD = (
    "at a token change with the tokens after it: the model looks ahead (an encoder such as BERT, or attention without "
    "its causal mask), so it does not predict the next token, and its strength would be false; name a causal model"
)
BATCH = (
    "differ when the same stimuli are given in other batches; a unit's value must depend on its stimulus alone: give "
    "normalisations running statistics, keep the batch on the first axis, or leave the layer out with --layers"
)


def _unit_values(output: Tensor, layer: Layer) -> Float[Tensor, "stimulus unit"]:
    """The values of a layer's units; a copy, which nothing that runs later changes."""
    return pooled(units_on_axis_1(output, layer), layer.reduction).float().cpu().clone()


def _not_finite(values: Values) -> Problem | None:
    """A layer without a single finite value has nothing to be measured."""
    if not (names := [name for name, its in values.items() if its.numel() and not its.isfinite().any()]):
        return None
    text = (
        f"the values of {_listed(names)} are NaN or infinite throughout; look at what comes before (a logarithm or "
        "root of negative numbers, weights or inputs that are not finite), or leave the layer out with --layers"
    )
    return Problem("finite", text, grave=True)


def _differences(values: Values, others: Values) -> dict[str, float]:
    """How far apart a layer's values are, on the scale of each unit."""
    return {name: _difference(its, others[name]) for name, its in values.items()}


def _difference(values: Float[Tensor, "stimulus unit"], others: Float[Tensor, "stimulus unit"]) -> float:
    """The root mean square over units and stimuli of the differences, each over its unit's standard deviation.

    A unit that hardly varies is taken on the scale of the middle unit: its values are all rounding. Values that are not
    finite must be so in both.
    """
    if values.shape != others.shape:
        return float("inf")
    values, others = values.double().nan_to_num(), others.double().nan_to_num()
    spread = torch.maximum(values.std(0, correction=0), FLAT * values.square().mean(0).sqrt())
    spread = spread.clamp_min(max(float(spread.median()), torch.finfo(torch.float32).tiny))
    return float(((values - others) / spread).square().mean().sqrt())


def _problem(kind: str, text: str, differences: Mapping[str, float], noise: float, training: str) -> list[Problem]:
    if not (names := [name for name, size in differences.items() if size > noise]):
        return []
    largest = max(differences[name] for name in names)
    share = f"they differ by {min(100 * largest, 999):.2g} % of a unit's spread"
    message = f"the values of {_listed(names)} {text}{training} ({share})"
    return [Problem(kind, message, grave=largest > max(GRAVE, TIMES_NOISE * noise))]


def _in_training(model: nn.Module) -> str:
    """A remark on a module that stays in training mode after `eval()`, if there is one."""
    names = [name or type(model).__name__ for name, module in model.named_modules() if module.training]
    return f"; {names[0]!r} stays in training mode after eval()" if names else ""


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{'layer' if len(names) == 1 else 'layers'} {', '.join(map(repr, names[:NAMED]))}{more}"
