"""The documentation site builds without a warning, its links lead somewhere, and it asks no other host for anything."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import thalweg
from support.browser import QUIET, chromium

ROOT = Path(__file__).parent.parent
LOADED = {
    "script": "src",
    "link": "href",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
}


class Links(HTMLParser):
    """What a page loads, where it links to, and the anchors that it has."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if given.get(LOADED.get(tag, "")):
            self.loads.append(given[LOADED[tag]])
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it."""
    path = tmp_path_factory.mktemp("docs") / "site"
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stdout + built.stderr
    return path


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Links]:
    return {page: Links(page) for page in sorted(site.rglob("*.html")) if page.name != "404.html"}


def local(pages: dict[Path, Links], kind: str) -> Iterator[tuple[Path, str, Path, str]]:
    """Each page's links or loads within the site: as it is written, and the file and the anchor that it names."""
    for page, links in pages.items():
        for written in getattr(links, kind):
            parts = urlsplit(written)
            if not parts.scheme and not parts.netloc:
                target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
                yield page, written, target, unquote(parts.fragment)


def test_language_models_find_the_pages_and_a_notebook_its_cells(site: Path, pages: dict[Path, Links]):
    listed = re.findall(r"\]\(([^)]+)\)", (site / "llms.txt").read_text())
    assert len(listed) == len(set(listed)) + 1  # the page for agents stands above the list too
    assert {site / name for name in listed} >= set(pages)
    assert "thalweg.survey" in (site / "notebooks/first-survey.html").read_text()
    assert (site / "notebooks/first-survey.ipynb").is_file()


def test_every_page_of_docs_is_in_the_site(site: Path, pages: dict[Path, Links]):
    named = [path for kind in ("*.md", "*.ipynb") for path in (ROOT / "docs").rglob(kind)]
    sources = {path.relative_to(ROOT / "docs").with_suffix("") for path in named}
    expected = {path.with_name("index") if path.name == "README" else path for path in sources}
    made = {page.relative_to(site).with_suffix("") for page in pages}
    assert made == expected | {Path("index"), Path("contributing")}
    assert (site / "results" / "ladders.png").is_file()


def test_every_link_and_anchor_leads_somewhere(pages: dict[Path, Links]):
    wrong = []
    for page, written, target, anchor in [*local(pages, "links"), *local(pages, "loads")]:
        if not target.is_file() or (anchor and target in pages and anchor not in pages[target].anchors):
            wrong.append(f"{page.name}: {written}")
    assert wrong == []
    assert sum(1 for _ in local(pages, "links")) > 1000


def test_nothing_is_loaded_from_another_host(site: Path, pages: dict[Path, Links]):
    loads = [f"{page.name}: {load}" for page, links in pages.items() for load in links.loads]
    assert [load for load in loads if "//" in load] == []
    sheets = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    addresses = [part for sheet in sheets for part in re.findall(r"(?:url\(|@import)\s*['\"]?([^'\")\s]+)", sheet)]
    assert len(addresses) > 10
    assert [address for address in addresses if "//" in address and not address.startswith("data:")] == []


def test_the_api_has_every_public_name_with_what_it_does(site: Path):
    anchors = {anchor for page in (site / "api").glob("*.html") for anchor in Links(page).anchors}
    documented = {anchor.rpartition(".")[2] for anchor in anchors if anchor.startswith("thalweg.")}
    assert set(thalweg.__all__) <= documented


def test_a_reader_without_a_network_can_search(site: Path):
    """Opened from its file in a browser, a page asks for nothing but files, and finds a word."""
    asked: list[str] = []
    from playwright.sync_api import sync_playwright  # slow to import, and every process of the tests reads this file

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=QUIET)
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / "index.html").as_uri())
        page.fill("input[name=query]", "thirds")
        page.wait_for_selector(".md-search-result__item a", state="attached", timeout=20_000)
        browser.close()
    assert len(asked) >= 4
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:", "about:"))] == []
