"""Can an observer that compares whole stimuli predict a unit?

The published question: which of two stimuli drives the unit more, given what drives it most and least? `two_choice`
asks it about all pairs, `two_choice_matched` about those that low-level statistics of the stimuli can't decide. The
headline asks about one pole alone; see `one_sided`.
"""

from thalweg.measures.base import DECIDED, MEAN, Scores, mean_of, measure, proportion_correct
from thalweg.observers.answers import Answers
from thalweg.trials.building import Pairs

PLAIN_BANDS = ("extreme", "v90", "v75")
MATCHED_BANDS = ("v90", "v75")
LEAST_PAIRS = 10  # fewer undecided pairs than this make no score
DECIDED_BY_TOKEN = "decided by the last token"


def matched(answers: Answers, pairs: Pairs, *, note: str = DECIDED, capacity: str = "") -> Scores:
    """The share of right answers over some pairs of each matched band, and its mean; `note` says why too few are
    left.
    """
    bands = {
        band: proportion_correct(answers[band], pairs[band], least=LEAST_PAIRS, note=note) for band in MATCHED_BANDS
    }
    scores = {(band, capacity): score for band, score in bands.items()}
    scores[MEAN, capacity] = mean_of(*bands.values())
    return scores


@measure(
    version=1,
    unit="proportion correct",
    range=(0.0, 1.0),
    chance=0.5,
    higher_is="more predictable",
    essential=True,
    cite="the 2AFC protocol of Zimmermann, Klein & Brendel 2023, answered by a machine over graded bands",
)
def two_choice(evidence: Answers) -> Scores:
    """How often an observer picks the stimulus that drives the unit more, given what drives it most and least.

    For a band, the share of all pairs (high query, low query) with d(high) > d(low), ties counting half, where d(q) =
    s(q, E+) - s(q, E-) is the evidence and s the mean similarity to nine references. The score is the mean of
    `extreme`, `v90` and `v75`; every band has a row, `v60` too.

    A unit with no queries in a band (its values jump over it) is NaN there and in the mean. A constant unit is NaN.

    How it can mislead: an observer that sees the amount of ink predicts every unit that follows it, trained or not;
    look at `two_choice_matched` and at the untrained twin. `extreme` saturates: many units score 1.
    """
    bands = {band: proportion_correct(answers) for band, answers in evidence.items()}
    scores = {(band, ""): score for band, score in bands.items()}
    scores[MEAN, ""] = mean_of(*(bands[band] for band in PLAIN_BANDS))
    return scores


@measure(
    version=1,
    unit="proportion correct",
    range=(0.0, 1.0),
    chance=0.5,
    higher_is="more predictable beyond low-level statistics",
    cite="thalweg; matching as in matched case-control designs",
)
def two_choice_matched(evidence: Answers, matched_pairs: Pairs) -> Scores:
    """`two_choice` over only those pairs of queries that low-level statistics of the stimuli can't decide.

    A unit's values on the reference half are regressed on the stimuli's low-level statistics; a pair counts if the
    predictions for its two queries differ by less than a quarter of the unit's standard deviation. The score is the
    mean of `v90` and `v75`.

    Fewer than ten such pairs in a band give NaN, "decided by low-level statistics": such a unit is explained already.
    The share of units that could be measured, the coverage, belongs to every mean of this score.

    How it can mislead: the statistics are matched linearly, so what depends on them otherwise stays in; and where
    coverage is low, the mean is that of an unusual few.
    """
    return matched(evidence, matched_pairs)


@measure(
    version=1,
    unit="proportion correct",
    range=(0.0, 1.0),
    chance=0.5,
    higher_is="more predictable beyond the last token",
    cite="thalweg; matching as in matched case-control designs",
)
def two_choice_matched_token(evidence: Answers, matched_pairs_by_token: Pairs) -> Scores:
    """`two_choice` over only those pairs of queries that the identity of the last token can't decide.

    A window's prediction is the mean of the unit over the windows of the reference half that end in the same token,
    shrunken towards the overall mean; a pair counts if the predictions for its two queries differ by less than a
    quarter of the unit's standard deviation. The score is the mean of `v90` and `v75`.

    Fewer than ten such pairs in a band give NaN, "decided by the last token". The coverage belongs to every mean of
    this score.

    How it can mislead: tokens that end few windows have no prediction of their own, so pairs of such windows stay in
    even if their tokens decide them; and where coverage is low, the mean is that of an unusual few.
    """
    return matched(evidence, matched_pairs_by_token, note=DECIDED_BY_TOKEN)
