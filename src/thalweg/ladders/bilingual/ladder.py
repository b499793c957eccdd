"""The ladders `bilingual` and `bilingual-wide`: transformers that learn one world from two artificial languages.

The question is whether the two words for a concept meet inside a network, and whether that depends on how strong it is.
Here every word's concept and every fact is known. See `world` for the languages, `lines` for what is trained on,
`training` for the twin whose languages describe two worlds, and `strength` for what strength is.
"""

from functools import partial

from torch import nn

from thalweg.ladders.bilingual.concepts import STREAM, concept_pairs
from thalweg.ladders.bilingual.edits import fact_requests
from thalweg.ladders.bilingual.goals import relation_goals
from thalweg.ladders.bilingual.lines import splits
from thalweg.ladders.bilingual.strength import STRENGTH, evaluate
from thalweg.ladders.bilingual.training import ValueTrainer
from thalweg.ladders.bilingual.world import LENGTH, Settings
from thalweg.models.records import Ladder, Layer, Rung
from thalweg.networks.activations import gelu
from thalweg.networks.language import Transformer

HEAD = 32  # width of a head; narrower models have one
MOST = 64  # units measured of a layer
TWO_WORLDS = "two-worlds"
DESCRIPTION = "facts of a small world, told in two artificial languages that share no word"
ON_TO = "`bilingual`, and on to four blocks of width 256: five minutes more for each training"
# blocks, width, and whether a quick survey takes it
RUNGS = (
    (1, 4, True),
    (1, 8, True),
    (1, 16, True),
    (1, 32, False),
    (2, 8, False),
    (2, 16, False),
    (2, 32, True),
    (2, 64, False),
)
WIDE = ((4, 128, False), (4, 256, False))  # training takes about 100 and 270 s of a core, of width 64 a few


def ladder(settings: Settings | None = None, *, wide: bool = False) -> Ladder:
    """The ladder of a world.

    Args:
        settings: The world's; by default the one that the ladder `bilingual` has.
        wide: Whether it goes on to four blocks of width 256, as `bilingual-wide`.

    Example:
        >>> from thalweg.ladders import bilingual
        >>> tiny = bilingual.ladder(bilingual.Settings(entities=20, relations=2))
        >>> tiny.rungs[0].name
        'transformer-1x4'
    """
    world = settings or Settings()
    return Ladder(
        name="bilingual-wide" if wide else "bilingual",
        rungs=tuple(_rung(world, *rung) for rung in (*RUNGS, *(WIDE if wide else ()))),
        splits=partial(splits, settings=world),
        description=ON_TO if wide else DESCRIPTION,
        modality="text",
        train=ValueTrainer(world),
        twins={TWO_WORLDS: ValueTrainer(world, two_worlds=True)},
        evaluate=partial(evaluate, settings=world),
        strength=STRENGTH,
        observer="tokens",
        concepts=partial(concept_pairs, world),
        edits=partial(fact_requests, world),
        goals=partial(relation_goals, world) if world.relations > 1 else None,
        concept_layers=(STREAM,),
    )


def _rung(settings: Settings, blocks: int, width: int, quick: bool) -> Rung:
    layers = tuple(
        Layer(f"blocks.{block}.{name}", "last", gelu if name == "neurons" else None, unit_axis=2, max_units=MOST)
        for block in range(blocks)
        for name in ("neurons", "residual")
    )
    build = partial(_build, settings.tokens, width, blocks)
    return Rung(f"transformer-{blocks}x{width}", "transformer", build, layers, quick)


def _build(vocabulary: int, width: int, blocks: int) -> nn.Module:
    n_heads = max(1, width // HEAD)
    return Transformer(vocabulary, LENGTH, width, blocks=blocks, n_heads=n_heads, neurons=4 * width)


LADDER = ladder()
WIDE_LADDER = ladder(wide=True)
