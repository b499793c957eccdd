"""What is claimed of why the curve has its shape, which factors stand for what, and the table of what a survey says.

Six hypotheses, and smaller claims of the same discussion. A survey can only relate its own numbers: each row of the
table is an association over models, or a mean. The experiment (`thalweg.causes`) moves one thing at a time.
"""

import polars as pl

HYPOTHESES = {
    "H1": "Weak models cannot express the true abstractions, and use bad heuristics instead.",
    "H2": "Overfitting makes features less interpretable.",
    "H3": "Superposition: many features share units.",
    "H4": "Overfitting exploits superposition.",
    "H5": "Modelling limits exploit superposition.",
    "H6": "It is vision: continuous inputs need many parameters to become features.",
}
SPARSER, SPECIFIC, LARGER, PEAK, TINY = "sparser", "specific", "larger", "peak", "tiny"
SMALLER_CLAIMS = {
    SPARSER: "Features of language are sparser than features of images.",
    SPECIFIC: "Overfit features are specific, and therefore sparse.",
    LARGER: "Larger models hold fewer features in superposition.",
    PEAK: "The simplest models have a peak of their own.",
    TINY: "Tiny language models are easy to read where tiny models of images are hard.",
}
OVERFITTING = (
    "generalisation_gap_bits",
    "generalisation_gap_accuracy",
    "representation_gap",
    "memorised_fraction",
    "memorisation",
)
# Whether more of it says that more features share units (1), or that cannot be said of it alone (0)
SHARING = {
    "polysemanticity": 1,
    "features_per_unit": 1,
    "effective_features": 0,
    "effective_features_ratio": 0,
    "participation_ratio": 0,
}
CLAIMS = {
    "claim": pl.String,  # H1 to H6, or a smaller one
    "ladder": pl.String,
    "other": pl.String,  # the ladder that it is compared with; else empty
    "quantity": pl.String,
    "headline": pl.String,  # empty where no score takes part
    "held": pl.String,  # the number that is held; else empty
    "statistic": pl.String,  # correlation (Spearman's), mean, difference or score
    "predicted": pl.Int8,  # the sign that the claim predicts; 0 for none
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n_models": pl.Int32,
    "n_rungs": pl.Int32,
    "note": pl.String,  # why a number is missing, or what it is of
}
