"""Which units a study asks about, and which trials of theirs: drawn from a run by a seed."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from thalweg.errors import ThalwegError
from thalweg.files.identity import digest
from thalweg.runs.run import Run
from thalweg.trials.items import Trial

MODEL = ("ladder", "rung", "seed", "control")
Model = Mapping[str, Any]  # ladder, rung, seed, control
Unit = tuple[str, str, int, str, str, int]  # ladder, rung, seed, control, layer, unit
OBVIOUS = 3  # trials of the practice with an obvious answer; the others ask about clear units
SPARE = 4  # units that are drawn beside those wanted, since some make no trial


def unit_of(trial: Trial) -> Unit:
    """The unit that a trial is about."""
    return (trial.ladder, trial.rung, trial.seed, trial.control, trial.layer, trial.unit)


def names_of(models: Sequence[Model]) -> dict[tuple[Any, ...], str]:
    """Each model in one line: its rung, its seed where a rung has several, and its twin."""
    several = len({(model["rung"], model["control"]) for model in models}) < len(models)
    names = {}
    for model in models:
        seed = f", seed {model['seed']}" if several else ""
        twin = "" if model["control"] == "trained" else f" ({model['control']})"
        names[tuple(model[name] for name in MODEL)] = f"{model['rung']}{seed}{twin}"
    return names


def trials_of_model(
    run: Run, model: Model, count: int, seed: int, settings: Mapping[str, Any]
) -> dict[Unit, list[Trial]]:
    """The trials of so many units of a model: a layer uniformly at random, then a unit of it, none twice."""
    given = {name: model[name] for name in ("seed", "control")}
    recorded = run.recordings(model["ladder"], model["rung"], **given)
    units = {layer: halves.reference.unit_ids.tolist() for layer, halves in recorded.items()}
    drawn = _in_random_order(units, digest("units", seed, *model.values()))
    found: dict[Unit, list[Trial]] = {}
    while len(found) < count:
        batch: dict[str, list[int]] = defaultdict(list)
        for layer, unit in (pair for pair, _ in zip(drawn, range(count - len(found) + SPARE), strict=False)):
            batch[layer].append(unit)
        if not batch:
            break
        more: dict[Unit, list[Trial]] = defaultdict(list)
        for layer, numbers in batch.items():
            for trial in run.trials(model["ladder"], model["rung"], **given, layer=layer, units=numbers, **settings):
                more[unit_of(trial)].append(trial)
        for about in list(more)[: count - len(found)]:
            found[about] = more[about]
    return found


def _in_random_order(units: Mapping[str, Sequence[int]], seed: str) -> Iterator[tuple[str, int]]:
    rng = random.Random(seed)
    left = {layer: rng.sample(numbers, len(numbers)) for layer, numbers in units.items() if numbers}
    while left:
        layer = rng.choice(list(left))
        yield layer, left[layer].pop()
        if not left[layer]:
            del left[layer]


def deal(
    units: Mapping[str, Mapping[Unit, Sequence[Trial]]], participants: int, trials: int, seed: str
) -> list[list[str]]:
    """Lists of trials, one for each participant, in which units and their trials occur equally often.

    Every list takes the next units of a cycle through all units; no unit is twice in a list. In the cycle models take
    turns, so each list asks equally often about each, and each round is shuffled anew.

    Args:
        units: By model, the trials of each unit.
        participants: How many lists.
        trials: How many trials each has, no more than there are units.
        seed: What the order is drawn by.
    """
    rng = random.Random(seed)
    used: Counter[Unit] = Counter()
    by_unit = {unit: asked for model in units.values() for unit, asked in model.items()}
    starts = {unit: rng.randrange(len(asked)) for unit, asked in by_unit.items()}
    queue: list[Unit] = []
    lists = []
    for _ in range(participants):
        while len(queue) < trials:
            kept = set(queue)
            queue += sorted(_one_round(units, rng), key=lambda unit: unit in kept)  # a stable sort
        mine, queue = queue[:trials], queue[trials:]
        asked = [by_unit[unit][(starts[unit] + used[unit]) % len(by_unit[unit])].id for unit in mine]
        used.update(mine)
        lists.append(rng.sample(asked, len(asked)))
    return lists


def _one_round(units: Mapping[str, Mapping[Unit, Any]], rng: random.Random) -> list[Unit]:
    """All units once, the models in turn."""
    shuffled = [rng.sample(list(model), len(model)) for model in units.values()]
    longest = max(map(len, shuffled))
    spread = [
        (place * longest / len(model) + rng.random(), unit) for model in shuffled for place, unit in enumerate(model)
    ]
    return [unit for _, unit in sorted(spread)]


def with_catches(asked: Sequence[str], catches: Sequence[str], seed: str) -> list[str]:
    """A list with catch trials at places drawn from equal stretches of it, never at the very beginning."""
    rng = random.Random(seed)
    stretch = len(asked) / max(1, len(catches))
    places = [int(stretch * (number + rng.uniform(0.3, 1.0))) for number in range(len(catches))]
    made = list(asked)
    for place, catch in sorted(zip(places, catches, strict=True), reverse=True):
        made.insert(max(1, place), catch)
    return made


def clear_trials(run: Run, ladder: str, count: int, avoid: Iterable[Unit]) -> list[Trial]:
    """An `extreme` trial of each of the units with the highest two_choice score, those that are asked about last.

    Raises:
        ThalwegError: the run has too few units that make trials.
    """
    scores = run.units.filter(
        ladder=ladder, control="trained", measure="two_choice", band="extreme", exchanged=False
    ).filter(pl.col("value").is_not_nan())
    key = ["ladder", "rung", "seed", "control", "layer", "unit"]
    best = scores.group_by(key).agg(pl.col("value").mean()).sort("value", *key, descending=[True, *[False] * len(key)])
    avoided = set(avoid)
    ranked = sorted(best.select(key).rows(), key=lambda unit: unit in avoided)
    found: list[Trial] = []
    for unit in ranked:
        if len(found) == count:
            return found
        _, rung, seed, control, layer, number = unit
        asked = run.trials(
            ladder, rung, seed=seed, control=control, layer=layer, units=[number], band="extreme", per_unit=1
        )
        found += asked[:1]
    if not found:
        raise ThalwegError(f"ladder {ladder!r} has no unit with trials for the practice")
    return [found[number % len(found)] for number in range(count)] if len(found) < count else found


def obvious(trial: Trial) -> Trial:
    """The trial with a plain answer for whoever looks: each query is one of the references."""
    ends = (trial.high_references[0], trial.low_references[0])
    return replace(trial, queries=ends if trial.correct == 0 else ends[::-1])
