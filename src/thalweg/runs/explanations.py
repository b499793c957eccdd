"""Explanations of units in words: kept in the run, and exchanged in the JSON that Neuronpedia imports and exports.

`explanations.parquet` is an input like the answers: a language model was asked for it, or a file brought it. In
Neuronpedia's JSON an explanation is an object with `modelId`, `layer`, `index` (the unit, as text), `description`,
`explanationModelName` and `typeName`. Its exports and imports are files of one object a line, compressed (`.jsonl.gz`),
or an array (`.json`). Here `modelId` is the name of a model's files, with the twin's name where it is one of a twin.
"""

import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from thalweg.errors import ThalwegError, readable, reason, unknown
from thalweg.files import whole
from thalweg.files.damage import content_of
from thalweg.files.names import file_name
from thalweg.runs.directory import RunDirectory
from thalweg.runs.recordings import model_file

TABLE = "explanations.parquet"
EXPLANATIONS: dict[str, Any] = {
    "ladder": pl.String,
    "rung": pl.String,
    "seed": pl.Int32,
    "control": pl.String,
    "layer": pl.String,
    "unit": pl.Int32,
    "explanation": pl.String,
    "explainer": pl.String,  # the model that wrote it
    "version": pl.Int32,  # of the prompts; 0 where a file brought it
    "method": pl.String,  # how it came about, Neuronpedia's `typeName`
}
UNIT = ["ladder", "rung", "seed", "control", "layer", "unit"]
KEY = [*UNIT, "explainer", "version", "method"]
METHOD = "thalweg_exemplars"  # of those that are asked for here
FIELDS = ("modelId", "layer", "index", "description")  # without which an object is no explanation
KEPT = "explanations can't be derived again: put the file back from a copy, or remove it to ask again"


def read_explanations(path: Path) -> pl.DataFrame:
    """The explanations of units in a run directory; no rows where there are none.

    Raises:
        ThalwegError: the file is damaged.
    """
    if not (path / TABLE).is_file():
        return pl.DataFrame(schema=EXPLANATIONS)
    frame = whole.read_frame(path / TABLE, EXPLANATIONS, mend=KEPT)
    return frame.select(*EXPLANATIONS).cast(pl.Schema(EXPLANATIONS))


def add_explanations(run: RunDirectory, added: pl.DataFrame) -> pl.DataFrame:
    """Add explanations to those of a run, and return all; of one unit by one explainer the last is kept."""
    if added.is_empty():
        return read_explanations(run.path)
    before = read_explanations(run.path)
    together = pl.concat([before, added.select(*EXPLANATIONS).cast(pl.Schema(EXPLANATIONS))])
    together = together.unique(KEY, keep="last", maintain_order=True).sort(KEY)
    if not together.equals(before):
        whole.write_frame(run / TABLE, together)
    return together


def write_neuronpedia(explanations: pl.DataFrame, path: Path) -> None:
    """Write explanations as Neuronpedia reads them: an array for `.json`, else an object a line, compressed if the name
    ends in `.gz`.

    Raises:
        ThalwegError: the file cannot be written.
    """
    objects = [
        {
            "modelId": model_id(row),
            "layer": row["layer"],
            "index": str(row["unit"]),
            "description": row["explanation"],
            "explanationModelName": row["explainer"],
            "typeName": row["method"],
        }
        for row in explanations.to_dicts()
    ]
    text = json.dumps(objects, indent=1, ensure_ascii=False) + "\n"
    if path.suffix != ".json":
        text = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in objects)
    content = text.encode("utf-8", "backslashreplace")
    try:
        with whole.replacing(path) as beside:
            beside.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    except OSError as refused:
        raise ThalwegError(f"{readable(path)}: cannot be written ({refused.strerror or refused})") from refused


def read_neuronpedia(
    path: Path, models: Iterable[Mapping[str, Any]], layers: Iterable[str], renamed: Mapping[str, str]
) -> pl.DataFrame:
    """The explanations in a file of Neuronpedia's, of the units of some models.

    Args:
        path: A file that is an array, or an object a line; compressed if its name ends in `.gz`.
        models: The models of a run: ladder, rung, seed and control. Where only one is trained, every `modelId` is taken
            for it.
        layers: The layers that there are.
        renamed: The layers of the run by the names that the file gives them.

    Raises:
        ThalwegError: the file is not there or damaged, or an object is no explanation of a unit of these models.
    """
    known = {model_id(model): dict(model) for model in models}
    trained = [model for model in known.values() if model["control"] == "trained"]
    alone = trained[0] if len(trained) == 1 else None
    names = set(layers)
    rows: list[dict[str, Any]] = []
    for number, each in enumerate(_objects(path), 1):
        where = f"{readable(path)}: explanation {number}"
        lacking = [field for field in FIELDS if not isinstance(each, dict) or each.get(field) in (None, "")]
        if lacking:
            raise ThalwegError(f"{where} has no {lacking[0]!r}; Neuronpedia's fields {', '.join(FIELDS)} were expected")
        model = known.get(str(each["modelId"]), alone)
        if model is None:
            raise unknown(f"model of this run, as {where} names one,", str(each["modelId"]), known)
        layer = renamed.get(str(each["layer"]), str(each["layer"]))
        if layer not in names:
            raise unknown(f"layer of this run, as {where} names one (--layer-name THEIRS=OURS),", layer, names)
        if not str(each["index"]).isdecimal():
            raise ThalwegError(f"{where}: its index is {each['index']!r}; the number of a unit was expected")
        rows.append(_row(each, model, layer))
    return pl.DataFrame(rows, schema=EXPLANATIONS)


def _row(each: Mapping[str, Any], model: Mapping[str, Any], layer: str) -> dict[str, Any]:
    return {
        **{name: model[name] for name in ("ladder", "rung", "seed", "control")},
        "layer": layer,
        "unit": int(each["index"]),
        "explanation": str(each["description"]),
        "explainer": str(each.get("explanationModelName") or ""),
        "version": 0,
        "method": str(each.get("typeName") or ""),
    }


def model_id(model: Mapping[str, Any]) -> str:
    """What Neuronpedia's files call a model or a twin of a run."""
    twin = "" if model["control"] == "trained" else f"-{file_name(model['control'])}"
    return f"{model_file(model['ladder'], model['rung'], model['seed'])}{twin}"


def _objects(path: Path) -> list[Any]:
    """The objects in a file of JSON: those of an array, or one a line."""
    try:
        content = content_of(path)
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
        if text.lstrip().startswith("["):
            return list(json.loads(text))
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except (OSError, EOFError, ValueError, RecursionError) as wrong:
        raise ThalwegError(
            f"{readable(path)}: cannot be read as Neuronpedia's explanations ({reason(wrong)}); an array of objects, "
            "or one a line, was expected"
        ) from wrong
