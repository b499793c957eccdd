"""Records of published tables: whose they are, what their columns mean, and how exact they are.

A study is a TOML file beside a table (CSV or Parquet). `tables/` holds those that ship; a user adds one by a file of
the same format (docs/literature.md).
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thalweg.errors import ThalwegError, readable, unknown
from thalweg.files.damage import content_of
from thalweg.shape import ModelTable, read_table
from thalweg.shape.tables import labels_of, numbers

SHIPPED = Path(__file__).parent / "tables"
SURE = ("stated", "counted", "decoded from a vector figure")
UNSURE = {
    "read off a figure": "its values were read off a figure, so they show a direction and no more",
    "from memory": "not all values of this axis could be checked against a source",
}


@dataclass(frozen=True)
class Citation:
    """Where a table is from."""

    authors: str
    year: int
    title: str
    venue: str
    link: str  # https

    @property
    def text(self) -> str:
        """The citation in one line."""
        return f"{self.authors} {self.year}, {self.title}, {self.venue}"


@dataclass(frozen=True)
class Axis:
    """A column of strengths."""

    column: str
    means: str
    less_is_better: bool = False
    logarithmic: bool = False  # how it is drawn; the verdict is the same
    exact: str = ""  # where it is less exact than the scores


@dataclass(frozen=True)
class Score:
    """A column of scores; more is more interpretable."""

    column: str
    means: str
    se: str | None = None


@dataclass(frozen=True)
class Without:
    """Models without which the first axis is judged again."""

    models: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class Study:
    """A published table and what its columns are."""

    key: str  # the name of its file
    name: str
    citation: Citation
    exact: str
    taken: str  # what was taken from the source, and how
    axes: tuple[Axis, ...]
    scores: tuple[Score, ...]
    table: ModelTable
    models: str | None = None  # the column of their names
    without: tuple[Without, ...] = ()
    caution: str = ""
    no_verdict: str = ""  # why none is given
    part_of: str = ""  # the study that it is counted with

    def why_no_verdict(self, axis: Axis) -> str:
        """Why no verdict is given on an axis; empty where one is."""
        return self.no_verdict or UNSURE.get(self.exact) or UNSURE.get(axis.exact) or ""


def read_studies(data: Iterable[str | Path] = (), *, shipped: bool = True) -> tuple[Study, ...]:
    """The studies that ship and those of files and folders of the user's.

    Raises:
        ThalwegError: A record or its table is missing or wrong; says which file and field.
    """
    paths = sorted(SHIPPED.glob("*.toml")) if shipped else []
    for place in map(Path, data):
        inside = sorted(place.glob("*.toml")) if place.is_dir() else [place]
        if not inside:
            raise ThalwegError(f"{readable(place)} holds no .toml file; a study is a record (.toml) beside its table")
        paths += inside
    return tuple(read_study(path) for path in paths)


def read_study(path: Path) -> Study:
    """Read the record of a study and its table.

    Raises:
        ThalwegError: as for `read_studies`.
    """
    source = readable(path)
    try:
        record = tomllib.loads(content_of(path).decode("utf-8"))
    except OSError as wrong:
        raise ThalwegError(f"{source} cannot be read ({wrong.strerror or wrong}); give a record (.toml)") from wrong
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as wrong:
        raise ThalwegError(f"{source} is no TOML ({wrong}); docs/literature.md shows a record") from wrong
    fields = _checked(source, "", record, STUDY)
    table = read_table(path.parent / fields.pop("table", f"{path.stem}.csv"))
    study = Study(
        key=path.stem,
        citation=Citation(**_checked(source, "citation", fields.pop("citation"), CITATION)),
        axes=tuple(Axis(**each) for each in _each(source, "axes", fields.pop("axes"), AXIS)),
        scores=tuple(Score(**each) for each in _each(source, "scores", fields.pop("scores"), SCORE)),
        without=tuple(
            Without(tuple(map(str, each["models"])), each["why"])
            for each in _each(source, "without", fields.pop("without", []), WITHOUT)
        ),
        table=table,
        **fields,
    )
    _check_meaning(source, study)
    return study


Fields = Mapping[str, tuple[type, bool]]  # of what type, and whether it must be there
STUDY: Fields = {
    **dict.fromkeys(("name", "exact", "taken"), (str, True)),
    **dict.fromkeys(("table", "models", "caution", "no_verdict", "part_of"), (str, False)),
    "citation": (dict, True),
    "axes": (list, True),
    "scores": (list, True),
    "without": (list, False),
}
CITATION: Fields = {
    **dict.fromkeys(("authors", "title", "venue", "link"), (str, True)),
    "year": (int, True),
}
AXIS: Fields = {
    "column": (str, True),
    "means": (str, True),
    "exact": (str, False),
    "less_is_better": (bool, False),
    "logarithmic": (bool, False),
}
SCORE: Fields = {"column": (str, True), "means": (str, True), "se": (str, False)}
WITHOUT: Fields = {"models": (list, True), "why": (str, True)}
NAMES = {str: "text", int: "a whole number", bool: "true or false", list: "a list", dict: "a table"}


def _each(source: str, where: str, items: list[Any], fields: Fields) -> list[dict[str, Any]]:
    """The entries of a list, each checked."""
    if not items and where != "without":
        raise ThalwegError(f"{source}, field {where!r}: is empty; give one entry at least, as [[{where}]]")
    return [_checked(source, f"{where}, entry {number}", item, fields) for number, item in enumerate(items, 1)]


def _checked(source: str, where: str, record: Any, fields: Fields) -> dict[str, Any]:
    """The fields of a record, if they are those that it should have.

    Raises:
        ThalwegError: one is missing, of another type, empty, or unknown.
    """
    at = f"{source}, {where}, " if where else f"{source}, "
    if not isinstance(record, dict):
        raise ThalwegError(f"{source}, {where}: is no table of fields; docs/literature.md shows a record")
    for name in record:
        if name not in fields:
            raise ThalwegError(f"{at}{unknown('field', name, fields)}")
    for name, (kind, needed) in fields.items():
        if name not in record:
            if needed:
                raise ThalwegError(f"{at}field {name!r}: is missing; give {NAMES[kind]}")
            continue
        value = record[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool) or value == "":
            raise ThalwegError(f"{at}field {name!r}: is {str(value)[:60]!r}; give {NAMES[kind]}")
    return dict(record)


def _check_meaning(source: str, study: Study) -> None:
    """Check that columns exist and hold numbers, that exactness is of a known kind and that links can be followed.

    Raises:
        ThalwegError: something is not so; names the field.
    """
    for where, exact in (("", study.exact), *((f"{axis.column}, ", axis.exact) for axis in study.axes if axis.exact)):
        if exact not in (*SURE, *UNSURE):
            raise ThalwegError(f"{source}, {where}field 'exact': {unknown('exactness', exact, (*SURE, *UNSURE))}")
    if not study.citation.link.startswith("https://"):
        raise ThalwegError(f"{source}, citation, field 'link': is {study.citation.link!r}; give an https:// address")
    for field, names in (
        ("axes", [axis.column for axis in study.axes]),
        ("scores", [name for score in study.scores for name in (score.column, score.se) if name]),
    ):
        for name in names:
            try:
                numbers(study.table, name)
            except ThalwegError as wrong:
                raise ThalwegError(f"{source}, field {field!r}: {wrong}") from wrong
    known = labels_of(study.table, study.models) if study.models else []
    for name in (name for each in study.without for name in each.models):
        if name not in known:
            raise ThalwegError(f"{source}, without, field 'models': {unknown('model', name, known)}")
