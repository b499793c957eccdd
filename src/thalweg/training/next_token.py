"""Models of the next token, how they are trained, and how strong they are.

Three kinds, from what is easiest to read: a bias alone, which knows how often each token occurs; a *sparse bag of
words*, which knows which tokens the window holds so far but neither where nor how often; and transformers, without and
with multilayer perceptrons. The transformers compute what GPT-2 does (Radford et al. 2019), so whatever is found in
them was not put there by an odd architecture.

Strength is in bits per byte of text, which no choice of tokens changes much, and counts from the unigram model: a
model that knows only the tokens' frequencies has gained nothing. Training has a budget of tokens, never of time, so
that a busy computer makes the same models.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from thalweg.compute.adam import Adam
from thalweg.errors import ThalwegError
from thalweg.stimuli.base import Splits
from thalweg.strength.language import cross_entropy, mean_loss, spread, windows
from thalweg.training.course import note
from thalweg.training.sparsity import keep_largest, penalised

IMPROVEMENT = 1e-4  # nats: less than this is no improvement
WEIGHT_DECAY = 0.01
WARM_UP = 0.05  # share of the budget in which the learning rate rises
COURSE_WARM_UP = 50  # steps: the same for all checkpoints of one run
MOST_VALIDATED = 500  # windows looked at between steps, and of the training windows at the end: they cost time too


@dataclass(frozen=True)
class LanguageTrainer:
    """How to train: AdamW on the next token's cross-entropy over a budget of `tokens`; the best weights are kept.

    The learning rate rises over the first twentieth of the budget and falls to zero along half a cosine. The validation
    loss is looked at `evaluations` times, and training stops early when it has not improved for `patience` of them.
    `l1` weighs the summed outputs of the rectifiers, averaged over tokens, which makes hidden units sparse. Of the
    weights of each linear map the share `kept_weights` stays, the largest; the others are 0 after each step.
    """

    tokens: int = 1_000_000
    learning_rate: float = 5e-3
    batch_size: int = 8  # windows: small batches gain the most from a budget of tokens
    l1: float = 0.0
    kept_weights: float = 1.0
    evaluations: int = 10
    patience: int = 3

    def __call__(self, model: nn.Module, splits: Splits, seed: int) -> dict[str, float | int | str]:
        """Train the model in place and say how it ended.

        Raises:
            ThalwegError: the loss became NaN or infinite, or the stimuli are no windows of text.
        """
        run = _Training(model, splits, self, seed)
        steps = math.ceil(self.tokens / run.tokens_a_step)
        looks = sorted({math.ceil(steps * look / self.evaluations) for look in range(1, self.evaluations + 1)})
        best, since, loss = math.inf, 0, math.inf
        kept: dict[str, Tensor] = {}
        for before, after in zip([0, *looks], looks, strict=False):
            for step in range(before, after):
                run.step(self.learning_rate * rise_and_fall((step + 1) / steps))
            loss = run.validation_loss()
            note(model, run.steps * run.tokens_a_step, validation_loss=loss)
            improved = loss < best - IMPROVEMENT
            since = 0 if improved else since + 1
            if improved:
                best, kept = loss, {name: value.clone() for name, value in model.state_dict().items()}
            if since >= self.patience:
                break
        model.load_state_dict(kept)
        stopped = "validation loss stopped improving" if since >= self.patience else "token budget spent"
        return {**run.summary(), "stopped": stopped, "validation_loss": best, "last_validation_loss": loss}


def train_checkpoints(
    model: nn.Module,
    splits: Splits,
    seed: int,
    checkpoints: Sequence[int],
    *,
    trainer: LanguageTrainer,
) -> Iterator[dict[str, float | int | str]]:
    """Train one run and pause at each checkpoint, given in tokens and increasing, to say how far it is.

    The learning rate rises over the first steps and then stays, so that no checkpoint depends on how long the run goes
    on: of the trainer only its learning rate, batch size, `l1` and `kept_weights` count.

    Raises:
        ThalwegError: the loss became NaN or infinite, or the stimuli are no windows of text.
    """
    run = _Training(model, splits, trainer, seed)
    for tokens in checkpoints:
        while run.steps * run.tokens_a_step < tokens:
            run.step(trainer.learning_rate * min(1.0, (run.steps + 1) / COURSE_WARM_UP))
        loss = run.validation_loss()
        note(model, run.steps * run.tokens_a_step, validation_loss=loss)
        yield {**run.summary(), "stopped": "checkpoint", "validation_loss": loss, "last_validation_loss": loss}


def rise_and_fall(done: float) -> float:
    """The share of the learning rate when this share of training is done: a twentieth up, then half a cosine down."""
    if done < WARM_UP:
        return done / WARM_UP
    return 0.5 + 0.5 * math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP))


class _Training:
    """A model under training: its optimiser, its stream of batches, and how many steps were taken."""

    def __init__(self, model: nn.Module, splits: Splits, trainer: LanguageTrainer, seed: int) -> None:
        self.train, self.validation = windows(splits.train), windows(splits.validation)
        self.model, self.trainer, self.steps = model, trainer, 0
        self.device = next(model.parameters()).device
        self.batch_size = min(trainer.batch_size, len(self.train))
        self.tokens_a_step = self.batch_size * self.train.length
        self.optimiser = Adam(model.parameters(), trainer.learning_rate, weight_decay=WEIGHT_DECAY)
        self.batches = self._shuffled(torch.Generator().manual_seed(seed))

    def _shuffled(self, generator: torch.Generator) -> Iterator[Tensor]:
        """Batches of the same size, in a new order in each epoch."""
        while True:
            order = torch.randperm(len(self.train), generator=generator)
            yield from order[: len(order) // self.batch_size * self.batch_size].split(self.batch_size)

    def step(self, learning_rate: float) -> None:
        """One step of the optimiser."""
        which = next(self.batches)
        self.optimiser.learning_rate = learning_rate
        self.optimiser.zero_grad()
        with penalised(self.model.train(), self.trainer.l1) as outputs:
            logits = self.model(self.train.batch(which).to(self.device))
        loss = cross_entropy(logits, self.train.targets(which).to(self.device)).mean()
        if not loss.isfinite():
            raise ThalwegError("the training loss became NaN or infinite; train with a smaller learning rate")
        for output in outputs:
            loss = loss + self.trainer.l1 * output.sum(2).mean()
        loss.backward()
        self.optimiser.step()
        if self.trainer.kept_weights < 1:
            keep_largest(self.model, self.trainer.kept_weights)
        self.steps += 1

    def validation_loss(self) -> float:
        """Nats per token on some of the validation windows, the same each time."""
        return mean_loss(self.model, spread(self.validation, MOST_VALIDATED), device=str(self.device))

    def summary(self) -> dict[str, float | int]:
        """The progress of the training."""
        seen = self.steps * self.batch_size
        return {
            "train_examples": seen,
            "train_tokens": seen * self.train.length,
            "epochs": seen / len(self.train),
            "train_loss": mean_loss(self.model, spread(self.train, MOST_VALIDATED), device=str(self.device)),
        }
