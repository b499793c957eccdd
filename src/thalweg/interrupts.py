"""Ctrl-C while the command line is still being imported, which takes seconds: it ends without a traceback.

Nothing is imported here that Python has not imported itself when it starts: until the hook is there, an interruption
shows a traceback, and that of Python's own start can't be kept from the screen.
"""

import os
import sys

COMMANDS = ("thalweg", "thalweg.exe", "-m", "__main__.py")  # how the command line is started; -m while it is imported


def quiet_for_the_command() -> None:
    """If this process is the command line, say nothing more of an interruption; Python then ends by the signal itself,
    which a shell sees as exit status 130.
    """
    if os.path.basename(next(iter(sys.argv), "")) in COMMANDS:
        sys.excepthook = _hook


def _hook(kind: type[BaseException], wrong: BaseException, _trace: object) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, wrong, wrong.__traceback__)
