"""Factors: functions from a model to one number that may go with how interpretable it is, one file each."""

from thalweg.factors import (  # noqa: F401  (their functions register themselves here)
    density,
    effective_features,
    generalisation_gap,
    memorisation,
    memorised_fraction,
    participation_ratio,
    polysemanticity,
    representation_gap,
    sparsity,
)
