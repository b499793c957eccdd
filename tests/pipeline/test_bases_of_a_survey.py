"""Several bases in one survey: the neurons' rows are as they are without, and dictionaries are trained in the run.

The ladder has planted features: sparse bright pixels, in fewer neurons than features (`shared`) or one neuron for each
(`own`).
"""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import polars as pl
import pytest
import torch
from torch import nn

import thalweg
from support.surveys import contents
from thalweg import Images, Ladder, Layer, Observer, Rung, Splits, ThalwegError
from thalweg.bases import saved
from thalweg.bases.converged import Training, train
from thalweg.bases.trained import TrainedHere
from thalweg.pipeline.settings import Settings
from thalweg.report import bases
from thalweg.report.ladder import ladders

FEATURES = 25
BASES = ("neurons", "sae", "random")


def sparse(count: int, seed: int) -> Images:
    """Images of 25 pixels, each of which is bright in 8 %; the class is which half of the image is brighter."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.rand(count, FEATURES, generator=generator) * (
        torch.rand(count, FEATURES, generator=generator) < 0.08
    )
    labels = (pixels[:, :12].sum(1) > pixels[:, 12:].sum(1)).long()
    return Images((255 * pixels).byte().view(count, 1, 5, 5), labels, ("lower", "upper"))


def splits(source: object, seed: int) -> Splits:
    return Splits(sparse(1000, seed), sparse(200, seed + 1), sparse(1000, seed + 2))


def network(neurons: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(FEATURES, neurons), nn.Linear(neurons, 2))


def plant(model: nn.Module, parts: Splits, seed: int) -> dict[str, float]:
    """Give each feature a direction of its own in the layer: an axis where there are enough."""
    neurons = model[1].out_features
    directions = torch.eye(FEATURES)
    if neurons < FEATURES:
        directions = torch.randn(neurons, FEATURES, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        model[1].weight.copy_(directions / directions.norm(dim=0))
        model[1].bias.zero_()
    return {}


def planted_ladder() -> Ladder:
    rungs = tuple(
        Rung(name, "linear", partial(network, n), (Layer("1"),)) for name, n in (("shared", 10), ("own", FEATURES))
    )
    return Ladder("planted", rungs, splits, plant, "sparse pixels", controls=("untrained", "rotated"))


def pixels(stimuli: Images) -> torch.Tensor:
    return stimuli.pixels.float().flatten(1)


def run(ladder: Ladder, out: Path, **settings) -> thalweg.Run:
    given = {"seeds": 1, "workers": 1, "resamples": 200, "cache": out.parent / "cache", "device": "cpu"} | settings
    return thalweg.survey(ladder, out=out, observer=Observer("true", 1, pixels), **given)


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> thalweg.Run:
    return run(planted_ladder(), tmp_path_factory.mktemp("bases") / "run", seeds=1, basis="sae,neurons,random")


@pytest.mark.shapes
def test_the_neurons_are_as_in_a_survey_of_them_alone_and_stay_the_headline(several: thalweg.Run, tmp_path: Path):
    alone = run(planted_ladder(), tmp_path / "run", seeds=1)
    assert several.bases == BASES
    assert several.in_basis("neurons").units.equals(alone.units)
    neurons = several.in_basis("neurons")
    for name in ("scores", "populations", "layers", "distributions", "missing", "gallery"):
        assert getattr(neurons, name).equals(getattr(alone, name)), name
    assert neurons.models.select(alone.models.columns).equals(alone.models)
    assert neurons.factors.filter(pl.col("factor") != "latent_density").equals(alone.factors)
    assert several.verdict == alone.verdict
    assert alone.capability.is_empty()
    shared = [name for name in contents(alone.path) if name.startswith(("weights", "recordings", "units"))]
    assert shared
    assert all(contents(several.path)[name] == contents(alone.path)[name] for name in shared)


def test_every_table_says_what_the_units_are(several: thalweg.Run):
    rows = several.models.select("control", "basis").unique().rows()
    assert set(rows) == {
        *((control, basis) for control in ("trained", "untrained") for basis in BASES),
        ("rotated", "random"),
    }
    keys = [*several.models.columns[:6]]
    assert keys[-1] == "basis"
    assert several.models.select(keys).is_duplicated().any() is False
    for name in ("scores", "populations", "layers", "distributions", "missing"):
        assert set(getattr(several, name)["basis"]) >= {"neurons", "sae"}, name
    latents = several.in_basis("sae").units
    assert set(latents["control"]) == {"trained", "untrained"}
    assert latents.filter(rung="own", control="trained")["unit"].n_unique() == 100
    assert several.scan_units().collect().equals(several.units)


def test_capability_is_weighed_beside_dictionaries_unless_it_is_declined(several: thalweg.Run):
    weighed = several.capability.filter(control="trained", ablation="mean", cut=0.25)
    assert weighed["rung"].to_list() == ["shared", "own"]
    assert weighed["n_sets"].to_list() == [200, 200]
    assert Settings(basis=BASES).weighs_capability
    assert Settings(capability=True).weighs_capability
    without = ({}, {"basis": ("sae",)}, {"basis": ("neurons", "random")}, {"basis": BASES, "capability": False})
    assert not any(Settings(**given).weighs_capability for given in without)


def test_a_rotation_beside_the_neurons_is_their_rotated_twin(several: thalweg.Run):
    beside = several.recordings("planted", "own", basis="random")["1"]
    twin = several.recordings("planted", "own", control="rotated")["1"]
    assert beside.query.highest()[1].equal(twin.query.highest()[1])


def test_dictionaries_lie_in_the_run_and_dead_latents_have_no_score(several: thalweg.Run):
    folder = several.path / "dictionaries" / "planted-own-0-trained" / "1"
    trained = saved.read(folder)
    about = json.loads((folder / "training.json").read_text())
    assert about["explained_variance_measured"] > 0.9
    units = several.in_basis("sae").units.filter(
        pl.col("rung") == "own",
        pl.col("control") == "trained",
        pl.col("measure") == "one_sided",
        ~pl.col("exchanged"),
    )
    dead = units.filter(pl.col("note") == "constant")["unit"].unique().sort().to_list()
    assert dead == (~trained.alive).nonzero().flatten().tolist() != []
    row = several.models.filter(rung="own", control="trained", basis="sae")
    assert row["n_failed"].item() == len(dead) == row["n_units"].item() - about["alive"]


def test_latents_are_as_sparse_as_the_features_that_share_dense_neurons(several: thalweg.Run):
    models = several.in_basis("neurons").models
    density = {(row["rung"], row["control"]): row for row in models.iter_rows(named=True)}
    shared, own = density["shared", "trained"], density["own", "trained"]
    assert own["activation_density"] == pytest.approx(0.08 * 0.9, abs=0.015)  # a neuron is a pixel
    assert shared["activation_density"] > 0.5
    assert 0.02 < shared["latent_density_low"] < shared["latent_density_high"] < 0.2
    assert own["latent_density"] < 0.12
    lines = several.claims.filter(claim="sparser")["quantity"].to_list()
    assert {"latent_density", "latent_density, less the untrained twins'"} <= set(lines)
    rotated = several.factors.filter(factor="latent_density", control="rotated", layer="")
    assert rotated["note"].unique().to_list() == ["there are no dictionaries"]


def test_gains_are_the_difference_of_the_scores_and_of_the_twins_gain(several: thalweg.Run):
    models = several.models.filter(rung="own")
    word = {row["basis"]: row["predictable"] for row in models.filter(control="trained").iter_rows(named=True)}
    gains = several.populations.filter(pl.col("rung") == "own", pl.col("seed") == 0, measure="one_sided", basis="sae")
    by_name = {(row["control"], row["statistic"]): row for row in gains.iter_rows(named=True)}
    gain, twin = by_name["trained", "gain"], by_name["untrained", "gain"]
    assert gain["score"] == pytest.approx(word["sae"] - word["neurons"], abs=1e-6)
    assert gain["low"] < gain["score"] < gain["high"]
    minus = by_name["trained", "gain_minus_untrained"]
    assert minus["score"] == pytest.approx(gain["score"] - twin["score"], abs=1e-9)
    judged = {(each["basis"], each["statistic"]) for each in several.shape if each["basis"] != "neurons"}
    assert judged == {(basis, which) for basis in BASES[1:] for which in ("mean", "gain", "gain_minus_untrained")}
    assert not any(each["headline"] for each in several.shape if each["basis"] != "neurons")


def test_latents_are_crisper_than_neurons_where_features_share_them_and_not_where_each_has_its_own(
    several: thalweg.Run,
):
    keep = {"measure": "one_sided_single", "basis": "sae", "statistic": "gain", "control": "trained", "seed": 0}
    gains = {row["rung"]: row for row in several.populations.filter(**keep).iter_rows(named=True)}
    assert gains["shared"]["low"] > 0.02
    assert gains["own"]["high"] < 0  # latents split features that neurons have for themselves
    random = several.populations.filter(**keep | {"basis": "random"}).filter(rung="own")["high"].item()
    assert random < -0.1  # a rotation mixes the features that neurons had for themselves


def test_the_report_draws_the_gains_against_strength_and_against_what_is_shared(several: thalweg.Run):
    (ladder,) = ladders(several.in_basis("neurons"))
    (figure,) = bases.figures(ladder)
    assert not figure.failed
    assert figure.controls == ("trained", "untrained")
    titles = [panel.title for panel in figure.panels]
    assert titles[:2] == ["sae: predictable gain", "sae: crisp gain"]
    assert titles[-2:] == ["random: predictable gain", "random: crisp gain"]
    assert "sae: crisp gain by participation ratio" in titles
    assert figure.panels[1].note == "gain: cannot tell; minus untrained twin's: cannot tell"


def test_another_number_of_workers_and_an_interruption_change_no_byte(several: thalweg.Run, tmp_path: Path):
    out = tmp_path / "run"
    given = {"seeds": 1, "basis": list(BASES)}

    class Interrupting(thalweg.progress.Silent):
        def stage(self, name: str, total: int):
            if name == "measure":
                raise KeyboardInterrupt
            return super().stage(name, total)

    with pytest.raises(KeyboardInterrupt):
        run(planted_ladder(), out, progress=Interrupting(), **given)
    made = {file: file.stat().st_mtime_ns for file in (out / "dictionaries").rglob("*.safetensors")}
    assert len(made) == 4
    run(planted_ladder(), out, workers=2, **given)
    assert {file: file.stat().st_mtime_ns for file in made} == made  # they are not trained again
    assert contents(out) == contents(several.path)
    (out / "dictionaries/planted-own-0-trained/1/cfg.json").write_text("{}")
    run(planted_ladder(), out, **given)
    assert contents(out) == contents(several.path)


def test_a_layer_that_says_the_same_of_every_stimulus_has_a_dictionary_of_nothing():
    """The mean of thousands of equal rows is not that row, to the last digit."""
    same = (7 * torch.rand(1, 12, generator=torch.Generator().manual_seed(0)) + 0.1).expand(8192, 12)
    dictionary, steps = train(same.contiguous(), same[:100].contiguous(), Training(48, 3))
    assert steps == 0
    assert not dictionary.weight.any()
    varying = same[:400].clone()
    varying[::2, 3] += 0.01
    assert train(varying, varying[:100].contiguous(), Training(48, 3))[1] > 0


def few(source: object, seed: int) -> Splits:
    return replace(splits(source, seed), train=sparse(99, seed))


def test_too_few_stimuli_for_a_dictionary_are_said_before_any_training(tmp_path: Path):
    with pytest.raises(ThalwegError, match="there are 99 stimuli to train dictionaries on; at least 100 were expected"):
        run(replace(planted_ladder(), splits=few), tmp_path / "run", basis="sae")
    assert not list(tmp_path.glob("run/weights/*"))


class Elsewhere(nn.Module):
    """Values of brighter stimuli lie where none of the others' are."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows = images.flatten(1)
        return torch.where(rows[:, :1] > 0.5, 100 * rows[:, 1:3] - 1000, rows[:, 1:3])


def test_a_dictionary_that_explains_nothing_is_refused():
    dark = sparse(300, 0).pixels
    dark[:, 0, 0, 0] = 0
    bright = dark[:100].clone()
    bright[:, 0, 0, 0] = 255
    train, others = (Images(each, torch.zeros(len(each)).long(), ("",)) for each in (dark, bright))
    with pytest.raises(ThalwegError, match=r"layer '0': the dictionary explains -[\d.e+]+ of the variance"):
        TrainedHere().train_all(nn.Sequential(Elsewhere()), [Layer("0")], train, others, device="cpu")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"basis": "neurons,sea"}, "no basis is called 'sea'; did you mean 'sae'"),
        ({"basis": ", "}, "basis .*names no basis; leave it out, or name one"),
        ({"basis": "sae:folder"}, "'sae:folder' is of one model.*name 'sae'"),
        ({"basis": "sae", "expansion": 0}, "expansion is 0; at least 1"),
        (
            {"basis": "sae", "active": 2000},
            "active is 2000; a dictionary that a survey trains has 1,024 latents at most",
        ),
        ({"basis": ("neurons", "sae"), "quick": False}, "layer '1' has 1 neuron; a dictionary is made of at least 2"),
    ],
)
def test_mistakes_are_said_before_the_long_work(settings: dict, message: str, tmp_path: Path):
    one = Rung("one", "linear", partial(network, 1), (Layer("1"),))
    with pytest.raises(ThalwegError, match=message):
        run(replace(planted_ladder(), rungs=(one, *planted_ladder().rungs)), tmp_path / "run", **settings)
    assert not (tmp_path / "run" / "weights").exists()
