"""Verdicts from tables, CSV or Parquet files or polars frames: on one curve, or on many at once."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool

from thalweg.errors import ThalwegError
from thalweg.progress import Progress, Silent
from thalweg.shape.axes import effect_in_units, is_less_better
from thalweg.shape.judging import judge
from thalweg.shape.reading import ModelTable, table_of_frame
from thalweg.shape.tables import Columns, columns_of, labels_of
from thalweg.shape.verdict import Verdict, says

CONTROL, TRAINED = "control", "trained"  # a run's column that tells trained models from their twins
FEW = 5  # models: fewer can hardly show a shape


@dataclass(frozen=True)
class Choice:
    """Which columns of a table are judged, and how."""

    strength: str
    scores: tuple[str, ...]
    errors: tuple[str, ...] = ()  # standard errors: none, or one for each score
    group: str | None = None  # the configuration of each row
    by: str | None = None  # what splits the rows into groups of models, each with a verdict
    smallest_effect: float | str | None = None
    scale: str | None = None
    less_is_better: bool | None = None  # of the strength; None: by its name


@dataclass(frozen=True)
class Curve:
    """One curve of a table and its verdict."""

    table: str
    by: str  # the group of models, empty where there is one only
    strength: str
    score: str
    turned: bool  # the strength was negated, as less of it is better
    verdict: Verdict
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        """What tells the curve from the others."""
        return ": ".join(filter(None, (self.table, self.by, self.score)))

    def to_record(self) -> dict[str, Any]:
        """All of it in the types that JSON has."""
        about = {"table": self.table, "by": self.by, "strength": self.strength, "score": self.score}
        kind, p = decisive(self.verdict)
        return {
            **about,
            "turned": self.turned,
            "notes": list(self.notes),
            "p_of": kind,
            "p_decisive": p if np.isfinite(p) else None,
            **self.verdict.to_record(),
        }


@dataclass(frozen=True, eq=False)
class Prepared:
    """A curve that is ready to be judged."""

    table: str
    by: str
    strength: str
    score: str
    turned: bool
    columns: Columns
    effect: float | None
    notes: tuple[str, ...]


def decisive(verdict: Verdict) -> tuple[str, float]:
    """The p value that a verdict rests on, and the shape whose it is; of `cannot tell`, the smallest one.

    Example:
        >>> from thalweg.shape import judge
        >>> decisive(judge([1, 2, 3, 4, 5, 6], [0.61, 0.64, 0.71, 0.78, 0.80, 0.86]))[0]
        'increasing'
    """
    known = {shape: value for shape, value in verdict.p.items() if not np.isnan(value)}
    shape: str = says(verdict.verdict)
    if shape not in known:
        shape = min(known, key=lambda each: known[each], default="")
    return shape, known.get(shape, float("nan"))


def judge_curves(
    tables: Sequence[ModelTable],
    choice: Choice,
    *,
    seed: int = 0,
    draws: int = 4000,
    alpha: float = 0.05,
    progress: Progress | None = None,
) -> tuple[Curve, ...]:
    """A verdict for each table, group of models and score. All columns are read before the first is judged.

    Args:
        tables: As `read_table` reads them.
        choice: The columns, the same of every table.
        seed: Of the simulated null curves.
        draws: How many null curves are simulated for each.
        alpha: The level of the tests.
        progress: What is told of the steps.

    Returns:
        The curves, table by table.

    Raises:
        ThalwegError: A column is missing or holds what it should not, as for `judge_table`, or there is not one column
            of standard errors for each score.

    Example:
        >>> import polars as pl
        >>> from thalweg.shape import Choice, judge_curves, table_of_frame
        >>> scores = {"easy": [0.61, 0.64, 0.71, 0.78, 0.80, 0.86], "hard": [0.8, 0.7, 0.6, 0.61, 0.72, 0.79]}
        >>> table = table_of_frame(pl.DataFrame({"params": [1, 2, 3, 4, 5, 6], **scores}), "two scores")
        >>> easy, hard = judge_curves([table], Choice("params", tuple(scores)))
        >>> easy.score, easy.verdict.verdict
        ('easy', 'increasing')
    """
    if choice.errors and len(choice.errors) != len(choice.scores):
        raise ThalwegError(
            f"there are {len(choice.scores)} scores ({', '.join(choice.scores)}) and {len(choice.errors)} standard "
            f"errors ({', '.join(choice.errors)}); give one --se for each --score, in the same order, or none"
        )
    prepared = [curve for table in tables for curve in _prepared(table, choice)]
    progress = progress or Silent()
    alone = len(prepared) == 1
    rule = partial(judge, seed=seed, draws=draws, alpha=alpha, progress=progress if alone else None)
    with progress.stage("shape", 0 if alone else len(prepared)) as advance:
        curves = []
        for curve in prepared:
            curves.append(_judged(curve, rule))
            advance()
    return tuple(curves)


def judge_table(
    frame: pl.DataFrame | ModelTable,
    *,
    strength: str,
    score: str,
    se: str | None = None,
    group: str | None = None,
    seed: int = 0,
    draws: int = 4000,
    smallest_effect: float | str | None = None,
    scale: str | None = None,
    less_is_better: bool | None = None,
    alpha: float = 0.05,
    progress: Progress | None = None,
) -> Verdict:
    """`judge` on the named columns of a table, whether `read_table` read it or it is a polars frame.

    An empty cell, a null, NaN, NA, N/A, null, none, - and the like are missing numbers: their rows are left out and
    counted. `progress` gets one line on what was assumed of the file, which rows were left out, and what a careful
    reader would ask about the columns.

    Args:
        frame: One row a model.
        strength: The column of the strength.
        score: The column of the score.
        se: The column of the score's standard error.
        group: The column that names the configuration of each model; rows of one are its seeds.
        seed: Of the simulated null curves.
        draws: How many null curves are simulated.
        smallest_effect: The least difference that matters: a number in units of the score, or a share such as `"5%"`.
        scale: What the whole is of which `smallest_effect` is a share: `"fraction"` (1) or `"percent"` (100); by
            default decided by the scores.
        less_is_better: Whether a model is the stronger, the smaller its strength: it is negated then. By default
            decided by the name: a loss, an error, a perplexity is negated.
        alpha: The level of the tests.
        progress: What is told of the steps.

    Returns:
        The verdict.

    Raises:
        ThalwegError: A column does not exist, exists twice, holds something that is no number, or serves two purposes,
            or `judge` cannot use what it holds.

    Example:
        >>> import polars as pl
        >>> from thalweg.shape import judge_table
        >>> models = pl.DataFrame({"loss": range(8), "read": [0.8, 0.71, 0.66, 0.6, 0.61, 0.65, 0.72, 0.79]})
        >>> judge_table(models, strength="loss", score="read").verdict
        'valley'
    """
    table = frame if isinstance(frame, ModelTable) else table_of_frame(frame)
    progress = progress or Silent()
    errors = () if se is None else (se,)
    choice = Choice(strength, (score,), errors, group, None, smallest_effect, scale, less_is_better)
    (prepared,) = _prepared(table, choice)
    curve = _judged(prepared, partial(judge, seed=seed, draws=draws, alpha=alpha, progress=progress))
    if curve.notes:
        progress.say(f"{table.source}: {'; '.join(curve.notes)}")
    return curve.verdict


def _judged(curve: Prepared, rule: Callable[..., Verdict]) -> Curve:
    columns = curve.columns
    verdict = rule(
        -columns.strength if curve.turned else columns.strength,
        columns.score,
        se=columns.se,
        group=columns.group,
        smallest_effect=curve.effect,
    )
    notes = curve.notes
    if verdict.n_models < FEW:
        listed = f"{verdict.n_models} model{'' if verdict.n_models == 1 else 's'}"
        notes = (*notes, f"{listed}: fewer than {FEW} can hardly show a shape; let nothing rest on this")
    return Curve(curve.table, curve.by, curve.strength, curve.score, curve.turned, verdict, notes)


def _prepared(table: ModelTable, choice: Choice) -> Iterator[Prepared]:
    """The curves of a table, with what was assumed of each."""
    turned = is_less_better(choice.strength) if choice.less_is_better is None else choice.less_is_better
    for by, part in _parts(table, choice.by):
        for index, score in enumerate(choice.scores):
            se = choice.errors[index] if choice.errors else None
            purposes = {"strength": choice.strength, "score": score, "se": se, "group": choice.group}
            columns = columns_of(part, purposes)
            notes = [*table.notes, columns.note]
            if turned:
                how = "" if choice.less_is_better else ", by its name (--more-is-better leaves it)"
                notes.append(f"less {choice.strength!r} is better{how}: the strength is its negative")
            notes += _hints(part, columns, purposes)
            effect = effect_in_units(columns.score, choice.smallest_effect, choice.scale, score)
            kept = tuple(note for note in notes if note)
            yield Prepared(table.source, by, choice.strength, score, turned, columns, effect, kept)


def _parts(table: ModelTable, by: str | None) -> Iterator[tuple[str, ModelTable]]:
    """The groups of models of a table, in the order in which they come."""
    if by is None:
        yield "", table
        return
    labels = labels_of(table, by)
    for label in dict.fromkeys(labels):
        yield label, table.keep([row for row, each in enumerate(labels) if each == label])


def _hints(table: ModelTable, columns: Columns, purposes: dict[str, str | None]) -> Iterator[str]:
    """What a careful reader would ask about these columns."""
    strength, score = purposes["strength"], purposes["score"]
    known = np.isfinite(columns.strength) & np.isfinite(columns.score)
    x, y = columns.strength[known], columns.score[known]
    if len(x) > 1 and np.array_equal(x, y):
        yield f"{strength!r} and {score!r} hold the same numbers: a score against itself always rises"
    for name, values in ((strength, x), (score, y)):
        if len(values) > 1 and np.ptp(values) == 0:
            yield f"{name!r} is {values[0]:g} in every row, so no shape can show; choose another column or group"
    doubled = _doubled(table)
    if doubled:
        listed = ", ".join(map(str, doubled[:5])) + (", ..." if len(doubled) > 5 else "")
        noun = table.noun if len(doubled) == 1 else f"{table.noun}s"
        yield f"{noun} {listed}: the same as an earlier one in every column; a model counted twice makes p too small"
    yield from _control_hints(table, known)
    yield from _group_hints(columns, purposes["group"])


def _doubled(table: ModelTable) -> list[int]:
    """The lines of rows that repeat an earlier one in every column."""
    seen: set[tuple[str, ...]] = set()
    lines = []
    for row, line in enumerate(table.lines):
        cells = tuple(str(column[row]) for column in table.columns)
        if cells in seen:
            lines.append(line)
        seen.add(cells)
    return lines


def _control_hints(table: ModelTable, known: Bool[np.ndarray, " row"]) -> Iterator[str]:
    """Whether a run's trained models are judged together with their twins; `known` says which rows are."""
    if table.names.count(CONTROL) != 1:
        return
    cells = table.columns[table.names.index(CONTROL)]
    kinds = list(dict.fromkeys(str(cell) for cell, judged in zip(cells, known, strict=True) if judged))
    twins = [kind for kind in kinds if kind != TRAINED]
    if twins and TRAINED in kinds:
        listed = ", ".join(twins[:5]) + (", ..." if len(twins) > 5 else "")
        yield (
            f"{CONTROL!r} names {TRAINED} models and others ({listed}), and all are judged together: to judge each "
            f"kind by itself give --by {CONTROL}"
        )


def _group_hints(columns: Columns, group: str | None) -> Iterator[str]:
    """Whether what was given as configurations looks like kinds of models instead."""
    if columns.group is None:
        return
    strengths: dict[str, set[float]] = {}
    for label, value in zip(columns.group, columns.strength.tolist(), strict=True):
        strengths.setdefault(label, set()).add(value)
    if len(strengths) < FEW and any(len(values) > 1 for values in strengths.values()):
        count = f"{len(strengths)} configuration{'' if len(strengths) == 1 else 's'}"
        yield (
            f"{group!r} names {count} only, and models of one differ in strength; rows of a configuration are averaged "
            f"as its seeds: to judge each kind of models by itself give --by {group}"
        )
