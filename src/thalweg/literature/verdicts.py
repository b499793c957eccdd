"""The verdicts on published tables, and what they say together."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from thalweg.literature.studies import Axis, Score, Study, Without
from thalweg.progress import Progress, Silent
from thalweg.report.text import listing
from thalweg.shape.several import FEW, Choice, Curve, judge_curves
from thalweg.shape.tables import labels_of

NO_VERDICT = "no verdict"


@dataclass(frozen=True)
class Reading:
    """One score of a study against one axis."""

    study: Study
    score: Score
    axis: Axis
    without: Without | None  # the models that are left out
    curve: Curve | None  # None: no verdict is given
    why_not: str  # why none is

    @property
    def verdict(self) -> str:
        """The verdict in a word."""
        return self.curve.verdict.verdict if self.curve else NO_VERDICT

    @property
    def is_main(self) -> bool:
        """Whether the study is counted by it: its first score on its first axis with all models."""
        first = (self.study.scores[0], self.study.axes[0])
        return (self.score, self.axis) == first and self.without is None and not self.study.part_of

    def to_record(self) -> dict[str, Any]:
        """All of it in the types that JSON has."""
        record = self.curve.to_record() if self.curve else {"verdict": NO_VERDICT}
        return {
            **record,
            "study": self.study.key,
            "name": self.study.name,
            "citation": self.study.citation.text,
            "link": self.study.citation.link,
            "exact": self.axis.exact or self.study.exact,
            "main": self.is_main,
            "strength": self.axis.column,
            "score": self.score.column,
            "without": list(self.without.models) if self.without else [],
            "why_not": self.why_not,
        }


def judge_studies(studies: Sequence[Study], *, seed: int = 0, progress: Progress | None = None) -> tuple[Reading, ...]:
    """A reading for each score and axis of each study, and without the models that its record names."""
    wanted: list[tuple[Study, Score, Axis, Without | None]] = []
    for study in studies:
        for score in study.scores:
            wanted += [(study, score, axis, None) for axis in study.axes]
            wanted += [(study, score, study.axes[0], without) for without in study.without]
    progress = progress or Silent()
    readings = []
    with progress.stage("shape", len(wanted)) as advance:
        for study, score, axis, without in wanted:
            readings.append(_reading(study, score, axis, without, seed=seed))
            advance()
    return tuple(readings)


def _reading(study: Study, score: Score, axis: Axis, without: Without | None, *, seed: int) -> Reading:
    why_not = study.why_no_verdict(axis)
    if why_not:
        return Reading(study, score, axis, without, None, why_not)
    table = study.table
    if without is not None and study.models is not None:
        labels = labels_of(table, study.models)
        table = table.keep([row for row, label in enumerate(labels) if label not in without.models])
    errors = (score.se,) if score.se else ()
    choice = Choice(axis.column, (score.column,), errors, study.models, less_is_better=axis.less_is_better)
    (curve,) = judge_curves([table], choice, seed=seed)
    return Reading(study, score, axis, without, curve, "")


def summary(readings: Sequence[Reading]) -> str:
    """What the studies show together, in a few sentences: counts of the verdicts on their main curves."""
    main = [reading for reading in readings if reading.is_main and reading.curve]
    others = sum(reading.is_main and reading.curve is None for reading in readings)
    if not main:
        return "No study has a verdict."
    counts = Counter(reading.verdict for reading in main).most_common()
    listed = listing([f"{count} {verdict!r}" for verdict, count in counts])
    turning = sum(reading.verdict in ("valley", "hump") for reading in main)
    turns = "none shows a valley or a hump" if not turning else f"{turning} show a valley or a hump"
    few = sum(reading.curve.verdict.n_models < FEW for reading in main if reading.curve)
    rest = sum(bool(reading.curve.verdict.changes_without) for reading in main if reading.curve)
    unjudged = f" {others} more {_have(others)} no verdict, as their values are not sure or not over models."
    studies = "study" if len(main) == 1 else "studies"
    return (
        f"Of {len(main)} published {studies}, by the first curve of each, the verdicts are {listed}: {turns}. "
        f"{few} of them {_have(few)} fewer than {FEW} models, and {rest} "
        f"{'changes' if rest == 1 else 'change'} when a single model is left out.{unjudged if others else ''}"
    )


def _have(count: int) -> str:
    return "has" if count == 1 else "have"


def what_decides(reading: Reading) -> str:
    """What the verdict is without each model, in a sentence."""
    if reading.curve is None or reading.curve.verdict.scatter is None:  # nothing could be tested
        return ""
    verdict = reading.curve.verdict
    changes = verdict.changes_without
    if not changes:
        return "No single model decides: without any one of them the verdict is the same."
    listed = listing([f"without {name} it is {other!r}" for name, other in changes.items()])
    rest = "" if len(changes) == verdict.n_models else f"; without any other it stays {verdict.verdict!r}"
    return f"Single models decide: {listed}{rest}."


def what_the_axis_decides(readings: Sequence[Reading]) -> str:
    """Whether the verdict on a score is the same on each axis of its study, in a sentence."""
    axes = [reading for reading in readings if reading.without is None and reading.curve]
    if len(axes) < 2:
        return ""
    verdicts = {reading.axis.means: reading.verdict for reading in axes}
    if len(set(verdicts.values())) == 1:
        return f"The axis does not decide: the verdict is {axes[0].verdict!r} on all {len(axes)}."
    return f"The axis decides: {listing([f'on {means} it is {verdict!r}' for means, verdict in verdicts.items()])}."
