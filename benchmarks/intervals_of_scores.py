"""How often the 95 % intervals of scores hold the truth, and how often two runs are apart by chance:
python -m benchmarks.intervals_of_scores [--sims 500] [--pools 20] [--out docs/intervals.md]

Units: each is correlated with one of twenty independent features of made-up stimuli, and an observer that sees these
features is asked about it, as a model's units are. The truth is the mean over all pools of units of that correlation;
pools are drawn anew. Rungs: the scores of units are normal, about a mean of their network that is normal too.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import torch
from scipy.stats import t

from thalweg.measures.base import MEAN
from thalweg.measures.headlines import HEADLINES
from thalweg.observers.base import Observer
from thalweg.observers.embedding import ObserverView, centred, standardised
from thalweg.scoring.aggregate import LayerValues, ModelScores, UnitValues, frame, model_scores, rung_scores
from thalweg.scoring.units import Halves, ObserverOnPool, StimulusMetadata
from thalweg.validation.planted import Group
from thalweg.validation.scores import score_groups

CORRELATIONS = (0.95, 0.7, 0.4, 0.2, 0.0)
STIMULI, FEATURES, EACH = 2500, 20, 20
KEY = {"ladder": "made up", "rung": "rung", "kind": "kind", "control": "trained", "basis": "neurons"}
COLUMNS = pl.DataFrame({"measure": ["one_sided"], "observer": ["seen"], "band": [MEAN], "capacity": [""]})
RESAMPLES = 300
UNIT_SD = 0.1


@dataclass(frozen=True)
class Nets:
    """Seeds of a rung: layers of so many units, whose networks scatter by so much."""

    layers: int
    units: int
    seeds: int
    sd: float  # of the mean of a network; that of a unit is .1


RUNGS = (
    Nets(1, 10, 3, 0.0),
    Nets(4, 64, 3, 0.0),
    Nets(1, 10, 3, 0.03),
    Nets(1, 64, 3, 0.03),
    Nets(1, 1024, 3, 0.01),
    Nets(4, 16, 3, 0.03),
    Nets(4, 64, 3, 0.02),
    Nets(1, 4, 2, 0.05),
    Nets(4, 64, 2, 0.02),
)


def scored_pool(seed: int) -> pl.DataFrame:
    """The rows of the table of units of one pool."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(STIMULI, FEATURES, generator=generator)
    groups = []
    for correlation in CORRELATIONS:
        noise = torch.randn(STIMULI, EACH, generator=generator)
        values = correlation * features[:, torch.arange(EACH) % FEATURES] + (1 - correlation**2) ** 0.5 * noise
        groups.append(Group(str(correlation), "one", 1, values))
    order = torch.randperm(STIMULI, generator=generator)
    halves = Halves(*(half.sort().values for half in order.split(STIMULI // 2)))
    observer = Observer("seen", 1, lambda stimuli: features, modality="image")
    view = ObserverView(centred(features), standardised(features.clone()))
    nothing = StimulusMetadata(torch.randn(STIMULI, 1, generator=generator), torch.zeros(STIMULI, dtype=torch.int64))
    return score_groups(groups, halves, [ObserverOnPool(observer, view)], nothing)


def of_units(pools: int) -> list[str]:
    """A row for each correlation and headline."""
    rows = pl.concat([scored_pool(seed) for seed in range(pools)]).filter(
        ~pl.col("exchanged") & (pl.col("band") == MEAN) & (pl.col("observer") == "seen")
    )
    lines = [
        "| correlation | headline | mean | SD over pools and units | half-width | held |",
        "|---|---|---|---|---|---|",
    ]
    for correlation in CORRELATIONS:
        for headline, measure in HEADLINES.items():
            mine = rows.filter((pl.col("layer") == str(correlation)) & (pl.col("measure") == measure))
            value, low, high = (mine[name].to_numpy() for name in ("value", "low", "high"))
            truth = value.mean()
            half, held = np.mean(high - low) / 2, np.mean((low <= truth) & (truth <= high))
            lines.append(f"| {correlation} | {headline} | {truth:.3f} | {value.std():.3f} | {half:.3f} | {held:.2f} |")
    return lines


def network(nets: Nets, rng: np.random.Generator) -> tuple[ModelScores, float]:
    """The score of one network of a rung whose mean is 0, and the network's own mean."""
    centre = nets.sd * rng.standard_normal()
    layers = [
        LayerValues(str(depth), depth, (centre + UNIT_SD * rng.standard_normal((nets.units, 1))).astype(np.float32))
        for depth in range(nets.layers)
    ]
    values = UnitValues({**KEY, "seed": 0}, COLUMNS, layers, 0)
    return model_scores(values, resamples=RESAMPLES, seed=int(rng.integers(1 << 30))), centre


def interval(model: ModelScores) -> tuple[float, float, float]:
    """Score, low and high."""
    return frame(model).select("score", "low", "high").row(0)


def students(models: Sequence[ModelScores]) -> tuple[float, float]:
    """Student's interval of the mean of networks."""
    scores = np.array([model.score[0] for model in models])
    half = t.ppf(0.975, len(scores) - 1) * scores.std(ddof=1) / len(scores) ** 0.5
    return scores.mean() - half, scores.mean() + half


def of_rungs(sims: int) -> list[str]:
    """A row for each rung."""
    lines = [
        "| layers x units | seeds | SD of networks | network, held | rung, held | width, of Student's | apart |",
        "|---|---|---|---|---|---|---|",
    ]
    for nets in RUNGS:
        rng = np.random.default_rng([nets.layers, nets.units, nets.seeds, int(1000 * nets.sd)])
        held, held_alone, width, apart = 0, 0, [], 0
        before = (0.0, 0.0)
        for _ in range(sims):
            models, centres = zip(*(network(nets, rng) for _ in range(nets.seeds)), strict=True)
            _, low, high = interval(models[0])
            held_alone += low <= centres[0] <= high
            score, low, high = interval(rung_scores(models, seed=int(rng.integers(1 << 30))))
            held += low <= 0 <= high
            usual = students(models)
            width.append((high - low) / (usual[1] - usual[0]))
            half = (high - low) / 2
            apart += before[1] > 0 and abs(score - before[0]) > np.hypot(half, before[1])
            before = score, half
        shares = held_alone / sims, held / sims, np.median(width), apart / (sims - 1)
        cells = " | ".join(f"{share:.2f}" for share in shares)
        lines.append(f"| {nets.layers} x {nets.units} | {nets.seeds} | {nets.sd} | {cells} |")
    return lines


PAGE = """# What the intervals of scores hold

Written by `python -m benchmarks.intervals_of_scores`. The intervals of scores in the tables are 95 % ones. Here stands
what they are about, and how often they hold the truth in simulations.

## Of a unit

It is about other queries of the same difficulty, with the unit's references as they are. These are few, nine or thirty
a side, and in another pool a unit would have others. {pools} pools of {stimuli:,} made-up stimuli, {each} units of each
correlation with a feature that the observer sees; the truth is the mean over all pools.

{units}

So the interval of a unit that does better than chance is too narrow for what another pool would have shown: compare
units of one pool by it, and ask of another pool by measuring one. The mean over the bands takes them as independent;
they share references.

## Of a network and of a rung

The interval of one network is about other units of it: a layer's units are drawn again. Where a layer has a single
unit, as in a measurement of few units (`--units`), whole layers are drawn again: the interval is about other layers
too, for few units hit some and miss others. That of a rung draws its networks again, then their units. In
{sims} simulations a row a unit scatters by .1, a network by what the table says. *apart* is the share of pairs of equal
rungs, measured apart, that [two runs beside each other](comparing.md) would call apart.

{rungs}

Where networks scatter more than their units explain, two or three seeds cannot hold the truth in 95 of 100: all draws
from three are the lowest one in 1 of 27, so the interval ends at the lowest and at the highest seed. It is then about
as wide as two fifths of Student's interval for three seeds, and less for two. A layer of few units is drawn from few
values, too. The [verdict](tables.md) does not rest on these intervals: its scatter is the variance of seeds, with the
degrees of freedom that it has. To compare two rungs, take the scores of their seeds from `models.parquet`, and Welch's
test.
"""


def page(sims: int, pools: int) -> str:
    """The whole page, in markdown."""
    told = partial(str.join, "\n")
    return PAGE.format(
        pools=pools, stimuli=STIMULI, each=EACH, sims=sims, units=told(of_units(pools)), rungs=told(of_rungs(sims))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sims", type=int, default=500, help="of each rung")
    parser.add_argument("--pools", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("docs/intervals.md"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.write_text(page(options.sims, options.pools))


if __name__ == "__main__":
    main()
