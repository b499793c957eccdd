"""A subject of the user's own, from a Python file."""

import importlib.util
import sys
from collections.abc import Mapping
from functools import cache
from importlib.machinery import PathFinder, SourceFileLoader
from importlib.metadata import packages_distributions
from pathlib import Path

from thalweg.compute.sending import by_value
from thalweg.errors import ThalwegError, line_of, reason, unknown, user_code
from thalweg.models.records import Subject
from thalweg.packages import prepare_torchvision


def from_file(file: str, name: str) -> Subject:
    """The `Subject` that a Python file holds under a name, or that a function of that name returns.

    Raises:
        ThalwegError: no such file, it cannot be run, or it holds no subject of that name.
    """
    path = Path(file).resolve()
    if not path.is_file():
        raise ThalwegError(f"{file}: there is no such file; a Python file with a thalweg.Subject was expected")
    _refuse_name_of_library(path)
    loader = SourceFileLoader(path.stem, str(path))
    spec = importlib.util.spec_from_file_location(path.stem, path, loader=loader)  # named, for an ending as .PY
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    prepare_torchvision()  # many such files import it
    if sys.modules.setdefault(path.stem, module) is module:
        by_value(module)  # worker processes do not know the file
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))  # to stay: what it defines may import its neighbours when it is called
    try:
        loader.exec_module(module)
    except SyntaxError as wrong:
        raise ThalwegError(f"{file}: line {wrong.lineno} cannot be read ({reason(wrong)})") from wrong
    except Exception as wrong:
        raise ThalwegError(f"{file}: cannot be run ({reason(wrong)}){line_of(wrong)}") from wrong
    subjects = {key for key, value in vars(module).items() if isinstance(value, Subject)}
    if name not in vars(module):
        raise unknown(f"subject in {file}", name, subjects)
    entry = vars(module)[name]
    with user_code(f"{file}: {name}"):
        made = entry() if callable(entry) and not isinstance(entry, Subject) else entry
    if not isinstance(made, Subject):
        raise ThalwegError(f"{file}: {name} is {type(made).__name__}; a thalweg.Subject was expected")
    return made


def _refuse_name_of_library(path: Path) -> None:
    """Refuse a file that would be taken for a library where it, or the library, is imported.

    Raises:
        ThalwegError: its name is that of a library that is installed.
    """
    if path.stem in sys.stdlib_module_names:
        known = "Python's own"
    elif _found_elsewhere(path) and path.stem in _installed():
        known = f"that {_installed()[path.stem][0]} installs"
    else:
        return
    raise ThalwegError(
        f"{path.name}: has the name of the module {path.stem!r}, {known}, and each would be taken for the other; give "
        "the file another name"
    )


@cache
def _installed() -> Mapping[str, list[str]]:
    """The packages that install each module. To read them all takes a second."""
    return packages_distributions()


def _found_elsewhere(path: Path) -> bool:
    """Whether Python finds a module of this file's name in another folder: asking all that is installed takes seconds,
    so it is asked only then.
    """
    folders = [folder for folder in sys.path if Path(folder).resolve() != path.parent]
    finders = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]
    return any(finder.find_spec(path.stem, folders if finder is PathFinder else None) for finder in finders)
