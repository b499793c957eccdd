"""Synthetic participants at the level of tables: people whose sensitivity, lapses, side bias and care are known.

Used to see whether an analysis finds what was put in, and for power. `thalweg study simulate` sends the same kinds of
people through a study's real server.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.special import expit, ndtr

from thalweg.psychophysics.tables import StudyData
from thalweg.study.columns import PARTICIPANTS, RESPONSES
from thalweg.study.design import Rules

CAREFUL = {"instruction_seconds": 40.0, "total_seconds": 600.0, "practice_attempts": 1}
START = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class People:
    """Who answers a synthetic study.

    Attributes:
        models: By model, d' of a usual participant about a usual unit; 0 guesses.
        units: Units of each model.
        layers: Layers that they lie in.
        participants: How many answer.
        trials: Main trials of each.
        catches: Catch trials of each, which whoever looks answers rightly.
        unit_sd: How much units differ, on the logit scale.
        participant_sd: How much participants differ.
        lapse: How often someone answers without looking.
        side: The share of answers that take the second query whatever is shown.
        careless: The share of participants who only guess.
        leaving: The share who leave half-way.
        trials_per_unit: How many different trials of a unit there are.
        seed: Of everything that is drawn.
    """

    models: dict[str, float]
    units: int = 20
    layers: int = 2
    participants: int = 60
    trials: int = 40
    catches: int = 5
    unit_sd: float = 0.6
    participant_sd: float = 0.3
    lapse: float = 0.0
    side: float = 0.0
    careless: float = 0.0
    leaving: float = 0.0
    trials_per_unit: int = 6
    seed: int = 0


def synthetic_study(people: People) -> StudyData:
    """Tables as an export has them, of people who are known.

    The probability of a right answer is logistic(z + unit + participant), where z is the logit of Phi(d' / sqrt 2). In
    `participants`, the column `careless` says who only guesses.
    """
    generator = np.random.default_rng(people.seed)
    shown = _shown(people, generator)
    careless = generator.random(people.participants) < people.careless
    responses = _answered(people, shown, careless, generator)
    names = [_name(who) for who in range(people.participants)]
    left = generator.random(people.participants) < people.leaving
    half = pl.col("position") < (people.trials + people.catches) // 2
    gone = pl.col("participant").is_in([name for name, gone in zip(names, left, strict=True) if gone])
    rows = {**dict.fromkeys(PARTICIPANTS), **CAREFUL, "condition": "crossed", "source": "link", "started_at": START}
    status = ["left" if gone else "finished" for gone in left]
    each = [{**rows, "participant": name, "status": how} for name, how in zip(names, status, strict=True)]
    table = pl.DataFrame(each, schema=PARTICIPANTS)
    record: dict[str, Any] = {"version": 1, "name": "synthetic", "run": {}, "design": {}}
    table = table.with_columns(pl.Series("careless", careless))
    return StudyData(Path("synthetic"), record, Rules(side_count=3), table, responses.filter(half | ~gone))


def _name(who: int) -> str:
    return f"p{who:04}"


def _shown(people: People, generator: np.random.Generator) -> pl.DataFrame:
    """A row for each main trial that someone is shown: each participant sees units in an order of their own, each unit
    once before any is seen again.
    """
    every = [(model, unit) for model in people.models for unit in range(people.units)]
    tilt = dict(zip(every, generator.normal(0, people.unit_sd, len(every)), strict=True))
    rows: list[tuple[Any, ...]] = []
    for who in range(people.participants):
        turns = -(-people.trials // len(every))
        order = np.concatenate([generator.permutation(len(every)) for _ in range(turns)])[: people.trials]
        first = generator.integers(people.trials_per_unit)
        rows += [
            (_name(who), *every[index], tilt[every[index]], int((first + place // len(every)) % people.trials_per_unit))
            for place, index in enumerate(order)
        ]
    return pl.DataFrame(rows, schema=["participant", "rung", "unit", "tilt", "question"], orient="row")


def _answered(
    people: People, shown: pl.DataFrame, careless: np.ndarray, generator: np.random.Generator
) -> pl.DataFrame:
    """All responses: main trials, with the catch trials between them."""
    catches = pl.DataFrame(
        [(_name(who), "", number, 0.0, 0) for who in range(people.participants) for number in range(people.catches)],
        schema=shown.schema,
        orient="row",
    )
    rows = pl.concat([shown.with_columns(kind=pl.lit("main")), catches.with_columns(kind=pl.lit("catch"))])
    rows = rows.with_columns(pl.Series("at", generator.random(len(rows)))).sort("participant", "at")
    who = rows["participant"].rank("dense").to_numpy().astype(int) - 1
    base = {model: _logit(d_prime) for model, d_prime in people.models.items()}
    middle = rows["rung"].replace_strict(base, default=50.0, return_dtype=pl.Float64).to_numpy()
    skill = generator.normal(0, people.participant_sd, people.participants)
    spread = np.array([base.get(rung) != 0.0 for rung in rows["rung"]])  # guessers differ in nothing
    chance = expit(middle + spread * (rows["tilt"].to_numpy() + skill[who]))
    answer = rows["question"].to_numpy() % 2  # which query is right, the same for everyone
    draws = generator.random((4, len(rows)))
    guessing = (draws[1] < people.lapse) | careless[who]
    picked = np.where(draws[0] < np.where(guessing, 0.5, chance), answer, 1 - answer)
    picked = np.where((draws[2] < people.side) & (rows["kind"] == "main").to_numpy(), 1, picked)
    right = picked == answer
    named = rows.with_columns(
        trial=pl.concat_str("kind", "rung", "unit", "question", separator="/"),
        ladder=pl.lit("synthetic"),
        seed=pl.lit(0),
        control=pl.lit("trained"),
        layer=pl.format("layer {}", pl.col("unit") % people.layers),
        band=pl.lit("extreme"),
        position=pl.int_range(pl.len()).over("participant"),
        picked=pl.Series(picked),
        correct=pl.Series(right),
        confidence=pl.Series(1 + right + (draws[3] < 0.5)),
        seconds=pl.lit(8.0),
        answered_at=pl.lit(START),
    )
    return named.select(*RESPONSES).cast(pl.Schema(RESPONSES))


def _logit(d_prime: float) -> float:
    share = float(ndtr(d_prime / np.sqrt(2)))
    return float(np.log(share / (1 - share)))


def only_guessing(people: People) -> People:
    """The same people, who see nothing."""
    return replace(people, models=dict.fromkeys(people.models, 0.0))
