"""What the site shows beside the pages of this folder: the README as its first page, CONTRIBUTING, the notebooks."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md"}  # files of the root, and their pages


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the root's pages, with their links as they are from this folder, and a page for each notebook."""
    root = Path(config.config_file_path).parent
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=_seen_from_docs((root / source).read_text(encoding="utf-8"))))
    for notebook in sorted((root / "docs" / "notebooks").glob("*.ipynb")):
        files.append(File.generated(config, f"notebooks/{notebook.stem}.md", content=_page_of(notebook, config)))
    files.append(File.generated(config, "llms.txt", content=_for_language_models(config)))
    return files


def _for_language_models(config: MkDocsConfig) -> str:
    """The list of pages that language models look for at the root of a site, as the navigation has it."""
    lines = [f"# {config.site_name}", "", f"> {config.site_description}", ""]
    lines += ["[For coding agents](agents.html) has the ten things to know first.", ""]
    return "\n".join([*lines, *_listed(config.nav or [])]) + "\n"


def _listed(entries: Sequence[Any], depth: int = 0) -> Iterator[str]:
    """Entries of the navigation as lines: a heading for each section, a link for each page."""
    for entry in entries:
        title, what = next(iter(entry.items())) if isinstance(entry, dict) else (Path(entry).stem, entry)
        if isinstance(what, str):
            page = what.replace("README.md", "index.md").removesuffix(".md")
            yield f"{'  ' * max(depth - 1, 0)}- [{title}]({page}.html)"
        else:
            yield from ("", f"## {title}", "") if depth == 0 else (f"- {title}",)
            yield from _listed(what, depth + 1)


COLAB = "https://colab.research.google.com/github/"


def _page_of(notebook: Path, config: MkDocsConfig) -> str:
    """The cells of a notebook as a page, which links to the notebook itself; and to Colab, where mkdocs.yml names the
    project's repository on GitHub (`repo_url`).
    """
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    parts = ["".join(cell["source"]) for cell in cells]
    shown = [
        part if cell["cell_type"] == "markdown" else f"```python\n{part}\n```"
        for cell, part in zip(cells, parts, strict=True)
    ]
    itself = f"[The notebook itself]({notebook.name}), to be opened in Jupyter."
    if (repository := (config.repo_url or "").rstrip("/")).startswith("https://github.com/"):
        path = f"{repository.removeprefix('https://github.com/')}/blob/main/docs/notebooks/{notebook.name}"
        itself += f" [Open it in Colab]({COLAB}{path})."
    return "\n\n".join([*shown, itself, ""])


def on_page_markdown(markdown: str, **_: object) -> str:
    """Let pages that link to files of the root, as GitHub's readers need it, link to their pages."""
    for source, page in PAGES.items():
        markdown = markdown.replace(f"../{source}", page)
    return markdown


def _seen_from_docs(text: str) -> str:
    """A file of the root with links from this folder."""
    for source, page in PAGES.items():
        text = text.replace(f"]({source}", f"]({page}")
    return re.sub(r"\]\(docs/", "](", text)
