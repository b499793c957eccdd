"""The Chromium that tests open pages with."""

import time

import pytest

from thalweg.study.visual import NAMES, chromium_path

QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def chromium() -> str:
    """The path of Chromium; the test fails where there is none."""
    found = chromium_path()
    if found is None:
        pytest.fail(
            f"no browser: install Chromium (apt-get install chromium-headless-shell) as one of {', '.join(NAMES)}"
        )
    return found


def axe_violations(page) -> list[str]:
    """What axe finds that bars readers with disabilities: the rule, and the first element that breaks it."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{each['id']}: {each['nodes'][0]['html'][:200]}" for each in found]


def until(page, expression: str, *, seconds: float = 60) -> None:
    """Wait until an expression is true on a page. Playwright's own waiting evaluates strings within the page, which a
    page that forbids that refuses as soon as it has to ask twice.
    """
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"not within {seconds} seconds: {expression}"
        page.wait_for_timeout(50)
