"""What a worker reads once: the observers' views of the pool, and the metadata of its stimuli."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from thalweg.files import whole
from thalweg.observers.base import Observer
from thalweg.observers.embedding import ObserverView
from thalweg.pipeline.job import Model
from thalweg.scoring.units import ObserverOnPool, StimulusMetadata, stimulus_metadata
from thalweg.stimuli.base import Stimuli


def views_of_pool(model: Model, pool: Stimuli) -> tuple[list[ObserverOnPool], StimulusMetadata]:
    """The observers with their views of the pool, and the metadata of its stimuli."""
    files = tuple(model.views[observer.name] for observer in model.observers)
    return _views(model.observers, files, model.features["trivial"], _Once(pool, model.data_hash))


@dataclass(frozen=True, eq=False)
class _Once:
    """A pool that counts as equal to another of the same content, so that what is made of it can be kept."""

    pool: Stimuli
    content: str

    def __hash__(self) -> int:
        return hash(self.content)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Once) and other.content == self.content


@lru_cache(maxsize=2)
def _views(
    observers: tuple[Observer, ...], files: tuple[Path, ...], statistics: Path, once: _Once
) -> tuple[list[ObserverOnPool], StimulusMetadata]:
    """Read once in each worker process, by mapping the files into memory, which all processes share."""
    views = [whole.read_tensors(file) for file in files]
    on_pool = [
        ObserverOnPool(observer, ObserverView(view.get("embedding"), view["dictionary"]))
        for observer, view in zip(observers, views, strict=True)
    ]
    return on_pool, stimulus_metadata(once.pool, whole.read_tensors(statistics)["features"])
