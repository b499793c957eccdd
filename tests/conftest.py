"""Small real things that tests share: images, a ladder that trains in a second, a survey of it."""

import gc
import os
import ssl
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import TYPE_CHECKING

gc.disable()  # until all is imported: a search for garbage meanwhile takes a sixth of the time
for library in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "POLARS_MAX_THREADS"):
    os.environ.setdefault(library, "1")  # tests run in several processes

# ruff: noqa: E402  # the libraries read these when they are imported
import jaxtyping
import pytest
from hypothesis import settings

if TYPE_CHECKING:
    import torch

    from thalweg import Ladder

COSTLY = (  # files that take longest, longest first: a process that began one of these last would be waited for
    "test_engines.py",
    "test_readme.py",
    "test_report.py",
    "test_ask.py",
    "test_one_model.py",
    "test_bases_of_a_survey.py",
    "test_survey.py",
    "test_study_page.py",
    "test_verdicts.py",
    "test_addition.py",
    "test_vision_subjects.py",
    "test_language_subjects.py",
    "test_workers.py",
    "test_bases.py",
    "test_science.py",
    "test_text.py",
    "test_ladders.py",
    "test_words.py",
    "test_explore.py",
    "test_tutorials.py",
    "test_notebooks.py",
    "test_people_analysis.py",
    "test_agreement.py",
    "test_experiment.py",
    "test_known_strengths.py",
    "test_site.py",
    "test_mnist.py",
    "test_study_simulate.py",
    "test_study_kills.py",
    "test_edits.py",
    "test_cli.py",
)
WHOLE_RUNS = {  # folders and files with tests of these
    "compare",
    "compute",
    "dashboards",
    "explore",
    "ladders",
    "pipeline",
    "report",
    "runs",
    "sharing",
    "study",
    "tracking",
    "validation",
    "test_machine.py",
    "test_modality.py",
    "test_notebooks.py",
    "test_readme.py",
    "test_text.py",
    "test_tutorials.py",
}
# A busy machine is no fault of the code; the same examples every time, so that a change is to blame for what fails.
settings.register_profile("thalweg", deadline=None, derandomize=True)
settings.load_profile("thalweg")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Import what is large in the processes that run tests, and not in the one that shares them out."""
    if session.config.pluginmanager.has_plugin("dsession"):  # xdist's: this process shares tests out
        return
    import torch

    from thalweg.packages import prepare_torchvision

    torch.set_num_threads(1)
    prepare_torchvision()  # some tests import transformers or torchvision themselves


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the files that take longest first. (With `--dist loadfile`, each file runs in one process.) Tests that are
    marked `gpu` are skipped where there is none.
    """
    import torch

    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="there is no CUDA device here"))
    places = {name: place for place, name in enumerate(COSTLY)}
    items.sort(key=lambda item: places.get(item.path.name, len(COSTLY)))


def pytest_collection_finish() -> None:
    """All is imported, and need never be searched for garbage; what tests leave behind, less often than usual."""
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    gc.enable()


def pytest_sessionfinish() -> None:
    """Nothing is left that would have to be searched for garbage, which pytest asks for time after time at its end."""
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """The shapes of arrays are checked, at each call of a function, in the tests of rooms, and in those that are marked
    `shapes`: of one survey, of one with several bases and of one model. Whole runs elsewhere go through the same code,
    and the checks would take a fifth of their time.
    """
    whole_run = item.path.parent.name in WHOLE_RUNS or item.path.name in WHOLE_RUNS
    jaxtyping.config.update("jaxtyping_disable", whole_run and not item.get_closest_marker("shapes"))


@pytest.fixture(autouse=True, scope="session")
def drawn_once() -> Iterator[None]:
    """A chart that several tests draw is drawn once in each process: it takes up to a second."""
    import vl_convert

    with pytest.MonkeyPatch.context() as patch:
        for name in ("vegalite_to_svg", "svg_to_png"):
            patch.setattr(vl_convert, name, lru_cache(maxsize=200)(getattr(vl_convert, name)))
        yield


@pytest.fixture(autouse=True, scope="session")
def certificates_read_once() -> Iterator[None]:
    """Whose word is taken for who a server is, read once in each process: a client of a test's own would read it anew
    for a twentieth of a second.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", cache(ssl.create_default_context))
        yield


@pytest.fixture(scope="session")
def tiny() -> "Ladder":
    from support.tiny import tiny_ladder

    return tiny_ladder()


@pytest.fixture
def without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without a GPU: a library that takes one by itself stays on the CPU."""
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def generator() -> "torch.Generator":
    import torch

    return torch.Generator().manual_seed(0)
