"""How often each test of shape is right and wrong: false positives on curves without a valley, power on curves with
one.

`python -m benchmarks.shape_power [--sims N] [--out docs/shape-power.md]` simulates ladders of 6, 9 and 12 models,
applies the tests and writes the rates beside those of a prototype simulation. It takes more than half an hour of a
core; `--kept FILE` keeps each rate as it comes, so that the same command goes on where it stopped. Rates by another
code of the tests are not taken from there.
"""

import argparse
import functools
import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np

import thalweg.shape
from thalweg.files import whole
from thalweg.files.identity import digest
from thalweg.shape.evidence import Settings, examine_all, null_for
from thalweg.shape.order_tests import Basis, flat_p, null_of, order_restricted_p
from thalweg.shape.planning import detectable
from thalweg.shape.points import Points, noise_sources, points_of, rungs_of
from thalweg.shape.published_tests import quadratic, thirds, two_lines

ALPHA = 0.05
SEEDS = 3
Inputs = ParamSpec("Inputs")
Result = TypeVar("Result")


class Kept:
    """Rates by what was simulated, in a file if one is named."""

    def __init__(self) -> None:
        self.file: Path | None = None
        self.rates: dict[str, Any] = {}
        self.code = ""

    def open(self, file: Path) -> None:
        """Keep rates in this file, and take from it those that were simulated by the same code."""
        sources = sorted(Path(thalweg.shape.__file__).parent.glob("*.py"))
        self.file, self.code = file, digest(*(path.read_text() for path in (*sources, Path(__file__))))
        if file.exists() and (read := json.loads(file.read_text()))["code"] == self.code:
            self.rates = read["rates"]

    def __call__(self, simulate: Callable[Inputs, Result]) -> Callable[Inputs, Result]:
        """The same function, whose results are kept as JSON gives them back."""

        @functools.wraps(simulate)
        def asked(*args: Inputs.args, **options: Inputs.kwargs) -> Result:
            key = digest(simulate.__name__, [np.asarray(each).tolist() for each in args], options)
            if key not in self.rates:
                self.rates[key] = json.loads(json.dumps(simulate(*args, **options)))
                if self.file is not None:
                    whole.write_json(self.file, {"code": self.code, "rates": self.rates})
            kept: Result = self.rates[key]
            return kept

        return asked


KEPT = Kept()
UNEQUAL = (0.4, 0.7, 1.2, 2.0)
APART = (0.0, 0.5, 1.0, 2.0)

# Curves over x from 0 to 1 with a drop of d. The rates of the decays and the logistic's place and width are those that
# bring the rates of the quadratic test nearest to the reference's, which does not state its own.
TRUTHS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "flat": lambda x, d: np.zeros_like(x),
    "linear": lambda x, d: d * (1 - x),
    "expdec": lambda x, d: d * np.exp(-5 * x),
    "expdec_fast": lambda x, d: d * np.exp(-12 * x),
    "step": lambda x, d: d * (x == 0),
    "logistic": lambda x, d: d / (1 + np.exp((x - 0.35) / 0.1)),
    "valley": lambda x, d: d * np.abs(2 * x - 1),
    "valley_asym": lambda x, d: np.where(x < 0.3, d * (0.3 - x) / 0.3, 0.6 * d * (x - 0.3) / 0.7),
}

# Published comparison, origin: prototype simulation, 250 curves a row (standard error up to .03), noise of standard
# deviation 1.
# n, drop, truth: two-lines, Lind-Mehlum with known error, Lind-Mehlum with t, thirds, order-restricted.
REFERENCE: dict[tuple[int, int, str], tuple[float, float, float, float, float]] = {
    (6, 2, "flat"): (0.024, 0.016, 0.04, 0.012, 0.016),
    (6, 3, "expdec_fast"): (0.04, 0.276, 0.128, 0.056, 0.028),
    (6, 3, "valley"): (0.076, 0.664, 0.444, 0.42, 0.272),
    (6, 3, "valley_asym"): (0.052, 0.472, 0.292, 0.152, 0.112),
    (6, 4, "expdec"): (0.096, 0.2, 0.116, 0.012, 0.016),
    (6, 4, "expdec_fast"): (0.04, 0.388, 0.18, 0.056, 0.02),
    (6, 4, "logistic"): (0.236, 0.04, 0.032, 0.008, 0.016),
    (6, 4, "valley"): (0.08, 0.844, 0.612, 0.68, 0.52),
    (6, 4, "valley_asym"): (0.084, 0.704, 0.404, 0.304, 0.276),
    (6, 6, "expdec"): (0.116, 0.284, 0.128, 0.02, 0.016),
    (6, 6, "expdec_fast"): (0.02, 0.612, 0.144, 0.04, 0.028),
    (6, 6, "logistic"): (0.292, 0.056, 0.032, 0.004, 0.004),
    (6, 6, "valley"): (0.116, 0.992, 0.884, 0.952, 0.904),
    (6, 6, "valley_asym"): (0.076, 0.94, 0.616, 0.644, 0.52),
    (9, 2, "flat"): (0.008, 0.036, 0.036, 0.012, 0.004),
    (9, 3, "expdec_fast"): (0.056, 0.292, 0.184, 0.056, 0.024),
    (9, 3, "valley"): (0.096, 0.82, 0.712, 0.5, 0.388),
    (9, 3, "valley_asym"): (0.068, 0.612, 0.456, 0.256, 0.212),
    (9, 4, "expdec"): (0.112, 0.232, 0.184, 0.012, 0.012),
    (9, 4, "expdec_fast"): (0.036, 0.388, 0.224, 0.036, 0.028),
    (9, 4, "logistic"): (0.3, 0.06, 0.044, 0.004, 0.032),
    (9, 4, "valley"): (0.244, 0.952, 0.88, 0.796, 0.776),
    (9, 4, "valley_asym"): (0.072, 0.84, 0.624, 0.368, 0.364),
    (9, 6, "linear"): (0.228, 0.0, 0.0, 0.0, 0.0),
    (9, 6, "expdec"): (0.172, 0.412, 0.28, 0.008, 0.02),
    (9, 6, "expdec_fast"): (0.012, 0.74, 0.336, 0.048, 0.024),
    (9, 6, "logistic"): (0.336, 0.044, 0.024, 0.004, 0.016),
    (9, 6, "valley"): (0.408, 1.0, 1.0, 0.996, 0.988),
    (9, 6, "valley_asym"): (0.192, 0.988, 0.932, 0.732, 0.764),
    (12, 2, "flat"): (0.0, 0.024, 0.02, 0.012, 0.008),
    (12, 3, "expdec_fast"): (0.024, 0.284, 0.216, 0.044, 0.036),
    (12, 3, "valley"): (0.228, 0.92, 0.824, 0.632, 0.556),
    (12, 3, "valley_asym"): (0.108, 0.664, 0.528, 0.252, 0.268),
    (12, 4, "expdec"): (0.04, 0.268, 0.248, 0.004, 0.008),
    (12, 4, "expdec_fast"): (0.012, 0.492, 0.28, 0.052, 0.028),
    (12, 4, "logistic"): (0.044, 0.076, 0.044, 0.0, 0.02),
    (12, 4, "valley"): (0.444, 0.98, 0.964, 0.888, 0.872),
    (12, 4, "valley_asym"): (0.152, 0.892, 0.796, 0.44, 0.476),
    (12, 6, "expdec"): (0.04, 0.428, 0.36, 0.004, 0.004),
    (12, 6, "expdec_fast"): (0.028, 0.764, 0.456, 0.028, 0.032),
    (12, 6, "logistic"): (0.056, 0.068, 0.06, 0.0, 0.004),
    (12, 6, "valley"): (0.772, 1.0, 1.0, 0.996, 1.0),
    (12, 6, "valley_asym"): (0.396, 1.0, 0.98, 0.792, 0.816),
}
REFERENCE_DETECTABLE = {6: 5.4, 9: 4.1, 12: 3.8}  # same origin: depth for 80 % power, in standard deviations

NO_VALLEY = (
    ("flat", 0),
    ("linear", 6),
    ("expdec", 6),
    ("expdec_fast", 3),
    ("expdec_fast", 6),
    ("logistic", 6),
    ("step", 3),
    ("step", 6),
)
A_VALLEY = (("valley", 4), ("valley", 6), ("valley", 8), ("valley_asym", 6), ("valley_asym", 8))
ERRORS = {"absent": np.nan, "right": 1.0, "a tenth": 0.1}  # what is reported of a standard error of 1

# Origin: simulations of the prototype of this rule, 2,000 curves a row: seeds, n, D, truth -> share of valleys.
AIMS = {
    (3, 12, 4, "valley"): 0.69,
    (3, 12, 6, "valley"): 0.98,
    (3, 12, 6, "valley_asym"): 0.75,
    (3, 9, 4, "valley"): 0.64,
    (3, 9, 6, "valley"): 0.96,
    (3, 9, 6, "valley_asym"): 0.60,
    (3, 6, 4, "valley"): 0.39,
    (3, 6, 6, "valley"): 0.80,
    (3, 6, 6, "valley_asym"): 0.46,
    (1, 12, 4, "valley"): 0.57,
    (1, 12, 6, "valley"): 0.92,
    (1, 12, 8, "valley"): 1.00,
    (1, 12, 6, "valley_asym"): 0.62,
    (1, 12, 8, "valley_asym"): 0.83,
    (1, 9, 4, "valley"): 0.48,
    (1, 9, 6, "valley"): 0.82,
    (1, 9, 8, "valley"): 0.96,
    (1, 9, 6, "valley_asym"): 0.45,
    (1, 9, 8, "valley_asym"): 0.64,
}
# The rule before this one (order test after Holm, class weight and stability as conditions), 200 ladders a row:
# seeds, n, truth -> share called decreasing, D = 6.
BEFORE = {
    (3, 6, "linear"): 0.98,
    (3, 6, "expdec"): 0.99,
    (3, 6, "expdec_fast"): 0.98,
    (3, 6, "logistic"): 0.99,
    (3, 9, "linear"): 1.0,
    (3, 9, "expdec"): 0.975,
    (3, 9, "expdec_fast"): 0.965,
    (3, 9, "logistic"): 0.985,
    (3, 12, "linear"): 1.0,
    (3, 12, "expdec"): 1.0,
    (3, 12, "expdec_fast"): 0.98,
    (3, 12, "logistic"): 1.0,
    (1, 6, "linear"): 0.805,
    (1, 6, "expdec"): 0.74,
    (1, 6, "expdec_fast"): 0.52,
    (1, 6, "logistic"): 0.825,
    (1, 9, "linear"): 0.895,
    (1, 9, "expdec"): 0.88,
    (1, 9, "expdec_fast"): 0.8,
    (1, 9, "logistic"): 0.94,
    (1, 12, "linear"): 0.985,
    (1, 12, "expdec"): 0.97,
    (1, 12, "expdec_fast"): 0.93,
    (1, 12, "logistic"): 0.995,
}
NAMES = (
    "valley",
    "hump",
    "decreasing",
    "falls, may turn",
    "increasing",
    "rises, may turn",
    "cannot tell",
)


def curves(n: int, drop: float, truth: str, sims: int) -> np.ndarray:
    """Simulated scores (sim, model) with noise of standard deviation 1; the same noise for every truth."""
    rng = np.random.default_rng([n, 11])
    return TRUTHS[truth](np.linspace(0.0, 1.0, n), drop) + rng.standard_normal((sims, n))


@KEPT
def test_rates(n: int, drop: float, truth: str, sims: int, line_sims: int) -> dict[str, float]:
    """Share of curves in which each single test finds a valley at the .05 level."""
    scores, known, x = curves(n, drop, truth, sims), np.ones(n), np.linspace(0.0, 1.0, n)
    lines = [two_lines(x, y, least=1) for y in scores[:line_sims]]
    return {
        "two_lines": float(np.mean([line.valley for line in lines])),
        "applicable": float(np.mean([min(line.points_low, line.points_high) >= 4 for line in lines])),
        "guarded": float(np.mean([line.valley and min(line.points_low, line.points_high) >= 4 for line in lines])),
        "quadratic_known": float(np.mean([quadratic(x, y, known, known=True).p_valley < ALPHA for y in scores])),
        "quadratic": float(np.mean([quadratic(x, y, known).p_valley < ALPHA for y in scores])),
        "thirds": float(np.mean([thirds(y, known).p_valley < ALPHA for y in scores])),
        "order": float((order_restricted_p(scores, known)["valley"] < ALPHA).mean()),
    }


def ladders(
    truth: np.ndarray,
    sims: int,
    seeds: int,
    error: float,
    seed: int = 12,
    *,
    unequal: float = 0.0,
    apart: float = 0.0,
    basis: Basis | None = None,
) -> list[Points]:
    """What the tests see of simulated ladders: the mean of a model's seeds has standard deviation 1.

    Where it is `unequal`, its logarithm has that standard deviation over the models, and its mean square is 1. Models
    lie `apart` from the truth by an offset of that standard deviation, which their seeds share. The scatter is that of
    the seeds, where there are any, or what `basis` says.
    """
    n = len(truth)
    rng = np.random.default_rng([n, seeds, seed])
    x, group = np.repeat(np.linspace(0.0, 1.0, n), seeds), np.repeat(np.arange(n), seeds).tolist()
    every = []
    for _ in range(sims):
        scatter = np.exp(unequal * rng.standard_normal(n)) if unequal else np.ones(n)
        scatter *= np.sqrt(seeds / (scatter**2).mean())
        means = truth + apart * rng.standard_normal(n) if apart else truth
        score = np.repeat(means, seeds) + rng.standard_normal(n * seeds) * np.repeat(scatter, seeds)
        rungs, _ = rungs_of(x, score, np.full(n * seeds, error * np.sqrt(seeds)), None if seeds == 1 else group)
        points = points_of(rungs, basis or noise_sources(rungs)[0])
        assert points is not None
        every.append(points)
    return every


@KEPT
def verdict_rates(
    truth: np.ndarray,
    sims: int,
    seeds: int,
    seed: int = 12,
    *,
    unequal: float = 0.0,
    apart: float = 0.0,
    basis: Basis | None = None,
) -> dict[str, float]:
    """Share of each verdict over simulated ladders that report no standard error."""
    settings = Settings(seed=0, draws=4000, smallest_effect=1e-6, alpha=ALPHA)
    every = ladders(truth, sims, seeds, np.nan, seed, unequal=unequal, apart=apart, basis=basis)
    counts = Counter(evidence.verdict for evidence in examine_all(every, settings))
    return {name: count / sims for name, count in counts.items()}


def truth_of(n: int, drop: float, truth: str) -> np.ndarray:
    return TRUTHS[truth](np.linspace(0.0, 1.0, n), drop)


@KEPT
def false_turns(
    truth: np.ndarray, sims: int, seeds: int, error: float = np.nan, seed: int = 12, *, unequal: float = 0.0
) -> float:
    """Share of valleys and humps together, over ladders that report this standard error."""
    every = ladders(truth, sims, seeds, error, seed, unequal=unequal)
    settings = Settings(seed=0, draws=4000, smallest_effect=1e-6, alpha=ALPHA)
    return float(np.mean([min(each.p["valley"], each.p["hump"]) < ALPHA for each in examine_all(every, settings)]))


@KEPT
def worst_monotone(n: int, seeds: int, sims: int, tries: int = 120) -> tuple[float, list[float]]:
    """The worst of random monotone curves: steps of random sizes, most of them small; judged again on new noise."""
    rng = np.random.default_rng([n, seeds, 14])
    found = []
    for _ in range(tries):
        steps = rng.exponential(size=n - 1) ** rng.choice([1, 3, 6])
        steps *= rng.choice([1.5, 2.5, 4, 8]) / steps.sum()
        truth = np.concatenate([[0.0], -np.cumsum(steps)])
        found.append((false_turns(truth, sims // 4, seeds), truth))
    found.sort(key=lambda pair: -pair[0])
    return max(((false_turns(truth, sims, seeds, seed=15), list(truth)) for _, truth in found[:4]))


@KEPT
def flat_rates(n: int, effect: float, sims: int, seeds: int) -> tuple[float, float, float]:
    """Share called flat: a truth whose two ends differ by `effect`, a line of that range, a flat truth."""
    x = np.linspace(0.0, 1.0, n)
    ends = effect / 2 * ((x == 0).astype(float) - (x == 1).astype(float))
    group = None if seeds == 1 else np.repeat(np.arange(n), seeds).tolist()
    rates = []
    for truth in (ends, effect * x, 0 * x):
        rng = np.random.default_rng([n, seeds, 13])
        called = 0
        for _ in range(sims):
            score = np.repeat(truth, seeds) + rng.standard_normal(n * seeds) * np.sqrt(seeds)
            rungs, _ = rungs_of(np.repeat(x, seeds), score, np.full(n * seeds, np.nan), group)
            points = points_of(rungs, noise_sources(rungs)[0])
            assert points is not None
            called += flat_p(points.score, points.variance, points.df, effect) < ALPHA
        rates.append(called / sims)
    return rates[0], rates[1], rates[2]


def row(*cells: object) -> str:
    return "| " + " | ".join(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells) + " |"


def header(*cells: str) -> list[str]:
    return [row(*cells), row(*("---" for _ in cells))]


INTRODUCTION = """# Power and false positives of the tests of shape

Written by `python -m benchmarks.shape_power`. Models are equally spaced in strength (x from 0 to 1) and the noise of a
point has standard deviation 1; D is the drop in that unit. Truths: `flat` 0; `linear` D (1 - x); `expdec` D exp(-5 x);
`expdec_fast` D exp(-12 x); `step` D at x = 0, else 0; `logistic` D / (1 + exp((x - 0.35) / 0.1)); `valley`
D |2 x - 1|; `valley_asym` falls by D to x = 0.3 and rises by 0.6 D. The reference does not state its formulas; these
rates bring the quadratic test nearest to its numbers.
"""

SINGLE = """
## Single tests, known variance

Share of curves in which a test finds a valley at the .05 level (no correction for also testing a hump), {sims} curves a
row ({lines} for two-lines), standard error at most {error:.3f}; in brackets the published comparison (prototype
simulation, 250 curves, standard error at most .03). `two-lines` is the test without a guard, as in the comparison;
`guarded` counts only valleys with four points in each segment, and `applicable` is the share of curves where there are.
The two-lines columns agree only roughly: the comparison's smoother is another.
"""

LEVEL = """
## False turns of the whole verdict

Share of ladders without a valley that are called valley or hump, both together, {sims} simulated ladders a row. With
three seeds the scatter comes from the seeds (pooled), with one from the curve itself. Models report a standard error
within them that is absent, right, or a tenth of what it should be. `step` falls by D after the first model. The last
row is the worst of 120 random monotone curves, judged again on new noise. None is to exceed .05 (chance: {error:.3f}).
"""

RULE = """
## The whole verdict

Share of verdicts, {sims} simulated ladders a row, no standard error within models. In brackets: of a valley, the aim (a
prototype's share with the same tests and no conditions); of `decreasing`, the share by the rule before, which also
called .28 to .50 of the lopsided valleys (`valley_asym`, three seeds) decreasing.

A monotone curve is right as `decreasing`, and not wrong as `falls, may turn`; a lopsided valley is right as `valley`,
not wrong as `falls, may turn`, and wrong as `decreasing`, which is to be said in at most .05. With three seeds valleys
are found less often than the aim in some rows: that is what it costs to let models scatter unequally (below), which the
prototype did not. With one seed they are found more often.
"""

SCATTER = """
## Models that scatter unequally

Share of turns (valleys and humps) and of valleys, {sims} simulated ladders a row, three seeds. The logarithm of the
models' standard deviations has the standard deviation that heads the column; their mean square is 1. On the ladder of
digits it is about 1.2: seeds of two units scatter fifty times as much as seeds of a thousand. With one pooled variance,
as the rule had it before, a flat curve of 12 models had a turn in .12, .20 and .24 of ladders at .7, 1.2 and 2.
"""

ALONE = """
## One row a model, and models that scatter unequally

Share of turns of a flat curve, {sims} simulated ladders a row, one seed and no standard errors. Nothing then says that
models scatter unequally, and the rule takes them as alike: with many models of very unequal scatter it finds turns too
often. Several seeds (above), or a right standard error for each score, mend it.
"""

OFFSETS = """
## Models that differ by more than their strength

Share of turns, and of any shape at all, where the truth is flat but each model lies apart from it by an offset of its
own, which its seeds share: {sims} simulated ladders a row, three seeds. The offsets are in standard deviations of a
model's mean. Seeds say whether *these* models lie on a curve without a turn: the larger their offsets, the more surely
they do not. Whether other models of these strengths would turn as well is what the curve's own scatter says (last
column). A verdict's sentence says so where the two differ.
"""

DEPTHS = """
## Smallest detectable depth of the verdict

Depth of a symmetric valley that the verdict is to call a valley four times in five, in standard deviations of a point,
as a verdict reports it; and the share of {sims} simulated ladders with such a valley that are called so.
"""

FLAT = """
## Flat, by equivalence

Share called flat where the smallest effect is D: the ends differ by exactly D with everything else between (the hardest
case), a straight line with range D, and a flat truth. The first two must not exceed .05; {sims} ladders a row.
"""

DETECTABLE = """
## Smallest detectable depth of the order test

Depth of a symmetric valley that the order-restricted test finds four times in five, known variance, in standard
deviations of a point.
"""


def single_tests(sims: int) -> list[str]:
    lines = max(50, sims // 4)
    text = SINGLE.format(sims=sims, lines=lines, error=0.5 / np.sqrt(sims))
    names = (
        "n",
        "D",
        "truth",
        "order-restricted",
        "thirds",
        "Lind-Mehlum, t",
        "Lind-Mehlum, known",
        "two-lines",
        "guarded",
        "applicable",
    )
    table = header(*names)
    for (n, drop, truth), (two, known, t, third, order) in REFERENCE.items():
        rates = test_rates(n, drop, truth, sims, lines)
        pairs = (("order", order), ("thirds", third), ("quadratic", t), ("quadratic_known", known), ("two_lines", two))
        cells = [f"{rates[name]:.3f} ({reference:.3f})" for name, reference in pairs]
        table.append(row(n, drop, truth, *cells, rates["guarded"], rates["applicable"]))
    return [text, *table]


def levels(sims: int) -> list[str]:
    table = header("seeds", "n", "D", "truth", *(f"error {name}" for name in ERRORS))
    for seeds in (SEEDS, 1):
        for n in (6, 9, 12):
            for truth, drop in NO_VALLEY:
                rates = (false_turns(truth_of(n, drop, truth), sims, seeds, error) for error in ERRORS.values())
                table.append(row(seeds, n, drop, truth, *rates))
            rate, truth = worst_monotone(n, seeds, sims)
            levels = ", ".join(f"{value:.1f}" for value in truth)
            table.append(row(seeds, n, f"{np.ptp(truth):.1f}", f"random: {levels}", rate, "", ""))
    return [LEVEL.format(sims=sims, error=2 * np.sqrt(0.05 * 0.95 / sims)), *table]


def whole_rule(sims: int) -> list[str]:
    table = header("seeds", "n", "D", "truth", *NAMES)
    for truths in (NO_VALLEY, A_VALLEY):
        for seeds in (SEEDS, 1):
            for n in (6, 9, 12):
                for truth, drop in truths:
                    rates = verdict_rates(truth_of(n, drop, truth), sims, seeds)
                    cells = [f"{rates.get(name, 0.0):.3f}" for name in NAMES]
                    if (seeds, n, drop, truth) in AIMS:
                        cells[0] += f" ({AIMS[seeds, n, drop, truth]:.2f})"
                    if drop == 6 and (seeds, n, truth) in BEFORE:
                        cells[2] += f" ({BEFORE[seeds, n, truth]:.2f})"
                    table.append(row(seeds, n, drop, truth, *cells))
    return [RULE.format(sims=sims), *table]


def unequal_scatter(sims: int) -> list[str]:
    table = header("n", "D", "truth", *(f"{name} {spread}" for name in ("turns", "valleys") for spread in UNEQUAL))
    for n in (6, 12, 20):
        for truth, drop in (("flat", 0), ("linear", 6), ("expdec_fast", 6), ("valley", 4), ("valley", 6)):
            rates = [verdict_rates(truth_of(n, drop, truth), sims, SEEDS, unequal=spread) for spread in UNEQUAL]
            table.append(row(n, drop, truth, *map(turns_in, rates), *(each.get("valley", 0.0) for each in rates)))
    return [SCATTER.format(sims=sims), *table]


def turns_in(rates: dict[str, float]) -> float:
    return rates.get("valley", 0.0) + rates.get("hump", 0.0)


def unequal_without_seeds(sims: int) -> list[str]:
    table = header("n", "truth", *(f"turns {spread}" for spread in UNEQUAL))
    for n in (6, 12, 20):
        rates = [verdict_rates(truth_of(n, 0, "flat"), sims, 1, unequal=spread) for spread in UNEQUAL]
        table.append(row(n, "flat", *map(turns_in, rates)))
    return [ALONE.format(sims=sims), *table]


def own_offsets(sims: int) -> list[str]:
    table = header("n", "apart by", "turns, by seeds", "any shape, by seeds", "turns, by the curve")
    for n in (6, 12, 20):
        for apart in APART:
            truth = truth_of(n, 0, "flat")
            seeds, curve = (
                verdict_rates(truth, sims, SEEDS, apart=apart, basis=basis) for basis in ("replicates", "residuals")
            )
            table.append(row(n, apart, turns_in(seeds), 1 - seeds.get("cannot tell", 0.0), turns_in(curve)))
    return [OFFSETS.format(sims=sims), *table]


def depths_of_the_verdict(sims: int) -> list[str]:
    table = header("seeds", "n", "depth", "called a valley")
    for seeds in (SEEDS, 1):
        for n in (6, 9, 12):
            points = ladders(np.zeros(n), 1, seeds, np.nan)[0]
            depth = detectable(null_for(points, 4000, 0), ALPHA)
            assert depth is not None
            rates = verdict_rates(truth_of(n, depth, "valley"), sims, seeds, seed=16)
            table.append(row(seeds, n, f"{depth:.1f}", rates.get("valley", 0.0)))
    return [DEPTHS.format(sims=sims), *table]


def equivalence(sims: int) -> list[str]:
    table = header("seeds", "n", "D", "ends differ by D", "line of range D", "flat")
    for seeds in (SEEDS, 1):
        for n in (6, 12):
            for effect in (6.0, 8.0, 12.0):
                table.append(row(seeds, n, int(effect), *flat_rates(n, effect, sims, seeds)))
    return [FLAT.format(sims=sims), *table]


def detectable_depths() -> list[str]:
    table = header("n", "at .05", "comparison")
    for n, reference in REFERENCE_DETECTABLE.items():
        table.append(row(n, f"{detectable(null_of(np.ones(n)), ALPHA) or np.nan:.1f}", f"{reference:.1f}"))
    return [DETECTABLE, *table]


def page(sims: int) -> str:
    """The whole page, in markdown."""
    verdicts = 2 * sims
    parts = [*single_tests(sims), *detectable_depths(), *levels(verdicts), *whole_rule(verdicts)]
    return (
        "\n".join(
            [
                INTRODUCTION,
                *parts,
                *unequal_scatter(verdicts),
                *unequal_without_seeds(verdicts),
                *own_offsets(verdicts),
                *depths_of_the_verdict(verdicts),
                *equivalence(sims),
            ]
        )
        + "\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sims", type=int, default=1000, help="simulated curves a row of the first table")
    parser.add_argument("--out", type=Path, default=Path("docs/shape-power.md"))
    parser.add_argument("--kept", type=Path, help="a file that keeps what is simulated")
    settings = parser.parse_args()
    if settings.kept:
        KEPT.open(settings.kept)
    start = time.perf_counter()
    settings.out.parent.mkdir(parents=True, exist_ok=True)
    settings.out.write_text(page(settings.sims))
    print(f"{settings.out}: {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
