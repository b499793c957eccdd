"""The same database in PostgreSQL: Debian's package, started here; skipped where it is not installed."""

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.study import TOOLS, postgres

from support.studies import go_through, right, study_in
from thalweg import ThalwegError
from thalweg.study import export
from thalweg.study.overview import overview
from thalweg.study.session import Sessions
from thalweg.study.store import open_store

pytestmark = pytest.mark.skipif(
    not any((folder / "initdb").exists() for folder in TOOLS), reason="PostgreSQL is not installed"
)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with postgres() as url:
        yield url


def test_participants_who_come_at_once_share_no_list_and_lose_no_response(url: str, tmp_path: Path):
    study = study_in(tmp_path)
    store = open_store(study, url)
    sessions = Sessions(study, store)
    last: dict[int, str] = {}

    def come(number: int) -> None:
        last[number] = go_through(sessions, f"{number % 8}", right, most=6)["phase"]

    threads = [threading.Thread(target=come, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert last == dict.fromkeys(range(8), "main")
    people, answers = export.tables(study, store)
    assert len(people) == 8
    assert len(answers) == 8 * 6
    assert answers.group_by("participant").len()["len"].to_list() == [6] * 8
    asked = Counter(answers.filter(position=3)["trial"])
    assert set(asked) <= {trials[0] for trials in study.lists["crossed"]}
    told = overview(study, store, people["started_at"].max().timestamp() + 60)
    assert told["units"]["responses"] == len(answers.filter(kind="main"))
    assert sum(told["latest"]) == 48
    assert store.delete("3") == 1
    assert export.export(study, store, tmp_path / "export") == {"started": 7, "responses": 42}
    store.close()
    again = open_store(study, url)  # its tables are there already
    assert again.state() == "open"
    again.close()
    with pytest.raises(ThalwegError, match="holds another study"):
        open_store(replace(study, name="other"), url)
