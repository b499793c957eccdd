"""The tables of the pages of results on concepts and edits, in markdown, from a run of the ladder `bilingual` or
`bilingual-wide`: `python -m benchmarks.bilingual RUN`.

Values are means over seeds, of concepts over layers too, the weakest rung first. Verdicts and correlations are
today's, whenever the run was made.
"""

import argparse
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import cast

import polars as pl

import thalweg
from benchmarks.results import described, table
from thalweg.edits.columns import REDIRECT
from thalweg.factors.relation import relation
from thalweg.pipeline.concepts import concept_relations
from thalweg.pipeline.edits import edit_relations
from thalweg.pipeline.settings import Settings
from thalweg.pipeline.verdicts import Curve, concept_curves, edit_curves, judged
from thalweg.runs.run import Run

LADDERS, AXES = ("bilingual", "bilingual-wide"), ("bits", "parameters")
OF_WORLD = pl.col("ladder").is_in(LADDERS)
TRAINED, TWO_WORLDS, UNTRAINED, SHUFFLED = "trained", "two-worlds", "untrained", "shuffled"
CONTROLS = (SHUFFLED, TWO_WORLDS, UNTRAINED, "rerandomised")
SHARING = ("carried", "probe", "patch", "retrieval", "cka", "overlap")
REACHED = ("probe_within", "patch_within", "patch_mismatched", "shared_units")
CRISP = ("crisp_shared", "crisp_all")
FACTS = ("efficacy", "neighbourhood", "transfer", "transfer_neighbourhood")
OVER_FACTS = ("transfer ~ key_overlap", "transfer ~ cosine")
GOALS = ("redirected", "reached", "redirected_kept")
MATCHED = "fine-tune-matched"
NOTHING = "–"

Part = tuple[str, str, str]  # of a cell: the method of editing (concepts have none), the control and the measure


def short(value: float) -> str:
    """Two decimal places without a leading nought, as the pages have it."""
    return re.sub(r"^(-?)0\.", r"\1.", f"{value:.2f}").replace("-.00", ".00") if math.isfinite(value) else NOTHING


def between(low: float, high: float) -> str:
    return f"{short(low)} to {short(high)}"


def means(rows: pl.DataFrame) -> dict[tuple[str, Part], float]:
    """The mean over seeds of each rung and part; a network without a number is left out."""
    known = rows.filter(pl.col("rung") != "", pl.col("value").is_not_nan())
    grouped = known.group_by("rung", "method", "control", "measure").agg(pl.col("value").mean())
    return {(rung, tuple(part)): value for rung, *part, value in grouped.iter_rows()}


def by_rung(run: Run, rows: pl.DataFrame, columns: Mapping[str, Sequence[Part]]) -> str:
    """A row a rung, the weakest first: its size, its strength, and the parts of each column with bars between."""
    trained = run.models.filter(OF_WORLD, control=TRAINED).group_by("rung")
    rungs = trained.agg(pl.col("parameters").first(), pl.col("bits").mean()).sort("bits")
    values = means(rows)
    lines = [
        [
            rung.removeprefix("transformer-"),
            f"{int(parameters):,}",
            short(bits),
            *(" / ".join(short(values.get((rung, part), math.nan)) for part in parts) for parts in columns.values()),
        ]
        for rung, parameters, bits in rungs.iter_rows()
    ]
    return table(["transformer", "parameters", "bits", *columns], lines)


def beside(method: str, measures: Sequence[str], controls: Sequence[str]) -> dict[str, list[Part]]:
    """A column for each measure, with a part for each control."""
    return {name: [(method, control, name) for control in controls] for name in measures}


def extremes(rows: pl.DataFrame, method: str, measures: Sequence[str], controls: Sequence[str]) -> str:
    """The least and the greatest mean of a rung by each control."""
    values = means(rows)
    lines = []
    for control in controls:
        parts = [[value for (_, part), value in values.items() if part == (method, control, name)] for name in measures]
        lines.append([control, *(between(min(there), max(there)) if there else NOTHING for there in parts)])
    return table(["control", *measures], lines)


def verdicts(curves: Iterator[Curve]) -> str:
    """A row a measure, a column an axis."""
    cells: dict[str, dict[str, str]] = {}
    for curve in curves:
        if curve.ladder in LADDERS:
            cells.setdefault(curve.measure, {})[curve.axis] = described(judged(curve))
    return table(["measure", *AXES], [[name, *(of.get(axis, "") for axis in AXES)] for name, of in cells.items()])


def relations(rows: pl.DataFrame) -> str:
    """The rank correlations over networks."""
    lines = [
        [row["measure"], f"{short(row['value'])} ({between(row['low'], row['high'])})", str(row["n"])]
        for row in rows.filter(rung="").iter_rows(named=True)
    ]
    return table(["measures", "rank correlation", "networks"], lines)


def net_relations(run: Run, edits: pl.DataFrame, method: str) -> str:
    """How transfer goes with each measure of sharing over the networks, less that of the two-worlds twin."""
    key = ["rung", "seed"]
    crossed = edits.filter(method=method, measure="transfer").pivot("control", index=key, values="value")
    net = crossed.select(*key, net=pl.col(TRAINED) - pl.col(TWO_WORLDS))
    sharing = run.concepts.filter(OF_WORLD, control=TRAINED, layer="").pivot("measure", index=key, values="value")
    joined = net.join(sharing, on=key).sort(key)
    lines = []
    for name in SHARING:
        found = relation(joined[name].to_list(), joined["net"].to_list(), joined["rung"].to_list())
        lines.append([name, f"{short(found.rho)} ({between(found.low, found.high)})", str(found.n_models)])
    return table([f"{method}: net transfer with", "rank correlation", "networks"], lines)


def concept_tables(run: Run, settings: Settings, observers: Mapping[str, str]) -> Iterator[str]:
    of_ladder = run.concepts.filter(OF_WORLD, pl.col("rung") != "")
    rows = of_ladder.with_columns(method=pl.lit(""))
    of_networks, twins = rows.filter(layer=""), (TRAINED, TWO_WORLDS)
    for measures in (SHARING, REACHED):
        yield f"In each cell: trained / two-worlds.\n\n{by_rung(run, of_networks, beside('', measures, twins))}"
    every = (*twins, UNTRAINED)
    yield f"In each cell: {' / '.join(every)}.\n\n{by_rung(run, of_networks, beside('', CRISP, every))}"
    yield extremes(of_networks, "", SHARING, CONTROLS)
    yield verdicts(concept_curves(run.models, rows, settings, observers))
    yield relations(concept_relations(run.models, of_ladder))


def edit_tables(run: Run, settings: Settings, observers: Mapping[str, str]) -> Iterator[str]:
    rows, twins = run.edits.filter(OF_WORLD), (TRAINED, TWO_WORLDS)
    yield f"What is known.\n\n{by_rung(run, rows, beside('unedited', ('known_in_both', 'goals_known'), twins))}"
    for method in ("rome", "memit", "steer", MATCHED):
        columns = beside(method, FACTS, twins)
        yield f"{method}; in each cell: trained / two-worlds.\n\n{by_rung(run, rows, columns)}"
    for control in twins:
        columns = {name: [(method, control, name) for method in ("rome", MATCHED)] for name in FACTS}
        yield f"{control}; in each cell: rome / {MATCHED}.\n\n{by_rung(run, rows, columns)}"
    yield extremes(rows, "rome", OVER_FACTS, twins)
    yield verdicts(edit_curves(run.models, rows, settings, observers))
    yield relations(edit_relations(run.models, run.concepts, rows))
    for method in ("rome", "memit", MATCHED):
        yield net_relations(run, rows, method)
    controls = (*twins, SHUFFLED, UNTRAINED)
    columns = {"known": [("unedited", TRAINED, "goals_known")], **beside(REDIRECT, GOALS, controls)}
    yield f"Goals; in each cell: {' / '.join(controls)}.\n\n{by_rung(run, rows, columns)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    run = thalweg.open_run(parser.parse_args().run)
    settings = cast(Settings, SimpleNamespace(**run.record["settings"]))
    observers = {name: ladder["observers"][0]["name"] for name, ladder in run.record["ladders"].items()}
    for name, tables in {"Concepts": concept_tables, "Edits": edit_tables}.items():
        print(f"## {name}\n")
        for each in tables(run, settings, observers):
            print(each)


if __name__ == "__main__":
    main()
