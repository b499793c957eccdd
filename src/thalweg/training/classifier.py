"""Training a classifier until its validation loss has stopped improving: the one stopping rule of the ladders trained
here.

A fixed number of epochs would leave strong models unfinished and let weak ones overfit, and the ladder would measure
that.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from thalweg.compute.adam import Adam
from thalweg.errors import ThalwegError
from thalweg.stimuli.base import Splits, Stimuli
from thalweg.strength.axes import evaluate
from thalweg.training.course import note
from thalweg.training.sparsity import keep_largest, penalised
from thalweg.training.stacked import Stack, stackable

IMPROVEMENT = 1e-4  # nats: less than this is no improvement
Summary = dict[str, float | int | str]


@dataclass(frozen=True)
class Classifier:
    """Training of a classifier: Adam on cross-entropy, until the validation loss stops improving.

    The weights of the epoch with the lowest validation loss are kept.

    Attributes:
        learning_rate: Of Adam.
        batch_size: Stimuli in a training step.
        patience: Training stops after so many epochs without a validation loss that is lower by 0.0001 nats.
        most_epochs: Training stops after so many epochs in any case.
        shift: Every training batch is moved by up to so many pixels along each axis; zeros come in.
        l1: Weighs the summed outputs of the rectifiers, the mean over stimuli, which makes hidden units sparse.
        kept_weights: The share of the weights of each linear map or convolution that stay, the largest; the others are
            0 after each step.

    Example:
        >>> import torch, thalweg
        >>> from ladder import ladder, splits
        >>> model = ladder.rungs[0].build()
        >>> summary = thalweg.Classifier(learning_rate=0.01, most_epochs=2)(model, splits(None, 0), seed=0)
        >>> summary["epochs"], summary["train_examples"]
        (2, 1200)
    """

    learning_rate: float = 1e-3
    batch_size: int = 64
    patience: int = 4
    most_epochs: int = 200
    shift: int = 0
    l1: float = 0.0
    kept_weights: float = 1.0

    def __call__(self, model: nn.Module, splits: Splits, seed: int) -> Summary:
        """Train the model in place.

        Args:
            model: Returns logits (batch, class).
            splits: Trains on `splits.train`, stops by `splits.validation`.
            seed: Of the order of the stimuli, of shifts and of dropout.

        Returns:
            How training ended, for the table of models: `epochs`, `stopped` (why), `train_examples` (stimuli seen,
                repetitions counted), and the losses in nats.

        Raises:
            ThalwegError: The loss became NaN or infinite.
        """
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)  # dropout
        optimiser = Adam(model.parameters(), self.learning_rate)
        course = _Course(model, self)
        while course.goes_on:
            self._epoch(model, splits.train, optimiser, generator)
            course.look(splits)
        return course.end(splits)

    def together(self, models: Sequence[nn.Module], splits: Splits, seeds: Sequence[int]) -> list[Summary]:
        """Train models of one build, such as the seeds of a rung, in place as one stack.

        Each goes through its own batches and stops by itself; the results are those of training one by one, but for
        rounding. Models with dropout, of different shapes, or trained to be sparse are trained one by one.

        Args:
            models: Each returns logits (batch, class); all on one device.
            splits: As for one model.
            seeds: Of each model.

        Returns:
            What training one of them returns, for each.

        Raises:
            ThalwegError: The loss of one of them became NaN or infinite.
        """
        if self.l1 or self.kept_weights < 1 or not stackable(models):
            return [self(model, splits, seed) for model, seed in zip(models, seeds, strict=True)]
        stack = Stack(models, self.learning_rate)
        courses = [_Course(model, self) for model in models]
        every = [self._batches(splits.train, torch.Generator().manual_seed(seed)) for seed in seeds]
        going = list(range(len(models)))
        steps = math.ceil(len(splits.train) / self.batch_size)
        while going:
            for _ in range(steps):
                batches, labels = zip(*(next(every[number]) for number in going), strict=True)
                device = next(models[0].parameters()).device
                check_loss(stack.step(torch.stack(batches).to(device), torch.stack(labels).to(device)))
            stack.unstack()
            for number in going:
                courses[number].look(splits)
            left = [place for place, number in enumerate(going) if courses[number].goes_on]
            if 0 < len(left) < len(going):
                stack.keep(left)
            going = [going[place] for place in left]
        return [course.end(splits) for course in courses]

    def _batches(self, stimuli: Stimuli, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches with their labels, in a new order in each epoch."""
        labels = stimuli.labels.long()
        while True:
            for which in torch.randperm(len(stimuli), generator=generator).split(self.batch_size):
                yield shifted(stimuli.batch(which), self.shift, generator), labels[which]

    def _epoch(self, model: nn.Module, stimuli: Stimuli, optimiser: Adam, generator: torch.Generator) -> None:
        model.train()
        device = next(model.parameters()).device
        batches = self._batches(stimuli, generator)
        for _ in range(math.ceil(len(stimuli) / self.batch_size)):
            optimiser.zero_grad()
            batch, labels = next(batches)
            with penalised(model, self.l1) as outputs:
                loss = nn.functional.cross_entropy(model(batch.to(device)), labels.to(device))
            check_loss(loss)
            for output in outputs:
                loss = loss + self.l1 * output.flatten(1).sum(1).mean()
            loss.backward()
            optimiser.step()
            if self.kept_weights < 1:
                keep_largest(model, self.kept_weights)


def check_loss(loss: Tensor) -> None:
    """Check that training goes on.

    Raises:
        ThalwegError: a loss is NaN or infinite.
    """
    if not loss.isfinite().all():
        raise ThalwegError("the training loss became NaN or infinite; train with a smaller learning rate")


@dataclass
class _Course:
    """How the training of one model goes, and when it ends."""

    model: nn.Module
    rule: Classifier
    best: float = math.inf
    loss: float = math.inf  # the last one
    since: int = 0  # epochs without an improvement
    epoch: int = 0
    kept: dict[str, Tensor] = field(default_factory=dict)

    @property
    def goes_on(self) -> bool:
        return self.since < self.rule.patience and self.epoch < self.rule.most_epochs

    def look(self, splits: Splits) -> None:
        """Note the validation loss after an epoch, and the weights if it is lower."""
        self.epoch += 1
        self.loss = evaluate(self.model, splits.validation, device=self._device)["loss"]
        note(self.model, self.epoch, validation_loss=self.loss)
        improved = self.loss < self.best - IMPROVEMENT
        self.since = 0 if improved else self.since + 1
        if improved:
            self.best = self.loss
            self.kept = {name: value.clone() for name, value in self.model.state_dict().items()}

    def end(self, splits: Splits) -> Summary:
        """Give the model its best weights; returns how training ended."""
        self.model.load_state_dict(self.kept)
        stopped = self.since >= self.rule.patience
        return {
            "epochs": self.epoch,
            "stopped": "validation loss stopped improving" if stopped else "most epochs reached",
            "train_examples": self.epoch * len(splits.train),
            "train_loss": evaluate(self.model, splits.train, device=self._device)["loss"],
            "validation_loss": self.best,
            "last_validation_loss": self.loss,
        }

    @property
    def _device(self) -> str:
        return str(next(self.model.parameters()).device)


def shifted(batch: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """The batch moved by the same random number of pixels, at most `most` along each axis, with zeros coming in."""
    if most == 0:
        return batch
    down, across = torch.randint(0, 2 * most + 1, (2,), generator=generator).tolist()
    height, width = batch.shape[2:]
    return nn.functional.pad(batch, (most,) * 4)[:, :, down : down + height, across : across + width]
