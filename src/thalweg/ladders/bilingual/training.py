"""Training on the lines of a world, and the two-worlds twin.

Only the last word of a line is learnt: it is the value of a fact or a translation, and the other words are drawn at
random. AdamW with strong weight decay (1, on matrices alone): without it a network learns each language's facts by
heart, one beside the other, and carries little across.

The *two-worlds* twin is trained on the same lines, in which the sentences with the order of language B tell of another
world: each entity has the values of another entity there. Dictionary lines stay, so the words are linked as closely as
before, but what is known of a concept in one language says nothing of it in the other. What is as high in this twin as
in the trained network does not show that knowledge is shared.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from thalweg.compute.adam import Adam
from thalweg.ladders.bilingual.strength import value_index
from thalweg.ladders.bilingual.world import Settings
from thalweg.networks.language import Block, Transformer
from thalweg.stimuli.base import Splits
from thalweg.stimuli.windows import Windows
from thalweg.strength.language import windows
from thalweg.training.classifier import check_loss
from thalweg.training.next_token import rise_and_fall

BETAS = (0.9, 0.98)  # as for the networks that add
MOST_LEARNING_RATE, RATE_BY_WIDTH = 0.005, 0.32  # of 0.005 to 0.02, tried at widths 32 and 64


@dataclass(frozen=True)
class ValueTrainer:
    """How to train a transformer on the last word of lines: AdamW, with a warm-up and half a cosine.

    Attributes:
        settings: The world's.
        steps: Of the optimiser.
        batch_size: Lines in a step.
        weight_decay: Of matrices; biases and layer norms have none.
        two_worlds: Whether sentences with the order of language B tell of another world.
    """

    settings: Settings
    steps: int = 2000
    batch_size: int = 128
    weight_decay: float = 1.0
    two_worlds: bool = False

    def __call__(self, model: nn.Module, splits: Splits, seed: int) -> dict[str, float | int | str]:
        """Train the model in place and say how it ended.

        Raises:
            ThalwegError: The loss became NaN or infinite, or the stimuli are no lines.
        """
        assert isinstance(model, Transformer)
        train, validation = windows(splits.train), windows(splits.validation)
        if self.two_worlds:
            train, validation = (in_two_worlds(each, self.settings, seed) for each in (train, validation))
        device = next(model.parameters()).device
        tokens, last = train.batch(slice(None)).to(device), train.following.to(device)
        generator = torch.Generator().manual_seed(seed)
        width = model.tokens.weight.shape[1]
        rate = min(MOST_LEARNING_RATE, RATE_BY_WIDTH / width)
        optimisers = _optimisers(model, rate, self.weight_decay)
        model.train()
        for step in range(self.steps):
            which = torch.randint(len(train), (self.batch_size,), generator=generator).to(device)
            loss = functional.cross_entropy(last_logits(model, tokens[which]), last[which])
            for optimiser in optimisers:
                optimiser.zero_grad()
            loss.backward()
            for optimiser in optimisers:
                optimiser.learning_rate = rate * rise_and_fall((step + 1) / self.steps)
                optimiser.step()
        return self._summary(model, train, validation)

    def _summary(self, model: Transformer, train: Windows, validation: Windows) -> dict[str, float | int | str]:
        seen = self.steps * self.batch_size
        losses = {"train_loss": _loss(model, train), "validation_loss": _loss(model, validation)}
        check_loss(torch.tensor(losses["train_loss"]))
        return {
            "train_examples": seen,
            "train_tokens": seen * (train.length + 1),
            "epochs": seen / len(train),
            "stopped": "all steps done",
            **losses,
        }


def last_logits(model: Transformer, tokens: Int[Tensor, "line token"]) -> Float[Tensor, "line vocabulary"]:
    """The logits of a transformer at the last place alone, which is all that is learnt: the last block computes no
    other.
    """
    stream = model.tokens(tokens) + model.positions.weight[: tokens.shape[1]]
    *blocks, last = model.blocks
    for block in blocks:
        stream = block(stream)
    assert isinstance(last, Block)
    stream = last.last(stream)
    return functional.linear(model.before_logits(stream[:, -1]), model.tokens.weight)


def in_two_worlds(lines: Windows, settings: Settings, seed: int) -> Windows:
    """The same lines, but sentences with the order of language B state the values of another entity.

    Which entity stands for which is a random cycle through all. A fact that no line states keeps its value.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(settings.entities, generator=generator)
    other = torch.empty_like(order)
    other[order] = order.roll(1)
    sentence = lines.labels < 6
    fact = lines.documents.clamp_max(settings.facts - 1)
    index = value_index(lines.following, settings)
    stated = torch.full((settings.facts,), -1)
    stated[fact[sentence]] = index[sentence]
    value = stated[other[fact // settings.relations] * settings.relations + fact % settings.relations]
    changed = sentence & (lines.labels % 2 == 1) & (value >= 0)
    return replace(lines, following=torch.where(changed, lines.following - index + value, lines.following))


def _optimisers(model: nn.Module, rate: float, weight_decay: float) -> tuple[Adam, Adam]:
    """Of matrices, which decay, and of vectors, which do not."""
    matrices = [weight for weight in model.parameters() if weight.ndim > 1]
    vectors = [weight for weight in model.parameters() if weight.ndim == 1]
    return Adam(matrices, rate, betas=BETAS, weight_decay=weight_decay), Adam(vectors, rate, betas=BETAS)


def _loss(model: Transformer, lines: Windows) -> float:
    """Nats of the last word, on at most 2,000 lines."""
    device = next(model.parameters()).device
    with torch.inference_mode():
        logits = last_logits(model.eval(), lines.batch(slice(0, 2000)).to(device))
        return float(functional.cross_entropy(logits, lines.following[:2000].to(device)))
