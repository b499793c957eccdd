"""thalweg: how interpretable a network's units are, and how that changes with its strength."""

# ruff: noqa: E402  # before all that takes long to import
from thalweg.interrupts import quiet_for_the_command

quiet_for_the_command()

from importlib import import_module
from typing import TYPE_CHECKING, Any

from thalweg.errors import ThalwegError
from thalweg.measures.choices import ChoiceScores, score_choices
from thalweg.models.records import Ladder, Layer, Rung, Subject
from thalweg.observers.base import Observer
from thalweg.observers.choices import Choice, TrialObserver, one_by_one
from thalweg.pipeline.one_model import measure, train_dictionary
from thalweg.pipeline.survey import survey
from thalweg.runs.run import Run, open_run
from thalweg.runs.trials import TrialSettings
from thalweg.stimuli.base import Source, Splits
from thalweg.stimuli.images import Images
from thalweg.stimuli.modality import Modality
from thalweg.stimuli.pairs import NumberPairs
from thalweg.stimuli.showing import Shown
from thalweg.stimuli.tensors import TensorStimuli
from thalweg.stimuli.windows import Windows
from thalweg.training.classifier import Classifier
from thalweg.trials.items import Trial

if TYPE_CHECKING:
    from thalweg.literature.review import judge_literature
    from thalweg.report.page import write_report
    from thalweg.validation.validate import validate

__all__ = [
    "Choice",
    "ChoiceScores",
    "Classifier",
    "Images",
    "Ladder",
    "Layer",
    "Modality",
    "NumberPairs",
    "Observer",
    "Run",
    "Rung",
    "Shown",
    "Source",
    "Splits",
    "Subject",
    "TensorStimuli",
    "ThalwegError",
    "Trial",
    "TrialObserver",
    "TrialSettings",
    "Windows",
    "judge_literature",
    "measure",
    "one_by_one",
    "open_run",
    "score_choices",
    "survey",
    "train_dictionary",
    "validate",
    "write_report",
]


WRITE_PAGES = {  # where what writes pages is: their charts take seconds to import, so that waits until it is asked for
    "judge_literature": "thalweg.literature.review",
    "validate": "thalweg.validation.validate",
    "write_report": "thalweg.report.page",
}


def __getattr__(name: str) -> Any:
    """What writes pages, imported when it is first asked for."""
    if name in WRITE_PAGES:
        return getattr(import_module(WRITE_PAGES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
