"""Stimuli of any kind that are tensors of one shape."""

import hashlib
from dataclasses import dataclass, replace

from jaxtyping import Int, Shaped
from torch import Tensor

from thalweg.errors import ThalwegError
from thalweg.stimuli.modality import Modality
from thalweg.stimuli.showing import Shown


@dataclass(frozen=True, eq=False)
class TensorStimuli:
    """Stimuli that are tensors of one shape, with a label each: those of a modality of the user's own.

    Attributes:
        values: What a model is given, (stimulus, ...).
        labels: The class of each stimulus, a whole number.
        label_names: The classes.
        modality: What the stimuli are; it must have `low_level` and `show`.
        sources: What each stimulus comes from (a recording, a person), as whole numbers. No source feeds both halves of
            the pool. None: stimuli stand for themselves.
        notes: Lines on how the stimuli were made, which are said before the work and kept in run.json.

    Raises:
        ThalwegError: the values are no tensor, lengths differ, or the modality lacks a function.

    Example:
        >>> import torch, thalweg
        >>> tone = thalweg.Modality("tone", low_level=lambda tones: tones.values.std(1, keepdim=True),
        ...                         show=lambda tones, which, values: thalweg.Shown("a tone", html="<i>ping</i>"))
        >>> tones = thalweg.TensorStimuli(torch.randn(3, 16), torch.tensor([0, 1, 1]), ("low", "high"), tone)
        >>> tones.take(slice(1, 3)).labels.tolist()
        [1, 1]
    """

    values: Shaped[Tensor, "stimulus *place"]
    labels: Int[Tensor, " stimulus"]
    label_names: tuple[str, ...]
    modality: Modality
    sources: Int[Tensor, " stimulus"] | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.modality, Modality):
            raise ThalwegError(f"thalweg.TensorStimuli: `modality` is {self.modality!r:.60}; expected thalweg.Modality")
        for function in ("low_level", "show"):
            if getattr(self.modality, function) is None:
                expected = WANTED[function]
                raise ThalwegError(
                    f"modality {self.modality.name!r} has no `{function}`: give it a function {expected}"
                )
        for name in ("values", "labels", "sources"):
            values = getattr(self, name)
            if values is None and name == "sources":
                continue
            if not isinstance(values, Tensor) or not values.ndim:
                raise ThalwegError(f"thalweg.TensorStimuli: `{name}` is {type(values).__name__}; expected a tensor")
            if len(values) != len(self.values):
                raise ThalwegError(
                    f"thalweg.TensorStimuli: {len(self.values):,} stimuli have {len(values):,} {name}; one for each "
                    "was expected"
                )

    def __len__(self) -> int:
        return len(self.values)

    def take(self, which: Int[Tensor, " taken"] | slice) -> "TensorStimuli":
        """The stimuli at these places, in this order."""
        sources = None if self.sources is None else self.sources[which]
        return replace(self, values=self.values[which], labels=self.labels[which], sources=sources)

    def batch(self, which: Int[Tensor, " taken"] | slice) -> Shaped[Tensor, "taken *place"]:
        """What a model is given."""
        return self.values[which]

    def low_level(self) -> Tensor:
        """The modality's low-level statistics, (stimulus, statistic)."""
        assert self.modality.low_level is not None
        return self.modality.low_level(self)

    def last_token(self) -> None:
        """They have no tokens."""

    def groups(self) -> Int[Tensor, " stimulus"] | None:
        """What each stimulus comes from."""
        return self.sources

    def show(self, which: int) -> Shown:
        """One stimulus, as the modality shows it."""
        return self.modality.shown(self, which)

    def content_hash(self) -> str:
        """Sixteen hexadecimal digits that differ whenever a stimulus, a label, a source or their order does."""
        digest = hashlib.sha256(
            repr((tuple(self.values.shape), str(self.values.dtype), self.label_names, self.modality.name)).encode()
        )
        digest.update(self.values.contiguous().numpy().tobytes())
        for codes in (self.labels, self.sources):
            digest.update(b"" if codes is None else codes.long().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


WANTED = {
    "low_level": "from a set of stimuli to a tensor of statistics (stimulus, statistic)",
    "show": "from (stimuli, which, values) to a thalweg.Shown",
}
