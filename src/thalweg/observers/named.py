"""Observers by name: any published network that a subject's name can find, as an observer.

`timm:NAME`, `torchvision:NAME[@WEIGHTS]` and `open-clip:NAME@TAG` see pictures by the last features of that network,
`hf:ENCODER` windows of text by a sentence encoder. Names, files and families are those of subjects: a network is found
where its library keeps it, and one that shares its weights with a model that it would judge is refused. All compare
stimuli by the centred cosine of these features, which are also the dictionary that the single best is chosen from.
"""

import functools
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from thalweg import subjects
from thalweg.errors import ThalwegError, reason
from thalweg.models.loading import loaded, weights_of
from thalweg.observers.base import Observer, observer_kind
from thalweg.packages import imported
from thalweg.stimuli.base import viewed
from thalweg.stimuli.pictures import Pictures
from thalweg.stimuli.windows import Windows
from thalweg.strength.probe import last_features
from thalweg.subjects import checkpoints

BATCH = 16  # pictures at once: networks at 224 pixels need much memory for each
INSTALL = "an observer hf:ENCODER needs sentence-transformers: pip install 'thalweg[text]'"
TEXTS = 64  # windows at once, as for the encoder of `sentence`


@dataclass(frozen=True)
class NetworkFeatures:
    """The last features of a published vision network, found anew in each process by its subject's name."""

    subject: str
    weights: str  # which weights these were when the observer was made: other ones give other features

    def __call__(self, stimuli: Pictures) -> Float[Tensor, "stimulus feature"]:
        """What the network makes its output of: (stimulus, feature)."""
        network, view = _network(self.subject, self.weights)
        pictures = viewed(stimuli, view)
        rows = []
        with torch.inference_mode(), last_features(network) as seen:
            for ids in torch.arange(len(stimuli)).split(BATCH):
                network(pictures.batch(ids))
                if "features" not in seen:
                    raise ThalwegError(f"observer {self.subject!r}: the network returned no features")
                rows.append(seen.pop("features").float().flatten(1))
        return torch.cat(rows)


@functools.lru_cache(maxsize=2)
def _network(subject: str, _weights: str) -> tuple[Any, Any]:
    """A network and its preprocessing."""
    found = subjects.find(subject)
    return loaded(found), found.view


def _of_pictures(kind: str, rest: str) -> Observer:
    """The observer that sees with the published vision model of this name."""
    name = f"{kind}:{rest}"
    found = subjects.find(name)
    weights = weights_of(found)
    return Observer(
        name=name,
        version=1,
        features=NetworkFeatures(name, weights),
        piecewise=True,
        modality="image",
        family=found.family,
        description=(
            f"The last features of the network {name}, of which it makes its output; they are its dictionary too. "
            f"Weights: {weights}."
        ),
    )


@observer_kind("timm", form="timm:NAME")
def timm(rest: str) -> Observer:
    """Pictures by the last features of a network of timm."""
    return _of_pictures("timm", rest)


@observer_kind("torchvision", form="torchvision:NAME[@WEIGHTS]")
def torchvision(rest: str) -> Observer:
    """Pictures by the last features of a network of torchvision."""
    return _of_pictures("torchvision", rest)


@observer_kind("open-clip", form="open-clip:NAME@TAG")
def open_clip(rest: str) -> Observer:
    """Pictures by the image tower of a CLIP model of open_clip."""
    return _of_pictures("open-clip", rest)


@dataclass(frozen=True)
class SentenceFeatures:
    """The vectors of a sentence encoder in a folder."""

    folder: str
    weights: str

    def __call__(self, stimuli: Windows) -> Float[Tensor, "stimulus feature"]:
        """The encoder's vector of each window's text: (stimulus, feature)."""
        encoder = _encoder(self.folder, self.weights)
        encoded: Tensor = encoder.encode(
            stimuli.texts(), batch_size=TEXTS, show_progress_bar=False, convert_to_tensor=True
        )
        return encoded.detach().cpu().float().clone()  # a tensor of inference mode can't be changed in place


@functools.lru_cache(maxsize=2)
def _encoder(folder: str, _weights: str) -> Any:
    """The sentence encoder in a folder, on the CPU."""
    library: Any = imported("sentence_transformers", said=INSTALL)
    try:
        return library.SentenceTransformer(folder, device="cpu", local_files_only=True)
    except Exception as wrong:
        raise ThalwegError(
            f"{folder}: no sentence encoder can be made of it ({reason(wrong)}); a model that sentence-transformers "
            "loads was expected"
        ) from wrong


@observer_kind("hf", form="hf:ENCODER")
def sentence_encoder(rest: str) -> Observer:
    """Windows of text by a sentence encoder that sentence-transformers loads, from the hub or a folder.

    Raises:
        Missing: its files are not on this machine.
        ThalwegError: its library is not installed.
    """
    if find_spec("sentence_transformers") is None:
        raise ThalwegError(INSTALL)
    checkpoint = checkpoints.named(rest)
    folder = checkpoints.located(checkpoint)
    weights = checkpoints.weights(checkpoint)
    return Observer(
        name=f"hf:{rest}",
        version=1,
        features=SentenceFeatures(str(folder.absolute()), weights),
        piecewise=True,
        modality="text",
        family=checkpoints.family(checkpoint),
        description=(
            f"What a window says, by the sentence encoder {rest}. Its dictionary is the encoder's features. Weights: "
            f"{weights}."
        ),
    )
