"""Files of a repository of the Hugging Face hub, fetched by its own client into its own cache."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from thalweg.errors import ThalwegError, reason
from thalweg.packages import imported

Choose = Callable[[Sequence[str]], list[str]]  # from the names of a repository's files to those that are needed
SECONDS = 10  # that the hub may take to answer what a repository holds
SAFE = ".safetensors"
PICKLED = ".bin"
OF_MODELS = (".json", ".txt", ".model", ".jinja", ".tiktoken")  # configurations and tokenizers beside the weights


@dataclass(frozen=True)
class HubFiles:
    """Some files of a repository, of a model unless `kind` says otherwise; `part` names which in messages."""

    repository: str
    choose: Choose
    revision: str = "main"
    kind: str = "model"
    part: str = ""

    @property
    def what(self) -> str:
        """The repository with its revision and the part of it."""
        part = f"{self.part} of " if self.part else ""
        return f"{part}{self.repository}@{self.revision} of the Hugging Face hub"

    def about(self) -> str:
        """How many files, their size, and the licence that the repository names."""
        try:
            info = self._info()
        except ThalwegError as unknown:
            return f"size and licence are not known ({unknown})"
        names = set(self._chosen(info))
        megabytes = sum(file.size or 0 for file in info.siblings if file.rfilename in names) / 1e6
        card = getattr(info, "card_data", None)
        licence = getattr(card, "license_name", None) or getattr(card, "license", None) or "not named by its page"
        gated = "; its owner asks for agreement to terms" if getattr(info, "gated", False) else ""
        return f"{len(names)} files, {megabytes:,.1f} MB, licence {licence}{gated}"

    def fetch(self) -> None:
        """Fetch them into the client's cache.

        Raises:
            ThalwegError: the repository or the files are not there, ask for agreement to terms, or there is no network.
        """
        names = self._chosen(self._info())
        if not names:
            raise ThalwegError(f"{self.what}: holds none of the files that are needed")
        self._asked("snapshot_download", self.repository, revision=self.revision, allow_patterns=list(names))

    def _chosen(self, info: Any) -> list[str]:
        return self.choose([file.rfilename for file in info.siblings])

    def _info(self) -> Any:
        about = {"revision": self.revision, "files_metadata": True, "timeout": SECONDS}
        return self._asked("repo_info", self.repository, **about)

    def _asked(self, function: str, *arguments: Any, **options: Any) -> Any:
        """What the client returns.

        Raises:
            ThalwegError: it failed.
        """
        client = hub_client()
        try:
            return getattr(client, function)(*arguments, repo_type=self.kind, **options)
        except Exception as wrong:
            raise refused(self.repository, self.kind, wrong) from wrong


def hub_client() -> Any:
    """The hub's client.

    Raises:
        ThalwegError: it is not installed.
    """
    return imported("huggingface_hub", said="the Hugging Face hub needs its client: pip install huggingface_hub")


def refused(repository: str, kind: str, wrong: Exception) -> ThalwegError:
    """The error for what the hub's client raised about a repository."""
    page = f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{repository}"
    ways = {
        "GatedRepoError": f"its owner asks for agreement to terms: agree at {page}, then sign in with: hf auth login",
        "RepositoryNotFoundError": "the hub has no such repository, or it is private; sign in with: hf auth login",
        "LocalTokenNotFoundError": "sign in with: hf auth login",
        "RevisionNotFoundError": "the repository has no such revision",
        "OfflineModeIsEnabled": "HF_HUB_OFFLINE forbids the network; unset it",
    }
    names = [type(wrong).__name__, type(wrong.__cause__).__name__]
    said = next((ways[name] for name in names if name in ways), reason(wrong))
    return ThalwegError(f"{repository} of the Hugging Face hub: {said}")


def first_of(names: Sequence[str]) -> Choose:
    """The first of these files that a repository has."""
    return partial(_first_of, tuple(names))


def _first_of(names: tuple[str, ...], there: Sequence[str]) -> list[str]:
    return [name for name in names if name in there][:1]


def of_model(there: Sequence[str]) -> list[str]:
    """The files of a model of transformers or sentence-transformers: configurations, tokenizer, and weights in one
    format, those that run no code where there are any.
    """
    top = [name for name in there if "/" not in name or name.split("/")[0][:1].isdigit()]  # 1_Pooling/config.json
    ending = SAFE if any(name.endswith(SAFE) for name in top) else PICKLED
    consolidated = ("consolidated", "training_args", "optimizer")  # the same weights again, or none
    return [
        name
        for name in top
        if name.endswith((ending, *OF_MODELS)) and not name.rpartition("/")[2].startswith(consolidated)
    ]


def below(folder: str) -> Choose:
    """All files in a folder of a repository, or in the repository."""
    return partial(_below, folder.strip("/"))


def _below(folder: str, there: Sequence[str]) -> list[str]:
    return [name for name in there if not folder or name == folder or name.startswith(f"{folder}/")]
