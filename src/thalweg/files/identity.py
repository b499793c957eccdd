"""What a function or an object is, as text: caches and finished steps are known by it.

The identity of a function changes with everything that changes what it returns: its code and the code nested in it,
defaults, what it closes over, and the functions, classes and constants of the user's own modules that it names. It does
not change when a file is moved or imported under another name, and is the same in every process: no path, no line
number, no module's name, no place in memory and no order of a set is in it. Tensors and arrays count by their content,
other objects by their class and state.

Code is followed as far as the user's own files go. Of an installed package its name and version stand for whatever it
does; of this package the code of a module is followed within that module, since a version does not say what is being
changed.

Limits: files that a function reads, the state of its libraries and its environment are not seen, and bytecode differs
between versions of Python. Objects are followed `DEEPEST` levels down.
"""

import dis
import hashlib
import importlib
import importlib.util
import site
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

OURS = __name__.partition(".")[0]
CHECKERS = ("jaxtyping", "beartype")  # packages whose wrappers check types and change no result
DEEPEST = 40  # levels of objects in objects; each takes several of the calls that Python allows
ATOMS = (type(None), bool, int, float, complex, str, bytes, type(...), type(NotImplemented))
# what a class holds beside its methods and constants: where it was defined, what is said of it, and caches
NOT_OF_A_CLASS = {
    "__module__", "__qualname__", "__doc__", "__dict__", "__weakref__", "__firstlineno__", "__static_attributes__",
    "__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__", "__abstractmethods__", "_abc_impl",
    "__dataclass_fields__", "__slotnames__",
}  # fmt: skip


def digest(*parts: object) -> str:
    """Sixteen hexadecimal digits for things whose `repr` says all that matters."""
    return hashlib.sha256("\x1f".join(map(repr, parts)).encode()).hexdigest()[:16]


def identity(thing: object) -> str:
    """What a function or an object does, as text: the same in every process, another when its code, what it closes over
    or its state changes.
    """
    named = thing.func if isinstance(thing, partial) else thing
    name = getattr(named, "__qualname__", type(named).__qualname__)
    return f"{name}:{digest(_Walk()(thing))}"


def is_packaged(thing: object) -> bool:
    """Whether a function, also one with arguments, is of an installed package and not of the user's own file."""
    while isinstance(thing, partial):
        thing = thing.func
    home = getattr(thing, "__globals__", None)
    return bool(_package(_name(home), _file(home)) if home else _package_of(type(thing)))


class _Walk:
    """One way through an object and all that it is made of."""

    def __init__(self) -> None:
        self.done: dict[int, str] = {}
        self.entered: list[int] = []  # what is being described, from the outermost inwards
        self.kept: list[object] = []  # alive, as its place in memory is its name here
        self.folders: list[str] = []  # of the modules whose functions are being described

    def __call__(self, thing: object) -> str:
        """The thing as text; what it is inside of itself, as the way back to it."""
        if type(thing) in ATOMS:
            return f"{type(thing).__name__} {thing!r}"
        address = id(thing)
        if address in self.done:
            return self.done[address]
        if address in self.entered:
            return f"{len(self.entered) - self.entered.index(address)} levels up"
        if len(self.entered) >= DEEPEST:
            return type(thing).__qualname__
        self.entered.append(address)
        self.kept.append(thing)
        try:
            self.done[address] = self._described(thing)
        finally:
            self.entered.pop()
        return self.done[address]

    def _described(self, thing: object) -> str:
        ways: tuple[tuple[Any, Callable[[Any], str]], ...] = (
            (FunctionType, self._function),
            (CodeType, self._code),
            (MethodType, lambda method: self._all("method", (method.__func__, method.__self__))),
            (BuiltinFunctionType, self._builtin),
            (ModuleType, lambda module: f"module {_package(_name(vars(module)), _file(vars(module)))}"),
            (type, self._class),
            (partial, self._partial),
            ((staticmethod, classmethod), lambda bound: self._all(type(bound).__name__, (bound.__func__,))),
            (property, lambda accessor: self._all("property", (accessor.fget, accessor.fset, accessor.fdel))),
            (Tensor, _tensor),
            (np.ndarray, self._array),
            (np.generic, lambda number: f"{number.dtype} {number.item()!r}"),
            ((torch.dtype, torch.device, torch.layout, torch.memory_format), repr),
            (PurePath, self._path),
        )
        for kind, describe in ways:
            if isinstance(thing, kind):
                return describe(thing)
        return self._container(thing)

    def _container(self, thing: Any) -> str:
        if type(thing) in (tuple, list):
            return self._all(type(thing).__name__, thing)
        if type(thing) in (set, frozenset):
            return digest(type(thing).__name__, *sorted(map(self, thing)))
        if type(thing) is dict:
            return self._all("dict", (part for pair in thing.items() for part in pair))
        if is_dataclass(thing):
            return self._all("record", (type(thing), *(getattr(thing, field.name) for field in fields(thing))))
        return self._object(thing)

    def _all(self, what: str, things: Iterable[object]) -> str:
        return digest(what, *map(self, things))

    def _by_name(self, held: Mapping[str, object]) -> str:
        return digest(*((name, self(held[name])) for name in sorted(held)))

    def _partial(self, thing: "partial[Any]") -> str:
        return digest("partial", self(thing.func), self(thing.args), self._by_name(thing.keywords))

    def _builtin(self, function: Any) -> str:
        of = function.__self__
        return digest(function.__qualname__, "" if of is None or isinstance(of, ModuleType) else self(of))

    def _array(self, array: np.ndarray) -> str:
        if array.dtype.hasobject:
            return self._all(f"array {array.shape}", array.tolist())
        return digest(str(array.dtype), array.shape, hashlib.sha256(array.tobytes()).hexdigest())

    def _path(self, path: PurePath) -> str:
        """A path; one beside the code that holds it, from there: the two are moved together."""
        folder = self.folders[-1] if self.folders else ""
        inside = bool(folder) and path.is_relative_to(folder)
        return f"path {(path.relative_to(folder) if inside else path).as_posix()}"

    def _object(self, thing: Any) -> str:
        """An object by its class and state, as it would be pickled; one that cannot be, by its attributes."""
        if wrapped := getattr(thing, "__wrapped__", None) if callable(thing) else None:  # a function with a cache
            return self._all(type(thing).__qualname__, (wrapped,))
        try:
            reduced = thing.__reduce_ex__(4)
        except Exception:
            return digest(self(type(thing)), self(dict(getattr(thing, "__dict__", {}))))
        if isinstance(reduced, str):
            return reduced
        made, arguments, *rest = reduced
        state = [list(part) if isinstance(part, Iterator) else part for part in rest]
        return self._all("object", (type(thing), made, arguments, *state))

    def _class(self, kind: type) -> str:
        package = _package_of(kind)
        if package and not _is_ours(package):
            return f"class {package} {kind.__module__}.{kind.__qualname__}"
        held = {name: value for name, value in vars(kind).items() if name not in NOT_OF_A_CLASS}
        bases = self._all("bases", (base for base in kind.__bases__ if base is not object))
        return digest("class", kind.__qualname__, package, bases, self._by_name(held))

    def _function(self, function: FunctionType) -> str:
        home = function.__globals__
        package = _package(_name(home), _file(home))
        if hasattr(function, "__wrapped__") and _is_check(function, package):
            return self(function.__wrapped__)
        self.folders.append("" if package else str(Path(_file(home)).parent) if _file(home) else "")
        try:
            parts = [package, self._code(function.__code__), self._held(function)]
            if not package or _is_ours(package):
                parts.append(self._named(function, ours=bool(package)))
        finally:
            self.folders.pop()
        return digest("function", *parts)

    def _held(self, function: FunctionType) -> str:
        """What a function carries with it: defaults, what it closes over, its attributes."""
        cells = [_content(cell) for cell in function.__closure__ or ()]
        attributes = {name: value for name, value in vars(function).items() if not name.startswith("__")}
        return digest(
            self(function.__defaults__),
            self._by_name(function.__kwdefaults__ or {}),
            self(cells),
            self._by_name(attributes),
        )

    def _code(self, code: CodeType) -> str:
        parameters = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
        run = (code.co_code, getattr(code, "co_exceptiontable", b""), code.co_names, code.co_freevars)
        return digest("code", *run, *counts, parameters, self._all("constants", code.co_consts))

    def _named(self, function: FunctionType, *, ours: bool) -> str:
        """The globals that a function names and the modules that it imports, as far as they are the user's own."""
        home, attributes = function.__globals__, _attributes(function.__code__)
        followed = {}
        for name in _globals(function.__code__):
            special = name.startswith("__") and name.endswith("__")  # as __file__, which says where the module lies
            if name in home and not special and (not ours or _is_beside(home[name], _name(home))):
                followed[name] = self._global(home[name], attributes)
        if not ours:
            for name in _imported(function.__code__, home.get("__package__") or ""):
                followed[f"import {name}"] = self._import(name, attributes)
        return digest(*sorted(followed.items()))

    def _global(self, value: object, attributes: frozenset[str]) -> str:
        """What a global is; of a module of the user's, what the code names of it."""
        if not isinstance(value, ModuleType) or _package(_name(vars(value)), _file(vars(value))):
            return self(value)
        if id(value) in self.entered:
            return "a module that names itself"
        self.entered.append(id(value))
        held = {name: self._global(vars(value)[name], attributes) for name in sorted(attributes & vars(value).keys())}
        self.entered.pop()
        return digest(*sorted(held.items()))

    def _import(self, name: str, attributes: frozenset[str]) -> str:
        """A module that a function imports itself; one of the user's is imported now, as the function will."""
        with suppress(Exception):
            spec = importlib.util.find_spec(name.partition(".")[0])
            if spec is not None and not (package := _package(name, spec.origin or "")):
                return self._global(importlib.import_module(name), attributes)
            return package
        return ""


def _tensor(tensor: Tensor) -> str:
    kind = (type(tensor).__qualname__, str(tensor.dtype), tuple(tensor.shape))
    if tensor.is_meta:
        return digest(*kind)
    plain = tensor.detach().dequantize() if tensor.is_quantized else tensor.detach()
    plain = (plain if plain.layout == torch.strided else plain.to_dense()).cpu().resolve_conj().resolve_neg()
    plain = torch.view_as_real(plain) if plain.is_complex() else plain
    return digest(*kind, hashlib.sha256(plain.contiguous().reshape(-1).view(torch.uint8).numpy().data).hexdigest())


def _content(cell: Any) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # not set yet, or not any more
        return "empty"


def _is_beside(value: object, module: str) -> bool:
    """Whether a global of a module of this package is a constant, or a function or class of the module itself."""
    if isinstance(value, ModuleType):
        return False
    is_defined = getattr(value, "__module__", "") == module and hasattr(value, "__name__")
    return is_defined or type(value) in (*ATOMS, tuple)


def _codes(code: CodeType) -> Iterator[CodeType]:
    """The code and all that is nested in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


@cache
def _globals(code: CodeType) -> tuple[str, ...]:
    """The globals that code names, that nested in it too."""
    loads = ("LOAD_GLOBAL", "LOAD_NAME")
    steps = (step for each in _codes(code) for step in dis.get_instructions(each))
    return tuple(sorted({step.argval for step in steps if step.opname in loads}))


@cache
def _attributes(code: CodeType) -> frozenset[str]:
    """All names that code uses, of which attributes are some."""
    return frozenset(name for each in _codes(code) for name in each.co_names)


@cache
def _imported(code: CodeType, package: str) -> tuple[str, ...]:
    """The modules that code imports, by their whole names."""
    names = set()
    for each in _codes(code):
        before: list[Any] = [0, None]  # the last constants: how many packages up, and what is taken from the module
        for step in dis.get_instructions(each):
            if step.opname == "IMPORT_NAME":
                with suppress(ImportError):
                    names.add(importlib.util.resolve_name("." * int(before[-2] or 0) + step.argval, package))
            if step.opname == "LOAD_CONST":
                before.append(step.argval)
    return tuple(sorted(names))


def _name(home: Mapping[str, Any]) -> str:
    return str(home.get("__name__") or "")


def _file(home: Mapping[str, Any]) -> str:
    return str(home.get("__file__") or "")


def _package_of(kind: type) -> str:
    module = sys.modules.get(kind.__module__)
    return _package(kind.__module__, _file(vars(module)) if module else "")


def _is_check(function: FunctionType, package: str) -> bool:
    """Whether a function only checks the types of what goes into and out of another."""
    return package.partition(" ")[0] in CHECKERS or function.__code__.co_filename.startswith("<@beartype")


def _is_ours(package: str) -> bool:
    return package.partition(" ")[0] == OURS


@cache
def _package(module: str, file: str) -> str:
    """The installed package that a module is of, with its version; nothing for the user's own."""
    top = module.partition(".")[0]
    if top == OURS or (file not in ("", "built-in", "frozen") and file.startswith(_installed())):
        return f"{top} {_version(top)}".strip()
    stdlib = top in sys.stdlib_module_names and top != "__main__"
    return "python" if stdlib and (not file or not Path(file).is_file() or file.startswith(_stdlib())) else ""


@cache
def _installed() -> tuple[str, ...]:
    """The folders that packages are installed in."""
    schemes = [sysconfig.get_path(name) for name in ("purelib", "platlib")]
    with suppress(Exception):  # no home
        schemes += [site.getusersitepackages()]
    return tuple(f"{folder}/" for folder in [*schemes, *site.getsitepackages()] if folder)


@cache
def _stdlib() -> tuple[str, ...]:
    return tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib"))


def _version(top: str) -> str:
    try:
        return version(top)
    except PackageNotFoundError:
        return str(getattr(sys.modules.get(top), "__version__", ""))
