"""Networks that are trained to be read, beside ordinary ones of the same shape: do they stand higher at equal strength?

The sketch's right arm may need models that are made for it. Four kinds share the stimuli, the shapes and the budget of
training: *dense* networks as in the ladders `mnist` and `words`; softmax linear units, which compete within a layer;
sparse weights, of which the largest tenth stays, from the start; sparse activations, by a penalty on what the
rectifiers pass on.
Softmax linear units are measured after they competed, all other units before their activation function.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from thalweg.ladders import mnist, words
from thalweg.models.records import Ladder, Layer, Rung
from thalweg.networks.activations import gelu, softmax_linear
from thalweg.networks.language import Transformer
from thalweg.networks.vision import fully_connected, hidden_layers
from thalweg.stimuli import corpus
from thalweg.strength.language import evaluate
from thalweg.training.classifier import Classifier
from thalweg.training.next_token import LanguageTrainer
from thalweg.training.sparsity import Network, sparse_from_start

DENSE, SOFT, WEIGHTS, ACTIVATIONS = "dense", "softmax linear", "sparse weights", "sparse activations"
KEPT = 0.1  # of the weights of each map
L1 = 0.01  # of 64 units on digits 29 % are active on a digit then, of 256 on each of two layers 2 and 27 %
WIDTHS = ((16,), (64,), (256,), (64, 64), (256, 256))
QUICK_WIDTHS = ((16,), (64,))
TOKENS = 1_000_000


def _started(kind: str, build: Callable[[], Network]) -> Callable[[], Network]:
    """How a network of a kind is built: one of sparse weights has no more of them when it starts."""
    return partial(sparse_from_start, build, KEPT) if kind == WEIGHTS else build


def _digits(kind: str, widths: tuple[int, ...]) -> Rung:
    trainers = {WEIGHTS: Classifier(kept_weights=KEPT), ACTIVATIONS: Classifier(l1=L1)}
    build = _started(kind, partial(fully_connected, *widths, soft=kind == SOFT))
    name = f"{kind.replace(' ', '-')}-{'-'.join(map(str, widths))}"
    return Rung(name, kind, build, hidden_layers(build), widths in QUICK_WIDTHS, trainers.get(kind))


def _rectifier(_width: int) -> nn.ReLU:
    return nn.ReLU()


ACTIVATION_OF: dict[str, Callable[[int], nn.Module]] = {SOFT: softmax_linear, ACTIVATIONS: _rectifier}


def _text(kind: str, width: int) -> Rung:
    train = LanguageTrainer(
        tokens=TOKENS,
        learning_rate=words.learning_rate(width),
        l1=words.L1 if kind == ACTIVATIONS else 0.0,
        kept_weights=KEPT if kind == WEIGHTS else 1.0,
    )
    dense = partial(
        Transformer,
        words.VOCABULARY,
        corpus.LENGTH,
        width,
        n_heads=max(1, width // words.HEAD),
        neurons=4 * width,
        activation=ACTIVATION_OF.get(kind),
    )
    passed_on = {SOFT: None, ACTIVATIONS: torch.relu}.get(kind, gelu)
    name = "blocks.0.activation.0" if kind == SOFT else "blocks.0.neurons"
    layer = Layer(name, "last", passed_on, unit_axis=2, max_units=words.MOST)
    return Rung(f"{kind.replace(' ', '-')}-{width}", kind, _started(kind, dense), (layer,), width == 32, train)


KINDS = (DENSE, SOFT, WEIGHTS, ACTIVATIONS)
DIGITS = Ladder(
    name="mnist-readable",
    rungs=tuple(_digits(kind, widths) for widths in WIDTHS for kind in KINDS),
    splits=mnist.splits,
    train=Classifier(),
    description="perceptrons trained to be read (softmax linear units, sparse weights or activations), and dense ones",
)
TEXT = Ladder(
    name="words-readable",
    rungs=tuple(_text(kind, width) for width in (16, 32, 64, 128) for kind in KINDS),
    splits=corpus.splits,
    description="the neurons of transformers of one block trained to be read, and of dense ones",
    modality="text",
    evaluate=evaluate,
)
