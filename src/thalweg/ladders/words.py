"""Text, from how often each token occurs to a transformer of four blocks; and the course of one transformer's training.

The discussion of the sketch is about language too: tiny transformers are said to be easy to read, tiny convnets hard.
The rungs are three kinds of model of the next token: bags of words, transformers with attention alone, and whole
transformers. Width, depth and the budget of training tokens are chosen together so that the rungs spread evenly over
what can be gained on this text in minutes: with the same budget for all, most attention-only rungs would end within a
few hundredths of a bit of the bigram model.

A unit's value is its value at the window's last token, so that the window is exactly what the unit saw. Its maximum
over tokens is an option; the first tokens are then left out, because maxima gather there, where a model knows least.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from thalweg.errors import ThalwegError
from thalweg.models.records import Ladder, Layer, Reduction, Rung
from thalweg.models.rerandomised import WITH_RERANDOMISED
from thalweg.networks.activations import gelu
from thalweg.networks.language import BagOfWords, Transformer, Unigram
from thalweg.stimuli import corpus, vocabulary
from thalweg.strength.language import evaluate
from thalweg.training.next_token import LanguageTrainer, train_checkpoints

VOCABULARY = vocabulary.ENTRIES
MOST = 64  # units measured of a layer
SKIP = 4  # tokens left out before a maximum: until then a window says little of what it is about
HEAD = 32  # width of a head; narrower models have one
L1 = 0.005  # of 64 hidden units 21 % are active after 300,000 tokens; 25 % at 0.003, 14 % at 0.01, which costs bits
COURSE_WIDTH, COURSE_BLOCKS = 128, 2
QUICK_TOKENS = 200_000  # checkpoints up to here are those of a quick survey
CHECKPOINTS = (0, 12_500, 25_000, 50_000, 100_000, 200_000, 400_000, 800_000, 1_600_000)


def ladder(length: int = corpus.LENGTH, *, reduction: Reduction = "last") -> Ladder:
    """The ladder with windows of this many tokens, and units' values at the last token or pooled over tokens.

    Raises:
        ThalwegError: windows too short for a next token, or for the pooling.
    """
    return Ladder(
        name=_name("words", length, reduction),
        rungs=_rungs(length, reduction),
        splits=partial(corpus.splits, length=length),
        description="the next token of English text, from token frequencies to transformers of four blocks",
        modality="text",
        controls=WITH_RERANDOMISED,
        evaluate=evaluate,
    )


def training_ladder(length: int = corpus.LENGTH, *, reduction: Reduction = "last") -> Ladder:
    """Stages of one transformer's training, at log-spaced numbers of tokens from none on.

    Raises:
        ThalwegError: windows too short for a next token, or for the pooling.
    """
    return Ladder(
        name=_name("words-training", length, reduction),
        rungs=tuple(_stage(tokens, length, reduction) for tokens in CHECKPOINTS),
        splits=partial(corpus.splits, length=length),
        description="one transformer of two blocks, from untrained to 1.6 million tokens",
        modality="text",
        checkpoint_trainer=partial(train_checkpoints, trainer=LanguageTrainer(learning_rate=1e-3)),
        evaluate=evaluate,
    )


def _name(name: str, length: int, reduction: Reduction) -> str:
    """The ladder's name, with the settings that differ from the defaults."""
    if length < 2:
        raise ThalwegError(
            f"ladder '{name}:{length}': the number is that of tokens in a window; at least 2 were expected"
        )
    if reduction != "last" and length <= SKIP:
        raise ThalwegError(
            f"windows have {length} tokens; the {reduction} leaves out {SKIP}, so more than that were expected"
        )
    return name + (f":{length}" if length != corpus.LENGTH else "") + (f"-{reduction}" if reduction != "last" else "")


def _rungs(length: int, reduction: Reduction) -> tuple[Rung, ...]:
    bag, model = partial(_bag, reduction), partial(transformer, length, reduction)
    return (
        _unigram(reduction, tokens=300_000),
        bag(16, tokens=200_000),
        bag(64, tokens=800_000, quick=False),
        bag(256, tokens=1_000_000, quick=False),
        model(8, tokens=250_000),
        model(16, tokens=400_000),
        model(32, tokens=600_000),
        model(64, tokens=900_000, quick=False),
        model(128, tokens=1_200_000, quick=False),
        model(256, tokens=1_200_000, quick=False),
        model(64, blocks=2, tokens=1_000_000, quick=False),
        model(128, blocks=2, tokens=1_200_000, quick=False),
        model(64, mlp=True, tokens=1_000_000),
        model(128, mlp=True, tokens=1_400_000, quick=False),
        model(128, blocks=2, mlp=True, tokens=2_000_000, quick=False),
        model(128, blocks=4, mlp=True, tokens=2_400_000, quick=False),
    )


def _unigram(reduction: Reduction, *, tokens: int) -> Rung:
    train = LanguageTrainer(tokens=tokens, learning_rate=0.1, batch_size=64)
    return Rung("unigram", "bag of words", partial(Unigram, VOCABULARY), (_layer("logits", reduction),), True, train)


def _bag(reduction: Reduction, width: int, *, tokens: int, quick: bool = True) -> Rung:
    train = LanguageTrainer(tokens=tokens, learning_rate=1e-2, l1=L1)
    layers = (_layer("hidden", reduction, torch.relu),)
    return Rung(f"bag-{width}", "bag of words", partial(BagOfWords, VOCABULARY, width), layers, quick, train)


def transformer(
    length: int,
    reduction: Reduction,
    width: int,
    *,
    tokens: int,
    blocks: int = 1,
    mlp: bool = False,
    quick: bool = True,
) -> Rung:
    """A rung: a transformer, with its training.

    Args:
        length: Tokens in a window.
        reduction: Which of a unit's values along a window is its value.
        width: Of the residual stream.
        tokens: That it is trained on.
        blocks: How many.
        mlp: Whether blocks have a perceptron beside attention.
        quick: Whether a quick survey takes it.
    """
    kind = "transformer" if mlp else "attention only"
    size = f"{blocks}x{width}" if mlp or blocks > 1 else f"{width}"
    train = LanguageTrainer(tokens=tokens, learning_rate=learning_rate(width))
    build = partial(_build, length, width, blocks, mlp)
    return Rung(f"{kind.split()[0]}-{size}", kind, build, _layers(blocks, mlp, reduction), quick, train)


def _stage(tokens: int, length: int, reduction: Reduction) -> Rung:
    """The transformer of the training ladder after so many tokens."""
    build = partial(_build, length, COURSE_WIDTH, COURSE_BLOCKS, True)
    layers = _layers(COURSE_BLOCKS, True, reduction)
    return Rung(f"after-{tokens}", "transformer", build, layers, tokens <= QUICK_TOKENS, checkpoint=tokens)


def _build(length: int, width: int, blocks: int, mlp: bool) -> Transformer:
    n_heads = max(1, width // HEAD)
    return Transformer(VOCABULARY, length, width, blocks=blocks, n_heads=n_heads, neurons=4 * width if mlp else 0)


def _layers(blocks: int, mlp: bool, reduction: Reduction) -> tuple[Layer, ...]:
    """Block by block: the heads' outputs, the neurons where there are any, the residual stream."""
    names = ("heads", "neurons", "residual") if mlp else ("heads", "residual")
    return tuple(
        _layer(f"blocks.{block}.{name}", reduction, gelu if name == "neurons" else None)
        for block in range(blocks)
        for name in names
    )


def _layer(name: str, reduction: Reduction, nonlinearity: Callable[[Tensor], Tensor] | None = None) -> Layer:
    return Layer(name, reduction, nonlinearity, unit_axis=2, skip=0 if reduction == "last" else SKIP, max_units=MOST)


def learning_rate(width: int) -> float:
    """Falls as one over the width, as the best of two or three tried at each of the widths 8, 32, 64 and 128 do."""
    return min(0.02, 0.2 / width)


LADDER = ladder()
TRAINING = training_ladder()
