"""What a basis gains on the neurons: the mean score of its units minus that of the neurons of the same network.

If what looks confused is many features that share neurons (superposition), the latents of a dictionary should be
clearer than the neurons, and should gain more where more is shared. But a dictionary may make clear units of any
network, so a gain alone says little: each twin has its own, and the trained network's minus the twin's is what training
put there.

Each layer's difference counts once, and a layer is left out where either side has fewer than two units with a score.
Latents that are never active have none. Intervals draw the units of each layer again, on both sides, of a rung its
seeds too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from thalweg.measures.headlines import HEADLINES
from thalweg.scoring.columns import MODEL_KEY
from thalweg.scoring.populations import MOST_DRAWS, Numbers, Population
from thalweg.trials.building import CONSTANT, NONFINITE

GAIN = "gain"  # the statistic, and what the names of those that are made of it begin with
LEAST = 2  # units with a score on either side
NEURONS = "neurons"


def minus(control: str) -> str:
    """The statistic of the trained network's gain minus that of a twin."""
    return f"{GAIN}_minus_{control}"


@dataclass(frozen=True, eq=False)
class Gain:
    """What a network gains in a basis by one measure, layer by layer, with bootstrap draws, and how many of its units
    are not constant, and have a score.
    """

    key: Mapping[str, object]
    layers: Mapping[int, tuple[float, Numbers]]  # by depth
    units: int
    measured: int

    def population(self, statistic: str, layers: Mapping[int, tuple[float, Numbers]], draws: int) -> Population:
        """The mean over layers, as a score of the network."""
        key = {**self.key, "statistic": statistic}
        if not layers:
            return Population(key, np.nan, np.full(draws, np.nan), self.units, self.measured)
        score = float(np.mean([score for score, _ in layers.values()]))
        return Population(
            key, score, np.mean([drawn for _, drawn in layers.values()], axis=0), self.units, self.measured
        )


def gains_of(units: pl.DataFrame, observer: str, *, resamples: int, seed: int) -> list[Population]:
    """The gains of one network and its twins in each basis beside the neurons.

    Args:
        units: The rows of the headline measures of all units, in every basis, by one observer.
        observer: Its name.
        resamples: How often units are drawn again.
        seed: It decides which units are drawn.
    """
    draws = min(resamples, MOST_DRAWS)
    generator = np.random.default_rng(seed)
    populations: list[Population] = []
    for measure in HEADLINES.values():
        mine = units.filter(pl.col("measure") == measure, pl.col("control") != "rotated")
        for basis in mine.filter(pl.col("basis") != NEURONS)["basis"].unique(maintain_order=True):
            gains: dict[str, Gain] = {}
            for (control,), part in mine.filter(basis=basis).group_by("control", maintain_order=True):
                neurons = mine.filter(basis=NEURONS, control=control)
                if len(neurons):
                    key = {**part.select(MODEL_KEY).row(0, named=True), "measure": measure, "observer": observer}
                    gains[str(control)] = _gain(key, part, neurons, draws, generator)
            populations += _populations(gains, draws)
    return populations


def _gain(
    key: Mapping[str, object], part: pl.DataFrame, neurons: pl.DataFrame, draws: int, generator: np.random.Generator
) -> Gain:
    """What some units gain on the neurons, layer by layer."""
    layers = {}
    for depth in part["depth"].unique(maintain_order=True):
        sides = [_scores(side.filter(depth=depth)) for side in (part, neurons)]
        if min(map(len, sides)) < LEAST:
            continue
        drawn = [side[generator.integers(len(side), size=(draws, len(side)))].mean(1) for side in sides]
        layers[int(depth)] = float(sides[0].mean() - sides[1].mean()), drawn[0] - drawn[1]
    alive = int((~part["note"].is_in([CONSTANT, NONFINITE])).sum())
    return Gain(key, layers, alive, len(_scores(part)))


def _scores(units: pl.DataFrame) -> Numbers:
    """The scores of the units that have any."""
    return units.filter(pl.col("value").is_not_nan())["value"].to_numpy().astype(float)


def _populations(gains: Mapping[str, Gain], draws: int) -> Sequence[Population]:
    """The gain of each network, and that of the trained one minus each twin's over the layers that both have."""
    populations = [gain.population(GAIN, gain.layers, draws) for gain in gains.values()]
    if "trained" not in gains:
        return populations
    trained = gains["trained"]
    for control, twin in gains.items():
        if control != "trained":
            both = {
                depth: (trained.layers[depth][0] - score, trained.layers[depth][1] - drawn)
                for depth, (score, drawn) in twin.layers.items()
                if depth in trained.layers
            }
            populations.append(trained.population(minus(control), both, draws))
    return populations
