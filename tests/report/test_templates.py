"""The templates of pages."""

from pathlib import Path

import thalweg

HEADS = {"base.html.j2", "head.html.j2"}  # of pages with charts, and of units' pages, which have a policy of their own


def test_the_shell_of_pages_stands_once():
    templates = list(Path(thalweg.__file__).parent.rglob("*.html.j2"))
    assert {path.name for path in templates if "<!DOCTYPE" in path.read_text()} == HEADS
    own = {"macros.html.j2", "index.html.j2", "unit.html.j2", *HEADS}
    for path in templates:
        assert path.name in own or path.read_text().startswith('{% extends "base.html.j2" %}'), path.name
