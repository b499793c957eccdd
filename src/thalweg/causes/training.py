"""Training one network on the task, and what its losses say of overfitting.

All networks are trained for the same number of steps, by Adam with a learning rate that falls linearly to 0. A step
takes so many stimuli that it asks each circuit `QUESTIONS` questions on average, whatever the density: sparse and dense
networks get the same number of answers. The size of a training set counts questions too.

With label noise, a share of the answers is flipped: in a training set once and for all, online anew each time. The gap
is taken between stimuli with noise of the same rate, so that noise as such is no gap.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from thalweg.causes.networks import Perceptron, build
from thalweg.causes.plan import NetworkPlan
from thalweg.causes.rendering import Renderer
from thalweg.causes.task import Draw, Task
from thalweg.compute.adam import Adam
from thalweg.errors import ThalwegError
from thalweg.factors.memorised_fraction import learnt_by_heart
from thalweg.training.sparsity import keep_largest

LEARNING_RATE = 3e-3
QUESTIONS = 16  # of each circuit in a step
ANSWERS = 2  # that a question has


@dataclass(frozen=True, eq=False)
class Asked:
    """Stimuli as they are shown, with the answers that are taught.

    Attributes:
        draw: The stimuli.
        shown: (stimulus, input).
        taught: (stimulus, circuit), the answers, some flipped.
    """

    draw: Draw
    shown: Float[Tensor, "stimulus input"]
    taught: Float[Tensor, "stimulus circuit"]

    @property
    def flipped(self) -> Bool[Tensor, "stimulus circuit"]:
        """Which questions are taught the wrong answer."""
        return (self.taught != self.draw.answers) & (self.draw.active > 0)


def ask(task: Task, renderer: Renderer, count: int, density: float, noise: float, generator: torch.Generator) -> Asked:
    """So many stimuli with their answers, each flipped with the probability `noise`."""
    draw = task.draw(count, density, generator)
    flips = (torch.rand(draw.answers.shape, generator=generator) < noise).float()
    return Asked(draw, renderer(draw.latents, generator), (draw.answers - flips).abs())


def bits(logits: Float[Tensor, "stimulus circuit"], asked: Asked, answers: Float[Tensor, "stimulus circuit"]) -> Tensor:
    """The cross-entropy of the answers in bits, the mean over the questions that are asked."""
    losses = nn.functional.binary_cross_entropy_with_logits(logits, answers, reduction="none")
    return (losses * asked.draw.active).sum() / asked.draw.active.sum().clamp_min(1) / math.log(2)


def right(logits: Float[Tensor, "stimulus circuit"], answers: Tensor, where: Tensor) -> float:
    """The share of questions with these answers, among those that are meant; NaN where there are none."""
    agree = ((logits > 0).float() == answers) & where.bool()
    return float(agree.sum() / where.sum()) if where.any() else math.nan


def stimuli_for(questions: int, density: float) -> int:
    """How many stimuli ask each circuit so many questions, on average."""
    return max(1, round(questions / density))


@dataclass(frozen=True, eq=False)
class Trained:
    """A network and its training set, which an online one has not."""

    network: Perceptron
    training_set: Asked | None


def train(plan: NetworkPlan, task: Task, renderer: Renderer) -> Trained:
    """Train the network of a plan; a student's teacher first.

    Raises:
        ThalwegError: the loss is not finite.
    """
    teacher = None
    if plan.teacher_width:
        wide = replace(plan, width=plan.teacher_width, teacher_width=0, seed=plan.seed + 1000)
        teacher = train(wide, task, renderer).network
    network = build(
        renderer.n_inputs,
        plan.width,
        plan.depth,
        len(task.circuits),
        seed=plan.seed,
        nonlinearity=plan.nonlinearity,
        dropout=plan.dropout,
    )
    generator = torch.Generator().manual_seed(plan.seed)
    training_set = None
    if not plan.online:
        count = stimuli_for(plan.examples, plan.density)
        training_set = ask(task, renderer, count, plan.density, plan.label_noise, generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)  # dropout
        _steps(network, plan, _batches(plan, task, renderer, training_set, generator), teacher)
    return Trained(network.eval(), training_set)


def _batches(
    plan: NetworkPlan, task: Task, renderer: Renderer, training_set: Asked | None, generator: torch.Generator
) -> Iterator[Asked]:
    """Batches without end: new stimuli online, else the training set in a new order each time."""
    size = stimuli_for(QUESTIONS, plan.density)
    while training_set is None:
        yield ask(task, renderer, size, plan.density, plan.label_noise, generator)
    while True:
        for ids in torch.randperm(len(training_set.draw), generator=generator).split(size):
            draw = training_set.draw
            part = Draw(draw.latents[ids], draw.active[ids], draw.answers[ids])
            yield Asked(part, training_set.shown[ids], training_set.taught[ids])


def _steps(network: Perceptron, plan: NetworkPlan, batches: Iterator[Asked], teacher: Perceptron | None) -> None:
    """All steps of training.

    Raises:
        ThalwegError: the loss is not finite.
    """
    network.train()
    optimiser = Adam(network.parameters(), LEARNING_RATE)
    loss = torch.zeros(())
    for step in range(plan.steps):
        optimiser.learning_rate = LEARNING_RATE * (1 - step / plan.steps)
        batch = next(batches)
        hidden, logits = network.with_hidden(batch.shown)
        taught = batch.taught
        if teacher is not None:
            with torch.no_grad():
                taught = teacher(batch.shown).sigmoid()
        loss = bits(logits, batch, taught)
        if plan.l1:
            loss = loss + plan.l1 * torch.stack([values.abs().mean() for values in hidden]).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if plan.kept_weights < 1:
            keep_largest(network, plan.kept_weights)
    if not loss.isfinite():
        raise ThalwegError(f"network {plan.name!r}: its loss became NaN or infinite")


@torch.no_grad()
def overfitting(trained: Trained, plan: NetworkPlan, test: Asked, clean: Asked) -> dict[str, float]:
    """What the losses say: strength, accuracy, the gap, and how much of the noise was memorised.

    `strength_bits` is one bit, the entropy of a question, less the loss on new stimuli without noise. `gap_bits` is the
    loss on new stimuli with noise of the training set's rate, less that on the training set; 0 online. `memorised` is
    the share of flipped training answers that the network gives, less that of guessing (`memorised_fraction`, of two
    answers); 0 where none is flipped, or online.
    """
    network, asked = trained.network, trained.training_set
    logits = network(clean.shown)
    numbers = {
        "strength_bits": 1 - float(bits(logits, clean, clean.draw.answers)),
        "accuracy": right(logits, clean.draw.answers, clean.draw.active),
        "gap_bits": 0.0,
        "memorised": 0.0,
    }
    if asked is not None:
        answered = network(asked.shown)
        numbers["train_bits"] = float(bits(answered, asked, asked.taught))
        numbers["gap_bits"] = float(bits(network(test.shown), test, test.taught)) - numbers["train_bits"]
        if asked.flipped.any():
            says = (answered > 0).float()
            numbers["memorised"] = learnt_by_heart(says, asked.taught, asked.flipped, ANSWERS)
    return {"train_bits": math.nan} | numbers
