"""A run as a dataset on the hub, on a hub of the tests' own."""

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import thalweg
from support.caches import contents, repository
from support.tiny import short_ladder
from thalweg import Run, ThalwegError, cli
from thalweg.downloads.missing import Missing
from thalweg.runs.directory import RunDirectory
from thalweg.sharing.hub import plan


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("shared")
    options = {"seeds": 1, "workers": 1, "resamples": 100, "cache": folder, "twins": "none"}
    made = thalweg.survey(short_ladder(), observer="hog", out=folder / "run", **options)
    (made.path / "answers.parquet").write_bytes(b"of people")
    (made.path / "failures").mkdir()
    (made.path / "failures" / "a.txt").write_text("a traceback")
    return made


class RepositoryNotFoundError(Exception):
    """As the hub's client calls it."""


class Hub:
    """A hub that keeps datasets in memory, with the part of its client that is used here."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.commits: list[str] = []

    def create_repo(self, name: str, *, repo_type: str, private: bool, exist_ok: bool) -> str:
        assert (repo_type, exist_ok) == ("dataset", True)
        self.private.setdefault(name, private)
        return f"https://huggingface.co/datasets/{name}"

    def repo_info(self, name: str, **_: object) -> SimpleNamespace:
        if name not in self.private:
            raise RepositoryNotFoundError(name)
        siblings = [SimpleNamespace(rfilename=path, size=len(each)) for path, each in self.files.get(name, {}).items()]
        return SimpleNamespace(private=self.private[name], siblings=siblings)

    def create_commit(self, name: str, operations: list, *, commit_message: str, repo_type: str) -> None:
        assert repo_type == "dataset"
        self.commits.append(commit_message)
        for each in operations:
            given = each.path_or_fileobj
            self.files.setdefault(name, {})[each.path_in_repo] = (
                given if isinstance(given, bytes) else Path(given).read_bytes()
            )


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A hub of the test's own, and an empty cache of its client."""
    made, cache = Hub(), tmp_path / "hub"

    def snapshot(name: str, *, local_dir: Path | None = None, local_files_only: bool = False, **where: object) -> str:
        here = cache / f"datasets--{name.replace('/', '--')}"
        if local_files_only:
            found = next(iter(here.glob("snapshots/*")), None)
            if found is None:
                raise FileNotFoundError(name)
            return str(found)
        if local_dir is None:
            return str(repository(cache, name, made.files[name], kind="datasets"))
        for path, content in made.files[name].items():
            (local_dir / path).parent.mkdir(parents=True, exist_ok=True)
            (local_dir / path).write_bytes(content)
        return str(local_dir)

    monkeypatch.setattr("huggingface_hub.HfApi", lambda: made)
    monkeypatch.setattr("huggingface_hub.repo_info", made.repo_info)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    return made


def test_a_run_that_was_pushed_is_pulled_and_opened_again(run: Run, hub: Hub, tmp_path: Path):
    told: list[str] = []
    progress = SimpleNamespace(say=told.append)
    with pytest.raises(Missing, match=r"hf://me/tiny: not in .*thalweg pull me/tiny"):
        thalweg.open_run("hf://me/tiny")
    address = thalweg.push(run, "me/tiny", licence="cc-by-4.0", progress=progress)
    assert address == "https://huggingface.co/datasets/me/tiny"
    assert hub.private == {"me/tiny": True}
    assert "private: only you" in told[0]
    assert any(line.startswith("  units/: 2 files, ") for line in told)
    folders = {name.partition("/")[0] for name in hub.files["me/tiny"] if "/" in name}
    assert folders == {"recordings", "steps", "units"}  # neither weights nor failures, nor parts
    assert "answers.parquet" not in hub.files["me/tiny"]
    pulled = thalweg.pull("me/tiny", progress=progress)
    assert "to be fetched: me/tiny@main of the Hugging Face hub" in told[-1]
    for opened in (pulled, thalweg.open_run("hf://me/tiny"), thalweg.open_run(Path("hf://me/tiny"))):
        assert opened.models.equals(run.models)
        assert opened.units.equals(run.units)
        assert opened.record == run.record
    trials = pulled.trials(short_ladder(), "dense-4", units=(0,), per_unit=2)
    assert [trial.id for trial in trials] == [t.id for t in run.trials("tiny", "dense-4", units=(0,), per_unit=2)]
    mine = thalweg.pull("me/tiny", tmp_path / "mine")
    assert mine.path == tmp_path / "mine"
    assert mine.scores.equals(run.scores)
    with pytest.raises(ThalwegError, match="mine: is there already"):
        thalweg.pull("me/tiny", tmp_path / "mine")


def test_nothing_is_written_into_the_clients_cache(run: Run, hub: Hub):
    thalweg.push(run, "me/tiny")
    pulled = thalweg.pull("me/tiny")
    before = contents(pulled.path)
    with pytest.raises(ThalwegError, match="lies in the cache of the hub's client, where nothing is written"):
        thalweg.write_report(pulled)
    run_directory = RunDirectory(pulled.path)  # by which answers and explanations are kept
    with pytest.raises(ThalwegError, match="thalweg pull OWNER/NAME --out DIR"), run_directory.locked():
        pass
    with pytest.raises(ThalwegError, match="where nothing is written"):
        thalweg.write_unit_pages(pulled)
    assert contents(pulled.path) == before


def test_the_card_says_what_was_measured_and_by_what(run: Run, hub: Hub):
    thalweg.push(run, "me/tiny", licence="cc-by-4.0")
    card = hub.files["me/tiny"]["README.md"].decode()
    head, body = card.split("---\n")[1:3]
    assert "license: cc-by-4.0" in head
    assert "data_files: units/*.parquet" in head
    assert run.verdict["tiny"]["predictable"]["sentence"].replace("<", "&lt;") in body
    assert f"| thalweg | {run.record['versions']['thalweg']} |" in body
    assert "| tiny | bright corners | 2 |" in body
    assert "| one_sided (predictable) |" in body
    assert "hog 1" in body
    assert "The numbers: `cc-by-4.0`" in body
    score = run.models.filter(rung="dense-4", control="trained")["predictable"][0]
    assert "| tiny | dense-4 | 0 | " in body
    assert f"{score:.3f}" in body
    assert "bright corners" in body
    thalweg.push(run, "me/other")
    assert "license:" not in hub.files["me/other"]["README.md"].decode()


def test_a_name_in_a_run_makes_no_html_and_no_row(run: Run, hub: Hub, tmp_path: Path):
    shutil.copytree(run.path, tmp_path / "run")
    record = (tmp_path / "run" / "run.json").read_text().replace("bright corners", "<b>|x|</b>")
    (tmp_path / "run" / "run.json").write_text(record)
    thalweg.push(tmp_path / "run", "me/odd")
    assert "| tiny | &lt;b>\\|x\\|&lt;/b> | 2 |" in hub.files["me/odd"]["README.md"].decode()


def test_what_is_uploaded_is_what_was_asked_for(run: Run, hub: Hub):
    thalweg.push(run, "me/whole", also=("weights", "answers"), public=True)
    assert "answers.parquet" in hub.files["me/whole"]
    assert any(name.startswith("weights/") for name in hub.files["me/whole"])
    assert hub.private["me/whole"] is False
    with pytest.raises(ThalwegError, match="there already and public"):
        thalweg.push(run, "me/whole")
    assert len(hub.commits) == 1
    with pytest.raises(ThalwegError, match="no part of a run that can be uploaded too is called 'weight'"):
        thalweg.push(run, "me/other", also=("weight",))
    with pytest.raises(ThalwegError, match=r"'tiny' names no dataset .*OWNER/NAME"):
        thalweg.push(run, "tiny")
    assert plan(run, "me/x", public=True)[0].endswith("(anyone can read it):")


@pytest.mark.parametrize(
    ("name", "message"), [("hf://me", "hf://OWNER/NAME was expected"), ("hf://me/no", "not in .*thalweg pull me/no")]
)
def test_addresses_that_name_no_run_are_told(hub: Hub, name: str, message: str):
    with pytest.raises(ThalwegError, match=message):
        thalweg.open_run(name)


def test_what_is_no_run_or_not_there_is_told(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object, **__: object) -> None:
        raise RepositoryNotFoundError("404")

    hub.private["me/pictures"], hub.files["me/pictures"] = True, {"a.png": b"x"}
    with pytest.raises(ThalwegError, match=r"holds no run\.json, so it is no run of thalweg"):
        thalweg.pull("me/pictures")
    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(ThalwegError, match="the hub has no such repository, or it is private"):
        thalweg.pull("me/nothing")


def test_the_command_line_shows_what_it_uploads_and_asks(
    run: Run, hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    def command(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["thalweg", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: False))
    assert command("push", str(run.path), "me/cli") == 2
    shown = capsys.readouterr()
    assert "in all" in shown.out
    assert "nothing was uploaded; add --yes" in shown.err
    assert not hub.files
    assert command("push", str(run.path), "me/cli", "--yes") == 0
    assert "dataset: https://huggingface.co/datasets/me/cli" in capsys.readouterr().out
    assert command("pull", "me/cli") == 0
    assert "run: hf://me/cli" in capsys.readouterr().out
