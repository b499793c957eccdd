"""Image towers of open_clip's models."""

from collections.abc import Mapping
from functools import lru_cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

from torch import nn

from thalweg.errors import ThalwegError, unknown
from thalweg.models.records import Subject
from thalweg.subjects.published_view import PublishedView, architecture_only, family, ready, vision_package
from thalweg.subjects.weights import in_hub, misfit, named, state_in


def open_clip(rest: str, *, bare: bool = False) -> Subject:
    """The image tower of the CLIP model `NAME@TAG` of open_clip.

    Raises:
        ThalwegError: no such model or tag, or the weights are not in huggingface_hub's cache.
    """
    package = vision_package("open_clip")
    name, _, tag = rest.partition("@")
    if name not in (known := package.list_models()):
        raise unknown("model of open_clip", name, known)
    tags = package.list_pretrained_tags_by_model(name)
    if tag not in tags:
        raise unknown(f"weights of open_clip's {name}", tag, tags)
    if bare:
        return architecture_only(rest, partial(open_clip_untrained, name, tag), _open_clip_transforms, (name, tag))
    repository = package.get_pretrained_cfg(name, tag).get("hf_hub", "").strip("/")
    if not repository:
        raise ThalwegError(f"open-clip:{rest}: open_clip names no repository of a hub for it; choose another tag")
    names = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
    file = in_hub(repository, names, who=f"open-clip:{rest}")
    return Subject(
        name=rest,
        load=partial(_open_clip_published, name, tag, file, f"open-clip:{rest}"),
        build=partial(open_clip_untrained, name, tag),
        weights=f"open_clip {rest} {named(file)}",
        view=PublishedView(_open_clip_transforms, (name, tag)),
        family=family("clip", rest),
    )


def _open_clip_model(name: str, tag: str) -> nn.Module:
    package = vision_package("open_clip")
    quick = bool(package.get_pretrained_cfg(name, tag).get("quick_gelu", False))
    model: nn.Module = package.create_model(name, pretrained=None, force_quick_gelu=quick)
    return model


def open_clip_untrained(name: str, tag: str) -> nn.Module:
    """The image tower as open_clip builds it for these weights, newly initialised."""
    tower: nn.Module = _open_clip_model(name, tag).get_submodule("visual")
    return ready(tower)


def _open_clip_published(name: str, tag: str, file: Path, who: str) -> nn.Module:
    """The image tower of a model into which open_clip's own loader puts the tensors that were read here."""
    model, state = _open_clip_model(name, tag), state_in(file, who=who)
    factory = import_module("open_clip.factory")
    with patch.object(factory, "load_state_dict", lambda *_, **__: state):
        try:
            factory.load_checkpoint(model, str(file), strict=True)
        except RuntimeError as wrong:
            raise misfit(file, wrong, who=who) from wrong
    return ready(model.get_submodule("visual"))


@lru_cache
def _open_clip_transforms(name: str, tag: str) -> Any:
    package = vision_package("open_clip")
    config: Mapping[str, Any] = package.get_pretrained_cfg(name, tag)
    size = package.get_model_config(name)["vision_cfg"]["image_size"]
    settings = {key: config[key] for key in ("mean", "std", "interpolation", "resize_mode")}
    return package.image_transform(size, is_train=False, **settings)
