"""The analysis finds effects that are planted in simulated networks, and keeps a null at its rate."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from thalweg import ThalwegError
from thalweg.causes.attribution import dominance, indirect, manipulations, mediation, mixed_effects
from thalweg.causes.design import FACTORS, INTERVENTIONS, QUICK, code, factorial, plans
from thalweg.causes.hypotheses import (
    CANNOT_TELL,
    HYPOTHESES,
    REFUTED,
    SUPPORTED,
    analysed,
    columns_of,
    factorial_rows,
    judge,
    verdict,
)
from thalweg.causes.regression import bootstrap, interval

SIZE = replace(QUICK, seeds=3)
SCATTER = 0.01


def simulated(seed: int, scatter: float = SCATTER, **slopes: float) -> pl.DataFrame:
    """Networks whose crisp score is a sum of planted terms (`few_noise`, `sparse_few`, `image`, ...) and noise."""
    generator = np.random.default_rng(seed)
    rows = []
    for number, plan in enumerate(plans(SIZE, 0)):
        x = {name: code(name, getattr(plan, name)) for name in FACTORS}
        x = {name: 0.0 if np.isnan(value) else value for name, value in x.items()}
        meant = INTERVENTIONS[plan.intervention].moves if plan.intervention in INTERVENTIONS else ""
        superposition = 0.6 - 0.1 * x["width"] - 0.2 * (meant == "superposition") + 0.05 * generator.normal()
        gap = 0.0 if plan.online else 1 + 0.5 * x["label_noise"] + 0.1 * generator.normal()
        terms = {
            "capacity": x["width"] + x["depth"],
            "few_noise": x["examples"] * x["label_noise"],
            "superposition": superposition - 0.6,
            "sparse_few": x["examples"] * x["density"],
            "narrow_sparse": x["width"] * x["density"],
            "image": x["modality"],
            "gap": gap,
        }
        crisp = 0.75 + sum(slope * terms[name] for name, slope in slopes.items()) + scatter * generator.normal()
        rows.append(
            {"network": number, "cell": plan.cell, "arm": plan.arm, "seed": plan.seed, "moves": meant}
            | {"intervention": plan.intervention, **{name: getattr(plan, name) for name in FACTORS}}
            | {"crisp": crisp, "dimensionality": 1 - superposition, "gap_bits": gap}
            | {"memorised": gap / 2 * (plan.label_noise > 0), "strength_bits": 0.5 + 0.01 * generator.normal()}
        )
    return pl.DataFrame(rows, infer_schema_length=None)


def verdicts(networks: pl.DataFrame) -> dict[str, str]:
    lines = judge(networks, draws=60, seed=0)
    return dict(zip(lines["hypothesis"], lines["verdict"], strict=True))


def test_the_design_has_resolution_six():
    """Main effects and interactions of two factors are orthogonal to each other."""
    cells = factorial()
    assert len(cells) == 32
    signs = np.array([[code(name, cell[name]) for name in FACTORS] for cell in cells])
    assert (signs.prod(1) == 1).all()
    pairs = [signs[:, i] * signs[:, j] for i in range(6) for j in range(i)]
    terms = np.column_stack([signs, *pairs])
    assert np.array_equal(terms.T @ terms, 32 * np.eye(terms.shape[1]))


def test_planted_effects_are_supported_with_their_size():
    planted = {"capacity": 0.03, "few_noise": -0.03, "superposition": -0.8, "image": -0.04}
    networks = simulated(0, sparse_few=0.03, narrow_sparse=-0.03, **planted)
    assert verdicts(networks) == dict.fromkeys(["H1", "H2", "H3", "H4", "H5", "H6"], SUPPORTED)
    lines = {row["hypothesis"]: row for row in judge(networks, draws=60, seed=0).iter_rows(named=True)}
    for name, size in {"H1": 0.06, "H2": -0.12, "H4": -0.12, "H6": -0.08}.items():
        assert lines[name]["low"] <= size <= lines[name]["high"]
        assert lines[name]["effect"] == pytest.approx(size, abs=0.03)
    assert lines["H3"]["effect"] < -0.03


def test_without_effects_all_are_refuted_and_with_the_other_sign_too():
    assert set(verdicts(simulated(1)).values()) <= {REFUTED, CANNOT_TELL}
    assert verdicts(simulated(1))["H6"] == REFUTED
    assert verdicts(simulated(1, image=0.04))["H6"] == REFUTED


def test_a_null_is_supported_no_more_often_than_it_may():
    """Of 8 simulated experiments of noise alone, the family's error rate of .05 lets hardly any through."""
    wrong = sum(
        SUPPORTED in judge(simulated(100 + seed, scatter=0.05), draws=30, seed=seed)["verdict"] for seed in range(8)
    )
    assert wrong <= 2


def test_intervals_cover_the_truth_at_their_rate():
    hits = 0
    for seed in range(25):
        rows = factorial_rows(analysed(simulated(300 + seed, scatter=0.03, image=-0.02)))
        estimate = HYPOTHESES[5].estimate
        whole, errors, df = bootstrap(estimate, columns_of(rows), rows["cell"].to_list(), draws=40, seed=seed)
        h6 = interval(float(whole[0]), float(errors[0]), df)
        hits += h6.low <= -0.04 <= h6.high
    assert hits >= 21


def test_the_rule():
    assert verdict(-1, -0.08, -0.01, 0.01) == SUPPORTED
    assert verdict(-1, -0.02, 0.01, 0.5) == REFUTED
    assert verdict(1, -0.02, 0.05, 0.5) == CANNOT_TELL
    assert verdict(1, 0.01, 0.05, 0.06) == CANNOT_TELL
    assert interval(1.0, 0.5, 1000).p == pytest.approx(0.0458, abs=1e-3)


def test_mediation_finds_the_path_that_is_planted():
    frame = analysed(simulated(2, gap=-0.1))
    total, over, shared, both = indirect(columns_of(factorial_rows(frame)), "examples")
    assert over == pytest.approx(-0.1, abs=0.02)
    assert shared == pytest.approx(0, abs=0.02)
    assert both == pytest.approx(total, abs=0.03)
    table = mediation(frame, draws=50, seed=0)
    (row,) = table.filter(factor="examples", path="overfitting").iter_rows(named=True)
    assert row["high"] < 0
    assert -1 <= row["rho"] < -0.3


def test_shares_add_up_to_r2_and_name_the_cause():
    columns = columns_of(factorial_rows(analysed(simulated(3, image=-0.05))))
    shares = dominance(columns)
    assert shares.argmax() == 3
    assert shares[3] > 0.8
    assert shares.sum() <= 1


def test_the_mixed_model_and_the_manipulation_checks():
    frame = analysed(simulated(4, image=-0.03))
    units = frame.filter(arm="factorial").select("network", "crisp")
    units = pl.concat([units.with_columns(pl.col("crisp") + shift) for shift in (-0.02, 0.0, 0.02)])
    effects = mixed_effects(frame, units)
    (row,) = effects.filter(term="modality").iter_rows(named=True)
    assert row["effect"] == pytest.approx(-0.06, abs=0.015)
    assert len(effects) == 21
    checks = manipulations(frame)
    assert checks.filter(intervention="dropout", outcome="superposition")["moved"].item()
    assert not checks.filter(intervention="taught by a wide network", outcome="strength_bits")["moved"].item()


def test_a_missing_cell_and_single_seeds_are_errors():
    networks = simulated(5)
    cell = networks["cell"][0]
    with pytest.raises(ThalwegError, match="31 cells"):
        judge(
            networks.with_columns(crisp=pl.when(pl.col("cell") == cell).then(np.nan).otherwise("crisp")),
            draws=5,
            seed=0,
        )
    with pytest.raises(ThalwegError, match="at least 2 seeds"):
        judge(networks.filter(seed=0), draws=5, seed=0)
