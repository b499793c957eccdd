"""On which scale a table's columns are: which end of the strength is strong, and what a percentage of the score is."""

import re

import numpy as np
from jaxtyping import Float

from thalweg.errors import ThalwegError, unknown
from thalweg.shape.judging import effect_of

LESS_IS_BETTER = {"loss", "losses", "perplexity", "ppl", "nll", "error", "err", "wer", "entropy"}
TURNED_ALREADY = {"gain", "gained", "minus", "neg", "negative", "reduction", "drop", "improvement"}
SCALES = {"fraction": 1.0, "percent": 100.0}  # what the whole is


def is_less_better(name: str) -> bool:
    """Whether a column of strengths is of a kind where less is better, by the words of its name.

    Example:
        >>> is_less_better("val_loss"), is_less_better("bits"), is_less_better("loss_reduction")
        (True, False, False)
    """
    words = {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)}
    return bool(words & LESS_IS_BETTER) and not words & TURNED_ALREADY


def effect_in_units(
    score: Float[np.ndarray, " row"], wanted: float | str | None, scale: str | None, name: str = "score"
) -> float | None:
    """The smallest effect in units of the score.

    Args:
        score: (row), NaN where missing.
        wanted: A number in units of the score, or a text such as `5%`, of the whole; None: the usual one.
        scale: What the whole is: `fraction` (1) or `percent` (100); None: decided by the scores.
        name: Of the scores, for messages.

    Returns:
        The effect; None leaves it to `judge`.

    Raises:
        ThalwegError: The text is no number, the scale is unknown, or it is needed and the scores do not tell it.
    """
    if scale is not None and scale not in SCALES:
        raise unknown("scale", scale, SCALES)
    text = wanted.strip() if isinstance(wanted, str) else None
    if text is None or not text.endswith("%"):
        value = wanted if text is None else _number(text)
        return 0.05 * SCALES[scale] if value is None and scale is not None else _as_float(value)
    known = score[np.isfinite(score)]
    if scale is None and len(known) and not (known.min() >= 0 and known.max() <= SCALES["percent"]):
        raise ThalwegError(
            f"the smallest effect is {text}, and {name!r} runs from {known.min():g} to {known.max():g}, so it is no "
            "share: give the effect as a number in units of the score, or the scale with --scale percent|fraction"
        )
    percent = scale == "percent" if scale is not None else effect_of(score, None)[1]
    return _number(text.rstrip("% ")) * (1.0 if percent else 0.01)


def _as_float(value: float | str | None) -> float | None:
    return None if value is None else float(value)


def _number(text: str) -> float:
    """The number that a text says.

    Raises:
        ThalwegError: it says none.
    """
    try:
        return float(text)
    except ValueError as wrong:
        raise ThalwegError(
            f"the smallest effect is {text!r}; give a number in units of the score, as 0.05, or a share, as 5%"
        ) from wrong
