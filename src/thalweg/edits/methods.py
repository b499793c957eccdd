"""Ways to edit facts: ROME, MEMIT, and two baselines. Each changes the model as long as a context lasts.

- `rome`: a rank-one change of one block's output projection for each fact, one fact at a time.
- `memit`: one change for all facts together, spread over one or several blocks. With several, what is missing of a
  fact's value at the last block is shared out: block l of n adds 1/(n - l) of what the blocks before it left over.
- `fine-tune`: the projection's matrix is trained on one fact, and each of its numbers is held near where it was
  (Zhu et al. 2020; "FT+L" of Meng et al. 2022).
- `steer`: a vector, found as ROME's delta is, is added to the projection's output at every token. It knows no key, so
  it shows what keys are good for.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from thalweg.compute.adam import Adam
from thalweg.edits import updates
from thalweg.edits.moments import Moments
from thalweg.edits.projections import Projection
from thalweg.edits.requests import Request, Tokens, logits_of, nats_of, padded
from thalweg.edits.values import Site, ValueSettings, adding, find_deltas, keys_and_values, place
from thalweg.errors import ThalwegError, unknown
from thalweg.models import interventions
from thalweg.models.hooks import capture_activations
from thalweg.models.records import Layer

ADDITIVE = 1e-3  # share of a probe vector by which a block's output may differ from a plain sum


@dataclass(frozen=True)
class EditSettings:
    """How facts are edited.

    Attributes:
        site: At which token: the `subject`'s last, or the prompt's `last`.
        values: How deltas are found.
        old_keys: MEMIT: how much old keys count beside new ones, in numbers of neurons.
        ridge: What is added to second moments, in mean eigenvalues.
        steps: Fine-tuning: steps of Adam.
        reach: Fine-tuning: how far each number of the matrix may move, in root mean squares of the matrix.
    """

    site: Site = "subject"
    values: ValueSettings = field(default_factory=ValueSettings)
    old_keys: float = 1.0
    ridge: float = 0.0
    steps: int = 25
    reach: float = 0.05


@dataclass(frozen=True, eq=False)
class Setup:
    """A model that is to be edited.

    Attributes:
        model: The model.
        projections: The layers, from the first to the last; all methods but MEMIT edit the last.
        moments: Second moments of each layer's keys, by its name; fine-tuning and steering need none.
        settings: How.
        prefixes: What stands before prompts while keys and deltas are found, beside nothing.
        found: Deltas of facts, by their names: each is found once for all methods that take it.
    """

    model: nn.Module
    projections: tuple[Projection, ...]
    moments: Mapping[str, Moments]
    settings: EditSettings = field(default_factory=EditSettings)
    prefixes: tuple[Tokens, ...] = ()
    found: dict[str, Float[Tensor, " value"]] = field(default_factory=dict)

    def deltas(self, requests: Sequence[Request]) -> Float[Tensor, "fact value"]:
        """The deltas of facts at the last layer."""
        if new := [request for request in requests if request.name not in self.found]:
            options = {"site": self.settings.site, "prefixes": self.prefixes}
            made = find_deltas(self.model, self.last, new, self.settings.values, **options)
            self.found.update(zip((request.name for request in new), made, strict=True))
        return torch.stack([self.found[request.name] for request in requests])

    @property
    def last(self) -> Projection:
        """The layer at which deltas are found."""
        return self.projections[-1]

    def ridged(self, projection: Projection) -> Tensor:
        """A layer's second moments, with the ridge."""
        return updates.with_ridge(self.moments[projection.name].matrix, self.settings.ridge)


Edit = tuple[list[Request], AbstractContextManager[None]]  # the facts that are edited at once, and the edited model
Method = Callable[[Setup, Sequence[Request]], Iterator[Edit]]


@contextmanager
def changed(changes: Mapping[Projection, Float[Tensor, "value key"]]) -> Generator[None]:
    """Matrices with something added, as long as the context lasts; afterwards they are what they were, bit by bit.

    Args:
        changes: What is added to each projection's matrix.

    Example:
        >>> import torch
        >>> from thalweg.edits.methods import changed
        >>> from thalweg.edits.projections import Projection
        >>> module = torch.nn.Linear(2, 1, bias=False)
        >>> before = module.weight.clone()
        >>> projection = Projection("out", "", -1, module, transposed=False, offset=0)
        >>> with changed({projection: torch.ones(1, 2)}):
        ...     bool((module.weight > before).all())
        True
        >>> torch.equal(module.weight, before)
        True
    """
    kept = {projection: projection.parameter.detach().clone() for projection in changes}
    try:
        for projection, change in changes.items():
            projection.add(change)
        yield
    finally:
        with torch.no_grad():
            for projection, weight in kept.items():
                projection.parameter.copy_(weight)


def rome(setup: Setup, requests: Sequence[Request]) -> Iterator[Edit]:
    """ROME: one fact at a time."""
    for request, change in zip(requests, rome_changes(setup, requests), strict=True):
        yield [request], changed({setup.last: change})


def rome_changes(setup: Setup, requests: Sequence[Request]) -> Iterator[Float[Tensor, "value key"]]:
    """ROME's change of the matrix for each fact by itself, one at a time."""
    options = {"site": setup.settings.site, "prefixes": setup.prefixes}
    deltas = setup.deltas(requests)
    keys, _ = keys_and_values(setup.model, setup.last, requests, **options)
    directions = updates.rome_directions(setup.ridged(setup.last), keys)
    for delta, direction in zip(deltas, directions, strict=True):
        yield torch.outer(delta.double(), direction).float()


def memit(setup: Setup, requests: Sequence[Request]) -> Iterator[Edit]:
    """MEMIT: all facts at once."""
    settings = setup.settings
    options = {"site": settings.site, "prefixes": setup.prefixes}
    if len(setup.projections) > 1:
        check_additive(setup.model, setup.last, requests[0].prompt)
    deltas = setup.deltas(requests)
    goal = _streams(setup, requests) + deltas if len(setup.projections) > 1 else deltas
    changes: dict[Projection, Tensor] = {}
    for index, projection in enumerate(setup.projections):
        with changed(changes):
            keys, _ = keys_and_values(setup.model, projection, requests, **options)
            missing = goal - _streams(setup, requests) if len(setup.projections) > 1 else goal
        shares = len(setup.projections) - index
        weight = settings.old_keys * keys.shape[1]
        changes[projection] = updates.memit(setup.ridged(projection), keys, missing / shares, weight).float()
    yield list(requests), changed(changes)


@torch.inference_mode()
def _streams(setup: Setup, requests: Sequence[Request]) -> Float[Tensor, "fact value"]:
    """The residual stream behind the last edited block, at each fact's edited token."""
    layer = Layer(setup.last.block, unit_axis=2)
    rows = []
    for request in requests:
        with capture_activations(setup.model, [layer]) as kept:
            logits_of(setup.model, torch.tensor([request.prompt]))
            rows.append(kept[layer.name][0, setup.last.offset + place(request, setup.settings.site)].float().cpu())
    return torch.stack(rows).clone()


def check_additive(model: nn.Module, projection: Projection, prompt: Tokens) -> None:
    """Check that what a projection gives is added to the residual stream as it is.

    Raises:
        ThalwegError: it is not, as where a normalisation follows; then an edit cannot be spread over blocks.
    """
    if not projection.block:
        raise ThalwegError(f"layer {projection.name!r} is in no block; an edit of several layers needs blocks")
    tokens, layer = torch.tensor([prompt]), Layer(projection.block, unit_axis=2)
    probe = torch.randn(1, projection.weight.shape[0], generator=torch.Generator().manual_seed(0))
    streams = []
    with torch.inference_mode():
        for scale in (0.0, 1.0):
            with adding(model, projection, scale * probe, None), capture_activations(model, [layer]) as kept:
                logits_of(model, tokens)
                streams.append(kept[layer.name][0].float().cpu().clone())
    off = (streams[1] - streams[0] - probe).norm(dim=1).max() / probe.norm()
    if not float(off) < ADDITIVE:
        raise ThalwegError(
            f"layer {projection.name!r}: its output is normalised before it is added to the residual stream, so MEMIT "
            "cannot share an edit out over several layers; give one --layer"
        )


def fine_tune(setup: Setup, requests: Sequence[Request]) -> Iterator[Edit]:
    """Fine-tuning of one matrix under a constraint on each of its numbers, one fact at a time."""
    for request in requests:
        yield [request], changed({setup.last: _tuned(setup, request)})


def _tuned(setup: Setup, request: Request) -> Float[Tensor, "value key"]:
    """The change of the matrix that training on one fact makes."""
    weight, batch = setup.last.parameter, padded([request.prompt], [request.new])
    start = weight.detach().clone()
    limit = setup.settings.reach * float(start.square().mean().sqrt())
    others = [each for each in setup.model.parameters() if each.requires_grad and each is not weight]
    was_learning = weight.requires_grad
    for each in others:
        each.requires_grad_(False)
    weight.requires_grad_(True)
    optimiser = Adam([weight], limit)
    try:
        for _ in range(setup.settings.steps):
            with torch.enable_grad():
                nats = nats_of(batch, logits_of(setup.model, batch.tokens)).sum()
                (weight.grad,) = torch.autograd.grad(nats, [weight])
            if float(nats.detach()) < setup.settings.values.enough:
                break
            optimiser.step()
            with torch.no_grad():
                weight.copy_(weight.clamp(start - limit, start + limit))
        change = (weight.detach() - start).clone()
    finally:
        with torch.no_grad():
            weight.copy_(start)
        weight.grad = None
        weight.requires_grad_(was_learning)
        for each in others:
            each.requires_grad_(True)
    return change.T if setup.last.transposed else change


def steer(setup: Setup, requests: Sequence[Request]) -> Iterator[Edit]:
    """A vector that is added at every token, one fact at a time."""
    layer = Layer(setup.last.name, unit_axis=2)
    for request, vector in zip(requests, steering_vectors(setup, requests), strict=True):
        yield [request], interventions.add(setup.model, layer, vector)


def steering_vectors(setup: Setup, requests: Sequence[Request]) -> Float[Tensor, "fact value"]:
    """The vector of each fact that makes its new answer likely, added at every token."""
    settings = setup.settings
    return find_deltas(setup.model, setup.last, requests, settings.values, site=settings.site, everywhere=True)


METHODS: dict[str, Method] = {"rome": rome, "memit": memit, "fine-tune": fine_tune, "steer": steer}
WITH_MOMENTS = ("rome", "memit")
MATCHED = "fine-tune-matched"  # fine-tuning where it is as specific as ROME; see `matching`
NAMES = (*METHODS, MATCHED)


def method(name: str) -> Method:
    """The method of this name.

    Raises:
        ThalwegError: there is none.
    """
    if name not in METHODS:
        raise unknown("method of editing", name, METHODS)
    return METHODS[name]
