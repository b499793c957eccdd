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
import os
import re
import struct
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from thalweg.damage import check_file, json_object
from thalweg.errors import ThalwegError, reason, user_code
from thalweg.ladder import Layer, Subject
from thalweg.packages import imported, torchvision_first
from thalweg.stimuli import Stimuli, Windows
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
KINDS = {"heads": HEADS, "neurons": (*NEURONS, *PRODUCTS)}
ACTIVATIONS = ("activation_function", "hidden_act", "hidden_activation")  # how configurations name the function
CONFIG = "config.json"
ATTENTION = ("eager", "sdpa")  # the ways of computing attention that come with PyTorch
QUANTISERS = {  # methods of quantisation, and the packages that their weights need
    "bitsandbytes": "bitsandbytes",
    "gptq": "gptqmodel",
    "awq": "gptqmodel",
    "aqlm": "aqlm",
    "quanto": "optimum",
    "eetq": "eetq",
    "hqq": "hqq",
    "torchao": "torchao",
    "compressed-tensors": "compressed_tensors",
    "auto-round": "auto_round",
    "spqr": "spqr_quant",
    "vptq": "vptq",
}
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")
OF_TOKENIZERS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")  # what lies beside them
OF_WEIGHTS = ("generation_config.json", "adapter_config.json")  # what is read with weights
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


def causal(rest: str, *, trust_remote_code: bool = False, device_map: str | None = None, bare: bool = False) -> Subject:
    """The causal language model of a repository (NAME or NAME@REVISION), a folder, or a GGUF file; with `bare`, its
    architecture, newly initialised, for which a configuration alone will do.

    Raises:
        ThalwegError: files are missing, with where they were expected, or damaged; an architecture that transformers
            does not know, or whose own code would have to run; or a package is missing.
    """
    checkpoint = named(rest, trust_remote_code=trust_remote_code, device_map=device_map)
    if bare:
        architecture = partial(build, checkpoint)
        found = layers(skeleton(checkpoint))
        return Subject(checkpoint.short, architecture, found, architecture, kind="transformer", modality="text")
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
        check=partial(check_windows, checkpoint),
    )


def named(rest: str, *, trust_remote_code: bool = False, device_map: str | None = None) -> Checkpoint:
    """The checkpoint that a user names; an existing path is one even if it has an @ in it."""
    rest = str(Path(rest).expanduser()) if rest.startswith("~") else rest  # no shell does after a colon
    name, _, revision = (rest, "", "") if Path(rest).exists() else rest.partition("@")
    return Checkpoint(name, revision or MAIN, trust_remote_code, device_map)


def located(checkpoint: Checkpoint) -> Path:
    """The folder that holds a checkpoint's files, all of them.

    Raises:
        ThalwegError: a file is missing; says which, where it was expected, and how to get it. Or one is damaged.
    """
    if lacking := _lacking(checkpoint):
        raise ThalwegError(lacking)
    return _folder(checkpoint)


def _lacking(checkpoint: Checkpoint) -> str:
    """What a checkpoint's folder lacks beside its configuration, where that was expected and how to get it, if
    anything.

    Raises:
        ThalwegError: as `_folder` does, or a file of weights is damaged.
    """
    folder = _folder(checkpoint)
    if checkpoint.name.endswith(".gguf"):
        return ""
    missing = [file.name for file in _weights(folder) if not file.is_file()]
    missing += [] if any((folder / name).is_file() for name in TOKENIZERS) else [TOKENIZERS[0]]
    if not missing:
        for file in _weights(folder):
            check_file(file)
        return ""
    if Path(checkpoint.name).is_dir():
        return f"{folder}: {' and '.join(missing)} missing; a folder as save_pretrained writes it was expected"
    advice = _advice(checkpoint)
    return f"{checkpoint.name}@{checkpoint.revision}: {' and '.join(missing)} missing in {folder}; {advice}"


def _folder(checkpoint: Checkpoint) -> Path:
    """The folder that holds a checkpoint's configuration, and perhaps more.

    Raises:
        ThalwegError: there is none, or no configuration in it.
    """
    _transformers()
    path = Path(checkpoint.name)
    if checkpoint.name.endswith(".gguf"):
        return _beside_gguf(path)
    if path.is_dir():
        if not (path / CONFIG).is_file():
            raise ThalwegError(f"{path}: {CONFIG} missing; a folder as save_pretrained writes it was expected")
        check_file(path / CONFIG)
        return path
    if path.is_file():
        raise ThalwegError(f"{path}: is a file; a folder with a model of transformers, or a file .gguf, was expected")
    if path.is_absolute() or checkpoint.name.startswith("."):
        raise ThalwegError(f"{path}: there is no such folder; one with a model of transformers was expected")
    return _in_cache(checkpoint)


def _beside_gguf(path: Path) -> Path:
    if not path.is_file():
        raise ThalwegError(f"{path}: there is no such file; a GGUF file was expected")
    if find_spec("gguf") is None:
        raise ThalwegError(f"{path}: GGUF files need the package gguf: pip install 'thalweg[language]'")
    check_file(path)
    return path.resolve().parent


def _in_cache(checkpoint: Checkpoint) -> Path:
    """The snapshot of a repository in the folder where the hub's client keeps its downloads."""
    from huggingface_hub import constants, snapshot_download

    name, revision, cache = checkpoint.name, checkpoint.revision, Path(constants.HF_HUB_CACHE)
    for spelling in _spellings(name):
        try:
            snapshot = Path(snapshot_download(spelling, revision=revision, local_files_only=True, cache_dir=cache))
        except (OSError, ValueError):
            continue
        if not (snapshot / CONFIG).is_file():
            raise ThalwegError(f"{name}@{revision}: {CONFIG} missing in {snapshot}; {_advice(checkpoint)}")
        check_file(snapshot / CONFIG)
        return snapshot
    folder = cache / _kept_as(name)
    raise ThalwegError(
        f"{name}@{revision}: not on this machine; {SINGLE[0]}, {CONFIG} and {TOKENIZERS[0]} were expected in "
        f"{folder / 'snapshots'}/..., with {folder / 'refs' / revision} saying which; {_advice(checkpoint)}"
    )


def _kept_as(name: str) -> str:
    """What the hub's client calls the folder of a repository."""
    return f"models--{name.replace('/', '--')}"


def _advice(checkpoint: Checkpoint) -> str:
    """How to get a repository onto this machine."""
    from huggingface_hub import constants

    name, revision = checkpoint.name, checkpoint.revision
    command = f"hf download {name}" + (f" --revision {revision}" if revision != MAIN else "")
    return (
        f"get them where there is a network, with: {command}, and put the folder {_kept_as(name)} into "
        f"{constants.HF_HUB_CACHE} here; or name a folder with the model"
    )


def _spellings(name: str) -> tuple[str, ...]:
    """The names that a repository has or had: GPT-2's had no owner once, and old downloads still have none."""
    owner, slash, bare = name.rpartition("/")
    if owner == FORMER:
        return name, bare
    return (name, f"{FORMER}/{name}") if not slash and name.startswith("gpt2") else (name,)


def _weights(folder: Path) -> list[Path]:
    """The files of weights in a model's folder, or those that were expected: safetensors where there are any."""
    for single in SINGLE:
        index = folder / (single + INDEX)
        if (folder / single).is_file():
            return [folder / single]
        if index.is_file():
            return [folder / shard for shard in _shards(index)]
    return [folder / SINGLE[0]]


def _existing(folder: Path, names: Sequence[str]) -> list[Path]:
    return [folder / name for name in names if (folder / name).is_file()]


def _shards(index: Path) -> list[str]:
    """The files that an index says weights are in.

    Raises:
        ThalwegError: the index is damaged, or names a file outside its folder.
    """
    shards = json_object(index).get("weight_map")
    names = set(shards.values()) if isinstance(shards, dict) else set()
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ThalwegError(f"{index}: weight_map must name a file for each weight; fetch the index again")
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ThalwegError(f"{index}: names the file {name!r}, which does not lie in its own folder")
    return sorted(names)


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
    """The library, silent, and without the kernels that it would fetch from its hub and run."""
    if "transformers" not in sys.modules:
        os.environ.setdefault("USE_HUB_KERNELS", "NO")  # read once, when it is imported
    said = "language models (hf:NAME) need the extra 'language': pip install 'thalweg[language]'"
    transformers: Any = imported("transformers", said=said)
    logging = imported("transformers.utils.logging", said=said)
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    return transformers


@contextmanager
def _loading(checkpoint: Checkpoint, folder: Path, what: str, reads: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """What transformers is told of where a checkpoint lies; what it fails with becomes an error that names the file at
    fault: the first damaged one of those that it reads, or else the first, of which it made nothing.
    """
    options: dict[str, Any] = {
        "pretrained_model_name_or_path": str(folder),
        "local_files_only": True,
        "trust_remote_code": checkpoint.trust_remote_code,
    }
    own_code = not checkpoint.name.endswith(".gguf") and _brings_code(folder)
    if checkpoint.name.endswith(".gguf"):
        options["gguf_file"] = Path(checkpoint.name).name
    elif own_code and not checkpoint.trust_remote_code:
        raise ThalwegError(
            f"{checkpoint.name}: is of an architecture that transformers does not know, and brings its own code; "
            "read that code, and then let it run with --trust-remote-code"
        )
    try:
        with _offline():
            yield options
    except ThalwegError:
        raise
    except Exception as wrong:
        for file in reads:
            check_file(file)
        if own_code:
            with user_code(f"{checkpoint.name}: the code that it brings along"):
                raise
        raise ThalwegError(f"{reads[0]}: {what} by transformers ({_full_reason(wrong)})") from wrong


def _full_reason(wrong: Exception) -> str:
    """An exception in one line, with the line of code that raised it where its message is of Python and not of the
    library.
    """
    if isinstance(wrong, struct.error):
        return "damaged or cut off: the file ends where numbers were expected"
    lines = str(wrong).strip().splitlines()
    said = f"{reason(wrong)} {lines[1].strip()[:300]}" if len(lines) > 1 and lines[0].endswith(":") else reason(wrong)
    if not isinstance(wrong, ArithmeticError | LookupError | TypeError | AttributeError) or len(lines) > 1:
        return said
    where = traceback.extract_tb(wrong.__traceback__)[-1].line
    return f"{said}, at {where}" if where else said


@contextmanager
def _offline() -> Iterator[None]:
    """The hub's client without a network, for as long as the context lasts."""
    from huggingface_hub import constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _brings_code(folder: Path) -> bool:
    """Whether a model can be loaded only by running code that comes with it."""
    config = json_object(folder / CONFIG)
    return "auto_map" in config and config.get("model_type") not in _transformers().CONFIG_MAPPING


def configuration(checkpoint: Checkpoint) -> Any:
    """The model's configuration."""
    file = _configuration_file(checkpoint)
    return copy.deepcopy(_configuration(checkpoint, file.stat().st_mtime_ns))


def _configuration_file(checkpoint: Checkpoint) -> Path:
    folder = _folder(checkpoint)
    return Path(checkpoint.name) if checkpoint.name.endswith(".gguf") else folder / CONFIG


@lru_cache(maxsize=64)
def _configuration(checkpoint: Checkpoint, _changed: int) -> Any:
    """The same, read once unless the file changes: the head of a GGUF file takes seconds.

    Of the ways to compute attention only those are kept that come with PyTorch: others would be fetched and run.

    Raises:
        ThalwegError: no configuration can be made of the file, or its weights need a package that is missing.
    """
    file = _configuration_file(checkpoint)
    with _loading(checkpoint, _folder(checkpoint), "no configuration can be made of it", [file]) as options:
        config = _transformers().AutoConfig.from_pretrained(**options)
        if config._attn_implementation not in ATTENTION:
            config._attn_implementation = None
    _check_quantisation(file, config)
    return config


def _check_quantisation(file: Path, config: Any) -> None:
    """Refuse weights that are quantised in a way that cannot be read here.

    Raises:
        ThalwegError: the package that reads them is missing.
    """
    about = getattr(config, "quantization_config", None)
    if not about:
        return
    fields = about if isinstance(about, dict) else about.to_dict()
    method = str(getattr(fields.get("quant_method"), "value", fields.get("quant_method") or "an unnamed method"))
    package = QUANTISERS.get(method.removesuffix("_4bit").removesuffix("_8bit"))
    if package and find_spec(package) is None:
        raise ThalwegError(
            f"{file}: its weights are quantised ({method}), and reading them needs the package {package}, which is not "
            "installed; install it, or name the same model in full precision"
        )


def check_windows(checkpoint: Checkpoint, stimuli: Stimuli) -> None:
    """Hold windows of text against the model: its positions, and the rows of its embedding.

    Raises:
        ThalwegError: the windows are longer than the model has positions, or hold a token that it does not know.
    """
    if not isinstance(stimuli, Windows) or not len(stimuli):
        return
    file, config = _configuration_file(checkpoint), configuration(checkpoint).get_text_config()
    positions, before = getattr(config, "max_position_embeddings", None), len(beginning(checkpoint))
    if isinstance(positions, int) and 0 < positions < stimuli.length + before:
        also = f", of which {before} go to what its tokenizer puts before a text" if before else ""
        raise ThalwegError(
            f"{file}: the model has {positions} positions{also}; windows of {stimuli.length} tokens do not fit: give "
            f"--length {positions - before} at most"
        )
    rows, highest = getattr(config, "vocab_size", None), int(stimuli.tokens.max())
    if isinstance(rows, int) and highest >= rows:
        text = stimuli.vocabulary.pieces[highest].decode("utf-8", "replace")
        raise ThalwegError(
            f"{file}: the model knows {rows:,} tokens, but its tokenizer makes token number {highest:,} ({text!r}) of "
            "these texts; a model and the tokenizer that it was trained with were expected"
        )


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
    folder = located(checkpoint)
    config = configuration(checkpoint)
    gguf = checkpoint.name.endswith(".gguf")
    files = [Path(checkpoint.name)] if gguf else [*_weights(folder), *_existing(folder, (CONFIG, *OF_WEIGHTS))]
    with _loading(checkpoint, folder, "cannot be loaded", files) as options:
        model, about = transformers.AutoModelForCausalLM.from_pretrained(
            **options,
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
    blocks = config.get_text_config().num_hidden_layers
    if beyond := sorted(key for key in about["unexpected_keys"] if _block_number(key) >= blocks):
        raise ThalwegError(
            f"{files[0]}: holds weights of more blocks ({beyond[0]}) than the {blocks} that {CONFIG} says; the "
            "configuration of this very model was expected"
        )
    return adapted(model, beginning(checkpoint))


def _block_number(weight: str) -> int:
    """The first number in the name of a weight, which is its block's; -1 where it has none."""
    return next((int(part) for part in weight.split(".") if part.isdigit()), -1)


def build(checkpoint: Checkpoint) -> nn.Module:
    """The same architecture newly initialised, in single precision."""
    config = configuration(checkpoint)
    files = [_configuration_file(checkpoint)]
    with _loading(checkpoint, _folder(checkpoint), "no causal language model can be built from it", files) as options:
        made = _transformers().AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, trust_remote_code=options["trust_remote_code"]
        )
    return adapted(made, () if _lacking(checkpoint) else beginning(checkpoint))


def skeleton(checkpoint: Checkpoint) -> nn.Module:
    """The model's modules without any numbers in them: made in a moment, whatever its size."""
    with torch.device("meta"):
        return build(checkpoint)


def tokenizer(checkpoint: Checkpoint) -> Any:
    """The `tokenizers.Tokenizer` of the model."""
    return _published_tokenizer(checkpoint).backend_tokenizer


def _published_tokenizer(checkpoint: Checkpoint) -> Any:
    folder = located(checkpoint)
    gguf = checkpoint.name.endswith(".gguf")
    files = [Path(checkpoint.name)] if gguf else _existing(folder, (*TOKENIZERS, *OF_TOKENIZERS))
    with _loading(checkpoint, folder, "no tokenizer can be made of it", files) as options:
        found = _transformers().AutoTokenizer.from_pretrained(**options)
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


def kind_of(layer: str, model: nn.Module) -> str:
    """What the units of a layer that a language model names are, by the spelling of its name; of another module, what
    that is.
    """
    name, _, side = layer.partition(":")
    spelt = [kind for kind, spellings in KINDS.items() if name.endswith(tuple(f".{one}" for one in spellings))]
    if spelt:
        return spelt[0]
    if not side and name.rpartition(".")[2].isdigit():
        return "residual"
    return type(model.get_submodule(name)).__name__.lower() + (" input" if side else "")


def _activation(config: Any) -> Activation | None:
    """The function that comes after the neurons."""
    found = next((getattr(config, name) for name in ACTIVATIONS if isinstance(getattr(config, name, None), str)), None)
    return Activation(found) if found else None
