"""Files of published weights: where they lie, what is in them, and putting them into a model.

Nothing is fetched here. A file is looked for where the library that publishes it would keep it, in torch's hub folder
or huggingface_hub's cache. If it is not there, the error names the file and the folder, and holds what would fetch it.
Pickled files are read with `weights_only=True`: a file that needs more than tensors is refused.
"""

import hashlib
import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor, nn

from thalweg.downloads.hub import HubFiles, first_of
from thalweg.downloads.missing import Missing
from thalweg.downloads.urls import UrlFile
from thalweg.errors import ThalwegError, reason
from thalweg.subjects.wrappers import Weights, unwrapped

SAFE, PICKLED = ".safetensors", (".pth", ".pt", ".ckpt", ".bin", ".tar")

MISMATCH = re.compile(r"size mismatch for (\S+): .* shape torch.Size\((.*?)\) .* torch.Size\((.*?)\)")


def checkpoint_folder() -> Path:
    """The folder in which torch.hub keeps checkpoints."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def in_checkpoints(name: str, *, who: str, source: str = "", address: str = "", said: str = "") -> Path:
    """The file of this name in torch.hub's folder, or at this path; `address` is where its library fetches it from, and
    `said` what that says of its size and licence.

    Raises:
        Missing: it is not there; says which file to put where.
    """
    folder = checkpoint_folder()
    for path in (folder / name, Path(name)):
        if path.is_file():
            return path
    fetched = f" ({source})" if source else ""
    raise Missing(
        f"{who}: the file of its weights, {Path(name).name}, is not on this machine; put it into {folder}{fetched}",
        [UrlFile(address, folder, said)] if address else [],
    )


def in_hub(repository: str, names: tuple[str, ...], *, who: str) -> Path:
    """The first of these files that huggingface_hub's cache holds of a repository.

    Raises:
        Missing: it holds none; says which file of which repository to put where.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    for name in names:
        path = try_to_load_from_cache(repository, name)
        if isinstance(path, str):
            return Path(path)
    folder = Path(constants.HF_HUB_CACHE)
    raise Missing(
        f"{who}: {names[0]} of {repository} is not in {folder}; with a network, 'hf download {repository} {names[0]}' "
        f"puts it there, and a folder models--{repository.replace('/', '--')} copied from another machine will do",
        [HubFiles(repository, first_of(names))],
    )


def state_in(path: Path, *, who: str, expected: Collection[str] = ()) -> dict[str, Tensor]:
    """The tensors of a file of weights, by name, without what training scripts wrap around them.

    `expected` are the architecture's own names, where they are known.

    Raises:
        ThalwegError: it cannot be read, or not without running code that it holds, or it holds no weights.
    """
    return weights_in(path, who=who, expected=expected).state


def weights_in(path: Path, *, who: str, expected: Collection[str] = ()) -> Weights:
    """The same, with what was taken off.

    Raises:
        ThalwegError: as `state_in` does.
    """
    try:
        if path.suffix == SAFE:
            from safetensors.torch import load_file

            content: object = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as wrong:
        raise ThalwegError(f"{who}: {path} cannot be read as tensors alone: {_why_unread(path, wrong)}") from wrong
    return unwrapped(content, path, who=who, expected=expected)


def _why_unread(path: Path, wrong: Exception) -> str:
    """What is wrong with a file of weights and what to do, without its reader's own advice, to read it unsafely."""
    whole = "a whole file that holds nothing but tensors was expected"
    if isinstance(wrong, UnpicklingError):
        if held := re.search(r"GLOBAL ([\w.]+)", str(wrong)):
            return (
                f"it holds Python objects ({held[1]}), as a whole pickled model does, and reading these would run code "
                "from the file; where it is your own, save the tensors: torch.save(model.state_dict(), FILE)"
            )
        if not re.search("invalid load key|Unsupported operand", str(wrong)):
            return f"it holds Python objects, and reading these would run code from the file; {whole}"
        return f"it is no file of torch.save, or is damaged; {whole}"
    if isinstance(wrong, OSError):
        return f"{wrong.strerror or reason(wrong)}; {whole}"
    return f"it is damaged or was cut short (it has {path.stat().st_size:,} bytes); {whole}: fetch or save it again"


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
    if shapes := re.findall(
        r"size mismatch for (\S+): .* shape torch.Size\((\S+?.*?)\) .* torch.Size\((.*?)\)", str(wrong)
    ):
        name, given, expected = shapes[0]
        return ThalwegError(
            f"{who}: the weights in {path} do not fit the architecture: {name} has the shape {given}, {expected} was "
            f"expected ({len(shapes)} tensors differ); a model with another head or width needs a subject of your own, "
            "FILE.py:NAME"
        )
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
