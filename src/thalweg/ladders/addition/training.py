"""Training on all pairs of numbers at once, with its course."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from thalweg.compute.adam import Adam
from thalweg.errors import ThalwegError
from thalweg.ladders.addition import fourier
from thalweg.ladders.addition.networks import Adder
from thalweg.ladders.addition.strength import evaluate, over_all_pairs
from thalweg.models.records import Summary
from thalweg.stimuli.base import Splits
from thalweg.stimuli.pairs import NumberPairs
from thalweg.training.course import note

GROKKED = 0.99  # accuracy on the validation pairs
MEMORISED = 1e-4  # nats on the training pairs, every one of them right: known by heart
WARM_UP = 10  # steps, as published
BETAS = (0.9, 0.98)  # as published
EVERY = 50  # epochs between two looks at the validation pairs


def progress(model: Adder, train: NumberPairs, keys: Sequence[int] | None = None) -> dict[str, float | int | str]:
    """How far a model has come, by the measures of `thalweg.ladders.addition.fourier`.

    `keys` are the key frequencies to measure at. By default these are the model's own; for the checkpoints of one run
    they ought to be those of the last. It returns the `key_frequencies`, the
    `restricted_loss` (all pairs) and `excluded_loss` (training pairs) in nats, the `logit_variance_explained` at the
    key frequencies, the share of `neurons_at_one_frequency`, the Gini coefficients of the embedding's and the
    read-out's Fourier components, and the sum of squared weights.
    """
    neurons, logits = over_all_pairs(model, train.p)
    keys = fourier.key_frequencies(neurons, logits) if keys is None else keys
    shares = fourier.logit_shares(logits)
    with torch.no_grad():
        tables = {"embedding_gini": model.embedding().cpu(), "readout_gini": model.readout().cpu()}
        return {
            "key_frequencies": " ".join(map(str, keys)),
            "restricted_loss": fourier.restricted_loss(logits, keys),
            "excluded_loss": fourier.excluded_loss(logits, keys, train.numbers),
            "logit_variance_explained": float(sum(shares[k - 1] for k in keys)),
            "neurons_at_one_frequency": fourier.neurons_at_one_frequency(neurons),
            **{name: fourier.gini(fourier.component_norms(table)) for name, table in tables.items()},
            "squared_weights": float(sum(weight.square().sum() for weight in model.parameters())),
        }


@dataclass(frozen=True)
class FullBatch:
    """How to train: AdamW on the whole batch, until the model has grokked or knows its pairs by heart.

    With `until` "grokked" it ends `clean_up` epochs after the validation accuracy first rose above .99: by then what
    was memorised is gone. With "memorised" it ends when the training loss is below 1e-4 nats, however the model does on
    other pairs. Both end at `most_epochs` at last.
    """

    learning_rate: float
    weight_decay: float
    most_epochs: int
    clean_up: int = 500
    until: Literal["grokked", "memorised"] = "grokked"

    def __call__(self, model: nn.Module, splits: Splits, seed: int) -> dict[str, float | int | str]:
        """Train the model in place and say how it ended. Nothing is drawn, so the seed changes nothing.

        Raises:
            ThalwegError: the loss became NaN or infinite.
        """
        assert isinstance(model, Adder)
        train, validation = _pairs(splits)
        grokked_at, stopped = None, "most epochs reached"
        for epoch, loss in self.epochs(model, train):
            if epoch % EVERY:
                continue
            if grokked_at is None:
                note(model, epoch, validation_accuracy=(accuracy := _accuracy(model, validation)))
                grokked_at = epoch if accuracy > GROKKED else None
            if self.until == "memorised" and float(loss) < MEMORISED:
                stopped = "every training pair is known by heart"
                break
            if self.until == "grokked" and grokked_at is not None and epoch >= grokked_at + self.clean_up:
                stopped = f"{self.clean_up} epochs after it grokked"
                break
        return _summary(model, splits, epoch, stopped, grokked_at)

    def epochs(self, model: Adder, train: NumberPairs) -> Iterator[tuple[int, Tensor]]:
        """The number of epochs done and the training loss after them, from 0 to `most_epochs`, training in between."""
        device = next(model.parameters()).device
        pairs, sums = train.numbers.to(device), train.labels.to(device)
        optimiser = Adam(model.parameters(), self.learning_rate, betas=BETAS, weight_decay=self.weight_decay)
        for epoch in range(self.most_epochs + 1):
            loss = nn.functional.cross_entropy(model(pairs), sums)
            if epoch % EVERY == 0:
                if not loss.isfinite():
                    raise ThalwegError("the training loss became NaN or infinite; train with a smaller learning rate")
                note(model, epoch, train_loss=loss.item())
            yield epoch, loss.detach()
            if epoch == self.most_epochs:
                return
            optimiser.learning_rate = self.learning_rate * min(1.0, (epoch + 1) / WARM_UP)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()


def _pairs(splits: Splits) -> tuple[NumberPairs, NumberPairs]:
    """The pairs for training and for validation."""
    assert isinstance(splits.train, NumberPairs)
    assert isinstance(splits.validation, NumberPairs)
    return splits.train, splits.validation


def _accuracy(model: nn.Module, pairs: NumberPairs) -> float:
    device = next(model.parameters()).device
    with torch.inference_mode():
        return float((model(pairs.numbers.to(device)).argmax(1).cpu() == pairs.labels).float().mean())


def _summary(
    model: Adder, splits: Splits, epochs: int, stopped: str, grokked_at: int | None, keys: Sequence[int] | None = None
) -> dict[str, float | int | str]:
    """The training columns of the tables for a model after so many epochs."""
    device = str(next(model.parameters()).device)
    train, validation = (evaluate(model, part, device=device) for part in _pairs(splits))
    return {
        "epochs": epochs,
        "stopped": stopped,
        "train_examples": epochs * len(splits.train),
        "train_loss": train["loss"],
        "train_accuracy": train["accuracy"],
        "validation_loss": validation["loss"],
        "validation_accuracy": validation["accuracy"],
        "grokked": "no" if grokked_at is None else "yes",
        **({} if grokked_at is None else {"grokked_at": grokked_at}),
        **progress(model, _pairs(splits)[0], keys),
    }


def train_checkpoints(
    model: nn.Module, splits: Splits, seed: int, checkpoints: Sequence[int], *, trainer: FullBatch
) -> Iterator[Summary]:
    """Train a model to the last of some epochs, then go through its weights at each of them and say how far it had
    come.

    The training comes first because the key frequencies are those of the last weights.
    """
    assert isinstance(model, Adder)
    train, validation = _pairs(splits)
    grokked_at = None
    kept: dict[int, dict[str, Tensor]] = {}
    for epoch, _ in trainer.epochs(model, train):
        if epoch % EVERY == 0 and grokked_at is None and _accuracy(model, validation) > GROKKED:
            grokked_at = epoch
        if epoch in checkpoints:
            kept[epoch] = {name: weight.detach().clone() for name, weight in model.state_dict().items()}
        if epoch == max(checkpoints):
            break
    keys = fourier.key_frequencies(*over_all_pairs(model, train.p))
    for epoch in checkpoints:
        model.load_state_dict(kept[epoch])
        reached = grokked_at if grokked_at is not None and epoch >= grokked_at else None
        yield _summary(model, splits, epoch, "checkpoint", reached, keys)
