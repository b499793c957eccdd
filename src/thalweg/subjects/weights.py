"""Files of published weights: where they lie, what is in them, and putting them into a model.

Nothing is downloaded here. A file lies where the library that publishes it would keep it, torch's hub folder or
huggingface_hub's cache, and where it does not, the error names the file and the folder. Pickled files are read with
`weights_only=True` alone: a file that needs more than tensors is refused.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from thalweg.errors import ThalwegError

SAFE, PICKLED = ".safetensors", (".pth", ".pt", ".ckpt", ".bin", ".tar")


def checkpoint_folder() -> Path:
    """The folder in which torch.hub keeps checkpoints."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def in_checkpoints(name: str, *, who: str, source: str = "") -> Path:
    """The file of this name in torch.hub's folder, or at this path.

    Raises:
        ThalwegError: it is not there; says which file to put where.
    """
    folder = checkpoint_folder()
    for path in (folder / name, Path(name)):
        if path.is_file():
            return path
    fetched = f" ({source})" if source else ""
    raise ThalwegError(
        f"{who}: the file of its weights, {Path(name).name}, is not on this machine; put it into {folder}{fetched}"
    )


def in_hub(repository: str, names: tuple[str, ...], *, who: str) -> Path:
    """The first of these files that huggingface_hub's cache holds of a repository.

    Raises:
        ThalwegError: it holds none; says which file of which repository to put where.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    for name in names:
        path = try_to_load_from_cache(repository, name)
        if isinstance(path, str):
            return Path(path)
    folder = Path(constants.HF_HUB_CACHE)
    raise ThalwegError(
        f"{who}: {names[0]} of {repository} is not in {folder}; with a network, 'hf download {repository} {names[0]}' "
        f"puts it there, and a folder models--{repository.replace('/', '--')} copied from another machine will do"
    )


def state_in(path: Path, *, who: str) -> dict[str, Tensor]:
    """The tensors of a file of weights, by name.

    What training scripts wrap around them (`state_dict`, `model`, `module.`, the normaliser and attacker of a robust
    training) is taken off.

    Raises:
        ThalwegError: it cannot be read, or not without running code that it holds.
    """
    try:
        if path.suffix == SAFE:
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as wrong:
        said = str(wrong).splitlines()[0] if str(wrong) else type(wrong).__name__
        raise ThalwegError(
            f"{who}: {path} cannot be read as tensors alone ({said}); a whole file that holds nothing but tensors was "
            "expected, for reading anything else would run code from it"
        ) from wrong
    return unwrapped(content, path, who=who)


def unwrapped(content: object, path: Path, *, who: str) -> dict[str, Tensor]:
    """The tensors by their model's names, whatever a training script wrapped around them.

    Raises:
        ThalwegError: there are none.
    """
    while isinstance(content, Mapping) and (inner := next((k for k in ("state_dict", "model") if k in content), "")):
        content = content[inner]
    if not isinstance(content, Mapping) or not any(isinstance(value, Tensor) for value in content.values()):
        raise ThalwegError(f"{who}: {path} holds {type(content).__name__}; tensors by name were expected")
    prefix = next((one for one in ("module.model.", "module.") if any(str(n).startswith(one) for n in content)), "")
    state = OrderedDict(
        (str(name).removeprefix(prefix), value)
        for name, value in content.items()
        if isinstance(value, Tensor) and str(name).startswith(prefix)
    )
    if not prefix:  # the versions of the modules, by which older names and layouts are known
        state._metadata = getattr(content, "_metadata", None)  # type: ignore[attr-defined]
    return state


def put_into(model: nn.Module, state: Mapping[str, Tensor], path: Path, *, who: str) -> nn.Module:
    """The model with these weights.

    Raises:
        ThalwegError: they are not those of this architecture; says where they differ.
    """
    try:
        model.load_state_dict(state)
    except RuntimeError as wrong:
        raise misfit(path, wrong, who=who) from wrong
    return model


def misfit(path: Path, wrong: Exception, *, who: str) -> ThalwegError:
    """The error for weights that are not those of the architecture."""
    lines = [line.strip() for line in str(wrong).splitlines()[1:4]] or [str(wrong)]
    shown = "; ".join(line if len(line) < 200 else line[:200] + " ..." for line in lines)
    return ThalwegError(f"{who}: the weights in {path} do not fit the architecture: {shown}")


def named(path: Path) -> str:
    """The name of a file and the first sixteen hexadecimal digits of its SHA-256."""
    stat = path.stat()
    return f"{path.name} {_hash(path, stat.st_size, stat.st_mtime_ns)}"


@lru_cache
def _hash(path: Path, _size: int, _changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
