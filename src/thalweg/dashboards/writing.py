"""All units of a run as dashboards: a folder for each layer of each network, units in batches."""

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from thalweg.dashboards.features import features, has_places
from thalweg.dashboards.neuronpedia import CREATOR, activation_rows, explanation_rows, feature_rows, source_rows
from thalweg.errors import ThalwegError, readable, unknown
from thalweg.explore.catalogue import TRAINED, LayerUnits, Network, catalogue
from thalweg.explore.showing import StimulusFiles
from thalweg.explore.values import unit_values
from thalweg.explore.weights import Loaded, Networks
from thalweg.files import whole
from thalweg.files.names import file_name
from thalweg.progress import Progress, Silent, Stages
from thalweg.runs.directory import RunDirectory
from thalweg.runs.explanations import model_id
from thalweg.runs.recordings import read_some, recordings_file
from thalweg.runs.run import Run
from thalweg.stimuli.base import Splits, Stimuli
from thalweg.stimuli.windows import Windows

FORMATS = ("neuronpedia", "saedashboard")
BATCH = 64  # units of a file
Data = Mapping[str, str | Path | Splits | Stimuli]
Wanted = tuple[Network, int, LayerUnits]


@dataclass(frozen=True, eq=False)
class Source:
    """One layer of one network: what both formats call a source."""

    network: Network
    layer: str
    number: int  # of the layer in its network, the first is 0
    loaded: Loaded
    files: StimulusFiles

    @property
    def units(self) -> list[int]:
        """The numbers of its units."""
        return [int(unit) for unit in self.network.layer(self.layer).numbers]

    def named(self, run: Run, creator: str) -> dict[str, Any]:
        """Its names and numbers, as the tables need them."""
        network = self.network
        written = datetime.fromtimestamp((run.path / "run.json").stat().st_mtime, UTC)
        return {
            "model": model_id({name: getattr(network, name) for name in ("ladder", "rung", "seed", "control")}),
            "set": file_name(network.basis),
            "id": f"{self.number}-{file_name(network.basis)}",
            "layer": self.layer,
            "layers": len(network.layers),
            "units": max(len(layer.numbers) for layer in network.layers),
            "release": file_name(f"thalweg-{run.path.name}"),
            "about": f"{network.basis} of {network.ladder}, measured by thalweg",
            "creator": creator,
            "finished": written.isoformat(timespec="seconds").replace("+00:00", "Z"),
        }


def write_dashboards(
    run: Run,
    path: str | Path | None = None,
    *,
    format: str = "neuronpedia",
    rung: Sequence[str] = (),
    layer: Sequence[str] = (),
    control: Sequence[str] = (TRAINED,),
    data: Data | None = None,
    creator: str = CREATOR,
    progress: Progress | None = None,
) -> Path:
    """Write the units of a run's language models as dashboards of other tools: features, activations, explanations.

    Args:
        run: The run.
        path: The folder, new or empty; by default one in the run directory, with the name of the format.
        format: `neuronpedia`, the folders that Neuronpedia imports; or `saedashboard`, the JSON of SAEDashboard.
        rung: Only these rungs; by default all.
        layer: Only these layers; by default all.
        control: The trained networks, or these twins.
        data: By ladder, where its stimuli lie now, if not where they did; or the stimuli themselves.
        creator: The id of the user of Neuronpedia's that the rows belong to.
        progress: Where it is said how far the work is, and what was left out.

    Returns:
        The folder.

    Raises:
        ThalwegError: A name that the run has not, stimuli that cannot be made again, nothing that the format can hold,
            or a folder that is not empty or cannot be written.

    Example:
        >>> import thalweg
        >>> callable(thalweg.write_dashboards)  # write_dashboards(thalweg.open_run("runs/words"), "for-neuronpedia")
        True
    """
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    _check_names(run, {"rung": rung, "control": control}, layer, data or {})
    folder = _folder(run, path, format)
    wanted = _wanted(run, rung, layer, control)
    with Stages(progress or Silent())("export", sum(len(units.numbers) for _, _, units in wanted)) as advance:
        for source in _sources(run, wanted, data or {}, progress or Silent()):
            names = source.named(run, creator)
            to = folder / names["model"] / names["id"]
            for number, batch in enumerate(_batches(run, source)):
                _write(format, to, number, batch, names)
                for _ in batch:
                    advance()
            if format == "neuronpedia":
                _write_explanations(run, source, to, names)
    return folder


def _check_names(
    run: Run, named: Mapping[str, Sequence[str]], layers: Sequence[str], data: Mapping[str, object]
) -> None:
    """Check that the run has what was named.

    Raises:
        ThalwegError: it has not.
    """
    there = {column: run.models[column].unique(maintain_order=True).to_list() for column in named}
    there |= {"layer": run.layers["layer"].unique(maintain_order=True).to_list(), "ladder": list(run.record["ladders"])}
    for column, names in {**named, "layer": layers, "ladder": data}.items():
        for name in names:
            if name not in there[column]:
                raise unknown(f"{column} of this run", name, there[column])


def _folder(run: Run, path: str | Path | None, format: str) -> Path:
    """The folder to write, which has nothing in it yet.

    Raises:
        ThalwegError: it has, or it cannot be written.
    """
    if path is None:
        RunDirectory(run.path).check_own()
    folder = Path(path) if path is not None else run.path / format
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ThalwegError(f"{readable(folder)}: it is there already and is no empty folder; name another with --out")
    whole.writable(folder, "--out")
    return folder


def _wanted(run: Run, rungs: Sequence[str], layers: Sequence[str], controls: Sequence[str]) -> list[Wanted]:
    """The layers that were asked for, each with its number in its network."""
    return [
        (network, number, units)
        for network in catalogue(run, rungs=rungs).networks
        for number, units in enumerate(network.layers)
        if network.control in controls and (not layers or units.name in layers)
    ]


def _sources(run: Run, wanted: Sequence[Wanted], data: Data, progress: Progress) -> Iterator[Source]:
    """Those whose units have a value at each token of a text, one after another; says of the others why not.

    Raises:
        ThalwegError: there are none.
    """
    stimuli = {name: StimulusFiles(name, run.stimuli(name, data=data.get(name))) for name in run.record["ladders"]}
    networks = Networks(run, {name: files.pool for name, files in stimuli.items()})
    left_out: list[str] = []
    for network, number, units in wanted:
        files = stimuli[network.ladder]
        loaded = networks.load(network) if isinstance(files.pool, Windows) else "its stimuli are no texts"
        if isinstance(loaded, Loaded) and has_places(loaded, units.name):
            yield Source(network, units.name, number, loaded, files)
        else:
            why = loaded if isinstance(loaded, str) else "a unit has one value for a whole text, none at each token"
            left_out.append(f"layer {units.name} of {network.name}: {why}")
    if len(left_out) == len(wanted):
        what = f"the first of {len(left_out)} layers is {left_out[0]}" if left_out else "no layer was asked for"
        raise ThalwegError(f"{readable(run.path)}: it has no units that a dashboard of texts can show; {what}")
    for line in left_out:
        progress.say(f"left out: {line}")


def _batches(run: Run, source: Source) -> Iterator[list[dict[str, Any]]]:
    """The units of a source as SAEDashboard describes them, some at a time."""
    network, units = source.network, source.units
    basis = "" if network.main else network.basis
    file = run.path / recordings_file(network.ladder, network.rung, network.seed, network.control, basis)
    place = run.record["ladders"][network.ladder].get("source", {}).get("path")
    called = Path(place).name if place else network.ladder
    for start in range(0, len(units), BATCH):
        some = units[start : start + BATCH]
        values = list(unit_values(read_some(file, source.layer, range(start, start + len(some)))))
        yield features(source.loaded, source.layer, some, values, source.files, called)


def _write(format: str, to: Path, number: int, batch: Sequence[dict[str, Any]], names: Mapping[str, Any]) -> None:
    """One batch of units; before the first one of Neuronpedia, what it needs to know of the source."""
    if format == "saedashboard":
        head = {"model_id": names["model"], "layer": int(names["id"].partition("-")[0])}
        head |= {"sae_set": names["set"], "sae_id_suffix": None}
        _write_bytes(to / f"batch-{number}.json", _json({**head, "features": batch}))
        return
    if not number:
        for name, rows in source_rows(names, batch[0]).items():
            _write_bytes(to / f"{name}.jsonl", _lines(rows))
    for name, rows in {"features": feature_rows(names, batch), "activations": activation_rows(names, batch)}.items():
        _write_bytes(to / name / f"batch-{number}.jsonl.gz", _lines(rows))


def _write_explanations(run: Run, source: Source, to: Path, names: Mapping[str, Any]) -> None:
    """The explanations of a source's units, if the run has any."""
    network = source.network
    own = run.explanations.filter(
        ladder=network.ladder, rung=network.rung, seed=network.seed, control=network.control, layer=source.layer
    )
    if len(own) and network.main:
        _write_bytes(to / "explanations" / "batch-0.jsonl.gz", _lines(explanation_rows(names, own.to_dicts())))


def _lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    return b"".join(_json(row) + b"\n" for row in rows)


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")


def _write_bytes(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole.replacing(path) as beside:
        beside.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
