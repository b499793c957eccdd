"""How many units are scored in a second, trials included: python -m benchmarks.scoring [--units 20000] [--loop 40]

The recordings of both halves of 5,000 stimuli are given; counted is the way from them to `two_choice` of every unit in
every band, by an observer of 512 features. Beside it, a plain loop over units, bands and trials does the same: it asks
each pair of queries as a trial of its own, and once only twenty trials a band, drawn at random, as published code does.
The answers over all pairs must agree.
"""

import argparse
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch

from thalweg.measures.two_choice import two_choice
from thalweg.observers.answers import answer
from thalweg.observers.embedding import centred
from thalweg.recording.keys import Scramble
from thalweg.recording.recorder import Recorder
from thalweg.recording.result import Recording
from thalweg.scoring.units import chunks
from thalweg.trials.building import REFERENCES, TrialSet, build_trials

STIMULI, FEATURES, TRIALS = 5000, 512, 20


def recorded(values: torch.Tensor, ids: torch.Tensor) -> Recording:
    recorder = Recorder(k=64, sample=512, scramble=Scramble.seeded(0), statistics={})
    for chunk in torch.arange(len(ids)).split(500):
        recorder.update(values[chunk], ids[chunk])
    return recorder.compute()


def thalweg(reference: Recording, query: Recording, embedding: torch.Tensor) -> torch.Tensor:
    parts = []
    for chunk in chunks(len(reference.count)):
        evidence = answer(build_trials(reference.units(chunk), query.units(chunk)), embedding)
        parts.append(torch.stack([score.value for score in two_choice(evidence).values()]))
    return torch.cat(parts, 1)  # (band, unit)


def loop(
    trials: TrialSet, embedding: np.ndarray, pairs: Callable[[list[int], list[int]], Iterator[tuple[int, int]]]
) -> list[list[float]]:
    """For each unit and band, the share of trials answered right, each answered by itself."""
    parts = []
    for unit in range(len(trials.high)):
        high, low = (side[unit, :REFERENCES].tolist() for side in (trials.high, trials.low))
        shares = []
        for queries in trials.queries.values():
            sides = [[entry for entry in side[unit].tolist() if entry >= 0] for side in (queries.high, queries.low)]
            right = [_right(embedding, high, low, *pair) for pair in pairs(*sides)]
            shares.append(float(np.mean(right)) if right else float("nan"))
        parts.append(shares)
    return parts


def _right(embedding: np.ndarray, high: list[int], low: list[int], first: int, other: int) -> float:
    evidence = [
        np.mean(embedding[high] @ embedding[query]) - np.mean(embedding[low] @ embedding[query])
        for query in (first, other)
    ]
    return 0.5 + 0.5 * float(np.sign(evidence[0] - evidence[1]))


def every_pair(high: list[int], low: list[int]) -> Iterator[tuple[int, int]]:
    return ((entry, other) for entry in high for other in low)


def some_pairs(high: list[int], low: list[int]) -> Iterator[tuple[int, int]]:
    generator = np.random.default_rng(0)
    if high and low:
        yield from zip(generator.choice(high, TRIALS), generator.choice(low, TRIALS), strict=True)


def timed(function: Callable, *arguments: object) -> tuple[float, object]:
    start = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - start, result


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--units", type=int, default=20_000)
    parser.add_argument("--loop", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(STIMULI, FEATURES, generator=generator)
    values = features @ torch.randn(FEATURES, options.units, generator=generator) / FEATURES**0.5
    values += torch.randn(values.shape, generator=generator)
    halves = torch.randperm(STIMULI, generator=generator).chunk(2)
    reference, query = (recorded(values[ids], ids) for ids in halves)
    embedding = centred(features)
    few = slice(0, options.loop)
    trials = build_trials(reference.units(few), query.units(few))
    fast, slow, published = [], [], []
    for _ in range(options.rounds):
        seconds, parts = timed(thalweg, reference, query, embedding)
        fast.append(options.units / seconds)
        seconds, all_pairs = timed(loop, trials, embedding.numpy(), every_pair)
        slow.append(options.loop / seconds)
        seconds, _ = timed(loop, trials, embedding.numpy(), some_pairs)
        published.append(options.loop / seconds)
    apart = np.nanmax(np.abs(parts[:4, few].T.numpy() - np.array(all_pairs)))
    print(f"{options.units:,} units, {STIMULI:,} stimuli, {FEATURES} features; medians of {options.rounds} rounds")
    print(f"thalweg, all pairs of every band:       {np.median(fast):>9,.0f} units a second")
    print(f"loop over units and all pairs:          {np.median(slow):>9,.1f} units a second")
    print(f"loop over units and {TRIALS} trials a band:     {np.median(published):>9,.1f} units a second")
    print(f"the answers over all pairs differ by at most {apart:.1e}")


if __name__ == "__main__":
    main()
