"""Observers that answer one trial at a time: people, language models, any function from a trial to a choice."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from numbers import Real
from typing import Any

from torch import Tensor

from thalweg.errors import ThalwegError
from thalweg.observers import base
from thalweg.observers.base import Observer, extract_features
from thalweg.observers.embedding import build_view
from thalweg.stimuli.base import Stimuli
from thalweg.trials.items import Trial


@dataclass(frozen=True)
class Choice:
    """The answer to one trial.

    Attributes:
        picked: 0 for the first of the trial's two queries, 1 for the second.
        confidence: The probability, from 0 to 1, that the observer gives to its own answer; None if it gives none.
    """

    picked: int
    confidence: float | None = None

    def problem(self) -> str:
        """What is wrong with it; empty if nothing is."""
        if isinstance(self.picked, bool) or self.picked not in (0, 1):
            return f"picked is {self.picked!r}; 0 (the first query) or 1 (the second) was expected"
        if self.confidence is not None and not _is_probability(self.confidence):
            return f"confidence is {self.confidence!r}; a number from 0 to 1 or None was expected"
        return ""


def _is_probability(value: object) -> bool:
    return isinstance(value, Real) and 0 <= float(value) <= 1


@dataclass(frozen=True)
class TrialObserver:
    """An observer that answers one trial at a time.

    Attributes:
        name: What the tables call it.
        version: Raise it when its answers change: the answers of another version are asked for anew.
        choose: The function that answers a trial. What it raises becomes the note of a failed answer.
        modality: The modality of the stimuli that it sees; empty for any.

    Example:
        >>> import thalweg
        >>> def first(trial):
        ...     return thalweg.Choice(picked=0, confidence=0.5)
        >>> thalweg.TrialObserver("first", 1, first).name
        'first'
    """

    name: str
    version: int
    choose: Callable[[Trial], Choice]
    modality: str = ""

    def __post_init__(self) -> None:
        named: tuple[Any, Any, Any] = (self.name, self.version, self.choose)  # what a user gave, whatever it is
        name, version, choose = named
        if not isinstance(name, str) or not name:
            raise ThalwegError(f"thalweg.TrialObserver: `name` is {name!r}; a text was expected")
        if isinstance(version, bool) or not isinstance(version, int):
            raise ThalwegError(f"observer {name!r}: `version` is {version!r}; a whole number was expected")
        if not callable(choose):
            raise ThalwegError(f"observer {name!r}: `choose` is {choose!r}; a function from a trial was expected")


def one_by_one(observer: str | Observer) -> TrialObserver:
    """Make an observer that answers one trial at a time from one that gives vectors.

    It picks the query with the larger evidence, as the observer itself does in all pairs at once. Where both have the
    same, it picks the first. It gives no confidence: the size of its evidence is no probability.

    Args:
        observer: An observer that compares whole stimuli, or the name of one.

    Returns:
        An observer of the same name, version and modality. It sees a pool once, when it answers its first trial there.

    Raises:
        ThalwegError: there is no observer of this name, or it compares no whole stimuli.

    Example:
        >>> import thalweg
        >>> thalweg.one_by_one("hog").name
        'hog'
    """
    seeing = observer if isinstance(observer, Observer) else base.find(observer)
    if not seeing.whole:
        raise ThalwegError(
            f"observer {seeing.name!r} answers by single features of thirty references a side, and a trial shows nine; "
            "an observer that compares whole stimuli was expected"
        )
    embeddings: dict[Hashable, tuple[Stimuli, Tensor]] = {}  # by the identity of a pool, which is kept alive here

    def choose(trial: Trial) -> Choice:
        pool = trial.stimuli
        if id(pool) not in embeddings:
            embeddings[id(pool)] = (pool, _embedding(seeing, pool))
        embedding = embeddings[id(pool)][1]
        high, low, queries = (
            embedding[list(ids)] for ids in (trial.high_references, trial.low_references, trial.queries)
        )
        evidence = queries @ (high.mean(0) - low.mean(0))  # (query)
        return Choice(int(evidence[1] > evidence[0]))

    return TrialObserver(seeing.name, seeing.version, choose, seeing.modality)


def _embedding(observer: Observer, pool: Stimuli) -> Tensor:
    """What an observer compares the stimuli of a pool by: (stimulus, feature)."""
    sources = [base.find(part) for part in observer.parts] or [observer]
    view = build_view(observer, {source.name: extract_features(source, pool) for source in sources}, pool)
    assert view.embedding is not None
    return view.embedding
