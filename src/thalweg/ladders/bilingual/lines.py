"""All lines that a world can be described by, and those that networks are trained and tested on.

The lines of a world are finite, and all are listed. Those that state a fact in the language that never states it are
for the pool alone; of the others a twentieth is for validation and a tenth for the pool, and never trained on;
dictionary lines are all trained on. Training lines are drawn with replacement from what is left, so that each kind of
line, each language and each form of sentence has its share.
"""

from dataclasses import replace
from itertools import product

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from thalweg.errors import ThalwegError
from thalweg.ladders.bilingual.world import FORM_SHARES, FORMS, LANGUAGES, Language, Lines, Settings, World, make_world
from thalweg.ladders.bilingual.world import other_than as other
from thalweg.stimuli.base import Source, Splits
from thalweg.stimuli.windows import Vocabulary, Windows

VALIDATION, POOL = 0.05, 0.1  # of the lines that could be trained on
MOST_POOL = {"known": 600, "carried": 800, "switched": 400}  # lines of each kind; the first two divided over A and B
LABELS = ("A", "B", "A, known from B", "B, known from A", "switched A", "switched B", "dictionary A", "dictionary B")
CARRIED = (2, 3)  # the labels of facts that are asked in the language that never stated them
PATTERNS = tuple(pattern for pattern in product((False, True), repeat=3) if any(pattern))  # entity, relation, value


def all_lines(world: World) -> Lines:
    """Every sentence of both languages, whatever it is for; every code-switched sentence; every dictionary line."""
    sentences = [
        _sentences(world, language, form, pattern)
        for language in LANGUAGES
        for form in range(len(FORMS[language]))
        for pattern in ((False, False, False), *PATTERNS)
    ]
    return _concatenated([*sentences, *(_dictionary(world, language) for language in LANGUAGES)])


def _sentences(world: World, language: Language, form: int, pattern: tuple[bool, ...]) -> Lines:
    """Those of one form; where words are switched, of the facts that both languages state."""
    switched = any(pattern)
    entity, relation = torch.nonzero((world.seen == 2) | torch.tensor(not switched), as_tuple=True)
    value_language = other(language) if pattern[2] else language
    count = len(entity)
    return Lines(
        world.sentences(entity, relation, language, form, switched=pattern[:2]),
        torch.as_tensor(world.value(relation, world.values[entity, relation], value_language)),
        torch.full((count,), LANGUAGES.index(language)),
        entity * world.settings.relations + relation,
        torch.full((count,), switched),
        torch.full((count,), form),
    )


def _dictionary(world: World, language: Language) -> Lines:
    """The lines that translate each word of a language into the other."""
    concepts = torch.arange(world.settings.concepts)
    word, translation = (world.entity(concepts, each) for each in (language, other(language)))
    particles = [world.particle(name, language) for name in ("stop", "means", "in_words")]
    columns = [*particles, world.particle("in_words", other(language))]
    stop, means, in_words, target = (torch.full_like(concepts, token) for token in columns)
    return Lines(
        torch.stack([stop, torch.as_tensor(word), means, in_words, target], 1),
        torch.as_tensor(translation),
        torch.full_like(concepts, LANGUAGES.index(language)),
        torch.full_like(concepts, -1),
        torch.zeros(len(concepts), dtype=torch.bool),
        torch.full_like(concepts, -1),
    )


def _concatenated(parts: list[Lines]) -> Lines:
    names = ("tokens", "value", "language", "fact", "switched", "form")
    return Lines(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


def labels(world: World, lines: Lines) -> Int[Tensor, " line"]:
    """What each line is, as an index into `LABELS`."""
    seen = torch.where(lines.fact >= 0, world.seen.flatten()[lines.fact.clamp_min(0)], 2)
    carried = (seen < 2) & (seen != lines.language)
    kind = torch.where(lines.fact < 0, 3, torch.where(lines.switched, 2, carried.long()))
    return 2 * kind + lines.language


def splits(source: Source, seed: int, *, settings: Settings | None = None) -> Splits:
    """The training, validation and pool lines of a world.

    Raises:
        ThalwegError: A file was named: the world is made here.
    """
    if source.path is not None:
        raise ThalwegError(f"the ladder bilingual makes its own stimuli, and {source.path} was named; leave out --data")
    world = make_world(settings, seed=seed)
    lines = all_lines(world)
    kinds = labels(world, lines)
    generator = np.random.default_rng([seed, 20])
    part = torch.from_numpy(generator.random(len(lines)))
    carried = (kinds // 2) == 1
    dictionary = kinds >= 6
    reserved = ~carried & ~dictionary
    in_pool, in_validation = reserved & (part < POOL), reserved & (part >= POOL) & (part < POOL + VALIDATION)
    trained = torch.nonzero(~carried & ~(in_pool | in_validation)).flatten()
    probability = _probabilities(world.settings, lines.take(trained), kinds[trained]).numpy()
    drawn = trained[torch.from_numpy(generator.choice(len(trained), world.settings.lines, p=probability))]
    pool = torch.nonzero(in_pool | carried).flatten()
    pool = pool[_chosen(kinds[pool], generator)]
    counts = torch.cat([lines.tokens[drawn, 1:].flatten(), lines.value[drawn]]).bincount(minlength=len(world))
    vocabulary = Vocabulary(tuple(word.encode() for word in world.words), counts, _topics(world))
    train, validation, tested = (
        _windows(world, lines.take(each), kinds[each], vocabulary)
        for each in (drawn, torch.nonzero(in_validation).flatten(), pool)
    )
    return Splits(train, validation, replace(tested, notes=(_note(world, len(tested)),)))


def _note(world: World, count: int) -> str:
    settings = world.settings
    return (
        f"a world of {settings.entities} entities, {settings.relations} relations and {settings.facts:,} facts in two "
        f"languages; {settings.lines:,} training lines, {count:,} in the pool"
    )


def _probabilities(settings: Settings, lines: Lines, kinds: Int[Tensor, " line"]) -> Float[Tensor, " line"]:
    """How likely each line is to be drawn: by kind, language and form, and evenly within these."""
    alone = 1 - settings.switched - settings.dictionary
    kind = torch.tensor([alone, 0.0, settings.switched, settings.dictionary], dtype=torch.float64)[kinds // 2]
    language = torch.tensor([settings.mixture, 1 - settings.mixture], dtype=torch.float64)[lines.language]
    form = torch.tensor([*FORM_SHARES, 1.0], dtype=torch.float64)[lines.form]
    group = (kinds * 4 + lines.form).long() + 1
    weight = kind * language * form / group.bincount()[group]
    return weight / weight.sum()


def _chosen(kinds: Int[Tensor, " line"], generator: np.random.Generator) -> Int[Tensor, " chosen"]:
    """At most so many lines of each kind, drawn at random, in their order."""
    kept = []
    for label in kinds.unique().tolist():
        ids = torch.nonzero(kinds == label).flatten().numpy()
        most = [*MOST_POOL.values()][label // 2] // 2
        kept.append(generator.permutation(ids)[:most])
    return torch.from_numpy(np.sort(np.concatenate(kept)))


def _windows(world: World, lines: Lines, kinds: Int[Tensor, " line"], vocabulary: Vocabulary) -> Windows:
    """Lines as windows of text; a document is a fact, so no fact feeds both halves of the pool."""
    dictionary = world.settings.facts + lines.tokens[:, 1]
    documents = torch.where(lines.fact < 0, dictionary, lines.fact)
    return Windows(lines.tokens.int(), lines.value, documents, kinds, LABELS, vocabulary)


def _topics(world: World) -> Float[Tensor, "topic token"]:
    """What a line can be about, as the token weights of topics: each relation with its values, in both languages."""
    settings = world.settings
    topics = torch.zeros(settings.relations, len(world))
    for relation in range(settings.relations):
        for language in LANGUAGES:
            topics[relation, int(world.relation(relation, language))] = 1.0
            topics[relation, world.candidates(relation, language)] = 1.0
    return topics
