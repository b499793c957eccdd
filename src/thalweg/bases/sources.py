"""Where dictionaries come from: a folder, a folder of a repository in the hub's cache, or a release that SAELens lists.

Each is looked for on this machine alone; what is missing is an error that holds what would fetch it. A release is read
by SAELens's own loader, so every format that it converts can be used, on a cache as its client lays it out.
"""

import os
import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from unittest.mock import patch

import safetensors
import torch

from thalweg.bases import layouts
from thalweg.bases.dictionaries import Dictionary
from thalweg.downloads.hub import HubFiles, below
from thalweg.downloads.missing import Missing
from thalweg.errors import ThalwegError, reason, unknown
from thalweg.files.whole import file_digest
from thalweg.packages import imported
from thalweg.subjects.checkpoints import hash_of

INSTALL = "dictionaries by SAELens's release and id need it: pip install 'thalweg[dictionary]'"
REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(/.*)?")  # OWNER/NAME and perhaps a folder in it


@runtime_checkable
class DictionarySource(Protocol):
    """Where one dictionary comes from."""

    @property
    def called(self) -> str:
        """Its name in messages."""
        ...

    def read(self) -> Dictionary:
        """The dictionary.

        Raises:
            ThalwegError: it is missing, damaged, or of a kind that cannot be used.
        """
        ...

    def located(self) -> None:
        """Check that its files are there, without reading them.

        Raises:
            ThalwegError: they are not.
        """
        ...

    def identity(self) -> list[str]:
        """What it is made from, as text: another when it changes."""
        ...


@dataclass(frozen=True)
class InFolder:
    """A dictionary in the layout of SAELens or sparsify in a folder."""

    folder: Path

    @property
    def called(self) -> str:
        """The folder."""
        return str(self.folder)

    def read(self) -> Dictionary:
        """The dictionary."""
        return layouts.read(self.folder)

    def located(self) -> None:
        """Check that its files are there."""
        layouts.weights_file(self.folder)

    def identity(self) -> list[str]:
        """The folder's name, which sparsify takes for the layer's, and the hashes of its files."""
        files = (self.folder / layouts.CONFIG, layouts.weights_file(self.folder))
        return [self.folder.resolve().name, *map(file_digest, files)]


@dataclass(frozen=True)
class InHub:
    """The same, in a folder of a repository of the hub, found in its client's cache."""

    repository: str
    folder: str

    @property
    def called(self) -> str:
        """The repository and the folder in it."""
        return f"{self.repository}/{self.folder}"

    def read(self) -> Dictionary:
        """The dictionary."""
        return layouts.read(self._here())

    def located(self) -> None:
        """Check that its files are there."""
        self._here()

    def identity(self) -> list[str]:
        """The folder's name and the hash of its files."""
        folder = self._here()
        return [folder.name, hash_of([folder / layouts.CONFIG, layouts.weights_file(folder)])]

    def _here(self) -> Path:
        """Its folder on this machine."""
        folder = snapshot(self.repository, self.folder) / self.folder
        layouts.weights_file(folder)
        return folder


def snapshot(repository: str, folder: str = "") -> Path:
    """The folder of a repository in the cache of the hub's client, in which there is this folder with something in it.

    Raises:
        Missing: it is not on this machine.
    """
    from huggingface_hub import snapshot_download

    cache = _hub_cache()
    try:
        there = Path(snapshot_download(repository, local_files_only=True, cache_dir=cache))
    except (OSError, ValueError):
        there = None
    if there is not None and (there / folder).is_dir():
        return there
    inside = f" --include '{folder}/*'" if folder else ""
    raise Missing(
        f"dictionary {repository}{'/' if folder else ''}{folder}: there is no such folder, and it is not in {cache}; "
        f"get it where there is a network, with: hf download {repository}{inside}",
        [HubFiles(repository, below(folder), part=folder)],
    )


@dataclass(frozen=True)
class Published:
    """A dictionary by the release and the id that SAELens lists it under."""

    release: str
    sae: str

    @property
    def called(self) -> str:
        """The release and the id."""
        return f"{self.release}/{self.sae}"

    def read(self) -> Dictionary:
        """The dictionary."""
        return _published(self, _hub_cache())[0]

    def located(self) -> None:
        """Check that its files are there, as far as SAELens reads them for a configuration."""
        with _on_this_machine(self) as loaders:
            self.load_with(loaders.NAMED_PRETRAINED_SAE_CONFIG_GETTERS)

    def identity(self) -> list[str]:
        """The hook that it is read at, and the hash of its files."""
        dictionary, files = _published(self, _hub_cache())
        return [dictionary.hook, hash_of(list(files))]

    def load(self) -> tuple[Dictionary, tuple[Path, ...]]:
        """The dictionary as SAELens loads it, and the files that it is made from.

        Raises:
            Missing: files are not in the cache.
            ThalwegError: SAELens cannot load it, or it is of a kind that cannot be used.
        """
        used: list[Path] = []
        with _on_this_machine(self, used) as loaders:
            settings, tensors, _ = self.load_with(loaders.NAMED_PRETRAINED_SAE_LOADERS)
            settings = dict(loaders.handle_config_defaulting(settings))
        directory = _directory()
        factor = directory.get_norm_scaling_factor(self.release, self.sae)
        settings |= {"norm_scaling_factor": factor} if factor is not None else {}
        if "finetuning_scaling_factor" in tensors:  # as SAELens calls it once it is loaded
            tensors["scaling_factor"] = tensors.pop("finetuning_scaling_factor")
        return layouts.of_saelens(Path(self.called), settings, tensors), tuple(used)

    def load_with(self, known: Any) -> Any:
        """What SAELens's loader of this release's format gives, from a table of loaders."""
        directory, loaders = _directory(), _loaders()
        repository, folder = directory.get_repo_id_and_folder_name(self.release, self.sae)
        overrides = directory.get_config_overrides(self.release, self.sae) | {"device": "cpu", "dtype": "float32"}
        load = known[loaders.get_conversion_loader_name(self.release)]
        return load(repository, folder, device="cpu", force_download=False, cfg_overrides=overrides)

    def fetches(self) -> "SaelensFiles":
        """What brings it."""
        return SaelensFiles(self)


@lru_cache(maxsize=2)
def _published(source: Published, _cache: str) -> tuple[Dictionary, tuple[Path, ...]]:
    """A dictionary of a release in this cache, which several steps ask for one after another."""
    return source.load()


def _hub_cache() -> str:
    """Where the hub's client keeps what it fetched."""
    from huggingface_hub import constants

    return str(constants.HF_HUB_CACHE)


@dataclass(frozen=True)
class SaelensFiles:
    """The files of a dictionary that SAELens lists, as its own loader fetches them."""

    source: Published

    @property
    def what(self) -> str:
        """Its name in messages."""
        return f"dictionary {self.source.called} of SAELens"

    def about(self) -> str:
        """Size and licence as its repository says."""
        return self._files().about()

    def fetch(self) -> None:
        """Let SAELens's loader fetch it.

        Raises:
            ThalwegError: it could not.
        """
        loaders = _loaders()
        try:
            self.source.load_with(loaders.NAMED_PRETRAINED_SAE_LOADERS)
        except Exception as wrong:
            raise ThalwegError(f"{self.what}: cannot be fetched ({reason(wrong)})") from wrong

    def _files(self) -> HubFiles:
        repository, folder = _directory().get_repo_id_and_folder_name(self.source.release, self.source.sae)
        return HubFiles(repository, below(folder))


def _directory() -> Any:
    """SAELens's table of published dictionaries."""
    return imported("sae_lens.loading.pretrained_saes_directory", said=INSTALL)


def _loaders() -> Any:
    """SAELens's loaders of the formats of published dictionaries."""
    return imported("sae_lens.loading.pretrained_sae_loaders", said=INSTALL)


@contextmanager
def _on_this_machine(source: Published, used: list[Path] | None = None) -> Generator[Any]:
    """SAELens's loaders with the cache of the hub's client and no network; the files that they read are noted. Pickled
    files are read as tensors alone.

    Raises:
        Missing: a file is not in the cache.
        ThalwegError: anything else that is wrong with it.
    """
    from huggingface_hub import errors, hf_hub_download

    loaders = _loaders()

    def local(repo_id: str, filename: str, *, subfolder: str | None = None, **_: object) -> str:
        path = hf_hub_download(repo_id, filename, subfolder=subfolder, local_files_only=True)
        if used is not None:
            used.append(Path(path))
        return str(path)

    def shapes(repo_id: str, filename: str) -> dict[str, list[int]]:
        with safetensors.safe_open(local(repo_id, filename), framework="pt") as file:
            return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118

    with (
        patch.object(loaders, "hf_hub_download", local),
        patch.object(loaders, "get_safetensors_tensor_shapes", shapes),
        patch.object(torch, "load", partial(torch.load, weights_only=True)),
    ):
        try:
            yield loaders
        except errors.LocalEntryNotFoundError as missing:
            repository, folder = _directory().get_repo_id_and_folder_name(source.release, source.sae)
            raise Missing(
                f"dictionary {source.called}: files of {repository} are not in {_hub_cache()}; get them "
                f"where there is a network, with: hf download {repository} --include '{folder}/*'",
                [source.fetches()],
            ) from missing
        except ThalwegError:
            raise
        except Exception as wrong:
            raise ThalwegError(f"dictionary {source.called}: SAELens cannot load it ({reason(wrong)})") from wrong


def sources_of(text: str) -> list[DictionarySource]:
    """The dictionaries that a name means: a folder with one, or with one in each of its folders; RELEASE/ID of SAELens;
    or OWNER/NAME of the hub, with the folder of one or of all.

    Raises:
        Missing: it is not on this machine.
        ThalwegError: there is no such thing.
    """
    folder = Path(os.path.expanduser(text))  # of a user who is not there, it stays as it is
    if folder.exists():
        return [InFolder(each) for each in _inside(folder)]
    release, _, sae = text.partition("/")
    if text.startswith((".", "/", "~")):
        return [InFolder(folder)]
    if lists(release):
        return [_listed(release, sae)]
    return _in_hub(text) if REPOSITORY.fullmatch(text) else [InFolder(folder)]


def _inside(folder: Path) -> list[Path]:
    """The folders of dictionaries in a folder; itself, if it is one or holds none."""
    if not folder.is_dir() or (folder / layouts.CONFIG).is_file():
        return [folder]
    return sorted(inner for inner in folder.iterdir() if (inner / layouts.CONFIG).is_file()) or [folder]


def _in_hub(text: str) -> list[DictionarySource]:
    """The dictionaries of a repository, or the one in a folder of it."""
    owner, name, *rest = text.split("/")
    repository, folder = f"{owner}/{name}", "/".join(rest).strip("/")
    there = snapshot(repository, folder)
    return [InHub(repository, each.relative_to(there).as_posix()) for each in _inside(there / folder)]


def lists(release: str) -> bool:
    """Whether SAELens lists a release of this name."""
    try:
        return release in _directory().get_pretrained_saes_directory()
    except ThalwegError:
        return False


def _listed(release: str, sae: str) -> Published:
    """A dictionary of a release.

    Raises:
        ThalwegError: the release has none of this id.
    """
    known = _directory().get_pretrained_saes_directory()[release].saes_map
    if sae not in known:
        raise unknown(f"dictionary of SAELens's release {release!r}", sae, known)
    return Published(release, sae)
