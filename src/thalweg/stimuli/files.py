"""Images that stay on disk: a folder of picture files, or Parquet files with a column of pictures.

Fifty thousand photographs do not fit into memory as pixels, so only their names, labels and digests are held; an image
is decoded whenever a model is given it or an observer looks at it, and forgotten again. Every image is looked at once
before the long work: its bytes are read for the digest that names it, and its header is checked. What is wrong then is
said at once, with names; what shows only in full decoding is an error when it does.

A model with a `view`, its published preprocessing, is given what that makes of the whole picture. A model without, and
every observer, is given the middle square, resized to `side` pixels.
"""

import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

from thalweg.engine.local import default_workers
from thalweg.errors import ThalwegError
from thalweg.stimuli import parquet
from thalweg.stimuli.decoding import decoded, flaw, square
from thalweg.stimuli.idx import read_idx_folder
from thalweg.stimuli.images import Images, low_level
from thalweg.stimuli.showing import Shown, View

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
TABLES = ".parquet"
FORMS = (
    "a folder of images (one subfolder for each class, or none), a Parquet file or a folder of them, or a folder with "
    "four IDX files"
)
PIECE = 100  # images decoded at once for their statistics
SHOWN_SIDE = 112  # pixels of an image in the report
NAMED = 5  # how many of the files with a flaw an error names
DIGEST = 16  # bytes
SPARSE = 1000  # numbers of classes that may go unused before they are numbered anew


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Images on disk with their labels, decoded when they are asked for.

    `file` is the place of each image in `files`, and `row` its row where that is a Parquet file, else -1. `left_out`
    names the files that were left out because they do not decode, with the reasons.
    """

    files: tuple[str, ...]
    file: Int[Tensor, " stimulus"]
    row: Int[Tensor, " stimulus"]
    digests: UInt8[Tensor, "stimulus byte"]  # of the bytes that hold each image
    labels: Int[Tensor, " stimulus"]
    label_names: tuple[str, ...]
    columns: tuple[str, ...] = ()  # of the Parquet files, the one with the images
    side: int = 224
    view: View | None = None
    left_out: tuple[str, ...] = ()
    modality: str = "image"
    notes: tuple[str, ...] = ()  # what the reader took, and what it passed over and why: one line each

    def __len__(self) -> int:
        return len(self.file)

    def take(self, which: Int[Tensor, " taken"] | slice) -> "ImageFiles":
        """The images at these places, in this order."""
        used, file = self.file[which].unique(return_inverse=True)
        return replace(
            self,
            files=tuple(self.files[place] for place in used.tolist()),
            columns=tuple(self.columns[place] for place in used.tolist()) if self.columns else (),
            file=file,
            row=self.row[which],
            digests=self.digests[which],
            labels=self.labels[which],
        )

    def batch(self, which: Int[Tensor, " taken"] | slice) -> Float[Tensor, "taken channel height width"]:
        """What a model is given: what the view makes of each picture, or the middle squares as numbers from 0 to 1.

        Raises:
            ThalwegError: an image that does not decode; it is named.
        """
        places = torch.arange(len(self))[which].tolist()
        if self.view is None or not places:
            return self._squares(places, self.side).float() / 255
        return torch.stack([self.view(self.picture(place)) for place in places])

    def viewed(self, view: View) -> "ImageFiles":
        """The same images as a model with this preprocessing is given them."""
        return replace(self, view=view)

    @property
    def pixels(self) -> UInt8[Tensor, "stimulus 3 side side"]:
        """The middle squares of all images, decoded anew: take some before asking for them."""
        return self._squares(range(len(self)), self.side)

    def _squares(self, places: Sequence[int], side: int) -> UInt8[Tensor, "taken 3 side side"]:
        found = torch.empty(len(places), 3, side, side, dtype=torch.uint8)
        for at, place in enumerate(places):
            found[at] = torch.from_numpy(np.array(square(self.picture(place), side))).movedim(-1, 0)
        return found

    def name(self, which: int) -> str:
        """Where one image lies."""
        row = int(self.row[which])
        return self.files[int(self.file[which])] + ("" if row < 0 else f", row {row + 1}")

    def picture(self, which: int) -> Image.Image:
        """One image, whole, upright and in three colours.

        Raises:
            ThalwegError: it cannot be read or decoded; the file is named.
        """
        place, row = int(self.file[which]), int(self.row[which])
        file = self.files[place]
        try:
            if row < 0:
                content = Path(file).read_bytes()
            else:
                content = parquet.picture_bytes(parquet.entry(file, self.columns[place], row), file)
        except (OSError, ValueError) as wrong:
            reason = _reason(wrong)
            raise ThalwegError(f"{self.name(which)}: {reason}; it was there when the images were read") from wrong
        if _digest(content) != self.digests[which].numpy().tobytes():
            raise ThalwegError(f"{self.name(which)}: was altered since the images were read; start again")
        return decoded(content, self.name(which))

    def low_level(self) -> Float[Tensor, "stimulus statistic"]:
        """Mean and contrast of each colour channel, and mean gradients along both axes, of the middle squares."""
        return torch.cat([low_level(self.take(piece).pixels) for piece in torch.arange(len(self)).split(PIECE)])

    def last_token(self) -> None:
        """An image has no tokens."""

    def groups(self) -> None:
        """Images stand for themselves."""

    def show(self, which: int) -> Shown:
        """The middle square of one image as a small PNG file."""
        file = io.BytesIO()
        square(self.picture(which), min(self.side, SHOWN_SIDE)).save(file, format="PNG", optimize=True)
        return Shown(self.label_names[int(self.labels[which])], png=file.getvalue())

    def content_hash(self) -> str:
        """Sixteen hexadecimal digits that differ whenever the bytes of an image, a label or their order does."""
        digest = hashlib.sha256(repr((len(self), self.side, self.label_names)).encode())
        digest.update(self.digests.contiguous().numpy().tobytes())
        digest.update(self.labels.long().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


def read_images(path: Path, *, skip_bad: bool = False) -> Images | ImageFiles:
    """The images of a folder, of Parquet files, or of IDX files (of these the test images), with their classes.

    In a folder, a class is a subfolder with all that is below it; images that lie in none have the class "". A folder
    with images and Parquet files counts as one of images. With `skip_bad`, images that do not decode are left out and
    named in `left_out`.

    Raises:
        ThalwegError: nothing there, no images (says what was found), labels for some images only, or images that do not
            decode (names the first few).
    """
    if not path.exists():
        raise ThalwegError(f"{path}: there is no such file or folder; {FORMS} was expected")
    if path.is_file():
        if path.suffix.lower() != TABLES:
            raise ThalwegError(f"{path}: is no Parquet file; {FORMS} was expected")
        return read_tables(path, [path], skip_bad)
    found = sorted(one for one in path.rglob("*") if one.is_file() and not _hidden(one.relative_to(path)))
    pictures = [one for one in found if one.suffix.lower() in ENDINGS]
    if pictures:
        return _from_pictures(path, pictures, skip_bad)
    tables = [one for one in found if one.suffix.lower() == TABLES]
    if tables:
        return read_tables(path, tables, skip_bad)
    if any("idx3-ubyte" in one.name for one in found if one.parent == path):
        return read_idx_folder(path)[1]
    endings = Counter(one.suffix.lower() or "no ending" for one in found)
    what = ", ".join(f"{count} with {ending}" for ending, count in endings.most_common(NAMED))
    raise ThalwegError(
        f"{path}: " + (f"none of its {len(found)} files is an image ({what})" if found else "is an empty folder")
        + f"; {FORMS} was expected (images end in {', '.join(ENDINGS)})"
    )  # fmt: skip


def read_tables(path: Path, paths: list[Path], skip_bad: bool = False) -> ImageFiles:
    """The images of several Parquet files as one set; `path` is what the user named.

    Raises:
        ThalwegError: as `read_images`.
    """
    tables = [parquet.read_table(one) for one in paths]
    rows = torch.tensor([table.rows for table in tables])
    if not rows.sum():
        raise ThalwegError(f"{path}: has no rows; images were expected")
    given = [label for table in tables for label in table.labels]
    if given and len(given) < int(rows.sum()):
        raise ThalwegError(f"{path}: some of its {len(tables)} Parquet files have classes and some have none")
    labels, names = _coded(given or [""] * int(rows.sum()), _agreed(path, tables), path)
    images = ImageFiles(
        files=tuple(table.file for table in tables),
        file=torch.arange(len(tables)).repeat_interleave(rows),
        row=torch.cat([torch.arange(table.rows) for table in tables]),
        digests=torch.empty(len(labels), 0, dtype=torch.uint8),
        labels=labels,
        label_names=names,
        columns=tuple(table.column for table in tables),
    )
    loads = (partial(parquet.picture_bytes, one, table.file) for table in tables for one in parquet.entries(table))
    return _checked(path, images, loads, skip_bad)


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def _from_pictures(folder: Path, paths: list[Path], skip_bad: bool) -> ImageFiles:
    within = [one.relative_to(folder).parts for one in paths]
    labels, names = _coded([parts[0] if len(parts) > 1 else "" for parts in within], {}, folder)
    images = ImageFiles(
        files=tuple(map(str, paths)),
        file=torch.arange(len(paths)),
        row=torch.full((len(paths),), -1),
        digests=torch.empty(len(paths), 0, dtype=torch.uint8),
        labels=labels,
        label_names=names,
    )
    return _checked(folder, images, (one.read_bytes for one in paths), skip_bad)


def _agreed(path: Path, tables: Iterable[parquet.Table]) -> dict[int, str]:
    """The names of classes that several files give together.

    Raises:
        ThalwegError: they contradict each other.
    """
    names: dict[int, str] = {}
    for table in tables:
        for number, name in table.names.items():
            if names.setdefault(number, name) != name:
                raise ThalwegError(
                    f"{path}: class {number} is {names[number]!r} in one Parquet file and {name!r} in {table.file}"
                )
    return names


def _coded(
    labels: Sequence[int | str | None], names: dict[int, str], path: Path
) -> tuple[Int[Tensor, " stimulus"], tuple[str, ...]]:
    """Labels as numbers of classes, and the classes' names. Numbers are kept, so that they are a model's own."""
    if all(label is None or label == -1 for label in labels):  # how `datasets` says that there are none
        return torch.zeros(len(labels), dtype=torch.int64), ("",)
    if any(label is None or (isinstance(label, int) and label < 0) for label in labels):
        missing = sum(label is None or (isinstance(label, int) and label < 0) for label in labels)
        raise ThalwegError(
            f"{path}: {missing} of {len(labels)} images have no class; one for each, or none, was expected"
        )
    numbers = [label for label in labels if isinstance(label, int)]
    if len(numbers) == len(labels) and max(numbers) < len(set(numbers)) + SPARSE:
        most = max([*numbers, *names])
        return torch.tensor(numbers), tuple(names.get(number, str(number)) for number in range(most + 1))
    classes = sorted(set(labels), key=lambda label: (str(type(label)), label))
    code = {label: place for place, label in enumerate(classes)}
    shown = tuple(names.get(label, str(label)) if isinstance(label, int) else str(label) for label in classes)
    return torch.tensor([code[label] for label in labels]), shown


def _checked(path: Path, images: ImageFiles, loads: Iterable[Callable[[], bytes]], skip_bad: bool) -> ImageFiles:
    """The images with their digests, without those that do not decode.

    Raises:
        ThalwegError: some do not decode and are not to be left out, or none does.
    """
    looks = list(_looks(loads))
    bad = [f"{images.name(place)} {reason}" for place, (_, reason) in enumerate(looks) if reason]
    if bad and (len(bad) == len(looks) or not skip_bad):
        more = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
        mend = "mend them" if len(bad) == len(looks) else "mend them, take them away, or leave them out with --skip-bad"
        raise ThalwegError(
            f"{path}: {len(bad)} of {len(looks)} images cannot be used: {'; '.join(bad[:NAMED])}{more}; {mend}"
        )
    good = torch.tensor([not reason for _, reason in looks])
    digests = np.frombuffer(b"".join(digest for digest, reason in looks if not reason), np.uint8)
    kept = replace(images, digests=torch.zeros(len(looks), DIGEST, dtype=torch.uint8), left_out=tuple(bad))
    return replace(kept.take(good.nonzero().flatten()), digests=torch.from_numpy(digests.reshape(-1, DIGEST).copy()))


def _looks(loads: Iterable[Callable[[], bytes]]) -> Iterator[tuple[bytes, str]]:
    """For each image, the digest of its bytes and what is wrong with them, if anything; in threads, some at a time."""
    waiting = iter(loads)
    with ThreadPoolExecutor(default_workers()) as threads:
        while some := list(islice(waiting, PIECE)):
            yield from threads.map(_look, some)


def _look(load: Callable[[], bytes]) -> tuple[bytes, str]:
    try:
        content = load()
    except (OSError, ValueError) as wrong:
        return b"", _reason(wrong)
    return _digest(content), flaw(content)


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()[:DIGEST]


def _reason(wrong: Exception) -> str:
    if isinstance(wrong, OSError):
        return f"cannot be read ({wrong.strerror or wrong})"
    return str(wrong)
