"""Small real things that tests share: images, a ladder that trains in a second, a survey of it."""

import os

for library in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "POLARS_MAX_THREADS"):
    os.environ.setdefault(library, "1")  # tests run in several processes

# ruff: noqa: E402  # the libraries read these when they are imported
import pytest
import torch
from hypothesis import settings

from support.tiny import tiny_ladder
from thalweg import Ladder
from thalweg.packages import torchvision_first

torch.set_num_threads(1)
# A busy machine is no fault of the code; the same examples every time, so that a change is to blame for what fails.
settings.register_profile("thalweg", deadline=None, derandomize=True)
settings.load_profile("thalweg")
torchvision_first()  # some tests import transformers themselves


@pytest.fixture(scope="session")
def tiny() -> Ladder:
    return tiny_ladder()


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
