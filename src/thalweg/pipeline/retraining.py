"""The networks of a rung that are trained anew on halves of the training stimuli, and what they answer to all of these.

They are weighed and forgotten: no weights are kept.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from thalweg.compute.devices import placed
from thalweg.factors.base import Retrained
from thalweg.factors.memorisation import ASKED, PAIRS
from thalweg.models.hooks import answer_in
from thalweg.models.records import Trainer
from thalweg.pipeline.job import Model
from thalweg.pipeline.user_results import code_of_user
from thalweg.progress import Progress
from thalweg.stimuli.base import Splits, Stimuli

AT_ONCE = 250  # stimuli
NOT_ITSELF = "only a model that is trained by its rung's own trainer is trained again, and no twin"
A_COURSE = "the models are checkpoints of one training run, which is not done again"
NO_ANSWERS = "the model tells no labels of its stimuli apart"
TOO_FEW = "there are fewer than two training stimuli"


def say_cost(models: Sequence[Model], progress: Progress) -> None:
    """Say what training anew will cost, of the models of which it is still to be done."""
    wanted = [
        model
        for model in models
        if any(factor.on_request == ASKED for factor in model.factors)
        and not why_not(model, "trained")
        and model.run.stale_reason(f"factors-{model.task}", model.factor_inputs())
    ]
    if wanted:
        count = f"each of {len(wanted)} models" if len(wanted) > 1 else "the model"
        progress.say(
            f"{ASKED}: {count} is trained {2 * PAIRS} times more, on halves of its training stimuli; expect about "
            f"{PAIRS} times what training takes"
        )


def why_not(model: Model, control: str) -> str:
    """Why a network is not trained anew; empty where it is."""
    if model.ladder.checkpoint_trainer is not None:
        return A_COURSE
    if control != "trained" or "trained" not in model.trainers:
        return NOT_ITSELF
    if no_classes(model.splits.train):
        return NO_ANSWERS
    return TOO_FEW if len(model.splits.train) < 2 else ""


def no_classes(stimuli: Stimuli) -> bool:
    """Whether a model is to tell no classes of these apart: it says the next token, or there is one class at most."""
    return hasattr(stimuli, "following") or len(stimuli.label_names) < 2


def retrained(model: Model, control: str) -> Retrained:
    """Pairs of networks of a model's rung, trained anew on halves that exclude each other."""
    nothing = torch.zeros(0, 2, 0, dtype=torch.bool)
    if note := why_not(model, control):
        return Retrained(nothing, nothing, note)
    taught = model.taught
    count = len(taught.train)
    trained_on = _halves(count, model.own_seed)
    right = torch.zeros_like(trained_on)
    for pair, which in enumerate(trained_on):
        for side, members in enumerate(which):
            splits = replace(taught, train=taught.train.take(members.nonzero().flatten()))
            network = _trained(model, model.trainers["trained"], splits, seed=2 * pair + side)
            answers = answered(network, taught.train, model.settings.resolved_device)
            if answers is None:
                return Retrained(nothing, nothing, NO_ANSWERS)
            right[pair, side] = answers == taught.train.labels.long()
    return Retrained(trained_on, right)


def _halves(count: int, seed: int) -> Bool[Tensor, "pair 2 stimulus"]:
    """For each pair a random half of so many stimuli, and the other half."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.stack([torch.randperm(count, generator=generator) < count // 2 for _ in range(PAIRS)])
    return torch.stack([first, ~first], 1)


def _trained(model: Model, trainer: Trainer, splits: Splits, *, seed: int) -> nn.Module:
    """A new network of the rung, trained on these."""
    seed += 1 + model.own_seed * 2 * PAIRS  # other first weights and another order than those of any model
    torch.manual_seed(seed % (1 << 63))
    network = model.rung.build().to(model.settings.resolved_device)
    with code_of_user("train", model, trainer):
        trainer(network, splits, seed % (1 << 63))
    return network


def answered(network: nn.Module, stimuli: Stimuli, device: str) -> Int[Tensor, " stimulus"] | None:
    """The class with the highest logit of each stimulus; None where a network gives no logits for the classes."""
    if no_classes(stimuli):
        return None
    network = placed(network.eval(), device)
    parts = []
    with torch.inference_mode():
        for which in torch.arange(len(stimuli)).split(AT_ONCE):
            logits = answer_in(network(stimuli.batch(which).to(device)))
            if logits is None or logits.shape != (len(which), len(stimuli.label_names)):
                return None
            parts.append(logits.argmax(1).cpu())
    return torch.cat(parts)
