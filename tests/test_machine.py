"""What lies under a survey: names of files, what is swept away, damaged runs, hostile names, the terminal."""

import errno
import json
import os
import pwd
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch
import vl_convert
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import thalweg
from support.tiny import blobs, tiny_ladder
from support.worlds import World
from thalweg import Splits, ThalwegError, cli, home, interrupts, open_run, terminal
from thalweg.bases import sources
from thalweg.bases.sources import InFolder
from thalweg.files import names, whole
from thalweg.files.damage import json_value
from thalweg.files.names import file_name, same_files
from thalweg.literature.studies import read_study
from thalweg.pipeline import job
from thalweg.pipeline.settings import Settings, usual_cache
from thalweg.pipeline.survey import check_settings
from thalweg.progress import Silent
from thalweg.report import charts, figures, page, styles
from thalweg.report.ladder import ladders
from thalweg.report.page import render, write_report
from thalweg.runs import directory
from thalweg.runs.directory import RunDirectory
from thalweg.runs.run import Run
from thalweg.study.settings import StudySettings
from thalweg.subjects import checkpoints

NAMES = [
    "mlp α",
    "mlp β",
    "mlp 4",
    "mlp/4",
    "mlp-4",
    "-mlp",
    "mlp",
    "",
    " ",
    "a" * 200,
    "a" * 201,
    "nul",
    "NUL.x",
    "\ud800",
]
HOSTILES = [
    *("a\u2028b", "constructor", "__proto__", "\x1b[31mred", "</script>", "{{ 7 * 7 }}", "nul\x00", "half \ud800"),
    *("x" * 10_000, "🐻 :bear:", "\u202eright to left", "toString"),
]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return World.of_one_model().save(tmp_path_factory.mktemp("world") / "run")


def test_no_two_names_share_a_file():
    found = [file_name(name) for name in NAMES]
    assert len(set(found)) == len(NAMES)
    assert [name for name in found if len(name) > 120 or not name.isascii() or "/" in name] == []
    assert not any(names.RESERVED.fullmatch(name) for name in found)


def test_plain_names_keep_their_files():
    for name in ("tiny-dense-8-1", "mlp-4", "gpt2-small", "AlexNet", "v1.0_x"):
        assert file_name(name) == name


def test_two_things_with_the_same_files_are_refused():
    with pytest.raises(ThalwegError, match=r"rung 'b-c' and rung 'c' would share the file name 'a-b-c-0'"):
        same_files([("rung 'b-c'", "a-b-c-0"), ("rung 'c'", "a-b-c-0")])
    with pytest.raises(ThalwegError, match="small and capital letters"):
        same_files([("A", "a-B"), ("B", "A-b")])


def left_behind(folder: Path) -> dict[str, bool]:
    """Files in and around a run; whether a sweep may remove them."""
    files = {
        ".units.parquet.host.12.part": True,
        "weights/.m-0.json.host.12.part": True,
        "recordings/shards/.tmpAb3dEf": True,
        "steps/.train-m-0.json.my.host.12.part": True,
        ".tmpAb3dEf": False,
        ".video.part": False,
        "weights/.video.part": False,
        "mine/.units.parquet.host.12.part": False,
        "mine/weights/.tmpAb3dEf": False,
        "weights/mine/.x.json.host.12.part": False,
    }
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    return files


def test_a_sweep_removes_only_what_is_the_runs_own(tmp_path: Path):
    files = left_behind(tmp_path)
    RunDirectory(tmp_path).remove_partials()
    assert {name: not (tmp_path / name).exists() for name in files} == files


def test_a_folder_that_is_a_run_of_its_own_is_not_swept(tmp_path: Path):
    left_behind(tmp_path)
    (tmp_path / "weights/settings.json").write_text("{}")
    RunDirectory(tmp_path).remove_partials()
    assert (tmp_path / "weights/.m-0.json.host.12.part").exists()


def test_an_out_that_is_no_place_for_a_run_is_refused(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    for path, said in ((tmp_path, r"holds no run, but other things \("), ("notes.txt", "a file"), ("link", "a link")):
        with pytest.raises(ThalwegError, match=f"{said}.*choose another --out"), RunDirectory(tmp_path / path).locked():
            pass
    assert not (tmp_path / ".lock").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run-link").symlink_to(tmp_path / "run")
    with RunDirectory(tmp_path / "run-link").locked():
        assert (tmp_path / "run/.lock").exists()


class Said(Silent):
    """Progress that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.mark.parametrize("content", ['{"ladders": ["m', "[]", "3", "[" * 50_000, "\xff"])
def test_damaged_settings_are_written_again(tmp_path: Path, content: str):
    path, progress = tmp_path / "settings.json", Said()
    path.write_bytes(content.encode("latin-1"))
    found = check_settings(RunDirectory(tmp_path), [replace(tiny_ladder(), name="m")], Settings(), progress)
    assert found["ladders"] == ["m"]
    assert not path.exists()
    assert "settings.json: damaged" in progress.lines[0]


def test_a_directory_of_another_kind_is_refused(tmp_path: Path):
    assert directory.settings_of_kind(tmp_path, "edit") is None
    whole.write_json(tmp_path / "settings.json", {"kind": "edit", "seed": 3})
    assert directory.settings_of_kind(tmp_path, "edit") == {"kind": "edit", "seed": 3}
    with pytest.raises(ThalwegError, match="this is a run of another kind; choose another --out"):
        directory.settings_of_kind(tmp_path, "concepts")
    (tmp_path / "settings.json").write_text('{"kind": "ed')
    with pytest.raises(ThalwegError, match=r"settings\.json: damaged .*choose another --out, or remove this folder"):
        directory.settings_of_kind(tmp_path, "edit")
    (tmp_path / "settings.json").rename(tmp_path / "run.json")  # of a survey whose settings are gone
    with pytest.raises(ThalwegError, match="another kind"):
        directory.settings_of_kind(tmp_path, "edit")


def test_an_older_format_is_named(done: Run, tmp_path: Path):
    record = {**done.record}
    del record["format"]
    whole.write_json(tmp_path / "run.json", record)
    with pytest.raises(ThalwegError, match="this run has format 1, and this thalweg reads format 7 and 8"):
        open_run(tmp_path)


def copied(run: Run, folder: Path) -> Path:
    folder.mkdir()
    for file in run.path.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def changed(out: Path, section: str, content: dict) -> None:
    record = whole.read_json(out / "run.json")
    whole.write_json(out / "run.json", record | {section: content})


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda out: (out / "models.parquet").write_bytes((out / "scores.parquet").read_bytes()), "models.parquet"),
        (lambda out: whole.write_frame(out / "scores.parquet", pl.DataFrame()), "scores.parquet"),
        (lambda out: (out / "layers.parquet").unlink(), "layers.parquet: there is no such file"),
        (lambda out: whole.write_json(out / "shape.json", {}), "shape.json.*a list of objects was expected"),
        (lambda out: whole.write_json(out / "run.json", [1]), "run.json.*it holds list"),
        (lambda out: whole.write_json(out / "run.json", {"format": directory.FORMAT}), "run.json.*named 'settings'"),
        (lambda out: (out / "comparison.json").write_text("[" * 50_000), "comparison.json: damaged"),
        (lambda out: changed(out, "settings", {}), "run.json.*its settings lack strength"),
        (lambda out: changed(out, "factors", {"x": {}}), "run.json.*of factor 'x' lacks version"),
        (lambda out: changed(out, "factors", {"x": {"version": 1, "unit": "", "meaning": ""}}), "models.parquet.*x"),
        (lambda out: changed(out, "measures", {"mis": []}), "run.json.*of measure 'mis' lacks version"),
    ],
)
def test_a_damaged_file_of_a_run_is_named_with_what_helps(done: Run, tmp_path: Path, damage, said: str):
    out = copied(done, tmp_path / "run")
    damage(out)
    with pytest.raises(ThalwegError, match=f"{said}.*give the survey command again"):
        write_report(open_run(out), tmp_path / "report.html", workers=1)


def test_a_shape_that_says_nothing_is_damage_where_there_are_curves(tmp_path: Path):
    run = World().save(tmp_path / "run")
    whole.write_json(run.path / "shape.json", [])
    with pytest.raises(ThalwegError, match=r"shape\.json: damaged.*it holds no verdict"):
        _ = Run(run.path).shape


def test_a_run_that_is_not_finished_says_so(tmp_path: Path):
    whole.write_json(tmp_path / "settings.json", {})
    with pytest.raises(ThalwegError, match="this run is not finished"):
        open_run(tmp_path)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(data=st.data(), file=st.sampled_from(["run.json", "shape.json", "comparison.json"]))
def test_any_json_in_a_run_gives_a_report_or_one_of_our_errors(
    done: Run, tmp_path: Path, data: st.DataObject, file: str
):
    before = (done.path / file).read_text()
    content = json.loads(before)
    if isinstance(content, dict) and data.draw(st.booleans()):
        place = data.draw(st.sampled_from(sorted(content)))
        if isinstance(content[place], dict) and content[place] and data.draw(st.booleans()):
            content[place][data.draw(st.sampled_from(sorted(content[place])))] = data.draw(json_like)
        else:
            content[place] = data.draw(json_like)
    else:
        content = data.draw(json_like)
    try:
        (done.path / file).write_text(json.dumps(content))
        with suppress(ThalwegError):
            write_page(open_run(done.path), tmp_path / "report.html")
    finally:
        (done.path / file).write_text(before)


def write_page(run: Run, path: Path) -> None:
    """The report without the files of its charts, which take long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("thalweg.report.page._export", lambda _: "")
        write_report(run, path, workers=1)


def test_hostile_names_are_drawn():
    rows = [
        {"rung": name, "control": "trained", "score": 0.7, "low": 0.6, "high": 0.8, "coverage": 1.0, "seed": None}
        for name in HOSTILES
    ]
    chart = charts.by_rung(rows, HOSTILES, value="score", axis=charts.ValueAxis("{{ x }}", (0, 1)))
    made = charts.printed(charts.Figure("x", "x", (), (charts.Panel("\x1b[31m", "", chart),), control_shapes=True))
    svg = vl_convert.vegalite_to_svg(json.dumps(made), vl_version="5.20")
    assert vl_convert.svg_to_png(svg)
    assert "\\x1b[31mred" in svg
    assert "constructor" in svg


def renamed(run: Run, folder: Path, control: str, name: str) -> Run:
    """A copy of a run, one of whose controls has another name."""
    out = copied(run, folder)
    for file in out.glob("*.parquet"):
        frame = pl.read_parquet(file)
        if "control" in frame.columns:
            whole.write_frame(file, frame.with_columns(pl.col("control").replace({control: name})))
    return open_run(out)


def test_a_twin_of_any_name_is_drawn(done: Run, tmp_path: Path):
    run = renamed(done, tmp_path / "run", "rotated", "my <twin>")
    html = render(run)
    assert "my &lt;twin&gt;" in html
    (ladder,) = ladders(run)
    assert ladder.controls == ("trained", "untrained", "my <twin>")
    drawn = [charts.printed(figure) for figure in figures.figures(ladder)]
    assert not [figure.failed for figure in figures.figures(ladder) if figure.failed]
    assert '"my <twin>"' in json.dumps(drawn)
    assert styles.PAPER["--twin-1"] in json.dumps(drawn)


def test_a_figure_that_fails_costs_only_itself(done: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(*_given: object, **_options: object) -> None:
        raise RuntimeError("ink ran out")

    monkeypatch.setattr(charts, "capacity", broken)
    monkeypatch.setattr("thalweg.report.page.vl_convert.vegalite_to_svg", broken)
    html = write_report(done, tmp_path / "report.html", workers=1).read_text()
    assert "This figure could not be drawn: RuntimeError: ink ran out" in html
    assert "could not be drawn: RuntimeError: ink ran out" in html.partition("How to reproduce it")[2]
    assert 'id="ladder-1-layers-1"' in html


def test_a_report_that_cannot_be_written_names_the_option(done: Run, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ThalwegError, match="name a file elsewhere with --out"):
        write_report(done, tmp_path / "file/report.html", workers=1)
    with pytest.raises(ThalwegError, match="this is a folder"):
        write_report(done, tmp_path, workers=1)


@pytest.fixture
def homeless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Neither HOME nor an entry of the user's, as in containers; where temporary files lie."""

    def nobody(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setenv("HOME", "to be put back")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_user_without_a_home_gets_one_that_is_theirs_alone(homeless: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(RuntimeError):
        Path.home()
    home.home_where_there_is_none()
    made = Path.home()
    assert made.parent == homeless
    assert made.stat().st_mode & 0o777 == 0o700
    assert usual_cache().is_relative_to(made)
    monkeypatch.delenv("HOME")
    home.home_where_there_is_none()
    assert Path.home() == made
    made.chmod(0o777)
    monkeypatch.delenv("HOME")
    home.home_where_there_is_none()
    assert Path.home() != made
    home.home_where_there_is_none()  # there is one now
    assert len(list(homeless.iterdir())) == 2


def test_a_place_for_a_home_that_is_taken_or_not_there_is_no_fault(homeless: Path, monkeypatch: pytest.MonkeyPatch):
    (homeless / f"thalweg-home-{os.getuid()}").write_text("")
    home.home_where_there_is_none()
    assert Path.home().is_dir()
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(tempfile, "tempdir", str(homeless / "nothing"))
    home.home_where_there_is_none()
    assert "HOME" not in os.environ


def test_a_home_of_a_user_who_is_not_there_is_a_name_like_any_other():
    assert sources.sources_of("~nobody-of-this-name/d") == [InFolder(Path("~nobody-of-this-name/d"))]
    assert checkpoints.named("~nobody-of-this-name/m").name == "~nobody-of-this-name/m"


def test_tensors_can_be_read_by_whoever_can_read_the_other_files_of_a_run(tmp_path: Path):
    whole.write_json(tmp_path / "run.json", {})
    whole.write_tensors(tmp_path / "weights.safetensors", {"a": torch.zeros(2)})
    assert (tmp_path / "weights.safetensors").stat().st_mode == (tmp_path / "run.json").stat().st_mode


def test_a_file_of_a_run_that_may_not_be_read_is_not_called_damaged(done: Run, monkeypatch: pytest.MonkeyPatch):
    def refused(path: Path, *_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refused)
    for read, name in ((whole.read_frame, "models.parquet"), (whole.read_json, "run.json")):
        with pytest.raises(ThalwegError, match=rf"{name}: cannot be read \(Permission denied\); its owner.*chmod a\+r"):
            read(done.path / name)


def test_a_folder_or_a_device_is_never_replaced_by_a_file(tmp_path: Path):
    (tmp_path / "device").symlink_to("/dev/null")
    (tmp_path / "folder").mkdir()
    for name, said in (("device", "is a device or a pipe"), ("folder", "is a folder")):
        with pytest.raises(ThalwegError, match=f"{name}: {said}"):
            whole.write_text(tmp_path / name, "x")
        with pytest.raises(ThalwegError, match=f"{name}: {said}.*name a file with --out"):
            whole.writable_file(tmp_path / name, "--out")
    assert (tmp_path / "device").is_char_device()
    with pytest.raises(ThalwegError, match=r"cannot be written .*choose another with --out"):
        whole.writable_file(tmp_path / "device" / "file", "--out")
    whole.writable_file(tmp_path / "new" / "file", "--out")
    assert (tmp_path / "new").is_dir()


def test_a_cache_that_cannot_be_written_names_the_option(tmp_path: Path):
    (tmp_path / "home").write_text("")
    with pytest.raises(ThalwegError, match=r"cannot be written .*choose another with --cache"):
        whole.writable(tmp_path / "home/.cache", "--cache")


def test_a_device_in_place_of_a_file_is_not_read_for_some_have_no_end(done: Run, tmp_path: Path):
    for name, read in (
        ("facts.json", json_value),
        ("study.toml", read_study),
        ("explanations.jsonl", done.import_explanations),
        ("consent.txt", lambda path: StudySettings(consent=str(path)).consent_text()),
    ):
        (tmp_path / name).symlink_to("/dev/null")
        with pytest.raises(ThalwegError, match=rf"{name}.*it is a device"):
            read(tmp_path / name)


def test_a_task_that_fails_says_it_in_a_sentence_and_keeps_its_traceback(tmp_path: Path):
    def work():
        yield
        raise KeyError("conv1")

    ladder = replace(tiny_ladder(), name="m")
    rung = replace(ladder.rungs[0], name="r")
    images = blobs(4, seed=0)
    model = job.Model(RunDirectory(tmp_path), ladder, rung, 0, Settings(), Splits(images, images, images), "hash")
    said = job.failure_of([model], work())
    assert said == "KeyError: 'conv1' (the traceback is in failures/m-r-0.txt of the run directory)"
    assert "Traceback" in (tmp_path / "failures/m-r-0.txt").read_text()


ENDS = [
    (ThalwegError("mistaken"), terminal.MISTAKE, "error: mistaken"),
    (KeyboardInterrupt(), terminal.INTERRUPTED, "interrupted"),
    (
        ZeroDivisionError("by 0"),
        terminal.UNEXPECTED,
        "unexpected ZeroDivisionError: by 0; give the command again with --debug",
    ),
    (MemoryError(), terminal.MISTAKE, "memory ran out"),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory"), terminal.MISTAKE, "memory ran out"),
    (OSError(errno.ENOSPC, "No space left on device"), terminal.MISTAKE, "the output cannot be written (No space left"),
    (
        OSError(errno.ENAMETOOLONG, "File name too long", "xx"),
        terminal.MISTAKE,
        "xx: File name too long; name another path",
    ),
    (BrokenPipeError(errno.EPIPE, "closed"), terminal.CLOSED, ""),
]


@pytest.mark.parametrize(("wrong", "status", "said"), ENDS, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("debug", [False, True])
def test_every_end_has_its_status_and_one_message(wrong, status, said, debug, monkeypatch, capfd):
    def ends() -> None:
        raise wrong

    monkeypatch.setattr(cli, "app", ends)
    monkeypatch.setattr(sys, "argv", ["thalweg", "list", *([cli.DEBUG] if debug else [])])
    monkeypatch.setattr(os, "dup2", lambda *_: None)
    with pytest.raises(SystemExit) as end:
        cli.main()
    shown = capfd.readouterr().err
    assert end.value.code == status
    assert said in shown
    traced = debug and not isinstance(wrong, BrokenPipeError | KeyboardInterrupt)
    assert ("Traceback" in shown) == traced
    assert (len(shown.splitlines()) > 1) == traced


def test_errors_are_documented_with_their_statuses():
    page = (Path(__file__).parents[1] / "docs/errors.md").read_text()
    for status in (0, terminal.UNEXPECTED, terminal.MISTAKE, terminal.INTERRUPTED, terminal.CLOSED):
        assert f"| {status} |" in page
    for wrong, _, said in ENDS:
        assert not said or isinstance(wrong, ThalwegError) or said.split(" (")[0].split(" ZeroDiv")[0] in page
    for said in (
        "holds no run, but other things",
        "this run is not finished",
        "damaged or truncated",
        "share the file name",
    ):
        assert said in page


def test_nothing_in_a_text_steers_the_terminal(capsys: pytest.CaptureFixture[str]):
    terminal.Terminal().print("\x1b[2J :bear: \u202etxt\u2028 \ud800 [bold]x", markup=False)
    assert capsys.readouterr().out == "\\x1b[2J :bear: \\u202etxt\\u2028 \\ud800 [bold]x\n"
    assert terminal.printable("naïve 🐻 שלום\n") == "naïve 🐻 שלום\n"


def test_a_closed_or_full_output_ends_quietly(tmp_path: Path):
    command = f"{sys.executable} -c 'from thalweg.cli import main; main()' list observers"
    env = os.environ | {"PYTHONPATH": str(Path(thalweg.__file__).parents[1])}
    shown = subprocess.run(f"({command}; echo $? >&2) | true", shell=True, capture_output=True, text=True, env=env)
    assert shown.stderr.split() == [str(terminal.CLOSED)]


def test_an_interruption_while_the_command_is_imported_shows_no_traceback(monkeypatch, capsys):
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    monkeypatch.setattr(sys, "argv", ["own.py"])
    interrupts.quiet_for_the_command()
    assert sys.excepthook is sys.__excepthook__
    monkeypatch.setattr(sys, "argv", ["/usr/bin/thalweg", "list"])
    interrupts.quiet_for_the_command()
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    sys.excepthook(ValueError, ValueError("a fault"), None)
    shown = capsys.readouterr().err
    assert shown.startswith("interrupted\n")
    assert "ValueError: a fault" in shown


def test_what_keeps_an_interruption_quiet_waits_for_no_import():
    code = "import sys; before = set(sys.modules); exec(sys.stdin.read(), {}); print(*set(sys.modules) - before)"
    source = Path(interrupts.__file__).read_text()
    shown = subprocess.run([sys.executable, "-I", "-c", code], input=source, capture_output=True, text=True, check=True)
    assert shown.stdout == "\n"
    first = next(line for line in Path(thalweg.__file__).read_text().splitlines() if "import " in line)
    assert first == "from thalweg.interrupts import quiet_for_the_command"


def test_the_library_of_charts_is_made_once_a_machine_and_again_where_its_file_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    made: list[str] = []

    def bundle(snippet: str, vl_version: str) -> str:
        made.append(vl_version)
        return "draw('\n</script>ä');"

    monkeypatch.setattr(page.vl_convert, "javascript_bundle", bundle)
    fresh = page._library.__wrapped__
    library = fresh()
    assert "</script" not in library
    assert fresh() == library
    assert len(made) == 1
    (kept,) = (tmp_path / ".cache/thalweg").iterdir()
    for damaged in (kept.read_bytes()[:-3], b"", b"\xff\xff"):
        kept.write_bytes(damaged)
        assert fresh() == library
    assert len(made) == 4
    kept.unlink()
    kept.mkdir()  # cannot be written
    assert fresh() == library
