"""The server of a study: the participants' page and the experimenter's, and what they ask for.

Requests carry their token in a header of their own, no cookie: another site cannot send it.
"""

import logging
import secrets
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import SQLAlchemyError

from thalweg.errors import reason
from thalweg.study.design import Study
from thalweg.study.guard import FRAMES, POLICY, Bucket, Guard, client_of
from thalweg.study.overview import overview
from thalweg.study.session import Answer, Sessions
from thalweg.study.store import Store
from thalweg.study.tokens import Refused, Session

FOLDERS = [Path(__file__).parent / name for name in ("page", "library")]
KINDS = {".css": "text/css", ".html": "text/html; charset=utf-8", ".js": "text/javascript"}
FLOOD, BURST = 100.0, 1000  # requests a second from an address, and at once: a laboratory of a hundred needs far fewer
GUESSES = Bucket(1 / 30, 10)  # wrong tokens of an experimenter from an address
PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The request is malformed or was cut off."},
    403: {"description": "A post from another site, or a link that is not valid."},
    413: {"description": "The body is too large."},
    415: {"description": "The body is not JSON."},
    429: {"description": "Too many requests."},
}
SESSION: dict[int | str, dict[str, Any]] = {
    401: {"description": "The session is not valid."},
    409: {"description": "The request is out of order, contradicts what is stored, or comes from an older window."},
    410: {"description": "The study is closed."},
}
PAUSED = {"description": "The study takes nobody new at the moment."}
bearer = HTTPBearer(auto_error=False)
Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]


class Body(BaseModel):
    """A request's body: nothing else may stand in it."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Enter(Body):
    """A link that was opened, and the id that a panel added to it."""

    link: str = Field(pattern=r"^[A-Za-z0-9_.\-]{1,400}$")
    external: str = Field("", pattern=r"^[A-Za-z0-9_\-]{0,64}$")


class Given(Body):
    """An answer: which query was picked, 0 for the first shown, and how sure."""

    position: int = Field(ge=0, le=100_000)
    trial: str = Field(pattern=r"^[0-9a-f]{16}$")
    picked: int = Field(ge=0, le=1)
    confidence: int = Field(ge=1, le=3)
    seconds: float = Field(ge=0, le=1e7, allow_inf_nan=False)


class State(Body):
    """What the experimenter wants."""

    state: Literal["open", "paused", "closed"]


class View(BaseModel):
    """What a participant is shown."""

    phase: Literal["consent", "instructions", "practice", "main", "finished", "returned"]
    position: int
    attempt: int
    session: str | None = None
    study: dict[str, Any] | None = None
    feedback: dict[str, Any] | None = None
    code: str | None = None
    place: int | None = None
    of: int | None = None
    pause: bool | None = None
    trial: dict[str, Any] | None = None


def make_app(
    study: Study,
    store: Store,
    *,
    clock: Callable[[], float] = time.time,
    flood: float = FLOOD,
) -> FastAPI:
    """The application of a study.

    Args:
        study: The study.
        store: Its database.
        clock: The time, in seconds since 1970.
        flood: Requests a second that one address may make; 0: any number.
    """
    app = FastAPI(title=f"thalweg study {study.name}", openapi_url=None)
    sessions = Sessions(study, store, clock)
    _add_pages(app, sessions)
    _add_participants(app, sessions)
    _add_experimenter(app, sessions)

    @app.exception_handler(Refused)
    def _refused(_: Request, wrong: Refused) -> JSONResponse:
        return JSONResponse({"detail": wrong.detail}, wrong.status)

    @app.exception_handler(RequestValidationError)
    def _malformed(_: Request, wrong: RequestValidationError) -> JSONResponse:
        told = [
            {name: each[name] for name in ("loc", "msg", "type")} for each in wrong.errors()
        ]  # what came is not told
        return JSONResponse({"detail": told}, 422)

    @app.exception_handler(SQLAlchemyError)
    def _no_database(_: Request, wrong: SQLAlchemyError) -> JSONResponse:
        logging.getLogger("uvicorn.error").error("the database failed: %s", reason(wrong))
        return JSONResponse({"detail": "The database does not answer; trying again."}, 503)

    app.add_middleware(Guard, flood=Bucket(flood, int(flood * BURST / FLOOD)))
    return app


def _add_pages(app: FastAPI, sessions: Sessions) -> None:
    """The pages and what they load: a fixed set of files, read once, so no path leads anywhere else."""
    every = [file for folder in FOLDERS for file in folder.iterdir() if file.suffix in KINDS]
    files = {file.name: (file.read_bytes(), KINDS[file.suffix]) for file in every}

    def page(name: str, ancestors: str = "'none'") -> Response:
        content, kind = files[name]
        return Response(content, 200, {"Content-Security-Policy": POLICY.format(ancestors=ancestors)}, kind)

    @app.get("/join/{link}", include_in_schema=False)
    def _join(link: str) -> Response:
        try:
            source, _ = sessions.tokens.read_link(link, "any")
        except Refused:
            source = ""
        return page("study.html", FRAMES if source == "mturk" else "'none'")

    @app.get("/experimenter", include_in_schema=False)
    def _experimenter() -> Response:
        return page("experimenter.html")

    @app.get("/assets/{name}", include_in_schema=False)
    def _asset(name: str) -> Response:
        if name not in files or name.endswith(".html"):
            raise Refused(404, "there is no such file")
        content, kind = files[name]
        return Response(content, 200, {"Cache-Control": "no-cache"}, kind)


def _json(content: str) -> Response:
    return Response(content, media_type="application/json")


def _add_participants(app: FastAPI, sessions: Sessions) -> None:
    """What the participants' page asks for."""

    def session(given: Bearer) -> Session:
        if given is None:
            raise Refused(401, "a session's token was expected")
        return sessions.tokens.read_session(given.credentials)

    who = Annotated[Session, Depends(session)]
    documented: dict[str, Any] = {"responses": {200: {"model": View}, **PROBLEMS, **SESSION}}

    @app.post("/api/enter", responses={200: {"model": View}, **PROBLEMS, 410: SESSION[410], 503: PAUSED})
    def _enter(given: Enter) -> Response:
        source, external = sessions.tokens.read_link(given.link, given.external)
        return _json(sessions.enter(source, external))

    @app.get("/api/view", **documented)
    def _view(session: who) -> Response:
        return _json(sessions.view(session))

    @app.post("/api/consent", **documented)
    def _consent(session: who) -> Response:
        return _json(sessions.consent(session))

    @app.post("/api/instructed", **documented)
    def _instructed(session: who) -> Response:
        return _json(sessions.instructed(session))

    @app.post("/api/leave", **documented)
    def _leave(session: who) -> Response:
        return _json(sessions.leave(session))

    @app.post("/api/answer", **documented)
    def _answer(given: Given, session: who) -> Response:
        return _json(sessions.answer(session, Answer(**given.model_dump())))


def _add_experimenter(app: FastAPI, sessions: Sessions) -> None:
    """What the experimenter's page asks for."""
    guesses = Bucket(GUESSES.rate, GUESSES.burst)

    def allowed(request: Request, given: Bearer) -> None:
        client = client_of(request.scope)
        if guesses.left(client) < 1:
            raise Refused(429, "too many wrong tokens; please wait")
        token = given.credentials if given else ""
        if not secrets.compare_digest(token.encode(), sessions.study.secrets["experimenter"].encode()):
            guesses.take(client)
            raise Refused(401, "this is not the experimenter's token")

    documented: dict[str, Any] = {
        "responses": {**PROBLEMS, 401: {"description": "The token is not the experimenter's."}},
        "dependencies": [Depends(allowed)],
    }
    told = partial(overview, sessions.study, sessions.store)

    @app.get("/api/overview", **documented)
    def _overview() -> dict[str, Any]:
        return told(sessions.clock())

    @app.post("/api/state", **documented)
    def _state(given: State) -> dict[str, Any]:
        sessions.store.set_state(given.state)
        return told(sessions.clock())
