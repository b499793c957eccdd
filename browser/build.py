"""Put the libraries of pages beside the pages: `npm ci`, then `python browser/build.py`.

Each becomes one plain script, with its licence as a file beside it. They are committed, so that neither installing
thalweg nor its tests need Node.
"""

import re
import shutil
from pathlib import Path

HERE = Path(__file__).parent
PACKAGE = HERE.parent / "src" / "thalweg"


def main() -> None:
    """Write all of them."""
    jspsych = HERE / "node_modules" / "jspsych" / "dist" / "index.browser.min.js"
    write("study/library/jspsych.js", without_map(jspsych), HERE / "jspsych.LICENSE")  # its package has no file
    source = HERE / "node_modules" / "regular-table"
    write("explore/library/regular-table.js", plain(source / "dist" / "esm" / "regular-table.js"), source / "LICENSE")
    style = source / "dist" / "css" / "sub-cell-scrolling.css"
    (PACKAGE / "explore/library/regular-table.css").write_text(f"{style.read_text(encoding='utf-8').strip()}\n")


def without_map(script: Path) -> str:
    """A script without the address of its source map."""
    return re.sub(r"^//# sourceMappingURL=.*$", "", script.read_text(encoding="utf-8"), flags=re.M).strip() + "\n"


def plain(module: Path) -> str:
    """A module without imports as a plain script: pages that are opened from disk may load no modules."""
    text = re.sub(r"export\s*\{[^}]*\};?\s*$", "", without_map(module).rstrip())
    if re.search(r"^\s*(import|export)\b", text, flags=re.M):
        raise SystemExit(f"{module}: it imports or exports more than a script can")
    return f"(() => {{\n{text}\n}})();\n"


def write(name: str, script: str, licence: Path) -> None:
    """Write a script and its licence."""
    target = PACKAGE / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(script, encoding="utf-8")
    shutil.copyfile(licence, target.with_suffix(".LICENSE"))


if __name__ == "__main__":
    main()
