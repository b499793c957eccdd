"""What the server of worker processes imports, so that its forks need not: a survey's modules, and no garbage."""

import gc

from thalweg.pipeline import survey

__all__ = ["survey"]

gc.collect()
gc.freeze()  # a fork that never looks through these objects never copies their pages
