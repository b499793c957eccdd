"""Observers: whoever answers trials. A machine observer is a name, a version and a function from stimuli to feature
vectors.

It answers in two ways. *Whole*: by the cosine of centred feature vectors, comparing each query with all that the
references have in common (`answer`). With limited *capacity* c: from thirty references a side, and from nothing else,
it picks the c features of its dictionary that separate high from low best, and answers by those (`answer_by_features`).
The first says whether something about a unit can be predicted; the second whether it is few things, or one.

No observer sees everything. `image`, the default, is the equally weighted sum of two that see different things;
`pixels`, `trivial` and `random` are controls, there to show how well one can do without seeing any abstraction.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from thalweg.errors import unknown
from thalweg.stimuli import Images
from thalweg.trials import MANY_REFERENCES, REFERENCES, Exam, readout

CAPACITIES = (1, 2, 5, 20, None)  # None: all features of the dictionary
VARIANCE_FLOOR = 0.05  # of a feature's variance over the pool: thirty references can't show that it is less


@dataclass(frozen=True)
class Observer:
    """A machine observer: a name, a version that rises when its answers change, and a function from stimuli to feature
    vectors.

    `parts` makes an observer of others: the sum of their standardised similarities. `names_classes` adds the stimuli's
    class labels to its dictionary. `control` marks one that should *not* tell trained units from untrained ones.
    `piecewise` says that the vector of a stimulus doesn't depend on the others, so that the work can be split.
    """

    name: str
    version: int
    features: Callable[[Images], Float[Tensor, "stimulus feature"]] | None = None
    parts: tuple[str, ...] = ()
    names_classes: bool = False
    control: bool = False
    piecewise: bool = False

    @property
    def sees(self) -> str:
        """The first sentence of what its function says that it sees."""
        text = (
            self.features.__doc__ if self.features else ""
        ) or f"The sum of {' and '.join(self.parts) or 'nothing'}."
        return " ".join(text.split("\n\n")[0].split())


OBSERVERS: dict[str, Observer] = {}


def observer(
    *, version: int, names_classes: bool = False, control: bool = False, piecewise: bool = False
) -> Callable[[Callable[[Images], Tensor]], Callable[[Images], Tensor]]:
    """Declare a function from stimuli to feature vectors as an observer of the function's name; it is returned
    unchanged.
    """

    def declare(function: Callable[[Images], Tensor]) -> Callable[[Images], Tensor]:
        name = function.__name__
        OBSERVERS[name] = Observer(name, version, function, (), names_classes, control, piecewise)
        return function

    return declare


def find(name: str) -> Observer:
    """The observer of this name.

    Raises:
        ThalwegError: there is none; near names are offered.
    """
    if name not in OBSERVERS:
        raise unknown("observer", name, OBSERVERS)
    return OBSERVERS[name]


def centred(features: Float[Tensor, "stimulus feature"]) -> Float[Tensor, "stimulus feature"]:
    """Feature vectors minus their mean over the pool, scaled to length 1: dot products are then centred cosines."""
    vectors = features - features.mean(0)
    return nn.functional.normalize(vectors, dim=1)


def spread(embedding: Float[Tensor, "stimulus feature"]) -> float:
    """The standard deviation of the similarity of two different stimuli, without forming pairs.

    The sum of all n^2 similarities is |sum of e|^2 and that of their squares |E'E|^2 (Frobenius); the n of a stimulus
    with itself are 1 and taken away.
    """
    count = len(embedding)
    pairs = count * (count - 1)
    mean = (embedding.sum(0).square().sum() - count) / pairs
    square = ((embedding.T @ embedding).square().sum() - count) / pairs
    return float((square - mean**2).clamp_min(1e-12).sqrt())


def combined(embeddings: Sequence[Float[Tensor, "stimulus _"]]) -> Float[Tensor, "stimulus feature"]:
    """One embedding whose similarity is the equally weighted sum of the parts', each divided by its standard deviation.

    Concatenating sqrt(w) e adds up w s; the weights are scaled to sum to 1, so the result has length 1 too.
    """
    weights = torch.tensor([1 / spread(embedding) for embedding in embeddings])
    weights = (weights / weights.sum()).sqrt()
    return torch.cat([weight * embedding for weight, embedding in zip(weights, embeddings, strict=True)], 1)


def standardised(features: Float[Tensor, "stimulus feature"]) -> Float[Tensor, "stimulus kept"]:
    """A dictionary's features with mean 0 and variance 1 over the pool; those that never vary are left out."""
    deviation = features.std(0)
    varies = deviation > 1e-6 * features.abs().amax(0).clamp_min(1e-30)
    return (features[:, varies] - features[:, varies].mean(0)) / deviation[varies]


@dataclass(frozen=True, eq=False)
class Prepared:
    """An observer's view of a pool: an embedding to compare whole stimuli by, and a dictionary of named features."""

    embedding: Float[Tensor, "stimulus embedded"]
    dictionary: Float[Tensor, "stimulus feature"]


def prepare(watcher: Observer, features: Mapping[str, Tensor], pool: Images) -> Prepared:
    """Turn the feature vectors of an observer, or of its parts, into what it answers by."""
    names = watcher.parts or (watcher.name,)
    embeddings = [centred(features[name].float()) for name in names]
    tables = [features[name].float() for name in names]
    if watcher.names_classes:
        tables.append(torch.nn.functional.one_hot(pool.labels.long(), len(pool.label_names)).float())
    dictionary = standardised(torch.cat(tables, 1))
    return Prepared(embeddings[0] if len(embeddings) == 1 else combined(embeddings), dictionary)


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
    return _by_band(exam, readout(embedding, _queries(exam), weights[:, :, None])[:, :, 0])


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
    ids = _queries(exam)
    values = dictionary[ids.clamp_min(0)[:, :, None], best[:, None, :]]  # (unit, query, feature)
    sums = (values * weights.gather(1, best)[:, None, :]).cumsum(2).masked_fill((ids < 0)[:, :, None], torch.nan)
    answers: dict[int | None, Answers] = {}
    for c in capacities:
        evidence = (
            readout(dictionary, ids, weights[:, :, None])[:, :, 0]
            if c is None
            else sums[:, :, min(c, best.shape[1]) - 1]
        )
        answers[c] = _by_band(exam, evidence)
    return answers


def _mean(table: Float[Tensor, "stimulus feature"], ids: Tensor) -> Float[Tensor, "unit feature"]:
    """The mean of some rows of a table, a set of rows for each unit."""
    return torch.nn.functional.embedding_bag(ids.clamp_min(0).contiguous(), table, mode="mean")


def _queries(exam: Exam) -> Int64[Tensor, "unit query"]:
    """The queries of all bands side by side."""
    return torch.cat([side for queries in exam.queries.values() for side in (queries.high, queries.low)], 1)


def _by_band(exam: Exam, evidence: Float[Tensor, "unit query"]) -> Answers:
    """The evidence for all queries, laid out by band again."""
    sizes = [side.shape[1] for queries in exam.queries.values() for side in (queries.high, queries.low)]
    sides = iter(evidence.split(sizes, 1))
    return {band: Evidence(next(sides), next(sides)) for band in exam.queries}


from thalweg.observers import images  # noqa: E402, F401  (its functions declare themselves here)
