"""Models of the next token, how they are trained, and how strong they are.

Three kinds, from what is easiest to read: a bias alone, which knows how often each token occurs; a *sparse bag of
words*, which knows which tokens the window holds so far but neither where nor how often; and transformers, without and
with multilayer perceptrons. The transformers compute what GPT-2 does (Radford et al. 2019), so whatever is found in
them was not put there by an odd architecture.

Strength is in bits per byte of text, which no choice of tokens changes much, and counts from the unigram model: a
model that knows only the tokens' frequencies has gained nothing. Training has a budget of tokens, never of time, so
that a busy computer makes the same models.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int, Int64
from torch import Tensor, nn
from torch.nn import functional

from thalweg.devices import in_precision, placed
from thalweg.errors import ThalwegError
from thalweg.ladder import Evaluation
from thalweg.stimuli import Splits, Windows
from thalweg.stimuli.windows import NO_TARGET

INITIAL = 0.02  # standard deviation of GPT-2's initial weights
IMPROVEMENT = 1e-4  # nats: less than this is no improvement
WARM_UP = 0.05  # share of the budget in which the learning rate rises
COURSE_WARM_UP = 50  # steps: the same for all checkpoints of one run
MOST_VALIDATED = 500  # windows looked at between steps, and of the training windows at the end: they cost time too
WINDOWS = 64  # evaluated at once, at most
LOGITS = 1 << 26  # evaluated at once, at most: 268 MB, of which three or four copies are needed for a moment
PRIOR = 128.0  # pseudo-counts of the bigram model's prior: the best power of two on the embedded text's validation part


class Unigram(nn.Module):
    """The same logits at every place: how often each token occurs."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.logits = nn.Identity()

    def extra_repr(self) -> str:
        """What the submodules do not show."""
        return f"vocabulary={len(self.bias)}"

    def forward(self, tokens: Int[Tensor, "batch token"]) -> Float[Tensor, "batch token vocabulary"]:
        """The bias, once for each token."""
        logits: Tensor = self.logits(self.bias.expand(*tokens.shape, -1))
        return logits


class SetOfTokens(nn.Module):
    """A linear map of the set of tokens seen so far: at each place, the distinct tokens' vectors and a bias, summed."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.tokens.weight, std=INITIAL)
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, tokens: Int[Tensor, "batch token"]) -> Float[Tensor, "batch token unit"]:
        """The sums: only a token's first occurrence adds to them."""
        vectors: Tensor = self.tokens(tokens) * first_occurrence(tokens)[:, :, None]
        return vectors.cumsum(1) + self.bias


def first_occurrence(tokens: Int[Tensor, "batch token"]) -> Bool[Tensor, "batch token"]:
    """Whether a token has not occurred earlier in its window."""
    same = tokens[:, :, None] == tokens[:, None, :]
    return ~same.tril(-1).any(2)


class BagOfWords(nn.Module):
    """The set of the window's tokens so far, hidden rectified units, logits."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.hidden = SetOfTokens(vocabulary, width)
        self.active = nn.ReLU()
        self.read_out = nn.Linear(width, vocabulary)

    def forward(self, tokens: Int[Tensor, "batch token"]) -> Float[Tensor, "batch token vocabulary"]:
        """Logits of the next token at each place."""
        logits: Tensor = self.read_out(self.active(self.hidden(tokens)))
        return logits


def gelu(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """GPT-2's activation function: the Gaussian error linear unit, by its approximation with a hyperbolic tangent."""
    return functional.gelu(values, approximate="tanh")


class Block(nn.Module):
    """A block of GPT-2, with or without its multilayer perceptron: normalise, compute, add to the residual stream.

    Units are the outputs of `heads` (all heads' outputs side by side, before they are written to the stream), of
    `neurons` (before their activation function) and of `residual` (the stream after the block).
    """

    def __init__(self, width: int, n_heads: int, *, neurons: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.before_attention = nn.LayerNorm(width)
        self.attention = nn.Linear(width, 3 * width)
        self.heads = nn.Identity()
        self.after_attention = nn.Linear(width, width)
        if neurons:
            self.before_neurons = nn.LayerNorm(width)
            self.neurons = nn.Linear(width, neurons)
            self.after_neurons = nn.Linear(neurons, width)
        self.residual = nn.Identity()

    def extra_repr(self) -> str:
        """What the submodules do not show."""
        return f"n_heads={self.n_heads}"

    def forward(self, stream: Float[Tensor, "batch token width"]) -> Float[Tensor, "batch token width"]:
        """The residual stream after the block."""
        stream = stream + self.after_attention(self.heads(self._attend(self.before_attention(stream))))
        if hasattr(self, "neurons"):
            stream = stream + self.after_neurons(gelu(self.neurons(self.before_neurons(stream))))
        after: Tensor = self.residual(stream)
        return after

    def _attend(self, stream: Float[Tensor, "batch token width"]) -> Float[Tensor, "batch token width"]:
        """What each head gathers from the tokens up to each place, head after head."""
        query, key, value = (
            part.unflatten(2, (self.n_heads, -1)).transpose(1, 2) for part in self.attention(stream).chunk(3, 2)
        )  # each (batch, head, token, width of a head)
        gathered = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return gathered.transpose(1, 2).flatten(2)


class Transformer(nn.Module):
    """GPT-2 of any size, without dropout; the logits are read out with the token vectors themselves.

    Raises:
        ValueError: the heads do not share the width evenly.
    """

    def __init__(
        self, vocabulary: int, length: int, width: int, *, blocks: int = 1, n_heads: int = 1, neurons: int = 0
    ) -> None:
        super().__init__()
        if width % n_heads:
            raise ValueError(f"{n_heads} heads cannot share a width of {width} evenly")
        self.tokens = nn.Embedding(vocabulary, width)
        self.places = nn.Embedding(length, width)
        self.blocks = nn.ModuleList(Block(width, n_heads, neurons=neurons) for _ in range(blocks))
        self.before_logits = nn.LayerNorm(width)
        self.apply(_initialise)
        written = [
            part.weight for name, part in self.named_modules() if name.endswith((".after_attention", ".after_neurons"))
        ]
        for weight in written:  # as GPT-2 does, so that the stream's variance does not grow with depth
            nn.init.normal_(weight, std=INITIAL / math.sqrt(len(written)))

    def forward(self, tokens: Int[Tensor, "batch token"]) -> Float[Tensor, "batch token vocabulary"]:
        """Logits of the next token at each place."""
        stream = self.tokens(tokens) + self.places.weight[: tokens.shape[1]]
        for block in self.blocks:
            stream = block(stream)
        return functional.linear(self.before_logits(stream), self.tokens.weight)


def _initialise(part: nn.Module) -> None:
    """GPT-2's initial weights; layer norms keep PyTorch's, which are the same."""
    if isinstance(part, nn.Linear | nn.Embedding):
        nn.init.normal_(part.weight, std=INITIAL)
    if isinstance(part, nn.Linear):
        nn.init.zeros_(part.bias)


@dataclass(frozen=True)
class LanguageTrainer:
    """How to train: AdamW on the next token's cross-entropy over a budget of `tokens`; the best weights are kept.

    The learning rate rises over the first twentieth of the budget and falls to zero along half a cosine. The validation
    loss is looked at `evaluations` times, and training stops early when it has not improved for `patience` of them.
    `l1` weighs the summed outputs of the rectifiers, averaged over tokens, which makes hidden units sparse.
    """

    tokens: int = 1_000_000
    learning_rate: float = 5e-3
    batch_size: int = 8  # windows: small batches gain the most from a budget of tokens
    l1: float = 0.0
    evaluations: int = 10
    patience: int = 3

    def __call__(self, model: nn.Module, splits: Splits, seed: int) -> dict[str, float | int | str]:
        """Train the model in place and say how it ended.

        Raises:
            ThalwegError: the loss became NaN or infinite, or the stimuli are no windows of text.
        """
        run = _Training(model, splits, self, seed)
        steps = math.ceil(self.tokens / run.tokens_a_step)
        looks = sorted({math.ceil(steps * look / self.evaluations) for look in range(1, self.evaluations + 1)})
        best, kept, since, loss = math.inf, {}, 0, math.inf
        for before, after in zip([0, *looks], looks, strict=False):
            for step in range(before, after):
                run.step(self.learning_rate * _rise_and_fall((step + 1) / steps))
            loss = run.validation_loss()
            improved = loss < best - IMPROVEMENT
            since = 0 if improved else since + 1
            if improved:
                best, kept = loss, {name: value.clone() for name, value in model.state_dict().items()}
            if since >= self.patience:
                break
        model.load_state_dict(kept)
        stopped = "validation loss stopped improving" if since >= self.patience else "token budget spent"
        return {**run.told(), "stopped": stopped, "validation_loss": best, "last_validation_loss": loss}


def course(
    model: nn.Module,
    splits: Splits,
    seed: int,
    checkpoints: Sequence[int],
    *,
    trainer: LanguageTrainer,
) -> Iterator[dict[str, float | int | str]]:
    """Train one run and pause at each checkpoint, given in tokens and increasing, to say how far it is.

    The learning rate rises over the first steps and then stays, so that no checkpoint depends on how long the run goes
    on: of the trainer only its learning rate, batch size and `l1` count.

    Raises:
        ThalwegError: the loss became NaN or infinite, or the stimuli are no windows of text.
    """
    run = _Training(model, splits, trainer, seed)
    for tokens in checkpoints:
        while run.steps * run.tokens_a_step < tokens:
            run.step(trainer.learning_rate * min(1.0, (run.steps + 1) / COURSE_WARM_UP))
        loss = run.validation_loss()
        yield {**run.told(), "stopped": "checkpoint", "validation_loss": loss, "last_validation_loss": loss}


def _rise_and_fall(done: float) -> float:
    """The share of the learning rate when this share of the budget is done."""
    if done < WARM_UP:
        return done / WARM_UP
    return 0.5 + 0.5 * math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP))


class _Training:
    """A model under training: its optimiser, its stream of batches, and how many steps were taken."""

    def __init__(self, model: nn.Module, splits: Splits, trainer: LanguageTrainer, seed: int) -> None:
        self.train, self.validation = windows(splits.train), windows(splits.validation)
        self.model, self.trainer, self.steps = model, trainer, 0
        self.device = next(model.parameters()).device
        self.batch_size = min(trainer.batch_size, len(self.train))
        self.tokens_a_step = self.batch_size * self.train.length
        self.optimiser = torch.optim.AdamW(model.parameters(), lr=trainer.learning_rate, fused=True)
        self.batches = self._shuffled(torch.Generator().manual_seed(seed))

    def _shuffled(self, generator: torch.Generator) -> Iterator[Tensor]:
        """Batches of the same size, in a new order in each epoch."""
        while True:
            order = torch.randperm(len(self.train), generator=generator)
            yield from order[: len(order) // self.batch_size * self.batch_size].split(self.batch_size)

    def step(self, learning_rate: float) -> None:
        """One step of the optimiser."""
        which = next(self.batches)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate
        self.optimiser.zero_grad()
        with rectified(self.model.train()) as outputs:
            logits = self.model(self.train.batch(which).to(self.device))
        loss = cross_entropy(logits, self.train.targets(which).to(self.device)).mean()
        if not loss.isfinite():
            raise ThalwegError("the training loss became NaN or infinite; train with a smaller learning rate")
        for output in outputs if self.trainer.l1 else ():
            loss = loss + self.trainer.l1 * output.sum(2).mean()
        loss.backward()
        self.optimiser.step()
        self.steps += 1

    def validation_loss(self) -> float:
        """Nats per token on some of the validation windows, the same each time."""
        return mean_loss(self.model, spread(self.validation, MOST_VALIDATED), device=str(self.device))

    def told(self) -> dict[str, float | int]:
        """How far the training is."""
        seen = self.steps * self.batch_size
        return {
            "train_examples": seen,
            "train_tokens": seen * self.train.length,
            "epochs": seen / len(self.train),
            "train_loss": mean_loss(self.model, spread(self.train, MOST_VALIDATED), device=str(self.device)),
        }


@contextmanager
def rectified(model: nn.Module) -> Iterator[list[Tensor]]:
    """A list that gathers the outputs of the model's rectifiers as it runs, for as long as the context lasts."""
    outputs: list[Tensor] = []
    parts = [part for part in model.modules() if isinstance(part, nn.ReLU)]
    handles = [part.register_forward_hook(lambda _part, _given, output: outputs.append(output)) for part in parts]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


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


def _said(found: Mapping[str, Tensor], stimuli: Windows) -> dict[str, float]:
    """How well a model says the next token: `bits` = (unigram model's bits - model's bits) / bytes of those tokens.

    `loss` is in nats per token, `bits_per_byte` is the model's own, `share` is `bits` over the unigram model's bits per
    byte, `accuracy` the share of next tokens that the model finds likeliest.
    """
    nats, right = float(found["nats"].sum()), int(found["right"].sum())
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


def _looked(model: nn.Module, stimuli: Windows, *, device: str = "cpu") -> dict[str, Tensor]:
    """Of each window, the nats of all next tokens that are known and how many of these the model finds likeliest.

    Raises:
        ThalwegError: logits that are not finite, or not of shape (window, token, vocabulary).
    """
    model = in_precision(placed(model.eval(), device), torch.float32)
    needed = 1 + max(int(stimuli.tokens.max()), int(stimuli.following.max()))  # a large vocabulary may have more
    batch_size = max(1, min(WINDOWS, LOGITS // (stimuli.length * len(stimuli.vocabulary))))
    nats, right = [], []
    with torch.inference_mode():
        for which in torch.arange(len(stimuli)).split(batch_size):
            logits = model(stimuli.batch(which).to(device))
            targets = stimuli.targets(which).to(device)
            _check(logits, (*targets.shape, len(stimuli.vocabulary)), needed)
            targets = targets.to(logits.device)
            nats.append(_nats(logits.float(), targets).double().sum(1).cpu())
            right.append((logits.argmax(2) == targets).sum(1).cpu())
    return {"nats": torch.cat(nats), "right": torch.cat(right)}


evaluate = Evaluation(_looked, _said)


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
    return float(_looked(model, stimuli, device=device)["nats"].sum()) / known


def _check(logits: object, shape: tuple[int, int, int], needed: int) -> None:
    """Make sure that logits are what they should be.

    A model may know more tokens than the vocabulary has, and a published one fewer: those that were added for another
    use. It must know those that occur.
    """
    found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if not isinstance(logits, Tensor) or found[:2] != shape[:2] or logits.ndim != 3 or logits.shape[2] < needed:
        raise ThalwegError(
            f"the model returned {found}; logits of shape {shape} (window, token, vocabulary) were expected"
        )
    if not logits.isfinite().all():
        raise ThalwegError(
            "the model returned NaN or infinite logits; train it with a smaller learning rate or mend it"
        )


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
