"""What stands before the application: floods, cross-site posts, large bodies; and the headers of every answer.

A client is an address. Many participants may share one (a laboratory, a university), so the limit is a rate that no
laboratory reaches. Wrong guesses of the experimenter's token are counted apart, and soon nothing is let through.
"""

import json
import time
from collections import OrderedDict
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST = 16_384  # bytes of a body; an answer has two hundred
REMEMBERED = 10_000  # addresses
MTURK = ("https://www.mturk.com", "https://workersandbox.mturk.com")  # where answers to its tasks are posted
FRAMES = "https://*.mturk.com"  # where its workers see the page: at worker.mturk.com, in the sandbox elsewhere
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    f"form-action 'self' {' '.join(MTURK)}; base-uri 'none'; frame-ancestors {{ancestors}}"
)
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY.format(ancestors="'none'"),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Bucket:
    """So many requests a second from each client, and a few seconds' worth at once.

    Args:
        rate: Requests a second; 0: no limit.
        burst: Requests at once.
        clock: Seconds, for tests.

    Example:
        >>> bucket = Bucket(1.0, 2, clock=lambda: 0.0)
        >>> [bucket.take("client") for _ in range(3)]
        [True, True, False]
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate, self.burst, self.clock = rate, burst, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # what is left, and when that was

    def left(self, client: str) -> float:
        """How many requests a client may make now."""
        left, then = self._left.get(client, (float(self.burst), 0.0))
        return min(float(self.burst), left + (self.clock() - then) * self.rate)

    def take(self, client: str) -> bool:
        """Whether a client may make one more request, which then counts."""
        if not self.rate:
            return True
        left = self.left(client)
        allowed = left >= 1
        self._left[client] = (left - allowed, self.clock())
        self._left.move_to_end(client)
        if len(self._left) > REMEMBERED:
            self._left.popitem(last=False)
        return allowed


def client_of(scope: Scope) -> str:
    """The address that a request comes from."""
    return str((scope.get("client") or ("",))[0])


class Guard:
    """The application with a guard before it.

    Args:
        app: The application.
        flood: How many requests an address may make.
    """

    def __init__(self, app: ASGIApp, flood: Bucket) -> None:
        self.app, self.flood = app, flood

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        status, detail = self._problem(scope)
        body = b""
        if not status:
            status, detail, body = await _read(receive)
        if status:
            await _refuse(with_headers, status, detail)
        else:
            await self.app(scope, _again(body, receive), with_headers)

    def _problem(self, scope: Scope) -> tuple[int, str]:
        """Why a request is refused before it is read: a status and a sentence, or 0."""
        if not self.flood.take(client_of(scope)):
            return 429, "too many requests; please wait a moment"
        headers = Headers(scope=scope)
        if scope["method"] != "POST":
            return 0, ""
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return 403, "posts from other sites are refused"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers.get("host"):
            return 403, "posts from other sites are refused"
        if headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            return 415, "application/json was expected"
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > LARGEST:
            return 413, f"at most {LARGEST:,} bytes were expected"
        return 0, ""


async def _read(receive: Receive) -> tuple[int, str, bytes]:
    """A request's whole body, or the status and the sentence where it is too large."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return 400, "the request was cut off", b""
        body += message.get("body", b"")
        if len(body) > LARGEST:
            return 413, f"at most {LARGEST:,} bytes were expected", b""
        if not message.get("more_body"):
            return 0, "", body


def _again(body: bytes, receive: Receive) -> Receive:
    """The body that was read, to be read by the application."""
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _refuse(send: Send, status: int, detail: str) -> None:
    content = json.dumps({"detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    if status == 429:
        headers.append((b"retry-after", b"5"))
    if status == 413:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
