"""Stimuli: what models are given and observers are shown, as sets of which any part can be taken.

A set knows how to hand a batch to a model, what a model should say to it, and how to show one stimulus to a person. Its
content hash names it wherever a result is kept, so a result is used again exactly when the stimuli are the same. There
are `Images`, `ImageFiles` on disk, token `Windows`, `NumberPairs` and, for a modality of the user's, `TensorStimuli`;
anything with the attributes of `Stimuli` will do.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from thalweg.stimuli.modality import Modality
from thalweg.stimuli.showing import Shown, View

LEAST_POOL = 120  # stimuli: two halves, and in each two sides of thirty references


@runtime_checkable
class Stimuli(Protocol):
    """A set of stimuli of one modality, with a label each."""

    @property
    def modality(self) -> str | Modality:
        """What kind they are of: `image`, `text`, `pair`, or a record of the user's."""
        ...

    @property
    def labels(self) -> Int[Tensor, " stimulus"]:
        """The class of each stimulus."""
        ...

    @property
    def label_names(self) -> tuple[str, ...]:
        """The classes."""
        ...

    def __len__(self) -> int: ...

    def take(self, which: Int[Tensor, " taken"] | slice) -> "Stimuli":
        """The stimuli at these places, in this order."""
        ...

    def batch(self, which: Int[Tensor, " taken"] | slice) -> Tensor:
        """What a model is given."""
        ...

    def low_level(self) -> Float[Tensor, "stimulus statistic"]:
        """Statistics that ask for no abstraction; pairs of stimuli that they decide are left out of matched scores."""
        ...

    def last_token(self) -> Int[Tensor, " stimulus"] | None:
        """The last token of each stimulus, where it is made of tokens: many units are functions of that alone."""
        ...

    def groups(self) -> Int[Tensor, " stimulus"] | None:
        """What each stimulus comes from (its document), where no such source may feed two halves."""
        ...

    def show(self, which: int) -> Shown:
        """One stimulus for a person to look at."""
        ...

    def content_hash(self) -> str:
        """Sixteen hexadecimal digits that differ whenever a stimulus, a label or their order does."""
        ...


@dataclass(frozen=True)
class Source:
    """Where a user's stimuli lie, in place of those that a ladder brings along.

    Attributes:
        path: A file or folder; None means the ladder's own.
        text: The column of a table that holds the text.
        document: The column that says which document a text belongs to.
        image: The column that holds the pictures.
        label: The column that holds the classes.
        skip_bad: Whether pictures that do not decode are left out.

    Example:
        >>> from pathlib import Path
        >>> import thalweg
        >>> thalweg.Source(Path("photographs"), label="species").label
        'species'
    """

    path: Path | None = None
    text: str | None = None
    document: str | None = None
    image: str | None = None
    label: str | None = None
    skip_bad: bool = False


@dataclass(frozen=True, eq=False)
class Splits:
    """The stimuli of a ladder in three disjoint parts.

    Attributes:
        train: Those that models are trained on.
        validation: Those that decide when training stops.
        pool: The held-out ones that strength and units are measured on: 120 at least.

    Example:
        >>> from ladder import splits
        >>> parts = splits(None, seed=0)
        >>> len(parts.train), len(parts.validation), len(parts.pool)
        (600, 200, 997)
    """

    train: Stimuli
    validation: Stimuli
    pool: Stimuli

    @classmethod
    def of_pool(cls, pool: Stimuli) -> "Splits":
        """A pool alone, for models that are not trained here."""
        nothing = pool.take(slice(0, 0))
        return cls(nothing, nothing, pool)

    def content_hash(self) -> str:
        """Sixteen hexadecimal digits for all three together."""
        parts = (self.train, self.validation, self.pool)
        return hashlib.sha256("".join(part.content_hash() for part in parts).encode()).hexdigest()[:16]


def viewed(stimuli: Stimuli, view: View | None) -> Stimuli:
    """The stimuli as a model with this preprocessing is given them; only pictures have any."""
    return stimuli.viewed(view) if view and hasattr(stimuli, "viewed") else stimuli


def notes_of(stimuli: Stimuli) -> tuple[str, ...]:
    """What the reader of these stimuli took, and what it passed over and why: one line each; nothing where a set has no
    `notes`.
    """
    return tuple(getattr(stimuli, "notes", ()))


def halves(pool: Stimuli, *, seed: int) -> tuple[Int[Tensor, " reference"], Int[Tensor, " query"]]:
    """The ids of a pool's reference half and query half: a random split, disjoint, each in increasing order.

    Where stimuli have groups, whole groups are dealt out, in random order, so that no group feeds both.
    """
    generator = torch.Generator().manual_seed(seed)
    groups = pool.groups()
    if groups is None:
        order = torch.randperm(len(pool), generator=generator)
        return order[: len(pool) // 2].sort().values, order[len(pool) // 2 :].sort().values
    _, group = groups.unique(return_inverse=True)
    sizes = group.bincount()
    order = torch.randperm(len(sizes), generator=generator)
    before = sizes[order].cumsum(0) - sizes[order]
    reference = torch.zeros(len(sizes), dtype=torch.bool)
    reference[order] = before + sizes[order] // 2 < len(pool) // 2  # most of the group lies in the first half
    return reference[group].nonzero().flatten(), (~reference[group]).nonzero().flatten()
