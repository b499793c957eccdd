"""Explanations of units, kept in a run and exchanged with Neuronpedia."""

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from thalweg import ThalwegError
from thalweg.runs.directory import RunDirectory
from thalweg.runs.explanations import (
    EXPLANATIONS,
    add_explanations,
    read_explanations,
    read_neuronpedia,
    write_neuronpedia,
)

MODELS = [
    {"ladder": "words", "rung": rung, "seed": 0, "control": control}
    for rung in ("small", "large")
    for control in ("trained", "untrained")
]


def explained(**changes: object) -> pl.DataFrame:
    row = {"ladder": "words", "rung": "small", "seed": 0, "control": "trained", "layer": "blocks.0", "unit": 7}
    row |= {"explanation": "names of towns – «Köln»", "explainer": "tiny", "version": 1, "method": "thalweg_exemplars"}
    return pl.DataFrame([row | changes], schema=EXPLANATIONS)


@pytest.mark.parametrize("name", ["all.json", "all.jsonl", "batch-0.jsonl.gz"])
def test_what_is_exported_is_read_again(name: str, tmp_path: Path):
    frame = pl.concat([explained(), explained(control="untrained", unit=3, explanation='a\nb "c"')])
    write_neuronpedia(frame, tmp_path / name)
    again = read_neuronpedia(tmp_path / name, MODELS, ["blocks.0"], {})
    assert again.equals(frame.with_columns(pl.lit(0, pl.Int32).alias("version")))


def test_the_fields_are_those_of_neuronpedia(tmp_path: Path):
    write_neuronpedia(explained(), tmp_path / "batch-0.jsonl.gz")
    (line,) = gzip.decompress((tmp_path / "batch-0.jsonl.gz").read_bytes()).decode().splitlines()
    assert json.loads(line) == {
        "modelId": "words-small-0",
        "layer": "blocks.0",
        "index": "7",
        "description": "names of towns – «Köln»",
        "explanationModelName": "tiny",
        "typeName": "thalweg_exemplars",
    }


def test_a_published_file_is_read_for_the_only_model_of_a_run(tmp_path: Path):
    published = {"modelId": "gpt2-small", "layer": "6-res-jb", "index": 12, "description": "dates", "embedding": [1]}
    (tmp_path / "e.json").write_text(json.dumps([published]))
    read = read_neuronpedia(tmp_path / "e.json", MODELS[:2], ["h.6"], {"6-res-jb": "h.6"})
    assert read.select("rung", "control", "layer", "unit", "explanation", "explainer").row(0) == (
        *("small", "trained", "h.6", 12),
        *("dates", ""),
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "cannot be read as Neuronpedia's"),
        ('[{"modelId": "words-small-0", "layer": "blocks.0", "index": "1"}]', "explanation 1 has no 'description'"),
        ("[3]", "has no 'modelId'"),
        ('{"modelId": "gpt2", "layer": "blocks.0", "index": "1", "description": "x"}', "no model of this run"),
        ('{"modelId": "words-small-0", "layer": "6-res", "index": "1", "description": "x"}', "--layer-name"),
        ('{"modelId": "words-small-0", "layer": "blocks.0", "index": "-1", "description": "x"}', "number of a unit"),
    ],
)
def test_a_file_that_is_none_is_refused_in_a_sentence(content: str, said: str, tmp_path: Path):
    (tmp_path / "e.json").write_text(content)
    with pytest.raises(ThalwegError, match=said):
        read_neuronpedia(tmp_path / "e.json", MODELS, ["blocks.0"], {})
    with pytest.raises(ThalwegError, match="cannot be read"):
        read_neuronpedia(tmp_path / "nothing.json", MODELS, ["blocks.0"], {})


def test_of_one_unit_and_explainer_the_last_is_kept(tmp_path: Path):
    run = RunDirectory(tmp_path)
    assert read_explanations(tmp_path).is_empty()
    add_explanations(run, explained())
    add_explanations(run, explained(explainer="other"))
    add_explanations(run, explained(explanation="rivers"))
    assert read_explanations(tmp_path)["explanation"].to_list() == ["names of towns – «Köln»", "rivers"]
    (tmp_path / "explanations.parquet").write_bytes(b"PAR1")
    with pytest.raises(ThalwegError, match="put the file back"):
        read_explanations(tmp_path)
