"""Causal language models of transformers, measured as they were published.

Which model it is: a repository's name, looked up where the hub's own client keeps what it downloaded; a folder that
`save_pretrained` wrote; or a GGUF file, whose quantised weights are made whole numbers' worth of float32 again. Nothing
is downloaded here, and what is missing is an error before any work. Code that comes with a model runs only where the
user says so, and pickled weights are read as tensors alone.

The model is changed by two hooks and not otherwise, so that modules keep the names they were published with. Before a
pass, the tokens that its tokenizer puts before every text (`<s>`, `<bos>`; for GPT-2 and Pythia there are none) are put
before each window, for without them such models are out of their element; after it, their places are dropped, and what
is left are the logits. Inside, these places are there: a layer's `skip` counts them, so a maximum over places leaves
them out, and the value at the last token is the same either way.

Units, block by block: the outputs of the attention heads, side by side, before they are written to the residual stream
(the input of the projection that does so); the neurons of the multilayer perceptron, before their activation function
or, where it is gated, the product of gate and value (the input of the projection that reads it); and the residual
stream after the block. Blocks are found by their number, and what is in them by the spellings of the table below; of an
architecture that spells otherwise, only the residual stream is measured.
"""

import copy
import hashlib
import inspect
import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from thalweg.errors import ThalwegError
from thalweg.ladder import Layer, Subject
from thalweg.packages import imported, torchvision_first
from thalweg.tables import file_digest

HEADS = (  # the projection that writes heads' outputs to the residual stream
    "self_attn.o_proj",  # Llama, Gemma, Mistral, Qwen
    "attn.c_proj",  # GPT-2
    "attention.dense",  # GPT-NeoX
    "self_attention.dense",  # Falcon, BLOOM
    "self_attn.out_proj",  # OPT
    "self_attn.dense",  # Phi
    "attn.attention.out_proj",  # GPT-Neo
    "attn.out_proj",  # GPT-J
)
NEURONS = (
    "mlp.c_fc",
    "mlp.dense_h_to_4h",
    "mlp.fc1",
    "mlp.fc_in",
    "mlp.up_proj",
    "fc1",
)  # their sum, before the function
GATES = ("mlp.gate_proj", "mlp.gate_up_proj")  # where there is one, units are products
PRODUCTS = ("mlp.down_proj",)  # the projection that reads them
ACTIVATIONS = ("activation_function", "hidden_act", "hidden_activation")  # how configurations name the function
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")
SINGLE, INDEX = ("model.safetensors", "pytorch_model.bin"), ".index.json"
MAIN = "main"
FORMER = "openai-community"  # the owner of repositories that had none when they were published
HUB_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Checkpoint:
    """Which model: a repository's name with a revision, a folder, or a GGUF file; and what is allowed in loading it.

    `device_map` is that of transformers: "auto" spreads a model over all devices and the memory, and what it puts on
    one stays there.
    """

    name: str
    revision: str = MAIN
    trust_remote_code: bool = False
    device_map: str | None = None

    @property
    def short(self) -> str:
        """What tables and files call it."""
        stem = Path(self.name).stem if self.name.endswith(".gguf") else Path(self.name).absolute().name
        return stem + ("" if self.revision == MAIN else f"@{self.revision}")


@dataclass(frozen=True)
class Activation:
    """An activation function of transformers, by the name that a configuration has for it."""

    name: str

    def __call__(self, values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """What the model passes on."""
        torchvision_first()
        from transformers.activations import ACT2FN

        found: Tensor = ACT2FN[self.name](values)
        return found


def causal(rest: str, *, trust_remote_code: bool = False, device_map: str | None = None) -> Subject:
    """The causal language model of a repository (NAME or NAME@REVISION), a folder, or a GGUF file.

    Raises:
        ThalwegError: files are missing, with where they were expected; an architecture that transformers does not know,
            or whose own code would have to run; or a package is missing.
    """
    checkpoint = named(rest, trust_remote_code=trust_remote_code, device_map=device_map)
    located(checkpoint)
    return Subject(
        name=checkpoint.short,
        load=partial(load, checkpoint),
        layers=layers(skeleton(checkpoint), skip=len(beginning(checkpoint))),
        build=partial(build, checkpoint),
        kind="transformer",
        modality="text",
        weights=weights(checkpoint),
        tokenizer=partial(tokenizer, checkpoint),
    )


def named(rest: str, *, trust_remote_code: bool = False, device_map: str | None = None) -> Checkpoint:
    """The checkpoint that a user names; an existing path is one even if it has an @ in it."""
    rest = str(Path(rest).expanduser()) if rest.startswith("~") else rest  # no shell does after a colon
    name, _, revision = (rest, "", "") if Path(rest).exists() else rest.partition("@")
    return Checkpoint(name, revision or MAIN, trust_remote_code, device_map)


def located(checkpoint: Checkpoint) -> Path:
    """The folder that holds a checkpoint's files, all of them.

    Raises:
        ThalwegError: a file is missing; says which, where it was expected, and how to get it.
    """
    _transformers()
    path = Path(checkpoint.name)
    if checkpoint.name.endswith(".gguf"):
        return _beside_gguf(path)
    if path.is_dir():
        if missing := _missing(path):
            raise ThalwegError(
                f"{path}: {' and '.join(missing)} missing; a folder as save_pretrained writes it was expected"
            )
        return path
    if path.is_absolute() or checkpoint.name.startswith("."):
        raise ThalwegError(f"{path}: there is no such folder; one with a model of transformers was expected")
    return _in_cache(checkpoint)


def _beside_gguf(path: Path) -> Path:
    if not path.is_file():
        raise ThalwegError(f"{path}: there is no such file; a GGUF file was expected")
    if find_spec("gguf") is None:
        raise ThalwegError(f"{path}: GGUF files need the package gguf: pip install 'thalweg[language]'")
    return path.resolve().parent


def _in_cache(checkpoint: Checkpoint) -> Path:
    """The snapshot of a repository in the folder where the hub's client keeps its downloads."""
    from huggingface_hub import constants, snapshot_download

    name, revision, cache = checkpoint.name, checkpoint.revision, Path(constants.HF_HUB_CACHE)
    folder = cache / f"models--{name.replace('/', '--')}"
    advice = (
        f"get them where there is a network, with: hf download {name}"
        + (f" --revision {revision}" if revision != MAIN else "")
        + f", and put the folder {folder.name} into {cache} here; or name a folder with the model"
    )
    for spelling in _spellings(name):
        try:
            snapshot = Path(snapshot_download(spelling, revision=revision, local_files_only=True, cache_dir=cache))
        except (OSError, ValueError):
            continue
        if missing := _missing(snapshot):
            raise ThalwegError(f"{name}@{revision}: {' and '.join(missing)} missing in {snapshot}; {advice}")
        return snapshot
    raise ThalwegError(
        f"{name}@{revision}: not on this machine; {SINGLE[0]}, config.json and {TOKENIZERS[0]} were expected in "
        f"{folder / 'snapshots'}/..., with {folder / 'refs' / revision} saying which; {advice}"
    )


def _spellings(name: str) -> tuple[str, ...]:
    """The names that a repository has or had: GPT-2's had no owner once, and old downloads still have none."""
    owner, slash, bare = name.rpartition("/")
    if owner == FORMER:
        return name, bare
    return (name, f"{FORMER}/{name}") if not slash and name.startswith("gpt2") else (name,)


def _missing(folder: Path) -> list[str]:
    """The files that a model's folder lacks."""
    missing = [] if (folder / "config.json").is_file() else ["config.json"]
    missing += [file.name for file in _weights(folder) if not file.is_file()]
    return missing if any((folder / name).is_file() for name in TOKENIZERS) else [*missing, TOKENIZERS[0]]


def _weights(folder: Path) -> list[Path]:
    """The files of weights in a model's folder, or those that were expected: safetensors where there are any."""
    for single in SINGLE:
        index = folder / (single + INDEX)
        if (folder / single).is_file():
            return [folder / single]
        if index.is_file():
            shards: Mapping[str, str] = json.loads(index.read_text("utf-8"))["weight_map"]
            return [folder / shard for shard in sorted(set(shards.values()))]
    return [folder / SINGLE[0]]


def weights(checkpoint: Checkpoint) -> str:
    """Which weights these are, with sixteen hexadecimal digits for their files.

    The hub's client names the files that it keeps by their SHA-256.

    Raises:
        ThalwegError: as `located` does.
    """
    folder = located(checkpoint)
    files = [Path(checkpoint.name)] if checkpoint.name.endswith(".gguf") else _weights(folder)
    changed = tuple(file.stat().st_mtime_ns for file in files)
    return f"{checkpoint.name}@{checkpoint.revision} sha256:{_hash(tuple(files), changed)}"


@lru_cache(maxsize=64)
def _hash(files: tuple[Path, ...], _changed: tuple[int, ...]) -> str:
    """Sixteen hexadecimal digits for files, read once unless one changes."""
    found = []
    for file in files:
        kept = file.resolve()
        known = kept.parent.name == "blobs" and HUB_HASH.fullmatch(kept.name)
        found.append(kept.name if known else file_digest(file))
    one = found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest()
    return one[:16]


def _transformers() -> Any:
    """The library, silent while it loads."""
    said = "language models (hf:NAME) need the extra 'language': pip install 'thalweg[language]'"
    transformers: Any = imported("transformers", said=said)
    imported("transformers.utils.logging", said=said).disable_progress_bar()
    return transformers


@contextmanager
def _loading(checkpoint: Checkpoint) -> Iterator[dict[str, Any]]:
    """What transformers is told of where a checkpoint lies, and its complaints as errors that name the checkpoint."""
    folder = located(checkpoint)
    told: dict[str, Any] = {
        "pretrained_model_name_or_path": str(folder),
        "local_files_only": True,
        "trust_remote_code": checkpoint.trust_remote_code,
    }
    if checkpoint.name.endswith(".gguf"):
        told["gguf_file"] = Path(checkpoint.name).name
    elif not checkpoint.trust_remote_code and _brings_code(folder):
        raise ThalwegError(
            f"{checkpoint.name}: is of an architecture that transformers does not know, and brings its own code; "
            "read that code, and then let it run with --trust-remote-code"
        )
    try:
        yield told
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, UnpicklingError) as wrong:
        said = next(iter(str(wrong).strip().splitlines()), type(wrong).__name__)
        raise ThalwegError(f"{checkpoint.name}: cannot be loaded by transformers ({said})") from wrong


def _brings_code(folder: Path) -> bool:
    """Whether a model can be loaded only by running code that comes with it."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    return "auto_map" in config and config.get("model_type") not in _transformers().CONFIG_MAPPING


def configuration(checkpoint: Checkpoint) -> Any:
    """The model's configuration."""
    folder = located(checkpoint)
    file = Path(checkpoint.name) if checkpoint.name.endswith(".gguf") else folder / "config.json"
    return copy.deepcopy(_configuration(checkpoint, file.stat().st_mtime_ns))


@lru_cache(maxsize=64)
def _configuration(checkpoint: Checkpoint, _changed: int) -> Any:
    """The same, read once unless the file changes: the head of a GGUF file takes seconds."""
    with _loading(checkpoint) as told:
        return _transformers().AutoConfig.from_pretrained(**told)


def load(checkpoint: Checkpoint) -> nn.Module:
    """The model with its weights: from tokens (window, token) to logits (window, token, vocabulary).

    Raises:
        ThalwegError: as `located` does, or weights that do not fit the architecture.
    """
    transformers = _transformers()
    if checkpoint.device_map and find_spec("accelerate") is None:
        raise ThalwegError(
            f"{checkpoint.name}: spreading a model over devices needs the package accelerate: pip install "
            "'thalweg[language]'"
        )
    config = configuration(checkpoint)
    with _loading(checkpoint) as told:
        model, about = transformers.AutoModelForCausalLM.from_pretrained(
            **told,
            config=config,
            dtype="auto",
            weights_only=True,
            device_map=checkpoint.device_map,
            output_loading_info=True,
        )
    if missing := sorted(about["missing_keys"]):
        shown = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
        raise ThalwegError(
            f"{checkpoint.name}: {len(missing)} weights of the architecture are not in its files ({shown}); the files "
            "of this very model were expected"
        )
    return adapted(model, beginning(checkpoint))


def build(checkpoint: Checkpoint) -> nn.Module:
    """The same architecture newly initialised, in single precision."""
    config = configuration(checkpoint)
    with _loading(checkpoint) as told:
        made = _transformers().AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, trust_remote_code=told["trust_remote_code"]
        )
    return adapted(made, beginning(checkpoint))


def skeleton(checkpoint: Checkpoint) -> nn.Module:
    """The model's modules without any numbers in them: made in a moment, whatever its size."""
    with torch.device("meta"):
        return build(checkpoint)


def tokenizer(checkpoint: Checkpoint) -> Any:
    """The `tokenizers.Tokenizer` of the model."""
    return _published_tokenizer(checkpoint).backend_tokenizer


def _published_tokenizer(checkpoint: Checkpoint) -> Any:
    with _loading(checkpoint) as told:
        found = _transformers().AutoTokenizer.from_pretrained(**told)
    if not hasattr(found, "backend_tokenizer"):
        raise ThalwegError(
            f"{checkpoint.name}: its tokenizer ({type(found).__name__}) does not say which characters its tokens are "
            "of; one with a tokenizer.json was expected"
        )
    return found


@lru_cache(maxsize=64)
def beginning(checkpoint: Checkpoint) -> tuple[int, ...]:
    """The tokens that the model's tokenizer puts before every text."""
    published = _published_tokenizer(checkpoint)
    with_them = list(published.encode("a"))
    without = list(published.encode("a", add_special_tokens=False))
    before = range(len(with_them) - len(without) + 1)
    place = next((place for place in before if with_them[place : place + len(without)] == without), 0)
    return tuple(with_them[:place])


def adapted(model: Any, begin: Sequence[int]) -> nn.Module:
    """The model, given tokens as they are and giving logits alone; called by names, as in generation, it is unchanged.

    It has `logits_unread`: where that is set, only the last logits are computed, which for a large vocabulary are most
    of the memory; and `read_out`, the name of the module that computes them.
    """
    can_skip = "logits_to_keep" in inspect.signature(model.forward).parameters
    head = model.get_output_embeddings()
    model.logits_unread = False
    model.read_out = next((name for name, module in model.named_modules() if module is head and can_skip), "")

    def put_before(module: Any, args: tuple[Any, ...], told: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if not args:
            return args, told
        (tokens,) = args
        first = torch.tensor(begin, dtype=tokens.dtype, device=tokens.device).expand(len(tokens), -1)
        only_last = {"logits_to_keep": 1} if module.logits_unread else {}
        return (torch.cat([first, tokens], 1),), {"use_cache": False, **only_last, **told}

    def leave_out(module: Any, args: tuple[Any, ...], output: Any) -> Any:
        if not args:
            return output
        return output.logits if module.logits_unread else output.logits[:, len(begin) :]

    model.register_forward_pre_hook(put_before, with_kwargs=True)
    model.register_forward_hook(leave_out)
    adapted_model: nn.Module = model.eval()
    return adapted_model


def layers(model: nn.Module, *, skip: int = 0) -> tuple[Layer, ...]:
    """The heads, the neurons and the residual stream of each block, values at the last token.

    `skip` is the number of places before the window. An architecture with unknown spellings gets the residual stream
    only, with a warning that says so.

    Raises:
        ThalwegError: the model has no list of as many blocks as its configuration says.
    """
    config: Any = model.config
    config = config.get_text_config()
    lists = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == config.num_hidden_layers
    ]
    if not lists:
        raise ThalwegError(
            f"{type(model).__name__}: has no list of {config.num_hidden_layers} blocks, as its configuration says; "
            "name the layers in a subject of your own, FILE.py:NAME"
        )
    blocks = min(lists, key=lambda name: name.count("."))
    found: list[Layer] = []
    for number, block in enumerate(model.get_submodule(blocks).children()):
        found += in_block(f"{blocks}.{number}", {name for name, _ in block.named_modules()}, _activation(config), skip)
    if len(found) < 3 * config.num_hidden_layers:
        warnings.warn(
            f"{type(model).__name__}: not all of its heads and neurons are where they are known to be, so "
            f"{len(found)} layers of {config.num_hidden_layers} blocks are measured; name others in a subject of your "
            "own",
            stacklevel=2,
        )
    return tuple(found)


def in_block(block: str, modules: set[str], activation: Activation | None, skip: int = 0) -> list[Layer]:
    """The layers of one block, from the names of the modules in it."""
    heads = next((f"{name}:in" for name in HEADS if name in modules), None)
    if modules.intersection(GATES):
        neurons, function = next((f"{name}:in" for name in PRODUCTS if name in modules), None), None
    else:
        neurons, function = next((name for name in NEURONS if name in modules), None), activation
    return [
        *([Layer(f"{block}.{heads}", "last", units=2, skip=skip)] if heads else []),
        *([Layer(f"{block}.{neurons}", "last", function, units=2, skip=skip)] if neurons else []),
        Layer(block, "last", units=2, skip=skip),
    ]


def _activation(config: Any) -> Activation | None:
    """The function that comes after the neurons."""
    found = next((getattr(config, name) for name in ACTIVATIONS if isinstance(getattr(config, name, None), str)), None)
    return Activation(found) if found else None
