"""Loading a model that its user described: what `load` and `build` return is checked before anything is done with it.

Anything that cannot be measured is refused here, in a sentence that says what to return instead. Meanwhile the notices
of libraries about their own future (deprecations, experimental features) are kept off the screen, because none of them
is about the model.
"""

import json
import logging
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from thalweg.errors import ThalwegError, user_code
from thalweg.models.records import Subject

LIBRARIES = r"(torch|torchvision|timm|transformers|open_clip|huggingface_hub|peft|efficientnet_lite\w*)(\.|$)"
COMPILED = "_orig_mod"  # where torch.compile keeps the module that it wraps
NAMED = 3  # modules that a message names


@contextmanager
def quiet() -> Generator[None]:
    """Without the notices of libraries about themselves, as long as the context lasts."""
    before = logging.root.manager.disable
    with warnings.catch_warnings():
        for category in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", category)
        warnings.filterwarnings("ignore", category=UserWarning, module=LIBRARIES)
        logging.disable(logging.WARNING)  # open_clip and torch's compiler write to logs, which end up on the screen
        try:
            yield
        finally:
            logging.disable(before)


def loaded(subject: Subject) -> nn.Module:
    """The model with its weights, not in training mode.

    Raises:
        ThalwegError: `load` failed, or returned what cannot be measured.
    """
    return _made(subject.load, f"the function `load` of subject {subject.name!r}")


def built(build: Callable[[], nn.Module], rung: str) -> nn.Module:
    """The model of a rung as it is built, untrained.

    Raises:
        ThalwegError: `build` failed, or returned what cannot be measured.
    """
    return _made(build, f"the function `build` of {rung!r}")


def printed(network: nn.Module) -> str:
    """A network as it is printed, with the configuration that models of transformers carry: modules do not print all of
    it. Where it was read from, and by which release, is no part of it.
    """
    to_dict = getattr(getattr(network, "config", None), "to_dict", None)
    told = to_dict() if callable(to_dict) else {}
    told = {name: value for name, value in told.items() if name not in ("_name_or_path", "transformers_version")}
    return f"{network}\n{json.dumps(told, sort_keys=True, default=str)}" if told else str(network)


def weights_of(subject: Subject) -> str:
    """Which weights these are, with a hash.

    Raises:
        ThalwegError: the function that says so failed, or did not return text.
    """
    if not callable(subject.weights):
        return subject.weights
    who = f"the function `weights` of subject {subject.name!r}"
    with user_code(who), quiet():
        text = subject.weights()
    if not isinstance(text, str):
        raise ThalwegError(f"{who} returned {_described(text)}; text that changes with the weights was expected")
    return text


def _made(make: Callable[[], nn.Module], who: str) -> nn.Module:
    with user_code(who), quiet():
        model = make()
    if isinstance(model, torch.jit.ScriptModule):
        raise ThalwegError(
            f"{who} returned a model that TorchScript compiled (torch.jit.script or trace), in which no layer can be "
            "watched; return the Python module that it was made of, with its weights: "
            "model.load_state_dict(compiled.state_dict())"
        )
    if not isinstance(model, nn.Module):
        hint = "; put the weights into a model first: model.load_state_dict(...)" if isinstance(model, dict) else ""
        raise ThalwegError(f"{who} returned {_described(model)}; a torch.nn.Module was expected{hint}")
    if lazy := _lazy(model):
        more = f" and {len(lazy) - NAMED} more" if len(lazy) > NAMED else ""
        raise ThalwegError(
            f"{who} returned a model with layers that have no weights yet, as they were never given an input (lazy: "
            f"{', '.join(lazy[:NAMED])}{more}); run it once on inputs of the right shape there, before its weights are "
            "loaded, as model(torch.zeros(1, 3, 224, 224))"
        )
    return unwrapped(model).eval()


def unwrapped(model: nn.Module) -> nn.Module:
    """The model without what compiles it or spreads its batches (torch.compile, DataParallel): its values are the same,
    modules have the names that they were written with, and hooks work.
    """
    while isinstance(inner := _inside(model), nn.Module):
        model = inner
    for parent in list(model.modules()):
        parent._compiled_call_impl = None  # of `model.compile()`, which changes a model in place
        for name, child in list(parent.named_children()):
            if isinstance(inner := _inside(child), nn.Module):
                setattr(parent, name, inner)
    return model


def _inside(model: nn.Module) -> object:
    """What a compiled or data-parallel module wraps, or nothing."""
    return model.module if isinstance(model, nn.DataParallel) else getattr(model, COMPILED, None)


def _lazy(model: nn.Module) -> list[str]:
    """The modules whose weights take their shape from the first input."""
    return [name for name, module in model.named_modules() if any(map(is_lazy, module.parameters(recurse=False)))]


def _described(thing: object) -> str:
    """What something is, for a message: "a function", "None", "a dict"."""
    if thing is None:
        return "None (is its `return` missing?)"
    return f"an object of type {type(thing).__name__}"
