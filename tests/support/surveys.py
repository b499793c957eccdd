"""A survey of a small ladder, and the bytes of its results."""

from pathlib import Path

import thalweg
from support.tiny import features_of_corners
from thalweg import Ladder, Observer

OBSERVER = Observer("corners", 1, features_of_corners, names_classes=True)


def run(ladder: Ladder, out: Path, **settings) -> thalweg.Run:
    usual = {"seeds": 2, "workers": 1, "resamples": 200, "cache": out.parent / "cache"}
    given = usual | {"device": "cpu"} | settings  # its bytes are compared, which a GPU does not promise
    return thalweg.survey(ladder, out=out, observer=OBSERVER, **given)


def contents(path: Path) -> dict[str, bytes]:
    """All files that results live in."""
    kept = [p for p in path.rglob("*") if p.suffix in (".parquet", ".safetensors", ".json") and p.name != "run.json"]
    return {str(p.relative_to(path)): p.read_bytes() for p in kept}
