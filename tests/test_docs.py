"""The pages say what the code says."""

import re
from pathlib import Path

import pytest

from thalweg.factors import pages as factor_pages
from thalweg.factors.base import FACTORS
from thalweg.measures.base import MEASURES
from thalweg.measures.pages import page, write
from thalweg.pipeline.settings import Settings
from thalweg.report.text import GLOSSARY

DOCS = Path(__file__).parent.parent / "docs"
WRITTEN = {"shape-power.md", "text-observers.md"}  # by their benchmarks
PROSE = [DOCS.parent / "README.md", DOCS.parent / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]


def test_every_measure_has_the_page_that_the_code_makes(tmp_path: Path):
    write(tmp_path)
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    kept = {path.name: path.read_text() for path in (DOCS / "measures").glob("*.md")}
    kept = {name: text for name, text in kept.items() if name not in WRITTEN}
    assert made == kept, "run: python -m thalweg.measures.pages docs/measures"


@pytest.mark.parametrize("name", MEASURES)
def test_a_page_tells_formula_edge_cases_and_how_it_can_mislead(name: str):
    text = page(MEASURES[name])
    for section in ("## Idea", "## Formula and edge cases", "## How it can mislead", "## Declaration"):
        assert section in text
    assert "NaN" in text
    assert MEASURES[name].cite in text


def test_every_factor_has_the_page_that_the_code_makes(tmp_path: Path):
    factor_pages.write(tmp_path)
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    kept = {path.name: path.read_text() for path in (DOCS / "factors").glob("*.md")}
    assert made == kept, "run: python -m thalweg.factors.pages docs/factors"
    for name, factor in FACTORS.items():
        for section in ("## Idea", "## How it can mislead", "## Declaration", "NaN", factor.cite):
            assert section in made[f"{name}.md"]


def test_the_page_of_settings_lists_each_with_its_help():
    page = (DOCS / "settings.md").read_text()
    for name, declared in Settings.__dataclass_fields__.items():
        assert f"| `{name}` | `--{name.replace('_', '-')}` | {declared.metadata['help']} |" in page


def test_the_glossary_has_the_words_of_the_report_with_their_standard_terms():
    rows = [line.strip("| ").split(" | ") for line in (DOCS / "glossary.md").read_text().splitlines() if "|" in line]
    meanings = {word: meaning for word, _, meaning in rows[2:]}
    assert {word: meanings.get(word) for word in GLOSSARY} == GLOSSARY
    assert set(meanings) - set(GLOSSARY) == {
        "untrained",
        "rotated",
        "rerandomised",
        "memorising",
        "two-worlds",
    }  # kinds of twins
    assert all(standard for _, standard, _ in rows[2:])


@pytest.mark.parametrize("path", [path for path in PROSE if path.name not in WRITTEN], ids=lambda path: path.name)
def test_prose_is_wrapped(path: Path):
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.S | re.M)
    wide = [line for line in text.splitlines() if len(line) > 120 and not line.startswith("|") and " " in line.strip()]
    assert [line for line in wide if not re.match(r"[-\s]*!?\[[^]]*\]\(", line)] == []
