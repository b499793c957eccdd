"""The names of the features that observers choose from.

An observer's dictionary is a table of numbers. Here each column gets the words that a person reads: which token at
which place, which direction of edges where, which wave. They follow how `observers/` makes the table.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from thalweg.observers.base import OBSERVERS, Features, Observer
from thalweg.observers.embedding import named_features, varying
from thalweg.observers.images import DEEP_BLOCKS, LITE2_BLOCKS
from thalweg.observers.texts import FEWEST, RARE, distinctive, endings

Names = list[str]
OF_A_TOPIC = 4  # tokens that a topic is called by
CHANNELS = {"deep": (40, 112, 320), "lite2": (48, 120, 352), "vgg": (128, 256, 512, 512)}
BLOCKS = {"deep": DEEP_BLOCKS, "lite2": LITE2_BLOCKS, "vgg": (2, 3, 4, 5)}
NETWORKS = {"deep": "EfficientNet-Lite0", "lite2": "EfficientNet-Lite2", "vgg": "VGG16"}
LOW_LEVEL = {
    "image": ("mean of channel {}", "contrast of channel {}", "gradient across", "gradient down"),
    "text": (
        "log-frequency of the last token",
        "length",
        "share of capitals",
        "share of digits",
        "share of punctuation",
    ),
    "pair": ("a", "b"),
}


def feature_names(observer: Observer, seen: Mapping[str, Features], pool: Any) -> Names:
    """The names of the features of an observer's dictionary, those that vary over the pool; a feature whose meaning is
    not known has its number.
    """
    names: Names = []
    for part in observer.parts or (observer.name,):
        count = seen[part].get("dictionary", seen[part]["features"]).shape[1]
        made = MAKERS[part](pool) if part in MAKERS and part in OBSERVERS else []
        names += made if len(made) == count else [f"{part}: feature {index}" for index in range(count)]
    if observer.names_classes:
        names += [f"the class is {name}" for name in pool.label_names]
        for tag, (_, values) in getattr(pool, "tags", {}).items():
            names += [f"the {tag} is {value}" for value in values]
    table = named_features(observer, seen, pool)
    names += [f"feature {index}" for index in range(len(names), table.shape[1])]
    kept = varying(table)
    return [names[index] for index in kept.nonzero().flatten().tolist()] or ["nothing"]


def _hog(pool: Any) -> Names:
    """Blocks of two by two cells, each of nine directions, from the top left."""
    height, width = pool.pixels.shape[2:] if hasattr(pool, "pixels") else (4, 4)
    down, across = (size // max(1, size // 4) - 1 for size in (height, width))
    return [
        f"gradients at {20 * angle + 10}° in row {row + y + 1}, column {column + x + 1} of four by four cells"
        for row in range(down)
        for column in range(across)
        for y in range(2)
        for x in range(2)
        for angle in range(9)
    ]


def _channels(which: str) -> Callable[[Any], Names]:
    def names(_pool: Any) -> Names:
        return [
            f"channel {channel} after block {block} of {NETWORKS[which]}"
            for block, count in zip(BLOCKS[which], CHANNELS[which], strict=True)
            for channel in range(count)
        ]

    return names


def _trivial(pool: Any) -> Names:
    modality = pool.modality if isinstance(pool.modality, str) else pool.modality.name
    count = pool.take(torch.arange(min(2, len(pool)))).low_level().shape[1]
    named = list(LOW_LEVEL.get(modality, ()))
    if modality == "image":
        channels = range(1, (count - 2) // 2 + 1)
        named = [text.format(channel) for text in named[:2] for channel in channels] + named[2:]
    named = named if len(named) == count else [f"low-level statistic {index}" for index in range(count)]
    return [*named, *(f"{name}, squared" for name in named)]


def token(pool: Any, index: int) -> str:
    """A token as a reader sees it."""
    piece: bytes = pool.vocabulary.pieces[index]
    return f"“{piece.decode('utf-8', 'replace')}”"


def _suffix(pool: Any) -> Names:
    enough = max(FEWEST, RARE * len(pool))
    return [
        f"{token(pool, index)} is the last token"
        if place == 0
        else f"{token(pool, index)} {place} before the last token"
        for place, tokens in enumerate(endings(pool).T)
        for index in (tokens.bincount() >= enough).nonzero().flatten().tolist()
    ]


def _recent(pool: Any) -> Names:
    named = distinctive(pool.vocabulary, pool.length).tolist()
    return [f"{token(pool, index)} anywhere" for index in named]


def _sentence(pool: Any) -> Names:
    """Topics are called by the tokens that belong to them most, against how often these occur."""
    topics = pool.vocabulary.topics.float()
    belongs = topics / topics.sum(0).clamp_min(1e-12) * topics.sqrt()
    best = belongs.topk(min(OF_A_TOPIC, belongs.shape[1]), 1).indices.tolist()
    return [f"the topic of {', '.join(token(pool, index) for index in words)}" for words in best]


def _fourier(pool: Any) -> Names:
    turns = range(1, (pool.p + 1) // 2)
    return [
        f"{wave} of {k} turns of {x}"
        for wave in ("cosine", "sine")
        for x in ("a", "b", "a + b", "a − b")
        for k in turns
    ]


def _numbers(pool: Any) -> Names:
    return [f"{which} is near {pool.p / 16 * step:.0f}" for which in ("a", "b") for step in range(17)]


MAKERS: dict[str, Callable[[Any], Names]] = {
    "hog": _hog,
    **{which: _channels(which) for which in CHANNELS},
    "trivial": _trivial,
    "suffix": _suffix,
    "recent": _recent,
    "sentence": _sentence,
    "topics": lambda pool: _sentence(pool) + _recent(pool),
    "fourier": _fourier,
    "numbers": _numbers,
}
