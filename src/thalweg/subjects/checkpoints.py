"""Where the files of a published language model lie: a folder, a GGUF file, or the hub's cache."""

import hashlib
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from thalweg.downloads.hub import HubFiles, of_model
from thalweg.downloads.missing import Missing
from thalweg.errors import ThalwegError
from thalweg.files.damage import check_file, json_object
from thalweg.files.whole import file_digest
from thalweg.packages import imported

CONFIG = "config.json"
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")
OF_TOKENIZERS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")  # what lies beside them
OF_WEIGHTS = ("generation_config.json", "adapter_config.json")  # what is read with weights
SINGLE, INDEX = ("model.safetensors", "pytorch_model.bin"), ".index.json"
MAIN = "main"
FORMER = "openai-community"  # the owner of repositories that had none when they were published
REPOSITORY = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")  # OWNER/NAME, or the NAME of an old one
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
        """Its name in tables and files."""
        stem = Path(self.name).stem if self.name.endswith(".gguf") else Path(self.name).absolute().name
        return stem + ("" if self.revision == MAIN else f"@{self.revision}")


def named(rest: str, *, trust_remote_code: bool = False, device_map: str | None = None) -> Checkpoint:
    """The checkpoint that a user names; an existing path is one even if it has an @ in it."""
    rest = os.path.expanduser(rest)  # no shell does after a colon
    name, _, revision = (rest, "", "") if Path(rest).exists() else rest.partition("@")
    return Checkpoint(name, revision or MAIN, trust_remote_code, device_map)


def located(checkpoint: Checkpoint) -> Path:
    """The folder that holds a checkpoint's files, all of them.

    Raises:
        ThalwegError: a file is missing; says which, where it was expected, and how to get it. Or one is damaged.
    """
    if lacking := missing_files(checkpoint):
        raise Missing(lacking, _fetches(checkpoint))
    return folder_of(checkpoint)


def missing_files(checkpoint: Checkpoint) -> str:
    """What a checkpoint's folder lacks beside its configuration, where that was expected and how to get it, if
    anything.

    Raises:
        ThalwegError: as `folder_of` does, or a file of weights is damaged.
    """
    folder = folder_of(checkpoint)
    if checkpoint.name.endswith(".gguf"):
        return ""
    missing = [file.name for file in weight_files(folder) if not file.is_file()]
    missing += [] if any((folder / name).is_file() for name in TOKENIZERS) else [TOKENIZERS[0]]
    if not missing:
        for file in weight_files(folder):
            check_file(file)
        return ""
    if Path(checkpoint.name).is_dir():
        return f"{folder}: {' and '.join(missing)} missing; a folder as save_pretrained writes it was expected"
    advice = _advice(checkpoint)
    return f"{checkpoint.name}@{checkpoint.revision}: {' and '.join(missing)} missing in {folder}; {advice}"


def folder_of(checkpoint: Checkpoint) -> Path:
    """The folder that holds a checkpoint's configuration, and perhaps more.

    Raises:
        ThalwegError: there is none, or no configuration in it.
    """
    import_transformers()
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


def check_causal(checkpoint: Checkpoint) -> None:
    """Refuse a model of another kind; one that brings its own code, or says nothing of its kind, passes.

    Raises:
        ThalwegError: as `folder_of` does, or its configuration names a kind of which transformers has no causal
            language model.
    """
    if checkpoint.name.endswith(".gguf"):
        return
    file = folder_of(checkpoint) / CONFIG
    config = json_object(file)
    named = config.get("architectures")
    names = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
    if not names or "auto_map" in config or any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in names):
        return
    auto = imported("transformers.models.auto.modeling_auto", said="language models need transformers")
    if str(config.get("model_type")) not in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ThalwegError(
            f"{file}: names the architecture {' and '.join(names)}, and hf: takes causal language models; for another, "
            "as one of pictures, write a thalweg.Subject of your own (FILE.py:NAME) whose `load` returns it"
        )


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
            lacking = f"{name}@{revision}: {CONFIG} missing in {snapshot}; {_advice(checkpoint)}"
            raise Missing(lacking, _fetches(checkpoint))
        check_file(snapshot / CONFIG)
        return snapshot
    folder = cache / _kept_as(name)
    raise Missing(
        f"{name}@{revision}: not on this machine; {SINGLE[0]}, {CONFIG} and {TOKENIZERS[0]} were expected in "
        f"{folder / 'snapshots'}/..., with {folder / 'refs' / revision} saying which; {_advice(checkpoint)}",
        _fetches(checkpoint),
    )


def _fetches(checkpoint: Checkpoint) -> list[HubFiles]:
    """What brings a checkpoint of the hub; nothing brings a folder or a file."""
    if not REPOSITORY.fullmatch(checkpoint.name) or Path(checkpoint.name).exists():
        return []
    return [HubFiles(checkpoint.name, of_model, checkpoint.revision)]


def _kept_as(name: str) -> str:
    """The name that the hub's client gives the folder of a repository."""
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


def weight_files(folder: Path) -> list[Path]:
    """The files of weights in a model's folder, or those that were expected: safetensors where there are any."""
    for single in SINGLE:
        index = folder / (single + INDEX)
        if (folder / single).is_file():
            return [folder / single]
        if index.is_file():
            return [folder / shard for shard in _shards(index)]
    return [folder / SINGLE[0]]


def existing_files(folder: Path, names: Sequence[str]) -> list[Path]:
    """The files of these names that a folder has."""
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
    files = [Path(checkpoint.name)] if checkpoint.name.endswith(".gguf") else weight_files(folder)
    return f"{checkpoint.name}@{checkpoint.revision} sha256:{hash_of(files)}"


def hash_of(files: Sequence[Path]) -> str:
    """Sixteen hexadecimal digits for files, read once unless one changes; not read at all where the hub's client names
    them by their hash.
    """
    return _hash(tuple(files), tuple(file.stat().st_mtime_ns for file in files))


def family(checkpoint: Checkpoint) -> str:
    """FAMILY/MEMBER of a checkpoint: its type of model and its weights' hash; empty where no configuration says so.

    Raises:
        ThalwegError: as `located` does.
    """
    folder = located(checkpoint)
    if checkpoint.name.endswith(".gguf"):
        return ""
    kind = json_object(folder / CONFIG).get("model_type")
    return f"{kind}/{weights(checkpoint).rpartition(':')[2]}" if isinstance(kind, str) else ""


@lru_cache(maxsize=64)
def _hash(files: tuple[Path, ...], _changed: tuple[int, ...]) -> str:
    """Sixteen hexadecimal digits for files, read once unless one changes."""
    digests = []
    for file in files:
        kept = file.resolve()
        known = kept.parent.name == "blobs" and HUB_HASH.fullmatch(kept.name)
        digests.append(kept.name if known else file_digest(file))
    digest = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return digest[:16]


def import_transformers() -> Any:
    """The library, silent, and without the kernels that it would fetch from its hub and run."""
    if "transformers" not in sys.modules:
        os.environ.setdefault("USE_HUB_KERNELS", "NO")  # read once, when it is imported
    hint = "language models (hf:NAME) need the extra 'language': pip install 'thalweg[language]'"
    transformers: Any = imported("transformers", said=hint)
    logging = imported("transformers.utils.logging", said=hint)
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    return transformers
