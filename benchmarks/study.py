"""Many participants at once against a study's server: how long answers take, and whether one is lost or stored twice.

    python -m benchmarks.study STUDY                       # 500 participants, SQLite
    python -m benchmarks.study STUDY --postgres            # Debian's PostgreSQL, started here for the measurement
    python -m benchmarks.study STUDY --kills 20            # the server is killed 20 times with SIGKILL meanwhile

The server is a process of its own, the participants share another one, on the same cores. A participant answers after
a log-normal time (median 4.5 seconds), so 500 of them send a hundred answers a second. One request in fifty is cut off
by its sender before the reply and sent again, as by a lost network. All stimuli are part of the replies. At the end
every response that the server acknowledged must be in the database, once and unchanged, and no other.
"""

import argparse
import asyncio
import json
import math
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thalweg.study.design import Study, open_study
from thalweg.study.store import open_store, responses
from thalweg.study.tokens import Tokens

CUT = 0.02  # of requests
SPREAD = 0.4  # of the logarithm of the time to answer
TOOLS = [Path(folder) for folder in ("/usr/lib/postgresql/17/bin", "/usr/lib/postgresql/15/bin", "/usr/bin")]


class Lost(Exception):
    """The connection was lost."""


@dataclass
class Measured:
    """What was measured."""

    seconds: list[float] = field(default_factory=list)  # of each answer
    entering: list[float] = field(default_factory=list)
    again: int = 0  # requests that were sent again
    stored: dict[tuple[str, int], tuple[str, int, int]] = field(default_factory=dict)  # what was acknowledged


class Client:
    """One participant's connection: as little HTTP as it takes, so that the measurement costs little."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.token = ""
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: dict[str, Any], *, cut: bool = False) -> tuple[int, dict[str, Any]]:
        """Send a request; if it is cut off, close the connection before the reply."""
        try:
            if self.streams is None:
                self.streams = await asyncio.open_connection("127.0.0.1", self.port)
            reader, writer = self.streams
            content = json.dumps(body).encode()
            token = f"Authorization: Bearer {self.token}\r\n" if self.token else ""
            writer.write(
                f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nContent-Type: application/json\r\n{token}"
                f"Content-Length: {len(content)}\r\n\r\n".encode()
                + content
            )
            await writer.drain()
            if cut:
                raise Lost
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            return int(head.split(b" ")[1]), json.loads(await reader.readexactly(length))
        except (OSError, EOFError, Lost) as wrong:
            if self.streams is not None:
                self.streams[1].close()
            self.streams = None
            raise Lost from wrong


async def ask(client: Client, path: str, body: dict[str, Any], measured: Measured, rng: random.Random) -> Any:
    """A request, sent again until it is answered; how long the last sending took is returned too."""
    cut = rng.random() < CUT
    while True:
        start = time.perf_counter()
        try:
            status, told = await client.post(path, body, cut=cut)
        except Lost:
            cut = False
            measured.again += 1
            await asyncio.sleep(0.2)
            continue
        if status == 503:
            await asyncio.sleep(0.2)
            continue
        if status != 200:
            raise RuntimeError(f"{path}: {status} {told}")
        return told, time.perf_counter() - start


async def take_part(number: int, study: Study, port: int, think: float, measured: Measured) -> None:
    """One participant from first to last."""
    rng, client, external = random.Random(number), Client(port), f"load-{number:04}"
    link = Tokens(study).link("link", external)
    view, seconds = await ask(client, "/api/enter", {"link": link}, measured, rng)
    measured.entering.append(seconds)
    client.token = view["session"]
    await ask(client, "/api/consent", {}, measured, rng)
    await asyncio.sleep(think * rng.random())
    view, _ = await ask(client, "/api/instructed", {}, measured, rng)
    while "trial" in view:
        await asyncio.sleep(think * math.exp(rng.gauss(0, SPREAD)))
        item = study.items[view["trial"]["id"]]
        picked = item.correct if item.kind == "practice" or rng.random() < 0.8 else 1 - item.correct
        answer = {"trial": item.trial, "picked": picked, "confidence": rng.randint(1, 3), "seconds": 1.0}
        position = view["position"]
        view, seconds = await ask(client, "/api/answer", {"position": position, **answer}, measured, rng)
        measured.seconds.append(seconds)
        measured.stored[external, position] = (item.trial, picked, answer["confidence"])


class Server:
    """The study's server, as a user starts it."""

    def __init__(self, study: Study, url: str) -> None:
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.command = [sys.executable, "-m", "thalweg", "study", "serve", str(study.path), "--port", str(self.port)]
        self.command += ["--flood", "0", "--database", url]
        self.start()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)
        while True:
            with suppress(OSError), closing(socket.create_connection(("127.0.0.1", self.port))):
                return
            if self.process.poll() is not None:
                raise SystemExit("the server did not start")
            time.sleep(0.05)

    def kill(self) -> None:
        """Kill it in the middle of whatever it does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@contextmanager
def postgres() -> Iterator[str]:
    """The URL of a database of a PostgreSQL that runs for as long as the block."""
    tools = next(folder for folder in TOOLS if (folder / "initdb").exists())
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    shutil.chown(folder, user)

    def run(*words: str) -> None:
        as_user = {"user": user} if os.geteuid() == 0 else {}
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, cwd=folder, **as_user)

    run(str(tools / "initdb"), "-D", f"{folder}/data", "-U", "postgres", "-A", "trust")
    options = f"-k {folder} -c listen_addresses=''"
    run(str(tools / "pg_ctl"), "-D", f"{folder}/data", "-w", "-o", options, "-l", f"{folder}/log", "start")
    try:
        yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
    finally:
        run(str(tools / "pg_ctl"), "-D", f"{folder}/data", "-m", "fast", "stop")
        shutil.rmtree(folder)


async def measure(study: Study, server: Server, given: argparse.Namespace) -> Measured:
    """All participants, who arrive over some seconds, and the kills."""
    measured = Measured()

    async def later(number: int) -> None:
        await asyncio.sleep(given.arrivals * number / given.participants)
        await take_part(number, study, server.port, given.think, measured)

    async def kills() -> None:
        for _ in range(given.kills):
            await asyncio.sleep(random.uniform(0.5, 2.5))
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)

    await asyncio.gather(*(later(number) for number in range(given.participants)), kills())
    return measured


def compare(study: Study, url: str, measured: Measured) -> dict[str, int]:
    """What of the acknowledged responses is missing, changed or there without having been acknowledged."""
    import sqlalchemy as sa

    from thalweg.study.store import participants

    store = open_store(study, url)
    query = sa.select(participants.c.external, responses.c.position, responses.c.trial, responses.c.picked)
    query = query.add_columns(responses.c.confidence).join(participants, participants.c.id == responses.c.participant)
    with store.reading() as connection:
        there = {(row[0], row[1]): tuple(row[2:]) for row in connection.execute(query)}
        rows = connection.execute(sa.select(sa.func.count()).select_from(responses)).scalar_one()
    store.close()
    wrong = sum(key in there and there[key] != value for key, value in measured.stored.items())
    lost = len(measured.stored.keys() - there.keys())
    return {"acknowledged": len(measured.stored), "rows": rows, "lost": lost, "changed": wrong}


def percentiles(seconds: list[float]) -> str:
    """Median, 99th percentile and maximum in milliseconds."""
    ordered = sorted(seconds)
    cut = [ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1e3 for share in (0.5, 0.99, 1.0)]
    return "median {:.0f} ms, 99th percentile {:.0f} ms, most {:.0f} ms".format(*cut)


def main() -> None:
    """Measure, and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", help="a study that `thalweg study create` made")
    parser.add_argument("--participants", type=int, default=500)
    parser.add_argument("--think", type=float, default=4.5, help="median seconds to an answer")
    parser.add_argument("--arrivals", type=float, default=60, help="seconds over which participants arrive")
    parser.add_argument("--kills", type=int, default=0, help="how often the server is killed")
    parser.add_argument("--postgres", action="store_true")
    given = parser.parse_args()
    study = open_study(given.study)
    with tempfile.TemporaryDirectory() as folder, postgres() if given.postgres else _sqlite(folder) as url:
        server = Server(study, url)
        start = time.perf_counter()
        try:
            measured = asyncio.run(measure(study, server, given))
        finally:
            server.kill()
        wall = time.perf_counter() - start
        print(f"{given.participants} participants, {'PostgreSQL' if given.postgres else 'SQLite'}, {given.kills} kills")
        print(f"answers: {len(measured.seconds):,} in {wall:.0f} s; {percentiles(measured.seconds)}")
        print(f"entering: {percentiles(measured.entering)}; {measured.again:,} requests sent again")
        print(", ".join(f"{name} {number:,}" for name, number in compare(study, url, measured).items()))


@contextmanager
def _sqlite(folder: str) -> Iterator[str]:
    yield f"sqlite:///{folder}/responses.db"


if __name__ == "__main__":
    main()
