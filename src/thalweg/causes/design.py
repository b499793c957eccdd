"""Which networks the experiment has: a factorial, its centre, more levels of what matters, and interventions.

Six factors have two levels each. All 64 combinations are not needed: the sixth factor is the product of the other five
(the defining word ABCDEF), which leaves 32 cells. The design has resolution VI: main effects and interactions of two
factors are mixed with those of four or more alone. Centre points lie halfway and show curvature, which two levels
cannot. In the full experiment, width and the number of examples have more levels. Interventions change one thing in a
network that is otherwise the same, seed by seed.
"""

from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import Any

from thalweg.causes.networks import SOFTMAX_LINEAR
from thalweg.causes.plan import ONLINE, NetworkPlan
from thalweg.causes.rendering import MODALITIES

FACTORS: dict[str, tuple[Any, Any, Any]] = {  # low, centre, high; modality has no centre
    "examples": (ONLINE, 512, 64),  # high: so few that they are overfitted
    "width": (12, 24, 48),
    "depth": (1, 2, 3),
    "density": (0.05, 0.15, 0.4),
    "modality": ("tokens", None, "images"),
    "label_noise": (0.0, 0.1, 0.2),
}
WIDTHS = (6, 8, 12, 16, 32, 64, 96)
EXAMPLES = (32, 128, 256, 1024, 4096, ONLINE)
BASE: dict[str, Any] = {
    "width": 24,
    "depth": 1,
    "density": 0.05,
}  # of interventions: narrow for what sparse features there are


@dataclass(frozen=True)
class Intervention:
    """One change to a network.

    Attributes:
        changes: The fields of its plan that are changed.
        moves: The mediator that it is meant to move: `memorised`, `superposition` or `strength_bits`.
        sign: Which way.
        examples: Questions of each circuit in the training set of it and of its base.
    """

    changes: dict[str, Any]
    moves: str
    sign: int
    examples: int = ONLINE


INTERVENTIONS = {
    "label noise": Intervention({"label_noise": 0.2}, "memorised", 1, examples=64),
    "dropout": Intervention({"dropout": 0.3}, "superposition", -1),
    "L1 on activations": Intervention({"l1": 0.3}, "superposition", -1),
    "four times as wide": Intervention({"width": 96}, "superposition", -1),
    "softmax linear units": Intervention({"nonlinearity": SOFTMAX_LINEAR}, "superposition", -1),
    "sparse weights": Intervention({"kept_weights": 0.15}, "superposition", -1),
    "taught by a wide network": Intervention({"teacher_width": 96}, "strength_bits", 1),
}


@dataclass(frozen=True)
class Size:
    """How large the experiment is.

    Attributes:
        seeds: Networks of each cell.
        steps: Of training.
        levels: Whether width and the number of examples have more levels.
        draws: Bootstrap draws.
    """

    seeds: int
    steps: int
    levels: bool
    draws: int


FULL, QUICK = Size(4, 1500, True, 2000), Size(2, 400, False, 1000)


def code(factor: str, value: Any) -> float:
    """A level of a factor as -1, 0 or 1; NaN for a level that is not of the two-level design."""
    levels = FACTORS[factor]
    return float(levels.index(value) - 1) if value in levels else float("nan")


def factorial() -> list[dict[str, Any]]:
    """The 32 cells of the two-level design of resolution VI."""
    names = list(FACTORS)
    cells = []
    for signs in product((-1, 1), repeat=len(names) - 1):
        every = (*signs, prod(signs))
        cells.append({name: FACTORS[name][sign + 1] for name, sign in zip(names, every, strict=True)})
    return cells


def centre() -> list[dict[str, Any]]:
    """The centre points, one in each modality."""
    middle = {name: levels[1] for name, levels in FACTORS.items()}
    return [{**middle, "modality": modality} for modality in MODALITIES]


def levels() -> list[dict[str, Any]]:
    """More levels of width, online, and of the number of examples, with label noise."""
    both = [
        {"density": density, "modality": modality, "depth": 1}
        for density in (FACTORS["density"][0], FACTORS["density"][2])
        for modality in MODALITIES
    ]
    wide = [{**each, "width": width, "examples": ONLINE, "label_noise": 0.0} for each in both for width in WIDTHS]
    many = [{**each, "width": 24, "examples": count, "label_noise": 0.2} for each in both for count in EXAMPLES]
    return [*wide, *many]


def plans(size: Size, seed: int) -> list[NetworkPlan]:
    """All networks, in their order in the tables."""
    arms = {"factorial": factorial(), "centre": centre(), "levels": levels() if size.levels else []}
    seeds = [1000 * seed + place for place in range(size.seeds)]
    planned = [
        NetworkPlan(arm, each, **cell, steps=size.steps)
        for arm, cells in arms.items()
        for cell in cells
        for each in seeds
    ]
    return planned + [plan for each in seeds for plan in interventions(each, size.steps)]


def interventions(seed: int, steps: int) -> list[NetworkPlan]:
    """The networks of one seed that are intervened on, and their bases, in both modalities."""
    planned: list[NetworkPlan] = []
    for modality in MODALITIES:
        online = NetworkPlan(
            "intervention", seed, ONLINE, **BASE, modality=modality, label_noise=0.0, intervention="none", steps=steps
        )
        planned += [online, replace(online, examples=64)]
        for name, each in INTERVENTIONS.items():
            planned.append(replace(online, intervention=name, examples=each.examples, **each.changes))
    return planned
