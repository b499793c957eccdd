"""Models of timm."""

from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from torch import nn

from thalweg.errors import ThalwegError, unknown
from thalweg.models.records import Subject
from thalweg.subjects.published_view import PublishedView, architecture_only, family, ready, vision_package
from thalweg.subjects.weights import in_checkpoints, in_hub, misfit, named, state_in


def timm(rest: str, *, bare: bool = False) -> Subject:
    """The model `NAME[.TAG]` of timm with its pretrained weights, those of its default tag unless one is named.

    Raises:
        ThalwegError: no such model or tag, or the weights are not in the cache of huggingface_hub or torch.hub.
    """
    package = vision_package("timm")
    architecture, _, tag = rest.partition(".")
    if not package.is_model(architecture):
        raise unknown("model of timm", architecture, package.list_models())
    if rest not in (tagged := package.list_pretrained(f"{architecture}*")) and tag:
        raise unknown("pretrained model of timm", rest, tagged)
    config = package.get_pretrained_cfg(rest)
    if bare:
        full = f"{architecture}.{config.tag}" if config and config.tag else architecture
        return architecture_only(rest, partial(timm_untrained, full), _timm_transforms, (full,))
    if config is None or not (config.hf_hub_id or config.url):
        raise ThalwegError(f"timm:{rest}: timm has no weights for it; there are: {', '.join(tagged) or 'none'}")
    full = f"{architecture}.{config.tag}" if config.tag else architecture
    file = _timm_file(config, f"timm:{rest}")
    return Subject(
        name=rest,
        load=partial(_timm_published, full, file, f"timm:{rest}"),
        build=partial(timm_untrained, full),
        weights=f"timm {full} {named(file)}",
        view=PublishedView(_timm_transforms, (full,)),
        family=family(architecture, full),
    )


def _timm_file(config: Any, who: str) -> Path:
    """Where timm would find the weights: in huggingface_hub's cache, or else in torch.hub's folder."""
    if config.hf_hub_id:
        files = (config.hf_hub_filename,) if config.hf_hub_filename else ("model.safetensors", "pytorch_model.bin")
        return in_hub(config.hf_hub_id, files, who=who)
    licence = f"size not known, licence {getattr(config, 'license', None) or 'not named by timm'}"
    source = f"timm fetches it from {config.url}"
    return in_checkpoints(Path(config.url).name, who=who, source=source, address=config.url, said=licence)


def timm_untrained(name: str) -> nn.Module:
    """The architecture as timm builds it for these weights, newly initialised."""
    model: nn.Module = vision_package("timm").create_model(name, pretrained=False)
    return ready(model)


def _timm_published(name: str, file: Path, who: str) -> nn.Module:
    """The model as timm's own builder makes it, given the tensors that were read here."""
    state = state_in(file, who=who)
    try:
        model: nn.Module = vision_package("timm").create_model(
            name, pretrained=True, pretrained_cfg_overlay={"state_dict": state}
        )
    except RuntimeError as wrong:
        raise misfit(file, wrong, who=who) from wrong
    return ready(model)


@lru_cache
def _timm_transforms(name: str) -> Any:
    package = vision_package("timm")
    config = package.data.resolve_data_config(pretrained_cfg=package.get_pretrained_cfg(name).to_dict())
    return package.data.create_transform(**config, is_training=False)
