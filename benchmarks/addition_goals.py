"""Whether networks that add modulo p can be sent to another sum: python -m benchmarks.addition_goals [--p 53]
[--seeds 3] [--rungs NAME ...]

Trains each rung and its memorising twin, redirects both, and prints a line for each rung: means over seeds, and the
least and the greatest seed. Then the verdicts against strength in bits, by the rule of a survey.
"""

import argparse
import math
import time
from collections.abc import Iterator

import numpy as np
import polars as pl
import torch

from benchmarks.bilingual import between, short
from benchmarks.results import described, table
from thalweg import Source
from thalweg.edits.columns import GOALS_KNOWN, KEPT, REDIRECTED
from thalweg.edits.goals import redirect
from thalweg.ladders import addition
from thalweg.ladders.addition import pairs, strength
from thalweg.measures.base import Z
from thalweg.models.records import Ladder, Rung
from thalweg.shape import judge

TRAINED, MEMORISING, SHUFFLED = "trained", "memorising", "dealt out"
MEASURES = (REDIRECTED, KEPT)  # an answer is right for one sum alone, so `reached` is the same as `redirected`
COLUMNS = [(TRAINED, GOALS_KNOWN), *((control, REDIRECTED) for control in (TRAINED, SHUFFLED, MEMORISING))]
COLUMNS += [(TRAINED, KEPT), (SHUFFLED, KEPT)]


def redirected(ladder: Ladder, rung: Rung, seed: int) -> Iterator[pl.DataFrame]:
    """The rows of a network, of its control and of its twin, each with the network's bits."""
    splits = ladder.splits(Source(), 0)
    assert ladder.goals is not None
    bits = math.nan
    for control, train in {TRAINED: rung.train, **ladder.twins}.items():
        assert train is not None
        torch.manual_seed(seed)
        model = rung.build()
        train(model, splits, seed)
        if control == TRAINED:
            bits = strength.evaluate(model, splits.pool)["bits"]
        made = redirect(model.eval(), ladder.goals(0), seed=seed)
        for name, rows in {control: made.summary, **({SHUFFLED: made.shuffled} if control == TRAINED else {})}.items():
            about = {"rung": rung.name, "seed": seed, "bits": bits, "control": name}
            yield rows.with_columns(pl.lit(value).alias(key) for key, value in about.items())


def cell(rows: pl.DataFrame) -> str:
    """The mean over seeds, with the least and the greatest."""
    values = rows["value"].drop_nans().to_list()
    if not values:
        return short(math.nan)
    ends = f" ({between(min(values), max(values))})" if len(values) > 1 else ""
    return f"{short(sum(values) / len(values))}{ends}"


def line(rows: pl.DataFrame) -> list[str]:
    """A rung's line."""
    chosen = rows.filter(control=TRAINED, measure=REDIRECTED)
    layers = [name or "none" for name in dict.fromkeys(chosen["layer"])]
    bits = chosen.select(value="bits")
    cells = [cell(rows.filter(control=control, measure=measure)) for control, measure in COLUMNS]
    return [rows["rung"][0], cell(bits), ", ".join(layers), *cells]


def verdicts(rows: pl.DataFrame, kind: str) -> list[list[str]]:
    """The verdict on each measure of the rungs of a kind."""
    lines = []
    for measure in MEASURES:
        chosen = rows.filter(pl.col("rung").str.starts_with(kind), control=TRAINED, measure=measure)
        found = judge(
            chosen["bits"].to_numpy(),
            chosen["value"].to_numpy(),
            se=np.asarray((chosen["high"] - chosen["low"]) / (2 * Z)),
            group=chosen["rung"].to_list(),
            seed=0,
        )
        lines.append([kind or "all", measure, described(found.to_record())])
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--p", type=int, default=pairs.P)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rungs", nargs="*", default=[])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    ladder = addition.ladder(asked.p)
    parts, lines = [], []
    for rung in ladder.rungs:
        if not asked.rungs or rung.name in asked.rungs:
            start = time.process_time()
            rows = pl.concat([part for seed in range(asked.seeds) for part in redirected(ladder, rung, seed)])
            parts.append(rows)
            lines.append(line(rows))
            print(" | ".join([*lines[-1], f"{time.process_time() - start:.0f} CPU s"]), flush=True)
    heads = ["network", "bits", "layer", *(f"{measure}, {control}" for control, measure in COLUMNS)]
    print(table(heads, lines))
    together = pl.concat(parts)
    judged = [each for kind in ("", "transformer", "mlp") for each in verdicts(together, kind)]
    print(table(["networks", "measure", "verdict"], judged))


if __name__ == "__main__":
    main()
