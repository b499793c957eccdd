"""The report's table of verdicts on edits of facts."""

from types import SimpleNamespace
from typing import cast

import polars as pl

from thalweg.report.crossing import verdicts
from thalweg.report.ladder import Ladder

JUDGED = {
    ("edit_transfer", "bits"): {"verdict": "increasing", "changes_without": {}},
    ("edit_transfer:memit", "bits"): {"verdict": "hump", "changes_without": {"transformer-2x64": "cannot tell"}},
    ("edit_transfer:memit", "parameters"): {"verdict": "cannot tell", "changes_without": {"transformer-2x64": "hump"}},
}


def shown(methods: tuple[str, ...], axis: str = "bits") -> list[list[str]]:
    """The cells of the table, of a ladder that was edited by these methods."""
    edits = pl.DataFrame(
        {"ladder": ["a"] * len(methods), "method": methods}, {"ladder": pl.String, "method": pl.String}
    )
    ladder = SimpleNamespace(run=SimpleNamespace(edits=edits), name="a", axis=axis, verdict=found)
    made = verdicts(cast(Ladder, ladder))
    return [list(made.columns), *([cell.text for cell in line] for line in made.lines)]


def found(measure: str, *, axis: str) -> dict | None:
    return JUDGED.get((measure, axis))


def test_each_method_has_its_verdict_against_strength_and_against_parameters():
    heads, *lines = shown(("unedited", "rome", "memit"))
    assert heads == ["measure", "against", "ROME", "MEMIT"]
    by_measure = {(line[0], line[1]): line[2:] for line in lines}
    assert by_measure["transfer", "bits"] == ["increasing", "hump*"]
    assert by_measure["transfer", "parameters"] == ["–", "cannot tell"]
    assert len(lines) == 12


def test_without_edits_of_facts_there_is_no_line():
    assert shown(("unedited", "redirect")) == [[]]
    assert len(shown(("rome",), axis="parameters")) == 1 + 6
