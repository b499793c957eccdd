"""All files of a site: an index, the scores that it lists in pieces, stimuli, and a page for every unit.

What an address holds is made when it is asked for. `write_unit_pages` asks for all of them and writes them to a folder,
which opens from disk without a network; `serving` makes each as a browser asks for it.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from thalweg.errors import ThalwegError, readable, unknown
from thalweg.explore.catalogue import Catalogue, Network, catalogue
from thalweg.explore.columns import PIECE, Column, columns, note_codes, numbers, pieces, script
from thalweg.explore.observing import watchers
from thalweg.explore.page import HERE, Pages
from thalweg.explore.showing import TEXTS, StimulusFiles, script_json
from thalweg.files.names import file_name
from thalweg.files.whole import Damaged, writable
from thalweg.pipeline.settings import usual_cache
from thalweg.progress import Progress, Silent, Stages
from thalweg.report.page import HERE as REPORT
from thalweg.report.page import environment
from thalweg.report.text import missing
from thalweg.runs.directory import RunDirectory
from thalweg.runs.run import Run
from thalweg.stimuli.base import Splits, Stimuli

TOGETHER = 512  # pages of a network that are made together: their texts are read once
FIRST = "index.html"  # what is written before all else
MANY = 20_000  # pages: what a folder of them takes is said before
SCRIPTS = {"index.js": "index.js", "unit.js": "unit.js", "table.js": "library/regular-table.js"}


@dataclass(frozen=True, eq=False)
class Site:
    """The files of a site, by address."""

    pages: Pages
    reasons: tuple[str, ...]
    codes: np.ndarray[Any, np.dtype[np.uint16]]  # why units have no headline score
    _units: dict[str, str] = field(default_factory=dict)

    @property
    def catalogue(self) -> Catalogue:
        """The units that have pages."""
        return self.pages.catalogue

    @cached_property
    def _columns(self) -> dict[str, Column]:
        return {column.name: column for column in self.pages.columns}

    def content(self, address: str) -> bytes | None:
        """What an address holds, or None where there is nothing."""
        if (found := self.catalogue.find(address)) is not None:
            network, layer, unit = found
            return next(html.encode() for _, html in self.pages.render(network, {layer: [unit]}))
        top = address.partition("/")[0]
        makers = {"data": self._data, "stimuli": self._stimulus, "texts": self._texts}
        return makers[top](address) if top in makers else self._fixed(address)

    def _fixed(self, address: str) -> bytes | None:
        if address == "index.html":
            title = self.pages.run.path.name
            template = environment(HERE).get_template("index.html.j2")
            return template.render(title=title, count=self.catalogue.count).encode()
        if address == "explore.css":
            parts = (REPORT / "palette.css", HERE / "library" / "regular-table.css", HERE / "explore.css")
            return b"\n".join(part.read_bytes() for part in parts)
        return (HERE / SCRIPTS[address]).read_bytes() if address in SCRIPTS else None

    def _data(self, address: str) -> bytes | None:
        if address == "data/manifest.js":
            return f"window.thalwegSite={script_json(self._manifest())};\n".encode()
        _, name, file = address.split("/") if address.count("/") == 2 else ("", "", "")
        number = file.removesuffix(".js")
        if not number.isdecimal() or len(number) > 9 or int(number) >= pieces(self.catalogue.count):
            return None
        if name in self._columns:
            return self._columns[name].piece(int(number)).encode()
        others: dict[str, np.ndarray[Any, Any]] = {"unit": numbers(self.catalogue), "note": self.codes}
        part = slice(int(number) * PIECE, (int(number) + 1) * PIECE)
        return script(name, int(number), others[name][part]).encode() if name in others else None

    def _stimulus(self, address: str) -> bytes | None:
        for files in self.pages.stimuli.values():
            if (which := files.find(address)) is not None:
                return files.content(which)
        return None

    def _texts(self, address: str) -> bytes | None:
        for ladder, files in self.pages.stimuli.items():
            if address in _text_scripts(ladder, files):
                return files.texts(int(address.rpartition("/")[2].removesuffix(".js"))).encode()
        return None

    def _manifest(self) -> dict[str, Any]:
        """What the index needs to know before any scores."""
        run = self.pages.run
        factors = _factors(run)
        return {
            "count": self.catalogue.count,
            "piece": PIECE,
            "notes": list(self.reasons),
            "factors": factors,
            "columns": [
                {name: getattr(column, name) for name in ("name", "label", "title", "low", "high", "shown")}
                for column in self.pages.columns
            ],
            "networks": [
                {name: getattr(network, name) for name in ("ladder", "rung", "kind", "control", "basis", "name")}
                | {"model": f"{network.rung}, seed {network.seed}", "numbers": _numbers(run, network, factors)}
                | {
                    "layers": [
                        {"name": layer.name, "first": layer.first, "count": len(layer.numbers)}
                        | {"folder": f"{network.folder}/{file_name(layer.name)}"}
                        for layer in network.layers
                    ]
                }
                for network in self.catalogue.networks
            ],
        }

    def addresses(self) -> Iterator[str]:
        """All addresses but those of units and of stimuli."""
        yield from ("index.html", "explore.css", *SCRIPTS, "data/manifest.js")
        for name in ("unit", "note", *self._columns):
            yield from (f"data/{name}/{number}.js" for number in range(pieces(self.catalogue.count)))
        for ladder, files in self.pages.stimuli.items():
            yield from _text_scripts(ladder, files)


def _text_scripts(ladder: str, files: StimulusFiles) -> list[str]:
    """The scripts that hold whole windows of text, where there are any that pages cut."""
    if files.kind != "text" or getattr(files.pool, "length", 0) <= 32:
        return []
    return [f"texts/{file_name(ladder)}/{number}.js" for number in range(-(-len(files.pool) // TEXTS))]


def _factors(run: Run) -> list[str]:
    """The numbers of whole models that units can be filtered and sorted by: strength and factors."""
    known = [*run.record["axes"], *run.record["factors"]]
    return [name for name in known if name in run.models.columns and run.models[name].dtype.is_numeric()]


def _numbers(run: Run, network: Network, factors: Sequence[str]) -> dict[str, float | None]:
    """These numbers of a network; a twin's own, where the table has them."""
    rows = run.models.filter(
        ladder=network.ladder, rung=network.rung, seed=network.seed, control=network.control, basis=network.basis
    )
    values = rows.row(0, named=True) if len(rows) else {}
    known = {name: value for name, value in values.items() if not missing(value)}
    return {name: float(known[name]) if name in known else None for name in factors}


def site_of(
    run: Run,
    *,
    rung: Sequence[str] = (),
    data: Mapping[str, str | Path | Splits | Stimuli] | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Site:
    """A site of a run's units.

    Args:
        run: The run.
        rung: Only the units of these rungs; by default of all.
        data: By ladder, where its stimuli lie now, if not where they did; or the stimuli themselves.
        cache: The folder that keeps what observers see of the stimuli.
        progress: Where it is said how far the work is.

    Raises:
        ThalwegError: a rung that the run has not, stimuli that cannot be made again, or a run without units.
    """
    stages = Stages(progress or Silent())
    _check_names(run, rung, data or {})
    stimuli = {
        ladder: StimulusFiles(ladder, run.stimuli(ladder, data=(data or {}).get(ladder)))
        for ladder in run.record["ladders"]
    }
    units = catalogue(run, rungs=rung)
    if not units.count:
        raise Damaged(run.path / "units", "there are no units in it")
    watching = {
        ladder: watchers(run, ladder, files.pool, cache or usual_cache(), stages) for ladder, files in stimuli.items()
    }
    pages = Pages(run, units, columns(run, units), stimuli, watching, (progress or Silent()).say)
    reasons, codes = note_codes(run, units)
    return Site(pages, tuple(reasons), codes)


def where_stimuli_lie(run: Run, named: Sequence[str]) -> dict[str, str | Path | Splits | Stimuli]:
    """What a user named of where stimuli lie, by ladder: paths, or LADDER=PATH.

    Raises:
        ThalwegError: a path without a ladder, where the run has several.
    """
    ladders = list(run.record["ladders"])
    found: dict[str, str] = {}
    for text in named:
        ladder, equals, path = text.partition("=")
        if not equals or ladder not in ladders:
            if len(ladders) > 1:
                raise ThalwegError(
                    f"--data is {text!r}, and the run has the ladders {', '.join(ladders)}; say which, as "
                    f"{ladders[0]}=PATH"
                )
            ladder, path = ladders[0], text
        found[ladder] = path
    return dict(found)


def _check_names(run: Run, rungs: Sequence[str], data: Mapping[str, Any]) -> None:
    """Check that the run has what was named.

    Raises:
        ThalwegError: it has not.
    """
    for name in rungs:
        if name not in run.models["rung"]:
            raise unknown("rung of this run", name, run.models["rung"].unique())
    for name in data:
        if name not in run.record["ladders"]:
            raise unknown("ladder of this run", name, run.record["ladders"])


def write_unit_pages(
    run: Run,
    path: str | Path | None = None,
    *,
    progress: Progress | None = None,
    **options: Any,
) -> Path:
    """Write a page for every unit of a run, and an index to find them by: a folder that opens from disk.

    Args:
        run: The run.
        path: The folder; by default `explore` in the run directory.
        progress: Where it is said how far the work is.
        **options: `rung`, `data` and `cache`, as of `site_of`.

    Returns:
        The path of the index.

    Raises:
        ThalwegError: As `site_of` does, or the folder cannot be written.

    Example:
        >>> import thalweg
        >>> thalweg.write_unit_pages(thalweg.open_run("runs/mnist")).name
        'index.html'
    """
    if path is None:
        RunDirectory(run.path).check_own()
    folder = Path(path) if path else run.path / "explore"
    _check_folder(folder)
    site = site_of(run, progress=progress, **options)
    if progress and site.catalogue.count > MANY:
        progress.say(_size_of(site))
    with Stages(progress or Silent())("explore", site.catalogue.count) as advance:
        for address in site.addresses():
            _write(folder / address, site.content(address))
        for network in site.catalogue.networks:
            for units in _parts(network):
                for address, html in site.pages.render(network, units):
                    _write(folder / address, html.encode())
                    advance()
        for address in site.pages.used():
            _write(folder / address, site.content(address))
    return folder / "index.html"


def _check_folder(folder: Path) -> None:
    """Check that pages can be written to a folder, which is new, empty, or holds pages.

    Raises:
        ThalwegError: it is a file, holds other things, or cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise ThalwegError(f"{readable(folder)}: this is a file; name a folder with --out")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / FIRST).exists():
        raise ThalwegError(f"{readable(folder)}: this folder holds other things than pages; choose another --out")
    writable(folder, "--out")


def _size_of(site: Site) -> str:
    """What so many pages take, judged by the first one."""
    network = site.catalogue.networks[0]
    start = time.perf_counter()
    layer = network.layers[0]
    content = site.content(network.address(layer.name, int(layer.numbers[0]))) or b""
    hours = site.catalogue.count * (time.perf_counter() - start) / 3600
    return (
        f"{site.catalogue.count:,} pages take about {site.catalogue.count * len(content) / 1e9:.1f} GB and {hours:.1f} "
        "hours; --serve makes each as it is asked for, and --rung makes those of one rung"
    )


def _parts(network: Network) -> Iterator[Mapping[str, Sequence[int]]]:
    """The units of a network by layer, so many at once."""
    every = [(layer.name, unit) for layer in network.layers for unit in layer.numbers.tolist()]
    for start in range(0, len(every), TOGETHER):
        part: dict[str, list[int]] = {}
        for name, unit in every[start : start + TOGETHER]:
            part.setdefault(name, []).append(unit)
        yield part


def _write(path: Path, content: bytes | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content or b"")
