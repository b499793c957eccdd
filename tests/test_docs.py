"""The pages say what the code says."""

from pathlib import Path

import pytest

from thalweg.factors import pages as factor_pages
from thalweg.factors.base import FACTORS
from thalweg.measures.base import MEASURES
from thalweg.measures.pages import page, write

DOCS = Path(__file__).parent.parent / "docs"


def test_every_measure_has_the_page_that_the_code_makes(tmp_path: Path):
    write(tmp_path)
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    kept = {path.name: path.read_text() for path in (DOCS / "measures").glob("*.md")}
    del kept["text-observers.md"]  # made by its benchmark
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
