"""Is a unit one thing? What a single named feature explains, asked about the unit's two ends.

An observer of limited capacity picks, from thirty references a side and from nothing else, the feature of its
dictionary that separates high from low best, and answers the queries by it alone. The headline *crisp* asks the same of
one pole; see `one_sided_single`.
"""

from thalweg.measures.base import Scores, measure
from thalweg.measures.two_choice import matched
from thalweg.observers.answers import Answers
from thalweg.trials.building import Pairs


@measure(
    version=1,
    unit="proportion correct",
    range=(0.0, 1.0),
    chance=0.5,
    higher_is="crisper",
    cite="thalweg",
)
def two_choice_single(single: Answers, matched_pairs: Pairs) -> Scores:
    """How often one named feature, chosen by the references alone, decides pairs that low-level statistics can't.

    For feature f over thirty references a side, separation = |m+ - m-| / sqrt(v), with v the mean of the two variances
    plus 0.05 of the feature's variance over the pool: thirty references can't show that a feature varies less. The best
    feature's value, signed, is the evidence; the score is the mean of `v90` and `v75` over the pairs of
    `two_choice_matched`.

    NaN where `two_choice_matched` is NaN.

    How it can mislead: a unit that is one thing which the dictionary does not name scores low. Compare with the rotated
    twin of the same layer, which the same dictionary reads: what neurons have and their rotation lacks is crispness of
    this basis.
    """
    return matched(single, matched_pairs, capacity="1")
