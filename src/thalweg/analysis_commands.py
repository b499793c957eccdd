"""The commands of `thalweg study` that say what people answered: `analyse`, and `import` for other studies."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from thalweg.errors import ThalwegError, readable
from thalweg.study_commands import DATABASE, STUDY, opened, study_app
from thalweg.terminal import Shown, examples, out, printable

if TYPE_CHECKING:
    from thalweg.psychophysics.analysis import Analysis
    from thalweg.psychophysics.tables import StudyData
    from thalweg.runs.run import Run

__all__ = ["study_app"]  # with these commands

RUN = typer.Option(help="The run that was asked about; by default the one that the study was made from.", metavar="RUN")
WITHOUT = typer.Option("--without-run", help="Analyse the responses alone.")
STRENGTHS = typer.Option(help="A table (.csv, .parquet) with a row for each model, for the verdict.", metavar="TABLE")
STRENGTH = typer.Option(help="Its column of strengths; a loss or an error is negated.", metavar="COL")
MODEL = typer.Option(help="Its column of the models' names.", metavar="COL")
SEED = typer.Option(help="Seed of what is drawn again.", min=0)


@study_app.command(
    epilog=examples(
        "thalweg study analyse digits",
        "thalweg study analyse digits-data --run runs/mnist    # the folder of an export",
    )
)
def analyse(
    study: Annotated[Path, STUDY],
    run: Annotated[Path | None, RUN] = None,
    without_run: Annotated[bool, WITHOUT] = False,
    database: Annotated[str, DATABASE] = "",
    seed: Annotated[int, SEED] = 0,
    out_: Annotated[Path | None, typer.Option("--out", help="The folder; STUDY/analysis by default.")] = None,
) -> None:
    """Analyse what people answered: who counts, scores with intervals, agreement with machines, curve and verdict.

    The answers of those who count are put into the run, and its report is written again.
    """
    data = _data(study, database)
    made_from = None if without_run else _run(data, run)
    _finish(data, made_from, out_ or data.path / "analysis", seed=seed)


@study_app.command(
    name="import",
    epilog=examples(
        "thalweg study import responses.csv --strengths models.csv --strength accuracy",
        "thalweg study import responses.csv --name imi --out imi",
    ),
)
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A table of responses, .csv or .parquet.")],
    name: Annotated[str, typer.Option(help="The study's name; the file's by default.", show_default=False)] = "",
    strengths: Annotated[Path | None, STRENGTHS] = None,
    strength: Annotated[str, STRENGTH] = "",
    model: Annotated[str, MODEL] = "model",
    seed: Annotated[int, SEED] = 0,
    out_: Annotated[Path | None, typer.Option("--out", help="The folder; studies/NAME by default.")] = None,
) -> None:
    """Read the answers of another study, and analyse them as published and by our verdict.

    FILE has the columns of Zimmermann, Klein and Brendel 2023, or participant, model, unit and correct.
    """
    from thalweg.files.whole import writable
    from thalweg.psychophysics.curves import read_strengths
    from thalweg.psychophysics.importing import read_responses
    from thalweg.psychophysics.tables import write_data
    from thalweg.study.design import HOME

    if (strengths is None) != (not strength):
        raise ThalwegError("--strengths names a table and --strength its column; give both, or neither")
    data = read_responses(file, name)
    known = None if strengths is None else read_strengths(strengths, strength, model)
    folder = out_ or HOME / data.name
    writable(folder, "--out")
    write_data(folder, data)
    _finish(data, None, folder / "analysis", strengths=known, seed=seed)


def _data(study: Path, database: str) -> "StudyData":
    """The tables of a study: those of an export, or exported now from the study's database."""
    from thalweg.psychophysics.tables import read_export
    from thalweg.study.design import folder_of
    from thalweg.study.export import export, where

    folder = folder_of(study)
    if (folder / "responses.parquet").is_file():
        return read_export(folder)
    with opened(study, database) as (opened_study, store):
        exported = where(None, opened_study)
        export(opened_study, store, exported)
    data = read_export(exported)
    return type(data)(folder, data.record, data.rules, data.participants, data.responses)


def _run(data: "StudyData", given: Path | None) -> "Run | None":
    """The run that a study was made from; None where it was made from none.

    Raises:
        ThalwegError: it is not where the study says.
    """
    from thalweg import open_run

    if given is not None:
        return open_run(given)
    path = (data.record.get("run") or {}).get("path")
    if not path:
        return None
    if not Path(path).is_dir():
        raise ThalwegError(
            f"{readable(path)}: the run that the study was made from is not there; name it with --run, or give "
            "--without-run to analyse the responses alone"
        )
    return open_run(path)


def _finish(data: "StudyData", run: "Run | None", folder: Path, **options: Any) -> None:
    """Analyse, write all, and print what matters most."""
    from thalweg import write_report
    from thalweg.files.whole import writable
    from thalweg.psychophysics.analysis import analyse, write_analysis
    from thalweg.psychophysics.page import write_page

    writable(folder, "--out")
    analysis = write_analysis(analyse(data, run, progress=Shown(), **options), folder)
    page = write_page(analysis.record, folder / "analysis.html")
    _print(analysis)
    out.print(f"analysis: {readable(folder / 'analysis.json')}", markup=False)
    out.print(f"page: {readable(page)}", markup=False)
    if run is not None:
        out.print(f"report: {readable(write_report(run))}", markup=False)


def _print(analysis: "Analysis") -> None:
    """Print who counts, the scores of models, how people agree, and the verdicts."""
    from thalweg.psychophysics.page import printed

    heads, lines, sentences = printed(analysis.record)
    table = Table(*heads, box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    for cells in lines:
        table.add_row(*(escape(printable(cell)) for cell in cells))
    out.print(table)
    for sentence in sentences:
        out.print(sentence, markup=False)
