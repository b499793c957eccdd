"""Scores of units by the forms in which language models are asked, laid out as those of other observers that answer."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from thalweg.agreement.correlation import Scores
from thalweg.agreement.units import SPLITS, UNIT, Answering
from thalweg.prompting.forms import EXPLANATION
from thalweg.prompting.scores import value_of_replies

ASKED_BY = ["model", "form", "version", "ladder", "control"]
LEAST_REPLIES = 2  # of a unit: a list of ten stimuli is one reply


def form_answering(asked: pl.DataFrame, *, seed: int = 0) -> dict[tuple[Any, ...], Answering]:
    """The scores of units by each form, and those from random halves of a unit's replies.

    Two-alternative forms are left out, for they stand in the table of answers; so are replies that failed, and units
    with fewer than two others.

    Args:
        asked: Rows of a run's table of what language models were asked.
        seed: That random halves come from.

    Returns:
        By observer (the model and the form), version, ladder and control.
    """
    kept = asked.filter(pl.col("form") != EXPLANATION, note="", observer="").sort(*UNIT, "question")
    kept = kept.filter(pl.len().over(*ASKED_BY, *UNIT) >= LEAST_REPLIES)
    return {
        (f"{model}, {form}", version, ladder, control): _answering(str(form), replies, seed)
        for (model, form, version, ladder, control), replies in kept.group_by(ASKED_BY, maintain_order=True)
    }


def _answering(form: str, replies: pl.DataFrame, seed: int) -> Answering:
    of_units = [group.to_dicts() for _, group in replies.group_by(UNIT, maintain_order=True)]
    value = np.array([value_of_replies(form, group) for group in of_units])
    halves = np.array([[list(_halves(form, group, [seed, split])) for group in of_units] for split in range(SPLITS)])
    units = replies.group_by(UNIT, maintain_order=True).agg(pl.len().alias("n"))
    return Answering(units, Scores(value, halves[..., 0], halves[..., 1]), replies)


def _halves(form: str, replies: Sequence[Mapping[str, Any]], seed: Sequence[int]) -> Iterator[float]:
    """The scores from every other of a unit's replies, in a random order, and from the rest."""
    order = np.random.default_rng(seed).permutation(len(replies))
    for half in (order[::2], order[1::2]):
        yield value_of_replies(form, [replies[place] for place in half])
