"""The page of two runs: their verdicts, their scores against each other, their units, and how they were made."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from altair.utils.schemapi import debug_mode

from thalweg.compare.differences import CURVE, SIDES, RunComparison
from thalweg.files.whole import write_text
from thalweg.report import charts
from thalweg.report.charts import Figure, Panel
from thalweg.report.listings import Table, number, table, word
from thalweg.report.page import environment, frame, shown_figure
from thalweg.report.text import NONE, decimal, interval, signed, whole

HERE = Path(__file__).parent
HEIGHT = 300
MARGIN = 0.02  # of scores, around the least and the greatest


def write_comparison(runs: RunComparison, path: str | Path) -> Path:
    """Write the page of two runs: one HTML file that needs no network.

    Args:
        runs: The runs, as `compare_runs` puts them beside each other.
        path: The file.

    Returns:
        The file.

    Raises:
        ThalwegError: it cannot be written.
    """
    write_text(Path(path), render(runs))
    return Path(path)


def render(runs: RunComparison) -> str:
    """The whole page; the same runs make the same text."""
    with debug_mode(False):
        drawn = [shown_figure(figure, "scores-figure") for figure in _figures(runs)]
    context = {
        **frame(drawn),
        "names": runs.names,
        "commands": [run.record["command"] for run in (runs.first, runs.second)],
        "sentences": runs.sentences,
        "figures": drawn,
        "verdicts": _verdicts(runs),
        "scores": _scores(runs),
        "units": _units(runs),
        "made": _made(runs),
        "only_in_one": _only_in_one(runs),
    }
    return environment(HERE).get_template("compare.html.j2").render(context)


def _figures(runs: RunComparison) -> list[Figure]:
    """The scores of the rungs of one run against those of the other, a panel for each headline."""
    measured = set(runs.scores.drop_nulls("difference")["headline"])
    panels = [_panel(runs, word) for word in runs.first.headlines if word in measured]
    if not panels:
        return []
    caption = ("Points are rungs and their twins, lines their 95 % intervals; on the diagonal the runs agree.",)
    controls = tuple(runs.scores["control"].unique(maintain_order=True))
    return [Figure("scores", "Scores of both runs", caption, tuple(panels), controls=controls)]


def _panel(runs: RunComparison, headline: str) -> Panel:
    rows = runs.scores.filter(headline=headline).drop_nulls("difference")
    ends = rows.select(f"{side}{end}" for side in SIDES for end in ("", "_low", "_high")).to_numpy()
    scale = (float(np.nanmin(ends)) - MARGIN, float(np.nanmax(ends)) + MARGIN)
    difference = rows["difference"].to_numpy()
    span = f"differences from {decimal(float(difference.min()), 3)} to {decimal(float(difference.max()), 3)}"
    chart = charts.against(list(rows.iter_rows(named=True)), runs.names, scale, HEIGHT)
    return Panel(headline, f"{headline}: {len(rows)} rungs and twins; {span}.", chart)


def _verdicts(runs: RunComparison) -> Table:
    """A line for each curve of a headline, and for each other one whose verdict differs."""
    first, second = runs.names
    shown = runs.verdicts.filter((pl.col("headline") != "") | ~pl.col("same"))
    lines = (
        {
            **{name: word(row[name]) for name in CURVE if name not in ("statistic", "basis", "capacity")},
            first: word(row["first"]),
            second: word(row["second"]),
            "same": word("yes" if row["same"] else "no"),
        }
        for row in shown.iter_rows(named=True)
    )
    return table("verdicts", "Verdicts: the headlines', and all others that differ", lines)


def _scores(runs: RunComparison) -> Table:
    first, second = runs.names
    lines = (
        {
            **{name: word(row[name]) for name in ("ladder", "rung", "control", "headline")},
            first: word(interval(row["first"], row["first_low"], row["first_high"])),
            second: word(interval(row["second"], row["second_low"], row["second_high"])),
            "difference": number(row["difference"], lambda value: signed(value, 3)),
            "interval": word(NONE if row["low"] is None else f"{signed(row['low'], 3)} to {signed(row['high'], 3)}"),
            "apart": word("yes" if row["apart"] else ""),
        }
        for row in runs.scores.iter_rows(named=True)
    )
    return table("scores", "Headline scores of rungs and twins", lines)


def _units(runs: RunComparison) -> Table:
    lines = (
        {
            **{name: word(row[name]) for name in ("ladder", "rung", "seed", "control", "headline")},
            "units": number(row["n"], whole),
            "rank correlation": number(row["rho"], decimal),
            "mean difference": number(row["difference"], lambda value: signed(value, 3)),
            "greatest": number(row["greatest"], lambda value: decimal(value, 3)),
        }
        for row in runs.units.iter_rows(named=True)
    )
    return table("units", "Agreement unit by unit", lines)


def _made(runs: RunComparison) -> Table:
    first, second = runs.names
    lines = ({"what": word(what), first: word(one), second: word(other)} for what, one, other in runs.made.iter_rows())
    return table("made", "How they were made, where that differs", lines)


def _only_in_one(runs: RunComparison) -> Table:
    sides: dict[str, Any] = dict(zip(("first", "second"), runs.names, strict=True))
    rows: Sequence[dict[str, Any]] = runs.only_in_one.rows(named=True)
    lines = (
        {**{name: word(row[name]) for name in row if name != "run"}, "in": word(sides[row["run"]])} for row in rows
    )
    return table("only", "Models that one run alone has", lines)
