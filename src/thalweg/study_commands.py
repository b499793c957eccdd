"""The commands of `thalweg study`: from a run to a study with people, and to its published data."""

from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thalweg.errors import ThalwegError, readable
from thalweg.options import as_options
from thalweg.study.settings import Crowd, StudySettings
from thalweg.terminal import Shown, examples, out

if TYPE_CHECKING:
    from thalweg.study.design import Study
    from thalweg.study.store import Store

study_app = typer.Typer(
    help="Ask people the trials of a run in the browser, and analyse what they answer.",
    no_args_is_help=True,
    epilog=examples(
        "thalweg study create runs/mnist --units 12 --trials 40 --name digits",
        "thalweg study serve digits",
        "thalweg study export digits --anonymous --out digits-data",
    ),
)
NEEDED = ("alembic", "fastapi", "httpx", "itsdangerous", "sqlalchemy", "uvicorn")
STUDY = typer.Argument(metavar="STUDY", help="The study's name, or its folder.")
DATABASE = typer.Option(
    help="sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME; by default a file in the study's folder.",
    metavar="URL",
)


def check_installed() -> None:
    """Check that what a study needs is installed.

    Raises:
        ThalwegError: a package is missing.
    """
    for package in NEEDED:
        if find_spec(package) is None:
            raise ThalwegError(f"{package} is not installed; a study needs pip install 'thalweg[study]'")


@contextmanager
def opened(name: Path, database: str) -> Generator[tuple["Study", "Store"]]:
    """A study and its database.

    Raises:
        ThalwegError: a package is missing, or the study or the database cannot be opened.
    """
    check_installed()
    from thalweg.study.design import open_study
    from thalweg.study.store import open_store

    study = open_study(name)
    store = open_store(study, database)
    try:
        yield study, store
    finally:
        store.close()


@study_app.command(
    epilog=examples(
        "thalweg study create runs/mnist --units 12 --trials 40 --name digits",
        "thalweg study create runs/words --units 20 --control trained --control untrained --participants 100",
    )
)
@as_options(StudySettings)
def create(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The directory of a finished run.")],
    name: Annotated[str, typer.Option(help="The study's name, and of its folder in studies/.")] = "study",
    out_: Annotated[Path | None, typer.Option("--out", help="The folder; studies/NAME by default.")] = None,
    **settings: Any,
) -> None:
    """Make a study of the trials of a finished run, and say what it can detect.

    Units are drawn of each model: a layer uniformly, then a unit of it. No participant is asked about a unit twice.
    """
    from thalweg import open_run
    from thalweg.study.create import create
    from thalweg.study.power import prospects

    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()
    }
    opened_run = open_run(run)
    study = create(opened_run, name, StudySettings(**given), out=out_, progress=Shown())
    for sentence in prospects(opened_run, study).sentences(len(study.design.models)):
        out.print(sentence, markup=False)
    out.print(f"study: {readable(study.path)}", markup=False)


ADDRESS = typer.Option(
    help="What participants' links begin with, as https://study.example.org; by default where the server listens.",
    metavar="URL",
)


@study_app.command(
    epilog=examples(
        "thalweg study serve digits",
        "thalweg study serve digits --host 0.0.0.0 --address https://study.example.org --behind-proxy",
    )
)
def serve(
    study: Annotated[Path, STUDY],
    database: Annotated[str, DATABASE] = "",
    host: Annotated[str, typer.Option(help="The address to listen at; 0.0.0.0: all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0: any that is free.", min=0, max=65535)] = 8000,
    address: Annotated[str, ADDRESS] = "",
    behind_proxy: Annotated[
        bool, typer.Option("--behind-proxy", help="A proxy on this machine says who a client is.")
    ] = False,
    flood: Annotated[
        float, typer.Option(help="Requests a second from one client; 0: any number.", min=0, max=1e6)
    ] = 100.0,
) -> None:
    """Serve a study's pages, and print the links to them; stop it with Ctrl+C."""
    with opened(study, database) as (opened_study, store):
        from thalweg.study.app import make_app
        from thalweg.study.serving import Links, address_of, bound, server_of

        sock = bound(host, port)
        links = Links(address.rstrip("/") or address_of(sock), opened_study)
        for name, link in (
            ("experimenter", links.experimenter),
            ("Prolific", links.prolific),
            ("MTurk", links.mturk),
            ("one of your own", links.person("0001")),
        ):
            out.print(f"{name:16}{link}", markup=False)
        out.print("more links of your own: thalweg study links", markup=False)
        server_of(make_app(opened_study, store, flood=flood), behind_proxy=behind_proxy).run(sockets=[sock])


@study_app.command(epilog=examples("thalweg study links digits --count 20 --address https://study.example.org"))
def links(
    study: Annotated[Path, STUDY],
    address: Annotated[str, ADDRESS] = "http://127.0.0.1:8000",
    count: Annotated[int, typer.Option(help="How many.", min=1, max=9999)] = 20,
    first: Annotated[int, typer.Option(help="The number of the first.", min=1)] = 1,
) -> None:
    """Print a link for each of so many participants of your own; each link lets one person take part once."""
    check_installed()
    from thalweg.study.design import open_study
    from thalweg.study.serving import Links

    made = Links(address.rstrip("/"), open_study(study))
    for number in range(first, first + count):
        out.print(f"{number:04} {made.person(f'{number:04}')}", markup=False)


@study_app.command(epilog=examples("thalweg study export digits --anonymous --out digits-data"))
def export(
    study: Annotated[Path, STUDY],
    anonymous: Annotated[
        bool, typer.Option("--anonymous", help="Numbers for the ids of participants, and no dates.")
    ] = False,
    database: Annotated[str, DATABASE] = "",
    out_: Annotated[Path | None, typer.Option("--out", help="The folder; STUDY/export by default.")] = None,
) -> None:
    """Write study.json, participants.parquet and responses.parquet."""
    from thalweg.study.export import export, summary, where

    with opened(study, database) as (opened_study, store):
        folder = where(out_, opened_study)
        out.print(summary(export(opened_study, store, folder, anonymous=anonymous), folder), markup=False)


@study_app.command(epilog=examples("thalweg study delete-participant digits 5f2a9c"))
def delete_participant(
    study: Annotated[Path, STUDY],
    participant: Annotated[str, typer.Argument(metavar="PARTICIPANT", help="The opaque id.")],
    database: Annotated[str, DATABASE] = "",
) -> None:
    """Delete a participant and all responses of theirs; exports that were made before keep them."""
    with opened(study, database) as (opened_study, store):
        if not store.delete(participant):
            raise ThalwegError(
                f"study {opened_study.name!r} has no participant {participant!r}; an id of its export was expected"
            )
    out.print(f"deleted: {participant}", markup=False)


SPEED = typer.Option(
    help="How much faster than real the time runs; by default 10, and 4 where some use a browser, whose pages do not.",
    min=1,
    max=100,
)


@study_app.command(
    epilog=examples(
        "thalweg study simulate digits --participants 60",
        "thalweg study simulate digits --participants 3 --visual 3 --database sqlite:///trial.db",
    )
)
@as_options(Crowd)
def simulate(
    study: Annotated[Path, STUDY],
    participants: Annotated[int, typer.Option(help="How many.", min=1, max=5000)] = 60,
    visual: Annotated[int, typer.Option(help="How many of them use a real browser.", min=0)] = 0,
    speed: Annotated[float | None, SPEED] = None,
    database: Annotated[str, DATABASE] = "",
    **crowd: Any,
) -> None:
    """Let synthetic participants of known sensitivity take part, over HTTP or in a browser.

    The truth about them is written to simulated.json. A study in which real participants took part is left alone.
    """
    with opened(study, database) as (opened_study, store):
        from thalweg.study.simulate import simulate

        people = simulate(
            opened_study,
            store,
            participants,
            Crowd(**crowd),
            visual=visual,
            speed=speed,
            progress=Shown(),
        )
    careless = sum(person.careless for person in people)
    left = sum(person.leaves is not None for person in people)
    out.print(f"{len(people)} participants took part: {careless} careless, {left} left before the end", markup=False)
