"""Scripts that write no spaces between words: where text in them may be cut.

In Chinese, Japanese, Thai and other such scripts no space shows where a word begins, and finding words takes a
dictionary. Text may be cut between any two characters there, as lines are broken in Chinese and Japanese (Unicode
Standard Annex 14, classes ID and SA), but never between a character and the marks that belong to it.
"""

import re
import unicodedata
from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool

UNSPACED = (  # first and last code points, by Unicode's blocks
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x0F00, 0x109F),  # Tibetan, Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19DF),  # Tai Le, New Tai Lue
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x3005, 0x3007),  # 々, 〆 and 〇
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x3100, 0x312F),  # Bopomofo
    (0x31F0, 0x31FF),  # Katakana, phonetic extensions
    (0x3400, 0x4DBF),  # Han, extension A
    (0x4E00, 0x9FFF),  # Han
    (0xA000, 0xA4CF),  # Yi
    (0xA980, 0xA9FF),  # Javanese, Myanmar extended B
    (0xAA60, 0xAADF),  # Myanmar extended A, Tai Viet
    (0xF900, 0xFAFF),  # Han, compatibility
    (0xFF66, 0xFF9D),  # Katakana, half width
    (0x20000, 0x3FFFF),  # Han, further extensions
)
SPACING = "\u0e33\u0eb3"  # am of Thai and Lao: letters by category, but part of the character before (UAX 29)
JOINING = "\u200d\uff9e\uff9f"  # the joiner, and the voicing marks of half width, likewise


def _ranges(codes: Iterable[int]) -> str:
    """Code points in increasing order as the ranges of a class of characters."""
    runs: list[list[int]] = []
    for code in codes:
        if runs and code == runs[-1][1] + 1:
            runs[-1][1] = code
        else:
            runs.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in runs)


PLANES = (range(0x0300, 0x1F000), range(0xE0100, 0xE01F0))  # that marks are in
MARKS = _ranges(code for plane in PLANES for code in plane if unicodedata.category(chr(code)).startswith("M"))
LETTERS = "".join(f"{chr(first)}-{chr(last)}" for first, last in UNSPACED)
LETTER = re.compile(f"[{LETTERS}]")
JOINT = re.compile(rf"(?:(?<=[{LETTERS}])|(?=[{LETTERS}]))(?=\w)(?![{MARKS}{SPACING}{JOINING}])")


def unspaced(text: str) -> Bool[np.ndarray, " place"]:
    """For each place in a text, and the one after it, whether it may be cut there for want of spaces: before a letter
    or digit, where that or the character before it is of a script without spaces.
    """
    joints = np.zeros(len(text) + 1, np.bool_)
    if not text.isascii() and LETTER.search(text):
        joints[[joint.start() for joint in JOINT.finditer(text)]] = True
    return joints
