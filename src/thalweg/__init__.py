"""thalweg: how interpretable a network's units are, and how that changes with its strength.

What is public is imported when it is first asked for: PyTorch takes seconds, and `thalweg --help` needs none of it.
"""

# ruff: noqa: E402  # before all that takes long to import
from thalweg.interrupts import quiet_for_the_command

quiet_for_the_command()

from thalweg.home import home_where_there_is_none

home_where_there_is_none()

import gc
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thalweg.compare.differences import RunComparison, compare_runs
    from thalweg.compare.page import write_comparison
    from thalweg.dashboards.writing import write_dashboards
    from thalweg.errors import ThalwegError
    from thalweg.explore.site import write_unit_pages
    from thalweg.literature.review import judge_literature
    from thalweg.measures.choices import ChoiceScores, score_choices
    from thalweg.models.records import Ladder, Layer, Rung, Subject
    from thalweg.observers.base import Observer
    from thalweg.observers.choices import Choice, TrialObserver, one_by_one
    from thalweg.pipeline.ask import Asked, AskSettings, ask
    from thalweg.pipeline.edit import edit
    from thalweg.pipeline.one_model import measure, train_dictionary
    from thalweg.pipeline.survey import survey
    from thalweg.pipeline.word_pairs import measure_concepts
    from thalweg.report.page import chart, write_report
    from thalweg.runs.run import Run, open_run
    from thalweg.runs.trials import TrialSettings
    from thalweg.sharing.hub import pull, push
    from thalweg.stimuli.base import Source, Splits
    from thalweg.stimuli.images import Images
    from thalweg.stimuli.modality import Modality
    from thalweg.stimuli.pairs import NumberPairs
    from thalweg.stimuli.showing import Shown
    from thalweg.stimuli.tensors import TensorStimuli
    from thalweg.stimuli.windows import Windows
    from thalweg.synthetic.visualise import visualise
    from thalweg.training.classifier import Classifier
    from thalweg.trials.items import Trial
    from thalweg.validation.validate import validate

__all__ = [
    "AskSettings",
    "Asked",
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
    "RunComparison",
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
    "ask",
    "chart",
    "compare_runs",
    "edit",
    "judge_literature",
    "measure",
    "measure_concepts",
    "one_by_one",
    "open_run",
    "pull",
    "push",
    "score_choices",
    "survey",
    "train_dictionary",
    "validate",
    "visualise",
    "write_comparison",
    "write_dashboards",
    "write_report",
    "write_unit_pages",
]

MODULES = {  # where each public name is
    "AskSettings": "thalweg.pipeline.ask",
    "Asked": "thalweg.pipeline.ask",
    "Choice": "thalweg.observers.choices",
    "ChoiceScores": "thalweg.measures.choices",
    "Classifier": "thalweg.training.classifier",
    "Images": "thalweg.stimuli.images",
    "Ladder": "thalweg.models.records",
    "Layer": "thalweg.models.records",
    "Modality": "thalweg.stimuli.modality",
    "NumberPairs": "thalweg.stimuli.pairs",
    "Observer": "thalweg.observers.base",
    "Run": "thalweg.runs.run",
    "RunComparison": "thalweg.compare.differences",
    "Rung": "thalweg.models.records",
    "Shown": "thalweg.stimuli.showing",
    "Source": "thalweg.stimuli.base",
    "Splits": "thalweg.stimuli.base",
    "Subject": "thalweg.models.records",
    "TensorStimuli": "thalweg.stimuli.tensors",
    "ThalwegError": "thalweg.errors",
    "Trial": "thalweg.trials.items",
    "TrialObserver": "thalweg.observers.choices",
    "TrialSettings": "thalweg.runs.trials",
    "Windows": "thalweg.stimuli.windows",
    "ask": "thalweg.pipeline.ask",
    "chart": "thalweg.report.page",
    "compare_runs": "thalweg.compare.differences",
    "edit": "thalweg.pipeline.edit",
    "judge_literature": "thalweg.literature.review",
    "measure": "thalweg.pipeline.one_model",
    "measure_concepts": "thalweg.pipeline.word_pairs",
    "one_by_one": "thalweg.observers.choices",
    "open_run": "thalweg.runs.run",
    "pull": "thalweg.sharing.hub",
    "push": "thalweg.sharing.hub",
    "score_choices": "thalweg.measures.choices",
    "survey": "thalweg.pipeline.survey",
    "train_dictionary": "thalweg.pipeline.one_model",
    "validate": "thalweg.validation.validate",
    "visualise": "thalweg.synthetic.visualise",
    "write_comparison": "thalweg.compare.page",
    "write_dashboards": "thalweg.dashboards.writing",
    "write_report": "thalweg.report.page",
    "write_unit_pages": "thalweg.explore.site",
}


def __getattr__(name: str) -> Any:
    """A public name or a package of thalweg's, imported now."""
    if name in MODULES:
        value = globals()[name] = getattr(_imported(MODULES[name]), name)
        return value
    if not name.startswith("_") and find_spec(f"{__name__}.{name}"):
        return _imported(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _imported(module: str) -> ModuleType:
    """The module, imported without a search for garbage: there is none, and the search takes a fifth of the time."""
    searching = gc.isenabled()
    gc.disable()
    try:
        return import_module(module)
    finally:
        if searching:
            gc.enable()


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
