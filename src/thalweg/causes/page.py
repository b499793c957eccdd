"""The page of the experiment: six lines, what each factor does, and what each intervention moved."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import altair as alt
import polars as pl
from altair.utils.schemapi import debug_mode

from thalweg.causes.design import FACTORS
from thalweg.causes.hypotheses import HYPOTHESES
from thalweg.files.whole import write_text
from thalweg.report import charts
from thalweg.report.charts import Figure, Panel
from thalweg.report.listings import Cell, Table, number, table, word
from thalweg.report.page import environment, frame, shown_figure
from thalweg.report.styles import INK
from thalweg.report.text import decimal, p_value, signed, whole

HERE = Path(__file__).parent
OUTCOMES = {"crisp": "crisp", "r2": "R2 of the best single feature", "dimensionality": "feature dimensionality"}
Tables = Mapping[str, pl.DataFrame]


def write_page(tables: Tables, path: Path) -> None:
    """Write the page: one HTML file that needs no network."""
    write_text(path, render(tables))


def render(tables: Tables) -> str:
    """The whole page; the same tables make the same text."""
    with debug_mode(False):
        drawn = [shown_figure(figure, f"figure-{index}") for index, figure in enumerate(figures(tables), 1)]
    networks = tables["networks"]
    context = {
        **frame(drawn),
        "figures": drawn,
        "n_networks": whole(len(networks)),
        "n_silent": whole(int(networks["n_silent"].sum())),
        "n_units": whole(int(networks["n_units"].sum())),
        "n_unscored": whole(int(networks["crisp"].is_nan().sum())),
        "lines": _lines(tables["causes"]),
        "interventions": _interventions(tables["interventions"]),
        "mediation": _mediation(tables["mediation"]),
        "shares": _shares(tables["shares"]),
        "effects": _effects(tables["effects"]),
    }
    return environment(HERE).get_template("causes.html.j2").render(context)


def _signed(row: Mapping[str, Any], value: str = "effect") -> Cell:
    """A difference with its interval."""
    text = f"{signed(row[value])} ({signed(row['low'])} to {signed(row['high'])})"
    return Cell(text, float(row[value]))


def _lines(rows: pl.DataFrame) -> Table:
    claims = {each.name: each for each in HYPOTHESES}
    return table(
        "hypotheses",
        "The six hypotheses",
        (
            {
                "hypothesis": word(f"{row['hypothesis']}: {claims[row['hypothesis']].claim}"),
                "contrast": word(row["contrast"]),
                "predicted": word("rise" if claims[row["hypothesis"]].sign > 0 else "fall"),
                "effect": _signed(row),
                "p (Holm)": number(row["p_holm"], p_value),
                "verdict": word(row["verdict"]),
                "refuted by": word(row["refuter"]),
                "networks": number(row["n_networks"], whole),
            }
            for row in rows.iter_rows(named=True)
        ),
    )


def _interventions(rows: pl.DataFrame) -> Table:
    """A line for each intervention: what it moved, and whether that is what it is meant to move."""
    lines: dict[str, dict[str, Cell]] = {}
    for row in rows.iter_rows(named=True):
        line = lines.setdefault(row["intervention"], {"intervention": word(row["intervention"])})
        line[row["outcome"]] = _signed(row, "difference")
        if row["meant"]:
            line["meant to move"] = word(row["outcome"])
            line["moved it"] = word("yes" if row["moved"] else "not shown")
    order = ["intervention", "meant to move", "moved it", *dict.fromkeys(rows["outcome"])]
    return table(
        "interventions",
        "What each intervention moved",
        ({name: line[name] for name in order} for line in lines.values()),
    )


def _mediation(rows: pl.DataFrame) -> Table:
    return table(
        "mediation",
        "What the effects of factors go through",
        (
            {
                "factor": word(row["factor"]),
                "through": word(row["path"]),
                "effect": _signed(row),
                "rho": number(None if row["rho"] != row["rho"] else row["rho"], signed),
            }
            for row in rows.iter_rows(named=True)
        ),
    )


def _shares(rows: pl.DataFrame) -> Table:
    return table(
        "shares",
        "Share of the variance of scores",
        (
            {
                "cause": word(row["cause"]),
                "share of R2": number(row["share"], decimal),
                "from": number(row["low"], signed),
                "to": number(row["high"], signed),
            }
            for row in rows.iter_rows(named=True)
        ),
    )


def _effects(rows: pl.DataFrame) -> Table:
    return table(
        "effects",
        "Effects on units' scores, by the mixed model",
        ({"term": word(row["term"]), "effect": _signed(row)} for row in rows.iter_rows(named=True)),
    )


def figures(tables: Tables) -> list[Figure]:
    """A figure for each outcome, with a panel for each factor."""
    networks = tables["networks"].filter(pl.col("arm").is_in(["factorial", "centre"]))
    made = []
    for outcome, title in OUTCOMES.items():
        panels = tuple(_panel(networks, factor, outcome, title) for factor in FACTORS)
        caption = ("Points are networks of the two-level design and its centre; bars are means.",)
        made.append(Figure(outcome, title, caption, panels, columns=3, small=True))
    return made


def _panel(networks: pl.DataFrame, factor: str, outcome: str, title: str) -> Panel:
    """One outcome by the levels of one factor."""
    names = {level: _level(factor, level) for level in FACTORS[factor] if level is not None}
    rows = [
        {"level": names[row[factor]], "value": row[outcome], "network": row["cell"]}
        for row in networks.iter_rows(named=True)
        if row[outcome] == row[outcome]
    ]
    means = [
        {"level": name, "value": sum(values) / len(values)}
        for name in names.values()
        if (values := [row["value"] for row in rows if row["level"] == name])
    ]
    x = alt.X("level:N", title=factor.replace("_", " "), sort=list(names.values()), axis=alt.Axis(labelAngle=0))
    y = alt.Y("value:Q", title=title, scale=alt.Scale(zero=False))
    hover = [alt.Tooltip("network:N"), alt.Tooltip("value:Q", title=outcome, format=".3f")]
    dots = alt.Chart(_data(rows)).mark_point(filled=True, size=22, opacity=0.35, color=INK["faint"])
    bars = alt.Chart(_data(means)).mark_tick(thickness=3, size=34, color="var(--trained)")
    layers = [dots.encode(x=x, y=y, tooltip=hover), bars.encode(x=x, y=y)]
    summary = "; ".join(f"{row['level']}: mean {row['value']:.3f}" for row in means)
    return Panel(factor.replace("_", " "), summary, charts.layered(layers, 170))


def _level(factor: str, level: Any) -> str:
    return "online" if factor == "examples" and not level else str(level)


def _data(rows: list[dict[str, Any]]) -> alt.InlineData:
    return alt.InlineData(values=json.dumps(rows, allow_nan=False))
