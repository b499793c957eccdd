"""Observers of pairs of numbers: one that knows the functions that modular addition is made of, and one that sees
amounts.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from thalweg.observers.base import observer
from thalweg.stimuli.pairs import NumberPairs

STEPS = 16  # bumps along each number: a sixteenth of the numbers is "near"; finer ones would name single numbers


@observer(version=1, modality="pair", whole=False)
def fourier(stimuli: NumberPairs) -> Float[Tensor, "stimulus feature"]:
    """Waves of a, b, a + b or a - b at any frequency, of which it chooses one by the references alone.

    cos and sin of 2 pi k x / p for x in (a, b, a + b, a - b) and k = 1 ... (p - 1) / 2: 4 (p - 1) functions, without
    phases between cos and sin (phases at multiples of pi / 4 raise trained and untrained neurons alike, by .01 to .02).
    It compares no whole stimuli, so what is predictable and what is crisp are one to it. Blind to whatever is not
    periodic, and to all but the one wave of a unit that is made of several.
    """
    a, b = stimuli.numbers.double().T
    turns = 2 * math.pi / stimuli.p * torch.arange(1, (stimuli.p + 1) // 2, dtype=torch.float64)
    angles = torch.cat([x[:, None] * turns for x in (a, b, a + b, a - b)], 1)
    return torch.cat([angles.cos(), angles.sin()], 1).float()


@observer(version=1, modality="pair", control=True)
def numbers(stimuli: NumberPairs) -> Float[Tensor, "stimulus feature"]:
    """How near both numbers are to those of another pair, as amounts.

    Gaussian bumps exp(-(x - c)^2 / 2 s^2) of a and of b, with centres c from 0 to p in steps of s = p / 16. A control:
    it knows neither periods nor sums, and p - 1 is far from 0 to it.
    """
    step = stimuli.p / STEPS
    centres = torch.arange(STEPS + 1) * step
    apart = (stimuli.numbers[:, :, None].float() - centres) / step  # (stimulus, number, centre)
    return (-apart.square() / 2).exp().flatten(1)
