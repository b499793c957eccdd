"""Uploading a run to the hub as a dataset, and fetching one, by the hub's own client."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from thalweg.downloads.hub import HubFiles, below, hub_client, refused
from thalweg.errors import ThalwegError, readable
from thalweg.progress import Progress, Silent
from thalweg.runs.run import Run, open_run
from thalweg.runs.shared import in_cache
from thalweg.sharing.card import card
from thalweg.sharing.parcel import Parcel, parcel_of

NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
DATASET = "dataset"


def plan(run: Run, repository: str, *, also: Sequence[str] = (), public: bool = False) -> list[str]:
    """What `push` would upload, in lines for the user: files, sizes, who can read them, paths of data that stand in it.

    Raises:
        ThalwegError: as `push` does before it uploads anything.
    """
    _check_name(repository)
    parcel = parcel_of(run, also)
    who = "anyone can read it" if public else "private: only you and those whom you invite can read it"
    lines = [f"to be uploaded to {repository}, a dataset of the Hugging Face hub ({who}):"]
    lines += [f"  {line}" for line in parcel.lines()]
    lines.append(f"  in all {len(parcel.names) + 1} files with the card, {parcel.megabytes:,.1f} MB")
    sources = [about.get("source") or {} for about in run.record["ladders"].values()]
    said = [(source.get("subject") or "", source.get("path") or "") for source in sources]
    models = [model for model, _ in said if any(Path(part).is_absolute() for part in re.split("[:@]", model))]
    paths = {"model": models, "data": [path for _, path in said if path]}
    return lines + [
        f"  run.json names the path of your {what}: {', '.join(found)}" for what, found in paths.items() if found
    ]


def push(
    run: Run | str | Path,
    repository: str,
    *,
    also: Sequence[str] = (),
    licence: str = "",
    public: bool = False,
    progress: Progress | None = None,
) -> str:
    """Upload a finished run to the Hugging Face hub as a dataset, with a card that says what was measured, by which
    versions, what came out, and whose licences it rests on.

    Args:
        run: The run, or its directory.
        repository: OWNER/NAME of the dataset; it is made if it is not there.
        also: What is uploaded only on request: `weights`, `dictionaries`, `parts` (what a survey needs to go on),
            `answers` (to single trials, of people too), `pages` (of units).
        licence: The licence of the numbers, as the hub names it, as "cc-by-4.0".
        public: Whether anyone can read it; by default it is private.
        progress: What is told which files are uploaded, and how large they are, before they are.

    Returns:
        The address of the dataset.

    Raises:
        ThalwegError: The name is none, the dataset is there and public and `public` was not asked for, or the hub
            refuses.

    Example:
        It needs a network and an account, so this one is not run.

        >>> import thalweg
        >>> thalweg.push("runs/mnist", "me/mnist", licence="cc-by-4.0")  # doctest: +SKIP
        'https://huggingface.co/datasets/me/mnist'
    """
    run = run if isinstance(run, Run) else open_run(run)
    for line in plan(run, repository, also=also, public=public):
        (progress or Silent()).say(line)
    parcel = parcel_of(run, also)
    described = card(run, repository, parcel, licence)
    try:
        return _upload(repository, parcel, described, public=public)
    except ThalwegError:
        raise
    except Exception as wrong:
        raise refused(repository, DATASET, wrong) from wrong


def _upload(repository: str, parcel: Parcel, described: str, *, public: bool) -> str:
    """Make the dataset if it is not there, and put all files into it in one commit; returns its address."""
    client = hub_client()
    api = client.HfApi()
    address = api.create_repo(repository, repo_type=DATASET, private=not public, exist_ok=True)
    if not public and not api.repo_info(repository, repo_type=DATASET).private:
        raise ThalwegError(f"{repository}: this dataset is there already and public; add --public, or name another")
    operations: list[Any] = [client.CommitOperationAdd("README.md", described.encode())]
    operations += [client.CommitOperationAdd(name, str(parcel.folder / name)) for name in parcel.names]
    api.create_commit(repository, operations, commit_message="Upload a run of thalweg", repo_type=DATASET)
    return str(address)


def pull(
    repository: str, out: str | Path | None = None, *, revision: str = "main", progress: Progress | None = None
) -> Run:
    """Fetch a run that was shared as a dataset of the Hugging Face hub.

    Args:
        repository: OWNER/NAME of the dataset.
        out: A folder for it, which becomes a run directory of your own. By default it lies where the hub's client keeps
            datasets, to be read there: `open_run("hf://OWNER/NAME")` opens it without a network.
        revision: A commit, branch or tag.
        progress: What is told how large it is and under which licence, before it is fetched.

    Returns:
        The run.

    Raises:
        ThalwegError: There is no such dataset, it holds no run, the folder is in use, or there is no network.

    Example:
        It needs a network, so this one is not run.

        >>> import thalweg
        >>> run = thalweg.pull("someone/mnist", "runs/theirs")  # doctest: +SKIP
    """
    _check_name(repository)
    folder = Path(out) if out else None
    if folder and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ThalwegError(f"{readable(folder)}: is there already; choose another --out")
    files = HubFiles(repository, below(""), revision, DATASET)
    (progress or Silent()).say(f"to be fetched: {files.what} ({files.about()})")
    client = hub_client()
    where: dict[str, Any] = {"repo_type": DATASET, "revision": revision}
    try:
        client.snapshot_download(repository, **where, **({"local_dir": folder} if folder else {}))
    except Exception as wrong:
        raise refused(repository, DATASET, wrong) from wrong
    here = folder or in_cache(repository, revision)
    if folder:
        shutil.rmtree(folder / ".cache" / "huggingface", ignore_errors=True)  # what the client notes of its download
    if not (here / "run.json").is_file():
        raise ThalwegError(f"{repository} of the Hugging Face hub: holds no run.json, so it is no run of thalweg")
    return open_run(here)


def _check_name(repository: str) -> None:
    """Check that it is a name of a dataset.

    Raises:
        ThalwegError: it is not.
    """
    if not NAME.fullmatch(repository):
        raise ThalwegError(f"{repository!r} names no dataset of the Hugging Face hub; OWNER/NAME was expected")
