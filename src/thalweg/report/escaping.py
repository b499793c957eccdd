"""Text in charts, with invisible characters made visible."""

import unicodedata
from typing import Any

from thalweg.files.identity import digest

# What a chart's library trips over: every object of JavaScript has these names already.
INHERITED = frozenset(
    (
        *("constructor", "hasOwnProperty", "isPrototypeOf", "propertyIsEnumerable"),
        *("toLocaleString", "toString", "valueOf", "__proto__"),
        *("__defineGetter__", "__defineSetter__", "__lookupGetter__", "__lookupSetter__"),
    )
)
LONGEST = 300  # characters of a text in a chart


def visible(text: str) -> str:
    """A name as a chart can hold it: control characters and half characters as escapes, and no name that JavaScript
    gives to every object (a space without width tells them apart).
    """
    escaped = "".join(
        character
        if character.isprintable() or unicodedata.category(character) in ("Zs", "Cf", "Co", "Cn")
        else _escaped(character)
        for character in text
    )
    if len(escaped) > LONGEST:
        return f"{escaped[:LONGEST]}… ({digest(text)[:8]})"
    return f"{escaped}\u200b" if escaped in INHERITED else escaped


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def visible_parts(part: Any) -> Any:
    """A specification or its rows, whose texts are all visible."""
    if isinstance(part, str):
        return visible(part)
    if isinstance(part, list):
        return [visible_parts(item) for item in part]
    if isinstance(part, dict):
        return {name: visible_parts(item) for name, item in part.items()}
    return part
