"""Finds and takes off what training scripts wrap around the weights of a model.

A checkpoint is a mapping of tensors by their model's names, or holds one under some name (`state_dict`,
`model_state_dict`, `net`, `state_dict_ema`, ...), and all names may begin with what the model was wrapped in: `module.`
of DataParallel, `_orig_mod.` of torch.compile, `model.` of Lightning, and combinations. Where the architecture's own
names are known, the entry and the beginning are those with which most of them are there; what else lies in the file
is left. What was taken is said: `Weights.taken`.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thalweg.errors import ThalwegError

ENTRIES = (  # by which name weights are kept, the likelier first
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "network",
    "params",
    "weights",
    "state_dict_ema",
    "model_ema",
    "params_ema",
    "ema",
)
COMPILED = "_orig_mod."  # wherever a module was compiled
BEGINNINGS = ("", "module.", "model.", "module.model.", "net.", "network.", "backbone.", "encoder.")
DEEPEST = 3  # mappings in mappings


@dataclass(frozen=True)
class Weights:
    """Tensors by their model's names, and a line on what was taken off, or none."""

    state: dict[str, Tensor]
    taken: str = ""


@dataclass(frozen=True)
class _Candidate:
    """One way to read a file: which entry, and which beginning of the names is taken off."""

    entry: tuple[str, ...]
    beginning: str
    tensors: Mapping[str, Tensor]  # by names without what compiling put into them

    def state(self) -> dict[str, Tensor]:
        return {
            name.removeprefix(self.beginning): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(self.beginning)
        }


def unwrapped(content: object, path: Path, *, who: str, expected: Collection[str] = ()) -> Weights:
    """The tensors by their model's names; `expected` are those of the architecture, where they are known.

    Raises:
        ThalwegError: there are none, or two sets of weights that fit equally well.
    """
    candidates = [
        _Candidate(entry, beginning, tensors)
        for entry, tensors in _tensors(content)
        for beginning in _beginnings(tensors, expected)
    ]
    if not candidates:
        raise ThalwegError(f"{who}: {path} holds {type(content).__name__}; tensors by name were expected")
    best = max(_fit(candidate, expected) for candidate in candidates)
    fitting = sorted((candidate for candidate in candidates if _fit(candidate, expected) == best), key=_likely)
    chosen = fitting[0]
    rival = next((other for other in fitting[1:] if other.entry == chosen.entry and not _same(other, chosen)), None)
    if rival and expected and _likely(chosen)[1] == _likely(rival)[1]:
        raise ThalwegError(
            f"{who}: {path} holds two sets of weights that fit, {chosen.beginning!r} and {rival.beginning!r}; save one "
            "of them alone"
        )
    return Weights(_with_metadata(chosen, content), _note(chosen, content))


def _tensors(content: object, entry: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Every mapping of names to tensors in a file, with the entries that lead to it."""
    if not isinstance(content, Mapping):
        return
    tensors = {str(name).replace(COMPILED, ""): value for name, value in content.items() if isinstance(value, Tensor)}
    if tensors:
        yield entry, tensors
    if len(entry) < DEEPEST:
        for name, value in content.items():
            yield from _tensors(value, (*entry, str(name)))


def _beginnings(tensors: Mapping[str, Tensor], expected: Collection[str]) -> list[str]:
    """The beginnings that the names may have."""
    known = [beginning for beginning in BEGINNINGS if any(name.startswith(beginning) for name in tensors)]
    if not expected:
        return known[-1:] if known[-1:] in (["module.model."], ["module."]) else [""]
    first = sorted(expected, key=len)[-1]  # the longest: the fewest others end in it
    endings = [name.removesuffix(first) for name in tensors if name == first or name.endswith(f".{first}")]
    return list(dict.fromkeys([*known, *endings]))


def _fit(candidate: _Candidate, expected: Collection[str]) -> int:
    """How many of the architecture's names are there; without these, how likely the entry is."""
    if expected:
        return len(set(candidate.state()) & set(expected))
    return -sum(name not in ENTRIES for name in candidate.entry)


def _likely(candidate: _Candidate) -> tuple[int, int, int]:
    """A sort key for ways to read a file that fit equally well: the likelier entry and beginning, the shorter one."""
    entry = max((ENTRIES.index(name) if name in ENTRIES else len(ENTRIES) for name in candidate.entry), default=-1)
    return entry, 0 if candidate.beginning in BEGINNINGS else 1, len(candidate.beginning)


def _same(first: _Candidate, second: _Candidate) -> bool:
    """Whether two ways of reading a file give the same weights."""
    left, right = first.state(), second.state()
    return all(torch.equal(left[name], right[name]) for name in left.keys() & right.keys())


def _with_metadata(chosen: _Candidate, content: object) -> dict[str, Tensor]:
    """The weights, with the versions of the modules, by which older names and layouts are known."""
    state = OrderedDict(chosen.state())
    source: Any = content
    for name in chosen.entry:
        source = source[name]
    if not chosen.beginning:
        # pyrefly: ignore[missing-attribute]  # as state_dict adds it
        state._metadata = getattr(source, "_metadata", None)
    return state


def _note(chosen: _Candidate, content: object) -> str:
    source: Any = content
    for name in chosen.entry:
        source = source[name]
    compiled = any(COMPILED in str(name) for name in source)
    off = [repr(part) for part in (chosen.beginning, COMPILED if compiled else "") if part]
    parts = [f"its entry {'.'.join(chosen.entry)!r}"] if chosen.entry else []
    parts += [f"names without {' and '.join(off)}"] if off else []
    return f"weights: {', '.join(parts)}" if parts else ""
