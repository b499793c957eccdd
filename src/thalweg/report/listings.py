"""The tables of the report: cells of text, each with the value that it is sorted by."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from thalweg.pipeline.verdicts import ALL
from thalweg.report import figures, rows
from thalweg.report.figures import ROTATED, TRAINED
from thalweg.report.ladder import Ladder
from thalweg.report.styles import Row
from thalweg.report.text import (
    NONE,
    Number,
    decimal,
    interval,
    listing,
    missing,
    on_axis,
    p_value,
    percent,
    signed,
    span,
    whole,
)
from thalweg.runs.run import Run
from thalweg.shape.sentences import models as count_of_models

ABOVE, LEVEL, BELOW = "above", "not special", "below"
FEW = 24  # characters that are not broken over lines
SHAPES = ("valley", "hump", "increasing", "decreasing")


@dataclass(frozen=True)
class Cell:
    """What a cell says, and what its column is sorted by."""

    text: str
    key: float | str = ""

    @property
    def number(self) -> bool:
        """Whether it holds a number."""
        return isinstance(self.key, float)

    @property
    def kind(self) -> str:
        """How it is set: a number, a few words that stay on one line, or a sentence."""
        return "number" if self.number else "few" if len(self.text) <= FEW else "sentence"

    @property
    def key_text(self) -> str:
        """The value as JavaScript reads it."""
        key = self.key
        return "Infinity" if key == float("inf") else f"{key:.6g}" if isinstance(key, float) else key


@dataclass(frozen=True)
class Table:
    """A table with a caption for readers who do not see it."""

    name: str
    caption: str
    columns: tuple[str, ...]
    lines: tuple[tuple[Cell, ...], ...]


def word(text: Any) -> Cell:
    """A cell of text."""
    shown = NONE if text is None or text == "" else str(text)
    return Cell(shown, shown)


def number(value: Number, form: Callable[[Number], str]) -> Cell:
    """A cell that holds a number; a missing one sorts last."""
    return Cell(form(value), float("inf") if value is None or missing(value) else float(value))


def estimate(row: Row | None) -> Cell:
    """A score with its interval."""
    if not row:
        return Cell(NONE, float("inf"))
    return Cell(interval(row["score"], row["low"], row["high"]), number(row["score"], decimal).key)


def table(name: str, caption: str, lines: Iterable[dict[str, Cell]]) -> Table:
    """A table from lines that name their columns, all the same ones."""
    listed = list(lines)
    columns = tuple(listed[0]) if listed else ()
    return Table(name, caption, columns, tuple(tuple(line.values()) for line in listed))


def verdict_line(verdict: Row) -> dict[str, Cell]:
    """One verdict with what it rests on."""
    depth, lost = verdict["depth"], verdict["changes_without"]
    size = f"{depth['shape']} {interval(depth['value'], depth['low'], depth['high'])}" if depth else NONE
    return {
        "ladder": word(verdict["ladder"]),
        "kind": word(verdict["kind"]),
        "measure": word(verdict["headline"] or verdict["measure"]),
        "verdict": word(verdict["verdict"]),
        **{f"p {shape}": number(verdict["p"].get(shape), p_value) for shape in SHAPES},
        "p flat": number(verdict["p"].get("flat"), p_value),
        "best turn, its depth or height": Cell(size, depth["value"] if depth else float("inf")),
        "least depth to be seen": number(verdict["minimum_detectable_depth"], decimal),
        "n models": number(verdict["n_models"], whole),
        "without each model": word("; ".join(f"without {name}: {other}" for name, other in lost.items()) or "the same"),
        "by scatter": word("; ".join(f"{name}: {each['verdict']}" for name, each in verdict["sensitivity"].items())),
    }


def headline_verdicts(run: Run) -> Table:
    """The verdicts on the headlines, over all kinds and within each."""
    lines = [verdict_line(verdict) for verdict in run.shape if verdict["headline"]]
    return table("verdicts", "Verdicts on the headlines", [_without_ladder(run, line) for line in lines])


def _without_ladder(run: Run, line: dict[str, Cell]) -> dict[str, Cell]:
    return line if len(run.record["ladders"]) > 1 else {name: cell for name, cell in line.items() if name != "ladder"}


def other_verdicts(run: Run) -> Table:
    """All other verdicts: by observer, band, statistic of the units and strength axis."""
    lines = []
    for verdict in run.shape:
        if not verdict["headline"]:
            about = {name: word(verdict[name]) for name in ("observer", "band", "statistic", "axis")}
            line = verdict_line(verdict)
            line = {name: line[name] for name in ("ladder", "kind", "measure")} | about | line
            lines.append(_without_ladder(run, line))
    return table("other-verdicts", "Verdicts by observer, band, statistic and strength axis", lines)


def sentences(run: Run) -> list[dict[str, Any]]:
    """For each ladder and headline: the verdict over all kinds in one sentence, and those within each kind."""
    records = []
    for ladder in run.record["ladders"]:
        for name, measure in run.headlines.items():
            verdicts = [verdict for verdict in run.shape if verdict["ladder"] == ladder and verdict["headline"] == name]
            overall = next((verdict for verdict in verdicts if verdict["kind"] == ALL), None)
            within = [verdict for verdict in verdicts if verdict["kind"] != ALL]
            records.append(
                {
                    "ladder": ladder,
                    "headline": name,
                    "measure": measure,
                    "verdict": figures.badge(overall) if overall else "none",
                    "sentence": overall["sentence"] if overall else "No curve of this headline was judged.",
                    "within": within,
                    "mixed": bool(
                        overall
                        and within
                        and overall["verdict"] != "cannot tell"
                        and all(verdict["verdict"] != overall["verdict"] for verdict in within)
                    ),
                }
            )
    return records


def scores(ladder: Ladder) -> list[dict[str, str]]:
    """For each headline, the score of a ladder's one model in a sentence, beside its twins'."""
    records = []
    for word, measure in ladder.headlines.items():
        by_control = {row["control"]: row for row in ladder.points(measure) if row["seed"] is None}
        trained = by_control.pop("trained", {})
        twins = listing([f"{control} {_scored(row)}" for control, row in by_control.items()])
        sentence = (
            f"{_scored(trained)}, the mean over layers of the mean over units; {percent(trained.get('coverage'))} of "
            f"{trained.get('n_units', 0):,} units could be measured. Its twins: {twins or 'none'}."
        )
        records.append({"headline": word, "score": decimal(trained.get("score")), "sentence": sentence})
    return records


def _scored(row: Row) -> str:
    return interval(*(row.get(name) for name in ("score", "low", "high")))


def beside_rotation(row: Row) -> str:
    """Whether a rung's neurons score above, below or like their rotation, by whether the intervals overlap; nothing
    where there is none, as of a single unit, or one without width.
    """
    trained, rotated = row.get(TRAINED), row.get(ROTATED)
    if not trained or not rotated or any(missing(each[end]) for each in (trained, rotated) for end in ("low", "high")):
        return NONE
    if trained["low"] == trained["high"] or rotated["low"] == rotated["high"]:
        return NONE
    if trained["low"] > rotated["high"]:
        return ABOVE
    return BELOW if trained["high"] < rotated["low"] else LEVEL


def twins(ladder: Ladder, headline: str) -> Table:
    """Each rung's score, its twins' and the differences."""
    lines = []
    for row in figures.twins(ladder, ladder.headlines[headline]):
        line = {
            "rung": word(row["rung"]),
            "kind": word(row["kind"]),
            ladder.axis: number(row["strength"], lambda value: on_axis(ladder.axis, value)),
        }
        for control in ladder.controls:
            line[control] = estimate(row.get(control))
            line["coverage" if control == TRAINED else f"coverage, {control}"] = number(
                (row.get(control) or {}).get("coverage"), percent
            )
            if control != TRAINED:
                line[f"trained − {control}"] = number(row[f"minus_{control}"], signed)
        lines.append(line | {"beside rotation": word(beside_rotation(row))})
    return table(f"twins-{headline}", f"{headline}: trained rungs beside their twins", lines)


def basis_sentence(ladder: Ladder, headline: str) -> str:
    """On how many rungs the basis of neurons is special, in words."""
    standing = {row["rung"]: beside_rotation(row) for row in figures.twins(ladder, ladder.headlines[headline])}
    named = {level: [rung for rung, where in standing.items() if where == level] for level in (ABOVE, LEVEL, BELOW)}
    total = sum(map(len, named.values()))
    if not total:
        return f"{headline}: no rung can be compared with its rotation."
    above = f" ({listing(named[ABOVE])})" if named[ABOVE] else ""
    sentence = f"{headline}: neurons stand above their rotation on {len(named[ABOVE])} of {total} rungs{above}."
    if named[LEVEL]:
        sentence += f" On {len(named[LEVEL])} they do not: this basis is not special there, as far as these units show."
    if named[BELOW]:
        sentence += f" On {len(named[BELOW])} they stand below it ({listing(named[BELOW])})."
    return sentence


def models(ladder: Ladder, controls: Sequence[str]) -> Table:
    """The models of a ladder: what they are, how strong, how training ended, and their scores."""
    shown = rows.plain(
        ladder.run.models.filter((pl.col("ladder") == ladder.name) & pl.col("control").is_in(controls)).sort(
            "order", "control", "seed"
        )
    )
    has = set(shown[0]) if shown else set()
    lines = []
    for model in shown:
        line = {"rung": word(model["rung"]), "kind": word(model["kind"]), "seed": number(model["seed"], whole)}
        if len(controls) > 1:
            line["model"] = word(rows.CONTROLS.get(model["control"], model["control"]))
        line |= {
            axis: number(model[axis], _axis_form(axis))
            for axis in ladder.run.record["axes"]
            if any(every.get(axis) is not None for every in shown)
        }
        for name, form in TRAINING.items():
            if name in has:
                line[name.replace("_", " ")] = number(model[name], form)
        if len({model.get("stopped") for model in shown}) > 1:
            line["stopped because"] = word(model["stopped"])
        for name in ladder.headlines:
            line[name] = estimate({"score": model[name], "low": model[f"{name}_low"], "high": model[f"{name}_high"]})
            line[f"coverage, {name}"] = number(model[f"{name}_coverage"], percent)
            line[f"reliability, {name}"] = number(model[f"{name}_reliability"], decimal)
        line["units"] = number(model["n_units"], whole)
        line["units without trials"] = number(model["n_failed"], whole)
        lines.append(line)
    who = "twins" if len(controls) > 1 else "models"
    return table(who, f"The {'twins' if who == 'twins' else 'trained models'}", lines)


TRAINING: dict[str, Callable[[Number], str]] = {
    "epochs": whole,
    "train_examples": whole,
    "train_loss": lambda value: decimal(value, 3),
    "validation_loss": lambda value: decimal(value, 3),
    "pool_loss": lambda value: decimal(value, 3),
}


def _axis_form(axis: str) -> Callable[[Number], str]:
    return lambda value: decimal(value, 3) if axis == "accuracy" else on_axis(axis, value)


def endings(ladder: Ladder) -> str:
    """How training ended, counted."""
    if "stopped" not in ladder.run.models.columns:
        return ""
    trained = ladder.run.models.filter((pl.col("ladder") == ladder.name) & (pl.col("control") == "trained"))
    counted = trained.group_by("stopped").len().sort("len", "stopped", descending=[True, False])
    reasons = [f"{reason or 'not said'} ({count_of_models(count)})" for reason, count in counted.iter_rows()]
    return "; ".join(reasons)


def absent(ladder: Ladder) -> Table:
    """How many units have no score, and why."""
    order = {measure: index for index, measure in enumerate(ladder.run.record["measures"])}
    reasons: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows.absent(ladder.run, ladder.name).to_dicts():
        reasons.setdefault((row["measure"], row["note"]), {})[row["control"]] = row
    lines = []
    for (measure, note), by_control in sorted(reasons.items(), key=lambda item: (order.get(item[0][0], 99), item[0])):
        rungs = {rung for row in by_control.values() for rung in row["which"]}
        counts = {control: by_control.get(control, {}).get("n", 0) for control in ladder.controls}
        lines.append(
            {
                "measure": word(measure),
                "reason": word(note),
                **{f"units, {control}": number(count, whole) for control, count in counts.items()},
                "in rungs": number(len(rungs), whole),
            }
        )
    return table("missing", "Units without a score, by reason", lines)


def observers(run: Run) -> Table:
    """Who answered, on which ladders, and what each sees."""
    by_name: dict[str, dict[str, Any]] = {}
    for ladder, about in run.record["ladders"].items():
        for index, observer in enumerate(about["observers"]):
            role = "headline" if index == 0 else "control" if observer["control"] else "beside it"
            by_name.setdefault(observer["name"], {**observer, "role": role, "ladders": []})["ladders"].append(ladder)
    lines = (
        {
            "observer": word(name),
            "version": number(observer["version"], whole),
            "role": word(observer["role"]),
            "ladder": word(", ".join(observer["ladders"])),
            "sees": word(
                observer["sees"] + (f" A relative of {', '.join(kin)}." if (kin := observer.get("relatives")) else "")
            ),
        }
        for name, observer in by_name.items()
    )
    return table("observers", "The observers", [_without_ladder(run, line) for line in lines])


def measures(run: Run) -> Table:
    """What each measure of the run means."""
    there = set(run.scores["measure"].unique())
    known = run.record["measures"]
    lines = []
    for name in [name for name in known if name in there] + sorted(there - set(known)):
        about = known.get(name, {"meaning": "A measure of which this run says nothing."})
        bounds = about.get("range")
        lines.append(
            {
                "measure": word(name),
                "version": number(about.get("version"), whole),
                "headline": word(about.get("headline")),
                "meaning": word(about["meaning"]),
                "range": word(span(bounds) if bounds else NONE),
                "chance": number(about.get("chance"), lambda value: NONE if value is None else f"{value:g}"),
                "more is": word(about.get("higher_is")),
                "source": word(about.get("cite")),
            }
        )
    return table("measures", "The measures", lines)


def about(run: Run) -> dict[str, list[tuple[str, str]]]:
    """What the numbers rest on: settings, stimuli with their hashes, versions."""
    record = run.record
    stimuli: list[tuple[str, str]] = []
    for name, ladder in record["ladders"].items():
        counts = ", ".join(f"{whole(count)} {part}" for part, count in ladder["stimuli"].items())
        stimuli += [(name, counts), (f"{name}, hash", ladder["data_hash"])]
        stimuli += [(f"{name}, note", note) for note in ladder.get("notes", ())]
    return {
        "Settings": [(name, _value(value)) for name, value in record["settings"].items()],
        "Stimuli": stimuli,
        "Versions": [(name, str(value)) for name, value in record["versions"].items()],
    }


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "none" if value is None else {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
