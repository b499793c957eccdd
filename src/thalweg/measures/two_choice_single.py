"""Is a unit one thing? What a single named feature explains, and how many it takes.

An observer of limited capacity picks, from thirty references a side and from nothing else, the c features of its
dictionary that separate high from low best, and answers the queries by those alone. A crisp unit is near its full score
at c = 1; a confused one needs many. The headline *crisp* is `two_choice_single`, the score at c = 1;
`two_choice_capacity` is the curve.
"""

from collections.abc import Mapping

from thalweg.measures.base import MEAN, Scores, measure
from thalweg.measures.two_choice import matched
from thalweg.observers.answers import Answers
from thalweg.trials.building import Pairs


@measure(
    version=1,
    unit="proportion correct",
    range=(0.0, 1.0),
    chance=0.5,
    higher_is="crisper",
    essential=True,
    cite="thalweg",
    headline="crisp",
)
def two_choice_single(single: Answers, matched_pairs: Pairs) -> Scores:
    """How often one named feature, chosen by the references alone, decides pairs that low-level statistics can't.

    For feature f over thirty references a side, separation = |m+ - m-| / sqrt(v), with v the mean of the two variances
    (not below 0.05 of the feature's variance over the pool). The best feature's value, signed, is the evidence; the
    score is the mean of `v90` and `v75` over the pairs of `two_choice_matched`.

    NaN where `two_choice_matched` is NaN.

    How it can mislead: a unit that is one thing which the dictionary does not name scores low. Compare with the rotated
    twin of the same layer, which the same dictionary reads: what neurons have and their rotation lacks is crispness of
    this basis.
    """
    return matched(single, matched_pairs, capacity="1")


@measure(
    version=1,
    unit="proportion correct",
    range=(0.0, 1.0),
    chance=0.5,
    higher_is="more predictable with this many features",
    cite="thalweg",
)
def two_choice_capacity(by_capacity: Mapping[int | None, Answers], matched_pairs: Pairs) -> Scores:
    """`two_choice_single` for observers that may use 1, 2, 5, 20 or all features of their dictionary.

    The c features of largest separation are weighed by (m+ - m-) / v, a linear discriminant that takes features as
    independent.

    NaN where `two_choice_matched` is NaN.

    How it can mislead: the curve need not rise everywhere, for weights chosen from sixty references carry noise, and
    more features carry more of it.
    """
    return {
        (MEAN, "all" if capacity is None else str(capacity)): matched(answers, matched_pairs)[MEAN, ""]
        for capacity, answers in by_capacity.items()
    }
