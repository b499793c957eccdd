"""What a study's design can detect, said before anyone is asked.

The model: a unit's share right p_u varies between units with standard deviation s, and its R responses are independent
given it. A model's mean over its N units has the variance (s^2 + p (1 - p) / R) / N. s is taken from the run: from how
the units' two-choice scores by its observers vary. Participants and their exclusion make it worse; neither is in it.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import polars as pl

from thalweg.runs.run import Run
from thalweg.shape.planning import detectable, even_null
from thalweg.study.design import Study

USUAL = 0.8  # the share right that is reckoned with
SPREAD = 0.12  # between units, where the run does not say it
LEVEL = 0.05
FEWEST = 4  # models that a shape is judged from
Z = NormalDist().inv_cdf
UNIT = ["ladder", "rung", "seed", "control", "layer", "unit"]


@dataclass(frozen=True)
class Prospects:
    """What a design can show.

    Attributes:
        responses: Responses per unit.
        unit: Half the width of the 95 % interval of a unit's share right.
        model: The same of a model's mean over units.
        difference: The least difference of two models that is found four times in five at level .05.
        depth: The least depth of a valley over all models that is found so; None where there are too few models.
        spread: The standard deviation between units that is reckoned with.
    """

    responses: float
    unit: float
    model: float
    difference: float
    depth: float | None
    spread: float

    def sentences(self, models: int) -> list[str]:
        """The same in words."""
        lines = [
            f"{self.responses:g} responses per unit, if all who are planned finish and nobody is excluded",
            f"a unit's share right is then known to {self.unit:.2f}, a model's mean to {self.model:.3f} (95 %, at .8)",
            f"two models that differ by {self.difference:.3f} are told apart four times in five",
        ]
        if self.depth is not None:
            lines.append(f"a valley over the {models} models is found four times in five from {self.depth:.3f} on")
        return lines


def prospects(run: Run, study: Study) -> Prospects:
    """What a study can show."""
    design = study.design
    main = study.trials.filter(kind="main")
    units = main.select(*UNIT).unique().group_by(*UNIT[:4]).len()["len"].to_numpy()
    responses = design.responses_per_unit
    spread = spread_of(run, str(design.models[0]["ladder"]))
    chance = USUAL * (1 - USUAL) / responses
    error = math.sqrt(float(np.mean((spread**2 + chance) / units)))
    depth = None
    if len(units) >= FEWEST:
        found = detectable(even_null(len(units), "known", 1.0, 0), LEVEL)
        depth = None if found is None else found * error
    return Prospects(
        responses=round(responses, 1),
        unit=Z(0.975) * math.sqrt(chance),
        model=Z(0.975) * error,
        difference=(Z(1 - LEVEL / 2) + Z(0.8)) * math.sqrt(2) * error,
        depth=depth,
        spread=spread,
    )


def spread_of(run: Run, ladder: str) -> float:
    """The standard deviation of two-choice scores between the units of a model, the mean over models and observers."""
    scores = run.units.filter(ladder=ladder, control="trained", measure="two_choice", exchanged=False)
    scores = scores.filter(pl.col("value").is_not_nan(), pl.col("band") != "extreme")
    scores = scores.group_by(*UNIT, "observer").agg(pl.col("value").mean())
    between = scores.group_by("rung", "seed", "observer").agg(pl.col("value").std(), pl.len())
    between = between.filter(pl.col("len") > 2, pl.col("value").is_not_null())
    return float(np.sqrt(between.select((pl.col("value") ** 2).mean()).item())) if len(between) else SPREAD
