"""Training a classifier until its validation loss has stopped improving: the one stopping rule of the ladders trained
here.

A fixed number of epochs would leave strong models unfinished and let weak ones overfit, and the ladder would measure
that.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from thalweg.errors import ThalwegError
from thalweg.stimuli.base import Splits, Stimuli
from thalweg.strength.axes import evaluate

IMPROVEMENT = 1e-4  # nats: less than this is no improvement


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

    def __call__(self, model: nn.Module, splits: Splits, seed: int) -> dict[str, float | int | str]:
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
        optimiser = torch.optim.Adam(model.parameters(), lr=self.learning_rate, fused=True)
        device = str(next(model.parameters()).device)
        best, kept, since, epoch = math.inf, {}, 0, 0
        while since < self.patience and epoch < self.most_epochs:
            epoch += 1
            self._epoch(model, splits.train, optimiser, generator)
            loss = evaluate(model, splits.validation, device=device)["loss"]
            improved = loss < best - IMPROVEMENT
            since = 0 if improved else since + 1
            if improved:
                best, kept = loss, {name: value.clone() for name, value in model.state_dict().items()}
        model.load_state_dict(kept)
        return {
            "epochs": epoch,
            "stopped": "validation loss stopped improving" if since >= self.patience else "most epochs reached",
            "train_examples": epoch * len(splits.train),
            "train_loss": evaluate(model, splits.train, device=device)["loss"],
            "validation_loss": best,
            "last_validation_loss": loss,
        }

    def _epoch(
        self, model: nn.Module, stimuli: Stimuli, optimiser: torch.optim.Optimizer, generator: torch.Generator
    ) -> None:
        model.train()
        device = next(model.parameters()).device
        labels = stimuli.labels.long()
        for which in torch.randperm(len(stimuli), generator=generator).split(self.batch_size):
            optimiser.zero_grad()
            batch = shifted(stimuli.batch(which), self.shift, generator)
            loss = nn.functional.cross_entropy(model(batch.to(device)), labels[which].to(device))
            if not loss.isfinite():
                raise ThalwegError("the training loss became NaN or infinite; train with a smaller learning rate")
            loss.backward()
            optimiser.step()


def shifted(batch: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """The batch moved by the same random number of pixels, at most `most` along each axis, with zeros coming in."""
    if most == 0:
        return batch
    down, across = torch.randint(0, 2 * most + 1, (2,), generator=generator).tolist()
    height, width = batch.shape[2:]
    return nn.functional.pad(batch, (most,) * 4)[:, :, down : down + height, across : across + width]
