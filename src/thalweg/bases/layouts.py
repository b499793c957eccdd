"""Reading dictionaries from disk, in the two layouts that are published most.

SAELens writes `cfg.json` and `sae_weights.safetensors` (W_enc, b_enc, W_dec, b_dec and what the architecture adds);
before version 6 what is now `metadata` stood in `cfg.json` itself and TopK was a standard autoencoder with another
activation function. sparsify writes `cfg.json` and `sae.safetensors` (encoder.weight, encoder.bias, W_dec, b_dec).
Pickled weights are refused: reading them runs code.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from thalweg.bases.dictionaries import Dictionary
from thalweg.bases.hook_points import STREAM_HOOKS
from thalweg.compute.devices import all_finite
from thalweg.errors import ThalwegError, unknown
from thalweg.files.damage import check_file, json_object

CONFIG, SAELENS, SPARSIFY = "cfg.json", "sae_weights.safetensors", "sae.safetensors"
PICKLES = (".pt", ".pth", ".bin", ".pkl", ".ckpt")
ARCHITECTURES = ("standard", "topk", "jumprelu", "gated")
Settings = Mapping[str, Any]
KINDS: Mapping[str, tuple[type, ...]] = {  # what the values in a configuration are that are read here, if not missing
    "metadata": (dict,),
    "model_from_pretrained_kwargs": (dict,),
    "activation_fn_kwargs": (dict,),
    "activation_fn": (str,),
    "activation_fn_str": (str,),
    "architecture": (str,),
    "activation": (str,),
    "normalize_activations": (str, bool),
    "hook_name": (str,),
    "hook_point": (str,),
    "hf_hook_name": (str,),
    "num_latents": (int,),
    "norm_scaling_factor": (int, float),
    "scaling_factor": (int, float),
    "apply_b_dec_to_input": (bool,),
    "rescale_acts_by_decoder_norm": (bool,),
    "finetuning_scaling_factor": (bool,),
    "center_writing_weights": (bool,),
    "signed": (bool,),
    "transcode": (bool,),
    "skip_connection": (bool,),
}
SPOKEN = {dict: "an object", str: "text", bool: "true or false", int: "a whole number", float: "a number"}


class Weights(Mapping[str, Tensor]):
    """The tensors of a file by name, and which of them were read: one that is not read would change the latents."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors
        self.used: set[str] = set()

    def __getitem__(self, name: str) -> Tensor:
        self.used.add(name)
        return self.tensors[name]

    def __contains__(self, name: object) -> bool:
        return name in self.tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


def read(folder: Path) -> Dictionary:
    """The dictionary in a folder.

    Raises:
        ThalwegError: a missing, pickled or damaged file, weights that are not finite or do not fit the configuration,
            or an architecture or normalisation that is not known.
    """
    file = weights_file(folder)
    settings = _settings(folder)
    check_file(file)
    try:
        tensors = safetensors.torch.load_file(file)
    except (safetensors.SafetensorError, OSError, KeyError) as damage:
        raise ThalwegError(f"{file}: damaged or truncated ({str(damage)[:120]}); fetch it again") from damage
    if other := [f"{name} ({tensor.dtype})" for name, tensor in tensors.items() if not tensor.is_floating_point()]:
        raise ThalwegError(f"{file}: {other[0]} does not hold floating-point numbers, as weights do")
    made = _from_saelens if file.name == SAELENS else _from_sparsify
    return _made(file, made, (folder, settings), tensors)


def of_saelens(where: Path, settings: Settings, tensors: Mapping[str, Tensor]) -> Dictionary:
    """The dictionary of a configuration and tensors as SAELens's own loaders give them; `where` names it in messages.

    Raises:
        ThalwegError: as `read` does.
    """
    return _made(where, _from_saelens, (where, settings), tensors)


def _made(
    file: Path,
    make: Callable[[Path, Settings, Weights], Dictionary],
    described: tuple[Path, Settings],
    tensors: Mapping[str, Tensor],
) -> Dictionary:
    """The dictionary that `make` makes of a folder's settings and of tensors, all of which must be finite and used."""
    weights = Weights({name: tensor.float() for name, tensor in tensors.items()})
    if wrong := [name for name, tensor in weights.tensors.items() if not all_finite(tensor)]:
        raise ThalwegError(f"{file}: {wrong[0]} has values that are NaN or infinite; the dictionary can't be used")
    dictionary = make(*described, weights)
    if unused := sorted(set(weights) - weights.used):
        raise ThalwegError(
            f"{file}: {', '.join(unused[:5])} would be left out of a dictionary of this architecture, as {CONFIG} "
            "describes it, and its latents would be others; is the architecture the right one?"
        )
    return dictionary


def weights_file(folder: Path) -> Path:
    """The file in the folder that holds weights of a known layout, beside which its configuration lies.

    Raises:
        ThalwegError: there is none, or they are pickled.
    """
    if not folder.is_dir():
        raise ThalwegError(f"{folder}: there is no such folder; a dictionary of SAELens or sparsify was expected")
    weights = next((folder / name for name in (SAELENS, SPARSIFY) if (folder / name).is_file()), None)
    if weights is None:
        there = sorted(path.name for path in folder.iterdir())
        if pickled := [name for name in there if name.endswith(PICKLES)]:
            raise ThalwegError(
                f"{folder}: {pickled[0]} is pickled, and reading pickles runs code; convert it to safetensors with the "
                f"library that wrote it ({SAELENS} or {SPARSIFY} was expected)"
            )
        raise ThalwegError(
            f"{folder}: neither {SAELENS} nor {SPARSIFY} is there; found: {', '.join(there[:10]) or 'nothing'}"
        )
    if not (folder / CONFIG).is_file():
        raise ThalwegError(f"{folder}: {CONFIG} is missing; it lies beside {weights.name} where the dictionary is from")
    return weights


def _settings(folder: Path) -> dict[str, Any]:
    """The configuration, with each value checked to be of its kind.

    Raises:
        ThalwegError: no object in JSON, or a value of another kind.
    """
    file = folder / CONFIG
    settings = json_object(file)
    _check_kinds(file, settings)
    for part in ("metadata", "activation_fn_kwargs", "model_from_pretrained_kwargs"):
        _check_kinds(file, settings.get(part) or {})
        _check_kinds(file, (settings.get("metadata") or {}).get(part) or {})
    return settings


def _check_kinds(file: Path, settings: Settings) -> None:
    for name, value in settings.items():
        kinds = KINDS.get(name, ())
        if not kinds or value is None:
            continue
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            expected = " or ".join(SPOKEN[kind] for kind in kinds)
            raise ThalwegError(f"{file}: {name} is {value!r}; {expected} was expected")


def _checked(folder: Path, weights: Weights, shapes: Mapping[str, tuple[int, ...]]) -> list[Tensor]:
    """The weights of these names, checked to have these shapes."""
    for name, shape in shapes.items():
        if name not in weights:
            raise ThalwegError(f"{folder}: the weights lack {name}; there are: {', '.join(sorted(weights))}")
        if tuple(weights[name].shape) != shape:
            raise ThalwegError(
                f"{folder}: {name} has shape {tuple(weights[name].shape)}; {CONFIG} says that it is {shape}"
            )
    return [weights[name] for name in shapes]


def _positive_number(folder: Path, settings: Settings, name: str) -> int:
    value = settings.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ThalwegError(f"{folder / CONFIG}: {name} is {value!r}; a whole number from 1 was expected")
    return value


def _from_sparsify(folder: Path, settings: Settings, weights: Weights) -> Dictionary:
    """A dictionary as sparsify writes it; its folder is named after the module, of a transcoder the one it replaces."""
    if settings.get("signed"):
        raise ThalwegError(f"{folder}: signed latents are not known; dictionaries of positive latents are")
    activation = settings.get("activation", "topk")
    if activation not in ("topk", "groupmax"):
        raise unknown(f"activation function in {folder / CONFIG}", str(activation), ("topk", "groupmax"))
    neurons = _positive_number(folder, settings, "d_in")
    latents = settings.get("num_latents") or neurons * _positive_number(folder, settings, "expansion_factor")
    shapes = {"encoder.weight": (latents, neurons), "encoder.bias": (latents,)}
    shapes |= {"W_dec": (latents, neurons), "b_dec": (neurons,)}
    shapes |= {"W_skip": (neurons, neurons)} if settings.get("skip_connection") else {}
    encoder, bias, decoder, offset, *skip = _checked(folder, weights, shapes)
    transcodes = bool(settings.get("transcode"))
    return Dictionary(
        weight=encoder,
        bias=bias,
        centre=torch.zeros_like(offset) if transcodes else offset,
        decoder=decoder,
        offset=offset,
        activation=activation,
        k=_few(folder, settings.get("k"), latents),
        skip=skip[0] if skip else None,
        hook=folder.resolve().name + (":in" if transcodes else ""),
    )


def _from_saelens(folder: Path, settings: Settings, weights: Weights) -> Dictionary:
    """A dictionary as SAELens writes it, now or before version 6."""
    about = {**settings, **(settings.get("metadata") or {})}
    hook = str(about.get("hook_name") or about.get("hook_point") or "")
    function = settings.get("activation_fn") or settings.get("activation_fn_str") or "relu"
    architecture = "topk" if function == "topk" else settings.get("architecture", "standard")
    if architecture not in ARCHITECTURES:
        raise unknown(f"architecture in {folder / CONFIG}", str(architecture), ARCHITECTURES)
    if function not in ("relu", "topk"):
        raise unknown(f"activation function in {folder / CONFIG}", str(function), ("relu", "topk"))
    neurons, latents = _positive_number(folder, settings, "d_in"), _positive_number(folder, settings, "d_sae")
    shapes = {"W_enc": (neurons, latents), "W_dec": (latents, neurons), "b_dec": (neurons,)}
    encoder, decoder, offset = _checked(folder, weights, shapes)
    scale = _scale(folder, settings)
    kwargs = about.get("model_from_pretrained_kwargs") or {}
    plain = Dictionary(
        weight=encoder.T.contiguous() * scale,
        bias=torch.zeros(latents),
        centre=offset / scale if settings.get("apply_b_dec_to_input", True) else torch.zeros_like(offset),
        decoder=decoder / scale,
        offset=offset / scale,
        normalisation=_normalisation(folder, settings),
        centred=bool(kwargs.get("center_writing_weights")) and hook.endswith(STREAM_HOOKS),
        hook=str(about.get("hf_hook_name") or hook),
    )
    return _with_nonlinearity(folder, plain, architecture, settings, weights)


def _with_nonlinearity(
    folder: Path, plain: Dictionary, architecture: str, settings: Settings, weights: Weights
) -> Dictionary:
    """The dictionary with its biases and what comes after them."""
    if architecture == "gated":
        size = dict.fromkeys(("b_gate", "b_mag", "r_mag"), (plain.latents,))
        gate, bias, log_gain = _checked(folder, weights, size)
        gain = log_gain.exp()
        made = replace(plain, weight=plain.weight * gain[:, None], bias=bias, activation="threshold")
        return replace(made, threshold=bias - gate * gain)  # the gate opens where the magnitude passes this
    (bias,) = _checked(folder, weights, {"b_enc": (plain.latents,)})
    if architecture == "jumprelu":
        spelt = "log_threshold" if "log_threshold" in weights and "threshold" not in weights else "threshold"
        (threshold,) = _checked(folder, weights, {spelt: (plain.latents,)})
        threshold = threshold.exp() if spelt == "log_threshold" else threshold
        made = replace(plain, bias=bias, activation="threshold", threshold=threshold)
    elif architecture == "topk":
        k = settings.get("k") or (settings.get("activation_fn_kwargs") or {}).get("k")
        made = replace(plain, bias=bias, activation="topk", k=_few(folder, k, plain.latents))
        if settings.get("rescale_acts_by_decoder_norm"):
            norm = weights["W_dec"].norm(dim=1)
            made = replace(made, weight=made.weight * norm[:, None], bias=bias * norm)
            made = replace(made, decoder=made.decoder / norm[:, None])
    else:
        made = replace(plain, bias=bias)
    if "scaling_factor" not in weights:
        return made
    (finetuned,) = _checked(folder, weights, {"scaling_factor": (plain.latents,)})
    if not settings.get("finetuning_scaling_factor"):  # there in old files all the same; SAELens passes it over too
        return made
    return replace(made, decoder=made.decoder * finetuned[:, None])


def _few(folder: Path, k: object, latents: int) -> int:
    if not isinstance(k, int) or isinstance(k, bool) or not 0 < k <= latents:
        raise ThalwegError(f"{folder / CONFIG}: k is {k!r}; a whole number from 1 to {latents} was expected")
    return k


def _normalisation(folder: Path, settings: Settings) -> Any:
    """The normalisation that runs; the average norm is folded into the weights instead."""
    name = settings.get("normalize_activations") or "none"
    if name in (True, "expected_average_only_in"):
        return "none"
    known = ("none", "constant_norm_rescale", "layer_norm")
    if name not in known:
        raise unknown(f"normalisation of activations in {folder / CONFIG}", str(name), known)
    return name


def _scale(folder: Path, settings: Settings) -> float:
    """What activations were multiplied by to have, on average, the norm sqrt(d_in): 1 where that is folded in.

    A checkpoint has it in `activation_scaler.json`; SAELens's table of published dictionaries calls it
    `norm_scaling_factor`.
    """
    if settings.get("normalize_activations") not in (True, "expected_average_only_in"):
        return 1.0
    beside = folder / "activation_scaler.json"
    scale = settings.get("norm_scaling_factor") or (
        json_object(beside).get("scaling_factor") if beside.is_file() else None
    )
    if not isinstance(scale, int | float) or not 0 < scale < math.inf:
        raise ThalwegError(
            f"{folder / CONFIG}: the dictionary was trained on activations scaled to an average norm, and the factor "
            "is missing; write it there as norm_scaling_factor (SAELens lists it for published dictionaries)"
        )
    return float(scale)
