"""Runs that were shared as datasets of the Hugging Face hub, by their name: hf://OWNER/NAME or hf://OWNER/NAME@REVISION."""

import re
from pathlib import Path

from thalweg.downloads.hub import HubFiles, below
from thalweg.downloads.missing import Missing
from thalweg.errors import ThalwegError

ADDRESS = re.compile(r"hf:/{1,2}([\w.-]+/[\w.-]+)(?:@([\w./-]+))?/?")  # a path drops the second slash


def folder_of(path: str | Path) -> Path:
    """The folder of a run: the path, or where the hub's client keeps the dataset that it names.

    Raises:
        Missing: that dataset is not on this machine.
        ThalwegError: it names no dataset.
    """
    if not str(path).startswith("hf:"):
        return Path(path)
    address = ADDRESS.fullmatch(str(path))
    if address is None:
        raise ThalwegError(f"{path}: hf://OWNER/NAME was expected, or hf://OWNER/NAME@REVISION")
    return in_cache(address[1], address[2] or "main")


def in_cache(repository: str, revision: str) -> Path:
    """The folder of a dataset in the cache of the hub's client.

    Raises:
        Missing: it is not there.
    """
    from huggingface_hub import constants, snapshot_download

    cache = constants.HF_HUB_CACHE
    where = {"repo_type": "dataset", "revision": revision, "cache_dir": cache}
    try:
        return Path(snapshot_download(repository, local_files_only=True, **where))
    except (OSError, ValueError) as absent:
        at = f" --revision {revision}" if revision != "main" else ""
        raise Missing(
            f"hf://{repository}: not in {cache}; fetch it with: thalweg pull {repository}{at}",
            [HubFiles(repository, below(""), revision, "dataset")],
        ) from absent
