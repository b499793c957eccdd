"""The command line: it parses, calls and prints; all else happens elsewhere."""

import errno
import json
import math
import os
import platform
import shlex
import sys
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial, partialmethod
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Column, Table

from thalweg.analysis_commands import study_app
from thalweg.ask_commands import ask_app
from thalweg.downloads.missing import Fetch, Missing, lines_of, with_downloads
from thalweg.errors import ThalwegError, readable, reason, unknown
from thalweg.files.whole import FULL
from thalweg.options import as_options
from thalweg.pipeline.settings import OF_LADDERS, Settings
from thalweg.terminal import (
    CLOSED,
    INTERRUPTED,
    MISTAKE,
    UNEXPECTED,
    Shown,
    close_output,
    err,
    examples,
    out,
    printable,
)

if TYPE_CHECKING:
    from thalweg.pipeline.edit import Edits
    from thalweg.runs.run import Run


app = typer.Typer(
    help="How interpretable are a network's units, and how does that change with its strength?\n\n"
    "A ladder is model configurations (rungs) of one task. A twin is a control network. Predictable is a matched 2AFC "
    "accuracy (two-alternative forced choice), crisp a single-feature one; chance is 0.5.",
    no_args_is_help=True,
    epilog=examples(
        "thalweg survey mnist --quick    # a first look, in a minute",
        "thalweg list ladders",
        "thalweg measure efficientnet-lite:0 --stimuli FOLDER-OF-PICTURES --units 100",
        "thalweg survey --help",
    ),
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(study_app, name="study")
app.registered_commands += ask_app.registered_commands
OF_A_PATH = (  # another path is what helps
    *(errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP),
    *(errno.EISDIR, errno.ENOTDIR, errno.EEXIST),
)
NO_MEMORY = ("can't allocate memory", "out of memory")  # how PyTorch says it, in errors of no kind of their own
DEBUG, DOWNLOAD = "--debug", "--download"  # taken out of the command line before it is parsed: they may stand anywhere


def settings_as_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for each field of the settings, instead of its `**settings`."""
    left_out = () if command.__name__ == "survey" else OF_LADDERS
    return as_options(Settings, left_out, not_shown=("cache",))(command)


NATURAL, SYNTHETIC = "natural", "synthetic"
REFERENCES = typer.Option(
    help="natural; or synthetic, which also scores some units by pictures that are made to drive them.",
    metavar="natural|synthetic",
)


def check_references(references: str, ladders: Sequence[str] = ()) -> None:
    """Check that these references can be had of ladders that ship.

    Raises:
        ThalwegError: they can't.
    """
    from thalweg.ladders import find
    from thalweg.stimuli import modalities

    if references not in (NATURAL, SYNTHETIC):
        raise unknown("kind of references", references, (NATURAL, SYNTHETIC))
    if references == SYNTHETIC and ladders and not any(modalities.of(find(name)).name == "image" for name in ladders):
        raise ThalwegError(
            f"--references synthetic makes pictures, and {', '.join(ladders)} has none; give it with a ladder of images"
        )


def also_synthetic(run: "Run", references: str, shown: Shown, settings: Mapping[str, Any]) -> list[str]:
    """Score with synthetic references too, where these were asked for; returns what to say."""
    if references != SYNTHETIC:
        return []
    return synthetic_condition(run, device=settings["device"], cache=settings["cache"], progress=shown)


def synthetic_condition(run: "Run", **options: Any) -> list[str]:
    """Score some units with synthetic references too, and write the page of both conditions; returns what to say."""
    import thalweg
    from thalweg.synthetic.conditions import conditions, sentences
    from thalweg.synthetic.page import write_page

    rows = thalweg.visualise(run, **options)
    found = conditions(run, rows)
    return [*sentences(found), f"page: {readable(write_page(run, rows, found))}"]


@app.command(
    epilog=examples(
        "thalweg survey mnist --quick",
        "thalweg survey words --data corpus.parquet --text-column body --out runs/words",
        "thalweg survey mnist words --seeds 5 --workers 2    # several ladders in one report",
    )
)
@settings_as_options
def survey(
    ladder: Annotated[list[str], typer.Argument(metavar="LADDER...", help="Ladders; see `thalweg list ladders`.")],
    out_: Annotated[Path | None, typer.Option("--out", help="Run directory; runs/LADDER by default.")] = None,
    references: Annotated[str, REFERENCES] = "natural",
    **settings: Any,
) -> None:
    """Measure every unit of every model of some ladders and draw their curves.

    Interrupted, it goes on where it stopped when the same command is given again.
    """
    import thalweg

    check_references(references, ladder)
    shown = Shown()
    with going_on(shown):
        run = thalweg.survey(*ladder, out=out_, progress=shown, **settings)
        synthetic = also_synthetic(run, references, shown, settings)
        path = written(run, shown, settings["workers"])
    for name, verdicts in run.verdict.items():
        for word, verdict in verdicts.items():
            out.print(f"[bold]{escape(name)}, {word}:[/bold] ", end="")
            out.print(verdict["sentence"], markup=False)
    for line in synthetic:
        out.print(line, markup=False)
    for comparison in run.comparison:
        out.print(f"[bold]all ladders, {comparison['headline']}:[/bold] ", end="")
        out.print(comparison["sentence"], markup=False)
    out.print(f"report: {readable(path)}", markup=False)


@contextmanager
def going_on(shown: Shown) -> Generator[None]:
    """Leave at once when interrupted, and say that nothing is lost."""
    try:
        yield
    except KeyboardInterrupt:
        shown.say("interrupted; nothing is lost: give the same command again to go on")
        os._exit(INTERRUPTED)  # worker processes in the middle of a task are not waited for


def written(run: "Run", shown: Shown, workers: int | None) -> Path:
    """The run's report, written with its progress shown."""
    import thalweg

    with shown.stage("report", 1) as advance:
        path = thalweg.write_report(run, workers=workers)
        advance()
    return path


SUBJECT = typer.Argument(
    metavar="SUBJECT",
    help=escape(
        "torchvision:NAME[@WEIGHTS], timm:NAME, open-clip:NAME@TAG, efficientnet-lite:N, hf:NAME, hf:FOLDER "
        "or FILE.py:NAME."
    ),
)
TRAINED_ON = typer.Option(help="Images or text to train on, as for `measure`.", metavar="DATA")
SKIP_PLACES = typer.Option(
    help="Places or tokens at the beginning that are left out; by default the attention sinks.",
    min=0,
    show_default=False,
)


def of_settings(name: str, **shown: Any) -> Any:
    """An option with the help of the setting of this name."""
    return typer.Option(help=Settings.__dataclass_fields__[name].metadata["help"], **shown)


TRUST = typer.Option("--trust-remote-code", help="Run model code that a hub's repository brings along.")


@app.command(
    epilog=examples(
        "thalweg measure efficientnet-lite:0 --stimuli photographs --layers '_blocks.15.*' --observer hog",
        "thalweg measure mine.py:subject --stimuli photographs --observer hog    # a thalweg.Subject in mine.py",
        "thalweg measure hf:FOLDER-OF-THE-MODEL --stimuli corpus.txt --basis pca",
    )
)
@settings_as_options
def measure(
    subject: Annotated[str, SUBJECT],
    stimuli: Annotated[
        str | None,
        typer.Option(help="Images (folder, Parquet, IDX) or text (plain, Parquet, CSV, TSV, JSON).", metavar="DATA"),
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option(help="Layers whose names match, as 'layer4.*'; all by default.", metavar="PATTERN"),
    ] = None,
    units: Annotated[int, typer.Option(help="Units drawn in all, layer by layer at random; 0: every unit.", min=0)] = 0,
    basis: Annotated[
        str, typer.Option(help="neurons, random, pca, or sae:FOLDER, sae:RELEASE/ID (sae-active: ...).")
    ] = "neurons",
    length: Annotated[int, typer.Option(help="Tokens in a window of text.")] = 24,
    trust_remote_code: Annotated[bool, TRUST] = False,
    device_map: Annotated[
        str | None, typer.Option(help="'auto' spreads a language model over all devices.", metavar="MAP")
    ] = None,
    out_: Annotated[Path | None, typer.Option("--out", help="Run directory; runs/SUBJECT by default.")] = None,
    references: Annotated[str, REFERENCES] = "natural",
    **settings: Any,
) -> None:
    """Measure the units of one model that exists already over your stimuli.

    Its layers are those that `thalweg layers SUBJECT` lists. Interrupted, it goes on where it stopped when the same
    command is given again.
    """
    import thalweg

    check_references(references)
    shown = Shown()
    with going_on(shown):
        run = thalweg.measure(
            subject,
            stimuli,
            layers=layers or (),
            units=units,
            basis=basis,
            length=length,
            trust_remote_code=trust_remote_code,
            device_map=device_map,
            out=out_,
            progress=shown,
            **settings,
        )
        synthetic = also_synthetic(run, references, shown, settings)
        path = written(run, shown, settings["workers"])
    print_headline(run, synthetic)
    out.print(f"report: {readable(path)}", markup=False)


def print_headline(run: "Run", lines: Sequence[str] = ()) -> None:
    """Print the headline scores of a run of one model, and some lines below."""
    for word, line in headline(run).items():
        out.print(f"[bold]{word}:[/bold] ", end="")
        out.print(line, markup=False)
    for line in lines:
        out.print(line, markup=False)


def headline(run: "Run") -> dict[str, str]:
    """The headline scores of a run of one model, beside those of its twins."""
    from thalweg.report.text import interval

    lines = {}
    for word in ("predictable", "crisp"):
        scores = {
            {"trained": "the model"}.get(row["control"], row["control"]): (
                why_no_score(run, row["control"], run.headlines[word])
                if math.isnan(row[word])
                else interval(row[word], row[f"{word}_low"], row[f"{word}_high"])
            )
            for row in run.models.iter_rows(named=True)
        }
        lines[word] = ", ".join(f"{who} {score}" for who, score in scores.items())
    return lines


def why_no_score(run: "Run", control: str, measure: str) -> str:
    """That a model has no score, with the commonest reason among its units."""
    reasons = run.missing.filter(control=control, measure=measure).sort("n", descending=True, maintain_order=True)
    return "has no score" + (f" ({reasons['note'][0]})" if len(reasons) else "")


@app.command(name="layers", epilog=examples("thalweg layers efficientnet-lite:0", "thalweg layers mine.py:subject"))
def layers_(subject: Annotated[str, SUBJECT], trust_remote_code: Annotated[bool, TRUST] = False) -> None:
    """List the layers of a model whose units can be measured.

    The columns are the name, the kind, the number of units and how a unit's values are pooled.
    """
    from thalweg import subjects
    from thalweg.pipeline.one_model import layers_and_others

    model = subjects.architecture(subject, trust_remote_code=trust_remote_code)
    for note in model.notes:
        err.print(note, markup=False)
    table = Table("layer", "kind", "units", "over places", box=None)
    layers, others = layers_and_others(model)
    for tap in layers:
        table.add_row(*_cells(tap.layer.name, tap.kind, f"{tap.units:,}", tap.layer.reduction))
    table.columns[0].overflow = "fold"  # never shortened: a name is to be typed
    out.print(table)
    for line in others:
        out.print(line, markup=False)


@app.command(
    epilog=examples("thalweg train-dictionary hf:gpt2 --layer transformer.h.6 --stimuli corpus.txt --out dictionary")
)
def train_dictionary(
    subject: Annotated[str, SUBJECT],
    layer: Annotated[str, typer.Option(help="The layer; see `thalweg layers SUBJECT`.", metavar="L")],
    stimuli: Annotated[str | None, TRAINED_ON] = None,
    latents: Annotated[int, typer.Option(help="How many latents; 0: eight for each neuron.", min=0)] = 0,
    k: Annotated[int, typer.Option(help="How many are active at once.", min=1)] = 32,
    rows: Annotated[int, typer.Option(help="Places or tokens to train on in all.", min=1)] = 4_000_000,
    skip_places: Annotated[int | None, SKIP_PLACES] = None,
    length: Annotated[int, typer.Option(help="Tokens in a window of text.")] = 24,
    text_column: Annotated[str | None, of_settings("text_column")] = None,
    document_column: Annotated[str | None, of_settings("document_column")] = None,
    image_column: Annotated[str | None, of_settings("image_column")] = None,
    label_column: Annotated[str | None, of_settings("label_column")] = None,
    skip_bad: Annotated[bool, of_settings("skip_bad")] = False,
    seed: Annotated[int, of_settings("seed", min=0)] = 0,
    device: Annotated[str, of_settings("device")] = "auto",
    out_: Annotated[Path, typer.Option("--out", help="Folder for the dictionary.")] = Path("dictionary"),
) -> None:
    """Train a TopK dictionary on a layer of a model, for `thalweg measure SUBJECT --basis sae:FOLDER`."""
    from thalweg.pipeline.one_model import train_dictionary as train

    shown = Shown()
    summary = train(
        subject,
        stimuli,
        layer=layer,
        out=out_,
        latents=latents,
        k=k,
        rows=rows,
        skip_places=skip_places,
        length=length,
        progress=shown,
        text_column=text_column,
        document_column=document_column,
        image_column=image_column,
        label_column=label_column,
        skip_bad=skip_bad,
        seed=seed,
        device=device,
    )
    for name, value in summary.items():
        number = f"{value:.4g}" if isinstance(value, float) else str(value)
        out.print(f"{name.replace('_', ' '):28} {number}", markup=False)
    out.print(f"dictionary: {out_}", markup=False)


@app.command(
    epilog=examples(
        "thalweg validate mnist --observer hog --units 20    # over the held-out digits",
        "thalweg validate corpus.parquet --text-column body --out runs/validate-corpus",
    )
)
def validate(
    stimuli: Annotated[
        str,
        typer.Argument(
            metavar="STIMULI_OR_LADDER", help="A ladder, whose held-out stimuli are taken, or images or text as files."
        ),
    ],
    observer: Annotated[list[str] | None, of_settings("observer")] = None,
    units: Annotated[int, typer.Option(help="Units of each group at most.", min=10)] = 40,
    data: Annotated[list[str] | None, of_settings("data")] = None,
    length: Annotated[int, typer.Option(help="Tokens in a window of text.")] = 24,
    text_column: Annotated[str | None, of_settings("text_column")] = None,
    document_column: Annotated[str | None, of_settings("document_column")] = None,
    image_column: Annotated[str | None, of_settings("image_column")] = None,
    label_column: Annotated[str | None, of_settings("label_column")] = None,
    skip_bad: Annotated[bool, of_settings("skip_bad")] = False,
    seed: Annotated[int, of_settings("seed", min=0)] = 0,
    workers: Annotated[int | None, of_settings("workers", show_default=False)] = None,
    cache: Annotated[Path | None, of_settings("cache", show_default=False)] = None,
    out_: Annotated[Path | None, typer.Option("--out", help="Folder to write; runs/validate-NAME by default.")] = None,
) -> None:
    """Plant units whose truth is known over your stimuli, and see whether the instrument tells one thing from many.

    Do this before you trust a score on new stimuli or by a new observer.
    """
    import thalweg

    options = {"cache": cache} if cache else {}
    result = thalweg.validate(
        stimuli,
        observer=observer or (),
        units=units,
        length=length,
        out=out_,
        progress=Shown(),
        data=tuple(data or ()),
        text_column=text_column,
        document_column=document_column,
        image_column=image_column,
        label_column=label_column,
        skip_bad=skip_bad,
        seed=seed,
        workers=workers,
        **options,
    )
    for sentence in result.sentences.values():
        out.print(sentence, markup=False)
    out.print(f"page: {readable(result.page)}", markup=False)


@app.command(
    epilog=examples(
        "thalweg causes --quick       # a look in minutes",
        "thalweg causes --out runs/causes --workers 2",
        "thalweg causes runs/mnist    # how a survey's factors go with its curve",
    )
)
def causes(
    directory: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="A survey's run, whose own factors are related to its curve.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer seeds and steps: a look in minutes.")] = False,
    seed: Annotated[int, of_settings("seed", min=0)] = 0,
    workers: Annotated[int | None, of_settings("workers", show_default=False)] = None,
    engine: Annotated[str, of_settings("engine")] = "local",
    out_: Annotated[
        Path | None, typer.Option("--out", help="Directory to write; runs/causes or runs/causes-quick by default.")
    ] = None,
) -> None:
    """Ask why units are hard to read: train networks that differ in one thing, and judge six hypotheses.

    Interrupted, it goes on where it stopped when the same command is given again. With the run of a survey, nothing is
    trained: its own factors are related to its curve.
    """
    if directory is not None:
        for_networks = {"--quick": quick, "--seed": seed, "--workers": workers, "--engine": engine != "local"}
        if idle := [option for option, given in {**for_networks, "--out": out_}.items() if given]:
            raise ThalwegError(
                f"{readable(directory)}: of a run, correlations are printed; no network is trained and nothing is "
                f"written, so leave out {' and '.join(idle)}"
            )
        _associations(directory)
        return
    from thalweg.causes.experiment import run_causes
    from thalweg.report.text import p_value

    shown = Shown()
    with going_on(shown):
        result = run_causes(quick=quick, seed=seed, out=out_, workers=workers, engine_name=engine, progress=shown)
    table = Table("", "contrast", "effect", "95 %", "p (Holm)", "verdict", box=None, pad_edge=False)
    for row in result.hypotheses.iter_rows(named=True):
        ends = f"{row['low']:+.3f} to {row['high']:+.3f}"
        numbers = (f"{row['effect']:+.3f}", ends, p_value(row["p_holm"]))
        table.add_row(*_cells(row["hypothesis"], row["contrast"], *numbers, row["verdict"]))
    out.print(table)
    out.print(f"page: {readable(result.page)}", markup=False)


def _associations(directory: Path) -> None:
    """Print how a survey's factors go with its curve."""
    import thalweg
    from thalweg.causes.association import associations

    frame = associations(thalweg.open_run(directory))
    if frame["n_rungs"].max() == 1:
        raise ThalwegError(f"{readable(directory)}: a run of one model; correlations are over the models of a ladder")
    for rows in frame.partition_by("ladder", "headline", maintain_order=True):
        ladder, headline = map(str, rows.row(0)[:2])
        strength = _correlation(rows["strength"][0]) or "unknown"
        n_models = max(rows["n_models"].to_list())
        out.print(f"{ladder}, {headline}: with strength {strength}; {n_models} models", markup=False)
        heads = ("rho", "at equal strength", "95 %")
        table = Table(Column("factor", no_wrap=True, overflow="fold"), *heads, box=None, pad_edge=False)
        for row in rows.iter_rows(named=True):
            rho, held, low, high = (_correlation(row[name]) for name in ("rho", "beyond_strength", "low", "high"))
            ends = f"{low} to {high}" if low else row["note"]
            table.add_row(*_cells(row["factor"], rho, held, ends))
        out.print(table)
    out.print("Rank correlations over trained models: associations. They say of no factor that it is a cause.")


def _correlation(value: float) -> str:
    return "" if math.isnan(value) else f"{value:+.2f}"


FACTS = typer.Option(help="Facts: a JSON file in CounterFact's layout.", metavar="FACTS")
EDITED_BY = typer.Option(
    help="rome (default), memit, fine-tune, fine-tune-matched (as specific as rome) or steer; several are compared."
)
EDITED_LAYER = typer.Option(
    help="A block's number from 0, or a module; several for memit. Chosen by depth by default.", metavar="L"
)
SITE = typer.Option(help="Edit at the subject's last token (subject) or the prompt's (last); by depth by default.")
TEXT = typer.Option(help="Text for second moments and held-out loss, as for `measure`.", metavar="DATA")


@app.command(
    epilog=examples(
        "thalweg edit hf:gpt2 --facts counterfact.json --facts-limit 20",
        "thalweg edit hf:gpt2 --facts counterfact.json --method rome --method fine-tune --layer 4",
        "thalweg edit mine.py:subject --facts facts.json --text text.jsonl --site last",
    )
)
def edit(
    subject: Annotated[str, SUBJECT],
    facts: Annotated[Path, FACTS],
    method: Annotated[list[str] | None, EDITED_BY] = None,
    layer: Annotated[list[str] | None, EDITED_LAYER] = None,
    site: Annotated[str, SITE] = "",
    text: Annotated[str | None, TEXT] = None,
    facts_limit: Annotated[int, typer.Option(help="Facts that are taken at most; 0: all.", min=0)] = 0,
    tokens: Annotated[int, typer.Option(help="Tokens that second moments are taken over.", min=1)] = 20_000,
    ridge: Annotated[float, typer.Option(help="Added to second moments, in mean eigenvalues.", min=0)] = 0.0,
    continued: Annotated[int, typer.Option(help="Tokens of continuations, for the fluency; 0: none.", min=0)] = 30,
    length: Annotated[int, typer.Option(help="Tokens in a window of text.")] = 24,
    text_column: Annotated[str | None, of_settings("text_column")] = None,
    document_column: Annotated[str | None, of_settings("document_column")] = None,
    trust_remote_code: Annotated[bool, TRUST] = False,
    seed: Annotated[int, of_settings("seed", min=0)] = 0,
    cache: Annotated[Path | None, of_settings("cache", show_default=False)] = None,
    out_: Annotated[Path | None, typer.Option("--out", help="Folder; runs/edit-SUBJECT by default.")] = None,
) -> None:
    """Edit facts of a language model, and measure what each edit changes beside the fact.

    Interrupted, it goes on where it stopped when the same command is given again.
    """
    import thalweg

    amounts = {"facts_limit": facts_limit, "tokens": tokens, "ridge": ridge, "continued": continued, "seed": seed}
    columns = {"text": text, "text_column": text_column, "document_column": document_column, "length": length}
    given: dict[str, Any] = {**amounts, **columns, "trust_remote_code": trust_remote_code, "out": out_}
    given |= {"cache": cache} if cache else {}
    shown = Shown()
    with going_on(shown):
        edits = thalweg.edit(
            subject, facts, method=method or "rome", layer=layer or (), site=site, progress=shown, **given
        )
    _print_edits(edits)


def _print_edits(edits: "Edits") -> None:
    """Print a line for each measure, and write the page."""
    from thalweg.report.edits import printed, write_page

    for line in edits.about:
        out.print(line, markup=False)
    heads, lines = printed(edits)
    table = Table(*heads, box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    for cells in lines:
        table.add_row(*_cells(*cells))
    out.print(table)
    out.print(f"page: {readable(write_page(edits))}", markup=False)


PAIRS = typer.Option(help="A table with a column for each language, or emoji: the names of emojis.", metavar="PAIRS")
PARALLEL = typer.Option(help="A table with two columns of aligned texts.", metavar="DATA")
PAIRS_COLUMN = typer.Option(help="The two columns of PAIRS, if it has more with text.", metavar="A,B")
PARALLEL_COLUMN = typer.Option(help="The two columns of aligned texts, if there are more.", metavar="A,B")


@app.command(
    epilog=examples(
        "thalweg concepts hf:gpt2 --pairs emoji --language fr --language de",
        "thalweg concepts mine.py:subject --pairs pairs.csv --text parallel.csv --text-column en,fr",
    )
)
def concepts(
    subject: Annotated[str, SUBJECT],
    pairs: Annotated[str, PAIRS],
    language: Annotated[list[str] | None, typer.Option(help="Of emojis' names beside English; fr by default.")] = None,
    pairs_column: Annotated[str | None, PAIRS_COLUMN] = None,
    text: Annotated[Path | None, PARALLEL] = None,
    text_column: Annotated[str | None, PARALLEL_COLUMN] = None,
    layers: Annotated[list[str] | None, typer.Option(help="Layers; residual streams by default.")] = None,
    limit: Annotated[int, typer.Option(help="Pairs, and texts, that are taken at most; 0: all.", min=0)] = 200,
    trust_remote_code: Annotated[bool, TRUST] = False,
    seed: Annotated[int, of_settings("seed", min=0)] = 0,
    out_: Annotated[Path | None, typer.Option("--out", help="Folder; runs/concepts-SUBJECT by default.")] = None,
) -> None:
    """Measure how far a language model shares concepts between the words of two languages."""
    from thalweg.pipeline.word_pairs import measure_concepts

    options: dict[str, Any] = {"language": language or (), "text": text, "layers": layers or (), "limit": limit}
    options |= {"pairs_column": pairs_column, "text_column": text_column}
    options |= {"trust_remote_code": trust_remote_code, "seed": seed, "out": out_}
    result = measure_concepts(subject, pairs, progress=Shown(), **options)
    out.print(result.sentence(), markup=False)
    heads = ("languages", "pairs", "model", "measure", "value", "95 %", "n")
    table = Table(*heads, box=None, pad_edge=False)
    for row in result.table.filter(layer="").iter_rows(named=True):
        ends = f"{row['low']:.3f} to {row['high']:.3f}"
        names = (row["languages"], row["group"], row["control"], row["measure"])
        table.add_row(*_cells(*names, f"{row['value']:.3f}", ends, str(row["n"])))
    out.print(table)
    out.print(f"tables: {readable(result.path)}", markup=False)


@app.command(epilog=examples("thalweg report runs/mnist --out mnist.html"))
def report(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A run directory.")],
    out_: Annotated[Path | None, typer.Option("--out", help="The file to write; DIR/report.html by default.")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Worker processes; as many as cores by default.", min=1, show_default=False)
    ] = None,
) -> None:
    """Write the report of a finished run again."""
    import thalweg

    run = thalweg.open_run(directory)
    out.print(f"report: {readable(thalweg.write_report(run, out_, workers=workers))}", markup=False)


SITE_DATA = typer.Option(
    help="Where the stimuli lie now, if not where they did; LADDER=PATH if there are several ladders.", metavar="PATH"
)


@app.command(
    epilog=examples(
        "thalweg explore runs/mnist              # writes runs/mnist/explore",
        "thalweg explore runs/mnist --serve      # makes each page as it is asked for",
    )
)
def explore(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A run directory.")],
    out_: Annotated[Path | None, typer.Option("--out", help="The folder to write; DIR/explore by default.")] = None,
    serve: Annotated[bool, typer.Option("--serve", help="Write nothing, and serve the pages on this machine.")] = False,
    port: Annotated[int, typer.Option(help="Port for --serve; 0: any.", min=0, max=65535)] = 0,
    rung: Annotated[list[str] | None, typer.Option(help="Only the units of this rung, or of several.")] = None,
    data: Annotated[list[str] | None, SITE_DATA] = None,
    cache: Annotated[Path | None, of_settings("cache", show_default=False)] = None,
) -> None:
    """Make a page for every unit: what drives it, its scores, the trials that observers got wrong."""
    import thalweg
    from thalweg.explore.serving import serve_site
    from thalweg.explore.site import site_of, where_stimuli_lie

    if serve and out_:
        raise ThalwegError("--serve writes nothing, and --out names a folder; give one of them")
    if port and not serve:
        raise ThalwegError("--port is that of a server; add --serve")
    run = thalweg.open_run(directory)
    options: dict[str, Any] = {"rung": rung or (), "data": where_stimuli_lie(run, data or ()), "cache": cache}
    if not serve:
        index = thalweg.write_unit_pages(run, out_, progress=Shown(), **options)
        out.print(f"units: {readable(index)}", markup=False)
        return
    site = site_of(run, progress=Shown(), **options)
    serve_site(site, port, ready=lambda url: out.print(f"units: {url}   (Ctrl-C ends)", markup=False))


FORMAT = typer.Option(
    "--format", help="neuronpedia, what Neuronpedia imports; or saedashboard, SAEDashboard's JSON.", metavar="FORMAT"
)
CREATOR_ID = typer.Option(help="The user of Neuronpedia's that the rows belong to; else SAEDashboard's.", metavar="ID")


@app.command(
    epilog=examples(
        "thalweg export runs/words                         # writes runs/words/neuronpedia",
        "thalweg export runs/gpt2 --format saedashboard --layer transformer.h.6 --out dashboards",
    )
)
def export(
    directory: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, of networks that read text.")],
    format_: Annotated[str, FORMAT] = "neuronpedia",
    rung: Annotated[list[str] | None, typer.Option(help="Only this rung; several may be named.")] = None,
    layer: Annotated[list[str] | None, typer.Option(help="Only this layer, or several.", metavar="L")] = None,
    control: Annotated[list[str] | None, typer.Option(help="Twins instead of the trained networks.")] = None,
    creator_id: Annotated[str | None, CREATOR_ID] = None,
    data: Annotated[list[str] | None, SITE_DATA] = None,
    out_: Annotated[Path | None, typer.Option("--out", help="A new folder; RUN/FORMAT by default.")] = None,
) -> None:
    """Write units of text for the dashboards of other tools: features, activations, explanations."""
    import thalweg
    from thalweg.explore.site import where_stimuli_lie

    run = thalweg.open_run(directory)
    options: dict[str, Any] = {"control": control} if control else {}
    options |= {"creator": creator_id} if creator_id else {}
    options |= {"rung": rung or (), "layer": layer or (), "data": where_stimuli_lie(run, data or ())}
    folder = thalweg.write_dashboards(run, out_, format=format_, progress=Shown(), **options)
    out.print(f"{format_}: {readable(folder)}", markup=False)


SE = typer.Option(help="Column of the score's standard error; one for each score.", metavar="COL")
GROUP = typer.Option(help="Column that names the configuration of replicates.", metavar="COL")
BY = typer.Option(help="Column that splits the models: a verdict for each of its values.", metavar="COL")
SMALLEST_EFFECT = typer.Option(
    help="Least difference in score that matters, in units of the score or as a share (5%): a curve without one is "
    "flat. By default .05, and 5 for percentages (all scores from 0 to 100, one above 10).",
    metavar="NUMBER",
)
SCALE = typer.Option(help="Whether scores are of 1 or of 100; decided by them by default.", metavar="fraction|percent")
LESS_IS_BETTER = typer.Option(
    "--less-is-better/--more-is-better",
    help="Whether less strength is better; by default it is of a loss, an error, a perplexity, by the name.",
    show_default=False,
)


@app.command(
    epilog=examples(
        "thalweg shape table.csv --strength loss --score score --group model",
        "thalweg shape one.csv two.csv --strength params --score easy --score hard --out verdicts.csv",
        "thalweg shape table.csv --strength params --score score --by family --smallest-effect 5%",
    )
)
def shape(
    table: Annotated[list[Path], typer.Argument(metavar="TABLE...", help="CSV or Parquet files with a row per model.")],
    strength: Annotated[str, typer.Option(help="Column of the strength.", metavar="COL")],
    score: Annotated[list[str], typer.Option(help="Column of the score; several get a verdict each.", metavar="COL")],
    se: Annotated[list[str] | None, SE] = None,
    group: Annotated[str | None, GROUP] = None,
    by: Annotated[str | None, BY] = None,
    smallest_effect: Annotated[str | None, SMALLEST_EFFECT] = None,
    scale: Annotated[str | None, SCALE] = None,
    less_is_better: Annotated[bool | None, LESS_IS_BETTER] = None,
    seed: Annotated[int, typer.Option(help="Seed of the simulated null distributions.")] = 0,
    out_: Annotated[
        Path | None, typer.Option("--out", help="Write the records to a .json, .csv or .parquet file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole record, or a list of several.")] = False,
) -> None:
    """Decide the shape of any curve of score against strength.

    It is a valley, a hump, increasing, decreasing, flat, or cannot be told yet. Several curves get a row each.
    """
    from thalweg.shape import Choice, judge_curves, read_table
    from thalweg.shape.records import check_out, remarks, row_of, write_records

    if out_ is not None:
        check_out(out_)
    choice = Choice(strength, tuple(score), tuple(se or ()), group, by, smallest_effect, scale, less_is_better)
    curves = judge_curves([read_table(path) for path in table], choice, seed=seed, progress=Shown())
    for line in remarks(curves):
        err.print(line, markup=False)
    records = [curve.to_record() for curve in curves]
    if out_ is not None:
        write_records(records, out_)
    if as_json:
        print(json.dumps(records if len(records) > 1 else records[0], indent=1, allow_nan=False))
    elif len(curves) == 1:
        out.print(curves[0].verdict.sentence, markup=False)
    else:
        out.print(_verdicts([row_of(curve) for curve in curves]))


def _verdicts(rows: Sequence[Mapping[str, str]]) -> Table:
    """A row for each curve, without columns that say nothing."""
    idle = {"table", "by", "score", "rows left out"}
    shown = [name for name in rows[0] if name not in idle or len({row[name] for row in rows}) > 1]
    table = Table(*shown, box=None, pad_edge=False)
    for column in table.columns[:-1]:
        column.no_wrap = True
    for row in rows:
        table.add_row(*_cells(*(row[name] for name in shown)))
    return table


@app.command(
    epilog=examples(
        "thalweg literature --out literature.html",
        "thalweg literature --data mine.toml    # a study of your own beside those that ship",
    )
)
def literature(
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Records of studies (.toml, each beside its table), or folders of them.", metavar="PATH"),
    ] = None,
    out_: Annotated[Path, typer.Option("--out", help="The page; records go beside it as .json.")] = Path(
        "literature.html"
    ),
    only: Annotated[bool, typer.Option("--only-data", help="Leave out the studies that ship.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the simulated null distributions.", min=0)] = 0,
) -> None:
    """Judge the curves of published studies by one rule, and draw them on one page with their sources."""
    import thalweg

    result = thalweg.judge_literature(data or (), out_, shipped=not only, seed=seed, progress=Shown())
    out.print(result.sentence, markup=False)
    out.print(f"page: {readable(result.page)}", markup=False)


@app.command(
    epilog=examples("thalweg compare runs/mnist runs/mnist-2", "thalweg compare runs/a runs/b --out runs/a-and-b.html")
)
def compare(
    first: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    second: Annotated[Path, typer.Argument(metavar="RUN", help="Another one.")],
    out_: Annotated[Path, typer.Option("--out", help="The page.")] = Path("compare.html"),
) -> None:
    """Put two runs beside each other: settings, versions, scores, units and verdicts that differ, on one page."""
    import thalweg
    from thalweg.files.whole import writable_file

    writable_file(out_, "--out")
    runs = thalweg.compare_runs(thalweg.open_run(first), thalweg.open_run(second))
    path = thalweg.write_comparison(runs, out_)
    for sentence in runs.sentences:
        out.print(sentence, markup=False)
    out.print(f"page: {readable(path)}", markup=False)


ALSO = typer.Option(help="Upload this too: weights, dictionaries, parts, answers or pages; may be repeated.")
LICENCE = typer.Option(help="Licence of the numbers, as the hub names it.", metavar="LICENCE")


@app.command(
    epilog=examples(
        "thalweg push runs/mnist me/mnist --licence cc-by-4.0",
        "thalweg push runs/mnist me/mnist --also weights --yes    # without a question",
    )
)
def push(
    directory: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The dataset; made if it is not there.")],
    also: Annotated[list[str] | None, ALSO] = None,
    licence: Annotated[str, LICENCE] = "",
    public: Annotated[bool, typer.Option("--public", help="Let anyone read it; by default it is private.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Upload without a question.")] = False,
) -> None:
    """Upload a run to the Hugging Face hub as a dataset, with a card.

    What is uploaded is shown first, and you are asked.
    """
    import thalweg
    from thalweg.sharing.hub import plan

    run = thalweg.open_run(directory)
    for line in plan(run, repository, also=also or (), public=public):
        out.print(line, markup=False)
    if not (yes or (sys.stdin.isatty() and typer.confirm("Upload it now?"))):
        raise ThalwegError("nothing was uploaded; add --yes to upload it without a question")
    address = thalweg.push(run, repository, also=also or (), licence=licence, public=public)
    out.print(f"dataset: {address}", markup=False)


@app.command(epilog=examples("thalweg pull someone/mnist", "thalweg pull someone/mnist --out runs/theirs"))
def pull(
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The dataset.")],
    out_: Annotated[
        Path | None, typer.Option("--out", help="A folder for it; by default the hub client's cache.")
    ] = None,
    revision: Annotated[str, typer.Option(help="A commit, branch or tag.")] = "main",
) -> None:
    """Fetch a run that was shared on the Hugging Face hub."""
    import thalweg

    run = thalweg.pull(repository, out_, revision=revision, progress=Shown())
    at = "" if revision == "main" else f"@{revision}"
    out.print(f"run: {readable(run.path) if out_ else f'hf://{repository}{at}'}", markup=False)


@app.command(
    epilog=examples("thalweg visualise runs/mnist", "thalweg visualise runs/cifar --units 20 --steps 512 --device cuda")
)
def visualise(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, of networks that see images.")],
    units: Annotated[int, typer.Option(help="Units of each layer, drawn at random.", min=1)] = 8,
    steps: Annotated[int, typer.Option(help="Steps of the optimiser.", min=1)] = 256,
    rung: Annotated[list[str] | None, typer.Option(help="Only this rung; several may be named.")] = None,
    device: Annotated[str, of_settings("device")] = "auto",
    cache: Annotated[Path | None, of_settings("cache", show_default=False)] = None,
) -> None:
    """Make pictures that drive units most and least, and score the units with these as references.

    The same observer answers about the same queries as with natural references. Interrupted, it goes on where it
    stopped when the same command is given again.
    """
    import thalweg

    with going_on(shown := Shown()):
        said = synthetic_condition(
            thalweg.open_run(run), units=units, steps=steps, rung=rung or (), device=device, cache=cache, progress=shown
        )
    for line in said:
        out.print(line, markup=False)


@app.command(name="list", epilog=examples("thalweg list ladders", "thalweg list factors"))
def list_(
    what: Annotated[str, typer.Argument(metavar="ladders|observers|measures|factors", help="What to list.")],
) -> None:
    """List the ladders, observers, measures or factors there are."""
    from thalweg.factors.base import FACTORS
    from thalweg.ladders import LADDERS
    from thalweg.measures.base import MEASURES, first_sentence
    from thalweg.observers.base import KINDS, OBSERVERS

    listed = {
        "ladders": [(ladder.name, f"{len(ladder.rungs)} rungs", ladder.description) for ladder in LADDERS.values()],
        "observers": [
            *((each.name, "control" if each.control else "", each.sees) for each in OBSERVERS.values()),
            *((kind.form, "", first_sentence(kind.make)) for kind in KINDS.values()),
        ],
        "factors": [(factor.name, factor.unit, factor.meaning) for factor in FACTORS.values()],
        "measures": [
            (measure.name, measure.headline, first_sentence(measure.function)) for measure in MEASURES.values()
        ],
    }
    if what not in listed:
        raise unknown("list", what, listed)
    table = Table(box=None, show_header=False)
    for row in listed[what]:
        table.add_row(*_cells(*row))
    table.columns[0].no_wrap = True  # a name is to be typed
    out.print(table)


def _cells(*texts: str) -> list[str]:
    """Texts as a table shows them."""
    return [escape(printable(text)) for text in texts]


def _no_other_bars() -> None:
    """Keep libraries from drawing bars of their own into these: in worker processes, and here where tqdm is loaded."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    if "tqdm" in sys.modules:
        bar = sys.modules["tqdm"].tqdm
        bar.__init__ = partialmethod(bar.__init__, disable=True)


def _no_word_of_what_is_cleared() -> None:
    """Keep the process that clears what killed workers leave in memory from saying so on the user's screen."""
    filters = [word for word in os.environ.get("PYTHONWARNINGS", "").split(",") if word]
    os.environ["PYTHONWARNINGS"] = ",".join(dict.fromkeys([*filters, "ignore:resource_tracker"]))


def _show_version(asked: bool) -> bool:
    """What a report of a fault should begin with."""
    if asked:
        out.print(f"thalweg {version('thalweg')}, PyTorch {version('torch')}, Python {platform.python_version()}")
        raise typer.Exit
    return asked


FETCHED = "Fetch models, observers and dictionaries that are missing, size and licence first; it may stand anywhere."


@app.callback()
def _everywhere(
    debug: Annotated[bool, typer.Option(DEBUG, help="Show the traceback of an error; it may stand anywhere.")] = False,
    download: Annotated[bool, typer.Option(DOWNLOAD, help=FETCHED)] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and leave.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """How interpretable are a network's units, and how does that change with its strength?"""


def main() -> None:
    """Run the command line: whatever goes wrong is one message on standard error, without a traceback unless `--debug`
    asks for it. docs/errors.md lists the exit statuses.
    """
    _no_other_bars()
    _no_word_of_what_is_cleared()
    debug, download = DEBUG in sys.argv, DOWNLOAD in sys.argv
    sys.argv = [word for word in sys.argv if word not in (DEBUG, DOWNLOAD)]
    try:
        try:
            with_downloads(app, partial(_may_be_fetched, asked=download))
        finally:
            sys.stdout.flush()
    except (SystemExit, Exception, KeyboardInterrupt) as wrong:
        if isinstance(wrong, SystemExit):
            raise
        if isinstance(wrong, Missing) and wrong.fetches and not download:
            wrong = ThalwegError(f"{wrong}\nto fetch it: {shlex.join(['thalweg', *sys.argv[1:], DOWNLOAD])}")
        if debug and not isinstance(wrong, BrokenPipeError | KeyboardInterrupt):
            traceback.print_exception(wrong)
        sys.exit(failed(wrong))


def _may_be_fetched(fetches: Sequence[Fetch], *, asked: bool) -> bool:
    """Whether what is missing may be fetched: where that was asked for, or the user at the terminal says so now."""
    if not asked and not sys.stdin.isatty():
        return False
    for line in lines_of(fetches):
        err.print(line, markup=False)
    try:
        return asked or typer.confirm("Fetch it now?", err=True)
    except typer.Abort as interrupted:
        raise KeyboardInterrupt from interrupted


def failed(wrong: BaseException) -> int:
    """Say what went wrong, and return the exit status."""
    if isinstance(wrong, BrokenPipeError) or (isinstance(wrong, OSError) and wrong.errno in FULL):
        close_output()
        if isinstance(wrong, BrokenPipeError):
            return CLOSED
        message, status = f"the output cannot be written ({wrong.strerror})", MISTAKE
    elif isinstance(wrong, ThalwegError):
        message, status = str(wrong), MISTAKE
    elif isinstance(wrong, OSError) and wrong.errno in OF_A_PATH and wrong.filename:
        message, status = f"{readable(wrong.filename)}: {wrong.strerror}; name another path", MISTAKE
    elif isinstance(wrong, KeyboardInterrupt):
        message, status = "interrupted", INTERRUPTED
    elif isinstance(wrong, MemoryError) or any(said in str(wrong) for said in NO_MEMORY):
        message, status = (
            f"memory ran out ({reason(wrong)}); fewer --workers or a smaller --batch-size take less",
            MISTAKE,
        )
    else:
        message = f"unexpected {reason(wrong)}; give the command again with {DEBUG} and report what it shows"
        status = UNEXPECTED
    err.print("[bold red]error:[/bold red] ", end="")
    err.print(message, markup=False)
    return status
