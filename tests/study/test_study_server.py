"""What the server of a study lets through, and what it refuses."""

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import booleans

from support.studies import study_in
from thalweg import ThalwegError
from thalweg.study import export
from thalweg.study.app import make_app
from thalweg.study.design import Study
from thalweg.study.guard import LARGEST, Bucket
from thalweg.study.session import Sessions
from thalweg.study.store import Store, open_store, participants, responses
from thalweg.study.tokens import Tokens

NONE = {"position": 11, "trial": "0" * 16, "picked": 0, "confidence": 1, "seconds": 1}


class Person:
    """A client of the server that carries a session."""

    def __init__(self, client: TestClient, link: str, external: str = "") -> None:
        self.client = client
        self.entered = client.post("/api/enter", json={"link": link, "external": external})
        self.view: dict[str, Any] = self.entered.json()
        self.headers = {"Authorization": f"Bearer {self.view.get('session')}"}

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        answer = self.client.post(f"/api/{path}", json=body or {}, headers=self.headers | headers)
        if answer.status_code == 200:
            self.view = answer.json()
        return answer

    def begin(self) -> "Person":
        self.post("consent")
        self.post("instructed")
        return self

    def given(self, **changed: Any) -> dict[str, Any]:
        """The right answer to the trial that is asked."""
        right = ITEMS[self.view["trial"]["id"]].correct
        body = {"position": self.view["position"], "trial": self.view["trial"]["id"], "picked": right}
        return {**body, "confidence": 2, "seconds": 1.5, **changed}

    def to_main(self) -> "Person":
        while self.view["phase"] == "practice":
            self.post("answer", self.given())
        return self


ITEMS: dict[str, Any] = {}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    study = study_in(tmp_path_factory.mktemp("server"))
    ITEMS.update(study.items)
    return study


@pytest.fixture(scope="module")
def store(study: Study) -> Iterator[Store]:
    store = open_store(study)
    yield store
    store.close()


@pytest.fixture(scope="module")
def client(study: Study, store: Store) -> Iterator[TestClient]:
    with TestClient(make_app(study, store, flood=0)) as client:
        yield client


@pytest.fixture
def new(study: Study, client: TestClient, request: pytest.FixtureRequest) -> Person:
    return Person(client, Tokens(study).link("link", request.node.name[-60:].translate({91: 45, 93: 45}))).begin()


def rows(store: Store) -> int:
    with store.reading() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(responses)).scalar_one())


def test_a_browser_never_learns_a_right_answer_before_its_own(new: Person):
    """Nor which trial is a catch; in the practice it is told afterwards."""
    texts = []
    while new.view["phase"] in ("practice", "main"):
        practice = new.view["phase"] == "practice"
        assert set(new.view["trial"]) == {"id", "high", "low", "queries"}
        assert all(set(each) == {"png"} for side in ("high", "low", "queries") for each in new.view["trial"][side])
        told = new.post("answer", new.given()).json()
        assert ("feedback" in told) == practice
        texts.append(json.dumps({name: value for name, value in told.items() if name not in ("trial", "feedback")}))
    assert new.view["phase"] == "finished"
    assert not any(word in text for text in texts for word in ("correct", "right", "catch", "dense", "conv", "unit"))


def test_an_answer_is_stored_once_and_its_repetition_is_no_other(new: Person, store: Store):
    new.to_main()
    given, before = new.given(), rows(store)
    first = new.post("answer", given).json()
    again = new.post("answer", {**given, "seconds": 9.0}).json()  # as after a lost reply
    assert again == first
    assert rows(store) == before + 1
    other = new.post("answer", {**given, "picked": 1 - given["picked"]})
    assert (other.status_code, rows(store)) == (409, before + 1)
    assert "another answer to this trial is stored already" in other.json()["detail"]


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"position": 5}, 409),
        ({"position": -1}, 422),
        ({"trial": "0123456789abcdef"}, 409),
        ({"trial": "../../../etc/passwd"}, 422),
        ({"trial": "' OR 1=1 --"}, 422),
        ({"picked": 2}, 422),
        ({"picked": True}, 422),
        ({"picked": "1; DROP TABLE responses"}, 422),
        ({"confidence": 0}, 422),
        ({"confidence": None}, 422),
        ({"seconds": -1}, 422),
        ({"seconds": "NaN"}, 422),
        ({"correct": True}, 422),
    ],
)
def test_an_answer_out_of_order_or_range_is_refused(new: Person, store: Store, changed: dict, status: int):
    before = rows(store)
    assert new.post("answer", new.given(**changed)).status_code == status
    assert rows(store) == before
    assert new.post("answer", new.given()).status_code == 200


def test_the_trial_of_another_is_refused(study: Study, client: TestClient, new: Person):
    other = Person(client, Tokens(study).link("link", "another")).begin().to_main()
    new.to_main()
    theirs = {trial for asked in study.lists["crossed"] for trial in asked} - {new.view["trial"]["id"]}
    assert other.view["trial"]["id"] in theirs
    refused = new.post("answer", new.given(trial=other.view["trial"]["id"]))
    assert refused.status_code == 409
    assert "not the trial that was asked" in refused.json()["detail"]


def test_forged_foreign_and_replayed_tokens_are_refused(study: Study, client: TestClient, tmp_path: Path):
    tokens = Tokens(study)
    link = tokens.link("link", "forger")
    changed = link[:-2] + ("A" if link[-2] != "A" else "B") + link[-1]  # the last one holds bits that mean nothing
    for forged in (changed, link.split(".")[0], "x", tokens.session("a", 1)):
        assert client.post("/api/enter", json={"link": forged}).status_code == 403
    (tmp_path / "secret.json").write_text('{"key": "guessed", "experimenter": "guessed"}')
    foreign = Tokens(replace(study, path=tmp_path))
    assert client.post("/api/enter", json={"link": foreign.link("link", "forger")}).status_code == 403
    person = Person(client, link)
    for forged in ("", "x", foreign.session("a", 1), link, person.view["session"][:-2], tokens.session("nobody", 1)):
        assert client.get("/api/view", headers={"Authorization": f"Bearer {forged}"}).status_code == 401
    assert client.get("/api/view").status_code == 401
    again = Person(client, link)  # in another window: the first one is not served any more
    assert person.post("consent").status_code == 409
    assert again.post("consent").status_code == 200


def test_a_reload_resumes_and_each_id_takes_part_once(study: Study, client: TestClient):
    resumed = Person(client, Tokens(study).link("prolific"), "5f2a9c")
    resumed.begin()
    resumed.post("answer", resumed.given())
    back = Person(client, Tokens(study).link("prolific"), "5f2a9c")
    assert (back.view["phase"], back.view["trial"]) == ("practice", resumed.view["trial"])
    back.to_main()
    while back.view["phase"] == "main":
        back.post("answer", back.given())
    code = back.view["code"]
    over = Person(client, Tokens(study).link("prolific"), "5f2a9c")
    assert (over.view["phase"], over.view["code"]) == ("finished", code)
    assert (
        over.post("answer", {"position": 11, "trial": "0" * 16, "picked": 0, "confidence": 1, "seconds": 1}).status_code
        == 409
    )
    assert Person(client, Tokens(study).link("prolific")).entered.status_code == 403  # without the panel's id
    assert Person(client, Tokens(study).link("mturk"), "5f2a9c").view["phase"] == "consent"  # another panel's id


def test_whoever_leaves_does_not_come_back(study: Study, client: TestClient, new: Person):
    assert new.post("leave").json()["phase"] == "returned"
    assert (
        new.post("answer", {"position": 0, "trial": "0" * 16, "picked": 0, "confidence": 1, "seconds": 1}).status_code
        == 409
    )


def test_the_practice_goes_on_until_all_is_right(new: Person):
    wrong = new.given()
    wrong["picked"] = 1 - wrong["picked"]
    feedback = new.post("answer", wrong).json()["feedback"]
    assert feedback == {"correct": False, "right": 1 - wrong["picked"]}
    for _ in range(2):
        new.post("answer", new.given())
    assert (new.view["phase"], new.view["attempt"], new.view["place"], new.view["position"]) == ("practice", 2, 0, 3)
    for _ in range(3):
        new.post("answer", new.given())
    assert (new.view["phase"], new.view["pause"]) == ("main", False)
    for _ in range(3):
        new.post("answer", new.given())
    assert new.view["pause"]


def test_consent_comes_first(study: Study, client: TestClient):
    person = Person(client, Tokens(study).link("link", "hasty"))
    assert person.post("instructed").status_code == 409
    assert "trial" not in person.view


@pytest.mark.parametrize(
    "name", ["..%2f..%2fsecret.json", "../../secret.json", "%2e%2e/secret.json", "study.html", "x.js"]
)
def test_no_path_leads_out_of_the_assets(client: TestClient, name: str):
    assert client.get(f"/assets/{name}").status_code == 404
    assert client.get("/assets/study.js").status_code == 200


def test_posts_from_other_sites_large_and_malformed_bodies_are_refused(new: Person, client: TestClient):
    assert new.post("consent", **{"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert new.post("consent", Origin="https://evil.example").status_code == 403
    assert new.post("consent", Origin="http://testserver").status_code == 200
    form = client.post("/api/leave", content="a=1", headers=new.headers | {"Content-Type": "text/plain"})
    assert form.status_code == 415
    json_ = new.headers | {"Content-Type": "application/json"}
    assert client.post("/api/answer", content=b"{" * (LARGEST + 1), headers=json_).status_code == 413
    in_pieces = (b"x" * 1000 for _ in range(LARGEST // 1000 + 2))
    assert client.post("/api/answer", content=in_pieces, headers=json_).status_code == 413
    for body in (b"{", b"\xff\xfe", b"null", b"[]", b'{"position": 1e999}', b"[" * 10_000):
        assert client.post("/api/answer", content=body, headers=json_).status_code in (400, 422)
    assert client.options("/api/answer", headers={"Origin": "https://evil.example"}).status_code == 405


def test_every_answer_has_the_headers_and_no_script_may_stand_in_the_page(client: TestClient, study: Study):
    link = Tokens(study).link("link", "headers")
    paths = (f"/join/{link}", "/join/nonsense", "/experimenter", "/assets/study.js", "/api/view", "/nothing")
    for path in paths:
        headers = client.get(path).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "Access-Control-Allow-Origin" not in headers
    framed = client.get(f"/join/{Tokens(study).link('mturk')}").headers["Content-Security-Policy"]
    assert framed.endswith("frame-ancestors https://*.mturk.com")
    for path in paths[:3]:
        page = client.get(path).text
        assert "<script>" not in page
        assert "style=" not in page
        assert " on" not in "".join(part.split(">")[0] for part in page.split("<") if "=" in part)


def test_guesses_of_the_experimenters_token_are_slowed_down(study: Study, store: Store):
    right = {"Authorization": f"Bearer {study.secrets['experimenter']}"}
    with TestClient(make_app(study, store, flood=0)) as client:
        assert client.get("/api/overview").status_code == 401
        status = [client.get("/api/overview", headers={"Authorization": f"Bearer {n}"}).status_code for n in range(12)]
        assert status == [401] * 9 + [429] * 3
        assert client.get("/api/overview", headers=right).status_code == 429
    with TestClient(make_app(study, store, flood=0)) as client:
        told = client.get("/api/overview", headers=right)
        assert told.status_code == 200
        assert client.post("/api/state", json={"state": "burnt"}, headers=right).status_code == 422


def test_the_experimenters_page_tells_what_is_there(study: Study, store: Store, client: TestClient):
    told = client.get("/api/overview", headers={"Authorization": f"Bearer {study.secrets['experimenter']}"}).json()
    people, answers = export.tables(study, store)
    assert {name: told["people"][name] for name in ("started", "finished", "returned", "left")} == {
        name: len(people.filter(status=name)) for name in ("started", "finished", "returned", "left")
    }
    main = answers.filter(kind="main")
    assert told["units"]["responses"] == len(main) > 10
    assert sum(units for _, units in told["units"]["histogram"]) == 7
    assert told["catch"]["n"] == len(answers.filter(kind="catch"))
    assert told["seconds"][0] <= told["seconds"][1] <= told["seconds"][2]
    assert sum(told["latest"]) == len(answers)


def test_a_paused_study_lets_nobody_new_in_and_a_closed_one_nobody(study: Study, tmp_path: Path):
    (tmp_path / "paused").mkdir()
    store = open_store(study, f"sqlite:///{tmp_path}/paused.db")
    right = {"Authorization": f"Bearer {study.secrets['experimenter']}"}
    with TestClient(make_app(study, store, flood=0)) as client:
        person = Person(client, Tokens(study).link("link", "early")).begin()
        assert client.post("/api/state", json={"state": "paused"}, headers=right).json()["state"] == "paused"
        assert Person(client, Tokens(study).link("link", "late")).entered.status_code == 503
        assert person.post("answer", person.given()).status_code == 200
        client.post("/api/state", json={"state": "closed"}, headers=right)
        assert person.post("answer", person.given()).status_code == 410
        assert Person(client, Tokens(study).link("link", "early")).entered.status_code == 410
        client.post("/api/state", json={"state": "open"}, headers=right)
        assert person.post("answer", person.given()).status_code == 200
    store.close()


def test_a_flood_from_one_client_is_refused_and_others_are_served(study: Study, store: Store):
    app = make_app(study, store, flood=1.0)  # ten at once
    with TestClient(app, client=("10.0.0.1", 1)) as flooding:
        status = [flooding.get("/assets/study.css").status_code for _ in range(14)]
        assert status[:10] == [200] * 10
        assert status[-1] == 429
        with TestClient(app, client=("10.0.0.2", 1)) as other:
            assert other.get("/assets/study.css").status_code == 200


def test_a_bucket_fills_again_and_forgets_who_is_long_gone():
    now = [0.0]
    bucket = Bucket(2.0, 4, clock=lambda: now[0])
    assert [bucket.take("a") for _ in range(5)] == [True] * 4 + [False]
    now[0] = 1.0
    assert [bucket.take("a") for _ in range(3)] == [True, True, False]
    for client in range(10_100):
        bucket.take(str(client))
    assert len(bucket._left) == 10_000


def test_sql_in_any_field_changes_nothing(study: Study, store: Store, client: TestClient, new: Person):
    new.to_main()
    before = rows(store)
    experimenter = {"Authorization": f"Bearer {study.secrets['experimenter']}"}
    for nasty in ("'; DROP TABLE participants; --", "a' OR '1'='1", "\x00", "*" * 8, "a\n"):
        assert Person(client, Tokens(study).link("prolific"), nasty).entered.status_code == 422
        assert Person(client, nasty).entered.status_code == 422
        for name in new.given():
            assert new.post("answer", new.given(**{name: nasty})).status_code == 422
        assert client.post("/api/state", json={"state": nasty}, headers=experimenter).status_code == 422
        signed = Person(client, Tokens(study).link("link", nasty))  # the study's own link: an id like any other
        assert signed.entered.status_code == 200
        assert store.delete(nasty) == 1
        if nasty.isprintable():
            forged = {"Authorization": f"Bearer {nasty}"}
            assert client.post("/api/consent", json={}, headers=forged).status_code == 401
    assert store.delete("' OR '1'='1") == 0
    assert rows(store) == before
    with store.reading() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(participants)).scalar_one() > 0


def test_many_at_once_share_commits_and_none_is_lost(study: Study, tmp_path: Path):
    """Threads that write at once, some of whose transactions fail: those that do not are there, the others are not."""
    store = open_store(study, f"sqlite:///{tmp_path}/many.db")
    sessions = Sessions(study, store)

    def come(number: int) -> None:
        sessions.enter("link", f"{number:03}")
        with suppress(ZeroDivisionError), store.writing() as connection:
            connection.execute(sa.update(participants).values(place=99))
            _ = 1 / 0

    threads = [threading.Thread(target=come, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.reading() as connection:
        found = connection.execute(sa.select(participants.c.external, participants.c.place, participants.c.list)).all()
    assert sorted(row[0] for row in found) == [f"{number:03}" for number in range(24)]
    assert {row[1] for row in found} == {0}
    assert sorted(row[2] for row in found) == [number // 3 for number in range(24)]  # eight lists, three times each
    other = open_store(study, f"sqlite:///{tmp_path}/many.db")  # no lock is left
    assert other.delete("000") == 1
    other.close()
    store.close()


def test_no_secret_stands_in_an_error_of_the_database(study: Study):
    with pytest.raises(ThalwegError) as wrong:
        open_store(study, "postgresql+psycopg://someone:hidden-word@127.0.0.1:1/none")
    assert "hidden-word" not in str(wrong.value)


def test_whatever_comes_is_answered_as_the_schema_says(study: Study, store: Store, client: TestClient):
    """Schemathesis makes requests that fit the app's own schema and such that do not, with and without a session."""
    import schemathesis  # here: it takes a second, in each process that collects this file
    from schemathesis import GenerationMode
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    checks = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
    schema = schemathesis.openapi.from_dict(client.app.openapi())
    schema.app = client.app
    person = Person(client, Tokens(study).link("link", "schema")).begin()
    seen: dict[str, set[int]] = {}
    for operation in (each.ok() for each in schema.get_all_operations()):
        status = seen.setdefault(operation.path, set())
        for mode in GenerationMode:
            cases = operation.as_strategy(generation_mode=mode)

            @settings(max_examples=5, deadline=None, database=None, suppress_health_check=list(HealthCheck))
            @given(case=cases, known=booleans())
            def check(case: schemathesis.Case, known: bool) -> None:
                answer = case.call(headers=person.headers if known else None)
                case.validate_response(answer, checks=checks)
                status.add(answer.status_code)  # noqa: B023  # it is called in this turn alone

            check()
    assert len(seen) == 8
    assert 200 in seen["/api/view"]
    assert {401, 422} <= seen["/api/answer"]
    assert {403, 422} <= seen["/api/enter"] <= {400, 403, 422}
