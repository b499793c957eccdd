"""Language models and tokenizers as transformers loads them, from files of this machine alone."""

import copy
import inspect
import struct
import traceback
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from thalweg.errors import ThalwegError, reason, user_code
from thalweg.files.damage import check_file, json_object
from thalweg.subjects.checkpoints import (
    CONFIG,
    OF_TOKENIZERS,
    OF_WEIGHTS,
    TOKENIZERS,
    Checkpoint,
    existing_files,
    folder_of,
    import_transformers,
    located,
    missing_files,
    weight_files,
)

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


@contextmanager
def _loading(checkpoint: Checkpoint, folder: Path, what: str, reads: Sequence[Path]) -> Generator[dict[str, Any]]:
    """The options that tell transformers where a checkpoint lies. A failure becomes an error that names the file at
    fault: the first damaged file of those that it reads, or else the first file.
    """
    options: dict[str, Any] = {
        "pretrained_model_name_or_path": str(folder),
        "local_files_only": True,
        "trust_remote_code": checkpoint.trust_remote_code,
    }
    custom_code = not checkpoint.name.endswith(".gguf") and _brings_code(folder)
    if checkpoint.name.endswith(".gguf"):
        options["gguf_file"] = Path(checkpoint.name).name
    elif custom_code and not checkpoint.trust_remote_code:
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
        if custom_code:
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
    message = (
        f"{reason(wrong)} {lines[1].strip()[:300]}" if len(lines) > 1 and lines[0].endswith(":") else reason(wrong)
    )
    if not isinstance(wrong, ArithmeticError | LookupError | TypeError | AttributeError) or len(lines) > 1:
        return message
    where = traceback.extract_tb(wrong.__traceback__)[-1].line
    return f"{message}, at {where}" if where else message


@contextmanager
def _offline() -> Generator[None]:
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
    return "auto_map" in config and config.get("model_type") not in import_transformers().CONFIG_MAPPING


def configuration(checkpoint: Checkpoint) -> Any:
    """The model's configuration."""
    file = configuration_file(checkpoint)
    return copy.deepcopy(_configuration(checkpoint, file.stat().st_mtime_ns))


def configuration_file(checkpoint: Checkpoint) -> Path:
    """The file that says what the model of a checkpoint is like."""
    folder = folder_of(checkpoint)
    return Path(checkpoint.name) if checkpoint.name.endswith(".gguf") else folder / CONFIG


@lru_cache(maxsize=64)
def _configuration(checkpoint: Checkpoint, _changed: int) -> Any:
    """The same, read once unless the file changes: the head of a GGUF file takes seconds.

    Of the ways to compute attention only those are kept that come with PyTorch: others would be fetched and run.

    Raises:
        ThalwegError: no configuration can be made of the file, or its weights need a package that is missing.
    """
    file = configuration_file(checkpoint)
    with _loading(checkpoint, folder_of(checkpoint), "no configuration can be made of it", [file]) as options:
        config = import_transformers().AutoConfig.from_pretrained(**options)
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


def load(checkpoint: Checkpoint) -> nn.Module:
    """The model with its weights: from tokens (window, token) to logits (window, token, vocabulary).

    Raises:
        ThalwegError: as `located` does, or weights that do not fit the architecture.
    """
    transformers = import_transformers()
    if checkpoint.device_map and find_spec("accelerate") is None:
        raise ThalwegError(
            f"{checkpoint.name}: spreading a model over devices needs the package accelerate: pip install "
            "'thalweg[language]'"
        )
    folder = located(checkpoint)
    config = configuration(checkpoint)
    gguf = checkpoint.name.endswith(".gguf")
    files = [Path(checkpoint.name)] if gguf else [*weight_files(folder), *existing_files(folder, (CONFIG, *OF_WEIGHTS))]
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
    files = [configuration_file(checkpoint)]
    with _loading(checkpoint, folder_of(checkpoint), "no causal language model can be built from it", files) as options:
        made = import_transformers().AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, trust_remote_code=options["trust_remote_code"]
        )
    return adapted(made, () if missing_files(checkpoint) else beginning(checkpoint))


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
    files = [Path(checkpoint.name)] if gguf else existing_files(folder, (*TOKENIZERS, *OF_TOKENIZERS))
    with _loading(checkpoint, folder, "no tokenizer can be made of it", files) as options:
        tokenizer = import_transformers().AutoTokenizer.from_pretrained(**options)
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise ThalwegError(
            f"{checkpoint.name}: its tokenizer ({type(tokenizer).__name__}) does not say which characters its tokens "
            "are of; one with a tokenizer.json was expected"
        )
    return tokenizer


@lru_cache(maxsize=64)
def beginning(checkpoint: Checkpoint) -> tuple[int, ...]:
    """The tokens that the model's tokenizer puts before every text."""
    published = _published_tokenizer(checkpoint)
    with_them = list(published.encode("a"))
    without = list(published.encode("a", add_special_tokens=False))
    before = range(len(with_them) - len(without) + 1)
    index = next((index for index in before if with_them[index : index + len(without)] == without), 0)
    return tuple(with_them[:index])


def adapted(model: Any, begin: Sequence[int]) -> nn.Module:
    """The model, given tokens as they are and giving logits alone; called by names, as in generation, it is unchanged.

    It has `logits_unread`: where that is set, only the last logits are computed, which for a large vocabulary are most
    of the memory; and `read_out`, the name of the module that computes them.
    """
    can_skip = "logits_to_keep" in inspect.signature(model.forward).parameters
    head = model.get_output_embeddings()
    model.logits_unread = False
    model.read_out = next((name for name, module in model.named_modules() if module is head and can_skip), "")

    def put_before(
        module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if not args:
            return args, kwargs
        (tokens,) = args
        first = torch.tensor(begin, dtype=tokens.dtype, device=tokens.device).expand(len(tokens), -1)
        only_last = {"logits_to_keep": 1} if module.logits_unread else {}
        return (torch.cat([first, tokens], 1),), {"use_cache": False, **only_last, **kwargs}

    def leave_out(module: Any, args: tuple[Any, ...], output: Any) -> Any:
        if not args:
            return output
        return output.logits if module.logits_unread else output.logits[:, len(begin) :]

    model.register_forward_pre_hook(put_before, with_kwargs=True)
    model.register_forward_hook(leave_out)
    adapted_model: nn.Module = model.eval()
    return adapted_model
