"""One ladder as the report shows it: rows of the run's tables, selected."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from thalweg.agreement.curves import answer_points, answer_verdicts
from thalweg.agreement.table import agreements, biases
from thalweg.measures.base import MEAN
from thalweg.pipeline.verdicts import ALL
from thalweg.prompting.scores import model_scores
from thalweg.report import rows, styles
from thalweg.report.charts import ValueAxis
from thalweg.report.styles import Range, Row
from thalweg.runs.run import Run
from thalweg.scoring.columns import UNITS

SAME_PLACE = (
    "Twins stand at the strength of the trained model they are twins of (their own would be near 0, or the same), a "
    "few pixels to the side so that intervals do not hide each other."
)


@dataclass(frozen=True, eq=False)
class Ladder:
    """One ladder of a run, with what all its figures share."""

    run: Run
    name: str
    axis: str
    observer: str
    observers: tuple[str, ...]
    order: tuple[str, ...]  # rungs, the weakest first
    kinds: Mapping[str, str]  # of each rung
    controls: tuple[str, ...]  # the trained models and their twins

    @property
    def strength(self) -> str:
        """What a bit of strength is on this ladder, in words."""
        words: str = self.run.record["ladders"][self.name]["strength"]
        return words

    def axis_title(self, axis: str) -> str:
        """The name of a strength axis, or this ladder's own where it has one."""
        return self.strength if axis == "bits" else self.run.record["axes"].get(axis, axis)

    @property
    def headlines(self) -> dict[str, str]:
        """The measure of each headline."""
        return self.run.headlines

    def score_axis(self, measure: str, scale: Range, word: str = "") -> ValueAxis:
        """A measure's axis; `word` is the headline that it is."""
        about = self.run.record["measures"].get(measure, {"unit": measure, "chance": None})
        return ValueAxis(f"{word}: {about['unit']}" if word else about["unit"], scale, about["chance"])

    @property
    def shapes(self) -> dict[str, str]:
        """A shape for each kind."""
        return styles.shapes(dict.fromkeys(self.kinds.values()))

    @property
    def several_kinds(self) -> list[str]:
        """The kinds, where there are several."""
        return list(self.shapes) if len(self.shapes) > 1 else []

    def verdict(
        self,
        measure: str,
        *,
        kind: str = ALL,
        axis: str = "",
        observer: str = "",
        band: str = MEAN,
        statistic: str = MEAN,
    ) -> Row | None:
        """The record of a verdict on the trained models, if there is one."""
        wanted = {
            "ladder": self.name,
            "kind": kind,
            "control": "trained",
            "measure": measure,
            "axis": axis or self.axis,
            "observer": observer or self.observer,
            "band": band,
            "statistic": statistic,
        }
        return next((record for record in self.run.shape if all(record[name] == wanted[name] for name in wanted)), None)

    @cached_property
    def answers(self) -> "LadderAnswers":
        """What observers answered about single trials of this ladder. Answers come in after the survey, so what follows
        from them is in no table of the run.
        """
        answers = self.run.answers.filter(ladder=self.name)
        models, settings = self.run.models.filter(ladder=self.name), self.run.record["settings"]
        asked = self.run.asked.filter(ladder=self.name)
        units = pl.LazyFrame(schema=UNITS) if answers.is_empty() and asked.is_empty() else self.run.scan_units()
        points = answer_points(answers, models)
        return LadderAnswers(
            points,
            answer_verdicts(points, models, axis=self.axis, seed=settings["seed"]) if len(self.order) > 1 else {},
            agreements(answers, units, self.headlines, asked=asked, seed=settings["seed"]),
            biases(answers),
            model_scores(asked),
            len(self.run.stale_answers.filter(ladder=self.name)),
        )

    def points(self, measure: str, *, axis: str = "", observer: str = "", band: str = MEAN) -> list[Row]:
        """Scores of seeds and rungs with their twins'. Several figures show the same ones."""
        wanted = measure, axis or self.axis, observer or self.observer, band
        if wanted not in self._points:
            frame = rows.points(self.run, self.name, wanted[1], measure=measure, observer=wanted[2], band=band)
            self._points[wanted] = list(rows.plain(frame))
        return list(self._points[wanted])

    @cached_property
    def _points(self) -> dict[tuple[str, ...], list[Row]]:
        return {}

    def population_points(self, measure: str, statistic: str) -> list[Row]:
        """The same of another statistic of the units than their mean."""
        frame = rows.population_points(
            self.run, self.name, self.axis, measure=measure, observer=self.observer, statistic=statistic
        )
        return list(rows.plain(frame))


@dataclass(frozen=True, eq=False)
class LadderAnswers:
    """The scores of models by each observer that answered single trials, its verdict by name and version, its agreement
    with the other observers, and its habits; what language models scored in every form; and how many answers are about
    models that were made anew since.
    """

    points: pl.DataFrame
    verdicts: Mapping[tuple[str, int, str], Row]
    agreements: pl.DataFrame
    biases: pl.DataFrame
    forms: pl.DataFrame
    stale: int


def ladders(run: Run) -> Iterator[Ladder]:
    """The ladders of a run."""
    settings = run.record["settings"]
    for name, record in run.record["ladders"].items():
        yield Ladder(
            run=run,
            name=name,
            axis=settings["strength"],
            observer=record["observers"][0]["name"],
            observers=tuple(observer["name"] for observer in record["observers"]),
            order=tuple(rows.rung_order(run, name, settings["strength"])),
            kinds=rows.kinds(run, name),
            controls=rows.controls(run, name),
        )
