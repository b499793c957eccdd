"""The card of a run on the hub: what was measured, by which versions, what came out, and whose licences it rests on."""

from collections.abc import Iterable, Sequence
from typing import Any

from thalweg.downloads.hub import hub_client
from thalweg.runs.run import Run
from thalweg.sharing.parcel import Parcel

MOST_ROWS = 40  # of the table of models
TAGS = ["thalweg", "interpretability", "mechanistic-interpretability"]
BY_MODEL = ("share", "predictable", "crisp")


def card(run: Run, repository: str, parcel: Parcel, licence: str = "") -> str:
    """The card as Markdown, with what the hub reads of it on top."""
    parts = [
        f"---\n{_for_the_hub(parcel, licence)}\n---",
        f"# {repository}",
        f"How interpretable the units of networks are, measured with thalweg {run.record['versions']['thalweg']}. "
        "Of two stimuli, an observer tells from references which one drives a unit more; chance is 0.5.",
        "## What came out",
        _verdicts(run),
        "## What was measured",
        _ladders(run),
        _scores(run),
        "## By which versions",
        _table(("package or headline", "version"), _versions(run)),
        f"The command: `{run.record['command']}`",
        "## Licences",
        _licences(run, licence),
        "## How to read it",
        _how(repository, parcel),
    ]
    return "\n\n".join(parts) + "\n"


def _for_the_hub(parcel: Parcel, licence: str) -> str:
    """Licence, tags, and the tables that the hub's viewer shows."""
    tables = [name for name in parcel.names if name.endswith(".parquet") and "/" not in name]
    files = {name.removesuffix(".parquet"): name for name in tables} | {"units": "units/*.parquet"}
    configs = [
        {"config_name": name, "data_files": file, **({"default": True} if name == "models" else {})}
        for name, file in files.items()
    ]
    about: dict[str, Any] = {"tags": TAGS, "configs": configs, **({"license": licence} if licence else {})}
    return str(hub_client().DatasetCardData(**about).to_yaml())


def _verdicts(run: Run) -> str:
    """The headline verdicts; of a single model there are none."""
    lines = [
        f"- **{_plain(ladder)}, {word}**: {_plain(verdict['sentence'])}"
        for ladder, verdicts in run.verdict.items()
        for word, verdict in verdicts.items()
    ]
    return "\n".join(lines) or "A single model was measured: it has scores and no verdict."


def _ladders(run: Run) -> str:
    """A row for each ladder."""
    rows = []
    for name, about in run.record["ladders"].items():
        models = run.models.filter(ladder=name, control="trained")
        observers = [f"{each['name']} {each['version']}" for each in about["observers"] if not each["control"]]
        stimuli = f"{about['stimuli'].get('pool', 0):,} ({about['modality']})"
        rows.append((name, about["description"], len(models), sum(models["n_units"]), stimuli, ", ".join(observers)))
    return _table(("ladder", "what it is", "models", "units", "stimuli", "observers"), rows)


def _scores(run: Run) -> str:
    """A row for each model."""
    models = run.models.filter(control="trained").sort("ladder", "order")
    columns = [name for name in BY_MODEL if name in models.columns]
    rows = models.head(MOST_ROWS).select("ladder", "rung", "seed", *columns).iter_rows()
    table = _table(("ladder", "model", "seed", *columns), rows)
    more = len(models) - MOST_ROWS
    return table + (f"\n\n{more} more models are in `models.parquet`." if more > 0 else "")


def _versions(run: Run) -> list[tuple[str, Any]]:
    """The packages, and the measures of the headlines, with their versions."""
    measures = [(f"{name} ({word})", run.record["measures"][name]["version"]) for word, name in run.headlines.items()]
    return [*run.record["versions"].items(), *measures]


def _licences(run: Run, licence: str) -> str:
    """What is known of the licences of what the run rests on."""
    stated = f"`{licence}`, as its owner says" if licence else "not stated: ask its owner"
    lines = [
        f"- The numbers: {stated}.",
        "- The stimuli that `gallery.parquet`, the report and the charts show keep the licence of their source.",
    ]
    weights = sorted({str(each) for each in _weights(run)})
    if weights:
        lines.append(
            "- Published models that were measured, each under its own licence: " + ", ".join(map(_plain, weights))
        )
    seeing = [
        f"{each['name']}: {each['sees']}"
        for about in run.record["ladders"].values()
        for each in about["observers"]
        if not each["control"]
    ]
    lines.append("- Observers see with networks of their own: " + _plain(" ".join(dict.fromkeys(seeing))))
    return "\n".join(lines)


def _weights(run: Run) -> list[str]:
    """The published weights that were measured."""
    return run.models["weights"].drop_nulls().to_list() if "weights" in run.models.columns else []


def _how(repository: str, parcel: Parcel) -> str:
    """How it is opened, and what it holds."""
    code = f'```python\nimport thalweg\n\nrun = thalweg.pull("{repository}")\nrun.models, run.units, run.verdict\n```'
    held = "\n".join(f"- {line}" for line in parcel.lines())
    return f'{code}\n\nLater `thalweg.open_run("hf://{repository}")` opens it without a network. It holds:\n\n{held}'


def _table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(map(_plain, line)) + " |" for line in lines)


def _plain(value: object) -> str:
    """A value as text that neither ends a table's cell nor starts HTML."""
    text = f"{value:.3f}" if isinstance(value, float) else "" if value is None else str(value)
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
