"""One model that exists already, measured: the same tables and the same report as a survey of one rung."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from thalweg import bases, subjects
from thalweg.bases.train_dictionary import Recipe, batch_for, check_request, train_for_subject
from thalweg.compute.devices import PRECISIONS, given, in_precision
from thalweg.downloads.missing import fetches_on_request
from thalweg.errors import ThalwegError
from thalweg.ladders.published import STRENGTH
from thalweg.models import checks, rerandomised, tracing
from thalweg.models import layers as models_layers
from thalweg.models.hooks import capture_activations
from thalweg.models.layers import LayerInfo, discover_layers, layers_left_out, listed, nothing_found, sample_units
from thalweg.models.loading import loaded, quiet, weights_of
from thalweg.models.pooling import units_on_axis_1
from thalweg.models.records import Basis, Evaluate, Ladder, Layer, Subject
from thalweg.models.rerandomised import WITH_RERANDOMISED
from thalweg.observers.base import Observer
from thalweg.pipeline.settings import Settings, settings_of
from thalweg.pipeline.survey import survey, usual_directory
from thalweg.progress import Progress, Silent
from thalweg.recording.readout import NEURONS, RANDOM
from thalweg.runs.directory import read_record
from thalweg.runs.run import Run
from thalweg.stimuli import corpus, modalities
from thalweg.stimuli.base import Splits, Stimuli, halves, viewed
from thalweg.stimuli.checks import check_stimuli
from thalweg.stimuli.modality import Modality
from thalweg.strength import language
from thalweg.strength.published import published
from thalweg.subjects.language_layers import kind_of
from thalweg.subjects.stimuli import fitting, splits_of_source

DRAWN = {  # what the units of each basis are called
    NEURONS: "units",
    RANDOM: "random directions",
    "pca": "principal components",
    "sae": "latents",
    "sae-active": "active latents",
}
SHARDS = 8  # of one model on a CPU: for more cores, more can be asked for


@fetches_on_request
def measure(
    subject: str | Subject,
    stimuli: str | Path | Stimuli | None = None,
    *,
    layers: Sequence[str] | str = (),
    units: int = 0,
    basis: str = "neurons",
    length: int = corpus.LENGTH,
    trust_remote_code: bool = False,
    device_map: str | None = None,
    observer: Sequence[str | Observer] | str | Observer = (),
    out: str | Path | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Run:
    """Measure the units of one model over the user's stimuli.

    Args:
        subject: The model, by name (`torchvision:resnet50`, `hf:gpt2`, `FILE.py:NAME`) or as a record.
        stimuli: A file or folder, or a set of stimuli; without it, a language model reads the English that thalweg
            brings along.
        layers: Patterns of layers' names, as "layer4.*"; by default all layers are measured.
        units: How many units of the basis are drawn in all, each from a layer drawn at random; 0 means every unit.
        basis: What the units are: `neurons`, `random`, `pca`, `sae:DICTIONARY` or `sae-active:DICTIONARY`, where a
            dictionary is a folder, RELEASE/ID of SAELens or OWNER/NAME of the hub.
        length: Tokens in a window of text.
        trust_remote_code: Whether code that a repository of the hub brings along may run.
        device_map: "auto" spreads a language model over several devices.
        observer: As in `survey`.
        out: The run directory; by default `runs/` and the subject's name.
        progress: As in `survey`.
        **settings: As in `survey`.

    Returns:
        The finished run, of a ladder with one rung: it has scores and no verdict.

    Raises:
        ThalwegError: A mistake that the user can mend, before the long work.

    Example:
        `subject` and `images` are those of the tutorial "A model of your own".

        >>> import thalweg
        >>> from model import images, subject
        >>> pool = images.take(slice(800, None))
        >>> run = thalweg.measure(subject, pool, observer="hog", workers=1, out="runs/digits")
        >>> run.models["control"].to_list()
        ['trained', 'untrained', 'rotated', 'rerandomised']
    """
    checked = settings_of({**settings, "seeds": 1})
    loading: dict[str, Any] = {"trust_remote_code": trust_remote_code, "device_map": device_map}
    model = subjects.given(subject, **loading)
    patterns = [layers] if isinstance(layers, str) else list(layers)
    choice = Choice(patterns, units, bases.find(basis))
    splits = stimuli_of(model, stimuli, checked, length=length)
    measured = _measured_units(model, splits.pool, choice, checked, progress or Silent())
    ladder = replace(
        _ladder(replace(model, layers=measured.layers), splits, choice.basis, measured),
        call=_call(subject, stimuli, layers=patterns, units=units, basis=basis, length=length),
        stimuli_from=_stimuli_from(subject, stimuli, length),
    )
    directory = Path(out) if out else usual_directory([ladder])
    alone: dict[str, Any] = {
        "seeds": 1,
        "shards": checked.shards or shards_before(directory) or _shards(splits.pool, checked),
    }
    return survey(ladder, out=out, observer=observer, progress=progress, **{**settings, **alone})


@dataclass(frozen=True, eq=False)
class Choice:
    """Which units of a model are measured."""

    patterns: list[str]  # of layers' names; none: all layers
    units: int  # drawn in all; 0: every unit
    basis: Basis | None  # None: neurons


@dataclass(frozen=True, eq=False)
class Measured:
    """The layers that are measured, how their units were drawn (empty: all are measured), warnings, and twins."""

    layers: tuple[Layer, ...]
    drawn: str
    notes: tuple[str, ...]
    controls: tuple[str, ...] = WITH_RERANDOMISED  # the twins that can be made


def _measured_units(
    model: Subject, stimuli: Stimuli, choice: Choice, settings: Settings, progress: Progress
) -> Measured:
    """The layers that are measured, and which of their units.

    Raises:
        ThalwegError: as for `measure`.
    """
    weights_of(model)  # a file that is missing shows before the model is loaded
    network = in_precision(loaded(model), PRECISIONS[settings.precision])
    pool = viewed(stimuli, model.view)
    batch = given(pool.batch(torch.arange(2)), "cpu", PRECISIONS[settings.precision])
    without = dict if model.layers else partial(layers_left_out, network, batch)
    chosen = models_layers.matching_layers(layers_of(model, network, batch), choice.patterns, without=without)
    named, device = bool(choice.patterns), settings.resolved_device
    if choice.basis is not None:
        most = settings.directions
        chosen = _in_basis(choice.basis, network, chosen, pool, named=named, device=device, most=most)
    layers, drawn = _draw(chosen, choice, settings.seed) if choice.units else (tuple(tap.layer for tap in chosen), "")
    notes = _checked(model.name, network, pool, layers, settings)
    if not named and (unmeasured := without()):
        names = listed(list(unmeasured)).rstrip(":")
        progress.say(f"not among the layers: {names}; `thalweg layers` says why")
    controls, why = _twins(network, settings.twins)
    return Measured(layers, drawn, (*notes, *why), controls)


def _twins(network: nn.Module, asked: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The twins of a model that can be made, and a warning where one cannot.

    Raises:
        ThalwegError: one that cannot was asked for.
    """
    why = rerandomised.why_not(network)
    if why and set(asked) & set(rerandomised.DERIVED):
        raise ThalwegError(why)
    if not why:
        return WITH_RERANDOMISED, ()
    made = tuple(twin for twin in WITH_RERANDOMISED if twin not in rerandomised.DERIVED)
    return made, (f"there is no re-randomised twin: {why.partition(';')[0]}",)


def _in_basis(
    basis: Basis,
    network: nn.Module,
    chosen: Sequence[LayerInfo],
    pool: Stimuli,
    *,
    named: bool,
    device: str,
    most: int,
) -> tuple[LayerInfo, ...]:
    """The layers that have units in a basis, with how many they have in it.

    Raises:
        ThalwegError: a dictionary that belongs to no layer of the model, or a layer that has none.
    """
    layers = bases.layers_for(basis, network, [tap.layer for tap in chosen], pool, named=named, device=device)
    counts = bases.unit_counts(basis, network, layers, pool, device=device, most=most)
    return tuple(LayerInfo(layer, basis.name, counts[layer.name], layer.name) for layer in layers)


def _draw(chosen: Sequence[LayerInfo], choice: Choice, seed: int) -> tuple[tuple[Layer, ...], str]:
    """The layers with the units drawn from them, and a sentence on that.

    In a basis only their number is settled here: how many principal components there are shows when they are fitted,
    and the rotated twin has directions of the layer's neurons. Each draws its own, by the seed.
    """
    layers = sample_units(chosen, choice.units, seed)
    total = sum(tap.units for tap in chosen)
    kind = DRAWN[choice.basis.name if choice.basis else NEURONS]
    if choice.basis is not None:
        layers = tuple(replace(layer, unit_ids=(), max_units=len(layer.unit_ids)) for layer in layers)
    return layers, f"{choice.units:,} of {total:,} {kind} are measured, drawn at random"


def _ladder(model: Subject, splits: Splits, basis: Basis | None, measured: Measured) -> Ladder:
    """The ladder of one rung that a model makes."""
    return Ladder(
        name=model.name,
        rungs=(replace(model.rung(), basis=basis),),
        splits=lambda _source, _seed: splits,
        description="; ".join(filter(None, ("one model that exists already", measured.drawn))),
        modality=model.modality,
        evaluate=evaluator(model),
        strength=modalities.of(model).strength or STRENGTH,
        controls=measured.controls,
        notes=(*model.notes, *measured.notes),
    )


def _checked(
    name: str, network: nn.Module, pool: Stimuli, layers: Sequence[Layer], settings: Settings
) -> tuple[str, ...]:
    """Warnings on the units that are to be measured.

    Raises:
        ThalwegError: its units have no one value for a stimulus, or none that is finite.
    """
    problems = checks.problems(network, pool, layers, device=settings.resolved_device, precision=settings.precision)
    checks.refuse(problems, name)
    return tuple(f"{name}: {problem.text}" for problem in problems)


def _shards(pool: Stimuli, settings: Settings) -> int:
    """Shards for one model: a task runs on one thread of a CPU, and a single one would leave the other cores idle."""
    smaller = min(map(len, halves(pool, seed=settings.seed)))
    batches = -(-smaller // (settings.batch_size or modalities.of(pool).batch_size("cpu")))
    return max(1, min(SHARDS, batches)) if settings.resolved_device == "cpu" else 1


def shards_before(directory: Path) -> int | None:
    """The shards of a run that was begun in this directory, perhaps on another device, if there is one."""
    with suppress(ThalwegError):
        shards = read_record(directory / "settings.json").get("shards")
        return shards if isinstance(shards, int) else None
    return None


def evaluator(model: Subject) -> Evaluate:
    """The function that evaluates the strength of a model that was not trained here."""
    return language.evaluate if modalities.of(model).tokens else published


def stimuli_of(model: Subject, stimuli: str | Path | Stimuli | None, settings: Settings, *, length: int) -> Splits:
    """The stimuli that a model is measured over.

    Raises:
        ThalwegError: they cannot be read, or are of another modality than the model takes.
    """
    modality = modalities.of(model)
    if stimuli is not None and not isinstance(stimuli, str | Path):
        given = getattr(stimuli, "modality", None)
        given = given.name if isinstance(given, Modality) else given
        if isinstance(given, str) and given != modality.name:
            raise ThalwegError(f"subject {model.name!r} takes stimuli of modality {modality.name!r}, not {given!r}")
        return fitting(model, Splits.of_pool(check_stimuli(stimuli, "the stimuli", modality)))
    return splits_of_source(model, settings.source(Path(stimuli) if stimuli else None), settings.seed, length=length)


def layers_of(model: Subject, network: nn.Module, batch: Tensor | None = None) -> tuple[LayerInfo, ...]:
    """The layers whose units can be measured: those that the model names, or else all that are found by running it on a
    batch, by default of two noisy pictures or two short texts.
    """
    batch = batch if batch is not None else _specimens(model)
    if not model.layers:
        if not (layers := discover_layers(network, batch)):
            raise nothing_found(network, batch)
        reduction = modalities.of(model).reduction
        return tuple(replace(tap, layer=replace(tap.layer, reduction=reduction)) for tap in layers)
    with torch.inference_mode(), capture_activations(network.eval(), model.layers) as outputs, quiet():
        try:
            network(batch)
        except ThalwegError:
            raise
        except Exception as wrong:
            raise tracing.cannot_run(network, batch, wrong) from wrong
    return tuple(
        LayerInfo(layer, kind_of(layer.name, network), units_on_axis_1(outputs[layer.name], layer).shape[1], layer.name)
        for layer in model.layers
    )


def layers_and_others(model: Subject) -> tuple[tuple[LayerInfo, ...], list[str]]:
    """The layers of a model whose units can be measured, and a line for each reason why others can't; of a subject that
    names its layers, these alone.
    """
    network = in_precision(loaded(model), torch.float32)
    batch = given(_specimens(model), "cpu")
    layers = layers_of(model, network, batch)
    names: dict[str, list[str]] = {}
    left_out: dict[str, str] = {} if model.layers else layers_left_out(network, batch)
    for name, reason in left_out.items():
        names.setdefault(reason, []).append(name)
    return layers, [f"left out: {listed(those)} {reason}" for reason, those in names.items()]


def _specimens(model: Subject) -> Tensor:
    """Two stimuli as the model is given them."""
    modality = modalities.of(model)
    if modality.specimens is None:
        raise ThalwegError(
            f"subject {model.name!r} takes stimuli of modality {modality.name!r}, which has no `specimens` to find its "
            "layers with; name them in the Subject (layers=)"
        )
    return modality.specimens(model.view)


def _call(
    subject: str | Subject, stimuli: str | Path | Stimuli | None, *, layers: Sequence[str], **options: Any
) -> tuple[str, ...]:
    """The command that measures the same again, where all of it can be named on a command line."""
    if not isinstance(subject, str) or isinstance(stimuli, Stimuli):
        return ()
    defaults = {"units": 0, "basis": "neurons", "length": corpus.LENGTH}
    changed = {f"--{name.replace('_', '-')}": value for name, value in options.items() if value != defaults[name]}
    words = ["measure", subject, *(["--stimuli", str(stimuli)] if stimuli else [])]
    words += [word for pattern in layers for word in ("--layers", pattern)]
    return tuple(
        words + [word for flag, value in changed.items() for word in ([flag] if value is True else [flag, str(value)])]
    )


def _stimuli_from(subject: str | Subject, stimuli: str | Path | Stimuli | None, length: int) -> dict[str, Any]:
    """What the stimuli can be made from again, where the subject and they can be named."""
    if not isinstance(subject, str) or isinstance(stimuli, Stimuli):
        return {}
    return {"subject": subjects.anywhere(subject), "path": str(stimuli) if stimuli else None, "length": length}


@fetches_on_request
def train_dictionary(
    subject: str | Subject,
    stimuli: str | Path | Stimuli | None = None,
    *,
    layer: str,
    out: str | Path,
    latents: int = 0,
    k: int = 32,
    rows: int = 4_000_000,
    skip_places: int | None = None,
    length: int = corpus.LENGTH,
    progress: Progress | None = None,
    **settings: Any,
) -> dict[str, float | int | str | None]:
    """Train a dictionary (a TopK sparse autoencoder) on a layer of a model, and write it to a folder.

    `measure(..., basis="sae:FOLDER")` measures its latents. It needs `pip install 'thalweg[dictionary]'`.

    Args:
        subject: The model, as in `measure`.
        stimuli: As in `measure`. The dictionary is trained on one part of them and assessed on another.
        layer: The name of the layer, as `thalweg layers` lists it.
        out: The folder that is written; it must hold no dictionary yet.
        latents: How many latents; 0 means eight for each neuron of the layer.
        k: How many latents are active at once.
        rows: How many rows of the layer's values it is trained on: one row a place of a stimulus.
        skip_places: How many places at the beginning of each stimulus are left out. By default these are the attention
            sinks of a language model: the first places whose mean squared norm is over 3 times the median place's.
        length: Tokens in a window of text.
        progress: As in `survey`.
        **settings: As in `survey`; `seed` and `device` matter.

    Returns:
        A summary, which is written to `training.json` and, in sentences, to `README.md` too: `explained_variance` (at
            most 1) and `dead` (a share from 0 to 1) over all places, at those that are `_measured` and `_elsewhere`;
            how many places were left out and why; the model's losses in nats with the layer's values as they are,
            reconstructed and ablated, and the shares of the loss that are recovered.

    Raises:
        ThalwegError: A mistake that the user can mend, before the long work; or, after it, a dictionary that explains
            less than nothing at the places that are measured.

    Example:
        >>> import thalweg
        >>> from model import images, subject
        >>> summary = thalweg.train_dictionary(subject, images, layer="1", out="dictionary", k=4, rows=20_000)
        >>> summary["neurons"], summary["latents"]
        (32, 256)
    """
    checked = settings_of(settings)
    computing: dict[str, Any] = {"seed": checked.seed, "device": checked.resolved_device}
    recipe = Recipe(latents, k, rows, batch_for(rows), skip_places=skip_places, **computing)
    check_request(Path(out), recipe)
    model = subjects.given(subject)
    splits = stimuli_of(model, stimuli, checked, length=length)
    return train_for_subject(model, splits, layer, Path(out), recipe, evaluate=evaluator(model), progress=progress)
