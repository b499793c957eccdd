"""The house in order, beside the import contracts: short functions, few parameters, no borrowed private names."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import thalweg
from thalweg import shape

ROOT = Path(thalweg.__file__).parent
MOST_LINES = 45
MOST_PARAMETERS = 7
OFFERED = {*thalweg.__all__, *shape.__all__}


@cache
def modules() -> list[tuple[str, ast.Module]]:
    return [(path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())) for path in sorted(ROOT.rglob("*.py"))]


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    for name, module in modules():
        for node in ast.walk(module):
            if isinstance(node, ast.FunctionDef):
                yield f"{name}: {node.name}", node


def documented() -> set[str]:
    """The names that the API pages of docs show: what users call, with docstrings as long as that takes."""
    pages = (ROOT.parent.parent / "docs" / "api").glob("*.md")
    return {name.rpartition(".")[2] for page in pages for name in re.findall(r"^::: (\S+)", page.read_text(), re.M)}


def lines_of(node: ast.FunctionDef, users: set[str]) -> int:
    """The lines of a function; of one that users call, without its docstring."""
    lines = (node.end_lineno or 0) - node.lineno + 1
    first = node.body[0]
    return lines - ((first.end_lineno or 0) - first.lineno + 1) if node.name in users else lines


def test_no_function_is_long():
    users = documented()
    assert {"survey", "measure", "ablate"} <= users
    lines = {name: lines_of(node, users) for name, node in functions()}
    assert len(lines) > 1000
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}


def test_no_function_takes_many_parameters():
    """What users call may take more by keyword: these are the options that they type."""
    many = {}
    for name, node in functions():
        by_position = [
            each.arg for each in (*node.args.posonlyargs, *node.args.args) if each.arg not in ("self", "cls")
        ]
        options = [] if node.name in OFFERED else node.args.kwonlyargs
        if len(by_position) + len(options) > MOST_PARAMETERS and not is_command(node):
            many[name] = len(by_position) + len(options)
    assert many == {}


def is_command(node: ast.FunctionDef) -> bool:
    """Whether it is a command of the command line, whose parameters are its options."""
    return any("app.command" in ast.unparse(decorator) for decorator in node.decorator_list)


def test_what_the_type_check_passes_over_is_named_with_a_reason():
    lines = [line for path in ROOT.rglob("*.py") for line in path.read_text().splitlines()]
    ignores = [line for line in lines if re.search(r"#\s*(type|pyrefly):\s*ignore", line)]
    assert ignores
    assert [line for line in ignores if not re.search(r"# pyrefly: ignore\[[a-z-]+\]  # \w", line)] == []


def test_no_private_name_is_borrowed():
    borrowed = [
        f"{name}: {node.module}.{alias.name}"
        for name, module in modules()
        for node in ast.walk(module)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("thalweg")
        for alias in node.names
        if alias.name.startswith("_")
    ]
    assert borrowed == []


def test_members_import_modules_and_never_their_own_package():
    for name, module in modules():
        if name.endswith("__init__.py") or "/" not in name:
            continue
        package = "thalweg." + name.rpartition("/")[0].replace("/", ".")
        inside = {path.stem for path in (ROOT / name).parent.glob("*.py")} | {
            path.name for path in (ROOT / name).parent.iterdir() if path.is_dir()
        }
        for node in ast.walk(module):
            if isinstance(node, ast.ImportFrom) and node.module == package:
                assert {alias.name for alias in node.names} <= inside, f"{name} imports its own package"


def test_the_report_reads_no_registry():
    """A run is described by what it says itself, not by what is registered when its report is written."""
    registries = {"MEASURES", "OBSERVERS", "FACTORS", "LADDERS", "HEADLINES", "AXES", "DERIVED", "find", "ships"}
    imported = {
        f"{name}: {alias.name}"
        for name, module in modules()
        if name.startswith(("report/", "runs/"))
        for node in ast.walk(module)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name in registries
    }
    assert imported == set()
