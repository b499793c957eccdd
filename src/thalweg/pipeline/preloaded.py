"""What the server of worker processes imports, so that its forks need not: a survey's modules, and no garbage."""

import gc

gc.disable()  # a search for garbage meanwhile takes a fifth of the time
from thalweg.pipeline import survey  # noqa: E402

gc.collect()
gc.freeze()  # a fork that never looks through these objects never copies their pages
gc.enable()

__all__ = ["survey"]
