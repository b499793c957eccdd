"""Made-up documents about four subjects."""

import random
import re
from functools import cache

from thalweg.stimuli.documents import Document, join

SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]


def planted(count: int, *, words: int = 900, seed: int = 0, tagged: bool = False) -> list[Document]:
    """Documents of made-up words, capitalised and with punctuation, each with words of one of four subjects."""
    return list(_planted(count, words, seed, tagged))


@cache
def _planted(count: int, words: int, seed: int, tagged: bool) -> tuple[Document, ...]:
    chance = random.Random(seed)
    vocabulary = ["".join(chance.choices(SYLLABLES, k=chance.randint(1, 4))) for _ in range(400)]
    documents = []
    for number in range(count):
        subject = number % 4
        said = [
            chance.choice(vocabulary if chance.random() < 0.6 else vocabulary[50 * subject : 50 * subject + 50])
            for _ in range(words)
        ]
        if tagged:
            said = [word + chance.choice([",", ".", "", ""]) for word in said]
            said = [part for word in said for part in re.findall(r"\w+|[.,]", word)]
            text, ends = join(said)
            tags = tuple(f"{part[0]}-{len(part)}" for part in said)  # what a word's tag is can be told from the word
            documents.append(Document(f"document {number}", text, f"kind {subject}", tags, tuple(ends)))
        else:
            text = " ".join(said[:10]) + "\n" + ", ".join(said[10:200]) + ".\n" + " ".join(said[200:]).capitalize()
            documents.append(Document(f"document {number}", text, f"kind {subject}"))
    return tuple(documents)
