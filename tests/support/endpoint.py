"""A small HTTP server that speaks OpenAI's protocol, and answers as a test tells it to."""

import base64
import json
import math
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

REHEARSED = "Answer with the letter A."
Say = Callable[[str, list[bytes]], str]  # from the prompt's text and its pictures to a reply


@dataclass
class Server:
    """What the server does, and what it was asked.

    `trouble` is called with the number of each request for a completion (0 first) and may return a status, a body and
    headers, or a body alone as bytes, to be sent in place of an answer; it may sleep.
    """

    say: Say
    models: tuple[str, ...] = ("reader",)
    key: str = ""
    about: dict[str, Any] = field(default_factory=dict)
    pictures: bool = True
    logprobs: bool = True
    unknown: tuple[str, ...] = ()  # parameters that it refuses
    trouble: Callable[[int], Any] = lambda number: None
    prompts: list[str] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    address: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def asked(self) -> list[str]:
        """The prompts, without the rehearsal."""
        return [prompt for prompt in self.prompts if REHEARSED not in prompt]


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """The server at work, at `server.address`."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(server))
    http.daemon_threads = True
    server.address = f"http://127.0.0.1:{http.server_address[1]}/v1"
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def answer(self, status: int, body: Any, **headers: str) -> None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def allowed(self) -> bool:
            if server.key and self.headers.get("Authorization") != f"Bearer {server.key}":
                self.answer(401, {"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}})
                return False
            return True

        def do_GET(self) -> None:
            if self.allowed():
                listed = [
                    {"id": name, "object": "model", "created": 0, "owned_by": "us", **server.about}
                    for name in server.models
                ]
                self.answer(200, {"object": "list", "data": listed})

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if not self.allowed():
                return
            text, pictures = _read(request["messages"])
            with server.lock:
                number = len(server.prompts)
                server.prompts.append(text)
                server.at_once += 1
                server.most_at_once = max(server.most_at_once, server.at_once)
            try:
                self.complete(request, number, text, pictures)
            finally:
                with server.lock:
                    server.at_once -= 1

        def complete(self, request: dict, number: int, text: str, pictures: list[bytes]) -> None:
            if pictures and not server.pictures:
                return self.answer(400, {"error": {"message": "this model does not support image input"}})
            if refused := [name for name in server.unknown if name in request]:
                hint = " Use 'max_completion_tokens' instead." if refused == ["max_tokens"] else ""
                return self.answer(400, {"error": {"message": f"Unsupported parameter: '{refused[0]}'.{hint}"}})
            if request.get("logprobs") and server.logprobs is None:
                return self.answer(400, {"error": {"message": "logprobs are not supported"}})
            if (trouble := server.trouble(number)) is not None:
                status, body, headers = (200, trouble, {}) if isinstance(trouble, bytes) else trouble
                return self.answer(status, body, **headers)
            reply = "A" if REHEARSED in text else server.say(text, pictures)
            choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
            choice["message"] = {"role": "assistant", "content": reply}
            if server.logprobs and request.get("logprobs"):
                choice["logprobs"] = {"content": [_token(token) for token in re.findall(r"\d|\t|\s+|[^\d\s]+", reply)]}
            usage = {"prompt_tokens": len(text) // 4, "completion_tokens": max(1, len(reply) // 4)}
            usage["total_tokens"] = sum(usage.values())
            made = {"id": "1", "object": "chat.completion", "created": 0, "model": request["model"]}
            self.answer(200, {**made, "choices": [choice], "usage": usage})

    return Handler


def _token(token: str) -> dict[str, Any]:
    """A token with itself as the likeliest of two alternatives."""
    other = {"A": "B", "B": "A"}.get(token, "?")
    likely, unlikely = math.log(0.9), math.log(0.1)
    top = [{"token": token, "logprob": likely, "bytes": None}, {"token": other, "logprob": unlikely, "bytes": None}]
    return {"token": token, "logprob": likely, "bytes": None, "top_logprobs": top}


def _read(messages: list[dict]) -> tuple[str, list[bytes]]:
    content = messages[-1]["content"]
    if isinstance(content, str):
        return content, []
    texts = [part["text"] for part in content if part["type"] == "text"]
    urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    return "".join(texts), [base64.b64decode(url.partition(",")[2]) for url in urls]


def slow(seconds: float) -> Callable[[int], None]:
    """A server that takes its time."""
    return lambda number: time.sleep(seconds)
