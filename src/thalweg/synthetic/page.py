"""The page of the synthetic condition: both conditions' curves beside each other, and the pictures."""

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import torch
from altair.utils.schemapi import debug_mode
from PIL import Image

from thalweg.files.whole import read_tensors, write_text
from thalweg.report import charts, styles
from thalweg.report.charts import Figure, Panel, ValueAxis
from thalweg.report.figures import verdict_note
from thalweg.report.listings import Table, number, table, word
from thalweg.report.page import environment, frame, shown_figure
from thalweg.report.text import decimal, interval
from thalweg.runs.run import Run
from thalweg.stimuli.showing import png_of
from thalweg.synthetic.conditions import SHOWN, Conditions, sentences
from thalweg.synthetic.scoring import CONDITIONS
from thalweg.synthetic.visualise import network_file

HERE = Path(__file__).parent
PAGE = "synthetic.html"
UNITS = 2  # of a network's last layer whose pictures are shown
CHANCE = 0.5


def write_page(run: Run, rows: pl.DataFrame, found: Conditions) -> Path:
    """Write the page of both conditions into the run directory: one HTML file that needs no network.

    Args:
        run: The run.
        rows: What `visualise` returns.
        found: What `conditions` makes of them.

    Returns:
        The page's path.
    """
    ladders = list(dict.fromkeys(rows["ladder"]))
    with debug_mode(False):
        figures = {name: shown_figure(_figure(run, name, found), f"ladder-{at}") for at, name in enumerate(ladders, 1)}
    context = {
        **frame(figures.values()),
        "run": run.path.name,
        "sentences": sentences(found),
        "measures": SHOWN,
        "ladders": [
            {"name": name, "figure": figures[name], "pictures": list(_pictures(run, rows.filter(ladder=name)))}
            for name in ladders
        ],
        "scores": _scores(found.points),
        "reached": _reached(rows),
    }
    path = run.path / PAGE
    write_text(path, environment(HERE).get_template("synthetic.html.j2").render(context))
    return path


def _figure(run: Run, ladder: str, found: Conditions) -> Figure:
    """A panel for each measure and condition, the conditions of a measure beside each other on one scale."""
    axis = run.record["settings"]["strength"]
    strength = run.models.filter(ladder=ladder, control="trained").select("rung", pl.col("seed").cast(pl.Int32), axis)
    placed = found.points.filter(ladder=ladder).join(strength.unique(), on=["rung", "seed"], maintain_order="left")
    panels, kinds = [], styles.shapes(dict.fromkeys(placed["kind"]))
    for measure in SHOWN:
        mine = placed.filter(measure=measure)
        scale = charts.domain(mine.drop_nulls("score").to_dicts())
        for condition in CONDITIONS:
            rows = _as_points(mine.filter(references=condition), axis)
            verdict = found.verdicts.get((ladder, measure, condition))
            chart = charts.curve(
                rows,
                axis=axis,
                axis_title=run.record["axes"][axis],
                score=ValueAxis(measure, scale, CHANCE),
                kinds=kinds,
                verdict=verdict,
                height=220,
            )
            summary = (
                f"{measure} with {condition} references: {len(rows)} models. {verdict['sentence'] if verdict else ''}"
            )
            panels.append(Panel(f"{measure}, {condition}", summary, chart, verdict_note(verdict)))
    caption = ("Points are networks, with 95 % intervals over their units; untrained twins are hollow.",)
    controls = tuple(dict.fromkeys(placed["control"]))
    return Figure("conditions", ladder, caption, tuple(panels), controls=controls, kinds=kinds)


def _as_points(rows: pl.DataFrame, axis: str) -> list[dict[str, Any]]:
    """Models as the report's charts take them: each as the point of its rung."""
    return [
        {**row, "strength": row[axis], "seed": None, "accuracy": None}
        for row in rows.drop_nulls("score").iter_rows(named=True)
    ]


def _scores(points: pl.DataFrame) -> Table:
    """A line for each model and measure, both conditions beside each other."""
    key = ["ladder", "rung", "seed", "control", "measure"]
    natural, synthetic = (
        points.filter(references=condition).select(*key, "score", "low", "high") for condition in CONDITIONS
    )
    both = natural.join(synthetic, on=key, suffix="_synthetic", maintain_order="left")
    lines = (
        {
            **{name: word(row[name]) for name in key},
            "natural": word(interval(row["score"], row["low"], row["high"])),
            "synthetic": word(interval(row["score_synthetic"], row["low_synthetic"], row["high_synthetic"])),
        }
        for row in both.iter_rows(named=True)
    )
    return table("scores", "Scores of networks in both conditions", lines)


def _reached(rows: pl.DataFrame) -> Table:
    """How often the strongest picture drives a unit beyond every natural stimulus."""
    units = rows.unique(["ladder", "rung", "seed", "control", "layer", "unit"], maintain_order=True)
    shares = units.group_by("ladder", "rung", "control", maintain_order=True).agg(
        pl.len(), pl.col("exceeds_high").mean(), pl.col("exceeds_low").mean()
    )
    lines = (
        {
            **{name: word(row[name]) for name in ("ladder", "rung", "control")},
            "units": number(row["len"], lambda value: f"{value:.0f}"),
            "beyond the highest": number(row["exceeds_high"], decimal),
            "beyond the lowest": number(row["exceeds_low"], decimal),
        }
        for row in shares.iter_rows(named=True)
    )
    return table("reached", "Share of units that a synthetic picture drives beyond every natural stimulus", lines)


def _pictures(run: Run, rows: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """Some units of the last layer of each rung's first trained network: their natural and synthetic references."""
    trained = rows.filter(control="trained")
    for (rung,), mine in trained.group_by("rung", maintain_order=True):
        first = mine.filter(seed=mine["seed"].min())
        last = first.filter(depth=first["depth"].max())
        ladder, seed, layer = last["ladder"][0], last["seed"][0], last["layer"][0]
        kept = read_tensors(network_file(run, ladder, str(rung), seed, "trained"))
        for place, unit in enumerate(kept[f"{layer}/units"][:UNITS].tolist()):
            natural = run.unit(ladder, str(rung), layer, unit, seed=seed)
            sides = [_pngs(side) for side in kept[f"{layer}/pixels"][place]]
            yield {
                "name": f"{rung}, {layer}, unit {unit}",
                "rows": [
                    ("highest, natural", [_shown(natural, each) for each in natural.highest[: len(sides[0])]]),
                    ("highest, synthetic", sides[0]),
                    ("lowest, natural", [_shown(natural, each) for each in natural.lowest[: len(sides[0])]]),
                    ("lowest, synthetic", sides[1]),
                ],
            }


def _shown(unit: Any, which: int) -> str:
    """A natural stimulus as an address that holds it."""
    return _address(unit.stimuli.show(which).png)


def _pngs(pixels: torch.Tensor) -> Sequence[str]:
    """Pictures (picture, channel, height, width) as addresses that hold them."""
    rows = pixels.movedim(1, -1).contiguous().numpy()
    return [_address(png_of(Image.fromarray(each[:, :, 0] if each.shape[2] == 1 else each))) for each in rows]


def _address(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
