"""Observers: functions from stimuli to vectors, and what they answer trials by."""

from thalweg.observers import controls, images, named, pairs, perceptual, texts  # noqa: F401  (their functions register themselves here)
