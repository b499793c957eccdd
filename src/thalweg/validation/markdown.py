"""The headline table of a validation as Markdown, for a page of documentation.

python -m thalweg.validation.markdown runs/validate-mnist
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from thalweg.measures.base import MEAN
from thalweg.report.text import decimal, interval, percent


def headline_table(groups: pl.DataFrame, record: Mapping[str, Any]) -> str:
    """A row for each group: the headlines' scores with intervals, their coverage, and the scores without names where
    these are others.

    Args:
        groups: The table of groups, `validation.parquet`.
        record: `validation.json`.
    """
    observer, order = record["observers"][0]["name"], [group["name"] for group in record["groups"]]
    units = {group["name"]: str(group["n_units"]) for group in record["groups"]}
    columns = {"group": order, "units": [units[name] for name in order]}
    for headline, measure in record["headlines"].items():
        mine = groups.filter(measure=measure, observer=observer, band=MEAN)
        named, blind = (
            {row["group"]: row for row in mine.filter(named=known).iter_rows(named=True)} for known in (True, False)
        )
        scores = [named[name] for name in order]
        columns[headline] = [interval(row["mean"], row["low"], row["high"]) for row in scores]
        columns[f"{headline}, coverage"] = [percent(row["coverage"]) for row in scores]
        without = [decimal(blind[name]["mean"]) for name in order]
        if without != [decimal(row["mean"]) for row in scores]:
            columns[f"{headline}, not named"] = without
    lines = [list(columns), ["---"] * len(columns), *zip(*columns.values(), strict=True)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    for folder in map(Path, sys.argv[1:]):
        record = json.loads((folder / "validation.json").read_text(encoding="utf-8"))
        print(*record["sentences"].values(), sep="\n")
        print(headline_table(pl.read_parquet(folder / "validation.parquet"), record))
