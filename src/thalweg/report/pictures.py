"""The gallery as the page shows it: for each rung three units with the stimuli that drive them, and one trial.

The shades of a unit's tokens spread over the values at the last token, where it is read, of the texts shown: the first
tokens of a text may have values a hundred times as large (attention sinks), beside which all others look alike.
"""

import base64
from collections.abc import Mapping
from typing import Any

import polars as pl

from thalweg.report.ladder import Ladder
from thalweg.report.text import decimal, listing

PLACES = ("best", "median", "worst")
# Before a stimulus that is HTML: nothing is fetched, and its colours follow the reader's
FRAME = (
    "<!doctype html><meta http-equiv=Content-Security-Policy "
    "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
    "<style>:root{color-scheme:light dark}body{margin:0;font:13px sans-serif;overflow:hidden}"
    "svg{display:block;width:100%;height:100vh}</style>"
)


def gallery(ladder: Ladder) -> list[dict[str, Any]]:
    """The rungs from weak to strong, each with its units; of several seeds, the first is shown."""
    every = ladder.run.gallery.filter(pl.col("ladder") == ladder.name)
    rungs = []
    for rung in ladder.order:
        shown = every.filter(pl.col("rung") == rung)
        if shown.is_empty():
            continue
        shown = shown.filter(pl.col("seed") == shown["seed"].min())
        units = _units(shown, {measure: word for word, measure in ladder.headlines.items()})
        summary = ", ".join(f"{unit['standings']} {unit['score']}" for unit in units)
        rungs.append(
            {"rung": rung, "kind": ladder.kinds[rung], "seed": shown["seed"][0], "units": units, "summary": summary}
        )
    return rungs


def _units(shown: pl.DataFrame, words: Mapping[str, str]) -> list[dict[str, Any]]:
    """The best, median and worst unit; one that has several of these places is shown once."""
    units: dict[tuple[str, int], dict[str, Any]] = {}
    for standing in PLACES:
        rows = shown.filter(pl.col("standing") == standing)
        if rows.is_empty():
            continue
        unit = units.setdefault((rows["layer"][0], rows["unit"][0]), _unit(rows, words) | {"standings": []})
        unit["standings"].append(standing)
    return [unit | {"standings": listing(unit["standings"])} for unit in units.values()]


def _unit(shown: pl.DataFrame, words: Mapping[str, str]) -> dict[str, Any]:
    """One unit with its references and a trial."""
    first = shown.row(0, named=True)
    by_role = {role: shown.filter(pl.col("role") == role).sort("rank").to_dicts() for role in shown["role"].unique()}
    values = [row[-1] for row in shown["values"] if len(row)]
    ends = (min(values), max(values)) if values else (0.0, 1.0)
    queries = by_role.get("high query", []) + by_role.get("low query", [])
    queries.sort(key=lambda query: not query["first"])
    return {
        "layer": first["layer"],
        "unit": first["unit"],
        "measure": words.get(first["measure"], first["measure"]),
        "score": decimal(first["value"]),
        "high": [_shown(stimulus, "a high reference", ends) for stimulus in by_role.get("high reference", [])],
        "low": [_shown(stimulus, "a low reference", ends) for stimulus in by_role.get("low reference", [])],
        "trial": [
            _shown(query, f"query {letter}", ends) | {"letter": letter}
            for letter, query in zip("AB", queries, strict=False)
        ],
        "answer": next(
            (letter for letter, query in zip("AB", queries, strict=False) if query["role"] == "high query"), ""
        ),
    }


def _shown(stimulus: dict[str, Any], what: str, ends: tuple[float, float]) -> dict[str, Any]:
    """A stimulus as a picture, as a page of its own, or as pieces of text, each shaded by the unit's value there where
    it has one.
    """
    label = str(stimulus["label"])
    if stimulus["html"]:
        return {"frame": FRAME + stimulus["html"], "alt": f"{what}, labelled {label}", "label": label}
    if not stimulus["png"]:
        low, high = ends
        shades = [round(min(max((value - low) / ((high - low) or 1), 0), 1), 2) for value in stimulus["values"]]
        shades = shades or [None] * len(stimulus["pieces"])
        return {"pieces": list(zip(stimulus["pieces"], shades, strict=True)), "label": label, "alt": what}
    code = base64.b64encode(stimulus["png"]).decode()
    return {"source": f"data:image/png;base64,{code}", "alt": f"{what}, labelled {label}", "label": label}
