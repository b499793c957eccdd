"""The server at work: uvicorn in this process, and the links that it is reached by."""

import contextlib
import socket
from collections.abc import Callable, Generator
from dataclasses import dataclass
from threading import Thread
from time import sleep

import uvicorn
from starlette.types import ASGIApp

from thalweg.errors import ThalwegError
from thalweg.study.design import Study
from thalweg.study.tokens import Tokens

PROLIFIC = "?PROLIFIC_PID={{%PROLIFIC_PID%}}&STUDY_ID={{%STUDY_ID%}}&SESSION_ID={{%SESSION_ID%}}"
STARTING = 30.0  # seconds


@dataclass(frozen=True)
class Links:
    """The addresses of a study's pages.

    Attributes:
        address: What they begin with, as https://study.example.org.
        study: The study.
    """

    address: str
    study: Study

    @property
    def experimenter(self) -> str:
        """The experimenter's page; the token stands where no server sees it."""
        return f"{self.address}/experimenter#{self.study.secrets['experimenter']}"

    @property
    def prolific(self) -> str:
        """The address to give to Prolific."""
        return f"{self.address}/join/{Tokens(self.study).link('prolific')}{PROLIFIC}"

    @property
    def mturk(self) -> str:
        """The address of an external question of MTurk's, which adds its own parameters."""
        return f"{self.address}/join/{Tokens(self.study).link('mturk')}"

    def person(self, external: str) -> str:
        """The link for one participant of one's own."""
        return f"{self.address}/join/{Tokens(self.study).link('link', external)}"


def bound(host: str, port: int) -> socket.socket:
    """A socket at an address.

    Raises:
        ThalwegError: the address cannot be had.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        sock = socket.socket(family)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except (OSError, OverflowError) as wrong:
        raise ThalwegError(
            f"{host}:{port}: no server can be started there ({wrong}); choose another --port or --host"
        ) from wrong
    return sock


def address_of(sock: socket.socket) -> str:
    """The address that a browser on this machine finds a socket by."""
    host, port = sock.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "localhost"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def server_of(app: ASGIApp, *, behind_proxy: bool = False) -> uvicorn.Server:
    """A server that logs no address and no link."""
    config = uvicorn.Config(
        app,
        access_log=False,
        log_level="warning",
        proxy_headers=behind_proxy,
        server_header=False,
        timeout_keep_alive=30,
    )
    return uvicorn.Server(config)


@contextlib.contextmanager
def in_background(app: ASGIApp, sock: socket.socket) -> Generator[Callable[[], None]]:
    """A server in a thread of its own, until the block ends."""
    server = server_of(app)
    thread = Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    waited = 0.0
    while not server.started:
        sleep(0.01)
        waited += 0.01
        if waited > STARTING or not thread.is_alive():
            raise ThalwegError("the server did not start")
    try:
        yield thread.join
    finally:
        server.should_exit = True
        thread.join(10)
