"""Fine-tuning at the specificity of another method: what does it reach where it spares as many other facts?

Any method has more success the less it spares. So two of them are compared where they spare alike. Fine-tuning trains
the edited matrix on a fact, here without a constraint and in steps that grow, from tiny ones on; after some of its
steps all questions are asked. Along this path success rises and the mean of `neighbourhood` over facts falls. It is
read where that mean first falls to the other method's, between two steps linearly, for all facts at the same place. If
it never falls so far, it is read after the last step; if it is lower from the start, before the first.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import polars as pl
import torch

from thalweg.compute.adam import Adam
from thalweg.edits.beside import added_by_row, ask_beside, groups
from thalweg.edits.evaluation import FACTS_SCHEMA, NEIGHBOURHOOD, fact_rows, scores
from thalweg.edits.methods import MATCHED, Setup
from thalweg.edits.requests import Request, logits_of, nats_of, padded
from thalweg.errors import ThalwegError

STEPS = (4, 8, 12, 15, 18, 20, 22, 24, 26, 28, 30, 32, 34, 36)  # after which is asked, beside before the first
RATE, GROWTH = 0.005, 1.15  # of Adam's first step, in root mean squares of the matrix, and from each to the next
STEP = "steps"  # the measure that says where the path is read
Values = dict[str, float]


def fine_tuned_alike(
    setup: Setup,
    requests: Sequence[Request],
    other: pl.DataFrame,
    *,
    advance: Callable[[], None] = lambda: None,
) -> pl.DataFrame:
    """Fine-tune on each fact by itself, and read the path where it spares as many other facts as another method.

    Args:
        setup: The model and its layer.
        requests: The facts.
        other: The rows of the other method, of the same facts.
        advance: Called after each fact.

    Returns:
        Rows as of `measure_edits`; `steps` says where the path is read.

    Raises:
        ThalwegError: The facts have no neighbourhood.
    """
    check_neighbourhood(requests)
    wanted = other.filter(measure=NEIGHBOURHOOD)["value"].mean()
    assert isinstance(wanted, float)
    path: list[list[Values]] = [[] for _ in (0, *STEPS)]
    for group in groups(setup, requests):
        for place, answered in enumerate(_path(setup, group)):
            path[place] += answered
        for _ in group:
            advance()
    at, share = _place([_mean(answered, NEIGHBOURHOOD) for answered in path], wanted)
    rows: list[dict[str, object]] = []
    for request, before, after in zip(requests, path[at], path[min(at + 1, len(STEPS))], strict=True):
        read = {name: (1 - share) * before[name] + share * after[name] for name in before}
        stepped = float(np.interp(at + share, range(len(path)), (0, *STEPS)))
        rows += fact_rows(request, MATCHED, {**read, **scores(read), STEP: stepped})
    return pl.DataFrame(rows, schema=FACTS_SCHEMA)


def has_neighbourhood(requests: Sequence[Request]) -> bool:
    """Whether it can be told how specific an edit is."""
    return any(NEIGHBOURHOOD in request.probes and request.probes[NEIGHBOURHOOD].prompts for request in requests)


def check_neighbourhood(requests: Sequence[Request]) -> None:
    """Check that it can be told how specific an edit is.

    Raises:
        ThalwegError: No fact has a neighbourhood.
    """
    if not has_neighbourhood(requests):
        raise ThalwegError(f"{MATCHED} compares at equal specificity, and no fact has neighborhood_prompts; add some")


def _path(setup: Setup, requests: Sequence[Request]) -> Iterator[list[Values]]:
    """The answers about some facts before training on each, and after some steps of it."""
    weight = setup.last.weight.detach()
    changes = torch.zeros(len(requests), *weight.shape, device=weight.device, requires_grad=True)
    batch = padded([request.prompt for request in requests], [request.new for request in requests])
    size = float(weight.square().mean().sqrt())
    optimiser = Adam([changes], RATE * size)
    yield ask_beside(setup, requests, changes.detach())
    for step in range(1, STEPS[-1] + 1):
        with torch.enable_grad(), added_by_row(setup.last, changes, torch.arange(len(requests))):
            loss = nats_of(batch, logits_of(setup.model, batch.tokens)).sum()
            (changes.grad,) = torch.autograd.grad(loss, [changes])
        optimiser.learning_rate = RATE * GROWTH ** (step - 1) * size
        optimiser.step()
        if step in STEPS:
            yield ask_beside(setup, requests, changes.detach())


def _mean(answered: Sequence[Values], measure: str) -> float:
    there = [values[measure] for values in answered if measure in values]
    return sum(there) / len(there)


def _place(path: Sequence[float], wanted: float) -> tuple[int, float]:
    """Where a path first falls to a value: behind which of its points, and by what share of the way to the next."""
    for at, (before, after) in enumerate(pairwise(path)):
        if after <= wanted:
            return at, min(1.0, max(0.0, (before - wanted) / (before - after))) if before > after else 0.0
    return len(path) - 1, 0.0
