"""The English text that every installation carries: Python's own help, and the docstrings of the libraries it needs.

A document is a topic of `pydoc_data.topics` or the docstrings of one module of the standard library, NumPy, SciPy or
scikit-learn, tests left out. They are read from the source files, without importing anything, and those that NumPy and
SciPy hand to `add_newdoc` with them. Cleaning follows four rules:

1. Examples to be typed in go: what follows `>>>` up to a blank line, and the indented lines after a line that ends in
   `::` or begins with `.. ` (formulas, citations, notes).
2. Of inline markup, roles and backticks go and the words stay.
3. A line of which less than 60 % of the characters are letters goes (tables, formulas), and so does a heading with its
   underline.
4. A paragraph stays if at least one in eight of its words is among 37 very common English ones: lists of names,
   code and other languages go. A paragraph ends at a blank line, and where the indentation returns: the description of
   each parameter is one.

Repeated paragraphs are left for `without_repeats`. The text depends on the versions of Python and the three libraries
and on nothing else; the content hash of the windows that are cut from it says whether two installations have the same.
"""

import ast
import gc
import importlib.util
import inspect
import re
import sysconfig
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from pydoc_data.topics import topics

from thalweg.stimuli.documents import Document, even

LIBRARIES = {"NumPy": "numpy", "SciPy": "scipy", "scikit-learn": "sklearn"}
LEFT_OUT = frozenset({"test", "tests", "idle_test", "site-packages", "dist-packages"})
LEAST_LETTERS = (
    0.6  # of a line's characters other than whitespace; prose has more than 0.9, most formulas less than 0.5
)
LEAST_COMMON = 1 / 8  # of a paragraph's words
COMMON = frozenset(  # in technical prose, a third of the words are among them
    re.findall(
        r"\w+",
        "the of and to a in is it that for as with be on are by this or from an at which not if can will has have was "
        "were its when each used than but all",
    )
)
ROLE = re.compile(r":[\w:]+:(?=`)")
UNDERLINE = re.compile(r"([-=~*^#\"])\1+")
WORD = re.compile(r"[^\W\d_]+")


def embedded() -> list[Document]:
    """All documents, by library and name; what they are about is their label."""
    documents = [Document(f"topic {name}", cleaned(text), "Python topics") for name, text in sorted(topics.items())]
    folder_of = {"standard library": Path(sysconfig.get_path("stdlib"))}
    for label, package in LIBRARIES.items():
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            folder_of[label] = Path(spec.origin).parent
    with _parsing():
        for label, folder in folder_of.items():
            for path in sorted(_sources(folder), key=lambda path: path.relative_to(folder).parts):
                text = even(part for docstring in docstrings(path) for part in cleaned(docstring).split("\n"))
                documents.append(Document(f"{label} {path.relative_to(folder).as_posix()}", text, label))
    return [document for document in documents if document.text]


def docstrings(path: Path) -> list[str]:
    """The docstrings of a Python file in the order they stand in; none if it can't be read."""
    try:
        source = path.read_text("utf-8")
        if '"""' not in source and "'''" not in source:
            return []
        return list(_within(ast.parse(source)))
    except (SyntaxError, ValueError):  # a template, or another encoding
        return []


def cleaned(text: str) -> str:
    """A docstring by the rules of this module: its paragraphs, one a line."""
    return even(paragraph for paragraph in _paragraphs(text) if _is_english(paragraph))


@contextmanager
def _parsing() -> Generator[None]:
    """Without the search for cyclic garbage, which takes 40 % of the time of parsing and finds nothing in a tree; and
    without Python's warnings about other people's source.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if was_on:
            gc.enable()


def _sources(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*.py") if LEFT_OUT.isdisjoint(path.relative_to(folder).parts))


def _within(tree: ast.Module) -> Iterator[str]:
    """Docstrings of modules, classes and functions, but none from within functions, and those given to `add_newdoc`."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring:
                yield docstring
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield from _added(node.value)
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting += reversed([*getattr(node, "body", []), *getattr(node, "orelse", [])])


def _added(call: ast.Call) -> Iterator[str]:
    """The long strings that a call gives to a function named `add_newdoc`, or longer."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name.startswith("add_newdoc"):
        strings = (part.value for part in ast.walk(call) if isinstance(part, ast.Constant))
        yield from (inspect.cleandoc(text) for text in strings if isinstance(text, str) and "\n" in text)


def _paragraphs(text: str) -> Iterator[str]:
    paragraph: list[str] = []
    before = 0  # the indentation of the line before
    skipping: int | None = None  # lines indented more deeply than this are no prose
    example = False
    for line in inspect.cleandoc(text).splitlines():
        bare = line.strip()
        indent = len(line) - len(line.lstrip())
        if not bare or (indent < before and not example):
            yield " ".join(paragraph)
            paragraph = []
            example = False
        if not bare:
            continue
        before = indent
        if skipping is not None and indent > skipping:
            continue
        skipping = None
        example = example or bare.startswith(">>>")
        if bare.endswith("::") or bare.startswith(".. "):
            skipping = indent
        letters = sum(map(str.isalpha, bare))
        if UNDERLINE.fullmatch(bare):
            paragraph = paragraph[:-1]
        elif not (example or bare.startswith(".. ") or letters < LEAST_LETTERS * len("".join(bare.split()))):
            paragraph.append(ROLE.sub("", bare).replace("`", ""))
    yield " ".join(paragraph)


def _is_english(paragraph: str) -> bool:
    words = WORD.findall(paragraph.lower())
    return sum(word in COMMON for word in words) >= max(1, LEAST_COMMON * len(words))
