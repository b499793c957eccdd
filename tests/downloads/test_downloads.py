"""What is missing is fetched where the user agrees, and not otherwise."""

import pickle
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import thalweg
from support.caches import repository
from thalweg import ThalwegError, cli
from thalweg.downloads.hub import HubFiles, below, first_of, of_model
from thalweg.downloads.missing import Missing, gathered, lines_of, with_downloads
from thalweg.downloads.urls import UrlFile
from thalweg.subjects import find


@dataclass
class Parcel:
    """Something to fetch, into a set."""

    what: str
    here: set[str] = field(default_factory=set)
    works: bool = True

    def about(self) -> str:
        return "3.0 MB, licence mit"

    def fetch(self) -> None:
        if self.works:
            self.here.add(self.what)


def test_what_is_missing_is_fetched_and_the_same_is_tried_again():
    here: set[str] = set()
    asked = []

    def action() -> str:
        for name in ("model", "observer"):
            if name not in here:
                raise Missing(f"{name} is not here", [Parcel(name, here)])
        return "done"

    def agree(fetches: list[Parcel]) -> bool:
        asked.extend(lines_of(fetches))
        return True

    assert with_downloads(action, agree) == "done"
    assert asked == [f"to be fetched: {name} (3.0 MB, licence mit)" for name in ("model", "observer")]
    here.clear()
    with pytest.raises(Missing, match="model is not here"):
        with_downloads(action, lambda _: False)
    assert not here
    error = pickle.loads(pickle.dumps(gathered("both", [ThalwegError("a"), Missing("b", [Parcel("c")])])))
    assert (str(error), [fetch.what for fetch in error.fetches]) == ("both", ["c"])


def test_what_is_missing_after_it_was_fetched_is_an_error():
    calls = []

    def action() -> None:
        calls.append(1)
        raise Missing("never here", [Parcel("model", works=False)])

    with pytest.raises(Missing, match="never here"):
        with_downloads(action, lambda _: True)
    assert len(calls) == 2


TORCHVISION = "torchvision:shufflenet_v2_x0_5"


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """PyTorch's client, which notes what it is asked for and fails as without a network."""
    calls = []

    def download(url: str, dst: str, hash_prefix: str | None, progress: bool) -> None:
        calls.append((url, hash_prefix))
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    return calls


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> object:
    monkeypatch.setattr(sys, "argv", ["thalweg", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code


def test_a_command_says_what_would_fetch_and_fetches_where_it_is_told(
    fetched: list, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    words = ("measure", TORCHVISION, "--stimuli", "my pictures")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: False))
    assert command(monkeypatch, *words) == 2
    said = capsys.readouterr().err
    assert f"to fetch it: thalweg measure {TORCHVISION} --stimuli 'my pictures' --download" in said
    assert not fetched
    assert command(monkeypatch, *words, "--download") == 2
    said = capsys.readouterr().err
    assert "to be fetched: shufflenetv2_x0.5-f707e7126e.pth" in said
    assert "MB; torchvision names no licence" in said
    assert "cannot be fetched (OSError: no network)" in said
    assert [hash_prefix for _, hash_prefix in fetched] == ["f707e7126e"]


@pytest.mark.parametrize(("answer", "asks"), [(True, 1), (False, 0)])
def test_a_user_at_a_terminal_is_asked(
    fetched: list, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, answer: bool, asks: int
):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("typer.confirm", lambda *_, **__: answer)
    assert command(monkeypatch, "measure", TORCHVISION, "--stimuli", "x") == 2
    assert "to be fetched: shufflenetv2_x0.5" in capsys.readouterr().err
    assert len(fetched) == asks


def test_python_fetches_where_it_is_asked_to(fetched: list):
    lines: list[str] = []
    with pytest.raises(Missing):
        thalweg.measure(TORCHVISION, "x")
    assert not fetched
    with pytest.raises(ThalwegError, match="no network"):
        thalweg.measure(TORCHVISION, "x", download=True, progress=SimpleNamespace(say=lines.append))
    assert len(fetched) == 1
    assert "shufflenetv2" in lines[0]


LISTED = [
    "README.md", "config.json", "model.safetensors", "pytorch_model.bin", "onnx/model.onnx", "tokenizer.json",
    "1_Pooling/config.json", "consolidated.safetensors", "vocab.txt",
]  # fmt: skip


def test_of_a_repository_only_what_is_needed_is_fetched():
    needed = of_model(LISTED)
    assert needed == ["config.json", "model.safetensors", "tokenizer.json", "1_Pooling/config.json", "vocab.txt"]
    assert "pytorch_model.bin" in of_model([name for name in LISTED if not name.endswith(".safetensors")])
    assert first_of(("none", "vocab.txt", "README.md"))(LISTED) == ["vocab.txt"]
    assert below("onnx/")(LISTED) == ["onnx/model.onnx"]


def test_the_hubs_client_fetches_and_says_size_and_licence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A hub of the test's own, which puts what is asked for into the cache."""
    hub = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    siblings = [SimpleNamespace(rfilename=name, size=2_000_000) for name in LISTED]
    info = SimpleNamespace(siblings=siblings, card_data=SimpleNamespace(license="apache-2.0"), gated="manual")
    calls = []

    def snapshot(name: str, *, repo_type: str, revision: str, allow_patterns: list[str]) -> None:
        calls.append((name, revision, repo_type, tuple(allow_patterns)))
        repository(hub, name, dict.fromkeys(allow_patterns, b"{}"), revision=revision)

    monkeypatch.setattr("huggingface_hub.repo_info", lambda *_, **__: info)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    files = HubFiles("Owner/tiny", of_model, "step5")
    assert files.about() == "5 files, 10.0 MB, licence apache-2.0; its owner asks for agreement to terms"
    files.fetch()
    assert calls == [("Owner/tiny", "step5", "model", tuple(of_model(LISTED)))]
    assert (hub / "models--Owner--tiny" / "refs" / "step5").is_file()


class GatedRepoError(Exception):
    """As the hub's client calls it."""


def test_a_gated_repository_says_what_to_do(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object, **__: object) -> None:
        raise GatedRepoError("401")

    monkeypatch.setattr("huggingface_hub.repo_info", refuse)
    with pytest.raises(
        ThalwegError, match=r"agree at https://huggingface.co/google/gemma-3-270m, then .* hf auth login"
    ):
        HubFiles("google/gemma-3-270m", of_model).fetch()


def test_names_of_language_models_bring_what_fetches_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(Missing) as missing:
        find("hf:Owner/tiny@step5")
    assert missing.value.fetches == (HubFiles("Owner/tiny", of_model, "step5"),)
    with pytest.raises(ThalwegError) as nowhere:
        find("hf:/nowhere/at/all")
    assert not isinstance(nowhere.value, Missing)
    assert UrlFile("https://x.org/a-1234abcd.pth", tmp_path).what == "a-1234abcd.pth from https://x.org/a-1234abcd.pth"
