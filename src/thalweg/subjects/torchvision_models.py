"""Classifiers of torchvision, with its weights or a file of the user's own."""

from functools import lru_cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from thalweg.errors import unknown
from thalweg.models.records import Subject
from thalweg.subjects.published_view import PublishedView, architecture_only, family, ready, vision_package
from thalweg.subjects.weights import PICKLED, SAFE, in_checkpoints, misfit, named, put_into, state_in, weights_in

AS_PUBLISHED: dict[str, dict[str, Any]] = {  # what torchvision changes in an architecture when it has weights for it
    "googlenet": {"transform_input": True, "aux_logits": False, "init_weights": True},
    "inception_v3": {"transform_input": True, "aux_logits": False, "init_weights": True},
}
OTHER_FILES = {  # weights for torchvision's architectures that others publish, and where
    "resnet50_l2_eps3.ckpt": "published by Salman et al. 2020, repository madrylab/robust-imagenet-models of the hub",
}


def torchvision(rest: str, *, bare: bool = False) -> Subject:
    """The classifier `NAME[@WEIGHTS]` of torchvision: its default weights, one of its others, or those in a file; with
    `bare`, its architecture without any (likewise below).

    A file (by its path, or its name in torch.hub's folder) is given the preprocessing of the first weights that
    torchvision published for the architecture.

    Raises:
        ThalwegError: no such model or weights, or their file is not on this machine.
    """
    name, at, chosen = rest.partition("@")
    models = vision_package("torchvision").models
    if name not in (known := models.list_models(module=models)):
        raise unknown("classifier of torchvision", name, known)
    published = {entry.name: entry for entry in models.get_model_weights(name)}
    who, in_file = f"torchvision:{rest}", chosen.endswith((SAFE, *PICKLED))
    if not in_file and at and chosen not in ("DEFAULT", *published):
        raise unknown(f"weights of torchvision's {name}", chosen, published)
    if bare:
        weights = published.get(chosen, next(iter(published.values())))
        return architecture_only(
            rest, partial(torchvision_untrained, name, str(weights)), _torchvision_transforms, (str(weights),)
        )
    if in_file:
        weights = next(iter(published.values()))
        file = in_checkpoints(chosen, who=who, source=OTHER_FILES.get(chosen, ""))
        load, notes = _torchvision_from_file, _taken_off(name, str(weights), file, who)
    else:
        weights = published.get(chosen, models.get_model_weights(name).DEFAULT)
        source = f"torchvision fetches it from {weights.url}"
        published_file = {"source": source, "address": weights.url, "said": _size(weights)}
        file, load = in_checkpoints(Path(weights.url).name, who=who, **published_file), _torchvision_published
        notes = ()
    full = str(weights)
    return Subject(
        name=f"{name}@{Path(chosen).name}" if chosen else name,
        load=partial(load, name, full, file, who),
        build=partial(torchvision_untrained, name, full),
        weights=f"torchvision {named(file)}",
        view=PublishedView(_torchvision_transforms, (full,)),
        family=family(name, f"{name} {file.name}"),
        notes=notes,
    )


def _size(weights: Any) -> str:
    """What torchvision says of a file of weights before it is fetched."""
    megabytes = weights.meta.get("_file_size")
    size = f"{megabytes:,.0f} MB" if megabytes else "size not known"
    return f"{size}; torchvision names no licence for its weights, which were trained on {_trained_on(weights)}"


def _trained_on(weights: Any) -> str:
    return "ImageNet" if "IMAGENET" in str(weights) else "data that its page names"


def torchvision_untrained(name: str, weights: str) -> nn.Module:
    """The architecture as torchvision builds it for these weights, newly initialised."""
    models = vision_package("torchvision").models
    classes = len(models.get_weight(weights).meta["categories"])
    model: nn.Module = models.get_model(name, weights=None, num_classes=classes, **AS_PUBLISHED.get(name, {}))
    return ready(model)


def _torchvision_published(name: str, weights: str, file: Path, who: str) -> nn.Module:
    """The model as torchvision's own builder makes it, given the tensors that were read here.

    The builder renames keys (DenseNet's) and drops auxiliary heads, but would unpickle whatever the file holds.
    """
    models = vision_package("torchvision").models
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
    return vision_package("torchvision").models.get_weight(weights).transforms()
