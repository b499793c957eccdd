"""The six hypotheses, written down before the design is run: what each predicts, and what would refute it.

Each is one contrast of the networks' crisp scores (the mean over layers of the mean over units of the single-feature
2AFC accuracy; chance 0.5). Superposition is 1 less the mean feature dimensionality. The rule is the same for all:
*supported* if p is below .05 after Holm's correction over the six, with the predicted sign, and an effect of the least
size that matters, .03, is not excluded; *refuted* if the 95 % interval excludes an effect of .03 in the predicted
direction; *cannot tell* otherwise.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from thalweg.causes.design import FACTORS, code
from thalweg.causes.regression import Column, Columns, bootstrap, coefficients, interval
from thalweg.errors import ThalwegError
from thalweg.factors.claims import HYPOTHESES as CLAIMS
from thalweg.shape.holm import holm

SMALLEST_EFFECT = 0.03  # of proportion correct
ALPHA = 0.05
SUPPORTED, REFUTED, CANNOT_TELL = "supported", "refuted", "cannot tell"
PAIRS = tuple(combinations(FACTORS, 2))


@dataclass(frozen=True)
class Hypothesis:
    """A hypothesis as a contrast.

    Attributes:
        name: `H1` to `H6`.
        claim: What it says.
        contrast: What is estimated, in words.
        refuter: What would refute it.
        sign: The predicted sign of the contrast.
        rows: Which rows of the analysis it takes.
        n_cells: Cells that these must have.
        estimate: The contrast of these rows' columns.
    """

    name: str
    claim: str
    contrast: str
    refuter: str
    sign: int
    rows: Callable[[pl.DataFrame], pl.DataFrame]
    n_cells: int
    estimate: Callable[[Columns], Column]


def analysed(networks: pl.DataFrame) -> pl.DataFrame:
    """The networks that have a score, with their factors coded from -1 to 1, and superposition."""
    coded = [
        pl.Series(f"x_{name}", [code(name, value) for value in networks[name].to_list()], dtype=pl.Float64)
        for name in FACTORS
    ]
    return networks.with_columns(*coded, superposition=1 - pl.col("dimensionality")).filter(
        pl.col("crisp").is_not_nan() & pl.col("dimensionality").is_not_nan()
    )


def factorial_rows(networks: pl.DataFrame) -> pl.DataFrame:
    """The two-level design."""
    return networks.filter(arm="factorial")


def online_rows(networks: pl.DataFrame) -> pl.DataFrame:
    """The networks of the two-level design that never see a stimulus twice: without a gap."""
    return factorial_rows(networks).filter(pl.col("x_examples") == -1)


def dense_online_rows(networks: pl.DataFrame) -> pl.DataFrame:
    """Those of them whose features are dense."""
    return online_rows(networks).filter(pl.col("x_density") == 1)


def intervention_rows(networks: pl.DataFrame) -> pl.DataFrame:
    """A row for each network with an intervention that is meant to move superposition: differences from its base."""
    frame = networks.filter(arm="intervention")
    keys = ["seed", "modality", "examples"]
    base = frame.filter(intervention="none").select(*keys, base_crisp="crisp", base_superposition="superposition")
    moved = frame.filter((pl.col("intervention") != "none") & (pl.col("moves") == "superposition"))
    scale = float(online_rows(networks).select(pl.col("superposition").std()).item() or 0.0)
    return moved.join(base, on=keys, maintain_order="left").with_columns(
        d_crisp=pl.col("crisp") - pl.col("base_crisp"),
        d_superposition=pl.col("superposition") - pl.col("base_superposition"),
        scale=pl.lit(scale),
    )


def _capacity(columns: Columns) -> Column:
    others = [columns[name] for name in ("superposition", "x_modality", "x_label_noise")]
    slopes = coefficients(columns["crisp"], columns["x_width"], columns["x_depth"], *others)
    return np.array([2 * (slopes[0] + slopes[1])])


def two_factor(columns: Columns, names: Sequence[str] = tuple(FACTORS)) -> dict[tuple[str, ...], float]:
    """The coefficients of main effects and interactions of two factors."""
    terms: list[tuple[str, ...]] = [*((name,) for name in names), *combinations(names, 2)]
    predictors = [np.prod([columns[f"x_{name}"] for name in term], axis=0) for term in terms]
    return dict(zip(terms, coefficients(columns["crisp"], *predictors).tolist(), strict=True))


def _noise_with_few(columns: Columns) -> Column:
    return np.array([4 * two_factor(columns)["examples", "label_noise"]])


def _superposition(columns: Columns) -> Column:
    moved = columns["d_superposition"]
    return np.array([columns["scale"][0] * (columns["d_crisp"] @ moved) / max(float(moved @ moved), 1e-12)])


def _few_with_sparse(columns: Columns) -> Column:
    return np.array([-4 * two_factor(columns)["examples", "density"]])


def _narrow_with_sparse(columns: Columns) -> Column:
    others = [name for name in FACTORS if name not in ("examples",)]
    mains = [columns[f"x_{name}"] for name in others]
    return np.array([4 * coefficients(columns["crisp"], columns["x_width"] * columns["x_density"], *mains)[0]])


def _modality(columns: Columns) -> Column:
    return np.array([2 * two_factor(columns)["modality",]])


HYPOTHESES = (
    Hypothesis(
        "H1",
        CLAIMS["H1"],
        "width and depth from low to high, online, with dense features, superposition held",
        "no rise by .03 with capacity where nothing is overfitted",
        1,
        dense_online_rows,
        8,
        _capacity,
    ),
    Hypothesis(
        "H2",
        CLAIMS["H2"],
        "what label noise changes with few examples, less what it changes online",
        "no loss of .03 where the noise is learned by heart",
        -1,
        factorial_rows,
        32,
        _noise_with_few,
    ),
    Hypothesis(
        "H3",
        CLAIMS["H3"],
        "one standard deviation more superposition, by the slope over interventions that are meant to move it",
        "no loss of .03 where superposition is moved",
        -1,
        intervention_rows,
        10,
        _superposition,
    ),
    Hypothesis(
        "H4",
        CLAIMS["H4"],
        "what few examples change with sparse features, less what they change with dense ones",
        "overfitting costs sparse features no .03 more than dense ones",
        -1,
        factorial_rows,
        32,
        _few_with_sparse,
    ),
    Hypothesis(
        "H5",
        CLAIMS["H5"],
        "what narrowness changes with sparse features, less what it changes with dense ones, online",
        "narrowness costs sparse features no .03 more than dense ones",
        -1,
        online_rows,
        16,
        _narrow_with_sparse,
    ),
    Hypothesis(
        "H6",
        CLAIMS["H6"],
        "images less tokens, the same latents and circuits",
        "images cost no .03",
        -1,
        factorial_rows,
        32,
        _modality,
    ),
)
COLUMNS = {
    "hypothesis": pl.String,
    "contrast": pl.String,
    "effect": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "p_holm": pl.Float64,
    "verdict": pl.String,
    "refuter": pl.String,
    "n_networks": pl.Int64,
}


def columns_of(frame: pl.DataFrame) -> dict[str, Column]:
    """The numbers of a table as arrays."""
    return {name: frame[name].cast(pl.Float64).to_numpy() for name, kind in frame.schema.items() if kind.is_numeric()}


def verdict(sign: int, low: float, high: float, p_holm: float) -> str:
    """The verdict by the rule of this module."""
    low, high = (low, high) if sign > 0 else (-high, -low)  # the predicted direction is up
    if high < SMALLEST_EFFECT:
        return REFUTED
    return SUPPORTED if p_holm < ALPHA and low > 0 else CANNOT_TELL


def judge(networks: pl.DataFrame, *, draws: int, seed: int) -> pl.DataFrame:
    """The six lines.

    Raises:
        ThalwegError: a contrast lacks networks: a cell of the design has none, or a cell one alone.
    """
    frame = analysed(networks)
    lines: list[dict[str, Any]] = []
    for each in HYPOTHESES:
        rows = each.rows(frame)
        check_cells(rows, each, without=sorted({*networks["cell"]} - {*frame["cell"]}))
        whole, errors, df = bootstrap(each.estimate, columns_of(rows), rows["cell"].to_list(), draws=draws, seed=seed)
        estimate = interval(float(whole[0]), float(errors[0]), df)
        lines.append({"name": each, "estimate": estimate, "n": len(rows)})
    adjusted = holm([line["estimate"].p for line in lines])
    return pl.DataFrame(
        [
            {
                "hypothesis": line["name"].name,
                "contrast": line["name"].contrast,
                "effect": line["estimate"].effect,
                "low": line["estimate"].low,
                "high": line["estimate"].high,
                "p_holm": p,
                "verdict": verdict(line["name"].sign, line["estimate"].low, line["estimate"].high, p),
                "refuter": line["name"].refuter,
                "n_networks": line["n"],
            }
            for line, p in zip(lines, adjusted, strict=True)
        ],
        schema=COLUMNS,
    )


def check_cells(rows: pl.DataFrame, hypothesis: Hypothesis, without: Sequence[str] = ()) -> None:
    """Check that no cell of a contrast is missing.

    Args:
        rows: Its networks that have a score.
        hypothesis: The contrast.
        without: The cells of the experiment of whose networks none has a score.

    Raises:
        ThalwegError: there are none, or one of a cell alone.
    """
    needed = hypothesis.n_cells
    counts = rows.group_by("cell", maintain_order=True).len()
    if len(counts) < needed:
        raise ThalwegError(
            f"{hypothesis.name}: {len(counts)} cells of the design have networks with a score, and {needed} were "
            f"expected{f' (without a score: {without[0]})' if without else ''}; see networks.parquet, where n_silent "
            "counts the units that are never on, or give another --seed"
        )
    if len(rows) == len(counts):
        raise ThalwegError(f"{hypothesis.name}: each cell has one network alone; at least 2 seeds were expected")
