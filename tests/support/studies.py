"""A small study of a small run, made once, and people who answer it without a browser."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from support.surveys import run
from support.tiny import tiny_ladder
from thalweg import Run
from thalweg.study.create import create
from thalweg.study.design import Study, open_study
from thalweg.study.session import Answer, Sessions
from thalweg.study.settings import StudySettings

RUNGS = ("dense-8", "conv-3")
SETTINGS = StudySettings(units=4, trials=6, participants=8, catch=2, practice=3, break_every=3)
_FOLDER = TemporaryDirectory()


@cache
def surveyed(seeds: int = 1) -> Run:
    ladder = tiny_ladder()
    small = replace(ladder, rungs=tuple(rung for rung in ladder.rungs if rung.name in RUNGS))
    made = run(small, Path(_FOLDER.name) / f"run-{seeds}", seeds=seeds, resamples=100, twins=("none",))
    made.given["tiny"] = small
    return made


@cache
def _made() -> Study:
    return create(surveyed(), "small", SETTINGS, out=Path(_FOLDER.name) / "study")


def study_in(folder: Path) -> Study:
    """A copy of the small study, for a database of its own."""
    shutil.copytree(_made().path, folder / "study")
    return open_study(folder / "study")


def go_through(
    sessions: Sessions,
    external: str,
    choose: Callable[[Any, dict[str, Any]], int],
    *,
    most: int = 1000,
    source: str = "link",
) -> dict[str, Any]:
    """Let someone answer, at most so many trials; return what is shown last."""
    view = json.loads(sessions.enter(source, external))
    session = sessions.tokens.read_session(view["session"])
    sessions.consent(session)
    view = json.loads(sessions.instructed(session))
    for _ in range(most):
        if "trial" not in view:
            break
        item = sessions.study.items[view["trial"]["id"]]
        answer = Answer(view["position"], item.trial, choose(item, view), 1 + view["position"] % 3, 2.5)
        view = json.loads(sessions.answer(session, answer))
    return view


def right(item: Any, _: object) -> int:
    return int(item.correct)
