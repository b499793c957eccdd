"""What an installation asks of the machine."""

import tomllib
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]


def asked_python(package: str) -> str:
    """The versions of Python that an installed package says it needs; empty where it says none."""
    try:
        return metadata(package)["Requires-Python"] or ""
    except PackageNotFoundError:  # pinned for other machines
        return ""


def test_every_pinned_package_installs_on_the_oldest_python_that_is_promised():
    promised = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    oldest = promised.removeprefix(">=") + ".0"  # some distributions of Linux stay with an early patch of it
    pins = [line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line]
    asked = {package: asked_python(package) for package in pins}
    assert sum(map(bool, asked.values())) > 100
    assert {package: said for package, said in asked.items() if oldest not in SpecifierSet(said)} == {}
