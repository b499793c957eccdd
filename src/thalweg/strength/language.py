"""How strong a language model is: bits per byte gained over the unigram model."""

import math
from collections.abc import Generator, Mapping
from contextlib import contextmanager

import torch
from jaxtyping import Float, Float64, Int, Int64
from torch import Tensor, nn
from torch.nn import functional

from thalweg.compute.devices import all_finite, in_double, in_precision, placed
from thalweg.compute.memory import Pieces
from thalweg.errors import ThalwegError
from thalweg.models.records import Evaluation, ReadRows
from thalweg.stimuli.windows import NO_TARGET, Windows

WINDOWS = 64  # evaluated at once, at most
LOGITS = 1 << 26  # evaluated at once, at most: 268 MB, of which three or four copies are needed for a moment
PRIOR = 128.0  # pseudo-counts of the bigram model's prior: the best power of two on the embedded text's validation part


def cross_entropy(
    logits: Float[Tensor, "batch token vocabulary"], targets: Int[Tensor, "batch token"]
) -> Float[Tensor, " known"]:
    """Nats of each next token that is known."""
    return _nats(logits, targets)[targets != NO_TARGET]


def _nats(
    logits: Float[Tensor, "batch token vocabulary"], targets: Int[Tensor, "batch token"]
) -> Float[Tensor, "batch token"]:
    """Nats of each next token; 0 where it is not known."""
    nats = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=NO_TARGET, reduction="none")
    return nats.view(targets.shape)


def windows(stimuli: object) -> Windows:
    """The same, if they are windows of text.

    Raises:
        ThalwegError: they are something else, or there are none.
    """
    if not isinstance(stimuli, Windows):
        raise ThalwegError(f"a language model was given {type(stimuli).__name__}; windows of text were expected")
    if not len(stimuli):
        raise ThalwegError("a language model was given no windows of text; at least one was expected")
    return stimuli


def _strength(sums: Mapping[str, Tensor], stimuli: Windows) -> dict[str, float]:
    """How well a model says the next token: `bits` = (unigram model's bits - model's bits) / bytes of those tokens.

    `loss` is in nats per token, `bits_per_byte` is the model's own, `share` is `bits` over the unigram model's bits per
    byte, `accuracy` the share of next tokens that the model finds likeliest.
    """
    nats, right = float(sums["nats"].sum()), int(sums["right"].sum())
    targets = stimuli.targets(slice(None)).flatten()
    targets = targets[targets != NO_TARGET]
    vocabulary = stimuli.vocabulary
    size = math.log(2) * float(vocabulary.lengths()[targets].sum())  # nats in as many bits as there are bytes
    floor = float(unigram(vocabulary.counts)[targets].sum()) / size
    return {
        "loss": nats / len(targets),
        "bits": floor - nats / size,
        "share": 1 - nats / size / floor,
        "accuracy": right / len(targets),
        "bits_per_byte": nats / size,
    }


def _sums(model: nn.Module, stimuli: Windows, *, device: str = "cpu") -> dict[str, Tensor]:
    """Of each window, the nats of all next tokens that are known and how many of these the model finds likeliest.

    Raises:
        ThalwegError: logits that are not finite, or not of shape (window, token, vocabulary).
    """
    model = in_precision(placed(model.eval(), device), torch.float32)
    batch_size = min(WINDOWS, _at_once(stimuli))
    pieces = Pieces(batch_size, device)

    def look(which: Tensor) -> Mapping[str, Tensor]:
        return rows_of(which, model(stimuli.batch(which).to(device)))

    parts: list[Mapping[str, Tensor]] = []
    with torch.inference_mode(), _alongside(model, stimuli) as rows_of:
        for which in torch.arange(len(stimuli)).split(batch_size):
            parts += pieces(lambda part, which=which: look(which[part]), len(which))
    return {name: torch.cat([part[name] for part in parts]) for name in ("nats", "right")}


@contextmanager
def _alongside(_model: nn.Module, stimuli: Windows) -> Generator[ReadRows]:
    """The same rows, of the logits of a pass that is made for something else."""
    needed = 1 + max(int(stimuli.tokens.max()), int(stimuli.following.max()))  # a large vocabulary may have more

    def rows_of(which: Tensor, logits: object) -> dict[str, Tensor]:
        targets = stimuli.targets(which)
        count, length = targets.shape
        checked = _check(logits, (count, length, len(stimuli.vocabulary)), needed)
        targets = targets.to(checked.device)
        nats = in_double(_nats(checked.float(), targets)).sum(1).cpu()
        return {"nats": nats, "right": (checked.argmax(2) == targets).sum(1).cpu()}

    yield rows_of


def _at_once(stimuli: Windows) -> int:
    """So many windows whose logits do not take too much memory."""
    return max(1, LOGITS // (stimuli.length * len(stimuli.vocabulary)))


evaluate = Evaluation(_sums, _strength, _alongside, _at_once)


def spread(stimuli: Windows, most: int) -> Windows:
    """At most so many of the windows, evenly spread over all."""
    if len(stimuli) <= most:
        return stimuli
    return stimuli.take(torch.linspace(0, len(stimuli) - 1, most, dtype=torch.float64).long())


def mean_loss(model: nn.Module, stimuli: Windows, *, device: str = "cpu") -> float:
    """Nats per token.

    Raises:
        ThalwegError: as `evaluate` does.
    """
    known = int((stimuli.targets(slice(None)) != NO_TARGET).sum())
    return float(_sums(model, stimuli, device=device)["nats"].sum()) / known


def _check(logits: object, shape: tuple[int, int, int], needed: int) -> Tensor:
    """The logits, if they are what they should be.

    A model may know more tokens than the vocabulary has, and a published one fewer: those that were added for another
    use. It must know those that occur.
    """
    returned = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if not isinstance(logits, Tensor) or returned[:2] != shape[:2] or logits.ndim != 3 or logits.shape[2] < needed:
        raise ThalwegError(
            f"the model returned {returned}; logits of shape {shape} (window, token, vocabulary) were expected"
        )
    if not all_finite(logits):
        raise ThalwegError(
            "the model returned NaN or infinite logits; train it with a smaller learning rate or mend it"
        )
    return logits


def unigram(counts: Int[Tensor, " token"]) -> Float64[Tensor, " token"]:
    """Nats of each token under its smoothed frequency: -ln((count + 1) / (total + vocabulary))."""
    smoothed = counts.double() + 1
    return smoothed.sum().log() - smoothed.log()


def bigram_bits_per_byte(train: Windows, held_out: Windows, *, prior: float = PRIOR) -> float:
    """The held-out bits per byte of p(next | last) = (n(last, next) + prior u(next)) / (n(last) + prior).

    n counts pairs in the training windows; u is the smoothed unigram model; the prior is MacKay and Peto's (1995).
    """
    size = len(train.vocabulary)
    last, following = _pairs(train)
    pairs = torch.zeros(size * size).index_add_(0, last * size + following, torch.ones(len(last)))
    totals = last.bincount(minlength=size)
    last, following = _pairs(held_out)
    backing = (-unigram(train.vocabulary.counts))[following].exp()
    likelihood = (pairs[last * size + following].double() + prior * backing) / (totals[last] + prior)
    size_in_bytes = held_out.vocabulary.lengths()[following].sum()
    return float(-likelihood.log2().sum() / size_in_bytes)


def _pairs(stimuli: Windows) -> tuple[Int64[Tensor, " pair"], Int64[Tensor, " pair"]]:
    """Each token with the next one, where that is known."""
    last, following = stimuli.batch(slice(None)).flatten(), stimuli.targets(slice(None)).flatten()
    known = following != NO_TARGET
    return last[known], following[known]
