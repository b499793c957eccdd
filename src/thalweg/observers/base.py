"""Observers: whoever answers trials. A machine observer is a name, a version and a function from stimuli to feature
vectors.

It answers in two ways. *Whole*: by the cosine of centred feature vectors, comparing each query with all that the
references have in common (`answer`). With limited *capacity* c: from thirty references a side, and from nothing else,
it picks the c features of its dictionary that separate high from low best, and answers by those (`answer_by_features`).
The first says whether something about a unit can be predicted; the second whether it is few things, or one.

No observer sees everything. The default of a modality is the equally weighted sum of some that see different things;
`pixels`, `bag`, `numbers`, `trivial` and `random` are controls, there to show how well one can do without seeing any
abstraction.
"""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from thalweg.compute.devices import all_finite
from thalweg.errors import ThalwegError, unknown, user_code
from thalweg.files.identity import is_packaged
from thalweg.stimuli import modalities
from thalweg.stimuli.base import Stimuli
from thalweg.stimuli.modality import Modality

FeatureFunction = Callable[[Any], Float[Tensor, "stimulus feature"]]  # of stimuli of the observer's modality


@dataclass(frozen=True)
class Observer:
    """A machine observer: it sees each stimulus as a vector of features, and answers trials by their similarity.

    Attributes:
        name: What tables and report call it.
        version: Raise it when its answers change: what was kept of the older version is then not used again.
        features: A function from stimuli to vectors, a tensor or array (stimulus, feature) of finite numbers. It must
            return the same vectors each time.
        parts: Names of other observers; it answers by the sum of their standardised similarities.
        names_classes: Whether the stimuli's classes and tags are features of its dictionary.
        control: Whether it should *not* tell trained units from untrained ones.
        piecewise: Whether the vector of a stimulus depends on that stimulus alone, so that the work can be split.
        modality: What it sees: `image`, `text` or `pair`; empty means any.
        dictionary: Its named features for limited capacity (the measure *crisp*), where these are not `features`.
        whole: Whether it compares whole stimuli. One that does not answers with its single best feature.
        family: FAMILY/MEMBER of the network whose weights it sees with, if any.
        centred: Whether vectors are taken from their mean over the stimuli before they are compared. One that does not
            compares them by their plain cosine.
        description: What it sees, where no docstring of `features` says it.

    Example:
        >>> import thalweg
        >>> def ink(stimuli):
        ...     "How much ink a picture holds."
        ...     return stimuli.pixels.float().mean((1, 2, 3))[:, None]
        >>> thalweg.Observer("ink", 1, ink, modality="image", piecewise=True).sees
        'How much ink a picture holds.'
    """

    name: str
    version: int
    features: FeatureFunction | None = None
    parts: tuple[str, ...] = ()
    names_classes: bool = False
    control: bool = False
    piecewise: bool = False
    modality: str = ""
    dictionary: FeatureFunction | None = None
    whole: bool = True
    family: str = ""
    centred: bool = True
    description: str = ""

    @property
    def sees(self) -> str:
        """The first sentence of what its function says that it sees."""
        documented = self.description or (self.features.__doc__ if self.features else "")
        text = documented or f"The sum of {' and '.join(self.parts) or 'nothing'}."
        return " ".join(text.split("\n\n")[0].split())

    def relation(self, family: str) -> str:
        """What its network, or a part's, is to a subject of this family: `itself`, `relative` or nothing."""
        families = [self.family, *(OBSERVERS[part].family for part in self.parts if part in OBSERVERS)]
        if family and family in families:
            return "itself"
        roots = {known.partition("/")[0] for known in families}
        return "relative" if family and family.partition("/")[0] in roots else ""

    def fits(self, modality: str) -> bool:
        """Whether it sees stimuli of this modality."""
        return self.modality in ("", modality)


OBSERVERS: dict[str, Observer] = {}


@dataclass(frozen=True)
class ObserverKind:
    """Observers that are made from their name: how it is written (timm:NAME), and what makes one of what stands after
    the colon.
    """

    form: str
    make: Callable[[str], Observer]


KINDS: dict[str, ObserverKind] = {}


def observer(*, version: int, modality: str = "", **declared: Any) -> Callable[[FeatureFunction], FeatureFunction]:
    """Declare a function from stimuli to feature vectors as an observer of the function's name; it is returned
    unchanged.

    The other arguments are the fields of `Observer`.
    """

    def declare(function: FeatureFunction) -> FeatureFunction:
        name = getattr(function, "__name__", "")
        OBSERVERS[name] = Observer(name, version, function, modality=modality, **declared)
        return function

    return declare


def find(name: str) -> Observer:
    """The observer of this name.

    Raises:
        Missing: the network that it sees with is not on this machine.
        ThalwegError: there is none; near names are offered.
    """
    if not isinstance(name, str):
        raise ThalwegError(
            f"{name!r} is no observer; a thalweg.Observer(name, version, function) was expected, or a name"
        )
    if name in OBSERVERS:
        return OBSERVERS[name]
    kind, colon, rest = name.partition(":")
    if is_of_a_kind(name):
        return KINDS[kind].make(rest)
    if colon:
        raise unknown("kind of observer", kind, KINDS)
    raise unknown("observer", name, [*OBSERVERS, *(kind.form for kind in KINDS.values())])


def find_version(name: str, version: int) -> Observer:
    """The observer of this name, if it is of the version that a run was made with.

    Raises:
        ThalwegError: there is none, or it is of another version.
    """
    found = find(name)
    if found.version != version:
        raise ThalwegError(f"observer {name!r} is of version {found.version} now; the run's was of version {version}")
    return found


def is_of_a_kind(name: str) -> bool:
    """Whether it is the name of an observer that is made from its name, as timm:NAME."""
    return name.partition(":")[0] in KINDS


def observer_kind(kind: str, *, form: str) -> Callable[[Callable[[str], Observer]], Callable[[str], Observer]]:
    """Declare a function that makes an observer from what stands after `KIND:` in its name (nothing, of one that is
    called by its kind alone); it is returned unchanged.
    """

    def declare(function: Callable[[str], Observer]) -> Callable[[str], Observer]:
        KINDS[kind] = ObserverKind(form, function)
        return function

    return declare


def default(modality: str | Modality) -> Observer:
    """The headline's observer of a modality, or who takes its place where a package is not installed; `random` where
    the modality names none.
    """
    record = modalities.find(modality)
    if isinstance(record.observer, Observer):
        return record.observer
    lacks = bool(record.needs) and importlib.util.find_spec(record.needs) is None
    return find((record.fallback if lacks else record.observer) or "random")


Features = Mapping[str, Tensor]  # "features" of some stimuli, and "dictionary" where that is something else


def extract_features(observer: Observer, stimuli: Stimuli) -> Features:
    """What an observer without parts makes of some stimuli.

    A user's own is asked twice, about the first stimuli if it sees them one by one and else about all.

    Raises:
        ThalwegError: it failed, did not return one finite vector a stimulus, or returned others when asked again.
    """
    functions = {"features": observer.features, "dictionary": observer.dictionary}
    seen = {what: _vectors(observer, function, stimuli) for what, function in functions.items() if function}
    for what, vectors in seen.items():
        if not is_packaged(functions[what]):
            again = stimuli.take(slice(0, ASKED_AGAIN)) if observer.piecewise else stimuli
            _check_same(observer, vectors[: len(again)], _vectors(observer, functions[what], again))
    return seen


def check_telling(observer: Observer, seen: Features) -> None:
    """Refuse an observer, unless it is a control, to which all stimuli look the same.

    Raises:
        ThalwegError: every stimulus has the same vector.
    """
    vectors = seen["features"]
    if not observer.control and len(vectors) and bool((vectors == vectors[0]).all()):
        raise ThalwegError(
            f"observer {observer.name!r} returns the same vector for each of the {len(vectors)} stimuli, so it can "
            "tell none from another: are all of them the same? Otherwise choose another with --observer"
        )


ASKED_AGAIN = 8


def _check_same(observer: Observer, first: Tensor, again: Tensor) -> None:
    if first.shape != again.shape or not torch.allclose(first, again, rtol=1e-3, atol=1e-4 * float(first.abs().max())):
        alone = ", or they depend on the other stimuli, which `piecewise` denies" if observer.piecewise else ""
        raise ThalwegError(
            f"observer {observer.name!r} returned other vectors for the same stimuli when it was asked again: fix the "
            f"seed of whatever is random in it{alone}"
        )


def _vectors(observer: Observer, function: FeatureFunction | None, stimuli: Stimuli) -> Tensor:
    """One vector for each stimulus, as a function of the observer's makes them."""
    assert function is not None
    with user_code(f"observer {observer.name!r}"):
        output = function(stimuli)
        vectors = output if isinstance(output, Tensor) else torch.as_tensor(output)
    if vectors.ndim != 2 or len(vectors) != len(stimuli) or 0 in vectors.shape or not all_finite(vectors):
        raise ThalwegError(
            f"observer {observer.name!r} must return one finite vector for each of {len(stimuli)} stimuli; it returned "
            f"an array of shape {tuple(vectors.shape)}"
            + ("" if all_finite(vectors) else " with NaN or infinite values")
        )
    return vectors.detach().cpu().float()
