"""Bases on top of a layer: against numpy, against the formulas of the libraries that wrote the files, and a planted
dictionary.
"""

import json
import math
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import thalweg
from support.examples import run_example
from support.planted import of_own
from support.tiny import blobs, convnet, features_of_corners, network
from thalweg import Layer, Splits, ThalwegError, bases, survey
from thalweg.bases import components, layouts
from thalweg.bases.assess import assess
from thalweg.bases.components import Components, Projection, directions
from thalweg.bases.dictionaries import Dictionary, Encoder
from thalweg.bases.hook_points import module_of
from thalweg.bases.latents import Latents
from thalweg.bases.sinks import SkippedPlaces, leading_sinks, mean_squared_norms, skipped_places
from thalweg.bases.streaming import outputs, rows
from thalweg.bases.train_dictionary import Recipe, batch_for, shuffled, train_dictionary, train_for_subject
from thalweg.models.hooks import replacing_values
from thalweg.models.records import Basis, Ladder, Subject
from thalweg.observers.embedding import build_view
from thalweg.pipeline.capability import NO_NEURONS
from thalweg.progress import Silent
from thalweg.recording.record import record
from thalweg.recording.settings import RecordingSettings
from thalweg.scoring.units import Halves, ObserverOnPool, score_units, stimulus_metadata
from thalweg.stimuli.base import halves
from thalweg.stimuli.showing import Shown
from thalweg.strength import axes as strength

WIDTH, LATENTS = 12, 40


@dataclass
class Vectors:
    """Stimuli that are what a model is given."""

    values: Tensor
    modality: str = "image"
    label_names: tuple[str, ...] = ("one",)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def labels(self) -> Tensor:
        return torch.zeros(len(self.values), dtype=torch.int64)

    def low_level(self) -> Tensor:
        return torch.zeros(len(self.values), 1)

    def last_token(self) -> None: ...

    def groups(self) -> None: ...

    def show(self, which: int) -> Shown:
        return Shown(str(which))

    def content_hash(self) -> str:
        return str(self.values.sum())

    def batch(self, which: Tensor) -> Tensor:
        return self.values[which]

    def take(self, which: Tensor) -> "Vectors":
        return replace(self, values=self.values[which])


class Said(Silent):
    """Progress that keeps its lines."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines

    def say(self, text: str) -> None:
        self.lines.append(text)


def identity() -> nn.Module:
    return nn.Sequential(nn.Identity())


# what a name gives


def test_names_of_bases(tmp_path: Path):
    assert bases.find("neurons") is None
    assert [bases.find(name).name for name in ("random", "pca")] == ["random", "pca"]
    folder = saelens(tmp_path)
    for text, name in ((f"sae:{folder}", "sae"), (f"sae-active:{folder}", "sae-active")):
        assert isinstance(bases.find(text), Basis)
        assert bases.find(text).name == name
    assert bases.find(f"sae:{folder}").identity != bases.find(f"sae-active:{folder}").identity
    before = bases.find(f"sae:{folder}").identity
    saelens(tmp_path, seed=1)
    assert bases.find(f"sae:{folder}").identity != before
    assert (
        bases.find("random").encoders(
            identity(), [Layer("0")], Vectors(torch.ones(2, 2)), torch.arange(2), device="cpu"
        )
        == {}
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pcs", "pca"),
        ("sae", "after the colon"),
        ("sae:", "after the colon"),
        ("sea:x", "sae"),
        ("sae:/no", "/no: there is no"),
    ],
)
def test_wrong_names_are_told(text: str, message: str):
    with pytest.raises(ThalwegError, match=message):
        bases.find(text)


# encoders in a recording


@dataclass(frozen=True)
class Taken:
    """The encoder that puts units in another order."""

    order: tuple[int, ...]

    def __call__(self, values: Tensor) -> Tensor:
        return values @ torch.eye(len(self.order))[:, list(self.order)]


def scores(encoders: dict, basis: str) -> pl.DataFrame:
    """The scores of a small convnet's units in a basis."""
    torch.manual_seed(0)
    pool, model, layer = blobs(400, seed=0), convnet(6), Layer("0")
    parts = Halves(*halves(pool, seed=0))
    facts = stimulus_metadata(pool, pool.low_level())
    pair = [
        record(
            model,
            [layer],
            pool,
            ids,
            RecordingSettings(bases=(basis,), k=64, sample=128),
            encoders=encoders,
            statistics=facts.tables(),
        )[layer.name, basis]
        for ids in (parts.reference, parts.query)
    ]
    settings = {"ladder": "l", "rung": "r", "kind": "k", "seed": 0, "control": "trained", "basis": basis, "layer": "0"}
    settings |= {"depth": 0, "reduction": "max"}
    units = pl.DataFrame({"unit": range(6)}).with_columns(pl.lit(value).alias(name) for name, value in settings.items())
    observer = of_own(features_of_corners)
    watcher = ObserverOnPool(observer, build_view(observer, {"own": {"features": features_of_corners(pool)}}, pool))
    return score_units(*pair, units, halves=parts, observers=[watcher], metadata=facts)


def test_a_permutation_permutes_the_scores_exactly():
    order = (3, 0, 5, 1, 4, 2)
    key = ["measure", "observer", "band", "capacity", "exchanged"]
    plain = scores({}, "neurons").sort("unit", *key)
    moved = scores({("0", "mine"): Taken(order)}, "mine")
    moved = moved.with_columns(pl.col("unit").replace_strict(dict(enumerate(order)))).sort("unit", *key)
    # both come of matrix products over units, whose rounding depends on a unit's place among the others
    summed = plain["measure"].is_in(["monosemanticity", "class_selectivity"])
    for column in ("value", "low", "high", "n", "note"):
        assert moved[column].filter(~summed).equals(plain[column].filter(~summed), null_equal=True), column
    assert plain["value"].filter(~summed).is_not_nan().sum() > 50
    for column in ("value", "low", "high"):
        np.testing.assert_allclose(moved[column].filter(summed), plain[column].filter(summed), rtol=1e-4, atol=1e-7)
    assert moved["n"].equals(plain["n"])
    assert moved["note"].equals(plain["note"])


def test_a_survey_in_another_basis(tmp_path: Path, tiny: Ladder):
    """The model and its untrained twin have the basis's units, the rotated twin the neurons'."""
    rung = next(item for item in tiny.rungs if item.name == "dense-8")
    latents = Latents.of(saelens(tmp_path / "dictionary", neurons=8))
    for basis, units in ((Components(), 8), (latents, LATENTS)):
        ladder = replace(tiny, rungs=(replace(rung, basis=basis),))
        given = {"cache": tmp_path, "workers": 1, "seeds": 1, "capability": True}
        run = survey(ladder, observer=of_own(features_of_corners), out=tmp_path / basis.name, **given)
        result = run.units.group_by("control", "basis").agg(pl.col("unit").n_unique()).sort("control").rows()
        assert result == [("rotated", "random", 8), ("trained", basis.name, units), ("untrained", basis.name, units)]
        assert set(run.capability["note"]) == {NO_NEURONS}
        upper = run.units.filter(measure="upper_tail_share", control="trained")["value"]
        assert (upper == 1).any() == (basis is latents)  # what lies below zero is no pole of a latent


def test_latents_of_maps_are_pooled_after_encoding(tmp_path: Path):
    torch.manual_seed(0)
    model, pool = convnet(WIDTH), blobs(60, seed=0)
    dictionary = layouts.read(saelens(tmp_path, architecture="topk", k=5))
    ids = torch.arange(60)
    encoders = {("0", "sae"): Encoder(dictionary), ("0", "sae-active"): Encoder(dictionary, active=True)}
    result = record(
        model,
        [Layer("0")],
        pool,
        ids,
        RecordingSettings(bases=("sae", "sae-active"), sample=60, batch_size=7),
        encoders=encoders,
    )
    with torch.no_grad():
        laid = model[0](pool.batch(ids)).movedim(1, -1)
    latents = dictionary.encode(laid)
    for basis, by_hand in (("sae", latents), ("sae-active", dictionary.activate(latents))):
        recording = result["0", basis]
        expected = by_hand.flatten(1, 2).amax(1)
        torch.testing.assert_close(recording.sample, expected[recording.sample_ids()], rtol=1e-4, atol=1e-5)
        assert recording.sample.shape == (60, LATENTS)


def test_latents_of_text_are_those_of_the_last_token(tmp_path: Path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(30, WIDTH), nn.Linear(WIDTH, WIDTH))
    stimuli = Vectors(torch.randint(30, (50, 8)), modality="text")
    basis = Latents.of(sparsify(tmp_path / "1"), active=True)
    layers = bases.layers_for(basis, model, [], stimuli, named=False)
    assert layers == (Layer("1", "last", unit_axis=-1),)
    encoders = basis.encoders(model, layers, stimuli, torch.arange(50), device="cpu")
    result = record(
        model,
        layers,
        stimuli,
        torch.arange(50),
        RecordingSettings(bases=("sae",), sample=50),
        encoders={("1", "sae"): encoders["1"]},
    )["1", "sae"]
    dictionary = layouts.read(tmp_path / "1")
    with torch.no_grad():
        by_hand = dictionary.activate(dictionary.encode(model(stimuli.values)[:, -1]))
    torch.testing.assert_close(result.sample, by_hand[result.sample_ids()], rtol=1e-4, atol=1e-5)
    assert int((result.sample > 0).sum(1).max()) <= 3


@pytest.mark.parametrize("basis", ["sae", "pca", "random"])
def test_drawn_units_are_recorded_as_among_all(tmp_path: Path, basis: str):
    torch.manual_seed(0)
    model, pool, ids = network(WIDTH), blobs(60, seed=0), torch.arange(60)
    layer = Layer("1", nonlinearity=torch.relu)
    units_of = bases.find(f"sae:{saelens(tmp_path)}" if basis == "sae" else basis)
    assert bases.unit_counts(units_of, model, [layer], pool) == {"1": LATENTS if basis == "sae" else WIDTH}
    fitted = units_of.encoders(model, [layer], pool, ids, device="cpu")
    encoders = {(name, basis): encode for name, encode in fitted.items()}
    settings = RecordingSettings(bases=(basis,), sample=60)
    every = record(model, [layer], pool, ids, settings, encoders=encoders)["1", basis]
    few = record(model, [replace(layer, max_units=5)], pool, ids, settings, encoders=encoders)["1", basis]
    assert len(set(few.unit_ids.tolist())) == 5
    torch.testing.assert_close(few.sample, every.sample[:, few.unit_ids], rtol=1e-4, atol=1e-5)
    assert few.mean.shape == (5,)  # of the others nothing is kept


# principal components


def test_variances_of_components_are_numpys():
    torch.manual_seed(0)
    model, pool = network(10), blobs(300, seed=0)
    layer, ids = Layer("1"), torch.arange(0, 300, 2)
    encoders = Components().encoders(model, [layer], pool, ids, device="cpu")
    result = record(
        model, [layer], pool, ids, RecordingSettings(bases=("pca",)), encoders={("1", "pca"): encoders["1"]}
    )["1", "pca"]
    with torch.no_grad():
        values = model[:2](pool.batch(ids)).numpy()
    expected = np.linalg.eigvalsh(np.cov(values.astype(np.float64).T, bias=True))[::-1]
    np.testing.assert_allclose(result.deviations.numpy() / len(ids), expected, rtol=1e-4)
    np.testing.assert_allclose(result.mean.numpy(), 0, atol=1e-5)
    together = encoders["1"](torch.from_numpy(values)).numpy()
    assert abs(np.corrcoef(together.T) - np.eye(10)).max() < 1e-3


def test_components_of_maps_are_fitted_to_all_places_and_to_nothing_else():
    torch.manual_seed(0)
    model, pool = nn.Sequential(nn.Conv2d(1, 5, 6)), blobs(100, seed=0)  # 49 places
    ids = torch.arange(40)
    fitted = Components().encoders(model, [Layer("0")], pool, ids, device="cpu")["0"]
    with torch.no_grad():
        values = model(pool.batch(ids)).movedim(1, -1).reshape(-1, 5).double().numpy()
    _, vectors = np.linalg.eigh(np.cov(values.T, bias=True))
    vectors = vectors[:, ::-1] * np.sign(vectors[:, ::-1][abs(vectors[:, ::-1]).argmax(0), range(5)])
    np.testing.assert_allclose(fitted.mean.numpy(), values.mean(0), atol=1e-5)
    np.testing.assert_allclose(fitted.directions.numpy(), vectors, atol=1e-3)
    other = replace(pool, pixels=torch.cat([pool.pixels[:40], 255 - pool.pixels[40:]]))
    again = Components().encoders(model, [Layer("0")], other, ids, device="cpu")["0"]
    assert torch.equal(again.directions, fitted.directions)


def test_large_maps_are_sampled():
    laid = torch.arange(3 * 2 * 20 * 20).float().reshape(3, 2, 20, 20)
    part = rows(laid, torch.Generator().manual_seed(0))
    assert part.shape == (3 * 64, 2)
    assert torch.equal(part[:, 1] - part[:, 0], torch.full((192,), 400.0))
    assert rows(laid).shape == (1200, 2)


def test_directions_without_variance_are_no_units():
    values = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)).double() @ torch.randn(3, 7).double()
    result = directions(torch.cov(values.T))
    assert result.shape == (7, 3)
    assert (result.gather(0, result.abs().argmax(0, keepdim=True)) > 0).all()


def test_components_refuse_wide_layers_and_values_that_are_not_finite(monkeypatch: pytest.MonkeyPatch):
    stimuli = Vectors(torch.ones(4, 9))
    monkeypatch.setattr(components, "WIDEST", 8)
    with pytest.raises(ThalwegError, match=r"'0' has 9 units.*at most 8"):
        Components().encoders(identity(), [Layer("0")], stimuli, torch.arange(4), device="cpu")
    monkeypatch.undo()
    stimuli.values[1, 2] = torch.nan
    with pytest.raises(ThalwegError, match="'0' gave values that are NaN"):
        Components().encoders(identity(), [Layer("0")], stimuli, torch.arange(4), device="cpu")


# layouts, against the libraries' formulas


def weights(seed: int = 0, neurons: int = WIDTH, **more: tuple[int, ...]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"W_enc": (neurons, LATENTS), "W_dec": (LATENTS, neurons), "b_dec": (neurons,), **more}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def saelens(
    folder: Path,
    *,
    architecture: str = "standard",
    seed: int = 0,
    hook: str = "0",
    neurons: int = WIDTH,
    **fields: object,
) -> Path:
    """A dictionary as SAELens writes it."""
    vectors = ("b_gate", "b_mag", "r_mag") if architecture == "gated" else ("b_enc",)
    vectors += ("threshold",) if architecture == "jumprelu" else ()
    tensors = weights(seed, neurons, **dict.fromkeys(vectors, (LATENTS,)))
    if "threshold" in tensors:
        tensors["threshold"] = tensors["threshold"].abs()
    config = {
        "architecture": architecture,
        "d_in": neurons,
        "d_sae": LATENTS,
        "dtype": "float32",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "metadata": {"sae_lens_version": "6.54.12", "hook_name": hook},
        **fields,
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(json.dumps(config))
    return folder


def sparsify(folder: Path, **fields: object) -> Path:
    """A dictionary as sparsify writes it."""
    made = weights(3, **{"encoder.bias": (LATENTS,), "encoder.weight": (LATENTS, WIDTH)})
    del made["W_enc"]
    if fields.get("skip_connection"):
        made["W_skip"] = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(4))
    config = {"d_in": WIDTH, "num_latents": LATENTS, "expansion_factor": 32, "k": 3, "multi_topk": False, **fields}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(made, folder / "sae.safetensors")
    (folder / "cfg.json").write_text(json.dumps(config))
    return folder


def by_hand(folder: Path, values: Tensor, *, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Pre-activations, activations and reconstruction as SAELens 6 computes them, step by step."""
    from safetensors.torch import load_file

    w, settings = load_file(folder / "sae_weights.safetensors"), json.loads((folder / "cfg.json").read_text())
    x, back = values * scale, lambda out: out / scale
    if settings["normalize_activations"] == "constant_norm_rescale":
        norm = WIDTH**0.5 / values.norm(dim=-1, keepdim=True)
        x, back = values * norm, lambda out: out / norm
    if settings["normalize_activations"] == "layer_norm":
        mean = values.mean(-1, keepdim=True)
        deviation = (values - mean).std(-1, keepdim=True)
        x, back = (values - mean) / (deviation + 1e-5), lambda out: out * deviation + mean
    x = x - w["b_dec"] * settings["apply_b_dec_to_input"]
    decoder = w["W_dec"]
    if settings["architecture"] == "gated":
        opened = x @ w["W_enc"] + w["b_gate"] > 0
        pre = x @ (w["W_enc"] * w["r_mag"].exp()) + w["b_mag"]
        active = opened * pre.relu()
    else:
        pre = x @ w["W_enc"] + w["b_enc"]
        active = pre.relu()
        if settings["architecture"] == "jumprelu":
            active = active * (pre > w["threshold"])
        if settings["architecture"] == "topk":
            if settings.get("rescale_acts_by_decoder_norm"):
                pre = pre * decoder.norm(dim=-1)
                decoder = decoder / decoder.norm(dim=-1, keepdim=True)
            least = pre.topk(settings["k"]).values[..., -1:]
            active = pre.relu() * (pre >= least)
    return pre, active, back(active @ decoder + w["b_dec"])


def compared(folder: Path, expected: tuple[Tensor, Tensor, Tensor], values: Tensor) -> None:
    dictionary = layouts.read(folder)
    pre = dictionary.encode(values)
    result = (pre, dictionary.activate(pre), dictionary.reconstruct(values))
    for name, item, other in zip(("pre", "active", "reconstructed"), result, expected, strict=True):
        torch.testing.assert_close(item, other, rtol=1e-4, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


VALUES = 3 * torch.randn(4, 6, WIDTH, generator=torch.Generator().manual_seed(9)) + 1


@pytest.mark.parametrize("normalisation", ["none", "constant_norm_rescale", "layer_norm"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "fields",
    [
        {"architecture": "standard"},
        {"architecture": "topk", "k": 4},
        {"architecture": "topk", "k": 4, "rescale_acts_by_decoder_norm": True},
        {"architecture": "jumprelu"},
        {"architecture": "gated"},
    ],
    ids=lambda fields: "-".join(map(str, fields.values())),
)
def test_saelens_layout(tmp_path: Path, fields: dict, bias: bool, normalisation: str):
    folder = saelens(tmp_path, apply_b_dec_to_input=bias, normalize_activations=normalisation, **fields)
    compared(folder, by_hand(folder, VALUES), VALUES)


def test_average_norm_is_folded_in(tmp_path: Path):
    folder = saelens(tmp_path, normalize_activations="expected_average_only_in")
    with pytest.raises(ThalwegError, match="norm_scaling_factor"):
        layouts.read(folder)
    (folder / "activation_scaler.json").write_text('{"scaling_factor": 0.25}')
    compared(folder, by_hand(folder, VALUES, scale=0.25), VALUES)
    saelens(tmp_path, normalize_activations="expected_average_only_in", norm_scaling_factor=0.5)
    compared(folder, by_hand(folder, VALUES, scale=0.5), VALUES)


def test_centred_streams(tmp_path: Path):
    about = {"hook_name": "blocks.0.hook_resid_pre", "model_from_pretrained_kwargs": {"center_writing_weights": True}}
    centred = VALUES - VALUES.mean(-1, keepdim=True)
    for normalisation in ("none", "constant_norm_rescale"):
        folder = saelens(tmp_path, metadata=about, normalize_activations=normalisation)
        pre, active, back = by_hand(folder, centred)
        compared(folder, (pre, active, back + VALUES.mean(-1, keepdim=True)), VALUES)
    folder = saelens(tmp_path, metadata={**about, "hook_name": "blocks.0.mlp.hook_post"})
    compared(folder, by_hand(folder, VALUES), VALUES)


def test_saelens_layout_before_version_6(tmp_path: Path):
    """TopK was an activation function then, and the place stood in the configuration itself."""
    folder = saelens(tmp_path, k=5)
    new = by_hand(saelens(tmp_path, architecture="topk", k=5), VALUES)
    old = {"d_in": WIDTH, "d_sae": LATENTS, "hook_point": "blocks.7.hook_mlp_out", "normalize_activations": False}
    old |= {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 5}}
    (folder / "cfg.json").write_text(json.dumps(old))
    compared(folder, new, VALUES)
    assert layouts.read(folder).hook == "blocks.7.hook_mlp_out"


def test_sparsify_layout(tmp_path: Path):
    folder = sparsify(tmp_path / "layers.3")
    made = layouts.read(folder)
    w = {name: getattr(made, name) for name in ("weight", "bias", "decoder", "offset")}
    from safetensors.torch import load_file

    on_disk = load_file(folder / "sae.safetensors")
    pre = (VALUES - on_disk["b_dec"]) @ on_disk["encoder.weight"].T + on_disk["encoder.bias"]
    active = torch.zeros_like(pre).scatter(-1, pre.topk(3).indices, pre.topk(3).values.relu())
    compared(folder, (pre, active, active @ on_disk["W_dec"] + on_disk["b_dec"]), VALUES)
    assert made.hook == "layers.3"
    assert w["weight"].shape == (LATENTS, WIDTH)


def test_sparsify_transcoders_groups_and_skips(tmp_path: Path):
    from safetensors.torch import load_file

    folder = sparsify(tmp_path / "layers.3.mlp", transcode=True, skip_connection=True, activation="groupmax", k=4)
    on_disk = load_file(folder / "sae.safetensors")
    pre = VALUES @ on_disk["encoder.weight"].T + on_disk["encoder.bias"]
    active = torch.zeros_like(pre)
    for group in range(4):
        part = pre[..., 10 * group : 10 * group + 10].relu()
        index = part.argmax(-1, keepdim=True)
        active[..., 10 * group : 10 * group + 10].scatter_(-1, index, part.gather(-1, index))
    back = active @ on_disk["W_dec"] + on_disk["b_dec"] + VALUES @ on_disk["W_skip"].T
    compared(folder, (pre, active, back), VALUES)
    assert layouts.read(folder).hook == "layers.3.mlp:in"


def changed(name: str, change: Callable[[Path], object], message: str) -> object:
    return pytest.param(change, message, id=name)


def with_nan(folder: Path) -> None:
    tensors = weights(0, b_enc=(LATENTS,))
    tensors["W_dec"][3, 2] = torch.nan
    save_file(tensors, folder / "sae_weights.safetensors")


def pickled(folder: Path) -> None:
    (folder / "sae_weights.safetensors").unlink()
    torch.save({}, folder / "ae.pt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        changed("no configuration", lambda f: (f / "cfg.json").unlink(), "cfg.json is missing"),
        changed(
            "no weights", lambda f: (f / "sae_weights.safetensors").unlink(), "neither sae_weights.*found: cfg.json"
        ),
        changed("pickled", pickled, "ae.pt is pickled"),
        changed("no JSON", lambda f: (f / "cfg.json").write_text("{"), "can't be read as JSON"),
        changed(
            "truncated", lambda f: (f / "sae_weights.safetensors").write_bytes(b"\x99" * 40), "is no safetensors file"
        ),
        changed("NaN", with_nan, "W_dec has values that are NaN"),
        changed("width", lambda f: saelens_told(f, d_in=13), r"W_enc has shape \(12, 40\).*\(13, 40\)"),
        changed("no width", lambda f: saelens_told(f, d_in=None), "d_in is None"),
        changed("architecture", lambda f: saelens_told(f, architecture="gatedd"), "'gatedd'; did you mean 'gated'"),
        changed("lacks", lambda f: saelens_told(f, architecture="jumprelu"), "lack threshold"),
        changed("k", lambda f: saelens_told(f, architecture="topk", k=41), "k is 41; a whole number from 1 to 40"),
        changed("norm", lambda f: saelens_told(f, normalize_activations="covariance_whitening"), "normalisation"),
        changed("tanh", lambda f: saelens_told(f, activation_fn="tanh-relu"), "activation function"),
    ],
)
def test_unusable_dictionaries_are_told_before_any_work(tmp_path: Path, change: Callable[[Path], object], message: str):
    folder = saelens(tmp_path)
    change(folder)
    with pytest.raises(ThalwegError, match=message):
        bases.find(f"sae:{folder}")


def with_tensor(name: str, tensor: Tensor) -> Callable[[Path], None]:
    """What puts a tensor into a dictionary's file, in place of another of that name."""

    def put(folder: Path) -> None:
        from safetensors.torch import load_file

        file = next(folder.glob("*.safetensors"))
        save_file(load_file(file) | {name: tensor}, file)

    return put


def half(folder: Path) -> None:
    file = next(folder.glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


ODD = [
    (saelens, {}, with_tensor("threshold", torch.ones(LATENTS)), "threshold would be left out of a dictionary of this"),
    (saelens, {"architecture": "gated"}, with_tensor("b_enc", torch.ones(LATENTS)), "b_enc would be left out"),
    (sparsify, {}, with_tensor("W_skip", torch.ones(WIDTH, WIDTH)), "W_skip would be left out"),
    (saelens, {}, with_tensor("b_enc", torch.ones(LATENTS).long()), r"b_enc \(torch.int64\) does not hold floating-"),
    (saelens, {}, with_tensor("scaling_factor", torch.ones(3)), r"scaling_factor has shape \(3,\)"),
    (sparsify, {}, half, "sae.safetensors: is cut off"),
    (saelens, {"metadata": "x"}, None, "metadata is 'x'; an object was expected"),
    (saelens, {"activation_fn": "topk", "activation_fn_kwargs": "k"}, None, "activation_fn_kwargs is 'k'; an object"),
    (saelens, {"metadata": {"hook_name": 3}}, None, "hook_name is 3; text was expected"),
    (saelens, {"apply_b_dec_to_input": "no"}, None, "apply_b_dec_to_input is 'no'; true or false was expected"),
    (saelens, {"d_in": "wide"}, None, "d_in is 'wide'; a whole number from 1"),
    (saelens, {"d_sae": True}, None, "d_sae is True; a whole number"),
    (saelens, {"normalize_activations": 3}, None, "normalize_activations is 3; text or true or false was expected"),
    (saelens, {"normalize_activations": True, "norm_scaling_factor": math.inf}, None, "the factor is missing"),
    (sparsify, {"num_latents": 2.5}, None, "num_latents is 2.5; a whole number was expected"),
    (sparsify, {"k": "few"}, None, "k is 'few'; a whole number from 1 to"),
]


@pytest.mark.parametrize(("layout", "fields", "change", "message"), ODD)
def test_dictionaries_of_odd_tensors_and_values_are_refused(
    tmp_path: Path, layout: Callable[..., Path], fields: dict, change: Callable[[Path], None] | None, message: str
):
    folder = layout(tmp_path / "sae", **fields)
    if change:
        change(folder)
    with pytest.raises(ThalwegError, match=message):
        layouts.read(folder)


def saelens_told(folder: Path, **fields: object) -> None:
    config = json.loads((folder / "cfg.json").read_text())
    (folder / "cfg.json").write_text(json.dumps({**config, **fields}))


def test_encoders_can_be_sent_and_take_any_precision(tmp_path: Path):
    encoder = Encoder(layouts.read(saelens(tmp_path)))
    again = pickle.loads(pickle.dumps(encoder))
    assert torch.equal(again(VALUES), encoder(VALUES))
    assert encoder(VALUES.bfloat16()).dtype == torch.float32
    torch.testing.assert_close(encoder(VALUES.bfloat16()), encoder(VALUES), rtol=0.1, atol=0.5)
    assert encoder(VALUES[0, 0]).shape == (LATENTS,)
    projection = Projection(torch.zeros(WIDTH), torch.eye(WIDTH))
    assert torch.equal(pickle.loads(pickle.dumps(projection))(VALUES.double()), VALUES)
    for moved in (again, Projection(torch.zeros(WIDTH), torch.eye(WIDTH))):  # the weights follow the values
        assert moved(VALUES.to("meta")).device.type == "meta"


# where dictionaries belong


@cache
def language_model(family: str) -> nn.Module:
    """A small model of transformers, newly initialised."""
    import transformers as hf

    torch.manual_seed(0)
    size = {"vocab_size": 50, "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 3}
    size |= {"intermediate_size": 24}
    kv = {"num_key_value_heads": 1, "head_dim": 8}
    made = {
        "gpt2": lambda: hf.GPT2LMHeadModel(
            hf.GPT2Config(vocab_size=50, n_embd=16, n_head=2, n_layer=3, n_positions=16)
        ),
        "pythia": lambda: hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**size)),
        "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**size, num_key_value_heads=2)),
        "gemma": lambda: hf.Gemma2ForCausalLM(hf.Gemma2Config(**size, **kv)),
    }[family]()
    for weight in made.parameters():  # biases begin as zeros, and would hide what belongs where
        weight.data += 0.1 * torch.randn_like(weight)
    return made.eval()


def test_values_that_are_weights_themselves_need_no_gradients():
    """A model that says the same of every stimulus gives a layer that is a weight."""

    class Always(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.says, self.layer = nn.Parameter(torch.ones(2, 3)), nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(self.says)

    values = next(outputs(Always(), [Layer("layer")], blobs(2, seed=0), torch.arange(2), device="cpu"))
    assert not values["layer"].requires_grad


def at(model: nn.Module, hooks: list[str]) -> list[Tensor]:
    """What hook points of block 1 (of another where the name says so) give."""
    modules = [name for name, _ in model.named_modules()]
    full = [f"blocks.{hook}" if hook[0].isdigit() else f"blocks.1.{hook}" for hook in hooks]
    names = [module_of(hook, modules) for hook in full]
    stimuli = Vectors(torch.randint(50, (3, 7), generator=torch.Generator().manual_seed(0)), modality="text")
    layers = [Layer(name, "max", unit_axis=-1) for name in dict.fromkeys(names)]
    result = next(outputs(model, layers, stimuli, torch.arange(3), device="cpu"))
    return [result[name].movedim(1, -1) for name in names]


@pytest.mark.parametrize("family", ["gpt2", "pythia", "llama", "gemma"])
def test_hook_points_are_where_transformer_lens_has_them(family: str):
    """The parts of the residual stream add up, and the parts of a block follow from each other."""
    model = language_model(family)
    hooks = ["0.hook_resid_post", "hook_resid_pre", "hook_attn_out", "hook_mlp_out", "hook_resid_post"]
    before, pre, attention, neurons, post = at(model, hooks)
    torch.testing.assert_close(before, pre)
    torch.testing.assert_close(pre + attention + neurons, post, rtol=1e-4, atol=1e-5)
    if family == "pythia":
        with pytest.raises(ThalwegError, match="no place of this model"):
            at(model, ["hook_resid_mid"])
    else:
        torch.testing.assert_close(at(model, ["hook_resid_mid"])[0], pre + attention, rtol=1e-4, atol=1e-5)
    z, gate, active = at(model, ["attn.hook_z", "mlp.hook_pre", "mlp.hook_post"])
    block = {"gpt2": "transformer.h.1", "pythia": "gpt_neox.layers.1"}.get(family, "model.layers.1")
    part = model.get_submodule(block)
    with torch.no_grad():
        if family == "gpt2":
            torch.testing.assert_close(part.attn.c_proj(z), attention)
            torch.testing.assert_close(part.mlp.act(gate), active)
        if family == "llama":
            torch.testing.assert_close(part.self_attn.o_proj(z), attention)
            up = part.mlp.up_proj(part.post_attention_layernorm(pre + attention))
            torch.testing.assert_close(part.mlp.act_fn(gate) * up, active, rtol=1e-4, atol=1e-5)


def test_names_of_modules():
    names = ["", "transformer", "transformer.wte", "transformer.h", "transformer.h.1", "transformer.h.1.mlp", "lm_head"]
    assert module_of("transformer.h.1", names) == "transformer.h.1"
    assert module_of("transformer.h.1.mlp:in", names) == "transformer.h.1.mlp:in"
    assert module_of("h.1.mlp", names) == "transformer.h.1.mlp"
    assert module_of("layers.1", names) == "transformer.h.1"  # sparsify's short name
    assert module_of("layers.1.mlp:in", names) == "transformer.h.1.mlp:in"
    for wrong in ("layers.4", "blocks.1.hook_nothing", "mlp.9", ""):
        with pytest.raises(ThalwegError, match=r"no place of this model.*--layers.*transformer\.h\.1, "):
            module_of(wrong, names)


def test_a_dictionary_finds_its_layer_unless_one_is_named(tmp_path: Path):
    model = language_model("gpt2")
    stimuli = Vectors(torch.randint(50, (6, 7)), modality="text")
    ids = torch.arange(6)
    folder = saelens(tmp_path / "one", hook="blocks.2.hook_resid_pre")
    basis = bases.find(f"sae:{folder}")
    with pytest.raises(ThalwegError, match=r"'transformer.h.2:in' gives values of shape.*12 neurons"):
        bases.layers_for(basis, model, [], stimuli, named=False)
    narrow = Layer("transformer.h.0.mlp", "last", unit_axis=-1)
    with pytest.raises(ThalwegError, match=r"reads 12 neurons, but layer 'transformer.h.0.mlp' has 16"):
        basis.encoders(model, [narrow], stimuli, ids, device="cpu")
    assert bases.layers_for(basis, model, [narrow], stimuli, named=True) == (narrow,)
    assert bases.layers_for(None, model, [narrow], stimuli, named=False) == (narrow,)


def test_a_folder_of_dictionaries_serves_several_layers(tmp_path: Path):
    model = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(WIDTH, WIDTH) for _ in range(3)])})
    model.forward = lambda x: model.layers[2](model.layers[1](model.layers[0](x)))
    stimuli = Vectors(torch.randn(6, WIDTH))
    for index in (0, 2):
        sparsify(tmp_path / f"layers.{index}", k=1 + index)
    basis = bases.find(f"sae-active:{tmp_path}")
    known_one = Layer("layers.0", "mean")
    layers = bases.layers_for(basis, model, [known_one], stimuli, named=False)
    assert layers == (known_one, Layer("layers.2", "max", unit_axis=-1))
    made = basis.encoders(model, layers, stimuli, torch.arange(6), device="cpu")
    assert [int((made[f"layers.{index}"](VALUES) > 0).sum(-1).max()) for index in (0, 2)] == [1, 3]
    with pytest.raises(ThalwegError, match=r"'layers.1' has no dictionary.*layers.0, layers.2"):
        basis.encoders(model, [Layer("layers.1")], stimuli, torch.arange(6), device="cpu")


# training


def planted(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Sparse combinations, four at once, of 128 known directions in 64 dimensions; and the directions."""
    generator = torch.Generator().manual_seed(0)
    known_directions = nn.functional.normalize(torch.randn(128, 64, generator=generator), dim=1)
    generator.manual_seed(seed)
    on = torch.rand(count, 128, generator=generator).topk(4).indices
    strengths = 1 + torch.rand(count, 4, generator=generator)
    return torch.zeros(count, 128).scatter(1, on, strengths) @ known_directions + 0.5, known_directions


@pytest.mark.usefixtures("without_cuda")
def test_a_planted_dictionary_is_found(tmp_path: Path):
    train, truth = planted(10_000, seed=1)
    model, layer, steps = identity(), Layer("0"), []
    recipe = Recipe(128, 4, rows=800 * 256, batch=256, learning_rate=5e-3)
    made = train_dictionary(model, layer, Vectors(train), tmp_path / "made", recipe, advance=lambda: steps.append(1))
    assert len(steps) == 800
    assert not model[0]._forward_hooks
    cosines = nn.functional.normalize(made.decoder, dim=1) @ truth.T
    assert float(cosines.amax(0).mean()) > 0.9  # of each planted direction with the latent nearest to it
    summary = assess(model, layer, made, Vectors(planted(2_000, seed=2)[0]))
    assert summary["explained_variance"] > 0.9
    assert summary["dead"] < 0.2
    basis = bases.find(f"sae:{tmp_path / 'made'}")
    assert bases.layers_for(basis, model, [], Vectors(train), named=False) == (Layer("0", unit_axis=-1),)
    with pytest.raises(ThalwegError, match="a dictionary is there already"):
        train_dictionary(model, layer, Vectors(train), tmp_path / "made", recipe)


def test_the_learning_rate_falls_with_the_latents():
    assert Recipe(2**14).rate == pytest.approx(2e-4)
    assert Recipe(2**12).rate == pytest.approx(4e-4)
    assert Recipe(2**12, learning_rate=3e-3).rate == 3e-3


def test_few_rows_make_small_batches():
    sizes = {4_000_000: 2048, 2_048_000: 2048, 2_047_999: 1024, 300_000: 256, 20_000: 128, 10: 128}
    assert {rows: batch_for(rows) for rows in sizes} == sizes


def perfect(width: int) -> Dictionary:
    """A dictionary that gives everything back: each neuron's positive part, and its negative part."""
    both = torch.cat([torch.eye(width), -torch.eye(width)])
    return Dictionary(both, torch.zeros(2 * width), torch.zeros(width), both, torch.zeros(width))


def trained_convnet() -> tuple[nn.Module, Splits]:
    from thalweg import Classifier

    torch.manual_seed(0)
    splits = Splits(blobs(300, seed=1), blobs(100, seed=2), blobs(100, seed=3))
    model = convnet(6)
    Classifier(learning_rate=0.02, most_epochs=6)(model, splits, 0)
    return model, splits


def test_what_is_told_of_a_dictionary():
    model, splits = trained_convnet()
    layer = Layer("0")
    summary = assess(model, layer, perfect(6), splits.pool, evaluate=strength.evaluate)
    assert summary["explained_variance"] == pytest.approx(1)
    assert summary["recovered_from_zero"] == pytest.approx(1)
    assert summary["recovered_from_mean"] == pytest.approx(1)
    assert summary["loss"] == pytest.approx(strength.evaluate(model, splits.pool)["loss"])
    none = replace(perfect(6), bias=torch.full((12,), -1e9))
    summary = assess(model, layer, none, splits.pool, evaluate=strength.evaluate)
    assert summary["dead"] == 1
    assert summary["recovered_from_zero"] == pytest.approx(0)
    with torch.no_grad():
        values = model[0](splits.pool.batch(slice(None))).movedim(1, -1).reshape(-1, 6).double()
    half = replace(perfect(6), decoder=perfect(6).decoder / 2)
    summary = assess(model, layer, half, splits.pool)
    expected = 1 - float((values / 2).square().sum() / (values - values.mean(0)).square().sum())
    assert summary["explained_variance"] == pytest.approx(expected, abs=1e-4)
    with torch.no_grad():
        model[4].weight.zero_()  # now the layer does not matter
    summary = assess(model, layer, half, splits.pool, evaluate=strength.evaluate)
    assert summary["recovered_from_zero"] is None
    counted = assess(identity(), layer, perfect(4), Vectors(values[:600, :4].float()), evaluate=count)
    assert counted["loss"] == 500  # the loss takes long; variance and dead latents are of all


def count(_model: nn.Module, stimuli: Vectors, *, device: str) -> dict[str, float]:
    return {"loss": float(len(stimuli))}


# places: where a model sinks, where it is measured


def planted_sink(count: int, seed: int) -> Vectors:
    """Texts of six places with sparse combinations of directions; at the first two they are a sink's, hundreds and
    tens of times as large, along a direction of its own, and never twice the same.
    """
    generator = torch.Generator().manual_seed(seed)
    values = planted(6 * count, seed)[0].reshape(count, 6, 64)
    size = torch.tensor([300.0, 30.0])[:, None] * (1 + 0.3 * torch.randn(count, 2, 64, generator=generator))
    values[:, :2] = size * torch.linspace(-1, 1, 64)
    return Vectors(values, modality="text")


def test_sinks_are_told_by_their_norm():
    norms = torch.tensor([22_000.0, 35, 1, 2, 1, 1], dtype=torch.float64)
    assert leading_sinks(norms) == 2
    assert leading_sinks(torch.cat([norms[2:], norms[:1]])) == 0  # none of the first; the last is what is measured
    assert leading_sinks(torch.cat([norms[:1], norms[2:], norms[1:2], norms[2:]])) == 1  # no more than the first few
    assert leading_sinks(norms[[0, 2]]) == 1
    assert leading_sinks(norms[:1]) == leading_sinks(norms[:0]) == leading_sinks(torch.full((9,), 7.0).double()) == 0


def test_places_are_left_out_of_what_is_read_at_the_last():
    model, texts = identity(), planted_sink(50, seed=3)
    last = Layer("0", "last", unit_axis=-1)
    by_hand = texts.values.square().sum(2).double().mean(0)
    torch.testing.assert_close(mean_squared_norms(model, last, texts, seed=0, device="cpu"), by_hand, rtol=1e-5, atol=0)

    def skipped(layer: Layer, asked: int | None = None) -> SkippedPlaces:
        return skipped_places(model, layer, texts, asked, seed=0, device="cpu")

    assert (skipped(last).count, skipped(last).places) == (2, 6)
    first, second, *_ = (f"{float(ratio):,.0f}" for ratio in by_hand / by_hand.median())
    assert skipped(last).reason == f"attention sinks: {first}, {second} times the median place's mean squared norm"
    assert skipped(replace(last, skip=2)).count == 0
    assert skipped(replace(last, reduction="max")).count == 0  # there they are measured
    assert skipped(replace(last, reduction="max"), 1) == SkippedPlaces(1, 6, "as asked (--skip-places)")
    assert skipped(last, 0).count == 0
    with pytest.raises(ThalwegError, match=r"'0' has 6 places in a row, and 6 were to be left out.*--skip-places"):
        skipped(last, 6)
    with pytest.raises(ThalwegError, match=r"'1' has no places in a row"):
        skipped_places(network(4), Layer("1"), blobs(20, seed=0), 1, seed=0, device="cpu")


def test_a_dictionary_is_not_of_the_sink(tmp_path: Path):
    texts, lines = planted_sink(2_000, seed=1), []
    subject = Subject("sinking", identity, (Layer("0", "last", unit_axis=-1),), modality="text")
    splits = Splits(texts, planted_sink(300, seed=2), texts)
    recipe = Recipe(128, 4, rows=200 * 256, batch=256, learning_rate=5e-3)
    out = tmp_path / "made"
    with pytest.raises(
        ThalwegError, match=r"explains -\S+ of the variance at the last place.*\(\S+ elsewhere\).*not kept"
    ):
        train_for_subject(subject, splits, "0", out, replace(recipe, skip_places=0))
    assert not any(out.iterdir())  # so the same folder can be given again
    summary = train_for_subject(subject, splits, "0", out, recipe, progress=Said(lines))
    assert lines == [f"2 of 6 places are left out: {summary['skipped_because']}"]
    assert (summary["skipped_places"], summary["measured_places"]) == (2, "last")
    assert summary["explained_variance_measured"] > 0.5
    assert summary["explained_variance_elsewhere"] > 0.5
    assert summary == json.loads((out / "training.json").read_text())
    page = (out / "README.md").read_text()
    assert f"left out at the beginning of each stimulus: 2 ({summary['skipped_because']})" in page
    for name in ("explained_variance", "dead"):
        at_last, elsewhere = (f"{summary[f'{name}_{where}']:.3f}" for where in ("measured", "elsewhere"))
        assert f"{at_last} at the last place, which is measured; {elsewhere} elsewhere" in page
    again = assess(identity(), replace(subject.layers[0], skip=2), layouts.read(out), splits.validation)
    assert again.items() <= summary.items()


def test_a_dictionary_is_assessed_where_it_is_measured_and_elsewhere():
    """Four neurons, of which the last two are silent but at the last place, where the dictionary is half as good."""
    values = torch.randn(40, 5, 4, generator=torch.Generator().manual_seed(0))
    values[:, :-1, 2:] = 0
    dictionary = perfect(4)
    halved = replace(dictionary, decoder=dictionary.decoder * torch.tensor([1.0, 1.0, 0.5, 0.5]).repeat(2)[:, None])
    layer, stimuli = Layer("0", "last", unit_axis=-1), Vectors(values, modality="text")
    summary = assess(identity(), layer, halved, stimuli)
    last = values[:, -1]
    expected = 1 - (last[:, 2:] / 2).square().sum() / (last - last.mean(0)).square().sum()
    assert summary["explained_variance_measured"] == pytest.approx(float(expected), abs=1e-5)
    assert summary["explained_variance_elsewhere"] == pytest.approx(1, abs=1e-5)
    assert (summary["dead_measured"], summary["dead_elsewhere"], summary["dead"]) == (0, 0.5, 0)
    everywhere = assess(identity(), replace(layer, reduction="max"), halved, stimuli)
    assert everywhere["explained_variance"] == pytest.approx(summary["explained_variance"], abs=1e-6)
    assert everywhere["explained_variance_measured"] == everywhere["explained_variance"]
    assert everywhere["explained_variance_elsewhere"] is everywhere["dead_elsewhere"] is None


class Pair(nn.Module):
    """A module that returns two things, as blocks of transformers do."""

    def forward(self, values: Tensor) -> tuple[Tensor, str]:
        return values, "more"


def test_values_are_replaced_where_they_are_measured():
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair, self.after = Pair(), nn.Identity()

        def forward(self, values: Tensor) -> Tensor:
            result, more = self.pair(values)
            assert more == "more"
            return self.after(result)

    model, values = Model(), torch.randn(2, 5, 3)
    for layer in (Layer("pair", unit_axis=-1, skip=2), Layer("after:in", unit_axis=-1, skip=2)):
        with replacing_values(model, layer, lambda rest: 10 * rest):
            result = model(values)
        assert torch.equal(result[:, :2], values[:, :2])
        assert torch.equal(result[:, 2:], 10 * values[:, 2:])
    assert torch.equal(model(values), values)
    with pytest.raises(ThalwegError, match="'pear'; did you mean 'pair'"), replacing_values(model, Layer("pear"), abs):
        pass


def test_the_buffer_is_bounded_and_gives_each_row_once():
    given: list[int] = []

    def source():
        for start in range(0, 100_000, 37):
            given.append(start + 37)
            yield torch.arange(start, start + 37).float()[:, None]

    batches = shuffled(source(), Recipe(batch=16, room=100))
    seen: list[float] = []
    for _ in range(200):
        batch = next(batches)
        assert batch.shape == (16, 1)
        seen += batch.flatten().tolist()
        assert given[-1] - len(seen) <= 100 + 37 + 16
    assert len(set(seen)) == len(seen)
    assert seen != sorted(seen)


@pytest.mark.usefixtures("without_cuda")
def test_a_dictionary_of_a_subject(tmp_path: Path):
    model, splits = trained_convnet()
    subject = Subject("mine", lambda: model)
    recipe = Recipe(24, 3, rows=150 * 128, batch=128, learning_rate=5e-3)
    out = tmp_path / "made"
    summary = train_for_subject(subject, splits, "0", out, recipe, evaluate=strength.evaluate)
    assert summary == json.loads((out / "training.json").read_text())
    assert (summary["neurons"], summary["latents"], summary["stimuli"], summary["held_out"]) == (6, 24, 300, 100)
    assert 0.5 < summary["explained_variance"] <= 1
    assert summary["recovered_from_mean"] > 0.5
    read = layouts.read(out)
    again = assess(model, Layer("0"), read, splits.validation)
    assert again["explained_variance"] == pytest.approx(summary["explained_variance"], abs=1e-6)
    nothing = splits.train.take(slice(0, 0))
    pool_only = Splits(nothing, nothing, splits.pool)
    summary = train_for_subject(subject, pool_only, "0", tmp_path / "pool", recipe)
    assert summary["stimuli"] == summary["held_out"] == 50
    with pytest.raises(ThalwegError, match="layer of the model"):
        train_for_subject(subject, splits, "nine", tmp_path / "none", Recipe())


def test_what_cannot_be_trained_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    train = partial(train_dictionary, identity(), Layer("0"), Vectors(torch.ones(9, 4)), tmp_path)
    with pytest.raises(ThalwegError, match="5 active latents of 4"):
        train(Recipe(4, 5))
    with pytest.raises(ThalwegError, match="33 active latents of 32"):  # eight for each of four neurons
        train(Recipe(k=33))
    with pytest.raises(ThalwegError, match="at least one batch"):
        train(Recipe(4, 1, rows=10, batch=16))
    with pytest.raises(ThalwegError, match=r"training 10,000,000,000 latents of 4 neurons needs .* GB .*\(--latents\)"):
        train(Recipe(10**10, 1))
    monkeypatch.setitem(sys.modules, "sae_lens", None)
    with pytest.raises(ThalwegError, match=r"pip install 'thalweg\[dictionary\]'"):
        train(Recipe(4, 1))


def test_the_example_of_train_dictionary_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With the names that the tutorial on models defines."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 32), nn.ReLU(), nn.Linear(32, 4))
    defined = ModuleType("model")
    defined.subject, defined.images = Subject("corners", lambda: model), blobs(200, seed=0)
    monkeypatch.setitem(sys.modules, "model", defined)
    monkeypatch.chdir(tmp_path)
    run_example(thalweg.train_dictionary)


def test_where_no_dictionary_can_be_written_is_said_before_any_work(tmp_path: Path):
    def never(*_: object) -> nn.Module:
        raise AssertionError("loaded")

    subject = Subject("one", never, (Layer("0"),))
    pool = Vectors(torch.ones(9, 4))
    (tmp_path / "file").write_text("")
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "mine.py").write_text("")
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / "cfg.json").write_text("{}")
    positions = {
        "file": "Not a directory",
        "file/inside": "Not a directory",
        "project": "other files are there already",
    }
    positions |= {"done": "a dictionary is there already", "x" * 300: "File name too long"}
    for index, message in positions.items():
        with pytest.raises(ThalwegError, match=message):
            thalweg.train_dictionary(subject, pool, layer="0", out=tmp_path / index)
    with pytest.raises(ThalwegError, match="5 active latents of 4"):
        thalweg.train_dictionary(subject, pool, layer="0", out=tmp_path / "new", latents=4, k=5)
    with pytest.raises(ThalwegError, match="10 rows are too few"):
        thalweg.train_dictionary(subject, pool, layer="0", out=tmp_path / "new", rows=10)
    assert not (tmp_path / "new").exists()


@pytest.mark.usefixtures("without_cuda")
def test_a_diverging_dictionary_is_told(tmp_path: Path):
    values = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
    values[3] = torch.inf
    with pytest.raises(ThalwegError, match="NaN or infinite"):
        train_dictionary(identity(), Layer("0"), Vectors(values), tmp_path / "d", Recipe(16, 2))
