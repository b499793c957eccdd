"""Signed tokens: links that invite, sessions of those who entered, codes of those who finished.

A link says where a participant comes from and, where no panel gives an id, who it is. A session names a participant and
how often the link had been opened: an older session is refused, so one page at a time can answer.
"""

import base64
import hashlib
import hmac
from dataclasses import dataclass

from itsdangerous import BadSignature, URLSafeSerializer, URLSafeTimedSerializer

from thalweg.study.design import Study

SOURCES = ("link", "prolific", "mturk")
SESSION_SECONDS = 24 * 3600


class Refused(Exception):
    """A request that is not served: the HTTP status, and a sentence for whoever made it."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


@dataclass(frozen=True)
class Session:
    """Who asks, and by which opening of the link."""

    participant: str
    entry: int


class Tokens:
    """The tokens of a study."""

    def __init__(self, study: Study) -> None:
        key = study.secrets["key"]
        self._key = f"{key}-{study.fingerprint}".encode()
        self._links = URLSafeSerializer(self._key, salt="link")
        self._sessions = URLSafeTimedSerializer(self._key, salt="session")

    def link(self, source: str, external: str = "") -> str:
        """The token of a link: from a panel, which gives the id itself, or for one participant."""
        return str(self._links.dumps([source, external]))

    def read_link(self, token: str, external: str) -> tuple[str, str]:
        """Where a participant comes from, and the opaque id: the link's own, or the one that the panel gave.

        Raises:
            Refused: the link is not one of this study's, or the panel's id is missing.
        """
        try:
            source, own = self._links.loads(token)
        except BadSignature as wrong:
            raise Refused(403, "this link is not valid; please open the one you were sent") from wrong
        if not own and not external:
            raise Refused(403, "this link needs the id that your panel adds to it; please start from there")
        return source, own or external

    def session(self, participant: str, entry: int) -> str:
        """The token of a session."""
        return str(self._sessions.dumps([participant, entry]))

    def read_session(self, token: str) -> Session:
        """Who asks.

        Raises:
            Refused: the token is not one of this study's, or too old.
        """
        try:
            participant, entry = self._sessions.loads(token, max_age=SESSION_SECONDS)
        except BadSignature as wrong:
            raise Refused(401, "this session is not valid; please open your link again") from wrong
        return Session(participant, entry)

    def code(self, participant: str) -> str:
        """The completion code of a participant."""
        made = hmac.digest(self._key, f"code {participant}".encode(), hashlib.sha256)
        return base64.b32encode(made)[:10].decode()
