"""What networks that add modulo p have learnt: python -m benchmarks.addition [--p 53] [--seeds 3] [--rungs NAME ...]

Trains each rung and its memorising twin, and prints what it cost, whether it grokked, its key frequencies, the measures
of `thalweg.ladders.addition.fourier`, and what the observer `fourier` scores its neurons (`two_choice`), trained,
rotated, untrained and memorising. `--rate` and `--decay` train with another learning rate and weight decay than the
ladder does.
"""

import argparse
import time
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from thalweg import Source, Splits
from thalweg.ladders import addition
from thalweg.ladders.addition import pairs, strength, training
from thalweg.measures.two_choice import two_choice
from thalweg.models.records import Layer
from thalweg.observers.answers import answer_by_features
from thalweg.observers.base import OBSERVERS, extract_features
from thalweg.observers.embedding import standardised
from thalweg.recording.readout import NEURONS, RANDOM
from thalweg.recording.record import record
from thalweg.recording.settings import RecordingSettings
from thalweg.stimuli.base import halves
from thalweg.trials.building import build_trials

COLUMNS = (
    *("rung", "seed", "CPU s", "epochs", "grokked at", "accuracy", "bits", "keys", "neurons > 85 %", "logit variance"),
    *("restricted loss", "excluded loss", "layer: fourier trained, rotated, untrained, memorising"),
    "memorising twin's CPU s, accuracy, bits",
)


def fourier_scores(model: nn.Module, layer: Layer, splits: Splits) -> dict[str, float]:
    """The mean score of a layer's units and of their rotation."""
    pool = splits.pool
    waves = standardised(extract_features(OBSERVERS["fourier"], pool)["features"])
    sides = [
        record(model, [layer], pool, ids, RecordingSettings(bases=(NEURONS, RANDOM))) for ids in halves(pool, seed=0)
    ]
    scores = {}
    for basis in (NEURONS, RANDOM):
        trials = build_trials(*(side[layer.name, basis] for side in sides))
        scores[basis] = float(two_choice(answer_by_features(trials, waves, (1,))[1])["mean", ""].value.nanmean())
    return scores


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--p", type=int, default=pairs.P)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rungs", nargs="*", default=[])
    parser.add_argument("--rate", type=float, default=None)
    parser.add_argument("--decay", type=float, default=None)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    ladder = addition.ladder(asked.p)
    splits = ladder.splits(Source(), 0)
    print(" | ".join(COLUMNS))
    for rung in ladder.rungs:
        if asked.rungs and rung.name not in asked.rungs:
            continue
        trainer = rung.train
        assert isinstance(trainer, training.FullBatch)
        if asked.rate is not None:
            trainer = replace(trainer, learning_rate=asked.rate)
        if asked.decay is not None:
            trainer = replace(trainer, weight_decay=asked.decay)
        for seed in range(asked.seeds):
            models, summaries, seconds = {}, {}, {}
            for name, how in {"untrained": None, "trained": trainer, **ladder.twins}.items():
                torch.manual_seed(seed)
                models[name] = rung.build()
                start = time.process_time()
                summaries[name] = dict(how(models[name], splits, seed)) if how else {}
                seconds[name] = time.process_time() - start
            _print(rung.name, seed, rung.layers, models, summaries, seconds, splits)


def _print(
    name: str,
    seed: int,
    layers: tuple[Layer, ...],
    models: dict[str, nn.Module],
    summaries: dict[str, dict[str, Any]],
    seconds: dict[str, float],
    splits: Splits,
) -> None:
    mine = summaries["trained"]
    strong, twin = (strength.evaluate(models[which], splits.pool) for which in ("trained", "memorising"))
    scores = []
    for layer in layers:
        fourier = {which: fourier_scores(model, layer, splits) for which, model in models.items()}
        values = [fourier["trained"][NEURONS], fourier["trained"][RANDOM]]
        values += [fourier[which][NEURONS] for which in ("untrained", "memorising")]
        scores.append(f"{layer.name}: {' '.join(f'{value:.3f}' for value in values)}")
    print(
        f"{name} | {seed} | {seconds['trained']:.1f} | {mine['epochs']} | {mine.get('grokked_at', 'never')} | "
        f"{strong['accuracy']:.3f} | {strong['bits']:.2f} | {mine['key_frequencies'] or 'none'} | "
        f"{mine['neurons_at_one_frequency']:.2f} | {mine['logit_variance_explained']:.3f} | "
        f"{mine['restricted_loss']:.1e} | {mine['excluded_loss']:.2f} | {'; '.join(scores)} | "
        f"{seconds['memorising']:.1f}, {twin['accuracy']:.3f}, {twin['bits']:.1f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
