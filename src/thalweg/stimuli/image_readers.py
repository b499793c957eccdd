"""From what a user names to images: a folder of picture files, Parquet files with a column of pictures, or IDX files.

Every image is looked at once before the long work: its bytes are read for the digest that names it, and its header is
checked. Where damaged images are to be left out, it is decoded. One error names all that is wrong. Every reader says in
one line what it took and what it passed over, and why.

A folder (or a set of Parquet files) whose parts are `train`, `val` or `test` holds splits, not classes. One split is
read, since a model is measured on images that it was not trained on: the first of `HELD_OUT` that is there.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from thalweg.compute.local import default_workers
from thalweg.errors import ThalwegError, readable
from thalweg.stimuli import parquet
from thalweg.stimuli.base import Source
from thalweg.stimuli.decoding import WHITE, Glance, glance, white_of
from thalweg.stimuli.files import DIGEST, PIECE, ImageFiles, digest_of, why_unread
from thalweg.stimuli.folders import Listing, files_below, regular_bytes
from thalweg.stimuli.idx import read_idx_folder
from thalweg.stimuli.images import Images

ENDINGS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
TABLES = ".parquet"
FORMS = (
    "a folder of images (one subfolder for each class, or none), a Parquet file or a folder of them, or a folder with "
    "four IDX files"
)
NAMED = 5  # how many of the files with a flaw an error names
SPARSE = 1000  # numbers of classes that may go unused before they are numbered anew
HELD_OUT = ("val", "valid", "validation", "dev", "test", "testing", "train", "training")  # splits, the first preferred
SHARD = re.compile(rf"({'|'.join(sorted(HELD_OUT, key=len, reverse=True))})(?![a-z])")  # how a split's file begins
DARK = 0x7FFF  # of sixteen bits a colour: what does not reach it uses fewer bits


@dataclass(frozen=True)
class _Account:
    """What a reader took, and what it passed over."""

    taken: str
    passed: tuple[str, ...] = ()


def read_images(
    path: Path, *, image_column: str | None = None, label_column: str | None = None, skip_bad: bool = False
) -> Images | ImageFiles:
    """The images of a folder, of Parquet files, or of IDX files (of these the test images), with their classes.

    In a folder, a class is a subfolder with all that is below it; images that lie in none have the class "". A folder
    with images and Parquet files counts as one of images. The columns are those of Parquet files. With `skip_bad`,
    images that do not decode are left out and named in `left_out`.

    Raises:
        ThalwegError: nothing there, no images (says what was found), labels for some images only, or images that do not
            decode (names the first few).
    """
    read = partial(read_tables, path, image=image_column, label=label_column, skip_bad=skip_bad)
    _must_exist(path)
    if path.is_file():
        if path.suffix.lower() != TABLES:
            raise ThalwegError(f"{readable(path)}: is no Parquet file; {FORMS} was expected")
        return read([path])
    listing = files_below(path)
    pictures = [file for file in listing.files if file.suffix.lower() in ENDINGS]
    tables = [file for file in listing.files if file.suffix.lower() == TABLES]
    if tables and not pictures:
        chosen, remarks = _one_split(path, tables, _split_of_table)
        others = _others(listing, lambda file: file.suffix.lower() == TABLES)
        return read(chosen, passed=(*remarks, *others))
    if named := image_column or label_column:
        raise ThalwegError(
            f"{readable(path)}: column {named!r} was named, but the folder holds no Parquet files, or picture files too"
        )
    if pictures:
        return _from_pictures(listing, pictures, skip_bad)
    if any("idx3-ubyte" in file.name for file in listing.files if file.parent == path):
        return _from_idx(path)
    raise _no_images(listing)


def images_of(source: Source) -> Images | ImageFiles:
    """The images that a user names, with the columns and the leniency that go with them.

    Raises:
        ThalwegError: as `read_images`.
    """
    assert source.path is not None  # who calls says what is missing
    return read_images(source.path, image_column=source.image, label_column=source.label, skip_bad=source.skip_bad)


def read_tables(
    path: Path,
    paths: Sequence[Path],
    *,
    image: str | None = None,
    label: str | None = None,
    skip_bad: bool = False,
    passed: tuple[str, ...] = (),
) -> ImageFiles:
    """The images of several Parquet files as one set; `path` is what the user named, `passed` what was left out of it.

    Raises:
        ThalwegError: as `read_images`.
    """
    tables = [parquet.read_table(file, image=image, label=label) for file in paths]
    rows = torch.tensor([table.rows for table in tables])
    if not rows.sum():
        raise ThalwegError(f"{readable(path)}: has no rows; images were expected")
    given = [label for table in tables for label in table.labels]
    if given and len(given) < int(rows.sum()):
        raise ThalwegError(f"{readable(path)}: some of its {len(tables)} Parquet files have classes and some have none")
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
    loads = (partial(parquet.picture_bytes, entry, table.file) for table in tables for entry in parquet.entries(table))
    return _checked(path, images, loads, skip_bad, _account_of_tables(tables, passed))


def _must_exist(path: Path) -> None:
    try:
        there = path.exists()
    except (OSError, ValueError) as wrong:
        raise ThalwegError(f"{readable(path)}: cannot be looked at ({wrong})") from wrong
    if not there:
        raise ThalwegError(f"{readable(path)}: there is no such file or folder; {FORMS} was expected")
    if not (path.is_file() or path.is_dir()):
        raise ThalwegError(f"{readable(path)}: is neither a file nor a folder; {FORMS} was expected")


def _no_images(listing: Listing) -> ThalwegError:
    endings = _endings(listing.files)
    skipped = f" ({'; '.join(listing.reasons)} skipped)" if listing.skipped else ""
    what = f"none of its {len(listing.files)} files is an image ({endings})" if endings else "is an empty folder"
    return ThalwegError(
        f"{readable(listing.folder)}: {what}{skipped}; {FORMS} was expected (images end in {', '.join(ENDINGS)})"
    )


def _endings(files: Iterable[Path]) -> str:
    """How many files have which ending, the most frequent first."""
    endings = Counter(readable(file.suffix.lower()) or "no ending" for file in files)
    shown = [f"{count:,} with {ending}" for ending, count in endings.most_common(NAMED)]
    more = sum(endings.values()) - sum(count for _, count in endings.most_common(NAMED))
    return ", ".join(shown) + (f", {more:,} with others" if more else "")


def _others(listing: Listing, taken: Callable[[Path], bool]) -> tuple[str, ...]:
    """What was skipped in a folder, and why."""
    other = [file for file in listing.files if not taken(file)]
    kinds = (f"{len(other):,} files of other kinds ({_endings(other)})",) if other else ()
    skipped = (*kinds, *listing.reasons)
    return (f"skipped {', '.join(skipped)}",) if skipped else ()


def _split_of_picture(within: Path) -> str:
    """The split that an image belongs to by the first folder on its way, or nothing."""
    first = within.parts[0].lower()
    return first if len(within.parts) > 1 and first in HELD_OUT else ""


def _split_of_table(within: Path) -> str:
    """The split that a Parquet file belongs to by the folders on its way or by how its name begins, or nothing."""
    folders = [part.lower() for part in within.parts[:-1] if part.lower() in HELD_OUT]
    begins = SHARD.match(within.name.lower())
    return folders[-1] if folders else begins.group(1) if begins else ""


def _one_split(
    folder: Path, files: Sequence[Path], split_of: Callable[[Path], str]
) -> tuple[list[Path], tuple[str, ...]]:
    """The files of one split where all belong to splits, with remarks on that; else all files, and no remarks."""
    splits = [split_of(file.relative_to(folder)) for file in files]
    there = [split for split in HELD_OUT if split in splits]
    if not all(splits):
        return list(files), ()
    chosen = [file for file, split in zip(files, splits, strict=True) if split == there[0]]
    if len(there) == 1:
        return chosen, (f"{there[0]!r} is taken for a split, not for a class",)
    counts = ", ".join(f"{split} {splits.count(split):,}" for split in there[1:])
    return chosen, (
        f"its parts are splits, of which {there[0]!r} is read and not the others (files: {counts}); to read another, "
        "name its own folder",
    )


def _from_pictures(listing: Listing, pictures: Sequence[Path], skip_bad: bool) -> ImageFiles:
    folder = listing.folder
    chosen, remarks = _one_split(folder, pictures, _split_of_picture)
    within = [file.relative_to(folder).parts[1 if remarks else 0 :] for file in chosen]
    labels, names = _coded([readable(parts[0]) if len(parts) > 1 else "" for parts in within], {}, folder)
    images = ImageFiles(
        files=tuple(map(str, chosen)),
        file=torch.arange(len(chosen)),
        row=torch.full((len(chosen),), -1),
        digests=torch.empty(len(chosen), 0, dtype=torch.uint8),
        labels=labels,
        label_names=names,
    )
    passed = (*remarks, *_others(listing, lambda file: file.suffix.lower() in ENDINGS))
    counted = f"{len(names):,} class{'' if len(names) == 1 else 'es'} by subfolder"
    classes = "no classes (there are no subfolders)" if names == ("",) else counted
    account = _Account(f"picture files ({_endings(chosen)}), {classes}", passed)
    return _checked(folder, images, (partial(regular_bytes, file) for file in chosen), skip_bad, account)


def _from_idx(folder: Path) -> Images:
    learning, test = read_idx_folder(folder)
    read, skipped = f"read the {len(test):,} test images of IDX files", f"skipped {len(learning):,} training images"
    return replace(test, notes=(f"{readable(folder)}: {read}; {skipped}",))


def _account_of_tables(tables: Sequence[parquet.Table], passed: tuple[str, ...]) -> _Account:
    """A note on Parquet files: the columns that were taken, and those that were not."""
    images = " or ".join(dict.fromkeys(repr(table.column) for table in tables))
    labels = " or ".join(dict.fromkeys(repr(table.label) for table in tables if table.label))
    undecided = list(dict.fromkeys(repr(name) for table in tables for name in table.undecided))
    unused = list(dict.fromkeys(repr(name) for table in tables for name in table.unused))
    if undecided:
        passed = (f"{' or '.join(undecided)} may be the classes: name one with --label-column", *passed)
    if unused:
        passed = (f"not used: {', '.join(unused)}", *passed)
    return _Account(f"images of column {images}, {f'classes of column {labels}' if labels else 'no classes'}", passed)


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
                    f"{readable(path)}: class {number} is {names[number]!r} in one Parquet file and {name!r} in "
                    f"{readable(table.file)}"
                )
    return names


def _coded(
    labels: Sequence[int | str | None], names: dict[int, str], path: Path
) -> tuple[Int[Tensor, " stimulus"], tuple[str, ...]]:
    """Labels as numbers of classes, and the classes' names. Numbers are kept, so that they are a model's own."""
    if all(label is None or label == -1 for label in labels):  # how `datasets` says that there are none
        return torch.zeros(len(labels), dtype=torch.int64), ("",)
    missing = [row for row, label in enumerate(labels) if label is None or (isinstance(label, int) and label < 0)]
    if missing:
        raise ThalwegError(
            f"{readable(path)}: {len(missing)} of {len(labels)} images have no class (the first is image "
            f"{missing[0] + 1}); one for each, or none, was expected"
        )
    numbers = [label for label in labels if isinstance(label, int)]
    if len(numbers) == len(labels) and max(numbers) < len(set(numbers)) + SPARSE:
        most = max([*numbers, *names])
        return torch.tensor(numbers), tuple(names.get(number, str(number)) for number in range(most + 1))
    classes = sorted(set(labels), key=lambda label: (str(type(label)), label))
    code = {label: number for number, label in enumerate(classes)}
    shown = tuple(names.get(label, str(label)) if isinstance(label, int) else str(label) for label in classes)
    return torch.tensor([code[label] for label in labels]), shown


Look = tuple[bytes, Glance]  # the digest of an image's bytes, and what a first look shows


def _checked(
    path: Path, images: ImageFiles, loads: Iterable[Callable[[], bytes]], skip_bad: bool, account: _Account
) -> ImageFiles:
    """The images with their digests, without those that do not decode, and with what their reader says.

    Raises:
        ThalwegError: some do not decode and are not to be left out, or none does.
    """
    looks = list(_looks(loads, skip_bad))
    bad = [f"{images.name(index)} {seen.flaw}" for index, (_, seen) in enumerate(looks) if seen.flaw]
    if bad and (len(bad) == len(looks) or not skip_bad):
        more = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
        mend = "mend them" if len(bad) == len(looks) else "mend them, take them away, or leave them out with --skip-bad"
        raise ThalwegError(
            f"{readable(path)}: {len(bad)} of {len(looks)} images cannot be used: {'; '.join(bad[:NAMED])}{more}; "
            f"{mend}"
        )
    good = [look for look in looks if not look[1].flaw]
    kept = replace(images, digests=torch.zeros(len(looks), DIGEST, dtype=torch.uint8), left_out=tuple(bad))
    kept = kept.take(torch.tensor([not seen.flaw for _, seen in looks]).nonzero().flatten())
    digests = np.frombuffer(b"".join(digest for digest, _ in good), np.uint8).reshape(-1, DIGEST)
    grey = [seen.peak for _, seen in good if seen.peak is not None and seen.grey]
    white = white_of(max(grey)) if grey else WHITE
    remarks = [f"{readable(path)}: read {len(kept):,} {account.taken}", *account.passed, *_remarks(good, bad, white)]
    return replace(kept, digests=torch.from_numpy(digests.copy()), white=white, notes=("; ".join(remarks),))


def _remarks(good: Sequence[Look], bad: Sequence[str], white: int) -> Iterator[str]:
    """Remarks on single images: copies, those left out, those of sixteen bits that use fewer."""
    copies = len(good) - len({digest for digest, _ in good})
    if bad:
        yield f"left out {len(bad):,} that cannot be used, first {bad[0]}"
    if copies:
        yield f"{copies:,} are copies of others, byte for byte"
    if white != WHITE:
        count = sum(seen.grey for _, seen in good)
        which = (
            "grey picture of more than eight bits uses" if count == 1 else "grey pictures of more than eight bits use"
        )
        yield f"{count:,} {which} {white.bit_length()}, so {white:,} is the white"
    colours = [seen.peak for _, seen in good if seen.peak is not None and not seen.grey]
    if colours and max(colours) < DARK:
        yield (
            f"{len(colours):,} pictures of sixteen bits a colour are dark (their brightest value is about "
            f"{max(colours):,} of {WHITE:,}): scale them, if they use fewer bits"
        )


def _looks(loads: Iterable[Callable[[], bytes]], whole: bool) -> Iterator[Look]:
    """A first look at each image, or at the whole of each; in threads, some at a time."""
    waiting = iter(loads)
    with ThreadPoolExecutor(default_workers()) as threads:
        while piece := list(islice(waiting, PIECE)):
            yield from threads.map(partial(_look, whole=whole), piece)


def _look(load: Callable[[], bytes], *, whole: bool) -> Look:
    try:
        content = load()
    except (OSError, ValueError) as wrong:
        return b"", Glance(why_unread(wrong))
    return digest_of(content), glance(content, whole=whole)
