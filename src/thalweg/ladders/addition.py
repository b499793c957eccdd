"""Addition modulo a prime: from a linear model of one-hot numbers to the transformer that groks.

The one task here whose solution is known to the last step (Nanda et al. 2023; see `thalweg.fourier`), so the one where
an interpretability score can be held against the truth. A network first memorises the pairs it is trained on and only
much later, driven by weight decay, finds the waves that add: it *groks*. Hence the second control: a `memorising` twin
starts from the same weights, is trained on the same pairs without weight decay, and knows them by heart.

All pairs of numbers below p are split once: some for training (40 % for p = 53), a tenth to say when a network has
grokked, and the rest as the pool. The rungs are of three kinds: a linear model, perceptrons with one hidden layer of
rectified units on one-hot numbers, and one-layer transformers without layer norm on the tokens a, b and "=". All are
trained on the whole batch by AdamW, to the same rule.

Limits: whether a network adds is nearly all or nothing. What spreads the rungs is width (a transformer of width 4 has
room for two waves) and how much the perceptrons generalise within their epochs; some seeds never grok and are told as
such. At weight decay 5 a transformer ends with two to four key frequencies, fewer than the published network's five.
Held-out bits of a memoriser are negative, for it is sure and wrong: they are reported as they are, and mean no less
knowledge than none. The linear model's logits take but a few values, so that it has no queries in the graded bands.

Only the last place's output matters, and what the tokens give to it depends on one token each; so a transformer is
computed from tables with a row for each number, four times faster than token by token (measured at width 64).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from thalweg import fourier, strength
from thalweg.errors import ThalwegError
from thalweg.ladder import Ladder, Layer, Rung, Told
from thalweg.stimuli import NumberPairs, Source, Splits

P = 53
PUBLISHED = 113  # the prime of Nanda et al. 2023
LARGE = 100  # from here on the settings are the published ones; p = 53 needs more weight decay and more pairs
LEAST_P = 17  # the smallest prime that leaves a pool of 120 pairs, as trials need; it has eight frequencies
MOST_P = 401  # the largest that was ever tried by those who published; p^3 logits are held at once
VALIDATED = 0.1  # of all pairs: they say when a network has grokked
HEADS = 4  # as published
GROKKED = 0.99  # accuracy on the validation pairs
MEMORISED = 1e-4  # nats on the training pairs, every one of them right: known by heart
WARM_UP = 10  # steps, as published
BETAS = (0.9, 0.98)  # as published
EVERY = 50  # epochs between two looks at the validation pairs


def _gaussian(*shape: int, variance: float) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape) * math.sqrt(variance))


class Linear(nn.Module):
    """Logits that are linear in one-hot a and one-hot b: it cannot add, only prefer answers."""

    def __init__(self, p: int) -> None:
        super().__init__()
        self.tables = _gaussian(2, p, p, variance=1 / (2 * p))
        self.bias = nn.Parameter(torch.zeros(p))
        self.logits = nn.Identity()

    def neurons(self, pairs: Int[Tensor, "pair 2"]) -> Float[Tensor, "pair answer"]:
        """Its units are its logits."""
        logits: Tensor = self.logits(self.tables[0][pairs[:, 0]] + self.tables[1][pairs[:, 1]] + self.bias)
        return logits

    def forward(self, pairs: Int[Tensor, "pair 2"]) -> Float[Tensor, "pair answer"]:
        """The logits."""
        return self.neurons(pairs)

    def embedding(self) -> Float[Tensor, "p feature"]:
        """What a number is to the model: a row of both tables."""
        return torch.cat([*self.tables], 1)

    def readout(self) -> Float[Tensor, "p answer"]:
        """What its units, the logits, say of each answer: themselves."""
        return torch.eye(len(self.bias))


class Perceptron(nn.Module):
    """A hidden layer of rectified units on one-hot a and one-hot b."""

    def __init__(self, p: int, width: int) -> None:
        super().__init__()
        self.tables = _gaussian(2, p, width, variance=1 / 2)  # two ones enter each unit
        self.bias = nn.Parameter(torch.zeros(width))
        self.outward = _gaussian(width, p, variance=1 / width)
        self.outward_bias = nn.Parameter(torch.zeros(p))
        self.mlp_in = nn.Identity()

    def neurons(self, pairs: Int[Tensor, "pair 2"]) -> Float[Tensor, "pair unit"]:
        """The hidden units before the rectifier."""
        before: Tensor = self.mlp_in(self.tables[0][pairs[:, 0]] + self.tables[1][pairs[:, 1]] + self.bias)
        return before

    def forward(self, pairs: Int[Tensor, "pair 2"]) -> Float[Tensor, "pair answer"]:
        """The logits."""
        return torch.addmm(self.outward_bias, self.neurons(pairs).relu(), self.outward)

    def embedding(self) -> Float[Tensor, "p feature"]:
        """What a number is to the model: a row of both tables."""
        return torch.cat([*self.tables], 1)

    def readout(self) -> Float[Tensor, "p unit"]:
        """What each hidden unit says of each answer."""
        return self.outward.T


class Transformer(nn.Module):
    """One layer of attention and one of rectified neurons on the tokens a, b and "=", read at "="; no layer norm.

    With e, s and W the token embeddings, position embeddings and weight matrices, x_0 = e_a + s_0, x_1 = e_b + s_1, x_2
    = e_= + s_2: each head mixes values x_j W_V by the softmax over j of x_2 W_Q (x_j W_K)' / sqrt(head width); x = x_2
    + (heads) W_O; neurons = x W_in + bias; residual = x + relu(neurons) W_out + bias; logits = residual W_U. Initial
    weights are normal with variance 1 / width, those of W_U with 1 / p, biases 0.
    """

    def __init__(self, p: int, width: int, neurons: int) -> None:
        super().__init__()
        draw = partial(_gaussian, variance=1 / width)
        self.tokens, self.positions = draw(p + 1, width), draw(3, width)
        self.to_query, self.to_key, self.to_value, self.from_heads = (draw(width, width) for _ in range(4))
        self.into_mlp, self.mlp_bias = draw(width, neurons), nn.Parameter(torch.zeros(neurons))
        self.from_mlp, self.from_mlp_bias = draw(neurons, width), nn.Parameter(torch.zeros(width))
        self.unembedding = _gaussian(width, p, variance=1 / p)
        self.heads, self.mlp_in, self.residual = nn.Identity(), nn.Identity(), nn.Identity()

    def neurons(self, pairs: Int[Tensor, "pair 2"]) -> Float[Tensor, "pair unit"]:
        """The neurons before the rectifier."""
        return self._block(pairs)[1]

    def forward(self, pairs: Int[Tensor, "pair 2"]) -> Float[Tensor, "pair answer"]:
        """The logits at "="."""
        before, neurons = self._block(pairs)
        after: Tensor = self.residual(before + torch.addmm(self.from_mlp_bias, neurons.relu(), self.from_mlp))
        return after @ self.unembedding

    def _block(self, pairs: Int[Tensor, "pair 2"]) -> tuple[Float[Tensor, "pair width"], Float[Tensor, "pair unit"]]:
        """The residual stream at "=" after attention, and the neurons."""
        last = self.tokens[-1] + self.positions[2]
        before = last + self.heads(self._attention(pairs, last)) @ self.from_heads
        neurons: Tensor = self.mlp_in(torch.addmm(self.mlp_bias, before, self.into_mlp))
        return before, neurons

    def _attention(self, pairs: Int[Tensor, "pair 2"], last: Float[Tensor, " width"]) -> Float[Tensor, "pair width"]:
        """What the heads bring to "=", from one row for each thing that can stand at a place."""
        if len(pairs) < len(self.tokens) - 1:  # few pairs: a row for each of their numbers
            first, second = self.tokens[pairs[:, 0]], self.tokens[pairs[:, 1]]
            a = torch.arange(len(pairs), device=pairs.device)
            b = a + len(pairs)
        else:  # a row for each number at each place
            first = second = self.tokens[:-1]
            a, b = pairs[:, 0], pairs[:, 1] + len(first)
        rows = torch.cat([first + self.positions[0], second + self.positions[1], last[None]])
        query = (last @ self.to_query).unflatten(0, (HEADS, -1))  # (head, head width)
        asked = torch.einsum("whe,he->wh", self.to_key.unflatten(1, (HEADS, -1)), query) / math.sqrt(query.shape[1])
        scores, values = rows @ asked, (rows @ self.to_value).unflatten(1, (HEADS, -1))
        share = torch.stack([scores[a], scores[b], scores[-1].expand(len(a), -1)]).softmax(0)[..., None]
        mixed: Tensor = share[0] * values[a] + share[1] * values[b] + share[2] * values[-1]
        return mixed.flatten(1)

    def embedding(self) -> Float[Tensor, "p width"]:
        """What a number is to the model: its token's embedding."""
        return self.tokens[:-1]

    def readout(self) -> Float[Tensor, "p unit"]:
        """What each neuron says of each answer: (W_out W_U)'."""
        return (self.from_mlp @ self.unembedding).T


Adder = Linear | Perceptron | Transformer


def all_pairs(p: int) -> Int[Tensor, "pair 2"]:
    """All pairs of numbers below p, in order: pair (a, b) stands at place a p + b."""
    return torch.cartesian_prod(torch.arange(p), torch.arange(p))


def splits(source: Source, seed: int, *, p: int = P) -> Splits:
    """All pairs of numbers below p: a random part for training, a tenth for validation, the rest as the pool.

    Raises:
        ThalwegError: the user named a file; this task has no other stimuli than all pairs.
    """
    if source.path is not None:
        raise ThalwegError(f"{source.path}: the ladder 'addition' takes no data; its stimuli are all pairs below {p}")
    order = torch.randperm(p * p, generator=torch.Generator().manual_seed(seed))
    pairs = NumberPairs(all_pairs(p)[order], p)
    train = round(_fraction(p) * p * p)
    pool = train + round(VALIDATED * p * p)
    return Splits(pairs.take(slice(0, train)), pairs.take(slice(train, pool)), pairs.take(slice(pool, None)))


def _fraction(p: int) -> float:
    """Of all pairs, those trained on: 30 % as published, and 40 % for small p, where 30 % are too few to grok soon."""
    return 0.3 if p >= LARGE else 0.4


def evaluate(model: nn.Module, stimuli: NumberPairs, *, device: str = "cpu") -> dict[str, float]:
    """How well a model adds: `loss` (nats), `bits` above guessing, their `share` of all, and `accuracy`.

    bits = log2 p - loss / ln 2, for over all pairs every sum is as frequent as every other; share = bits / log2 p. The
    loss is computed in float64. A memoriser's bits on new pairs are negative.

    Raises:
        ThalwegError: logits that are not finite, or not of shape (pair, p).
    """
    found = strength.evaluate(model, stimuli, device=device)
    bits = math.log2(stimuli.p) - found["loss"] / math.log(2)
    return {**found, "bits": bits, strength.SHARE: bits / math.log2(stimuli.p)}


def over_all_pairs(model: Adder, p: int) -> tuple[Float[Tensor, "p p unit"], Float[Tensor, "p p answer"]]:
    """A model's neurons, before the rectifier, and its logits for all pairs, on the CPU."""
    pairs = all_pairs(p).to(next(model.parameters()).device)
    with torch.inference_mode():
        found = model.neurons(pairs), model(pairs)
    neurons, logits = (values.cpu().unflatten(0, (p, p)) for values in found)
    return neurons, logits


def progress(model: Adder, train: NumberPairs, keys: Sequence[int] | None = None) -> dict[str, float | int | str]:
    """How far a model has come, by the measures of `thalweg.fourier`; `keys` are the key frequencies to measure at.

    By default these are the model's own; for the checkpoints of one run they ought to be those of the last. Told are
    the `key_frequencies`, the `restricted_loss` (all pairs) and `excluded_loss` (training pairs) in nats, the
    `logit_variance_explained` at the key frequencies, the share of `neurons_at_one_frequency`, the Gini coefficients of
    the embedding's and the read-out's Fourier components, and the sum of squared weights.
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
            if grokked_at is None and _accuracy(model, validation) > GROKKED:
                grokked_at = epoch
            if self.until == "memorised" and float(loss) < MEMORISED:
                stopped = "every training pair is known by heart"
                break
            if self.until == "grokked" and grokked_at is not None and epoch >= grokked_at + self.clean_up:
                stopped = f"{self.clean_up} epochs after it grokked"
                break
        return _told(model, splits, epoch, stopped, grokked_at)

    def epochs(self, model: Adder, train: NumberPairs) -> Iterator[tuple[int, Tensor]]:
        """The number of epochs done and the training loss after them, from 0 to `most_epochs`, training in between."""
        device = next(model.parameters()).device
        pairs, sums = train.numbers.to(device), train.labels.to(device)
        optimiser = torch.optim.AdamW(
            model.parameters(), lr=self.learning_rate, betas=BETAS, weight_decay=self.weight_decay, fused=True
        )
        for epoch in range(self.most_epochs + 1):
            loss = nn.functional.cross_entropy(model(pairs), sums)
            if epoch % EVERY == 0 and not loss.isfinite():
                raise ThalwegError("the training loss became NaN or infinite; train with a smaller learning rate")
            yield epoch, loss.detach()
            if epoch == self.most_epochs:
                return
            for group in optimiser.param_groups:
                group["lr"] = self.learning_rate * min(1.0, (epoch + 1) / WARM_UP)
            optimiser.zero_grad(set_to_none=True)
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


def _told(
    model: Adder, splits: Splits, epochs: int, stopped: str, grokked_at: int | None, keys: Sequence[int] | None = None
) -> dict[str, float | int | str]:
    """What the tables say of a model after so many epochs."""
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


def course(
    model: nn.Module, splits: Splits, seed: int, checkpoints: Sequence[int], *, trainer: FullBatch
) -> Iterator[Told]:
    """Train a model to the last of some epochs, then go through its weights at each of them and say how far it had
    come.

    The training comes first because the key frequencies are those of the last weights.
    """
    assert isinstance(model, Adder)
    train, validation = _pairs(splits)
    kept, grokked_at = {}, None
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
        yield _told(model, splits, epoch, "checkpoint", reached, keys)


HIDDEN = Layer("mlp_in", nonlinearity=torch.relu)
BLOCK = (Layer("heads"), HIDDEN, Layer("residual"))
PERCEPTRONS = (16, 32, 64, 128, 256, 512)
# width: learning rate and weight decay. Narrow transformers bear less decay (at 5, width 8 learns nothing in 2,000
# epochs) and are trained faster, so that what they reach is what they can; width 64 is the setting known to grok.
TRANSFORMERS = {4: (3e-3, 1.0), 8: (3e-3, 1.0), 16: (3e-3, 2.0), 32: (3e-3, 3.0), 64: (1e-3, 5.0), 128: (1e-3, 5.0)}
CHECKPOINTS = (0, 30, 60, 100, 150, 200, 300, 400, 600, 1000, 1500, 2500)  # from memorising to clean-up, for p = 53

MEMORISING = FullBatch(learning_rate=1e-3, weight_decay=0.0, most_epochs=1000, until="memorised")


def _decay(p: int) -> float:
    """What the weight decay of p = 53 is multiplied by: 5 becomes the published 1."""
    return 0.2 if p >= LARGE else 1.0


def _epochs(p: int) -> int:
    """What the epochs of p = 53 are multiplied by: the published network was clean after 14,000."""
    return 8 if p >= LARGE else 1


def rungs(p: int) -> tuple[Rung, ...]:
    """The rungs for one p: linear, perceptrons and transformers, each by width.

    From p = 100 on, the transformer of width 128 with 512 neurons is trained as published.
    """
    decay, most = _decay(p), _epochs(p)

    def trained(rate: float, weight_decay: float, epochs: int) -> FullBatch:
        return FullBatch(rate, weight_decay * decay, epochs * most)

    # the linear model has nothing to learn but its pairs; only a strong decay keeps it from being sure and wrong
    found = [Rung("linear", "linear", partial(Linear, p), (Layer("logits"),), train=trained(1e-2, 30.0, 500))]
    for width in PERCEPTRONS:
        build, train = partial(Perceptron, p, width), trained(1e-2, 2.0, 2500)
        found.append(Rung(f"mlp-{width}", "fully connected", build, (HIDDEN,), width in (32, 128, 512), train))
    for width, (rate, weight_decay) in TRANSFORMERS.items():
        train = trained(rate, weight_decay, 2500 if width >= 64 else 1500)
        quick = width in (8, 32, 64)
        found.append(Rung(f"transformer-{width}", "transformer", _transformer(p, width), BLOCK, quick, train))
    return tuple(found)


def _transformer(p: int, width: int) -> Callable[[], nn.Module]:
    return partial(Transformer, p, width, 4 * width)


def checked(p: object) -> int:
    """A number that can be added modulo, whatever was given.

    Raises:
        ThalwegError: no whole number, not prime, or too small or too large; says which primes are near.
    """
    if isinstance(p, bool) or not isinstance(p, int):
        raise ThalwegError(f"addition modulo {p!r}: a whole number was expected, for example {P}")
    if not LEAST_P <= p <= MOST_P:
        found = "too small, it leaves fewer than 120 pairs for trials" if p < LEAST_P else "too large"
        raise ThalwegError(f"addition modulo {p}: {found}; a prime from {LEAST_P} to {MOST_P} was expected")
    if not _prime(p):
        near = [str(next(filter(_prime, range(p, start, step)))) for start, step in ((0, -1), (2 * p, 1))]
        raise ThalwegError(f"addition modulo {p}: {p} is not prime; the nearest primes are {' and '.join(near)}")
    return p


def _prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, math.isqrt(number) + 1))


def _name(stem: str, p: int) -> str:
    return stem if p == P else f"{stem}:{p}"


STRENGTH = "held-out bits above guessing, of log2 p"


def ladder(p: object) -> Ladder:
    """The ladder of models that add modulo p.

    For p = 53: 40 % of the pairs for training, and weight decay 5 for the transformer of width 64. From p = 100 on:
    30 %, a fifth of the weight decay, eight times the epochs, and the published transformer of width 128.

    Raises:
        ThalwegError: p is not a prime from 17 to 401.
    """
    prime = checked(p)
    return Ladder(
        name=_name("addition", prime),
        rungs=rungs(prime),
        splits=partial(splits, p=prime),
        description=f"addition modulo {prime}, from a linear model to transformers that grok",
        modality="pair",
        twins={"memorising": MEMORISING},
        evaluate=evaluate,
        strength=STRENGTH,
    )


def training_ladder(p: object) -> Ladder:
    """The checkpoints of one run of the transformer that groks: through memorising, the forming of the circuit and its
    clean-up.

    Raises:
        ThalwegError: p is not a prime from 17 to 401.
    """
    prime = checked(p)
    width = 64 if prime < LARGE else 128
    rate, weight_decay = TRANSFORMERS[width]
    epochs = [epoch * _epochs(prime) for epoch in CHECKPOINTS]
    trainer = FullBatch(rate, weight_decay * _decay(prime), epochs[-1])
    return Ladder(
        name=_name("addition-training", prime),
        rungs=tuple(
            Rung(f"epoch-{epoch}", "transformer", _transformer(prime, width), BLOCK, checkpoint=epoch)
            for epoch in epochs
        ),
        splits=partial(splits, p=prime),
        description=f"a transformer of width {width} while it learns to add modulo {prime}",
        modality="pair",
        course=partial(course, trainer=trainer),
        evaluate=evaluate,
        strength=STRENGTH,
    )


LADDER = ladder(P)
TRAINING = training_ladder(P)
