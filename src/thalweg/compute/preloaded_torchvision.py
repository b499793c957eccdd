"""What the server of worker processes imports too where the process that they work for uses torchvision: it takes two
seconds, and else each worker would spend them.
"""

from contextlib import suppress

from thalweg.packages import prepare_torchvision

prepare_torchvision()
with suppress(Exception):  # a worker that needs it says what is wrong
    import torchvision  # noqa: F401
