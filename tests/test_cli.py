"""The command line as a user types it."""

import contextlib
import gc
import importlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import typer
from rich.console import Console

import thalweg as package
from support.tables import valley
from thalweg import cli, terminal
from thalweg.pipeline import one_model as measuring
from thalweg.validation.validate import Validation


def thalweg(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command line in this process: a new one would import everything again."""
    out, err = io.StringIO(), io.StringIO()
    words = ["thalweg", *map(str, arguments)]
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setattr(sys, "argv", [*words])
        patch.setenv("COLUMNS", "200")
        for console in (terminal.out, terminal.err):
            patch.setattr(console, "_width", 200)
        with pytest.raises(SystemExit) as end:
            cli.main()
    return subprocess.CompletedProcess(words, end.value.code or 0, out.getvalue(), err.getvalue())


def test_help_is_enough_to_start():
    for command in ([], ["survey"], ["report"], ["shape"], ["list"]):
        found = thalweg(*command, "--help")
        assert found.returncode == 0
        assert "Usage" in found.stdout
    assert "LADDER" in thalweg("survey", "--help").stdout
    for option in ("--out", "--seeds", "--quick", "--observer", "--strength", "--workers", "--device", "--data"):
        assert option in thalweg("survey", "--help").stdout


def test_where_a_file_cannot_be_written_shows_before_anything_is_read(tmp_path: Path):
    (tmp_path / "results.csv").mkdir()
    for words in (
        ("compare", "runs/none", "runs/none", "--out", tmp_path),
        ("explanations", "runs/none", "--export", tmp_path),
        ("shape", "none.csv", "--strength", "a", "--score", "b", "--out", tmp_path / "results.csv"),
    ):
        found = thalweg(*words)
        assert found.returncode == terminal.MISTAKE
        assert "is a folder, and a file is to be written; name a file with --" in found.stderr
    assert "add --serve" in thalweg("explore", "runs/none", "--port", "8000").stderr


def test_what_trains_networks_is_no_option_of_the_correlations_of_a_run():
    found = thalweg("causes", "runs/mnist", "--quick", "--out", "elsewhere")
    assert found.returncode == terminal.MISTAKE
    assert "leave out --quick and --out" in found.stderr


@pytest.mark.parametrize(("flags", "asked"), [([], None), (["--capability"], True), (["--no-capability"], False)])
def test_what_is_decided_by_other_options_can_be_asked_for_and_declined(flags: list[str], asked: bool | None):
    group = typer.main.get_command(cli.app)
    for command in ("survey", "measure"):
        context = group.commands[command].make_context(command, ["mnist", *flags])
        assert context.params["capability"] is asked


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("ladders", ["mnist"]),
        ("observers", ["image", "hog", "control"]),
        ("measures", ["two_choice_matched", "predictable"]),
        ("factors", ["participation_ratio", "dimensions"]),
    ],
)
def test_lists_name_what_there_is(what: str, names: list[str]):
    found = thalweg("list", what)
    assert found.returncode == 0
    assert all(name in found.stdout for name in names)


def test_a_shape_is_told_in_a_sentence_or_as_a_record(tmp_path: Path):
    table = valley(tmp_path / "table.csv")
    said = thalweg("shape", table, "--strength", "loss", "--score", "clear", "--group", "name")
    assert said.returncode == 0
    assert said.stdout.startswith("A valley")
    record = json.loads(
        thalweg("shape", table, "--strength", "loss", "--score", "clear", "--group", "name", "--json").stdout
    )
    assert record["verdict"] == "valley"
    assert set(record["p"]) == {"valley", "hump", "increasing", "decreasing", "flat"}
    assert {"class_weights", "depth", "minimum_detectable_depth", "n_models", "stable_without_each"} <= set(record)
    assert record["n_models"] == 9


MISTAKES = [
    (["survey", "mnits"], "did you mean 'mnist'"),
    (["survey", "mnist", "--observer", "hgo"], "did you mean 'hog'"),
    (["survey", "mnist", "--strength", "acuracy"], "did you mean 'accuracy'"),
    (["survey", "mnist", "--device", "gpu"], "no device is called 'gpu'"),
    (["survey", "mnist", "--seeds", "0"], "at least 1"),
    (["survey", "mnist", "--data", "/nowhere", "--out", "{tmp}/run"], "no file train-images-idx3-ubyte"),
    (["list", "things"], "no list is called"),
    (["report", "{tmp}/nothing"], "no such file"),
    (["shape", "{tmp}/none.csv", "--strength", "a", "--score", "b"], "none.csv"),
    (["shape", "{tmp}/table.csv", "--strength", "los", "--score", "clear"], "did you mean 'loss'"),
]


@pytest.mark.parametrize(("arguments", "said"), MISTAKES, ids=lambda x: " ".join(x) if isinstance(x, list) else "")
def test_a_mistake_is_one_message_and_no_traceback(tmp_path: Path, arguments: list[str], said: str):
    valley(tmp_path / "table.csv")
    found = thalweg(*(argument.replace("{tmp}", str(tmp_path)) for argument in arguments))
    assert found.returncode == 2
    assert said in found.stderr
    assert "Traceback" not in found.stderr
    assert found.stderr.startswith("error: ")


def test_a_mistaken_command_leaves_nothing_that_stands_in_the_way(tmp_path: Path):
    for folder in ("nowhere", "elsewhere"):
        found = thalweg("survey", "mnist", "--data", tmp_path / folder, "--out", tmp_path / "run")
        assert found.returncode == 2
        assert f"{folder}: no file train-images" in found.stderr


def test_names_in_a_list_are_never_shortened(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cli, "out", Console(file=(shown := io.StringIO()), width=60))
    with pytest.raises(SystemExit):
        cli.app(["list", "factors"])
    assert "generalisation_gap_accuracy" in shown.getvalue()


def test_brackets_in_what_is_listed_are_shown():
    assert "[the k-th last tokens are equal]" in thalweg("list", "observers").stdout


def test_the_version_is_shown_with_those_it_rests_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.setattr(terminal, "out", Console(soft_wrap=True, width=200))
    monkeypatch.setattr(sys, "argv", ["thalweg", "--version"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0
    assert re.fullmatch(r"thalweg \d\S*, PyTorch \d\S*, Python \d\S*\n", capsys.readouterr().out)


SLOW = {"altair", "pandas", "scipy.stats", "sklearn", "statsmodels", "torch", "transformers"}


def test_the_package_runs_as_a_module_and_imports_what_is_slow_only_where_it_is_needed(tmp_path: Path) -> None:
    of_shape = ("shape", str(valley(tmp_path / "table.csv")), "--strength", "loss", "--score", "clear")
    for words, shown, module, slow in (
        (("--help",), "survey", "thalweg.pipeline.settings", {*SLOW, "scipy.interpolate", "scipy.optimize"}),
        (of_shape, "A valley", "thalweg.shape.judging", SLOW),
    ):
        command = [sys.executable, "-X", "importtime", "-m", "thalweg", *words]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        assert shown in result.stdout
        imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
        assert module in imported
        assert not imported & slow


def test_public_names_are_imported_when_they_are_asked_for() -> None:
    assert set(package.MODULES) == set(package.__all__) <= set(dir(package))
    for name, module in package.MODULES.items():
        assert getattr(package, name) is getattr(importlib.import_module(module), name)
    assert package.ladders is importlib.import_module("thalweg.ladders")
    assert gc.isenabled()
    with pytest.raises(AttributeError, match="no attribute 'surveys'"):
        _ = package.surveys


def test_a_dictionary_is_trained_on_the_columns_that_are_named(monkeypatch: pytest.MonkeyPatch):
    columns = {"text_column": "a", "document_column": "b", "image_column": "c", "label_column": "none"}
    given = {}
    monkeypatch.setattr(measuring, "train_dictionary", lambda *_, **told: given.update(told) or {})
    options = [word for name, value in columns.items() for word in (f"--{name.replace('_', '-')}", value)]
    found = thalweg("train-dictionary", "hf:gpt2", "--layer", "l", "--skip-bad", *options)
    assert found.returncode == 0
    assert {name: given[name] for name in columns} == columns
    assert given["skip_bad"]


def test_a_validation_passes_its_options_on_and_prints_its_sentences(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    given: dict[str, object] = {}
    result = Validation(tmp_path, pl.DataFrame(), {"sentences": {"crisp": "Crisp tells one latent from many."}})
    monkeypatch.setattr(
        package, "validate", lambda *names, **told: given.update(told, names=names) or result, raising=False
    )
    options = ("--observer", "hog", "--units", 20, "--seed", 3, "--label-column", "none", "--out", tmp_path)
    found = thalweg("validate", "mnist", *options)
    assert found.returncode == 0
    expected = {"names": ("mnist",), "observer": ["hog"], "units": 20, "seed": 3, "label_column": "none"}
    assert {name: given[name] for name in expected} == expected
    assert given["out"] == tmp_path
    assert found.stdout == f"Crisp tells one latent from many.\npage: {tmp_path / 'validation.html'}\n"
    assert "thalweg validate mnist --observer hog" in thalweg("validate", "--help").stdout


@pytest.mark.parametrize(
    ("before", "after"), [("", "ignore:resource_tracker"), ("error", "error,ignore:resource_tracker")]
)
def test_what_is_cleared_after_an_interruption_is_not_said(before: str, after: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONWARNINGS", before)
    monkeypatch.setattr(sys, "argv", ["thalweg", "--version"])
    with pytest.raises(SystemExit):
        cli.main()
    assert os.environ["PYTHONWARNINGS"] == after  # read by the process that clears, which the first worker starts
