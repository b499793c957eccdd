"""What is changed for a fact: its key, and the delta that is added to the key's value.

The key is what the projection is given at the edited token, the mean over the prompt alone and the prompt behind some
prefixes, so that it does not hang on one context. The delta is found by gradient descent: with it added to the
projection's output at that token, the new answer should be likely. Its loss for one fact is

    mean over prefixes of -log p(new | prefix, prompt)
        + kl KL(p(. | essence) || p_delta(. | essence)) + decay |delta|^2 / |v|^2

(Meng et al. 2022, equation 4; the essence is "SUBJECT is a", which keeps what the subject is). Adam makes the steps;
the delta's length is held below `largest` times that of the value v. It ends early where the first term is below
`enough`. All facts are descended together, each with steps of its own: Adam works number by number.

Unlike the published code, rates and decay are relative to the size of v, so that one setting fits models of all sizes,
and the mean key over prefixes is also the one whose value changes (Gupta, Baskaran and Anumanchipalli 2024: with the
bare prompt's key in one place and the mean in another, some edits break the model).
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from thalweg.compute.adam import Adam
from thalweg.edits.projections import Projection
from thalweg.edits.requests import Padded, Request, Tokens, batches, logits_of, nats_of, padded
from thalweg.models import interventions
from thalweg.models.hooks import INPUT, capture_activations
from thalweg.models.records import Layer

Site = Literal["subject", "last"]


@dataclass(frozen=True)
class ValueSettings:
    """How deltas are found.

    Attributes:
        steps: Steps of Adam at most.
        rate: Their length, in root mean squares of the value's numbers.
        decay: The weight of |delta|^2 / |value|^2.
        kl: The weight of the divergence at the essence.
        largest: The delta's length at most, in lengths of the value.
        enough: Nats per token of the new answer that end the descent.
    """

    steps: int = 20
    rate: float = 0.5
    decay: float = 0.01
    kl: float = 0.0625
    largest: float = 4.0
    enough: float = 0.05


def place(request: Request, site: Site) -> int:
    """The place of the edited token in a request's prompt."""
    return request.subject_end if site == "subject" else len(request.prompt) - 1


@dataclass(frozen=True, eq=False)
class _Rows:
    """The prompts of some facts behind each prefix: which fact a row is of, and where its edited token is."""

    batch: Padded
    facts: Int[Tensor, " row"]
    places: Int[Tensor, " row"]


def _rows(requests: Sequence[Request], prefixes: Sequence[Tokens], site: Site, *, answers: bool) -> _Rows:
    prompts: list[tuple[int, ...]] = []
    given: list[tuple[int, ...]] = []
    facts: list[int] = []
    places: list[int] = []
    for fact, request in enumerate(requests):
        for prefix in ((), *prefixes):
            prompts.append((*prefix, *request.prompt))
            given.append(request.new if answers else ())
            facts.append(fact)
            places.append(len(prefix) + place(request, site))
    return _Rows(padded(prompts, given), torch.tensor(facts), torch.tensor(places))


@torch.inference_mode()
def keys_and_values(
    model: nn.Module,
    projection: Projection,
    requests: Sequence[Request],
    *,
    site: Site,
    prefixes: Sequence[Tokens] = (),
) -> tuple[Float[Tensor, "fact key"], Float[Tensor, "fact value"]]:
    """Each fact's key, and what the projection makes of the bare prompt's, both at the edited token."""
    layers = [Layer(f"{projection.name}{INPUT}", unit_axis=2), Layer(projection.name, unit_axis=2)]
    keys: list[Tensor] = []
    values: list[Tensor] = []
    for request in requests:
        rows = _rows([request], prefixes, site, answers=False)
        with capture_activations(model, layers) as kept:
            logits_of(model, rows.batch.tokens)
            at = torch.arange(len(rows.places)), rows.places + projection.offset
            keys.append(kept[layers[0].name].float().cpu()[at].mean(0))
            values.append(kept[layers[1].name].float().cpu()[at][0])
    return torch.stack(keys).clone(), torch.stack(values).clone()


def find_deltas(
    model: nn.Module,
    projection: Projection,
    requests: Sequence[Request],
    settings: ValueSettings,
    *,
    site: Site,
    prefixes: Sequence[Tokens] = (),
    everywhere: bool = False,
) -> Float[Tensor, "fact value"]:
    """For each fact the delta that makes its new answer likely.

    Args:
        model: The model; its weights stay.
        projection: The delta is added to what this gives.
        requests: The facts.
        settings: How it is found.
        site: At which token it is added.
        prefixes: What stands before the prompts, beside nothing.
        everywhere: Whether it is added at all tokens instead (steering).
    """
    _, values = keys_and_values(model, projection, requests, site=site, prefixes=prefixes)
    lengths = [(1 + len(prefixes)) * (len(request.prompt) + len(request.new)) for request in requests]
    found = torch.zeros_like(values)
    for chosen in batches(sorted(range(len(requests)), key=lengths.__getitem__), lengths):
        some = [requests[index] for index in chosen]
        loss = _loss(model, projection, some, settings, site=site, prefixes=prefixes, everywhere=everywhere)
        with _frozen(model):
            found[chosen] = descend(loss, values[chosen], settings)
    return found


Loss = Callable[[Float[Tensor, "fact value"]], tuple[Float[Tensor, " fact"], Float[Tensor, " fact"]]]


def descend(loss: Loss, values: Float[Tensor, "fact value"], settings: ValueSettings) -> Float[Tensor, "fact value"]:
    """Deltas by gradient descent.

    Args:
        loss: From deltas to two losses for each fact: of the new answer alone, and all that is to be small beside it.
        values: The values that deltas are added to.
        settings: How.
    """
    size = values.norm(dim=1, keepdim=True).clamp(min=1e-6)
    unit = size / values.shape[1] ** 0.5
    relative = torch.zeros_like(values, requires_grad=True)  # the delta in root mean squares of the value
    optimiser = Adam([relative], settings.rate)
    active = torch.ones(len(values), 1, dtype=torch.bool)
    for _ in range(settings.steps):
        with torch.enable_grad():
            answer, beside = loss(relative * unit)
            shrink = ((relative * unit).norm(dim=1) / size[:, 0]).square() * settings.decay
            (relative.grad,) = torch.autograd.grad((answer + beside + shrink).sum(), [relative])
        active &= (answer.detach() > settings.enough)[:, None]
        if not active.any():
            break
        before = relative.detach().clone()
        optimiser.step()
        with torch.no_grad():
            length = (relative * unit).norm(dim=1, keepdim=True)
            relative.mul_((settings.largest * size / length.clamp(min=1e-12)).clamp(max=1))
            relative.copy_(torch.where(active, relative, before))
    deltas: Tensor = (relative * unit).detach()
    return deltas


def _loss(
    model: nn.Module,
    projection: Projection,
    requests: Sequence[Request],
    settings: ValueSettings,
    *,
    site: Site,
    prefixes: Sequence[Tokens],
    everywhere: bool,
) -> Loss:
    """The loss of some facts' deltas."""
    rows = _rows(requests, prefixes, site, answers=True)
    share = 1 / (1 + len(prefixes))
    with_essence = [index for index, request in enumerate(requests) if request.essence and site == "subject"]
    essences = padded([requests[index].essence for index in with_essence], [()] * len(with_essence))
    ends = torch.tensor([requests[index].essence_end for index in with_essence], dtype=torch.long)
    before = _next_token(model, essences) if with_essence and settings.kl else None

    def loss(deltas: Tensor) -> tuple[Tensor, Tensor]:
        with adding(model, projection, deltas[rows.facts], None if everywhere else rows.places):
            nats = nats_of(rows.batch, logits_of(model, rows.batch.tokens))
        answer = torch.zeros(len(requests)).index_add(0, rows.facts, share * nats)
        beside = torch.zeros(len(requests))
        if before is not None:
            index = torch.tensor(with_essence)
            with adding(model, projection, deltas[index], None if everywhere else ends):
                after = _next_token(model, essences)
            apart = functional.kl_div(after, before, log_target=True, reduction="none").sum(1)
            beside = beside.index_add(0, index, settings.kl * apart)
        return answer, beside

    return loss


def _next_token(model: nn.Module, prompts: Padded) -> Float[Tensor, "prompt vocabulary"]:
    """The log-probabilities of what comes after each prompt."""
    logits = logits_of(model, prompts.tokens)
    return logits[torch.arange(len(logits)), prompts.starts - 1].log_softmax(1)


@contextmanager
def adding(
    model: nn.Module,
    projection: Projection,
    deltas: Float[Tensor, "row value"],
    places: Int[Tensor, " row"] | None,
) -> Generator[None]:
    """Run the model with a delta added to a projection's output for each row of the batch, at one token or at all."""

    def change(values: Tensor) -> Tensor:
        added = deltas.to(values)[:, None]
        if places is not None:
            here = torch.arange(values.shape[1]) == (places + projection.offset)[:, None]
            added = added * here[:, :, None].to(values)
        return values + added

    with interventions.replace(model, Layer(projection.name, unit_axis=2), change):
        yield


@contextmanager
def _frozen(model: nn.Module) -> Generator[None]:
    """The model's weights without gradients, as long as the context lasts."""
    learning = [weight for weight in model.parameters() if weight.requires_grad]
    for weight in learning:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in learning:
            weight.requires_grad_(True)
