"""How a notebook shows a run: what was measured, the verdicts, the picture if there is one, and the models."""

import base64
from pathlib import Path
from typing import Protocol

import polars as pl

from thalweg.errors import readable
from thalweg.markup import Fragment, bullets, element, listing

MOST = 40  # models that are listed
PICTURE = "*-curve.svg"  # the headline curves, once the report has been written


class ShownRun(Protocol):
    """What is shown of a run."""

    @property
    def path(self) -> Path:
        """The run directory."""

    @property
    def models(self) -> pl.DataFrame:
        """A row per model and control."""

    @property
    def record(self) -> dict[str, dict[str, dict[str, object]]]:
        """What run.json says."""

    @property
    def verdict(self) -> dict[str, dict[str, dict[str, object]]]:
        """The headline verdicts."""


def shown_run(run: ShownRun) -> Fragment:
    """A run as a fragment of HTML."""
    names = ", ".join(f"{name} ({about['description']})" for name, about in run.record["ladders"].items())
    said = [
        f"{ladder}, {word}: {verdict['sentence']}"
        for ladder, verdicts in run.verdict.items()
        for word, verdict in verdicts.items()
    ]
    report = run.path / "report.html"
    where = f"Report: {readable(report)}" if report.is_file() else "No report yet: thalweg.write_report(run) writes it."
    parts = [
        element("p", element("b", readable(run.path)), f": {names}"),
        bullets(said),
        *(_picture(file) for file in sorted((run.path / "figures").glob(PICTURE))),
        _models(run.models),
        element("p", where),
    ]
    return element("div", *parts)


def _picture(file: Path) -> Fragment:
    """A chart as a picture, so that nothing in it can act on the notebook."""
    source = "data:image/svg+xml;base64," + base64.b64encode(file.read_bytes()).decode()
    return element("p", element("img", src=source, alt=f"headline scores against strength ({file.stem})"))


def _models(models: pl.DataFrame) -> Fragment:
    """The strength and the headline scores of the first models, twins left out."""
    trained = models.filter(pl.col("control") == "trained")
    columns = [
        name for name in ("ladder", "rung", "seed", "bits", "accuracy", "predictable", "crisp") if name in models
    ]
    rows = [[_cell(value) for value in row] for row in trained.select(columns).head(MOST).iter_rows()]
    more = len(trained) - len(rows)
    table = listing(columns, rows)
    return element("div", table, element("p", f"and {more} more models in run.models")) if more else table


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
