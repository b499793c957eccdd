"""The whole experiment, small: its files and page, going on after an interruption, the same bytes, errors."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from thalweg import ThalwegError, cli
from thalweg.causes import experiment
from thalweg.causes.design import Size, plans
from thalweg.causes.experiment import Causes, run_causes, run_sized
from thalweg.compute.workers import EngineConfig

TINY = Size(2, 3, False, 20)
TABLES = ("networks", "units", "causes", "effects", "mediation", "shares", "interventions")


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Causes:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("thalweg.causes.measuring.STRENGTH", 400)
        patch.setattr("thalweg.causes.measuring.POOL", 700)
        return run_sized(TINY, tmp_path_factory.mktemp("causes") / "run", seed=0, where=EngineConfig(workers=1))


def test_it_leaves_tables_and_a_page_with_six_lines(result: Causes):
    assert result.hypotheses["hypothesis"].to_list() == ["H1", "H2", "H3", "H4", "H5", "H6"]
    assert set(result.hypotheses["verdict"]) <= {"supported", "refuted", "cannot tell"}
    for name in TABLES:
        assert len(pl.read_parquet(result.path / f"{name}.parquet"))
    assert len(result.networks) == 64 + 4 + 36
    page = result.page.read_text()
    for word in ("H6: It is vision", "taught by a wide network", "meant to move", "feature dimensionality"):
        assert word in page


def test_its_columns_are_described(result: Causes):
    text = (Path(cli.__file__).parents[2] / "docs" / "causes.md").read_text()
    for column in (*result.networks.columns, *result.hypotheses.columns):
        assert f"`{column}`" in text


def test_going_on_does_only_what_is_missing_and_gives_the_same_bytes(result: Causes, monkeypatch: pytest.MonkeyPatch):
    before = {name: (result.path / f"{name}.parquet").read_bytes() for name in TABLES}
    page = result.page.read_bytes()
    victim = sorted((result.path / "parts").glob("*.json"))[3]
    victim.write_text("{")
    measured = []
    real = experiment.measure_network
    monkeypatch.setattr("thalweg.causes.measuring.STRENGTH", 400)
    monkeypatch.setattr("thalweg.causes.measuring.POOL", 700)
    monkeypatch.setattr(experiment, "measure_network", lambda *a, **k: measured.append(a) or real(*a, **k))
    run_sized(TINY, result.path, seed=0, where=EngineConfig(workers=1))
    assert len(measured) == 1
    assert before == {name: (result.path / f"{name}.parquet").read_bytes() for name in TABLES}
    assert page == result.page.read_bytes()


def test_a_cell_whose_networks_have_no_score_is_named_and_their_table_is_there(result: Causes, tmp_path: Path):
    run = shutil.copytree(result.path, tmp_path / "run")
    cell = result.networks.filter(arm="factorial")["cell"][0]
    for row in result.networks.with_row_index().filter(cell=cell).iter_rows(named=True):
        part = experiment._part(run, plans(TINY, 0)[row["index"]], 0)
        part.write_text(json.dumps(json.loads(part.read_text()) | {"crisp": None}))
    (run / "networks.parquet").unlink()
    with pytest.raises(ThalwegError, match=re.escape(f"(without a score: {cell})")):
        run_sized(TINY, run, seed=0, where=EngineConfig(workers=1))
    assert pl.read_parquet(run / "networks.parquet")["crisp"].is_nan().sum() == 2


def test_mistakes_are_found_before_anything_is_trained(result: Causes, tmp_path: Path):
    with pytest.raises(ThalwegError, match="other settings"):
        run_sized(TINY, result.path, seed=1, where=EngineConfig(workers=1))
    with pytest.raises(ThalwegError, match="seed is -1"):
        run_causes(seed=-1)
    with pytest.raises(ThalwegError, match="no engine is called 'rays'"):
        run_causes(engine_name="rays", out=tmp_path)
    (tmp_path / "settings.json").write_text(json.dumps({"format": 7}))
    with pytest.raises(ThalwegError, match="another kind"):
        run_causes(out=tmp_path)


def test_the_command_prints_six_lines(result: Causes, monkeypatch: pytest.MonkeyPatch):
    small = result.hypotheses.with_columns(p_holm=pl.lit(0.0002))
    monkeypatch.setattr(experiment, "run_causes", lambda **_: replace(result, hypotheses=small))
    shown = CliRunner().invoke(cli.app, ["causes", "--quick"])
    assert shown.exit_code == 0
    assert all(f"H{number}" in shown.output for number in range(1, 7))
    assert "< 0.001" in shown.output
    assert "page:" in shown.output
