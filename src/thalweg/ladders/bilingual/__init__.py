"""A world that two artificial languages describe: its facts and words, its lines, and the ladder."""

from thalweg.ladders.bilingual.ladder import LADDER, TWO_WORLDS, WIDE_LADDER, ladder
from thalweg.ladders.bilingual.lines import LABELS, all_lines, splits
from thalweg.ladders.bilingual.world import LANGUAGES, Fact, Language, Lines, Settings, World, make_world

__all__ = [
    "LABELS",
    "LADDER",
    "LANGUAGES",
    "TWO_WORLDS",
    "WIDE_LADDER",
    "Fact",
    "Language",
    "Lines",
    "Settings",
    "World",
    "all_lines",
    "ladder",
    "make_world",
    "splits",
]
