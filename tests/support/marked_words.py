"""Texts of made-up words, networks whose units respond to known words, and readers that know them or do not."""

import random
import re
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from thalweg import Ladder, Layer, Observer, Rung, Source, Splits, Windows
from thalweg.stimuli.windows import Vocabulary

UNITS, WORDS, LENGTH = 6, 72, 8
GROUP = 5  # words to which a unit responds
NAMES = tuple(
    f"{a}{b}{c}" for a in "bdk" for b in ("ar", "el", "os", "um") for c in ("do", "mi", "pa", "ri", "su", "ta")
)


@cache
def weights() -> Tensor:
    """How strongly each unit responds to each word: (word, unit)."""
    table = 0.05 * torch.rand(WORDS, UNITS, generator=torch.Generator().manual_seed(1))
    for unit in range(UNITS):
        table[unit * GROUP : (unit + 1) * GROUP, unit] = torch.linspace(1.0, 0.6, GROUP)
    return table


def windows(count: int, *, seed: int) -> Windows:
    """Windows of words, eight to a document."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(WORDS, (count, LENGTH), generator=generator).int()
    labels = (tokens[:, 0] % 2).long()
    pieces = tuple(f" {name}".encode() for name in NAMES)
    vocabulary = Vocabulary(pieces, torch.ones(WORDS, dtype=torch.long), torch.ones(1, WORDS))
    following = torch.zeros(count, dtype=torch.long)
    return Windows(tokens, following, torch.arange(count) // 8, labels, ("even", "odd"), vocabulary)


def splits(source: Source, seed: int) -> Splits:
    return Splits(windows(80, seed=seed), windows(40, seed=seed + 1), windows(640, seed=seed + 2))


class Responding(nn.Module):
    """Units that respond to words, read at every token."""

    def __init__(self) -> None:
        super().__init__()
        self.units = nn.Embedding(WORDS, UNITS)
        self.labels = nn.Linear(UNITS, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.labels(self.units(tokens).amax(1))


def plant(model: Responding, splits: Splits, seed: int) -> dict:
    with torch.no_grad():
        model.units.weight.copy_(weights())
    return {"epochs": 1}


def bag(stimuli: Windows) -> Tensor:
    return torch.stack([(stimuli.tokens == word).sum(1).float() for word in range(WORDS)], 1)


OBSERVER = Observer("bag of words", 1, bag)


def word_ladder() -> Ladder:
    rung = Rung("planted", "embedding", Responding, (Layer("units", "max", unit_axis=2),))
    return Ladder("marked-words", (rung,), splits, plant, "words that units respond to", modality="text")


# Readers: from the text of a prompt to a reply


def respond(text: str, unit: int) -> float:
    """A unit's value on a text."""
    known = [NAMES.index(word) for word in re.findall(r"[a-z]+", text) if word in NAMES]
    return max((_strengths()[word][unit] for word in known), default=0.0)


@cache
def _strengths() -> list[list[float]]:
    return weights().tolist()


def listed(prompt: str, pattern: str) -> list[str]:
    """The stimuli of a prompt whose names fit a pattern, below its last heading."""
    return re.findall(rf"^(?:{pattern}): (.*)$", prompt, flags=re.MULTILINE)


def unit_of(prompt: str) -> int:
    """Which unit a prompt is about: by its sentence, or by its references."""
    if named := re.search(r"words of group (\d)", prompt):
        return int(named[1])
    first = re.split(r"\n\n", prompt)[1 if "drive the unit most" in prompt.split("\n\n")[1] else 0]
    references = listed(first, r"\d") or listed(prompt, "[A-E]")
    return max(range(UNITS), key=lambda unit: sum(sorted(respond(text, unit) for text in references)[-4:]))


def knows(prompt: str, pictures: list[bytes]) -> str:
    """A reader that knows what each unit responds to."""
    unit, last = unit_of(prompt), prompt.rpartition("\n\n")[2]
    if "Answer with one short sentence" in prompt:
        return f"words of group {unit}"
    if "one token a line" in prompt:
        tokens = prompt.partition("then the number.\n")[2].partition("\n\nAnswer:")[0].split("\n")
        return "\n".join(f"{token}\t{round(9 * min(1.0, respond(token, unit)))}" for token in tokens)
    if "One does not belong" in prompt:
        values = [respond(text, unit) for text in listed(prompt, "[A-E]")]
        return "ABCDE"[values.index(min(values))]
    if "with one letter" in prompt:
        first, second = (respond(text, unit) for text in listed(prompt, "[AB]"))
        return "A" if first > second else "B"
    items = listed(last, r"\d+")
    if "<<" in last:
        right = [respond(" ".join(re.findall(r"<<(.*?)>>", text)), unit) > 0.3 for text in items]
    else:
        right = [respond(text, unit) > 0.3 for text in items]
    return ", ".join(str(place) for place, each in enumerate(right, 1) if each) or "none"


def guesses(prompt: str, pictures: list[bytes]) -> str:
    """A reader that does not look, and answers at random: the same to the same prompt."""
    drawn = random.Random(prompt)
    if "A, B, C, D or E" in prompt:
        return drawn.choice("ABCDE")
    if "with one letter" in prompt:
        return drawn.choice("AB")
    return ", ".join(str(number) for number in range(1, 11) if drawn.random() < 0.5) or "none"


def source(path: Path | None = None) -> Source:
    return Source(path)
