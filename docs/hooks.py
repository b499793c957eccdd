"""What the site shows beside the pages of this folder: the README as its first page, and CONTRIBUTING."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md"}  # files of the root, and their pages


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the root's pages, with their links as they are from this folder."""
    root = Path(config.config_file_path).parent
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=_seen_from_docs((root / source).read_text(encoding="utf-8"))))
    return files


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
