"""The tables of a page of docs/results, in markdown, from a run: `python -m benchmarks.results RUN`.

The verdicts are today's, whenever the run was made.
"""

import argparse
from types import SimpleNamespace
from typing import Any, cast

import polars as pl

import thalweg
from thalweg.measures.base import MEAN
from thalweg.measures.headlines import PLAIN
from thalweg.pipeline.settings import Settings
from thalweg.pipeline.verdicts import Curve, curves, judged, population_curves
from thalweg.report.text import decimal, p_value
from thalweg.runs.run import Run
from thalweg.shape.verdict import says

TWINS = ("untrained", "rotated", "rerandomised", "memorising")


def row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def table(columns: list[str], rows: list[list[str]]) -> str:
    return "\n".join([row(columns), row(["---"] * len(columns)), *map(row, rows)]) + "\n"


def described(record: dict[str, Any]) -> str:
    """A verdict in a cell: its word, from where to where, p, and what it rests on."""
    name, p, fit, depth = record["verdict"], record["p"], record["fit"], record["depth"]
    text = f"**{name}**"
    if fit:
        levels = fit["y"]
        middle = {"valley": min(levels), "hump": max(levels)}.get(says(name))
        path = [levels[0], *([] if middle is None else [middle]), levels[-1]]
        text += ", " + " to ".join(decimal(level) for level in path)
    shape = says(name)
    if shape in p and p[shape] is not None:
        text += f" (p {p_value(p[shape])}"
        text += f"; {decimal(depth['value'])} deep)" if shape in {"valley", "hump"} else ")"
    else:
        text += f" (valley p {p_value(p['valley'])}, hump p {p_value(p['hump'])})" if p["valley"] is not None else ""
        text += f"; least depth seen {decimal(record['minimum_detectable_depth'])}" if fit else f": {record['reason']}"
    lost = record["changes_without"]
    if lost and name != "cannot tell":
        text += "; " + ", ".join(f"without {rung} {other}" for rung, other in list(lost.items())[:4])
        text += f", and {len(lost) - 4} more" if len(lost) > 4 else ""
    return f"{text}; {record['n_models']} models"


def verdicts(run: Run, ladder: str, questions: list[Curve]) -> str:
    """Three tables: by kind, by axis and by observer, and of what the mean hides."""
    asked = {**run.headlines, "two_choice": PLAIN}
    judgements = [(curve, described(judged(curve))) for curve in questions]

    def cells(**wanted: str) -> list[str]:
        found = []
        for measure in asked.values():
            for curve, text in judgements:
                if curve.measure == measure and all(getattr(curve, name) == value for name, value in wanted.items()):
                    found.append(text)
                    break
            else:
                found.append("")
        return found

    axis, observer = run.record["settings"]["strength"], run.record["ladders"][ladder]["observers"][0]["name"]
    kinds = list(dict.fromkeys(curve.kind for curve in questions))
    home: dict[str, str] = {"observer": observer, "axis": axis, "statistic": MEAN}
    parts = [table(["rungs", *asked], [[kind, *cells(**home, kind=kind)] for kind in kinds])]
    axes = list(dict.fromkeys(curve.axis for curve in questions if curve.axis != axis))
    rows = [[name, *cells(**(home | {"axis": name, "kind": "all"}))] for name in axes]
    observers = list(dict.fromkeys(curve.observer for curve in questions if curve.observer != observer))
    rows += [[name, *cells(**(home | {"observer": name, "kind": "all"}))] for name in observers]
    statistics = list(dict.fromkeys(curve.statistic for curve in questions if curve.statistic != MEAN))
    rows += [[name, *cells(**(home | {"statistic": name, "kind": "all"}))] for name in statistics]
    return "\n".join([*parts, table(["axis, observer or statistic", *asked], rows)])


def numbers(run: Run, ladder: str) -> str:
    """A row a rung: strength, accuracy, coverage, and each headline with its interval beside the twins'."""
    observer = run.record["ladders"][ladder]["observers"][0]["name"]
    means = run.scores.filter(pl.col("seed").is_null(), ladder=ladder, observer=observer, band=MEAN)
    trained = run.models.filter(ladder=ladder, control="trained")
    twins = [name for name in TWINS if name in set(run.scores.filter(ladder=ladder)["control"])]
    asked = {**run.headlines, "two_choice": PLAIN}
    columns = ["rung", "bits", "accuracy, %", "coverage", *(each for word in asked for each in (word, *twins))]
    rows = []
    for name, group in trained.group_by("rung", maintain_order=True):
        rung = str(name[0])
        strength, accuracy = (cast(float, group[column].mean()) for column in ("bits", "accuracy"))
        cells = [rung, f"{strength:.2f}", f"{100 * accuracy:.1f}"]
        for at, measure in enumerate(asked.values()):
            found = {each["control"]: each for each in means.filter(rung=rung, measure=measure).iter_rows(named=True)}
            own = found.get("trained", {"score": None, "low": None, "high": None, "coverage": None})
            cells += [decimal(own["coverage"])] if at == 0 else []
            cells.append(f"{decimal(own['score'])} ({decimal(own['low'])}-{decimal(own['high'])})")
            cells += [decimal(found[twin]["score"]) if twin in found else "–" for twin in twins]
        rows.append(cells)
    return table(columns, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    run = thalweg.open_run(parser.parse_args().run)
    settings = cast(Settings, SimpleNamespace(**run.record["settings"], other_bases=run.bases[1:]))
    observers = {name: ladder["observers"][0]["name"] for name, ladder in run.record["ladders"].items()}
    populations = pl.read_parquet(run.path / "populations.parquet")
    every = [
        *curves(run.models, run.scores, settings, observers),
        *population_curves(run.models, populations, settings),
    ]
    for ladder in observers:
        asked = {*run.headlines.values(), PLAIN}
        wanted = [c for c in every if c.ladder == ladder and c.band == MEAN and c.measure in asked]
        print(f"## {ladder}\n\n{verdicts(run, ladder, wanted)}\n{numbers(run.in_basis(run.bases[0]), ladder)}")


if __name__ == "__main__":
    main()
