"""A small world with known facts, and two artificial languages that describe it.

The world has entities and relations. Each entity has one value under each relation, drawn independently and uniformly,
so that no fact follows from others. A *concept* is an entity, a relation or a value; it has one word in each language.

Language A puts the entity first and marks it by a particle behind it; language B puts the relation first and marks
words by particles before them. The particle of an entity agrees with its gender, of which A has two and B three, drawn
for each language by itself. Each language has its own sounds, so that no word form is shared, not even the full stop.
Every sentence has four words before the value, which comes last; three forms of sentence in each language say the
same, so every fact has two perfect paraphrases.

There are four kinds of line: sentences of A, sentences of B, *code-switched* sentences (the particles and the order of
one language, with one to three of the content words from the other), and *dictionary* lines, which translate one word.
Some facts are stated in sentences of A alone, some in sentences of B alone, all others in both and in code-switched
sentences. A network that gives the value of a fact in the language that never stated it has carried it across.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from thalweg.errors import ThalwegError

Language = Literal["A", "B"]
LANGUAGES: tuple[Language, Language] = ("A", "B")
SOUNDS = {"A": ("kptmnl", "aou"), "B": ("gbdvzr", "eiy")}  # consonants and vowels
PARTICLES = {
    "A": ("stop", "male", "female", "has", "of", "as_for", "means", "in_words"),
    "B": ("stop", "attribute", "animal", "plant", "thing", "topic", "is", "means", "in_words"),
}
GENDERS = {"A": ("male", "female"), "B": ("animal", "plant", "thing")}
# Places: E the entity, R the relation, G the particle of the entity's gender; the usual form first.
FORMS: dict[Language, tuple[tuple[str, ...], ...]] = {
    "A": (("E", "G", "R", "has"), ("R", "of", "E", "G"), ("as_for", "E", "R", "has")),
    "B": (("attribute", "R", "G", "E"), ("G", "E", "attribute", "R"), ("topic", "R", "E", "is")),
}
FORM_SHARES = (0.6, 0.2, 0.2)
LENGTH = 5  # tokens before a value: the full stop of the sentence before, and four words
WORD_SYLLABLES = {"entity": 3, "relation": 4, "value": 2, "particle": 1}  # differ, so that no two words are the same
SEEN = ("A", "B", "both")


@dataclass(frozen=True)
class Settings:
    """How large a world is, and how it is talked about.

    Attributes:
        entities: How many there are.
        relations: How many there are; each entity has one value under each.
        values: How many different values each relation has; those of two relations differ.
        held_out: The share of the facts that only sentences of A state; as many are stated by sentences of B alone.
        mixture: The share of language A.
        switched: The share of code-switched lines.
        dictionary: The share of dictionary lines.
        lines: How many training lines are drawn.

    Raises:
        ThalwegError: A number out of its range.

    Example:
        >>> from thalweg.ladders.bilingual import Settings
        >>> Settings(entities=20, relations=3, values=4).facts
        60
    """

    entities: int = 160
    relations: int = 4
    values: int = 8
    held_out: float = 0.15
    mixture: float = 0.5
    switched: float = 0.4
    dictionary: float = 0.1
    lines: int = 40_000

    def __post_init__(self) -> None:
        for name, least, most in (("entities", 4, 200), ("relations", 1, 60), ("values", 2, 300), ("lines", 1, 10**8)):
            if not least <= getattr(self, name) <= most:
                raise ThalwegError(f"{name} is {getattr(self, name)}; a number from {least} to {most} was expected")
        if self.relations * self.values > 300:
            raise ThalwegError(f"{self.relations} relations of {self.values} values; at most 300 in all were expected")
        for name in ("held_out", "mixture", "switched", "dictionary"):
            if not 0 <= getattr(self, name) <= 1:
                raise ThalwegError(f"{name} is {getattr(self, name)}; a share from 0 to 1 was expected")
        if self.held_out > 0.45 or self.switched + self.dictionary >= 1:
            raise ThalwegError(
                "held_out of at most 0.45, and shares of switched and dictionary lines that leave some for sentences "
                f"of one language, were expected; got {self.held_out}, {self.switched} and {self.dictionary}"
            )

    @property
    def facts(self) -> int:
        """How many facts there are."""
        return self.entities * self.relations

    @property
    def concepts(self) -> int:
        """How many concepts there are: entities, relations and values."""
        return self.entities + self.relations * (1 + self.values)

    @property
    def tokens(self) -> int:
        """How many words both languages have together."""
        return sum(map(len, PARTICLES.values())) + 2 * self.concepts


@dataclass(frozen=True)
class Fact:
    """One fact, and by which sentences it is stated.

    Attributes:
        entity: Its index.
        relation: Its index.
        value: Its index among the values of the relation.
        seen: `A` or `B`, if sentences of that language alone state it, or `both`.
    """

    entity: int
    relation: int
    value: int
    seen: str


@dataclass(frozen=True, eq=False)
class Lines:
    """Lines of text as tokens.

    Attributes:
        tokens: (line, 5): the full stop before it, and four words.
        value: (line), the token that follows.
        language: (line), 0 for A and 1 for B: whose particles and order it has.
        fact: (line), the fact as entity * relations + relation, or -1 in a dictionary.
        switched: (line), whether content words are of the other language.
        form: (line), the form of the sentence, or -1 in a dictionary.
    """

    tokens: Int[Tensor, "line 5"]
    value: Int[Tensor, " line"]
    language: Int[Tensor, " line"]
    fact: Int[Tensor, " line"]
    switched: Bool[Tensor, " line"]
    form: Int[Tensor, " line"]

    def __len__(self) -> int:
        return len(self.tokens)

    def take(self, which: Tensor) -> "Lines":
        """The lines at these places."""
        parts = (self.tokens, self.value, self.language, self.fact, self.switched, self.form)
        return Lines(*(part[which] for part in parts))


@dataclass(frozen=True, eq=False)
class World:
    """Entities, relations and values, the facts about them, and their words. `make_world` draws one.

    Tokens are numbered in this order: particles of A, particles of B, then for A and again for B its entities, its
    relations, and its values, relation by relation.

    Attributes:
        settings: Its size.
        values: (entity, relation), the value's index among those of its relation.
        seen: (entity, relation), 0 where sentences of A alone state the fact, 1 for B, 2 for both.
        genders: (language, entity), an index into the language's genders.
        words: Each token's word, with a space behind it.
    """

    settings: Settings
    values: Int[Tensor, "entity relation"]
    seen: Int[Tensor, "entity relation"]
    genders: Int[Tensor, "language entity"]
    words: tuple[str, ...]

    def __len__(self) -> int:
        """The number of tokens."""
        return len(self.words)

    @cached_property
    def facts(self) -> tuple[Fact, ...]:
        """All facts, entity by entity."""
        pairs = product(range(self.settings.entities), range(self.settings.relations))
        return tuple(Fact(e, r, int(self.values[e, r]), SEEN[int(self.seen[e, r])]) for e, r in pairs)

    def particle(self, name: str, language: Language) -> int:
        """The token of a particle."""
        return _before(language) + PARTICLES[language].index(name)

    def entity(self, entity: int | Tensor, language: Language) -> int | Tensor:
        """The token of an entity, or of several."""
        return self._content(language) + entity

    def relation(self, relation: int | Tensor, language: Language) -> int | Tensor:
        """The token of a relation, or of several."""
        return self._content(language) + self.settings.entities + relation

    def value(self, relation: int | Tensor, value: int | Tensor, language: Language) -> int | Tensor:
        """The token of a relation's value, or of several."""
        start = self._content(language) + self.settings.entities + self.settings.relations
        return start + relation * self.settings.values + value

    def candidates(self, relation: int, language: Language) -> Int[Tensor, " value"]:
        """The tokens of all values of a relation."""
        start = self.value(relation, 0, language)
        return torch.arange(int(start), int(start) + self.settings.values)

    def prompt(self, fact: Fact, language: Language, form: int = 0) -> Int[Tensor, " 5"]:
        """The beginning of a sentence that states a fact, up to its value.

        Args:
            fact: Of which only the entity and the relation are read.
            language: The sentence's.
            form: 0 for the usual form, 1 and 2 for its paraphrases.
        """
        entity, relation = torch.tensor([fact.entity]), torch.tensor([fact.relation])
        return self.sentences(entity, relation, language, form)[0]

    def paraphrases(self, fact: Fact, language: Language) -> Int[Tensor, "form 5"]:
        """The other forms of a fact's prompt: they mean the same."""
        return torch.stack([self.prompt(fact, language, form) for form in range(1, len(FORMS[language]))])

    def neighbourhood(self, fact: Fact, count: int = 10) -> tuple[Fact, ...]:
        """Facts of the same relation about other entities that have the same value, and were stated in both languages.
        At most so many; the nearest entities by number first.
        """
        same = [other for other in self.facts if other.relation == fact.relation and other.value == fact.value]
        others = [other for other in same if other.entity != fact.entity and other.seen == "both"]
        return tuple(sorted(others, key=lambda other: abs(other.entity - fact.entity))[:count])

    def answer(self, fact: Fact, language: Language) -> int:
        """The token of a fact's value."""
        return int(self.value(fact.relation, fact.value, language))

    def subject_place(self, language: Language, form: int = 0) -> int:
        """Where the entity stands in a prompt; the full stop stands at 0."""
        return 1 + FORMS[language][form].index("E")

    def relation_place(self, language: Language, form: int = 0) -> int:
        """Where the relation stands in a prompt."""
        return 1 + FORMS[language][form].index("R")

    def text(self, tokens: Tensor | Sequence[int]) -> str:
        """Tokens as text."""
        return "".join(self.words[int(token)] for token in tokens).strip()

    def sentences(
        self,
        entity: Int[Tensor, " line"],
        relation: Int[Tensor, " line"],
        language: Language,
        form: int,
        *,
        switched: Sequence[bool] = (False, False),
    ) -> Int[Tensor, "line 5"]:
        """Sentences of one form up to their values; `switched` says whether entity and relation are of the other
        language.
        """
        words = [other_than(language) if switch else language for switch in switched]
        first = _before(language) + PARTICLES[language].index(GENDERS[language][0])
        columns = {
            "E": torch.as_tensor(self.entity(entity, words[0])),
            "R": torch.as_tensor(self.relation(relation, words[1])),
            "G": first + self.genders[LANGUAGES.index(language)][entity],
        }
        places = ("stop", *FORMS[language][form])
        return torch.stack(
            [columns[place] if place in columns else self._everywhere(place, language, entity) for place in places], 1
        )

    def _everywhere(self, particle: str, language: Language, like: Tensor) -> Tensor:
        return torch.full_like(like, self.particle(particle, language))

    def _content(self, language: Language) -> int:
        return sum(map(len, PARTICLES.values())) + LANGUAGES.index(language) * self.settings.concepts


def other_than(language: Language) -> Language:
    """The other language."""
    return "B" if language == "A" else "A"


def _before(language: Language) -> int:
    """The first particle of a language."""
    return 0 if language == "A" else len(PARTICLES["A"])


def make_world(settings: Settings | None = None, *, seed: int = 0) -> World:
    """The world of these settings and this seed, always the same.

    Args:
        settings: Its size; by default that of the ladder `bilingual`.
        seed: The run's.

    Example:
        >>> from thalweg.ladders.bilingual import make_world
        >>> world = make_world(seed=0)
        >>> fact = world.facts[0]
        >>> len(world.text(world.prompt(fact, "A")).split()), len(world.paraphrases(fact, "B"))
        (5, 2)
    """
    settings = settings or Settings()
    generator = np.random.default_rng([seed, 19])
    shape = (settings.entities, settings.relations)
    values = generator.integers(settings.values, size=shape)
    alone = round(settings.held_out * settings.facts)
    seen = np.full(settings.facts, 2)
    order = generator.permutation(settings.facts)
    seen[order[:alone]], seen[order[alone : 2 * alone]] = 0, 1
    genders = np.stack([generator.integers(len(GENDERS[language]), size=settings.entities) for language in LANGUAGES])
    words = tuple(word for part in _words(settings, generator) for word in part)
    values_of, seen_in, gender = map(torch.from_numpy, (values, seen.reshape(shape), genders))
    return World(settings, values_of, seen_in, gender, words)


def _words(settings: Settings, generator: np.random.Generator) -> list[list[str]]:
    """The words in the order of the tokens."""
    particles = [_drawn(language, "particle", len(PARTICLES[language]), generator) for language in LANGUAGES]
    content = []
    for language in LANGUAGES:
        content.append(_drawn(language, "entity", settings.entities, generator))
        content.append(_drawn(language, "relation", settings.relations, generator))
        content.append(_drawn(language, "value", settings.relations * settings.values, generator))
    return [*particles, *content]


def _drawn(language: str, kind: str, count: int, generator: np.random.Generator) -> list[str]:
    """So many different words of one kind."""
    syllables = ["".join(pair) for pair in product(*SOUNDS[language])]
    length = WORD_SYLLABLES[kind]
    numbers = generator.choice(len(syllables) ** length, size=count, replace=False)
    digits = [np.unravel_index(number, (len(syllables),) * length) for number in numbers]
    return ["".join(syllables[digit] for digit in word) + " " for word in digits]
