"""What a model says once its confidence is set right: a temperature and a bias, fitted on one half and weighed on the
other.

A model some of whose units are replaced is badly calibrated: its logits keep a size that they no longer deserve, and
the bits that it still has would come out negative. So its logits z become

    z / T + ln f + b        with f the classes' frequencies and b a number for each class, or
    z / T + c ln f          where there are more than 256 classes (tokens): one number c in place of the biases,

fitted to the stimuli of one half; the other half is weighed, and then the halves change places. A bias for each token
would be fitted to fewer than one occurrence each; with c alone, a model that knows nothing can still say the
frequencies. Both problems are convex. A stimulus more, which is answered by the frequencies, keeps T finite where every
answer is right; b has a standard normal prior. T is above zero: where the right answers get the lower logits, the best
is 1 / T = 0, and biases alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from thalweg.capability.answers import Answers
from thalweg.stimuli.windows import NO_TARGET

MOST_CLASSES = 256  # that have a bias each
MOST_FITTED = 128  # places that c and T are fitted to: two numbers need no more
STEPS = 30
CLOSE = 1e-5  # nats a place: what a step must gain at least to be followed by another
LEAST_DAMPING, FIRST_DAMPING, MOST_DAMPING = 1e-7, 1e-3, 1e4

Folds = Sequence[Int[Tensor, "_"]]  # the stimuli of two halves


def gains(
    logits: Float[Tensor, "set stimulus *place class"], answers: Answers, folds: Folds
) -> Float[Tensor, "set stimulus"]:
    """The nats that each stimulus gains over guessing by frequency, with temperature and bias fitted on the other half.

    Args:
        logits: What the model says, one row a set of units that are kept.
        answers: What it should say.
        folds: The stimuli of each half.
    """
    placed = logits.unflatten(1, (logits.shape[1], 1)) if logits.ndim == 3 else logits
    prior = answers.log_prior.to(placed)
    made = torch.zeros(logits.shape[:2], dtype=torch.float64)
    for fold, other in zip(folds, reversed(folds), strict=True):
        fitted = fit(placed[:, fold], answers.targets[fold], prior)
        made[:, other] = _gains_of(placed[:, other], answers.targets[other], fitted, prior).double().cpu()
    return made


@dataclass(frozen=True, eq=False)
class Fitted:
    """Parameters of each set: 1 / T first, then the biases, or c."""

    parameters: Float[Tensor, "set parameter"]
    free: bool  # a bias for each class

    def line(self, logits: Float[Tensor, "set *row class"], prior: Tensor) -> Float[Tensor, "set *row class"]:
        """The logits once they are set right."""
        shape = (len(logits), *[1] * (logits.ndim - 2), -1)
        slope = self.parameters[:, :1].reshape(shape)
        other = self.parameters[:, 1:].reshape(shape)
        return slope * logits + (prior + other if self.free else other * prior)


def _gains_of(
    logits: Float[Tensor, "set stimulus place class"],
    targets: Int[Tensor, "stimulus place"],
    fitted: Fitted,
    prior: Float[Tensor, " class"],
) -> Float[Tensor, "set stimulus"]:
    right = targets.clamp_min(0).to(logits.device).expand(len(logits), -1, -1)[..., None]
    says = fitted.line(logits, prior)
    nats = (says.logsumexp(-1, keepdim=True) - says.gather(-1, right))[..., 0]
    guessing = -prior[right[..., 0]]
    gained: Tensor = torch.where((targets != NO_TARGET).to(logits.device), guessing - nats, 0).sum(-1)
    return gained


@dataclass(frozen=True, eq=False)
class _Problem:
    """The convex problem of each set: logits, what should be said (smoothed), and the logarithms of frequencies."""

    logits: Float[Tensor, "set row class"]
    wanted: Float[Tensor, "row class"]
    prior: Float[Tensor, " class"]
    free: bool

    def at(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The loss (set), its gradient (set, parameter) and its Hessian (set, parameter, parameter)."""
        z, slope, other = self.logits, parameters[:, 0, None, None], parameters[:, None, 1:]
        line = slope * z + (self.prior + other if self.free else other * self.prior)
        log_p = line.log_softmax(-1)
        p = log_p.exp()
        surplus = p - self.wanted
        loss = -(self.wanted * log_p).sum((1, 2))
        mean = (p * z).sum(-1, keepdim=True)
        tilted = p * (z - mean)  # its sum with anything is a covariance with z
        towards, bend = (surplus * z).sum((1, 2)), (tilted * z).sum((1, 2))
        if self.free:
            beside = surplus.sum(1) + parameters[:, 1:]
            loss = loss + parameters[:, 1:].square().sum(1) / 2
            square = torch.diag_embed(p.sum(1) + 1) - p.mT @ p
            cross = tilted.sum(1)
        else:
            beside = (surplus @ self.prior).sum(1)[:, None]
            centred = self.prior - (p @ self.prior)[..., None]
            square = (p * centred * self.prior).sum((1, 2))[:, None, None]
            cross = (tilted @ self.prior).sum(1)[:, None]
        gradient = torch.cat([towards[:, None], beside], 1)
        upper = torch.cat([bend[:, None], cross], 1)[:, None]
        return loss, gradient, torch.cat([upper, torch.cat([cross[..., None], square], 2)], 1)


def fit(
    logits: Float[Tensor, "set stimulus place class"],
    targets: Int[Tensor, "stimulus place"],
    prior: Float[Tensor, " class"],
) -> Fitted:
    """The parameters of the least loss on some stimuli, by Newton's method with damping, all sets at once."""
    free = logits.shape[-1] <= MOST_CLASSES
    known = (targets != NO_TARGET).nonzero()
    if len(known) > MOST_FITTED and not free:
        known = known[torch.linspace(0, len(known) - 1, MOST_FITTED).long()]
    rows = logits[:, known[:, 0], known[:, 1]]
    centred = rows - rows.mean(-1, keepdim=True)
    scale = centred.square().mean((1, 2)).sqrt().clamp_min(1e-12)[:, None]
    smooth = 1 / (len(known) + 1)
    wanted = smooth * prior.exp().expand(rows.shape[1:]).clone()
    right = targets[known[:, 0], known[:, 1]].to(wanted.device)
    wanted[torch.arange(len(right), device=wanted.device), right] += 1 - smooth
    parameters = torch.zeros(len(rows), 1 + (len(prior) if free else 1), dtype=rows.dtype, device=rows.device)
    if not free:
        parameters[:, 1] = 1
    problem = _Problem(centred / scale[..., None], wanted, prior, free)
    solved = _newton(problem, parameters)
    says = solved[:, :1] > 0
    if not says.all():  # their logits say nothing: what is left to fit is the rest
        solved = _newton(replace(problem, logits=problem.logits * says[..., None]), parameters)
        solved = torch.cat([solved[:, :1] * says, solved[:, 1:]], 1)
    return Fitted(torch.cat([solved[:, :1] / scale, solved[:, 1:]], 1), free)


def _newton(problem: _Problem, parameters: Tensor) -> Tensor:
    """From guessing by frequency, where the problem bends most. A step that does not lower a set's loss is taken back,
    and its damping grows (Levenberg-Marquardt).
    """
    loss, gradient, hessian = problem.at(parameters)
    damping = torch.full_like(loss, FIRST_DAMPING)
    identity = torch.eye(parameters.shape[1], dtype=loss.dtype, device=loss.device)
    for _ in range(STEPS):
        size = hessian.diagonal(dim1=1, dim2=2).amax(1)
        step = torch.linalg.solve(hessian + (damping * size + 1e-12)[:, None, None] * identity, gradient)
        tried = parameters - step
        there = problem.at(tried)
        better = there[0] < loss
        gained = torch.where(better, loss - there[0], 0)
        parameters = torch.where(better[:, None], tried, parameters)
        loss = torch.where(better, there[0], loss)
        gradient = torch.where(better[:, None], there[1], gradient)
        hessian = torch.where(better[:, None, None], there[2], hessian)
        damping = torch.where(better, damping / 10, damping * 10).clamp(LEAST_DAMPING, MOST_DAMPING)
        if bool(((gained < CLOSE * problem.logits.shape[1]) & (better | (damping >= MOST_DAMPING))).all()):
            break
    return parameters
