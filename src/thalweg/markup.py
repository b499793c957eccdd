"""Fragments of HTML, as notebooks show them: what is not a fragment yet is text, and is escaped."""

import html
from collections.abc import Iterable, Sequence


class Fragment(str):
    """Text that is HTML already."""


def element(name: str, *content: str, **attributes: str) -> Fragment:
    """An element with its content and attributes, as `element("p", "1 < 2")`."""
    inside = "".join(each if isinstance(each, Fragment) else html.escape(each) for each in content)
    stated = "".join(f' {key}="{html.escape(value)}"' for key, value in attributes.items())
    return Fragment(f"<{name}{stated}>{inside}</{name}>")


def bullets(lines: Iterable[str]) -> Fragment:
    """A list with a point for each line."""
    return element("ul", *(element("li", line) for line in lines))


def listing(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Fragment:
    """A table with a head."""
    head = element("tr", *(element("th", column) for column in columns))
    body = (element("tr", *(element("td", cell) for cell in row)) for row in rows)
    return element("table", element("thead", head), element("tbody", *body))
