"""Units for the dashboards of other tools: the fields that these read, with values that are known."""

import gzip
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

import thalweg
from support.marked_words import LENGTH, NAMES, OBSERVER, UNITS, weights, windows, word_ladder
from thalweg.dashboards.features import HIGHEST, bins, features
from thalweg.explore.logits import direct_logits
from thalweg.explore.showing import StimulusFiles
from thalweg.explore.values import UnitValues
from thalweg.explore.weights import Loaded
from thalweg.networks.language import BagOfWords, Transformer
from thalweg.runs.directory import RunDirectory
from thalweg.runs.explanations import EXPLANATIONS, add_explanations, read_neuronpedia

NUMBER, TEXT, NUMBERS, TEXTS, WHOLE = (int, float), str, [(int, float)], [str], [int]
FEATURE = {  # sae_dashboard.neuronpedia.neuronpedia_dashboard.NeuronpediaDashboardFeature, SAEDashboard 0.8.0
    "feature_index": int,
    "neuron_alignment_indices": WHOLE,
    "neuron_alignment_values": NUMBERS,
    "neuron_alignment_l1": NUMBERS,
    "correlated_neurons_indices": WHOLE,
    "correlated_neurons_l1": NUMBERS,
    "correlated_neurons_pearson": NUMBERS,
    "correlated_features_indices": WHOLE,
    "correlated_features_l1": NUMBERS,
    "correlated_features_pearson": NUMBERS,
    "neg_str": TEXTS,
    "neg_values": NUMBERS,
    "pos_str": TEXTS,
    "pos_values": NUMBERS,
    "frac_nonzero": NUMBER,
    "freq_hist_data_bar_values": NUMBERS,
    "freq_hist_data_bar_heights": NUMBERS,
    "logits_hist_data_bar_heights": NUMBERS,
    "logits_hist_data_bar_values": NUMBERS,
    "n_prompts_total": int,
    "n_tokens_in_prompt": int,
    "dataset": TEXT,
    "activations": [dict],
    "decoder_weights_dist": NUMBERS,
    "vector": NUMBERS,
}
ACTIVATION = {  # NeuronpediaDashboardActivation
    "bin_min": NUMBER,
    "bin_max": NUMBER,
    "bin_contains": NUMBER,
    "tokens": TEXTS,
    "values": NUMBERS,
    "qualifying_token_index": int,
}
OF_A_UNIT = {"modelId": TEXT, "layer": TEXT, "index": TEXT, "createdAt": TEXT}
NEURONPEDIA = {  # the tables of Neuronpedia's schema: columns without a default, and those that a run fills
    "release": {"name": TEXT, "description": TEXT, "creatorName": TEXT, "creatorId": TEXT},
    "model": {"id": TEXT, "creatorId": TEXT, "layers": int, "neuronsPerLayer": int, "owner": TEXT, "updatedAt": TEXT},
    "sourceset": {"modelId": TEXT, "name": TEXT, "description": TEXT, "creatorName": TEXT, "releaseName": TEXT},
    "source": {"id": TEXT, "modelId": TEXT, "setName": TEXT, "creatorId": TEXT, "num_prompts": int},
    "features": {**OF_A_UNIT, "maxActApprox": NUMBER, "hookName": TEXT, "pos_str": TEXTS, "frac_nonzero": NUMBER},
    "activations": {
        **OF_A_UNIT,
        "id": TEXT,
        "tokens": TEXTS,
        "values": NUMBERS,
        "maxValue": NUMBER,
        "maxValueTokenIndex": int,
        "minValue": NUMBER,
        "creatorId": TEXT,
        "binMin": NUMBER,
        "binMax": NUMBER,
        "binContains": NUMBER,
        "qualifyingTokenIndex": int,
    },
    "explanations": {**OF_A_UNIT, "id": TEXT, "description": TEXT, "authorId": TEXT, "typeName": TEXT},
}


def check(found: dict, fields: dict, *, exactly: bool = False) -> None:
    """An object has these fields, of these types."""
    assert set(fields) <= set(found)
    assert not exactly or set(fields) == set(found)
    for name, kind in fields.items():
        if isinstance(kind, list):
            assert isinstance(found[name], list)
            assert all(isinstance(each, kind[0]) for each in found[name]), name
        else:
            assert isinstance(found[name], kind), name


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> thalweg.Run:
    folder = tmp_path_factory.mktemp("dashboards")
    given = {"seeds": 1, "workers": 1, "resamples": 100, "cache": folder / "cache", "device": "cpu", "twins": "none"}
    thalweg.survey(word_ladder(), out=folder / "run", observer=OBSERVER, **given)
    run = thalweg.open_run(folder / "run", word_ladder())
    row = {"ladder": "marked-words", "rung": "planted", "seed": 0, "control": "trained", "layer": "units", "unit": 2}
    row |= {"explanation": "words of group 2", "explainer": "reader", "version": 1, "method": "by hand"}
    add_explanations(RunDirectory(run.path), pl.DataFrame([row], schema=EXPLANATIONS))
    return run


@pytest.fixture(scope="module")
def neuronpedia(run: thalweg.Run) -> Path:
    return thalweg.write_dashboards(run, run.path.parent / "neuronpedia") / "marked-words-planted-0" / "0-neurons"


@pytest.fixture(scope="module")
def dashboard(run: thalweg.Run) -> dict:
    folder = thalweg.write_dashboards(run, format="saedashboard")
    assert folder == run.path / "saedashboard"
    (file,) = folder.rglob("*.json")
    assert file.relative_to(folder).as_posix() == "marked-words-planted-0/0-neurons/batch-0.json"
    return json.loads(file.read_text())


def lines(path: Path) -> list[dict]:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in content.decode().splitlines()]


def table_of(source: Path, name: str) -> list[dict]:
    packed = source / name / "batch-0.jsonl.gz"
    return lines(packed if packed.exists() else source / f"{name}.jsonl")


def test_saedashboards_fields_are_all_there(dashboard: dict):
    assert {name: dashboard[name] for name in ("model_id", "layer", "sae_set", "sae_id_suffix")} == {
        "model_id": "marked-words-planted-0",
        "layer": 0,
        "sae_set": "neurons",
        "sae_id_suffix": None,
    }
    assert [each["feature_index"] for each in dashboard["features"]] == list(range(UNITS))
    for each in dashboard["features"]:
        check(each, FEATURE, exactly=True)
        for shown in each["activations"]:
            check(shown, ACTIVATION, exactly=True)


def test_values_are_the_units_at_each_token(dashboard: dict):
    table = weights()
    for unit, each in enumerate(dashboard["features"]):
        tops = []
        for shown in each["activations"]:
            known = [float(table[NAMES.index(token.strip()), unit]) for token in shown["tokens"]]
            assert shown["values"] == pytest.approx(known, abs=2e-5)
            assert len(known) == LENGTH
            assert shown["qualifying_token_index"] == int(np.argmax(known))
            if shown["bin_min"] == -1:
                tops.append(max(known))
            else:
                assert shown["bin_min"] - 2e-5 <= max(known) <= shown["bin_max"] + 2e-5
        assert tops == sorted(tops, reverse=True)
        assert len(tops) == HIGHEST
        assert tops[0] == pytest.approx(float(table[:, unit].max()), abs=1e-5)
        assert sum({s["bin_min"]: s["bin_contains"] for s in each["activations"]}.values()) <= 1e-4
        assert each["pos_str"] == []  # it is no language model: what it writes to logits is not known


def test_neuronpedias_tables_have_what_it_needs(neuronpedia: Path, dashboard: dict):
    for name, fields in NEURONPEDIA.items():
        rows = table_of(neuronpedia, name)
        assert rows
        for row in rows:
            check(row, fields)
    source = table_of(neuronpedia, "source")[0]
    assert source["id"] == "0-neurons"
    assert table_of(neuronpedia, "sourceset")[0]["releaseName"] == table_of(neuronpedia, "release")[0]["name"]
    units = {(row["modelId"], row["layer"], row["index"]) for row in table_of(neuronpedia, "features")}
    assert units == {(source["modelId"], source["id"], str(unit)) for unit in range(UNITS)}
    shown = table_of(neuronpedia, "activations")
    assert {(row["modelId"], row["layer"], row["index"]) for row in shown} == units
    assert len({row["id"] for row in shown}) == len(shown) == sum(len(u["activations"]) for u in dashboard["features"])
    for row in shown:
        assert row["maxValue"] == row["values"][row["maxValueTokenIndex"]] == max(row["values"])


def test_explanations_go_along_and_are_read_again(run: thalweg.Run, neuronpedia: Path):
    models = [{"ladder": "marked-words", "rung": "planted", "seed": 0, "control": "trained"}]
    file = neuronpedia / "explanations" / "batch-0.jsonl.gz"
    (again,) = read_neuronpedia(file, models, ["units"], {"0-neurons": "units"}).to_dicts()
    assert (again["layer"], again["unit"], again["explanation"]) == ("units", 2, "words of group 2")


def test_the_same_run_gives_the_same_bytes(run: thalweg.Run, neuronpedia: Path, tmp_path: Path):
    again = thalweg.write_dashboards(run, tmp_path / "again") / "marked-words-planted-0" / "0-neurons"
    for file in (each for each in neuronpedia.rglob("*") if each.is_file()):
        assert file.read_bytes() == (again / file.relative_to(neuronpedia)).read_bytes()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"format": "pdf"}, "no format"),
        ({"layer": ["nowhere"]}, "no layer of this run"),
        ({"control": ["untrained"]}, "no control of this run"),
    ],
)
def test_what_the_run_has_not_is_said(run: thalweg.Run, tmp_path: Path, given: dict, said: str):
    with pytest.raises(thalweg.ThalwegError, match=said):
        thalweg.write_dashboards(run, tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_in_it_is_left_alone(run: thalweg.Run, tmp_path: Path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(thalweg.ThalwegError, match="no empty folder"):
        thalweg.write_dashboards(run, tmp_path)


def test_a_network_that_cannot_be_had_is_named(run: thalweg.Run, tmp_path: Path):
    (run.path / "weights").rename(run.path / "elsewhere")
    try:
        with pytest.raises(thalweg.ThalwegError, match=r"no units that a dashboard .* layer units of planted"):
            thalweg.write_dashboards(run, tmp_path / "out")
    finally:
        (run.path / "elsewhere").rename(run.path / "weights")


def unit_values(values: dict[int, float]) -> UnitValues:
    sample = np.array(list(values.values()))
    return UnitValues(np.array(list(values)), sample, (), (), values, len(values), 0, sample.mean(), sample.std())


def test_bins_share_the_range_out():
    top, *rest = bins(unit_values({which: float(which) for which in range(101)}))
    assert (top.low, top.high, top.contains, top.stimuli[:2]) == (-1, 100, -1, (100, 99))
    assert [(each.low, each.high) for each in rest] == [(80, 100), (60, 80), (40, 60), (20, 40), (0, 20)]
    assert [each.stimuli[0] for each in rest] == [100, 79, 59, 39, 19]
    assert sum(each.contains for each in rest) == pytest.approx(1, abs=1e-4)
    alike = bins(unit_values({1: 2.0, 2: 2.0}))
    assert alike[0].stimuli == (1, 2)
    assert bins(unit_values({1: float("nan")})) == []


def test_promoted_tokens_are_those_of_the_logits():
    torch.manual_seed(0)
    bag, pool = BagOfWords(len(NAMES), 4), windows(40, seed=1)
    layer = thalweg.Layer("hidden", "last", unit_axis=2)
    loaded = Loaded(bag, {"hidden": layer}, pool, {}, {})
    own = unit_values({which: float(which) for which in range(40)})
    (unit,) = features(loaded, "hidden", [3], [own], StimulusFiles("bag", pool), "texts")
    column = bag.read_out.weight[:, 3].detach()
    assert unit["pos_str"][0] == f" {NAMES[int(column.argmax())]}"
    assert unit["neg_str"][0] == f" {NAMES[int(column.argmin())]}"
    assert unit["pos_values"][0] == pytest.approx(float(column.max() - column.mean()), abs=1e-5)
    assert sum(unit["logits_hist_data_bar_heights"]) == len(NAMES)
    assert {shown["qualifying_token_index"] for shown in unit["activations"]} == {LENGTH - 1}


def test_a_transformers_logits_go_through_its_last_normalisation():
    torch.manual_seed(0)
    model, pool = Transformer(len(NAMES), LENGTH, 8, n_heads=2, neurons=4), windows(40, seed=1)
    layer = thalweg.Layer("blocks.0.neurons", "last", unit_axis=2)
    loaded = Loaded(model, {layer.name: layer}, pool, {}, {})
    own = unit_values({which: float(which) for which in range(40)})
    (unit,) = features(loaded, layer.name, [1], [own], StimulusFiles("text", pool), "texts")
    logits = direct_logits(loaded, layer.name, [1])[0]
    assert unit["pos_values"] == pytest.approx(logits.topk(10).values.tolist(), abs=1e-5)
    assert unit["neg_str"][0] == f" {NAMES[int(logits.argmin())]}"
