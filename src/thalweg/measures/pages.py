"""The pages of docs/measures: one for each measure, made from its declaration and its docstring.

python -m thalweg.measures.pages docs/measures
"""

import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from thalweg.measures.base import MEASURES, Measure, first_sentence

WIDTH = 120


def page(measure: Measure) -> str:
    """The page of one measure, as Markdown: what it asks, formula, edge cases, how it can mislead, declaration."""
    return page_of(measure.function, _declaration(measure))


def page_of(function: Callable[..., Any], declaration: Mapping[str, object]) -> str:
    """The page of a function that is listed, as Markdown: its docstring and its module's, and what it declares."""
    module = inspect.getmodule(function)
    essay = inspect.cleandoc(module.__doc__ or "") if module else ""
    first, *paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    sections = [f"# {function.__name__}", _flow(first), "## Idea", _flow(essay), "## Formula and edge cases"]
    for paragraph in paragraphs:
        if paragraph.startswith("How it can mislead:"):
            warning = paragraph.removeprefix("How it can mislead:").strip()
            sections += ["## How it can mislead", _flow(warning[0].upper() + warning[1:])]
        elif paragraph.startswith("Raises:"):
            sections += ["## Errors", _flow(re.sub(r"^Raises:\s*", "", paragraph))]
        else:
            sections.append(_flow(paragraph))
    return "\n\n".join([*sections, "## Declaration", _table(declaration)]) + "\n"


def _flow(text: str) -> str:
    """Paragraphs, wrapped."""
    return "\n\n".join(wrap(" ".join(part.split())) for part in text.split("\n\n"))


def wrap(text: str, indent: str = "") -> str:
    """A paragraph in lines of at most 120 characters, those after the first one indented."""
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _table(rows: Mapping[str, object]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def _declaration(measure: Measure) -> dict[str, object]:
    low, high = measure.range
    return {
        "version": measure.version,
        "unit": measure.unit,
        "range": f"{low:g} to {high:g}",
        "chance": "none: see the untrained twin" if measure.chance is None else f"{measure.chance:g}",
        "higher is": measure.higher_is,
        "headline": measure.headline or "no",
        "asks for": ", ".join(f"`{name}`" for name in measure.needs),
        "source": measure.cite,
    }


def write(folder: Path) -> None:
    """Write every page, and an index."""
    folder.mkdir(parents=True, exist_ok=True)
    index = ["# Measures", "", "Made from the code by `python -m thalweg.measures.pages docs/measures`.", ""]
    for measure in MEASURES.values():
        (folder / f"{measure.name}.md").write_text(page(measure), encoding="utf-8")
        index.append(wrap(f"- [{measure.name}]({measure.name}.md): {first_sentence(measure.function)}", "  "))
    index += [
        "",
        "[How the observers of text fare on planted units](text-observers.md), by `benchmarks.text_observers`.",
    ]
    (folder / "README.md").write_text("\n".join(index) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
