"""Training a convnet on augmented images for a number of epochs that is fixed beforehand, as fast recipes do it.

Stopping by the validation loss and Adam (`classifier`) leave a residual network some points below what it can reach.
What takes it further is known: random crops and mirror images, a learning rate that rises and then falls to zero,
momentum, labels that are not quite certain. The weights at the end are kept: the rate has fallen to zero by then, and
the schedule has no better place to stop.

It can take hours. In a survey it goes on after the last epoch that was finished, and ends with the same weights.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from thalweg.errors import ThalwegError
from thalweg.stimuli.base import Splits
from thalweg.strength.axes import evaluate
from thalweg.training.classifier import Summary, check_loss
from thalweg.training.course import note
from thalweg.training.interrupted import go_on, keep

RISING = 0.25  # of the steps, in which the learning rate rises


@dataclass(frozen=True)
class OneCycle:
    """Training on augmented images: SGD with Nesterov's momentum, a learning rate that rises and falls once.

    Attributes:
        epochs: Passes over the training images.
        learning_rate: The highest, reached after a quarter of the steps.
        batch_size: Images in a training step.
        weight_decay: Of all weights.
        label_smoothing: The share of each label that is spread over all classes.
        crop: Zeros that are put around each image, of which a window of the image's size is cut at random.
        cutout: The side of a square of each image that is blanked, at a random place; 0 for none.

    Example:
        >>> import torch, thalweg
        >>> from ladder import ladder, splits
        >>> from thalweg.training.one_cycle import OneCycle
        >>> model = ladder.rungs[0].build()
        >>> summary = OneCycle(epochs=1, crop=1)(model, splits(None, 0), seed=0)
        >>> summary["epochs"], summary["stopped"]
        (1, 'planned epochs done')
    """

    epochs: int = 16
    learning_rate: float = 0.25
    batch_size: int = 256
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    crop: int = 4
    cutout: int = 0

    def __call__(self, model: nn.Module, splits: Splits, seed: int) -> Summary:
        """Train the model in place.

        Args:
            model: Returns logits (batch, class).
            splits: Trains on `splits.train`; `splits.validation` is only looked at in the end.
            seed: Of the order of the images and of how they are augmented.

        Returns:
            How training ended, for the table of models, as `Classifier` says it.

        Raises:
            ThalwegError: There are fewer than two images to train on, or the loss became NaN or infinite.
        """
        if len(splits.train) < 2:
            raise ThalwegError("there are fewer than two images to train on")
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)  # dropout
        size = min(self.batch_size, len(splits.train))
        optimiser, rate = self._schedule(model, steps=self.epochs * (len(splits.train) // size))
        done = go_on(model, (optimiser, rate), generator)
        for epoch in range(done + 1, self.epochs + 1):
            losses = []
            order = torch.randperm(len(splits.train), generator=generator)
            for which in order[: len(order) // size * size].split(size):  # a small last batch would have noisy means
                losses.append(self._step(model, splits, which, optimiser, generator))
                rate.step()
            note(model, epoch, train_loss=float(torch.stack(losses).mean()))
            keep(model, epoch, (optimiser, rate), generator)
        return self._end(model, splits)

    def _schedule(
        self, model: nn.Module, steps: int
    ) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        """What takes the steps, and what sets their rates."""
        optimiser = torch.optim.SGD(
            model.parameters(), self.learning_rate, momentum=0.9, weight_decay=self.weight_decay, nesterov=True
        )
        return optimiser, torch.optim.lr_scheduler.OneCycleLR(
            optimiser,
            self.learning_rate,
            total_steps=steps + 1,
            pct_start=RISING,
            anneal_strategy="linear",
            cycle_momentum=False,
        )

    def _step(
        self,
        model: nn.Module,
        splits: Splits,
        which: Tensor,
        optimiser: torch.optim.Optimizer,
        generator: torch.Generator,
    ) -> Tensor:
        model.train()
        device = next(model.parameters()).device
        images = augmented(splits.train.batch(which), generator, crop=self.crop, cutout=self.cutout).to(device)
        labels = splits.train.labels[which].long().to(device)
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels, label_smoothing=self.label_smoothing)
        check_loss(loss)
        loss.backward()
        optimiser.step()
        return loss.detach()

    def _end(self, model: nn.Module, splits: Splits) -> Summary:
        device = str(next(model.parameters()).device)
        train, validation = (evaluate(model, part, device=device)["loss"] for part in (splits.train, splits.validation))
        size = min(self.batch_size, len(splits.train))
        return {
            "epochs": self.epochs,
            "stopped": "planned epochs done",
            "train_examples": self.epochs * (len(splits.train) // size * size),
            "train_loss": train,
            "validation_loss": validation,
            "last_validation_loss": validation,
        }


def augmented(
    images: Float[Tensor, "batch channel height width"], generator: torch.Generator, *, crop: int, cutout: int = 0
) -> Float[Tensor, "batch channel height width"]:
    """Each image mirrored or not, cut at random from itself with `crop` zeros around it, and with a square of side
    `cutout` blanked; by chance, and each image by its own.
    """
    count, _, height, width = images.shape
    mirrored = torch.rand(count, generator=generator) < 0.5
    down, across = torch.randint(0, 2 * crop + 1, (2, count), generator=generator)
    rows = down[:, None] + torch.arange(height)
    columns = across[:, None] + torch.where(mirrored[:, None], torch.arange(width).flip(0), torch.arange(width))
    padded = nn.functional.pad(images, (crop,) * 4)
    number = torch.arange(count)[:, None, None]
    cut = padded.movedim(1, -1)[number, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)
    if not cutout:
        return cut
    top = torch.randint(0, height - cutout + 1, (count, 1), generator=generator)
    left = torch.randint(0, width - cutout + 1, (count, 1), generator=generator)
    blank_rows = (torch.arange(height) >= top) & (torch.arange(height) < top + cutout)
    blank_columns = (torch.arange(width) >= left) & (torch.arange(width) < left + cutout)
    return cut.masked_fill((blank_rows[:, :, None] & blank_columns[:, None, :])[:, None], 0)
