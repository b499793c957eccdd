"""DreamSim, the observer that the published machine interpretability score was made with.

Its package is looked for as any other, its weights in the folder `dreamsim` of torch.hub's, or in `models`, where the
package itself would put them. DINO's architecture is code of another repository, which the package gets through
torch.hub: it lies beside the weights.
"""

import contextlib
import functools
import io
from collections.abc import Generator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from thalweg.downloads.missing import Missing
from thalweg.errors import ThalwegError, reason
from thalweg.files.whole import file_digest
from thalweg.models.loading import quiet
from thalweg.observers.base import Observer, observer_kind
from thalweg.packages import imported
from thalweg.stimuli.base import viewed
from thalweg.stimuli.pictures import Pictures

BATCH = 16
FILES = (  # what the ensemble is read from, as dreamsim 0.2 names it
    "dino_vitb16_pretrain.pth",
    "open_clip_vitb16_pretrain.pth.tar",
    "clip_vitb16_pretrain.pth.tar",
    "ensemble_lora/adapter_config.json",
    "checkpoints/dino_vitbase16_pretrain.pth",
    "facebookresearch_dino_main/hubconf.py",
)
INSTALL = "the observer 'dreamsim' needs its package: pip install 'thalweg[dreamsim]'"


@dataclass(frozen=True)
class DreamSimFiles:
    """The weights of DreamSim's ensemble, as its own package fetches them."""

    folder: Path

    @property
    def what(self) -> str:
        """Its name in messages."""
        return f"DreamSim's ensemble into {self.folder}"

    def about(self) -> str:
        """What is known of it before it is fetched."""
        return (
            "three ViT-B/16, size not known before; licences: DreamSim, CLIP and OpenCLIP MIT, DINO Apache-2.0; code "
            " of the repository facebookresearch/dino is fetched with it, and run"
        )

    def fetch(self) -> None:
        """Let the package fetch it.

        Raises:
            ThalwegError: it could not.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            _made(self.folder)
        except ThalwegError:
            raise
        except Exception as wrong:
            raise ThalwegError(
                f"DreamSim cannot be fetched ({reason(wrong)}); put {FILES[0]} ... into {self.folder}"
            ) from wrong


@dataclass(frozen=True)
class DreamSimFeatures:
    """DreamSim's embedding of pictures."""

    folder: str
    weights: str  # the hash of what it was tuned to

    def __call__(self, stimuli: Pictures) -> Float[Tensor, "stimulus feature"]:
        """Three vision transformers' vectors side by side, less their own mean and at length 1: (stimulus, feature)."""
        model, preprocess = _model(self.folder)
        pictures = viewed(stimuli, lambda picture: preprocess(picture)[0])
        with torch.inference_mode():
            rows = [model.embed(pictures.batch(ids)).float() for ids in torch.arange(len(stimuli)).split(BATCH)]
        return torch.cat(rows)


@functools.lru_cache(maxsize=1)
def _model(folder: str) -> tuple[Any, Any]:
    """The model and its preprocessing."""
    try:
        return _made(Path(folder))
    except ThalwegError:
        raise
    except Exception as wrong:
        raise ThalwegError(f"observer 'dreamsim': {folder} cannot be read by its package ({reason(wrong)})") from wrong


def _made(folder: Path) -> tuple[Any, Any]:
    """What the package makes of a folder; what is not there it fetches."""
    library: Any = imported("dreamsim", said=INSTALL)
    with _hub_kept(), quiet(), contextlib.redirect_stdout(io.StringIO()):
        made: tuple[Any, Any] = library.dreamsim(pretrained=True, device="cpu", cache_dir=str(folder))
    return made


@contextlib.contextmanager
def _hub_kept() -> Generator[None]:
    """torch.hub's folder stays what it was: the package sets its own."""
    before = torch.hub.get_dir()
    try:
        yield
    finally:
        torch.hub.set_dir(before)


@observer_kind("dreamsim", form="dreamsim")
def dreamsim(rest: str) -> Observer:
    """Pictures by DreamSim, whose similarity the published machine interpretability score uses.

    Raises:
        Missing: its weights are not on this machine.
        ThalwegError: its package is not installed.
    """
    if rest:
        raise ThalwegError(f"observer 'dreamsim' takes nothing after its name, and {rest!r} was given")
    if find_spec("dreamsim") is None:
        raise ThalwegError(INSTALL)
    usual, own = Path(torch.hub.get_dir()) / "dreamsim", Path("models")
    folder = own if not _lacking(own) else usual
    if lacking := _lacking(folder):
        raise Missing(
            f"observer 'dreamsim': {', '.join(lacking)} missing in {usual}; what its package puts into the folder "
            "`models` on a machine with a network belongs there",
            [DreamSimFiles(usual)],
        )
    adapter = next(iter(sorted((folder / "ensemble_lora").glob("adapter_model.*"))), folder / FILES[0])
    return Observer(
        name="dreamsim",
        version=1,
        features=DreamSimFeatures(str(folder.absolute()), file_digest(adapter)),
        piecewise=True,
        modality="image",
        family="clip/dreamsim",
        centred=False,
        description=(
            "How alike two pictures look to people: DreamSim's ensemble of DINO, CLIP and OpenCLIP (Fu et al. 2023). "
            "It compares by its own cosine, not centred over the stimuli, so that `mis` by it is the published score."
        ),
    )


def _lacking(folder: Path) -> list[str]:
    """The files of the ensemble that a folder lacks."""
    return [name for name in FILES if not (folder / name).is_file()]
