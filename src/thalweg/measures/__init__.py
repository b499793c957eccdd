"""Measures: functions from a unit's data to one number, one file each."""

from thalweg.measures import (  # noqa: F401  (their functions register themselves here)
    class_selectivity,
    last_token_share,
    mis,
    monosemanticity,
    one_sided,
    two_choice,
    two_choice_single,
)
