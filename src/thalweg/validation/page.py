"""The page of a validation: groups of planted units, what each measure made of them, and what follows."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import altair as alt
import polars as pl
from altair.utils.schemapi import debug_mode

from thalweg.files.whole import replacing
from thalweg.measures.base import MEAN
from thalweg.report import charts
from thalweg.report.charts import Figure, Panel, ValueAxis
from thalweg.report.listings import Cell, Table, number, table, word
from thalweg.report.page import environment, frame, shown_figure
from thalweg.report.styles import INK, styles
from thalweg.report.text import decimal, interval, percent, signed, whole
from thalweg.validation.summary import stands_for_measure

HERE = Path(__file__).parent
NAMED, UNNAMED = "latents named", "latents not named"
ROW_HEIGHT = 22  # pixels of a group in a chart
DRAWN_CAPACITIES = ("5", "20")  # of a measure that has several; the others are in the tables
Row = dict[str, Any]


def write_page(groups: pl.DataFrame, record: Mapping[str, Any], path: Path) -> None:
    """Write the page of a validation: one HTML file that needs no network.

    Args:
        groups: The table of groups, `validation.parquet`.
        record: `validation.json`.
        path: The file.
    """
    with replacing(path) as beside:
        beside.write_text(render(groups, record), encoding="utf-8", errors="backslashreplace")


def render(groups: pl.DataFrame, record: Mapping[str, Any]) -> str:
    """The whole page; the same table and record make the same text."""
    with debug_mode(False):  # Vega checks the charts too
        drawn = [shown_figure(figure, f"figure-{index}") for index, figure in enumerate(figures(groups, record), 1)]
    about = record["stimuli"]
    context = {
        **frame(drawn),
        "name": about["name"],
        "about": _about(record),
        "sentences": record["sentences"],
        "figures": drawn,
        "headlines": _headlines(groups, record),
        "correlations": _correlations(record),
        "sensitivities": _sensitivities(record),
        "reliabilities": table(
            "reliabilities",
            "Reliability of the scores of planted units",
            (
                _which(row) | {"reliability": number(row["rho"], decimal), "units": number(row["n_units"], whole)}
                for row in record["reliabilities"]
            ),
        ),
        "every": _every(groups),
        "observers": table(
            "observers",
            "Observers",
            ({"observer": word(each["name"]), "sees": word(each["sees"])} for each in record["observers"]),
        ),
        "measures": table(
            "measures",
            "Measures",
            ({"measure": word(name), "meaning": word(each["meaning"])} for name, each in record["measures"].items()),
        ),
    }
    return environment(HERE).get_template("validation.html.j2").render(context)


def _about(record: Mapping[str, Any]) -> str:
    """What was planted over which stimuli."""
    stimuli, latents = record["stimuli"], record["latents"]
    shares = [percent(latents[name]) for name in ("least_active", "most_active")]
    active = shares[0] if shares[0] == shares[1] else f"{shares[0]} to {shares[1]}"
    return (
        f"{whole(stimuli['count'])} stimuli of modality {stimuli['modality']}; {latents['count']} latents, each active "
        f"for {active} of them, from the dictionary of the observer {record['observers'][0]['name']}"
    )


def _drawn_measures(groups: pl.DataFrame, record: Mapping[str, Any]) -> Iterator[tuple[str, str, pl.DataFrame]]:
    """Each measure and capacity that has a figure, the headlines first, and its rows by the headline's observer."""
    headlines = list(record["headlines"].values())
    observer = record["observers"][0]["name"]
    shown = groups.filter(stands_for_measure() & pl.col("observer").is_in([observer, ""]))
    for measure in (*headlines, *(name for name in record["measures"] if name not in headlines)):
        capacities = shown.filter(measure=measure)["capacity"].unique(maintain_order=True).to_list()
        for capacity in (each for each in capacities if len(capacities) == 1 or each in DRAWN_CAPACITIES):
            yield measure, capacity, shown.filter(measure=measure, capacity=capacity)


def figures(groups: pl.DataFrame, record: Mapping[str, Any]) -> list[Figure]:
    """A figure for each measure: its score by group, and the coverage beside it."""
    words = {measure: headline for headline, measure in record["headlines"].items()}
    order = [group["name"] for group in record["groups"]]
    made = []
    for measure, capacity, rows in _drawn_measures(groups, record):
        declared = record["measures"][measure]
        title = " ".join(filter(None, [measure, f"with {capacity} features" if capacity not in ("", "1") else ""]))
        listed = list(_rows(rows))
        controls = tuple(dict.fromkeys(row["control"] for row in listed))
        score = ValueAxis(declared["unit"], _range(declared, listed), declared["chance"])
        panels = (
            Panel("score", _summary(listed), by_group(listed, order, value="score", axis=score, controls=controls)),
            Panel(
                "coverage",
                f"The share of the units of each group that {title} gives a score.",
                by_group(listed, order, value="coverage", axis=ValueAxis("coverage", (0, 1)), controls=controls),
            ),
        )
        name = f"{words[measure]}: {title}" if measure in words else title
        made.append(Figure(title, name, (declared["meaning"],), panels, controls, control_shapes=True))
    return made


def _rows(rows: pl.DataFrame) -> Iterator[Row]:
    """The rows of a measure as its chart takes them."""
    for row in rows.iter_rows(named=True):
        named = {"control": NAMED if row["named"] else UNNAMED, "score": row["mean"], "group": row["group"]}
        kept = {name: row[name] for name in ("low", "high", "coverage", "n_units")}
        yield {name: None if value != value else value for name, value in (named | kept).items()}


def _range(declared: Mapping[str, Any], rows: Sequence[Row]) -> tuple[float, float]:
    """The range of a chart's scores: the declared one where it has ends, from near chance up if none lies lower."""
    values = [row[name] for row in rows for name in ("score", "low", "high") if row[name] is not None] or [0.0, 1.0]
    low, high = declared["range"]
    low, high = min(values) if low is None else low, max(values) if high is None else high
    if declared["chance"] is not None:
        low = max(low, min(declared["chance"] - 0.05, min(values)))
    return low, high


def _summary(rows: Sequence[Row]) -> str:
    """The scores in words, for readers who do not see the chart."""
    return "; ".join(
        f"{row['group']}, {row['control']}: {interval(row['score'], row['low'], row['high'])}" for row in rows
    )


def by_group(
    rows: Sequence[Row], order: Sequence[str], *, value: str, axis: ValueAxis, controls: Sequence[str]
) -> charts.Specification:
    """A value for each group, the first on top, named and unnamed beside each other; of scores, with intervals."""
    look = styles(controls)
    domain = list(controls)
    y = alt.Y(
        "group:N",
        sort=list(order),
        title=None,
        scale=alt.Scale(domain=list(order), paddingInner=0.25),
        axis=alt.Axis(grid=True, ticks=False, labelOverlap=False),
    )
    x = alt.X(
        f"{value}:Q",
        title=axis.title,
        scale=alt.Scale(domain=list(axis.range), nice=False, zero=False, clamp=True),
        axis=alt.Axis(tickCount=5, format="%" if value == "coverage" else "~g"),
    )
    colour = alt.Color("control:N", scale=alt.Scale(domain=domain, range=[look[name][0] for name in domain]))
    shape = alt.Shape("control:N", scale=alt.Scale(domain=domain, range=[look[name][1] for name in domain]))
    aside = alt.YOffset("control:N", scale=alt.Scale(domain=domain))
    base = alt.Chart(_data([row for row in rows if row[value] is not None]))
    layers = []
    if axis.level is not None:
        rule = alt.Chart(_data([{}])).mark_rule(color=INK["faint"], strokeDash=[2, 3])
        layers.append(rule.encode(x=alt.XDatum(axis.level)))
    hover = [alt.Tooltip("group:N"), alt.Tooltip("control:N", title="dictionary")]
    hover.append(alt.Tooltip(f"{value}:Q", format=".0%" if value == "coverage" else ".3f"))
    if value == "score":
        low = alt.X("low:Q", scale=x["scale"])
        layers.append(base.mark_rule(strokeWidth=1.4).encode(x=low, x2="high:Q", y=y, yOffset=aside, color=colour))
        hover += [alt.Tooltip("low:Q", title="from", format=".3f"), alt.Tooltip("high:Q", title="to", format=".3f")]
    dots = base.mark_point(filled=True, size=34, opacity=0.95)
    layers.append(dots.encode(x=x, y=y, yOffset=aside, color=colour, shape=shape, tooltip=hover))
    return charts.layered(layers, max(3, len(order)) * ROW_HEIGHT)


def _data(rows: Sequence[Row]) -> alt.InlineData:
    """Rows as text, as the report's charts hold them."""
    return alt.InlineData(values=json.dumps(rows, allow_nan=False))


def _estimate(row: Mapping[str, Any], value: str = "mean") -> Cell:
    """A number with its interval."""
    return Cell(interval(row[value], row["low"], row["high"]), number(row[value], decimal).key)


def _headlines(groups: pl.DataFrame, record: Mapping[str, Any]) -> Table:
    """The headlines' scores of each group, with the coverage, named and not named."""
    lines: dict[str, dict[str, Cell]] = {}
    observer = record["observers"][0]["name"]
    for each in record["groups"]:
        lines[each["name"]] = {
            "group": word(each["name"]),
            "latents": number(each["latents"], whole),
            "units": number(each["n_units"], whole),
        }
    for headline, measure in record["headlines"].items():
        mine = groups.filter(measure=measure, observer=observer, band=MEAN)
        for row in mine.sort("named", descending=True, maintain_order=True).iter_rows(named=True):
            line = lines[row["group"]]
            if row["named"]:
                line[headline] = _estimate(row)
                line[f"{headline}, coverage"] = number(row["coverage"], percent)
            else:
                line[f"{headline}, not named"] = _estimate(row)
    return table("headlines", "The headlines, by group", lines.values())


def _which(row: Mapping[str, Any]) -> dict[str, Cell]:
    """The score that a line is about."""
    named = {"named": word("yes" if row["named"] else "no")}
    return {name: word(row[name]) for name in ("measure", "observer", "capacity")} | named


def _correlations(record: Mapping[str, Any]) -> Table:
    """The rank correlations with the number of latents."""
    return table(
        "correlations",
        "Rank correlation of the score with the number of latents",
        (
            _which(row)
            | {
                "over": word({"sum": "sums", "max": "maxima"}[row["over"]]),
                "rho": _estimate(row, "rho"),
                "units": number(row["n_units"], whole),
            }
            for row in record["correlations"]
        ),
    )


def _sensitivities(record: Mapping[str, Any]) -> Table:
    """How far apart groups are, for the headline's observer."""
    observer = record["observers"][0]["name"]
    return table(
        "sensitivities",
        f"How far apart two groups are, by observer {observer}",
        (
            {
                "first": word(row["first"]),
                "second": word(row["second"]),
                "measure": word(row["measure"]),
                "capacity": word(row["capacity"]),
                "named": word("yes" if row["named"] else "no"),
                "difference": number(row["difference"], signed),
                "from": number(row["difference_low"], signed),
                "to": number(row["difference_high"], signed),
                "d": number(row["d"], signed),
            }
            for row in record["sensitivities"]
            if row["observer"] in (observer, "")
        ),
    )


def _every(groups: pl.DataFrame) -> Table:
    """All scores that stand for their measure, of every observer."""
    shown = groups.filter(stands_for_measure())
    return table(
        "every",
        "Every group, measure and observer",
        (
            {
                "group": word(row["group"]),
                "named": word("yes" if row["named"] else "no"),
                "observer": word(row["observer"]),
                "measure": word(row["measure"]),
                "capacity": word(row["capacity"]),
                "score": _estimate(row),
                "coverage": number(row["coverage"], percent),
                "units": number(row["n_units"], whole),
            }
            for row in shown.iter_rows(named=True)
        ),
    )
