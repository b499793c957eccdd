"""The notebooks of docs run top to bottom, as printed, one after another in one folder."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

NOTEBOOKS = Path(__file__).parent.parent / "docs" / "notebooks"
ORDER = ("first-survey", "own-model", "reading-a-run")  # the last one reads the run of the first


def cells(name: str) -> list[str]:
    """The code cells of a notebook."""
    notebook = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def shown_by(name: str) -> list[dict[str, Any]]:
    """What each cell shows, by type, as a notebook would get it."""
    shell, shown = InteractiveShell(), []
    for code in cells(name):
        with capture_output():
            result = shell.run_cell(code)
        result.raise_error()
        shown.append(shell.display_formatter.format(result.result)[0] if result.result is not None else {})
    return shown


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[dict[str, Any]]]]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("notebooks")
        patch.chdir(folder)
        patch.setenv("HOME", str(folder))
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        yield {name: shown_by(name) for name in ORDER}


def test_every_notebook_is_run():
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == set(ORDER)


def test_a_first_survey_shows_the_run_a_chart_a_unit_and_a_trial(shown: dict[str, list[dict[str, Any]]]):
    run, chart, unit, trial, answer = [each for each in shown["first-survey"] if each]
    assert "few-digits, predictable: " in run["text/html"]
    assert "mlp-32" in run["text/html"]
    assert "predictable" in chart["image/svg+xml"]
    assert unit["text/html"].count("<img") == 18
    assert "one_sided" in unit["text/html"]
    assert trial["text/html"].count("<img") == 20
    assert "query" in answer["text/plain"]


def test_a_model_of_ones_own_shows_its_units(shown: dict[str, list[dict[str, Any]]]):
    loss, run, scores, best, unit = [each for each in shown["own-model"] if each]
    assert float(loss["text/plain"]) < 0.5
    assert "digits-net" in run["text/html"]
    for control in ("trained", "untrained", "rotated"):
        assert control in scores["text/plain"]
    assert "value" in best["text/plain"]
    assert unit["text/html"].count("<img") == 18


def test_a_run_is_read_in_pandas(shown: dict[str, list[dict[str, Any]]]):
    table, spread, _, verdicts, chart = [each for each in shown["reading-a-run"] if each]
    assert "untrained" in table["text/html"]
    assert "mlp-16" in spread["text/html"]
    assert "n_models" in verdicts["text/html"]
    assert "predictable" in chart["image/svg+xml"]
