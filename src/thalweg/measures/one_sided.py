"""Can an observer tell what drives a unit from what leaves it at rest? The two headlines.

A sparse unit has one informative side. Asked about its highest against its *lowest* stimuli (`two_choice_matched`), a
random direction, which has two such sides, is told more easily than a unit that stands for one thing, and a clean
sparse unit gets no score at all. So the headlines ask about one pole of a unit, against typical stimuli.

*predictable* (`one_sided`) is a property of what a unit shares with its layer: an observer of whole stimuli reads sums
and rotations of abstractions as well as single ones. *crisp* (`one_sided_single`) falls with the number of things that
a unit mixes, as far as the observer's dictionary names them. `one_sided_capacity` shows how many named features it
takes: a mixture of named things climbs, one thing without a name does not. All are about the main pole, the one with
the heavier tail (`upper_tail_share`); `other_pole` asks about the other.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from thalweg.measures.base import DECIDED, MEAN, Score, Scores, Z, mean_of_present, measure, proportion_correct
from thalweg.measures.two_choice import DECIDED_BY_TOKEN, LEAST_PAIRS
from thalweg.observers.answers import Answers
from thalweg.trials.building import REFERENCES, Pairs
from thalweg.trials.one_sided import BANDS

ONE_VALUE = "passes on one value alone"
CITE = "thalweg; matching as in matched case-control designs"


def over_bands(answers: Answers, pairs: Pairs, *, note: str = DECIDED, capacity: str = "") -> Scores:
    """The share of right answers over some pairs of each band, and the mean over the bands that have enough of them."""
    bands = {band: proportion_correct(answers[band], pairs[band], least=LEAST_PAIRS, note=note) for band in BANDS}
    scores = {(band, capacity): score for band, score in bands.items()}
    scores[MEAN, capacity] = mean_of_present(*bands.values())
    return scores


@measure(
    version=1,
    unit="proportion correct",
    range=(0.0, 1.0),
    chance=0.5,
    higher_is="more predictable",
    essential=True,
    cite=CITE,
    headline="predictable",
)
def one_sided(one_sided_evidence: Answers, one_sided_matched_pairs: Pairs) -> Scores:
    """How often an observer of whole stimuli picks the one that drives the unit over a typical one.

    References are the nine stimuli at the unit's main pole, and nine whose values lie nearest to its median. For a
    band, the score is the share of pairs (driving query, typical query) with d(driving) > d(typical), ties counting
    half, where d(q) = s(q, E+) - s(q, E-) and s is the mean similarity to nine references. Driving queries are the nine
    at the pole (`extreme`), or up to thirty that lie nearest to 3/4 (`v75`, .675 to .825) or to 1/2 (`v50`, .425 to
    .575) of the way from the median to the mean of the nine references at the pole; typical queries are up to thirty
    others near the median, different ones for each band and none further from it than a quarter of that way. Pairs
    count that low-level statistics can't decide, as in `two_choice_matched`. The score is the mean over the bands with
    at least ten such pairs: a unit that fires or does not, with nothing between, has `extreme` alone.

    NaN where no band has ten such pairs, "decided by low-level statistics". A constant unit is NaN.

    How it can mislead: sums, unions and rotations of things that the observer sees are as predictable as the things
    themselves; look at `one_sided_single`. Where low-level statistics decide much, the mean is that of an unusual few.
    """
    return over_bands(one_sided_evidence, one_sided_matched_pairs)


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
def one_sided_single(one_sided_single: Answers, one_sided_matched_pairs: Pairs) -> Scores:
    """How often one named feature, chosen by the references alone, tells what drives the unit from typical stimuli.

    The trials are those of `one_sided`, with thirty references a side. For feature f, separation = |m+ - m-| / sqrt(v),
    with v the mean of the two variances plus 0.05 of the feature's variance over the pool: thirty references can't show
    that a feature varies less. The best feature's value, signed, is the evidence.

    NaN where `one_sided` is NaN.

    How it can mislead: a unit that is one thing which the dictionary does not name scores low. Compare with the rotated
    twin of the same layer, which the same dictionary reads: what neurons have and their rotation lacks is crispness of
    this basis. And look at `one_sided_capacity`: a mixture of named things climbs with capacity, an unnamed thing does
    not.
    """
    return over_bands(one_sided_single, one_sided_matched_pairs, capacity="1")


@measure(
    version=1,
    unit="proportion correct",
    range=(0.0, 1.0),
    chance=0.5,
    higher_is="more predictable with this many features",
    cite="thalweg",
)
def one_sided_capacity(one_sided_by_capacity: Mapping[int | None, Answers], one_sided_matched_pairs: Pairs) -> Scores:
    """`one_sided_single` for observers that may use 1, 2, 5, 20 or all features of their dictionary.

    The c features of largest separation are weighed by (m+ - m-) / v, a linear discriminant that takes features as
    independent.

    NaN where `one_sided` is NaN.

    How it can mislead: the curve need not rise everywhere, for weights chosen from sixty references carry noise, and
    more features carry more of it.
    """
    return {
        (MEAN, "all" if capacity is None else str(capacity)): over_bands(answers, one_sided_matched_pairs)[MEAN, ""]
        for capacity, answers in one_sided_by_capacity.items()
    }


@measure(
    version=1,
    unit="proportion correct",
    range=(0.0, 1.0),
    chance=0.5,
    higher_is="more predictable beyond the last token",
    cite=CITE,
)
def one_sided_token(one_sided_evidence: Answers, one_sided_matched_pairs_by_token: Pairs) -> Scores:
    """`one_sided` over only those pairs of queries that the identity of the last token can't decide.

    Predictions by the last token are those of `two_choice_matched_token`.

    NaN where no band has ten such pairs, "decided by the last token".

    How it can mislead: tokens that end few windows have no prediction of their own, so pairs of such windows stay in
    even if their tokens decide them.
    """
    return over_bands(one_sided_evidence, one_sided_matched_pairs_by_token, note=DECIDED_BY_TOKEN)


@measure(
    version=1,
    unit="proportion correct",
    range=(0.0, 1.0),
    chance=0.5,
    higher_is="the other pole is more predictable",
    cite=CITE,
)
def other_pole(other_pole_evidence: Answers, other_pole_matched_pairs: Pairs) -> Scores:
    """`one_sided` asked about the other pole: the end with the lighter tail, against typical stimuli.

    A unit whose two poles are both predictable stands for two things, or for one thing and its opposite.

    NaN where no band has ten pairs that low-level statistics can't decide. A unit that rests at its other end, as
    rectified units do, has no such pole and is NaN.

    How it can mislead: the poles share the unit's typical stimuli, so the two scores are not independent.
    """
    return over_bands(other_pole_evidence, other_pole_matched_pairs)


@measure(
    version=1,
    unit="share of both tails",
    range=(0.0, 1.0),
    chance=None,
    higher_is="heavier above the median",
    cite="thalweg",
)
def upper_tail_share(tail_share: Float[Tensor, " unit"], tail_share_error: Float[Tensor, " unit"]) -> Score:
    """How much of a unit's spread lies above its median: t+ / (t+ + t-).

    t+ is the distance from the median to the mean of the nine highest stimuli, t- that to the nine lowest, each the
    mean over both halves of the pool, of values as the layer passes them on (behind its nonlinearity, if it is known).
    Above 1/2 the main pole is the upper one; a rectified unit has 1. The interval is by the delta method from the
    scatter of those stimuli.

    A constant unit is NaN, and so is one that passes on one value alone; its main pole is the upper one.

    How it can mislead: eighteen stimuli a side decide it, so for a unit with equal tails the main pole is a matter of
    chance.
    """
    half = Z * tail_share_error
    low, high = (tail_share - half).clamp_min(0), (tail_share + half).clamp_max(1)
    return Score(tail_share, low, high, torch.where(tail_share.isnan(), 0, 4 * REFERENCES), ONE_VALUE)
