"""The report: a pure function from a finished run to one page that opens from a file, with no network.

It formats and never computes: every number is in the run's tables already, but for what follows from answers to single
trials, which come in after the survey (`agreement`). The page holds its charts as data (`charts`,
`figures`), the library that draws them once, its tables as text (`listings`) and its stimuli as pictures (`pictures`).
What a user named is text everywhere and never markup. The same run makes the same bytes, so the page says nothing of
time or machines.
"""

import functools
import hashlib
import json
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import altair as alt
import jinja2
import polars as pl
import vl_convert
from altair.utils.schemapi import debug_mode

from thalweg.compute import engines as engine
from thalweg.errors import ThalwegError, readable, reason, unknown
from thalweg.files.whole import AGAIN, replacing
from thalweg.pipeline.settings import usual_cache
from thalweg.report import (
    answers,
    bases,
    capability,
    charts,
    concepts,
    conditions,
    crossing,
    factors,
    figures,
    joint,
    lead,
    listings,
    pictures,
    text,
    why,
)
from thalweg.report import ladder as report_ladder
from thalweg.report import styles as report_styles
from thalweg.report.charts import Figure
from thalweg.report.ladder import Ladder
from thalweg.report.styles import config, ladder_styles
from thalweg.runs.directory import RunDirectory
from thalweg.runs.run import Run

HERE = Path(__file__).parent
VEGA_LITE = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
FEW_FIGURES = 11  # at 1.4 s each, while a worker process takes 6 s to start: so many are drawn as soon without
PICTURE_SCALE = 2  # pixels of a PNG file for each pixel of the chart


@dataclass(frozen=True)
class Drawn:
    """All figures of a run: those of each ladder, and those of all together where there are several."""

    ladders: dict[Ladder, list[Figure]]
    joint: list[Figure]

    def files(self) -> dict[str, Figure]:
        """The figures by the names of their files."""
        by_ladder = {_file_name(ladder, figure): figure for ladder, made in self.ladders.items() for figure in made}
        return {**{f"0-{figure.name}": figure for figure in self.joint}, **by_ladder}


def render(run: Run) -> str:
    """The whole report of a run as one HTML page."""
    return _page(run, _drawn(run))


def write_report(run: Run, path: str | Path | None = None, *, workers: int | None = None) -> Path:
    """Write the report of a finished run: one HTML page that needs no network, and its charts as SVG and PNG files.

    Where a figure cannot be drawn, the page says which and why, and all else is there.

    Args:
        run: The run.
        path: The file; by default `report.html` in the run directory. The charts go into `figures/` beside it.
        workers: Processes that draw the charts; by default 1 for few charts, else as many as cores.

    Returns:
        The path of the page.

    Raises:
        ThalwegError: A file of the run is missing or damaged, or the place cannot be written.

    Example:
        >>> import thalweg
        >>> thalweg.write_report(thalweg.open_run("runs/mnist"), workers=1).name
        'report.html'
    """
    if path is None:
        RunDirectory(run.path).check_own()
    path = Path(path) if path else run.path / "report.html"
    if path.is_dir():
        raise ThalwegError(
            f"{readable(path)}: this is a folder; name a file with --out, as {readable(path)}/report.html"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):  # a place that cannot be written shows before all is drawn
            pass
        drawn = _drawn(run)
        files = [(path.parent / "figures" / name, figure) for name, figure in drawn.files().items() if figure.panels]
        lost = {}
        for index, failure in engine.run(_export, files, engine.EngineConfig(workers=_workers_for(files, workers))):
            if failure:
                lost[files[index][0].name] = failure
        with replacing(path) as beside:
            beside.write_text(_page(run, drawn, lost), encoding="utf-8", errors="backslashreplace")
    except OSError as refused:
        raise ThalwegError(
            f"{readable(path)}: cannot be written ({refused.strerror or refused}); name a file elsewhere with --out"
        ) from refused
    except DISAGREE as wrong:
        raise ThalwegError(
            f"{readable(run.path)}: the run's files do not fit together ({reason(wrong)}); {AGAIN}"
        ) from wrong
    return path


class RunChart(alt.ConcatChart):
    """An Altair chart that a notebook shows without a network, as an SVG picture, unless another renderer is chosen.

    Altair's usual one has the notebook fetch the library that draws.
    """

    def _repr_mimebundle_(self, *args: Any, **options: Any) -> Any:
        if alt.renderers.active != "default":
            return super()._repr_mimebundle_(*args, **options)
        return {"image/svg+xml": vl_convert.vegalite_to_svg(self.to_json(), vl_version=VEGA_LITE)}


def chart(run: Run, name: str = "curve", ladder: str = "") -> RunChart:
    """One figure of a run's report as an Altair chart, to be shown in a notebook or changed.

    A notebook shows it as a picture; after `altair.renderers.enable("html")` it can be zoomed and pointed at, and needs
    a network.

    Args:
        run: The run.
        name: The figure: its name in the files of `figures/`, as `curve`, `twins`, `spread`, `observers`.
        ladder: The ladder; by default the run's first one.

    Returns:
        The chart. `chart.save("curve.svg")` writes it.

    Raises:
        ThalwegError: the run has no such ladder or figure, or the figure cannot be drawn.

    Example:
        >>> import thalweg
        >>> type(thalweg.chart(thalweg.open_run("runs/small-digits"))).__name__
        'RunChart'
    """
    ladders = {each.name: each for each in report_ladder.ladders(_main(run))}
    if ladder and ladder not in ladders:
        raise unknown("ladder of this run", ladder, ladders)
    with debug_mode(False):
        made = {figure.name: figure for figure in _ladder_figures(ladders[ladder or next(iter(ladders))])}
        if name not in made:
            raise unknown("figure of the report", name, made)
        if made[name].failed:
            raise ThalwegError(f"the figure {name!r} cannot be drawn: {made[name].failed}")
        return RunChart.from_dict(charts.printed(made[name]), validate=False)


# What reading tables leads to whose columns are there, but hold something else
DISAGREE = (
    pl.exceptions.PolarsError,
    KeyError,
    IndexError,
    TypeError,
    ValueError,
    AttributeError,
    jinja2.UndefinedError,
)


def _workers_for(files: Sequence[object], workers: int | None) -> int | None:
    """As many workers as the user wants; by default this process alone where there are few figures to draw."""
    return 1 if workers is None and len(files) <= FEW_FIGURES else workers


def _export(file: tuple[Path, Figure]) -> str:
    """Write one figure as SVG and as PNG; returns why it could not be drawn, or nothing."""
    stem, figure = file
    try:
        svg = vl_convert.vegalite_to_svg(json.dumps(charts.printed(figure)), vl_version=VEGA_LITE)
        png = vl_convert.svg_to_png(svg, scale=PICTURE_SCALE)
    except Exception as wrong:  # whatever a name or a number does to the library
        return reason(wrong)
    for ending, content in ((".svg", svg.encode()), (".png", png)):
        with replacing(stem.with_name(stem.name + ending)) as beside:
            beside.write_bytes(content)
    return ""


def _drawn(run: Run) -> Drawn:
    with debug_mode(
        False
    ):  # Altair checks each part of a chart against its schema: half of the time, and Vega checks too
        return _figures(list(report_ladder.ladders(_main(run))))


def _main(run: Run) -> Run:
    """The run in its main basis, of which all of the page is but what says something of the others."""
    return run.in_basis(run.bases[0])


def _figures(ladders: list[Ladder]) -> Drawn:
    makers = {"joint": joint.together, "each": joint.each} if len(ladders) > 1 else {}
    every = [figures.made_or_failed(name, functools.partial(make, ladders)) for name, make in makers.items()]
    return Drawn({ladder: _ladder_figures(ladder) for ladder in ladders}, every)


def _ladder_figures(ladder: Ladder) -> list[Figure]:
    """All figures of one ladder."""
    makers = (figures, bases, conditions, factors, capability, concepts, crossing, answers)
    return [figure for maker in makers for figure in maker.figures(ladder)]


def _page(run: Run, drawn: Drawn, lost: Mapping[str, str] = MappingProxyType({})) -> str:
    """The page around the figures. `lost` are those that could not be written as files, with the reason."""
    run = _main(run)
    sections = [
        _section(ladder, made, f"ladder-{index}") for index, (ladder, made) in enumerate(drawn.ladders.items(), 1)
    ]
    together = [shown_figure(figure, figure.name) for figure in drawn.joint]
    first = _lead(drawn, sections, together)
    shown = [*first["figures"], *together, *(figure for each in sections for figure in each["figures"].values())]
    context = {
        "title": f"thalweg: {', '.join(ladder.name for ladder in drawn.ladders)}",
        **frame(shown),
        "axis": run.record["axes"][run.record["settings"]["strength"]],
        "joint": together,
        "lead": first,
        "lines": lead.LINES,
        "lost": lost,
        "compared": run.comparison,
        "why": why.between(run),
        "answering": text.listing(sorted({ladder.observer for ladder in drawn.ladders})),
        "only": next((ladder.order[0] for ladder in drawn.ladders), "") if _alone(drawn) else "",
        "scores": [score for ladder in drawn.ladders for score in listings.scores(ladder)],
        "sentences": [
            {
                **each,
                "first": lead.first_sentence(each["sentence"]),
                "evidence": lead.evidence(ladder, each["headline"]),
            }
            for each in listings.sentences(run)
            for ladder in drawn.ladders
            if ladder.name == each["ladder"]
        ],
        "headline_verdicts": listings.headline_verdicts(run),
        "other_verdicts": listings.other_verdicts(run),
        "false_turns": figures.FALSE_TURNS,
        "sections": sections,
        "command": run.record["command"],
        "about": listings.about(run),
        "observers": listings.observers(run),
        "measures": listings.measures(run),
        "factors": factors.meanings(run),
        "glossary": text.GLOSSARY | {name: f"a twin: {what}" for name, what in run.record["twins"].items()},
    }
    return environment().get_template("page.html.j2").render(context)


def _lead(drawn: Drawn, sections: Sequence[dict[str, Any]], together: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The first screen: its picture, the axes that it can be drawn on, and a unit. `figures` are those that are its
    own.
    """
    ladders = list(drawn.ladders)
    example = lead.example(ladders[0]) if ladders else None
    nothing: dict[str, Any] = {"figure": None, "figures": [], "choices": {}, "chosen": "", "example": example}
    if together:
        return nothing | {"figure": together[0]}
    if _alone(drawn) or "curve" not in sections[0]["figures"]:
        return nothing
    by_axis, chosen = lead.figure(ladders[0])
    figures = {name: shown_figure(figure, "lead") for name, figure in by_axis.items()}
    variants = [_renamed(figure, name) for name, figure in figures.items()]
    choices = {name: lead.CHOICES[name] for name in by_axis}
    return nothing | {
        "figure": figures[chosen],
        "figures": [figures[chosen], *variants],
        "choices": choices,
        "chosen": chosen,
    }


def _renamed(figure: dict[str, Any], axis: str) -> dict[str, Any]:
    """A figure on another axis, whose charts take the place of those that are shown."""
    return {**figure, "panels": [{**panel, "id": f"{panel['id']}@{axis}"} for panel in figure["panels"]]}


def frame(figures: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What every page with these figures needs: its style, its script, and the library that draws the charts."""
    return {
        "style": "".join((HERE / name).read_text(encoding="utf-8") for name in ("palette.css", "style.css")),
        "script": (HERE / "page.js").read_text(encoding="utf-8"),
        "library": _library(),
        "chart_config": config(legend=False),
        "specifications": {panel["id"]: panel["specification"] for figure in figures for panel in figure["panels"]},
    }


def _alone(drawn: Drawn) -> bool:
    """Whether the run is of one model: there is no curve, and no verdict."""
    return [len(ladder.order) for ladder in drawn.ladders] == [1]


def _file_name(ladder: Ladder, figure: Figure) -> str:
    """A name for a figure's files, whatever the ladder is called."""
    position = list(ladder.run.record["ladders"]).index(ladder.name) + 1
    return f"{position}-{re.sub('[^A-Za-z0-9_-]+', '-', ladder.name).strip('-')[:40] or 'ladder'}-{figure.name}"


@functools.cache
def _library() -> str:
    """The JavaScript of Vega, Vega-Lite and their embedding, with nothing in it that could end a script element.

    It takes seconds to make, so it is kept in the user's cache, after its digest: a damaged file is made again.
    """
    kept = usual_cache() / f"charts-{version('vl-convert-python')}-{VEGA_LITE}.js"
    with suppress(OSError, UnicodeDecodeError):
        stated, _, library = kept.read_bytes().decode().partition("\n")
        if stated == _stated(library):
            return library
    library = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE)
    library = library.replace("</script", r"<\/script").replace("<!--", r"\x3c!--")
    with suppress(OSError, ThalwegError), replacing(kept) as beside:
        beside.write_bytes(f"{_stated(library)}\n{library}".encode())
    return library


def _stated(library: str) -> str:
    return f"// SHA-256 {hashlib.sha256(library.encode()).hexdigest()}"


def environment(*folders: Path) -> jinja2.Environment:
    """What fills the templates of the report, and those of other pages that lie in these folders."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([HERE, *folders]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "separators": (",", ":"), "allow_nan": False}
    environment.policies["json.dumps_function"] = json.dumps
    return environment


def _section(ladder: Ladder, made: list[Figure], anchor: str) -> dict[str, Any]:
    """All that the page shows of one ladder."""
    about = ladder.run.record["ladders"][ladder.name]
    return {
        "id": anchor,
        "name": ladder.name,
        "description": about["description"],
        "rungs": len(ladder.order),
        "kinds": list(ladder.shapes),
        "figures": {figure.name: shown_figure(figure, f"{anchor}-{figure.name}") for figure in made},
        "basis": [listings.basis_sentence(ladder, word) for word in ladder.headlines],
        "twins": [listings.twins(ladder, word) for word in ladder.headlines],
        "gallery": pictures.gallery(ladder),
        "models": listings.models(ladder, ["trained"]),
        "twin_models": listings.models(ladder, _twins(ladder)),
        "why": why.section(ladder),
        "relations": factors.relations(ladder),
        "factors": factors.values(ladder),
        "capability": capability.values(ladder),
        "capability_says": capability.sentences(ladder),
        "edits": crossing.values(ladder),
        "goals": crossing.goal_values(ladder),
        "edit_verdicts": crossing.verdicts(ladder),
        "edit_relations": crossing.relations(ladder),
        "concepts": concepts.values(ladder),
        "concept_relations": concepts.relations(ladder),
        "answers": answers.section(ladder),
        "endings": listings.endings(ladder),
        "missing": listings.absent(ladder),
    }


def _twins(ladder: Ladder) -> list[str]:
    """The controls of a ladder but the trained models, as the tables call them."""
    return [
        control for control in ladder.run.models.filter(ladder=ladder.name)["control"].unique() if control != "trained"
    ]


def shown_figure(figure: Figure, anchor: str) -> dict[str, Any]:
    """A figure as the page needs it."""
    controls = report_styles.styles(figure.controls)
    styles = ladder_styles(figure.ladders)
    return {
        "id": anchor,
        "title": figure.title,
        "caption": figure.caption,
        "small": figure.small,
        "failed": figure.failed,
        "columns": figure.columns,
        "controls": [
            {
                "name": control,
                "style": re.sub("^var\\(--|\\)$", "", controls[control][0]),
                "shape": controls[control][1] if figure.control_shapes else "circle",
            }
            for control in figure.controls
        ]
        + [
            {"name": name, "style": re.sub("^var\\(--|\\)$", "", colour), "shape": shape}
            for name, (colour, shape) in styles.items()
        ],
        "kinds": [{"name": kind, "shape": shape} for kind, shape in (figure.kinds or {}).items()],
        "panels": [
            {
                "id": f"{anchor}-{index}",
                "title": panel.title,
                "note": panel.note,
                "summary": panel.summary,
                "specification": charts.specification(panel, figure.controls),
            }
            for index, panel in enumerate(figure.panels, 1)
        ],
    }
