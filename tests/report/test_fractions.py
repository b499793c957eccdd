"""A fraction above 1 is named where it stands, with what it means."""

import polars as pl
import pytest

from support.worlds import HOSTILE, World
from thalweg import open_run
from thalweg.report import capability, why
from thalweg.report.ladder import Ladder, ladders


@pytest.fixture(scope="module")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> Ladder:
    path = tmp_path_factory.mktemp("world")
    World().save(path)
    rows = pl.read_parquet(path / "capability.parquet")
    above = pl.col("rung").str.starts_with("r3 ") & (pl.col("ablation") == "mean") & (pl.col("control") == "trained")
    rows = rows.with_columns(fraction=pl.when(above).then(2.93).otherwise("fraction"))
    rows.write_parquet(path / "capability.parquet")
    return next(each for each in ladders(open_run(path)) if each.name == HOSTILE)


def test_a_fraction_above_1_is_named_and_explained(ladder: Ladder):
    (line,) = [text for text in capability.sentences(ladder) if "above 100 %" in text]
    assert "in r3 <i>&amp;: with all its units the model does worse" in line
    noted = [line[0].text for line in capability.values(ladder).lines if "more than the whole" in line[-1].text]
    assert set(noted) == {"r3 <i>&amp;"}
    (figure,) = capability.figures(ladder)
    assert "above 100 % in r3" in figure.panels[-1].note


def test_small_numbers_show_on_which_side_of_0_they_end():
    line = {"value": 0.0152, "low": -0.00405, "high": 0.03865}
    assert why._with_ends(line) == "0.015 (−0.004 to 0.039)"
    assert why._with_ends(line | {"high": 0.4}) == "0.02 (0.00 to 0.40)"
