"""Krippendorff's alpha: how far those who answer the same question agree beyond chance."""

import numpy as np
import polars as pl


def nominal_alpha(question: pl.Series, value: pl.Series) -> float:
    """Krippendorff's alpha of nominal answers: alpha = 1 - D_o / D_e.

    D_o is the share of pairs of answers to one question that differ, each question with the weight of its answers; D_e
    is that share over all answers to questions that have at least two. 1 is full agreement, 0 is chance.

    Args:
        question: What each answer is to.
        value: The answer; missing ones do not count.

    Returns:
        NaN where no question has two answers, or all answers are the same.

    Source:
        Krippendorff 2004, Content Analysis, section 11.3.
    """
    answers = pl.DataFrame({"question": question, "value": value}).drop_nulls()
    answers = answers.filter(pl.len().over("question") > 1)
    n = len(answers)
    counts = answers.group_by("question", "value", maintain_order=True).agg(pl.len().cast(pl.Float64).alias("c"))
    m = pl.col("c").sum().over("question")
    differing = counts.select((pl.col("c") * (m - pl.col("c")) / (m - 1)).sum()).item()
    totals = counts.group_by("value", maintain_order=True).agg(pl.col("c").sum())["c"].to_numpy()
    expected = (n**2 - np.square(totals).sum()) / (n - 1) if n > 1 else 0.0
    return float(1 - differing / expected) if expected > 0 else float("nan")
