"""Trials: which stimuli are shown, and which pairs low-level statistics decide."""
