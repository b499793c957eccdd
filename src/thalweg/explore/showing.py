"""The stimuli of a site: pictures, texts and pages of a user's own modality, each kept once, and how units show them.

A picture is a file of its own that all units share. A text stands in the page of the unit, for its tokens are shaded by
the unit's values; a long one is cut to the part that matters, and the whole window is loaded on demand. What a user's
modality shows is HTML of theirs: a file that is shown in a frame where no script runs and nothing is fetched.
"""

import io
import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from PIL import Image

from thalweg.files.names import file_name
from thalweg.report.pictures import FRAME
from thalweg.report.text import decimal
from thalweg.stimuli import modalities
from thalweg.stimuli.showing import Shown

LARGEST = 160  # pixels of a picture's longer side; a larger one is made smaller
SHARP = 64  # pixels up to which a picture is kept as it is, without loss
IN_A_FOLDER = 1000  # files
TEXTS = 256  # windows in a script
PIECES = 32  # of a text that is shown at once
SHADES = 9


class StimulusFiles:
    """The stimuli of one ladder's pool, by their ids."""

    def __init__(self, ladder: str, pool: Any) -> None:
        self.ladder, self.pool, self.modality = ladder, pool, modalities.of(pool)
        self.folder = f"stimuli/{file_name(ladder)}"
        self.shown = lru_cache(maxsize=4096)(self._shown)
        self._codes: list[int] = pool.labels.tolist()
        first = self.shown(0) if len(pool) else Shown("")
        self.used: set[int] = set()  # those that pages show in files of their own
        self.kind = "picture" if first.png else "frame" if first.html else "text"

    def _shown(self, which: int) -> Shown:
        return self.modality.shown(self.pool, which)

    def label(self, which: int) -> str:
        """What a stimulus is, in words: its class, or what the user's modality says."""
        if self.modality.show is not None:
            return str(self.shown(which).label)
        code, names = self._codes[which], self.pool.label_names
        return str(names[code]) if 0 <= code < len(names) else ""

    def address(self, which: int) -> str:
        """The file of a picture or of a frame."""
        ending = "webp" if self.kind == "picture" else "html"
        return f"{self.folder}/{which // IN_A_FOLDER}/{which}.{ending}"

    def content(self, which: int) -> bytes:
        """What is in that file."""
        shown = self.shown(which)
        return _small(shown.png) if self.kind == "picture" else (FRAME + shown.html).encode("utf-8", "replace")

    def texts(self, number: int) -> str:
        """A script with some whole windows."""
        ids = range(number * TEXTS, min((number + 1) * TEXTS, len(self.pool)))
        texts = {str(each): "".join(self.shown(each).pieces) for each in ids}
        return f"thalwegTexts({script_json(self.ladder)},{script_json(texts)});\n"

    def find(self, address: str) -> int | None:
        """The stimulus whose file has this address, or None."""
        number = address.rpartition("/")[2].partition(".")[0]
        which = int(number) if number.isdecimal() and len(number) < 12 else -1
        return which if 0 <= which < len(self.pool) and self.address(which) == address else None

    def item(self, which: int, value: float | None, shades: Sequence[float] | None = None) -> dict[str, Any]:
        """A stimulus as a page shows it: the unit's value on it, and at each piece of a text, from 0 to 1."""
        item = {"kind": self.kind, "id": which, "label": self.label(which), "value": decimal(value, 3)}
        if self.kind != "text":
            self.used.add(which)
            return item | {"address": self.address(which)}
        pieces = list(self.shown(which).pieces)
        levels = [round(SHADES * shade) for shade in shades] if shades and len(shades) == len(pieces) else []
        first = _first_shown(len(pieces), levels)
        last = first + PIECES
        return item | {
            "pieces": _runs(pieces[first:last], levels[first:last]),
            "cut": len(pieces) > PIECES,
            "before": first > 0,
            "after": last < len(pieces),
            "script": f"texts/{file_name(self.ladder)}/{which // TEXTS}.js",
        }


def _first_shown(count: int, levels: Sequence[int]) -> int:
    """Where the part of a text begins that is shown: its end, or further before if the unit's greatest value is."""
    first = max(0, count - PIECES)
    if levels and max(levels):
        first = max(0, min(first, levels.index(max(levels)) - PIECES // 2))
    return first


def _runs(pieces: Sequence[str], levels: Sequence[int]) -> list[tuple[str, int]]:
    """Pieces with their shades; neighbours of no shade are one."""
    runs: list[tuple[str, int]] = []
    for index, piece in enumerate(pieces):
        level = levels[index] if levels else 0
        if runs and not level and not runs[-1][1]:
            runs[-1] = (runs[-1][0] + piece, 0)
        else:
            runs.append((piece, level))
    return runs


def _small(png: bytes) -> bytes:
    """A picture as a small file."""
    picture = Image.open(io.BytesIO(png))
    sharp = max(picture.size) <= SHARP
    picture.thumbnail((LARGEST, LARGEST))
    file = io.BytesIO()
    mode = picture if picture.mode in ("RGB", "RGBA") else picture.convert("RGB")
    mode.save(file, format="WEBP", lossless=sharp, quality=80)
    return file.getvalue()


def script_json(content: object) -> str:
    """JSON that may stand in a script, whatever its texts hold."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
