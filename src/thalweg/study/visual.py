"""Synthetic participants in a real browser, who read the page and press its keys and buttons."""

import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from thalweg.errors import ThalwegError, reason
from thalweg.study.people import Person

if TYPE_CHECKING:
    from playwright.async_api import Browser as Chromium
    from playwright.async_api import Page, Response

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")  # the lightest first
NEEDED = "participants in a browser need Chromium on the path and the package playwright (pip install playwright)"
WINDOW = {"width": 1280, "height": 800}
KEYS = ("123", "789")
PATIENCE = 180_000  # milliseconds that a page may take on a busy machine
INSTRUCTIONS = 3  # pages
Wait = Callable[[float], Any]


def chromium_path() -> str | None:
    """Where Chromium is; None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """A Chromium, for as long as a block lasts."""

    async def __aenter__(self) -> "Chromium":
        """Start it.

        Raises:
            ThalwegError: there is none.
        """
        try:
            from playwright.async_api import async_playwright

            self._playwright = await async_playwright().start()
            self._chromium = await self._playwright.chromium.launch(
                executable_path=chromium_path(), args=["--no-sandbox", "--disable-gpu"]
            )
        except ImportError as missing:
            raise ThalwegError(NEEDED) from missing
        except Exception as wrong:
            raise ThalwegError(f"{NEEDED}; it could not be started ({reason(wrong)})") from wrong
        return self._chromium

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self._chromium.close()
        await self._playwright.stop()


async def go_through_in_browser(
    chromium: "Chromium", link: str, person: Person, choose: Callable[[Person, str], tuple[int, int, float]], wait: Wait
) -> None:
    """Take part in a window of one's own, by the keyboard where there is a key, else by buttons."""
    context = await chromium.new_context(viewport=WINDOW)
    context.set_default_timeout(PATIENCE)
    page = await context.new_page()
    views: list[dict[str, Any]] = [{}]

    async def heard(response: "Response") -> None:
        if "/api/" in response.url and response.ok:
            views.append(await response.json())

    page.on("response", heard)
    await page.goto(link)
    while not await _ended(page):
        if await page.locator(".page").count():
            await _turn(page, views[-1], person, wait)
        else:
            await _answer(page, views, person, choose, wait)
        await page.wait_for_selector(".page h1, .choices button:not(:disabled), .feedback button")
        view = views[-1]
        if view.get("phase") == "main" and person.gone(view["place"] / view["of"]):
            break
    await context.close()


async def _ended(page: "Page") -> bool:
    await page.wait_for_selector(".page h1, .choices button:not(:disabled)")
    return not await page.locator(".choices, .page .actions button").count()


async def _turn(page: "Page", view: dict[str, Any], person: Person, wait: Wait) -> None:
    """Read a page of text and press its first button; the page stands there until the server has answered."""
    shown = await page.wait_for_selector(".page")
    assert shown is not None
    if view["phase"] == "instructions":
        await wait(person.reading() / INSTRUCTIONS)
    await page.locator(".page .actions button").first.click()
    await shown.wait_for_element_state("hidden")


async def _answer(
    page: "Page",
    views: list[dict[str, Any]],
    person: Person,
    choose: Callable[[Person, str], tuple[int, int, float]],
    wait: Wait,
) -> None:
    """Answer the trial that is shown, and read what was right where it is said."""
    before, trial = len(views), views[-1]["trial"]["id"]
    picked, confidence, seconds = choose(person, trial)
    await wait(seconds)
    await page.keyboard.press(f"Digit{KEYS[picked][confidence - 1]}")
    while len(views) == before:
        await page.wait_for_timeout(20)
    if feedback := views[-1].get("feedback"):
        person.learnt[trial] = feedback["right"]
        await page.locator(".feedback button").press("Enter")
    else:
        await page.wait_for_timeout(50)
