"""Caches of the hub's client, laid out by hand."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def repository(
    cache: Path, name: str, files: Mapping[str, bytes], *, kind: str = "models", revision: str = "main"
) -> Path:
    """Put a repository into a cache as the hub's client lays it out; gives the folder of its snapshot."""
    home = cache / f"{kind}--{name.replace('/', '--')}"
    snapshot = home / "snapshots" / COMMIT
    for folder in (home / "blobs", home / "refs", snapshot):
        folder.mkdir(parents=True, exist_ok=True)
    (home / "refs" / revision).write_text(COMMIT)
    for path, content in files.items():
        blob = home / "blobs" / sha256(content).hexdigest()
        blob.write_bytes(content)
        link = snapshot / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    return snapshot


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder, by their paths within it."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }
