"""What a model should say to each stimulus, and what guessing by frequency alone says: the zero of all bits.

A bit here is a bit of strength (`thalweg.strength`): of a classifier, how far its loss lies below that of the labels'
frequencies; of a language model, how far it lies below the unigram model's, for each byte of the next tokens.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from thalweg.stimuli.base import Stimuli
from thalweg.stimuli.windows import NO_TARGET, Windows
from thalweg.strength.axes import LEAST_ENTROPY, ONE_CLASS, entropy
from thalweg.strength.language import unigram

UNSEEN = 0.5  # of a stimulus: the count of a class that no stimulus of the pool is of
NO_LOGITS = "the model gives no logits for the classes of its stimuli, so that there is no loss"


class Missing(Exception):
    """Why a model has no capability that could be weighed. Not an error of the user's: the table says it."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What should be said to some stimuli.

    Attributes:
        targets: the right class at each place, or NO_TARGET; a classifier has one place.
        log_prior: natural logarithms of the classes' frequencies.
        size: by how much a stimulus's nats are divided to give bits: ln 2, or ln 2 for each byte of the next tokens.
        by_token: whether a class is a token, and each place says the next one.
    """

    targets: Int[Tensor, "stimulus place"]
    log_prior: Float[Tensor, " class"]
    size: Float[Tensor, " stimulus"]
    by_token: bool = False

    @property
    def guessing(self) -> Float[Tensor, " stimulus"]:
        """Nats of each stimulus when guessing by frequency alone."""
        known = self.targets != NO_TARGET
        nats = -self.log_prior[self.targets.clamp_min(0)]
        return torch.where(known, nats, 0).sum(1)

    @property
    def achievable(self) -> float:
        """The bits that guessing by frequency leaves open: all that can be gained."""
        return float(self.guessing.sum() / self.size.sum())

    def take(self, which: Int[Tensor, " taken"]) -> "Answers":
        """The answers to the stimuli at these places."""
        return Answers(self.targets[which], self.log_prior, self.size[which], self.by_token)

    def bits(self, gains: Float[Tensor, "*set stimulus"]) -> Float[Tensor, "*set"]:
        """Bits from the nats that each stimulus gains over guessing."""
        bits: Tensor = gains.sum(-1) / self.size.sum()
        return bits

    def for_logits(self, logits: Tensor) -> "Answers":
        """The same, for a model that knows more classes than occur (they are as rare as the rarest), or fewer.

        Raises:
            Missing: the logits have another shape than the answers.
        """
        places = (len(self.targets), self.targets.shape[1]) if self.by_token else (len(self.targets),)
        classes, known = logits.shape[-1], len(self.log_prior)
        fits = classes > int(self.targets.max()) if self.by_token else classes == known
        if logits.shape[:-1] != places or not fits:
            raise Missing(NO_LOGITS)
        more = self.log_prior.min().expand(max(0, classes - known))
        return Answers(self.targets, torch.cat([self.log_prior, more])[:classes], self.size, self.by_token)


def answers_to(stimuli: Stimuli, pool: Stimuli) -> Answers:
    """The answers to some stimuli of a pool.

    Raises:
        Missing: there is nothing to be said of them.
    """
    if isinstance(stimuli, Windows):
        targets = stimuli.targets(slice(None))
        lengths = stimuli.vocabulary.lengths().double()[targets.clamp_min(0)]
        size = math.log(2) * torch.where(targets != NO_TARGET, lengths, 0).sum(1)
        return Answers(targets, -unigram(stimuli.vocabulary.counts), size, by_token=True)
    labels = pool.labels.long()
    if not len(pool.label_names) or int(labels.min()) < 0:
        raise Missing("the stimuli have no labels")
    if entropy(labels) < LEAST_ENTROPY:
        raise Missing(ONE_CLASS)
    counts = labels.bincount(minlength=len(pool.label_names)).double().clamp_min(UNSEEN)
    size = torch.full((len(stimuli),), math.log(2), dtype=torch.float64)
    return Answers(stimuli.labels.long()[:, None], (counts / counts.sum()).log(), size)
