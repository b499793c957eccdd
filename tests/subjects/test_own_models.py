"""Models that users bring: what they return, what their views give, what cannot be measured and is said to be so."""

import gc
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from support.tiny import blobs
from thalweg import Images, Layer, Subject, ThalwegError, subjects
from thalweg.models import layers as models_layers
from thalweg.models.hooks import answer_in
from thalweg.models.layers import layers_left_out, matching_layers
from thalweg.models.loading import loaded, quiet
from thalweg.packages import prepare_torchvision
from thalweg.pipeline.one_model import layers_and_others, layers_of
from thalweg.recording.record import record
from thalweg.recording.settings import RecordingSettings
from thalweg.strength.probe import last_features, probe
from thalweg.strength.published import published
from thalweg.subjects import find, own
from thalweg.subjects.checkpoints import Checkpoint, check_causal
from thalweg.subjects.weights import put_into, weights_in


@dataclass
class Answer:
    """What some models return."""

    hidden: Tensor
    logits: Tensor


class Returning(nn.Module):
    """A classifier that returns its logits in some wrapping."""

    def __init__(self, wrap: Callable[[Tensor, Tensor], object]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head, self.wrap = nn.Conv2d(1, 8, 5), nn.Linear(8, 4), wrap

    def forward(self, images: Tensor) -> object:
        features = self.conv(images).relu().amax((2, 3))
        return self.wrap(features, self.head(features))


def plain(_features: Tensor, logits: Tensor) -> Tensor:
    return logits


@pytest.mark.parametrize(
    "wrap",
    [
        lambda features, logits: {"features": features, "logits": logits},
        lambda features, logits: Answer(features, logits),
        lambda features, logits: (logits, features),
        lambda features, logits: [[None, logits], features],
    ],
)
def test_strength_is_that_of_the_logits_however_they_are_returned(wrap: Callable[[Tensor, Tensor], object]) -> None:
    images = blobs(80, seed=0)
    expected = published(Returning(plain), images)
    assert expected["probe"] is not None
    assert published(Returning(wrap), images) == expected


@pytest.mark.parametrize("answer", [None, "text", {}, (), [None]])
def test_a_model_that_returns_no_tensor_has_no_strength_and_is_measured_all_the_same(answer: object) -> None:
    assert answer_in(answer) is None
    message = published(Returning(lambda *_: answer), blobs(80, seed=0))
    assert message["accuracy"] is None
    assert message["probe"] is None
    assert "no tensor with a row of features" in str(message["probe_note"])


def test_a_map_of_channels_is_probed_by_its_mean_over_places(generator: torch.Generator) -> None:
    labels = torch.arange(4).repeat(40)
    maps = nn.functional.one_hot(labels, 4).float()[:, :, None, None].repeat(1, 1, 5, 7)
    maps += 0.05 * torch.randn(maps.shape, generator=generator)
    order = torch.randperm(160, generator=generator)
    with last_features(nn.Identity()) as headless:
        pass
    trunk = nn.Identity()
    with last_features(trunk) as headless:
        trunk(maps)
    torch.testing.assert_close(headless["features"], maps.mean((2, 3)))
    assert probe(headless["features"], labels, order[:80], order[80:]) == (1.0, "")


# What a view gives


def tensor(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(picture.convert("L"), np.float32)[None] / 255)


@pytest.mark.parametrize(
    "view",
    [
        lambda picture: tensor(picture).numpy(),
        lambda picture: tensor(picture)[None],
        lambda picture: {"pixel_values": tensor(picture)[None]},
        lambda picture: {"pixel_values": [tensor(picture).numpy()]},
    ],
)
def test_arrays_and_what_processors_return_are_taken(view: Callable[[Image.Image], object]) -> None:
    images = blobs(4, seed=0)
    assert torch.equal(images.viewed(view).batch(slice(None)), images.viewed(tensor).batch(slice(None)))


def fails(picture: Image.Image) -> Tensor:
    raise KeyError("size")


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (lambda picture: picture, r"gives an object of type Image .*tensor \(channel, height, width\).*ToTensor"),
        (lambda picture: None, "gives an object of type NoneType"),
        (fails, r"view` failed with KeyError: 'size' \(test_own_models.py, line \d+\)"),
    ],
)
def test_a_view_that_gives_something_else_is_named(view: Callable[[Image.Image], object], message: str) -> None:
    with pytest.raises(ThalwegError, match=message):
        blobs(2, seed=0).viewed(view).batch(slice(None))


def test_a_view_must_give_one_size() -> None:
    widths = iter((5, 7))
    with pytest.raises(ThalwegError, match=r"\(1, 3, 5\) and \(1, 3, 7\), of two pictures.*crop"):
        blobs(2, seed=0).viewed(lambda picture: torch.zeros(1, 3, next(widths))).batch(slice(None))


# What cannot be measured, or not as it is


def missing() -> nn.Module:
    torch.load("/nowhere/mine.pt")
    return nn.Identity()


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (missing, r"`load` of subject 'mine' failed with FileNotFoundError: .*/nowhere/mine.pt' \(test_own_models.py"),
        (
            lambda: nn.Linear(2, 2).state_dict(),
            "OrderedDict; a torch.nn.Module was expected; put the weights",
        ),
        (lambda: None, "returned None"),
        (lambda: nn.Sequential(nn.LazyLinear(3)), r"have no weights yet.*lazy: 0\); run it once"),
        (lambda: torch.jit.script(nn.Linear(2, 2)), "TorchScript.*return the Python module"),
    ],
)
def test_what_load_returns_must_be_a_model(load: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ThalwegError, match=message):
        loaded(Subject("mine", load))


class Compiled(nn.Module):
    """As torch.compile wraps a module, without the seconds that its import takes."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self._orig_mod = inner


def test_what_compiles_or_spreads_a_model_is_taken_off() -> None:
    inner = nn.Sequential(nn.Linear(2, 3), Compiled(nn.Linear(3, 2)))
    model = loaded(Subject("mine", lambda: nn.DataParallel(Compiled(inner))))
    assert [name for name, _ in model.named_modules()] == ["", "0", "1"]


def test_libraries_speak_of_themselves_in_vain(recwarn: pytest.WarningsRecorder) -> None:
    gc.collect()  # what earlier tests left behind may warn as it goes
    recwarn.clear()
    loaded(Subject("mine", lambda: nn.Sequential(torch.nn.utils.weight_norm(nn.Linear(2, 2)))))
    assert not recwarn.list
    with pytest.warns(UserWarning, match="mine"):
        warn_quietly()


def warn_quietly() -> None:
    with quiet():
        warnings.warn("mine", UserWarning, stacklevel=1)


class ByName(Returning):
    """As models of transformers may be called, but in no other way."""

    def forward(self, *, pixel_values: Tensor) -> object:
        return super().forward(pixel_values)


class One(Returning):
    """A model of one picture at a time."""

    def forward(self, images: Tensor) -> object:
        if len(images) > 1:
            raise ValueError("one at a time")
        return super().forward(images)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ByName(plain), r"forward takes 'pixel_values' by name alone"),
        (One(plain), r"one at a time\) \(test_own_models.py, line \d+\); it takes one stimulus at a time"),
    ],
)
def test_what_is_behind_a_failing_model_is_said(model: nn.Module, message: str) -> None:
    with pytest.raises(ThalwegError, match=message):
        layers_of(Subject("mine", lambda: model), model, blobs(2, seed=0).batch(slice(None)))


@pytest.mark.parametrize("view", [None, lambda picture: torch.from_numpy(np.array(picture)).movedim(-1, 0) / 255])
def test_a_model_of_small_pictures_is_told_which_it_was_given(view: Callable[[Image.Image], Tensor] | None) -> None:
    subject = Subject("mine", lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 8)), view=view)
    message = r"given pictures of 224 x 224 in three colours.*\(256 x 256 before a `view`\): give the subject a `view`"
    with pytest.raises(ThalwegError, match=message):
        layers_and_others(subject)


def test_whole_numbers_from_a_view_are_named() -> None:
    bytes_ = torch.zeros(2, 1, 12, 12, dtype=torch.uint8)
    with pytest.raises(ThalwegError, match=r"of torch.uint8.*the `view` gives whole numbers"):
        models_layers.discover_layers(Returning(plain), bytes_)


class Custom(nn.Module):
    """A layer of one's own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 144))

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weight.T


def test_a_model_without_known_layers_says_what_it_has_and_how_to_name_it() -> None:
    model = nn.Sequential(Custom())
    batch = blobs(2, seed=0).batch(slice(None))
    with pytest.raises(ThalwegError, match=r"0 is of a class \(Custom\).*layers=\(thalweg.Layer\(NAME, unit_axis=1\)"):
        layers_of(Subject("mine", lambda: model), model, batch)
    named = Subject("mine", lambda: model, layers=(Layer("0", unit_axis=1),))
    assert [tap.units for tap in layers_of(named, model, batch)] == [4]


class Kinds(nn.Module):
    """Modules with weights that are no layers."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.LSTM(12, 6, batch_first=True)
        self.attends = nn.MultiheadAttention(6, 2, batch_first=True)
        self.norm, self.head = nn.LayerNorm(6), nn.Linear(6, 3)
        self.packed = torch.ao.nn.quantized.dynamic.Linear(3, 4)
        self.complex = nn.Linear(4, 2, dtype=torch.cfloat)

    def forward(self, images: Tensor) -> Tensor:
        states, _ = self.steps(images[:, 0])
        attended, _ = self.attends(states, states, states)
        return self.complex(self.packed(self.head(self.norm(attended)[:, -1])).to(torch.cfloat)).abs()


def test_every_module_with_weights_is_a_layer_or_left_out_with_the_reason() -> None:
    with quiet():
        model, batch = Kinds(), blobs(2, seed=0).batch(slice(None))
    assert [tap.layer.name for tap in models_layers.discover_layers(model, batch)] == ["head"]
    reasons = layers_left_out(model, batch)
    assert set(reasons) == {"steps", "attends", "attends.out_proj", "packed", "complex"}
    assert reasons["steps"].startswith("is recurrent (LSTM)")
    assert reasons["attends"].startswith("is an attention (MultiheadAttention)")
    assert reasons["packed"].startswith("is quantised (Linear)")
    assert reasons["complex"] == "gave complex numbers, and a unit has one real value"


class OddNames(nn.Module):
    """Modules whose names mean something to patterns and to layers' names."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({"a:b": nn.Conv2d(1, 3, 3), "x[1]": nn.Conv2d(3, 4, 3), "y*": nn.Conv2d(4, 5, 3)})
        self.last = nn.ModuleDict({"end:in": nn.Linear(5, 2)})

    def forward(self, images: Tensor) -> Tensor:
        for part in self.parts.values():
            images = part(images)
        return self.last["end:in"](images.amax((2, 3)))


@pytest.mark.parametrize(("name", "units"), [("parts.a:b", 3), ("parts.x[1]", 4), ("parts.y*", 5), ("last.end:in", 2)])
def test_an_exact_name_always_fits(name: str, units: int) -> None:
    model, stimuli = OddNames(), blobs(8, seed=0)
    result = models_layers.discover_layers(model, stimuli.batch(slice(0, 2)))
    (tap,) = matching_layers(result, [name])
    assert (tap.layer.name, tap.units) == (name, units)
    recording = record(model, [tap.layer], stimuli, torch.arange(8), RecordingSettings(k=2, sample=4))
    assert len(recording[name, "neurons"].count) == units
    given = record(
        model, [Layer(f"{name}:in", unit_axis=1)], stimuli, torch.arange(8), RecordingSettings(k=2, sample=4)
    )
    assert (f"{name}:in", "neurons") in given


def test_weights_in_other_precisions_are_cast_before_layers_are_sought() -> None:
    assert published(Returning(plain).bfloat16(), blobs(80, seed=0))["accuracy"] is not None
    recordings = record(
        Returning(plain).double(), [Layer("conv")], Images(*_few()), torch.arange(8), RecordingSettings(k=2, sample=4)
    )
    assert recordings["conv", "neurons"].nonfinite.sum() == 0


def _few() -> tuple[Tensor, Tensor, tuple[str, ...]]:
    part = blobs(8, seed=0)
    return part.pixels, part.labels, part.label_names


# Language models


class Tokens:
    """As a tokenizer of transformers is: it can be called."""

    def encode(self, text: str) -> list[int]:
        return [0]

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": [0]}


def test_a_tokenizer_in_place_of_a_function_that_returns_it_is_refused() -> None:
    tokenizer: Any = Tokens()
    with pytest.raises(ThalwegError, match=r"'mine': `tokenizer` is a tokenizer \(Tokens\); .*lambda: tokenizer$"):
        Subject("mine", nn.Identity, modality="text", tokenizer=tokenizer)
    Subject("mine", nn.Identity, modality="text", tokenizer=lambda: tokenizer)


def test_a_hook_point_of_transformer_lens_is_a_layer() -> None:
    prepare_torchvision()
    with quiet():
        from transformer_lens import HookedTransformer, HookedTransformerConfig

        config = HookedTransformerConfig(
            n_layers=1, d_model=8, n_ctx=8, d_head=4, n_heads=2, d_mlp=12, d_vocab=16, act_fn="gelu", device="cpu"
        )
    layer = Layer("blocks.0.mlp.hook_pre", unit_axis=2, reduction="last")
    subject = Subject("lens", lambda: HookedTransformer(config), layers=(layer,), modality="text")
    (tap,), _ = layers_and_others(subject)
    assert (tap.layer.name, tap.units) == ("blocks.0.mlp.hook_pre", 12)


@pytest.mark.parametrize("find_it", [subjects.find, subjects.architecture])
def test_what_is_no_causal_language_model_is_named(tmp_path: Path, find_it: Callable[[str], Subject]) -> None:
    config = {"architectures": ["ViTForImageClassification"], "model_type": "vit"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    message = r"config.json: names the architecture ViTForImageClassification, and hf: takes causal .*of your own"
    with pytest.raises(ThalwegError, match=message):
        find_it(f"hf:{tmp_path}")


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"},
        {"architectures": ["NewForCausalLM"], "model_type": "new"},
        {"architectures": ["NewModel"], "model_type": "new", "auto_map": {"AutoModelForCausalLM": "code.NewModel"}},
        {"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3"},  # pictures and text
    ],
)
def test_what_may_be_a_causal_language_model_is_looked_into(tmp_path: Path, config: dict[str, Any]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    check_causal(Checkpoint(str(tmp_path)))


# The file of a user's own


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import thalweg\n\nsubject = (", r"mine.py: line 3 cannot be read \(SyntaxError"),
        ("import no_such_package_at_all", r"cannot be run \(ModuleNotFoundError.*\) \(mine.py, line 1\)"),
        ("subject = 7", "subject is int; a thalweg.Subject was expected"),
        ("other = 7", "no subject in .* is called 'subject'"),
        ("def subject():\n    return {}['x']", r"failed with KeyError: 'x' \(mine.py, line 2\)"),
    ],
)
def test_what_is_wrong_in_a_users_file_is_said_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(ThalwegError, match=message):
        find(f"{tmp_path / 'mine.py'}:subject")


@pytest.mark.parametrize("name", ["random", "torch"])
def test_a_file_with_the_name_of_a_library_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.py").write_text("")
    with pytest.raises(ThalwegError, match=f"has the name of the module '{name}'"):
        find(f"{tmp_path / name}.py:subject")


def test_what_is_installed_is_asked_only_of_a_name_that_is_found_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "quick_model.py").write_text(
        "import thalweg\nfrom torch import nn\nx = thalweg.Subject('x', nn.Identity)"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(own, "packages_distributions", lambda: pytest.fail("it takes seconds"))
    assert find("quick_model.py:x").name == "x"


# Checkpoints


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 2))


STATE = network().state_dict()


def beginning(text: str) -> dict[str, Tensor]:
    return {text + name: tensor for name, tensor in STATE.items()}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (STATE, ""),
        (
            {"epoch": 3, "model_state_dict": STATE, "optimizer_state_dict": {"state": {0: {"exp": torch.ones(2)}}}},
            "model",
        ),
        ({"net": STATE}, "'net'"),
        ({"params": STATE}, "'params'"),
        ({"state_dict_ema": STATE}, "'state_dict_ema'"),
        ({"state_dict": STATE, "state_dict_ema": beginning("")}, "'state_dict'"),
        ({"state_dict": {**beginning("model."), "loss.weight": torch.ones(4)}, "epoch": 1}, "without 'model.'"),
        (beginning("_orig_mod."), "without '_orig_mod.'"),
        (beginning("module._orig_mod."), "'module.' and '_orig_mod.'"),
        (beginning("_orig_mod.module."), "'module.' and '_orig_mod.'"),
        ({"model": {**beginning("module.model."), **beginning("module.attacker.model.")}}, "'module.model.'"),
        (beginning("student.trunk."), "without 'student.trunk.'"),
    ],
)
def test_what_training_wraps_around_weights_is_taken_off_and_said(
    content: object, message: str, tmp_path: Path
) -> None:
    torch.save(content, tmp_path / "w.pt")
    read = weights_in(tmp_path / "w.pt", who="mine", expected=STATE.keys())
    assert read.state.keys() == STATE.keys()
    assert all(torch.equal(read.state[name], tensor) for name, tensor in STATE.items())
    assert message in read.taken
    assert bool(message) == bool(read.taken)


def test_two_sets_of_weights_in_one_file_are_refused(tmp_path: Path) -> None:
    other = {f"teacher.{name}": tensor + 1 for name, tensor in STATE.items()}
    torch.save({**beginning("student."), **other}, tmp_path / "w.pt")
    with pytest.raises(ThalwegError, match=r"two sets of weights that fit, 'student.' and 'teacher.'"):
        weights_in(tmp_path / "w.pt", who="mine", expected=STATE.keys())


def test_files_that_are_no_weights_are_told_apart(tmp_path: Path) -> None:
    file = tmp_path / "w.pt"
    torch.save(network(), file)
    with pytest.raises(ThalwegError, match=r"holds Python objects \(torch.nn.modules.container.Sequential\)") as whole:
        weights_in(file, who="mine")
    assert "weights_only" not in str(whole.value)
    torch.save(STATE, file)
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(ThalwegError, match=r"damaged or was cut short \(it has [\d,]+ bytes\)"):
        weights_in(file, who="mine")
    file.write_bytes(b"<html>not found</html>")
    with pytest.raises(ThalwegError, match=r"no file of torch.save, or is damaged"):
        weights_in(file, who="mine")


def test_weights_of_another_shape_name_the_tensor_and_both_shapes(tmp_path: Path) -> None:
    narrow = {**STATE, "3.weight": torch.ones(5, 3)}
    with pytest.raises(ThalwegError, match=r"3.weight has the shape \[5, 3\], \[2, 3\] was expected"):
        put_into(network(), narrow, tmp_path / "w.pt", who="mine")


# What `layers` lists


def test_layers_are_listed_without_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    subject = subjects.architecture("torchvision:squeezenet1_1")
    assert "without its weights" in subject.notes[0]
    layers, others = layers_and_others(subject)
    assert len(layers) == 26
    assert others == []
    with pytest.raises(ThalwegError, match="no classifier of torchvision"):
        subjects.architecture("torchvision:squeezenet9")
    for mistaken in ("", "IMAGENET1K_V9"):  # weights that there are not are none that are missing
        with pytest.raises(ThalwegError, match=f"no weights of torchvision's squeezenet1_1 is called '{mistaken}'"):
            subjects.architecture(f"torchvision:squeezenet1_1@{mistaken}")


def test_what_is_left_out_is_listed_by_its_reason() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 6), *[Custom6() for _ in range(7)])
    _, others = layers_and_others(Subject("mine", lambda: model, view=lambda _: torch.zeros(1, 12, 12)))
    assert others == ["left out: 2, 3, 4, 5, 6 and 2 more: is of a class (Custom6) that is not known to hold units"]


class Custom6(nn.Module):
    """A layer of one's own that keeps its width."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(6))

    def forward(self, values: Tensor) -> Tensor:
        return values @ self.weight


def test_a_file_named_from_one_folder_is_found_from_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "weights").mkdir()
    for file in ("tiny.gguf", "weights/net.pth", "mine.py", "resnet18"):
        (tmp_path / file).touch()
    monkeypatch.chdir(tmp_path)
    told = {
        "hf:tiny.gguf": f"hf:{tmp_path}/tiny.gguf",
        "hf:weights": f"hf:{tmp_path}/weights",
        "mine.py:subject": f"{tmp_path}/mine.py:subject",
        "torchvision:resnet18@weights/net.pth": f"torchvision:resnet18@{tmp_path}/weights/net.pth",
    }
    assert {name: subjects.anywhere(name) for name in told} == told
    assert {subjects.anywhere(name) for name in told.values()} == set(told.values())
    published = ("hf:gpt2", "hf:google/gemma@main", "torchvision:resnet18", "torchvision:resnet18@DEFAULT", "timm:net")
    assert [subjects.anywhere(name) for name in published] == list(published)
