"""Synthetic participants in a study's own server, over HTTP, some in a real browser; in a time that runs faster."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import httpx
import sqlalchemy as sa

from thalweg.errors import ThalwegError, reason
from thalweg.files import whole
from thalweg.progress import Progress, Silent
from thalweg.study.app import make_app
from thalweg.study.design import Item, Study
from thalweg.study.people import PREFIX, Person, person_of
from thalweg.study.serving import Links, address_of, bound, in_background
from thalweg.study.settings import Crowd
from thalweg.study.store import Store, participants
from thalweg.study.visual import Browser, go_through_in_browser

TRUTH = "simulated.json"
SPEED, VISUAL_SPEED = 10.0, 4.0
ARRIVALS = 0.25  # participants a second of the study's time
AT_ONCE = 200  # connections


@dataclass(frozen=True)
class Clock:
    """A time that began now and runs faster."""

    speed: float
    start: float

    def now(self) -> float:
        """Seconds since 1970."""
        return self.start + (time.time() - self.start) * self.speed

    async def wait(self, seconds: float) -> None:
        """Let so many of its seconds pass."""
        await asyncio.sleep(seconds / self.speed)


@dataclass(frozen=True)
class Asked:
    """What a simulation knows of a study's trials: which answer is right, and about which unit."""

    items: dict[str, Item]
    units: dict[str, str]

    @classmethod
    def of(cls, study: Study) -> "Asked":
        """What a study asks."""
        about = study.trials.select("trial", "ladder", "rung", "seed", "control", "layer", "unit").rows()
        return cls(study.items, {trial: " ".join(map(str, unit)) for trial, *unit in about})

    def choose(self, person: Person, trial: str) -> tuple[int, int, float]:
        """What a person answers."""
        return person.choose(self.items[trial], self.units[trial])


def simulate(
    study: Study,
    store: Store,
    count: int,
    crowd: Crowd | None = None,
    *,
    visual: int = 0,
    speed: float | None = None,
    progress: Progress | None = None,
) -> list[Person]:
    """Let synthetic participants take part, and write the truth about them to simulated.json.

    Args:
        study: The study.
        store: Its database; nobody real may be in it.
        count: How many participants.
        crowd: What they are like.
        visual: How many of them use a browser.
        speed: How much faster than real the study's time runs; by default 10, and 4 where some use a browser, whose
            pages take real time.
        progress: Where it is said how far they are.

    Returns:
        The participants.

    Raises:
        ThalwegError: somebody real takes part already, a number is out of range, or there is no browser.
    """
    crowd = crowd or Crowd()
    crowd.check()
    if not 0 <= visual <= count:
        raise ThalwegError(f"--visual is {visual}; a number from 0 to --participants ({count}) was expected")
    first = _first(store)
    people = [person_of(crowd, number) for number in range(first, first + count)]
    clock = Clock(speed or (VISUAL_SPEED if visual else SPEED), time.time())
    sock = bound("127.0.0.1", 0)
    links = Links(address_of(sock), study)
    with (
        in_background(make_app(study, store, clock=clock.now, flood=0), sock),
        (progress or Silent()).stage("participants", count) as advance,
    ):
        asyncio.run(_all(people, Asked.of(study), links, clock, visual, advance))
    truth = [{**_truth(person), "visual": index < visual} for index, person in enumerate(people)]
    whole.write_json(study.path / TRUTH, {"crowd": asdict(crowd), "accuracy": crowd.accuracy, "people": truth})
    return people


def _first(store: Store) -> int:
    """The number of the first participant who is not there yet.

    Raises:
        ThalwegError: somebody real takes part.
    """
    with store.reading() as connection:
        names = list(connection.execute(sa.select(participants.c.external)).scalars())
    if real := [name for name in names if not name.startswith(PREFIX)]:
        raise ThalwegError(
            f"{len(real)} participants of this study are not simulated; name another --database for simulated ones"
        )
    return 1 + max((int(name.removeprefix(PREFIX)) for name in names), default=0)


def _truth(person: Person) -> dict[str, Any]:
    return {name: getattr(person, name) for name in ("name", "sensitivity", "bias", "careless", "leaves")}


async def _all(
    people: Sequence[Person],
    asked: Asked,
    links: Links,
    clock: Clock,
    visual: int,
    advance: Callable[[], None],
) -> None:
    """Everyone, arriving one after another."""
    limits = httpx.Limits(max_connections=AT_ONCE)
    async with (
        httpx.AsyncClient(base_url=links.address, limits=limits, timeout=60) as client,
        Browser() if visual else nullcontext() as browser,
    ):

        async def take_part(index: int, person: Person) -> None:
            link = links.person(person.name)
            try:
                if browser is not None and index < visual:
                    await go_through_in_browser(browser, link, person, asked.choose, clock.wait)
                else:
                    await clock.wait(index / ARRIVALS)
                    await go_through(client, link.rpartition("/")[2], person, asked.choose, clock.wait)
            except Exception as wrong:  # of the network and of the browser, each with types of its own
                raise ThalwegError(
                    f"{person.name} could not go on ({reason(wrong)}); give the command again, with a lower --speed "
                    "and fewer --visual if the machine is busy"
                ) from wrong
            advance()

        try:
            async with asyncio.TaskGroup() as group:
                for index, person in enumerate(people):
                    group.create_task(take_part(index, person))
        except ExceptionGroup as several:
            raise several.exceptions[0] from several


Choose = Callable[[Person, str], tuple[int, int, float]]


async def go_through(
    client: httpx.AsyncClient, link: str, person: Person, choose: Choose, wait: Callable[[float], Any]
) -> str:
    """Take part over HTTP, as the page does it; return the last phase."""

    headers: dict[str, str] = {}

    async def ask(path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await client.post(path, json=body, headers=headers)
        answer.raise_for_status()
        told: dict[str, Any] = answer.json()
        return told

    view = await ask("/api/enter", {"link": link})
    headers["Authorization"] = f"Bearer {view['session']}"
    await ask("/api/consent", {})
    await wait(person.reading())
    view = await ask("/api/instructed", {})
    while "trial" in view:
        if view["phase"] == "main" and person.gone(view["place"] / view["of"]):
            return str((await ask("/api/leave", {}))["phase"]) if person.says_so else "left"
        trial = view["trial"]["id"]
        picked, confidence, seconds = choose(person, trial)
        await wait(seconds)
        answer = {"trial": trial, "picked": picked, "confidence": confidence, "seconds": seconds}
        view = await ask("/api/answer", {"position": view["position"], **answer})
        if feedback := view.get("feedback"):
            person.learnt[trial] = feedback["right"]
    return str(view["phase"])
