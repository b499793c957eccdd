"""What observers make of the pool, made once and kept in the cache."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from thalweg.compute import engines as engine
from thalweg.errors import ThalwegError
from thalweg.files.identity import digest, identity
from thalweg.files.names import file_name
from thalweg.files.whole import read_tensors, writable, write_tensors
from thalweg.observers.base import Features, Observer, check_telling, extract_features
from thalweg.observers.embedding import build_view
from thalweg.pipeline.settings import Settings
from thalweg.progress import Stages
from thalweg.stimuli import modalities
from thalweg.stimuli.base import Stimuli

PIECE = 250  # stimuli embedded at once: a fixed number, so that any number of workers gives the same bytes


def embed_pool(pool: Stimuli, observers: tuple[Observer, ...], settings: Settings, stages: Stages) -> dict[str, Path]:
    """Files that hold the observers' feature vectors of the pool, from the cache where it has them."""
    content = pool.content_hash()
    sources = [observer for observer in observers if observer.features]
    files = {
        observer.name: settings.cache.absolute()
        / f"{file_name(observer.name)}-{observer.version}-{digest(_makes(observer, pool), content)}.safetensors"
        for observer in sources
    }
    jobs: list[tuple[Observer, Stimuli]] = []
    for observer in sources:
        if not _whole(files[observer.name]):
            size = PIECE if observer.piecewise else len(pool)
            jobs += [(observer, pool.take(piece)) for piece in torch.arange(len(pool)).split(size)]
    if jobs:
        writable(settings.cache, "--cache")
    parts: dict[str, dict[int, Features]] = {}  # of the observers whose last piece is not there yet
    pieces = Counter(observer.name for observer, _ in jobs)
    with stages("embed", len(jobs)) as advance:
        for index, part in engine.run(_look, jobs, settings.engine_config):
            observer = jobs[index][0]
            mine = parts.setdefault(observer.name, {})
            mine[index] = part
            if len(mine) == pieces[observer.name]:
                _keep_features(observer, parts.pop(observer.name), files[observer.name])
            advance()
    return files


def _keep_features(observer: Observer, parts: dict[int, Features], file: Path) -> None:
    """Write what an observer made of the pool, piece by piece, to one file."""
    ordered = [dict(parts.pop(index)) for index in sorted(parts)]
    seen = {what: _joined([part.pop(what) for part in ordered]) for what in list(ordered[0])}
    check_telling(observer, seen)
    write_tensors(file, seen)


def _joined(parts: list[Tensor]) -> Tensor:
    """Rows of all parts, one after another. The list is emptied on the way: no more than one part is there twice."""
    whole = parts[0].new_empty((sum(map(len, parts)), *parts[0].shape[1:]))
    end = len(whole)
    while parts:
        part = parts.pop()
        whole[end - len(part) : end] = part
        end -= len(part)
    return whole


def write_views(
    pool: Stimuli, observers: tuple[Observer, ...], features: Mapping[str, Path], settings: Settings
) -> dict[str, Path]:
    """Files that hold what each observer answers by, made once: workers map them into memory, where all share them."""
    views = {}
    for observer in observers:
        names = observer.parts or (observer.name,)
        answers_by = [observer.whole, observer.names_classes, *([] if observer.centred else ["not centred"])]
        made_from = digest([features[name].name for name in names], *answers_by, pool.content_hash())
        file = settings.cache.absolute() / f"{file_name(observer.name)}-{observer.version}-view-{made_from}.safetensors"
        views[observer.name] = file
        if not _whole(file, "dictionary"):
            writable(settings.cache, "--cache")
            view = build_view(observer, {name: read_tensors(features[name]) for name in names}, pool)
            kept = {"dictionary": view.dictionary, "embedding": view.embedding}
            write_tensors(file, {what: values for what, values in kept.items() if values is not None})
    return views


def _makes(observer: Observer, pool: Stimuli) -> list[str]:
    """What an observer's vectors are made by: its functions, and what the stimuli and their modality say of them."""
    makers = (observer.features, observer.dictionary, type(pool), modalities.of(pool).low_level)
    return [identity(made_by) for made_by in makers if made_by]


def _look(job: tuple[Observer, Stimuli]) -> Features:
    """What one observer makes of some stimuli."""
    return extract_features(*job)


def _whole(file: Path, what: str = "features") -> bool:
    """Whether a file of the cache can be read and holds this; a damaged one is made again."""
    try:
        return file.is_file() and what in read_tensors(file)
    except ThalwegError:
        return False
