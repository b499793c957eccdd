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
from thalweg.report.charts import Figure
from thalweg.report.conditions import of_conditions
from thalweg.report.listings import Table, number, table, word
from thalweg.report.page import environment, frame, shown_figure
from thalweg.report.text import decimal, interval, whole
from thalweg.runs.run import Run
from thalweg.stimuli.showing import png_of
from thalweg.synthetic.conditions import SHOWN, Conditions, keep, sentences
from thalweg.synthetic.scoring import CONDITIONS
from thalweg.synthetic.visualise import network_file

HERE = Path(__file__).parent
PAGE = "synthetic.html"
UNITS = 2  # of a network's last layer whose pictures are shown


def write_page(run: Run, rows: pl.DataFrame, found: Conditions) -> Path:
    """Write the page of both conditions into the run directory: one HTML file that needs no network; and scores and
    verdicts beside it, for the report.

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
    keep(run, found)
    path = run.path / PAGE
    write_text(path, environment(HERE).get_template("synthetic.html.j2").render(context))
    return path


def _figure(run: Run, ladder: str, found: Conditions) -> Figure:
    """The curves of one ladder in both conditions."""
    own = {key[1:]: verdict for key, verdict in found.verdicts.items() if key[0] == ladder}
    caption = ("Points are networks, with 95 % intervals over their units; untrained twins are hollow.",)
    return of_conditions(run, found.points.filter(ladder=ladder), own, caption)


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
            "units": number(row["len"], whole),
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
