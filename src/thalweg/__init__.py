"""thalweg: how interpretable a network's units are, and how that changes with its strength."""

# ruff: noqa: E402  # before all that takes long to import
from thalweg.interrupts import quiet_for_the_command

quiet_for_the_command()

from thalweg.errors import ThalwegError
from thalweg.ladder import Ladder, Layer, Rung, Subject
from thalweg.measuring import measure, train_dictionary
from thalweg.observers import Observer
from thalweg.run import Run, open_run
from thalweg.stimuli import Images, NumberPairs, Source, Splits, Windows
from thalweg.survey import survey
from thalweg.training import Classifier

__all__ = [
    "Classifier",
    "Images",
    "Ladder",
    "Layer",
    "NumberPairs",
    "Observer",
    "Run",
    "Rung",
    "Source",
    "Splits",
    "Subject",
    "ThalwegError",
    "Windows",
    "measure",
    "open_run",
    "survey",
    "train_dictionary",
]
