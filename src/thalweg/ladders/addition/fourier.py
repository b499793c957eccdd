"""What a network that adds modulo p has learnt, read in the basis in which addition is simple.

A network that generalises turns each number into a few waves, cos(w_k a) and sin(w_k a) with w_k = 2 pi k / p,
multiplies those of a and b into waves of the sum by the identities of trigonometry, and gives answer c the logit
sum_k alpha_k cos(w_k (a + b - c)) (Nanda, Chan, Lieberum, Smith & Steinhardt 2023, "Progress measures for grokking via
mechanistic interpretability"). So all that matters are the *key frequencies* k, and how much of the network lives at
them. The measures below say so continuously, also while nothing can be seen in the held-out loss.

Everything here is a pure function of arrays over all p^2 pairs: values of units (a, b, unit), logits (a, b, answer).
Frequencies are numbered from 1 to (p - 1) / 2, as in the formulas; p is odd. Sums are in float64.

Limits: the key frequencies are those of one network at one time. Before it generalises nearly every frequency is the
best one of some neuron; so fix them by the last weights of a run and use them for all the earlier ones.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

MOST = 0.85  # of a neuron's variance: at one frequency, as 433 of the 512 neurons of the published network have it
LEAST = 0.01  # of the logits' variance: over ten networks that grokked, the least key had .014, the next frequency .002

Keys = Sequence[int]


def basis(p: int) -> Float64[Tensor, "component p"]:
    """The orthonormal Fourier basis of functions on 0 ... p - 1: 1, cos_1, sin_1, cos_2, sin_2, ..., each of length 1.

    cos_k(a) = sqrt(2 / p) cos(2 pi k a / p), likewise sin_k, and 1 / sqrt(p).
    """
    angle = 2 * math.pi / p * torch.arange(p, dtype=torch.float64)
    turns = torch.arange(1, (p + 1) // 2, dtype=torch.float64)[:, None] * angle  # (frequency, p)
    waves = torch.stack([turns.cos(), turns.sin()], 1).flatten(0, 1) * math.sqrt(2 / p)
    return torch.cat([torch.full((1, p), 1 / math.sqrt(p), dtype=torch.float64), waves])


def frequency_shares(values: Float[Tensor, "p p unit"]) -> Float64[Tensor, "unit frequency"]:
    """How much of each unit's variance over all pairs is at one frequency.

    With V the values in the basis on both axes and v_ij the component (i, j), the share of frequency k is the sum of
    v_ij^2 over i and j in {1, cos_k, sin_k}, without (1, 1), over the sum of v_ij^2 over all without (1, 1): any
    polynomial of degree 2 in the waves of one frequency (one of each number) has share 1. A constant unit is NaN.
    """
    p = len(values)
    power = torch.einsum("ia,jb,abu->iju", basis(p), basis(p), values.double()).square()  # (component, component, unit)
    power[0, 0] = 0
    by_wave = power[1:, 1:].unflatten(0, (-1, 2)).unflatten(2, (-1, 2)).sum((1, 3))  # (frequency, frequency, unit)
    alone = (power[1:, 0] + power[0, 1:]).unflatten(0, (-1, 2)).sum(1)  # (frequency, unit): waves of a, and of b
    shares: Tensor = (by_wave.diagonal().T + alone) / power.sum((0, 1))
    return shares.T


def _waves_of_the_sum(p: int) -> Float64[Tensor, "pair component"]:
    """u_k and v_k, cos and sin of w_k (a + b) over all pairs, each of length 1: columns cos_1, sin_1, cos_2, ..."""
    sums = (torch.arange(p)[:, None] + torch.arange(p)).flatten() % p
    waves: Tensor = basis(p)[1:, sums] / math.sqrt(p)  # each sum occurs p times
    return waves.T


def logit_shares(logits: Float[Tensor, "p p answer"]) -> Float64[Tensor, " frequency"]:
    """How much of the logits' variance the waves of the sum explain, for each frequency.

    With L the logits as a matrix (pair, answer), without its row means (they change no probability) and without its
    column means: (|u_k' L|^2 + |v_k' L|^2) / |L|^2. The sum over the key frequencies is the variance explained by
    them.
    """
    flat = logits.double().flatten(0, 1)
    flat = flat - flat.mean(1, keepdim=True)
    flat = flat - flat.mean(0)
    along = _waves_of_the_sum(len(logits)).T @ flat  # (component, answer)
    shares: Tensor = along.square().sum(1).unflatten(0, (-1, 2)).sum(1) / flat.square().sum().clamp_min(1e-300)
    return shares


def key_frequencies(values: Float[Tensor, "p p unit"], logits: Float[Tensor, "p p answer"]) -> list[int]:
    """The frequencies that a network computes with: each the best one of some neuron, and of more than 1 % of the
    logits' variance.

    `values` are the neurons' before the rectifier. The publication calls frequencies key whose part in the read-out is
    not trivial, and names no threshold; the 1 % stands for it.
    """
    shares = frequency_shares(values)
    best = shares[shares.isfinite().all(1)].argmax(1).unique()
    explained = logit_shares(logits)
    return [int(index) + 1 for index in best if explained[index] > LEAST]


def neurons_at_one_frequency(values: Float[Tensor, "p p unit"]) -> float:
    """The share of units of whose variance more than 85 % is at one frequency; constant units count as not."""
    return float((frequency_shares(values).nan_to_num(0).amax(1) > MOST).double().mean())


def _part_at(logits: Float64[Tensor, "pair answer"], p: int, keys: Keys) -> Float64[Tensor, "pair answer"]:
    """Q = sum over the key frequencies of (u_k u_k' + v_k v_k') L."""
    components = [2 * (k - 1) + phase for k in keys for phase in (0, 1)]
    waves = _waves_of_the_sum(p)[:, components]
    part: Tensor = waves @ (waves.T @ logits)
    return part


def _loss(logits: Float64[Tensor, "pair answer"], p: int, which: Int[Tensor, " taken"] | slice) -> float:
    """The mean cross-entropy in nats of some of the pairs, of which all are given in order."""
    sums = (torch.arange(p)[:, None] + torch.arange(p)).flatten() % p
    return float(torch.nn.functional.cross_entropy(logits[which], sums[which]))


def restricted_loss(logits: Float[Tensor, "p p answer"], keys: Keys) -> float:
    """The loss in nats over all pairs that is left when only the waves of the sum at the key frequencies are kept.

    With L the logits as a matrix (pair, answer): the cross-entropy of Q + (mean over pairs of L), with Q = sum_k (u_k
    u_k' + v_k v_k') L. It falls while the network still seems only to memorise.
    """
    flat = logits.double().flatten(0, 1)
    return _loss(_part_at(flat, len(logits), keys) + flat.mean(0), len(logits), slice(None))


def excluded_loss(logits: Float[Tensor, "p p answer"], keys: Keys, train: Int[Tensor, "pair 2"]) -> float:
    """The loss in nats over the training pairs that is left when exactly those waves are taken away.

    The cross-entropy of L - Q (see `restricted_loss`) over the pairs trained on. A network that memorised loses
    nothing by it; one that computes with those waves loses everything.
    """
    p = len(logits)
    flat = logits.double().flatten(0, 1)
    return _loss(flat - _part_at(flat, p, keys), p, train[:, 0] * p + train[:, 1])


def component_norms(table: Float[Tensor, "p feature"]) -> Float64[Tensor, " component"]:
    """The length of each Fourier component of a table with a row for each number: |basis @ table|, without the
    constant's.
    """
    components: Tensor = basis(len(table)) @ table.double()
    return components.square().sum(1).sqrt()[1:]


def gini(norms: Float[Tensor, " component"]) -> float:
    """How unequal some lengths x are: sum_ij |x_i - x_j| / (2 n sum_i x_i).

    0 if all are alike, (n - 1) / n if all but one are 0. NaN if all are 0.
    """
    ordered = norms.double().sort().values
    n = len(ordered)
    rank = torch.arange(1, n + 1, dtype=torch.float64)
    return float((2 * rank - n - 1) @ ordered / (n * ordered.sum()))
