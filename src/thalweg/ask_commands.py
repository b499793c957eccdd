"""The commands `thalweg ask` and `thalweg explanations`: language models as observers of a finished run."""

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thalweg.errors import ThalwegError, readable
from thalweg.terminal import Shown, err, examples, out

if TYPE_CHECKING:
    from thalweg.pipeline.ask import Asked
    from thalweg.prompting.costs import Plan

ask_app = typer.Typer()
RUN = typer.Argument(metavar="RUN", help="The directory of a finished run.")
MODEL = typer.Option(
    help="A model's name behind an endpoint; or hf:FOLDER, hf:FILE.gguf or hf:NAME for one of this machine.",
    metavar="MODEL",
)
BASE_URL = typer.Option(
    help="The endpoint; by default OPENAI_BASE_URL, or OpenAI's own. The key is in OPENAI_API_KEY.", metavar="URL"
)
FORM = typer.Option(
    help="2afc (default), detection, fuzzing, intruder, explanation, 2afc-explained, detection-explained, simulation."
)
EXPLAINER = typer.Option(
    help="Whose explanations the explained forms go by; by default the model's own.", metavar="NAME"
)
STUDY = typer.Option(
    help="A study of this run: the trials that its participants are asked; other forms about the same units.",
    metavar="NAME",
)
MATCHED = typer.Option("--matched", help="Only trials that low-level statistics can't decide.")
MOST_TOKENS = typer.Option(help="The most tokens of a reply; more for models that reason first.", min=1)
PRICE = "The price of a million tokens of {what}."


@ask_app.command(
    epilog=examples(
        "thalweg ask runs/words --model gpt-4o-mini --price-prompt 0.15 --price-reply 0.60 --budget 2",
        "thalweg ask runs/words --model qwen3 --base-url http://localhost:8000/v1 --form 2afc --form detection",
        "thalweg ask runs/words --model hf:SmolLM2.gguf --form intruder --units 2 --control trained",
        "thalweg ask runs/words --model hf:SmolLM2.gguf --study language",
    )
)
def ask(
    run: Annotated[Path, RUN],
    model: Annotated[str, MODEL],
    base_url: Annotated[str | None, BASE_URL] = None,
    form: Annotated[list[str] | None, FORM] = None,
    ladder: Annotated[list[str] | None, typer.Option(help="Ladders; all by default.")] = None,
    rung: Annotated[list[str] | None, typer.Option(help="Rungs; all by default.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Seeds of models; all by default.")] = None,
    control: Annotated[list[str] | None, typer.Option(help="trained, or twins; all by default.")] = None,
    layer: Annotated[list[str] | None, typer.Option(help="Layers; all by default.", metavar="L")] = None,
    units: Annotated[
        int | None, typer.Option(help="Units of each layer, the same of twins; by default 4.", min=1)
    ] = None,
    per_unit: Annotated[
        int | None, typer.Option(help="Two-alternative trials of a unit; by default 12.", min=1)
    ] = None,
    matched: Annotated[bool, MATCHED] = False,
    study: Annotated[str | None, STUDY] = None,
    references: Annotated[int, typer.Option(help="References shown of each kind, nine at most.", min=1, max=9)] = 9,
    explainer: Annotated[str, EXPLAINER] = "",
    price_prompt: Annotated[float | None, typer.Option(help=PRICE.format(what="prompts"))] = None,
    price_reply: Annotated[float | None, typer.Option(help=PRICE.format(what="replies"))] = None,
    budget: Annotated[float | None, typer.Option(help="What may be spent, in the money of the prices.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Send without a question.")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Ask again where a reply was no answer.")] = False,
    parallel: Annotated[int, typer.Option(help="Requests on their way at once.", min=1)] = 8,
    timeout: Annotated[float, typer.Option(help="Seconds after which a request is given up.")] = 60,
    retries: Annotated[int, typer.Option(help="How often a failing request is sent again.", min=0)] = 6,
    reply_tokens: Annotated[int | None, MOST_TOKENS] = None,
) -> None:
    """Ask a language model the trials of a finished run, and score it beside the other observers.

    Says first how much will be sent. Interrupted, it goes on where it stopped when the same command is given again.
    """
    import thalweg

    given: dict[str, Any] = {"form": tuple(form or ("2afc",)), "references": references, "explainer": explainer}
    given |= {"price_prompt": price_prompt, "price_reply": price_reply, "budget": budget, "retry": retry}
    given |= {"parallel": parallel, "timeout": timeout, "retries": retries, "reply_tokens": reply_tokens}
    trials = {"layer": layer or None, "units": units, "per_unit": per_unit, "matched": matched or None}
    given |= {name: value for name, value in trials.items() if value is not None}
    chosen = {"ladder": ladder or None, "rung": rung or None, "seed": seed or None, "control": control or None}

    def agree(plan: "Plan") -> bool:
        return _agree(plan, yes)

    asked = thalweg.ask(run, model, base_url=base_url, study=study, agree=agree, progress=Shown(), **chosen, **given)
    _print_scores(asked)


def _agree(plan: "Plan", yes: bool) -> bool:
    """Show what is about to be sent, and ask whether to send it; of a model of this machine nobody is asked.

    Raises:
        ThalwegError: there is nobody to ask.
    """
    for line in plan.lines():
        err.print(line, markup=False)
    if yes or not plan.where:
        return True
    if not sys.stdin.isatty():
        raise ThalwegError("nothing was sent: nobody is there to be asked; give --yes to send without a question")
    return typer.confirm("Send them?", err=True)


def _print_scores(asked: "Asked") -> None:
    """Print a line for each model and form, and where the rest is."""
    order = {row["rung"]: row["order"] for row in asked.run.models.iter_rows(named=True)}
    for row in sorted(
        asked.scores.iter_rows(named=True),
        key=lambda row: (row["form"], row["ladder"], order.get(row["rung"], 0), row["control"] != "trained"),
    ):
        out.print(_line(row), markup=False)
    if asked.unanswered:
        out.print(f"{asked.unanswered:,} questions are not answered; the same command goes on from there")
    if asked.spent is not None:
        out.print(f"spent: {asked.spent:,.2f}")
    out.print(f"agreement with the other observers: thalweg report {readable(asked.run.path)}", markup=False)


def _line(row: Mapping[str, Any]) -> str:
    """The score of a model in a form, beside its floors."""
    where = f"{row['form']}, {row['ladder']} {row['rung']}, {row['control']}: "
    failed = f"{row['n_failed']} failed" + (f", of these {row['refused']} refused" if row["refused"] else "")
    counts = f"{row['n_units']} units, {row['n']} replies, {failed}"
    floors = f"chance {_number(row['chance'])}, always the commonest answer {_number(row['majority'])}"
    ends = f" ({_number(row['low'])} to {_number(row['high'])})"
    return f"{where}{_number(row['value'])}{ends}; {floors}; {counts}"


def _number(value: float) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.2f}"


@ask_app.command(
    epilog=examples(
        "thalweg explanations runs/words --export explanations.jsonl.gz",
        "thalweg explanations runs/gpt2 --import batch-0.jsonl.gz --layer-name 6-res-jb=transformer.h.6",
    )
)
def explanations(
    run: Annotated[Path, RUN],
    export: Annotated[
        Path | None, typer.Option(help="Write Neuronpedia's JSON: .json, .jsonl or .jsonl.gz.", metavar="FILE")
    ] = None,
    import_: Annotated[
        Path | None, typer.Option("--import", help="Read explanations from Neuronpedia's JSON.", metavar="FILE")
    ] = None,
    layer_name: Annotated[
        list[str] | None, typer.Option(help="A layer of the file and its name here.", metavar="THEIRS=OURS")
    ] = None,
) -> None:
    """Show a run's explanations of units in words, or exchange them in the JSON of Neuronpedia."""
    import thalweg
    from thalweg.files.whole import writable_file

    if export is not None:
        writable_file(export, "--export")
    opened = thalweg.open_run(run)
    layers = dict(_pair(text) for text in layer_name or ())
    if import_ is not None:
        out.print(f"{opened.import_explanations(import_, layers):,} explanations read", markup=False)
    if export is not None:
        count = opened.export_explanations(export)
        out.print(f"{count:,} explanations: {readable(export)}", markup=False)
    if import_ is None and export is None:
        for row in opened.explanations.iter_rows(named=True):
            where = f"{row['ladder']} {row['rung']} {row['control']} {row['layer']} {row['unit']}"
            out.print(f"{where} ({row['explainer']}): {row['explanation']}", markup=False)


def _pair(text: str) -> tuple[str, str]:
    """Two names of a layer.

    Raises:
        ThalwegError: there are not two.
    """
    theirs, equals, ours = text.rpartition("=")
    if not equals or not theirs or not ours:
        raise ThalwegError(f"--layer-name {text!r}: THEIRS=OURS was expected, as 6-res-jb=transformer.h.6")
    return theirs, ours
