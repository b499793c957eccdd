"""Addition modulo a prime: from a linear model of one-hot numbers to the transformer that groks.

The one task here whose solution is known to the last step (Nanda et al. 2023; see
`thalweg.ladders.addition.fourier`), so the one where an interpretability score can be held against the truth. A network
first memorises the pairs it is trained on and only much later, driven by weight decay, finds the waves that add: it
*groks*. Hence the second control: a `memorising` twin starts from the same weights, is trained on the same pairs
without weight decay, and knows them by heart.

All pairs of numbers below p are split once: some for training (40 % for p = 53), a tenth to say when a network has
grokked, and the rest as the pool. The rungs are of three kinds: a linear model, perceptrons with one hidden layer of
rectified units on one-hot numbers, and one-layer transformers without layer norm on the tokens a, b and "=". All are
trained on the whole batch by AdamW, to the same rule.

Limits: whether a network adds is nearly all or nothing. What spreads the rungs is width (a transformer of width 4 has
room for two waves) and how much the perceptrons generalise within their epochs; some seeds never grok, and the tables
say so. At weight decay 5 a transformer ends with two to four key frequencies, fewer than the published network's five.
Held-out bits of a memoriser are negative, because it is wrong with confidence. They are reported as they are; a more
negative number does not mean less knowledge. The linear model's logits take only a few values, so it has no queries in
the graded bands.

Only the last place's output matters, and what the tokens give to it depends on one token each; so a transformer is
computed from tables with a row for each number, four times faster than token by token (measured at width 64).
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from thalweg.errors import ThalwegError
from thalweg.ladders.addition.goals import sum_goals
from thalweg.ladders.addition.networks import Linear, Perceptron, Transformer
from thalweg.ladders.addition.pairs import LARGE, P, splits
from thalweg.ladders.addition.strength import evaluate
from thalweg.ladders.addition.training import FullBatch, train_checkpoints
from thalweg.models.records import Ladder, Layer, Rung

LEAST_P = 17  # the smallest prime that leaves a pool of 120 pairs, as trials need; it has eight frequencies
MOST_P = 401  # the largest that was ever tried by those who published; p^3 logits are held at once
HIDDEN = Layer("mlp_in", nonlinearity=torch.relu)
BLOCK = (Layer("heads"), HIDDEN, Layer("residual"))
PERCEPTRONS = (16, 32, 64, 128, 256, 512)
# width: learning rate and weight decay. Narrow transformers bear less decay (at 5, width 8 learns nothing in 2,000
# epochs) and are trained faster, so that what they reach is what they can; width 64 is the setting known to grok.
TRANSFORMERS = {4: (3e-3, 1.0), 8: (3e-3, 1.0), 16: (3e-3, 2.0), 32: (3e-3, 3.0), 64: (1e-3, 5.0), 128: (1e-3, 5.0)}
CHECKPOINTS = (0, 30, 60, 100, 150, 200, 300, 400, 600, 1000, 1500, 2500)  # from memorising to clean-up, for p = 53
MEMORISING = FullBatch(learning_rate=1e-3, weight_decay=0.0, most_epochs=1000, until="memorised")


def _decay(p: int) -> float:
    """What the weight decay of p = 53 is multiplied by: 5 becomes the published 1."""
    return 0.2 if p >= LARGE else 1.0


def _epochs(p: int) -> int:
    """What the epochs of p = 53 are multiplied by: the published network was clean after 14,000."""
    return 8 if p >= LARGE else 1


def rungs(p: int) -> tuple[Rung, ...]:
    """The rungs for one p: linear, perceptrons and transformers, each by width.

    From p = 100 on, the transformer of width 128 with 512 neurons is trained as published.
    """
    decay, most = _decay(p), _epochs(p)

    def trained(rate: float, weight_decay: float, epochs: int) -> FullBatch:
        return FullBatch(rate, weight_decay * decay, epochs * most)

    # the linear model has nothing to learn but its pairs; only a strong decay keeps it from being sure and wrong
    ladder_rungs = [Rung("linear", "linear", partial(Linear, p), (Layer("logits"),), train=trained(1e-2, 30.0, 500))]
    for width in PERCEPTRONS:
        build, train = partial(Perceptron, p, width), trained(1e-2, 2.0, 2500)
        ladder_rungs.append(Rung(f"mlp-{width}", "fully connected", build, (HIDDEN,), width in (32, 128, 512), train))
    for width, (rate, weight_decay) in TRANSFORMERS.items():
        train = trained(rate, weight_decay, 2500 if width >= 64 else 1500)
        quick = width in (8, 32, 64)
        ladder_rungs.append(Rung(f"transformer-{width}", "transformer", _transformer(p, width), BLOCK, quick, train))
    return tuple(ladder_rungs)


def _transformer(p: int, width: int) -> Callable[[], nn.Module]:
    return partial(Transformer, p, width, 4 * width)


def checked(p: object) -> int:
    """A number that can be added modulo, whatever was given.

    Raises:
        ThalwegError: no whole number, not prime, or too small or too large; says which primes are near.
    """
    if isinstance(p, bool) or not isinstance(p, int):
        raise ThalwegError(f"addition modulo {p!r}: a whole number was expected, for example {P}")
    if not LEAST_P <= p <= MOST_P:
        problem = "too small, it leaves fewer than 120 pairs for trials" if p < LEAST_P else "too large"
        raise ThalwegError(f"addition modulo {p}: {problem}; a prime from {LEAST_P} to {MOST_P} was expected")
    if not _prime(p):
        near = [str(next(filter(_prime, range(p, start, step)))) for start, step in ((0, -1), (2 * p, 1))]
        raise ThalwegError(f"addition modulo {p}: {p} is not prime; the nearest primes are {' and '.join(near)}")
    return p


def _prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, math.isqrt(number) + 1))


def _name(stem: str, p: int) -> str:
    return stem if p == P else f"{stem}:{p}"


STRENGTH = "held-out bits above guessing, of log2 p"


def ladder(p: object) -> Ladder:
    """The ladder of models that add modulo p.

    For p = 53: 40 % of the pairs for training, and weight decay 5 for the transformer of width 64. From p = 100 on:
    30 %, a fifth of the weight decay, eight times the epochs, and the published transformer of width 128.

    Raises:
        ThalwegError: p is not a prime from 17 to 401.
    """
    prime = checked(p)
    return Ladder(
        name=_name("addition", prime),
        rungs=rungs(prime),
        splits=partial(splits, p=prime),
        description=f"addition modulo {prime}, from a linear model to transformers that grok",
        modality="pair",
        twins={"memorising": MEMORISING},
        evaluate=evaluate,
        strength=STRENGTH,
        goals=partial(sum_goals, prime),
    )


def training_ladder(p: object) -> Ladder:
    """The checkpoints of one run of the transformer that groks: through memorising, the forming of the circuit and its
    clean-up.

    Raises:
        ThalwegError: p is not a prime from 17 to 401.
    """
    prime = checked(p)
    width = 64 if prime < LARGE else 128
    rate, weight_decay = TRANSFORMERS[width]
    epochs = [epoch * _epochs(prime) for epoch in CHECKPOINTS]
    trainer = FullBatch(rate, weight_decay * _decay(prime), epochs[-1])
    return Ladder(
        name=_name("addition-training", prime),
        rungs=tuple(
            Rung(f"epoch-{epoch}", "transformer", _transformer(prime, width), BLOCK, checkpoint=epoch)
            for epoch in epochs
        ),
        splits=partial(splits, p=prime),
        description=f"a transformer of width {width} while it learns to add modulo {prime}",
        modality="pair",
        checkpoint_trainer=partial(train_checkpoints, trainer=trainer),
        evaluate=evaluate,
        strength=STRENGTH,
    )


LADDER = ladder(P)
TRAINING = training_ladder(P)
