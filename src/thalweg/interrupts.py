"""Ctrl-C while the command line is still being imported, which takes seconds: it ends without a traceback."""

import sys
from pathlib import PurePath
from types import TracebackType

COMMANDS = ("thalweg", "thalweg.exe", "-m", "__main__.py")  # how the command line is started; -m while it is imported


def quiet_for_the_command() -> None:
    """If this process is the command line, say nothing more of an interruption; Python then ends by the signal itself,
    which a shell sees as exit status 130.
    """
    if PurePath(next(iter(sys.argv), "")).name in COMMANDS:
        sys.excepthook = _hook


def _hook(kind: type[BaseException], wrong: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, wrong, trace)
