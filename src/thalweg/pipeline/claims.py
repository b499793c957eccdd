"""The table of claims: what a survey's own numbers say of the hypotheses, and of the smaller claims beside them.

Strength is held where a factor could go with the score only because both go with strength. Scores count where at least
a quarter of a model's units could be measured, as for verdicts.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product
from typing import Any

import polars as pl

from thalweg.factors import claims as made
from thalweg.factors.claims import OVERFITTING, SHARING
from thalweg.factors.relation import Relation, difference_of_means, mean_over_rungs, partial_relation, relation
from thalweg.measures.base import MEAN
from thalweg.measures.headlines import HEADLINES
from thalweg.pipeline.verdicts import LEAST_COVERAGE
from thalweg.scoring.gains import GAIN, minus
from thalweg.strength.axes import SHARE

STRENGTH = "strength"
DENSITIES = ("activation_density", "latent_density")
MEANS = (*((made.SPARSER, name, 0) for name in DENSITIES), (made.SPECIFIC, "representation_gap_density", -1))
CONTROLS_OF_GAINS = ("untrained", "rerandomised")
LEAST_IN_COMMON = 2  # rungs of each ladder at strengths that both reach
Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Surveyed:
    """What a survey has of one ladder.

    Attributes:
        name: Of the ladder.
        modality: Of its stimuli.
        models: A row for each model and twin: its strength, scores and factors.
        scores: The rows of whole rungs by the headlines.
        gains: What dictionaries gain on the neurons in each model and twin, and in trained models less in each twin.
        factors: The names of the factors.
        seed: Of drawing rungs again, for means.
    """

    name: str
    modality: str
    models: pl.DataFrame
    scores: pl.DataFrame
    gains: pl.DataFrame
    factors: Sequence[str]
    seed: int

    @cached_property
    def trained(self) -> pl.DataFrame:
        """The rows of trained models."""
        return self.models.filter(control="trained")

    @property
    def overfitting(self) -> list[str]:
        """The factors that stand for it."""
        return [name for name in OVERFITTING if name in self.factors]

    @property
    def sharing(self) -> list[str]:
        """The factors of which more says that more features share units."""
        return [name for name, sign in SHARING.items() if sign and name in self.factors]

    def correlation(self, x: str, y: str, held: str = "") -> Relation:
        """Spearman's correlation of two columns over trained models, with a third one held."""
        first, second = (_numbers(self.trained, name) for name in (x, y))
        names = self.trained["rung"].to_list()
        if not held:
            return relation(first, second, names)
        return partial_relation(first, second, _numbers(self.trained, held), names)

    def row(self, claim: str, quantity: str, predicted: int, estimate: Relation, **more: str) -> Row:
        """A row of the table."""
        numbers = {"value": estimate.rho, "low": estimate.low, "high": estimate.high, "note": estimate.note}
        counts = {"n_models": estimate.n_models, "n_rungs": estimate.n_rungs}
        key = {"claim": claim, "ladder": self.name, "quantity": quantity, "predicted": predicted}
        usual = {"other": "", "headline": "", "held": "", "statistic": "correlation"}
        return {**usual, **key, **numbers, **counts, **more}


def claims(
    models: pl.DataFrame,
    scores: pl.DataFrame,
    populations: pl.DataFrame,
    factors: Sequence[str],
    *,
    axis: str,
    seed: int,
) -> pl.DataFrame:
    """What the models of a run say of the claims, ladder by ladder and between ladders of different stimuli; nothing of
    a ladder of one rung.

    Args:
        models: The rows of the main basis, with the factors.
        scores: Of models and rungs, by the headline's observers.
        populations: Statistics of units, with the gains of bases on the neurons.
        factors: Their names.
        axis: Of strength.
        seed: Of drawing rungs again, for means.
    """
    ladders = list(_surveyed(models, scores, populations, factors, axis, seed))
    rows = [row for ladder in ladders for row in (*_hypotheses(ladder), *_smaller(ladder))]
    rows += [row for pair in combinations(ladders, 2) for row in _between(*pair)]
    return pl.DataFrame(rows, schema=made.CLAIMS)


def _surveyed(
    models: pl.DataFrame, scores: pl.DataFrame, populations: pl.DataFrame, factors: Sequence[str], axis: str, seed: int
) -> Iterator[Surveyed]:
    columns = [
        pl.when(pl.col(f"{word}_coverage") >= LEAST_COVERAGE).then(pl.col(word)).otherwise(math.nan).alias(word)
        for word in HEADLINES
    ]
    for (name,), group in models.with_columns(pl.col(axis).alias(STRENGTH), *columns).group_by(
        "ladder", maintain_order=True
    ):
        if group["rung"].n_unique() < 2:
            continue
        of_rungs = (pl.col("ladder") == name) & pl.col("seed").is_null() & (pl.col("control") == "trained")
        gained = (pl.col("ladder") == name) & pl.col("seed").is_not_null() & (pl.col("basis") == "sae")
        yield Surveyed(
            str(name),
            str(group["modality"][0]),
            group,
            scores.filter(of_rungs & (pl.col("band") == MEAN), pl.col("basis") == group["basis"][0]),
            populations.filter(gained, pl.col("coverage") >= LEAST_COVERAGE),
            factors,
            seed,
        )


def _hypotheses(ladder: Surveyed) -> Iterator[Row]:
    """What can be said of the first five; the sixth needs two ladders."""
    for word in HEADLINES:
        for held in ("", *ladder.overfitting[:1]):
            estimate = ladder.correlation(STRENGTH, word, held)
            yield ladder.row("H1", STRENGTH, 1, estimate, headline=word, held=held)
    for claim, name, sign in [
        *(("H2", name, -1) for name in ladder.overfitting),
        *(("H3", name, -sign) for name, sign in SHARING.items() if name in ladder.factors),
    ]:
        for word in HEADLINES:
            estimate = ladder.correlation(name, word, STRENGTH)
            yield ladder.row(claim, name, sign, estimate, headline=word, held=STRENGTH)
    yield from _dictionary_test(ladder)
    for name, other in product(ladder.overfitting, ladder.sharing):
        estimate = ladder.correlation(name, other, STRENGTH)
        yield ladder.row("H4", f"{name} and {other}", 1, estimate, held=STRENGTH)
    for name in ladder.sharing:
        yield ladder.row("H5", f"{STRENGTH} and {name}", -1, ladder.correlation(STRENGTH, name))


def _dictionary_test(ladder: Surveyed) -> Iterator[Row]:
    """What dictionaries say of the third: whether they gain more than in twins, and more where more is shared, which a
    dictionary could do in any network: so twins are asked too, at the strengths of their trained networks.
    """
    for control, (word, measure) in product(CONTROLS_OF_GAINS, HEADLINES.items()):
        gains = ladder.gains.filter(measure=measure, statistic=minus(control))
        if len(gains):
            estimate = mean_over_rungs(_numbers(gains, "score"), gains["rung"].to_list(), seed=ladder.seed)
            quantity = f"gain of dictionaries less the {control} twin's"
            yield ladder.row("H3", quantity, 1, estimate, headline=word, statistic="mean")
    strengths = ladder.trained.select("rung", "seed", STRENGTH)
    for name, (word, measure), control in product(ladder.sharing, HEADLINES.items(), ("trained", *CONTROLS_OF_GAINS)):
        gains = ladder.gains.filter(measure=measure, statistic=GAIN, control=control)
        if len(gains):
            factors = ladder.models.filter(control=control).select("rung", "seed", name)
            both = gains.select("rung", "seed", gained="score")
            for more in (factors, strengths):
                both = both.join(more, on=["rung", "seed"], how="left", maintain_order="left")
            factor, gained, held = (_numbers(both, column) for column in (name, "gained", STRENGTH))
            estimate = partial_relation(factor, gained, held, both["rung"].to_list())
            quantity = f"{name} and gain of dictionaries" + ("" if control == "trained" else f", {control} twins")
            predicted = int(control == "trained")
            yield ladder.row("H3", quantity, predicted, estimate, headline=word, held=STRENGTH)


def _smaller(ladder: Surveyed) -> Iterator[Row]:
    """What one ladder says of the smaller claims."""
    untrained = ladder.models.filter(control="untrained")
    for claim, name, sign in MEANS:
        if name in ladder.factors:
            estimate = mean_over_rungs(
                _numbers(ladder.trained, name), ladder.trained["rung"].to_list(), seed=ladder.seed
            )
            yield ladder.row(claim, name, sign, estimate, statistic="mean")
        if name in ladder.factors and len(untrained):
            estimate = _difference(name, ladder.trained, untrained, seed=ladder.seed, paired=True)
            yield ladder.row(claim, f"{name}, less the untrained twins'", sign, estimate, statistic="difference")
    for name in ladder.sharing:
        estimate = ladder.correlation("parameters", name, STRENGTH)
        yield ladder.row(made.LARGER, f"parameters and {name}", -1, estimate, held=STRENGTH)
    yield from _peaks(ladder)


def _peaks(ladder: Surveyed) -> Iterator[Row]:
    """The best rung of the weaker half by each headline, with its score."""
    by_rung = ladder.trained.group_by("rung", maintain_order=True).agg(pl.col(STRENGTH).mean())
    order = by_rung.filter(pl.col(STRENGTH).is_finite()).sort(STRENGTH, "rung")["rung"].to_list()
    weaker = order[: len(order) // 2]
    for word, measure in HEADLINES.items():
        keep = pl.col("rung").is_in(weaker) & pl.col("score").is_not_nan() & (pl.col("measure") == measure)
        scored = ladder.scores.filter(keep, pl.col("coverage") >= LEAST_COVERAGE).sort("score", descending=True)
        if len(scored):
            best = scored.row(0, named=True)
            place = f"{best['rung']}, number {order.index(best['rung']) + 1} of {len(order)} from the weakest"
            estimate = Relation(best["score"], best["low"], best["high"], 0, len(weaker), place)
            yield ladder.row(made.PEAK, "best of the weaker half", 0, estimate, headline=word, statistic="score")


def _between(first: Surveyed, second: Surveyed) -> Iterator[Row]:
    """What a ladder of images and one of other stimuli say beside each other."""
    images, other = (first, second) if first.modality == "image" else (second, first)
    if images.modality != "image" or other.modality == "image":
        return
    for word in HEADLINES:
        estimate = _at_equal_strength(word, images, other)
        yield images.row(
            "H6", "score at equal shares", -1, estimate, other=other.name, headline=word, statistic="difference"
        )
    if other.modality != "text":
        return
    both = {"other": images.name, "statistic": "difference"}
    for name in DENSITIES:
        if name in images.factors:
            estimate = _difference(name, other.trained, images.trained, seed=images.seed)
            yield other.row(made.SPARSER, name, -1, estimate, **both)
    smaller = [_smaller_half(ladder.trained) for ladder in (other, images)]
    for word in HEADLINES:
        estimate = _difference(word, *smaller, seed=images.seed)
        yield other.row(made.TINY, "score of the smaller half", 1, estimate, headline=word, **both)


def _at_equal_strength(word: str, images: Surveyed, other: Surveyed) -> Relation:
    """How much higher images score, over models whose shares of the achievable bits both ladders reach."""
    frames = [ladder.trained.filter(pl.col(SHARE).is_finite()) for ladder in (images, other)]
    if any(frame.is_empty() for frame in frames):
        return Relation(math.nan, math.nan, math.nan, 0, 0, "a ladder has no shares of the achievable bits")
    ends = [(min(shares), max(shares)) for shares in (_numbers(frame, SHARE) for frame in frames)]
    low, high = max(start for start, _ in ends), min(end for _, end in ends)
    common = [frame.filter(pl.col(SHARE).is_between(low, high)) for frame in frames]
    if min(frame["rung"].n_unique() for frame in common) < LEAST_IN_COMMON:
        reached = " and ".join(f"{round(start, 2) + 0.0:.2f} to {end:.2f}" for start, end in ends)  # no -0.00
        return Relation(math.nan, math.nan, math.nan, 0, 0, f"too few models at equal shares: they reach {reached}")
    return _difference(word, *common, seed=images.seed)


def _smaller_half(models: pl.DataFrame) -> pl.DataFrame:
    """The models of the rungs with the fewest parameters."""
    sizes = models.group_by("rung", maintain_order=True).agg(pl.col("parameters").mean()).sort("parameters", "rung")
    return models.filter(pl.col("rung").is_in(sizes["rung"][: max(1, len(sizes) // 2)].to_list()))


def _difference(name: str, these: pl.DataFrame, those: pl.DataFrame, *, seed: int, paired: bool = False) -> Relation:
    """The mean of a column over some models less that over others; `paired` if both have the same rungs."""
    first, second = (frame["rung"].to_list() for frame in (these, those))
    if not paired:
        second = [f"other {rung}" for rung in second]
    return difference_of_means(_numbers(these, name), _numbers(those, name), first, second, seed=seed)


def _numbers(frame: pl.DataFrame, name: str) -> list[float]:
    """A column, NaN where it is missing."""
    return frame[name].cast(pl.Float64).fill_null(math.nan).to_list()
