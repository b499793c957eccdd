"""The server killed in the middle of its work: every response that it acknowledged is there."""

import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from support import killed_server
from support.studies import study_in
from thalweg.study.design import Study
from thalweg.study.store import open_store, participants, responses
from thalweg.study.tokens import Tokens

KILLS = 20
BETWEEN = 6  # acknowledged responses from one kill to the next, at least
Stored = dict[tuple[str, int], tuple[str, int, int]]
WRITERS = 4
ROOT = Path(killed_server.__file__).parent.parent.parent


class Client:
    """Posts until there is a reply."""

    def __init__(self, port: int) -> None:
        self.port, self.headers, self.again = port, {"Content-Type": "application/json"}, 0

    def post(self, path: str, body: dict[str, Any]) -> Any:
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
            try:
                connection.request("POST", f"/api/{path}", json.dumps(body), self.headers)
                reply = connection.getresponse()
                told = json.loads(reply.read())
                assert reply.status == 200, told
                return told
            except (OSError, http.client.HTTPException):
                self.again += 1
            finally:
                connection.close()


def answer_until(over: threading.Event, number: int, study: Study, port: int, stored: Stored) -> None:
    """Let one participant after another answer, and note what was acknowledged."""
    rng, turn = random.Random(number), 0
    while not over.is_set():
        turn += 1
        client, external = Client(port), f"{number}-{turn}"
        view = client.post("enter", {"link": Tokens(study).link("link", external)})
        client.headers["Authorization"] = f"Bearer {view['session']}"
        client.post("consent", {})
        view = client.post("instructed", {})
        while "trial" in view:
            trial, position = view["trial"]["id"], view["position"]
            picked = study.items[trial].correct if view["phase"] == "practice" else rng.randrange(2)
            given = {
                "position": position,
                "trial": trial,
                "picked": picked,
                "confidence": rng.randint(1, 3),
                "seconds": 1,
            }
            view = client.post("answer", given)
            stored[external, position] = (trial, picked, given["confidence"])
            if over.is_set():
                return


def test_no_acknowledged_response_is_lost_or_doubled_by_twenty_kills(tmp_path: Path):
    study = study_in(tmp_path)
    url = f"sqlite:///{tmp_path}/kills.db"
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
    command = [sys.executable, killed_server.__file__, str(study.path), url]
    environment = {**os.environ, "PYTHONPATH": path}
    stored: Stored = {}
    over = threading.Event()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        writers = [
            threading.Thread(target=answer_until, args=(over, number, study, port, stored)) for number in range(WRITERS)
        ]
        process = int(server.stdout.readline())
        for writer in writers:
            writer.start()
        rng = random.Random(0)
        for _ in range(KILLS):
            before = len(stored)
            over.wait(rng.uniform(0.02, 0.1))
            while len(stored) < before + BETWEEN and all(writer.is_alive() for writer in writers):  # it is at work
                over.wait(0.01)
            os.kill(process, signal.SIGKILL)
            process = int(server.stdout.readline())
        over.set()
        for writer in writers:
            writer.join(60)
        server.kill()
        os.kill(process, signal.SIGKILL)
    store = open_store(study, url)
    query = sa.select(participants.c.external, responses).join(
        participants, participants.c.id == responses.c.participant
    )
    with store.reading() as connection:
        rows = connection.execute(query).mappings().all()
    store.close()
    there = {(row["external"], row["position"]): (row["trial"], row["picked"], row["confidence"]) for row in rows}
    assert len(stored) >= BETWEEN * KILLS
    assert {key: there.get(key) for key in stored} == stored
    assert len(rows) == len(there) <= len(stored) + WRITERS  # the last reply of each may have been on its way
    for external in {name for name, _ in there}:
        positions = sorted(position for name, position in there if name == external)
        assert positions == list(range(len(positions)))
