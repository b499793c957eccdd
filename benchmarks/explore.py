"""A page for every unit of a large run: how long the index and a page take to open, and what they load.

A run of digits with one small layer is surveyed, and its units are repeated, with numbers of their own, until there are
as many as asked for: ten rungs of a tenth each. So tables and recordings are those that a survey writes, only longer.

    python -m benchmarks.explore --units 500 --units 500000
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import polars as pl
import torch
from torch import nn

import thalweg
from thalweg.explore.serving import server_of
from thalweg.explore.site import site_of
from thalweg.files import whole
from thalweg.runs.recordings import read_recordings

RUNGS = 10
WIDTH = 50
TIMES = 5  # of which the median counts


def splits(source: thalweg.Source, seed: int) -> thalweg.Splits:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = thalweg.Images(
        torch.from_numpy(digits.images * 15).byte()[:, None], torch.from_numpy(digits.target), tuple("0123456789")
    )
    return thalweg.Splits(images.take(slice(0, 600)), images.take(slice(600, 800)), images.take(slice(800, None)))


def build(width: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))


def ladder() -> thalweg.Ladder:
    layers = (thalweg.Layer("1", nonlinearity=torch.relu),)
    rungs = tuple(thalweg.Rung(f"mlp-{each}", "dense", partial(build, WIDTH), layers) for each in range(RUNGS))
    return thalweg.Ladder("large-digits", rungs, splits, thalweg.Classifier(learning_rate=0.03, most_epochs=4))


def made(folder: Path, units: int) -> thalweg.Run:
    """A run of so many units."""
    base = folder / "base"
    if not (base / "run.json").is_file():
        given = {"seeds": 1, "k": 30, "sample": 128, "resamples": 100, "twins": "none", "cache": folder / "cache"}
        thalweg.survey(ladder(), out=base, observer="hog", **given)
    run = folder / f"run-{units}"
    if not run.is_dir():
        shutil.copytree(base, run)
        for file in sorted((run / "units").iterdir()):
            lengthen_table(file, units // RUNGS)
        for file in sorted((run / "recordings").glob("*.safetensors")):
            lengthen_recordings(file, units // RUNGS)
    return thalweg.open_run(run, ladder())


def lengthen_table(file: Path, units: int) -> None:
    rows = pl.read_parquet(file)
    parts = [rows.with_columns(pl.col("unit") + start) for start in range(0, units, WIDTH)]
    whole.write_frame(file, pl.concat(parts), statistics=True)


def lengthen_recordings(file: Path, units: int) -> None:
    read_recordings(file)
    kept, notes = whole.read_tensors(file), whole.read_tensor_notes(file)
    longer = {}
    for name, tensor in kept.items():
        last = name.rpartition("/")[2]
        if last in ("settings", "sample_keys"):
            longer[name] = tensor
        elif last == "unit_ids":
            longer[name] = torch.arange(units)
        else:
            axis = int(last == "sample" or last.startswith("products."))
            longer[name] = torch.cat([tensor] * (units // WIDTH), axis)
    whole.write_tensors(file, longer, notes)


def timed(browser, url: str, ready: str) -> tuple[float, int, int]:
    """Median seconds until a page is ready, and the bytes and files that it loads."""
    seconds, loaded, files = [], 0, 0
    for _ in range(TIMES):
        page = browser.new_page(viewport={"width": 1200, "height": 800}, bypass_csp=True)  # for `wait_for_function`
        answers: list = []
        page.on("response", lambda answer, answers=answers: answers.append(answer))
        start = time.perf_counter()
        page.goto(url)
        page.wait_for_function(ready)
        seconds.append(time.perf_counter() - start)
        page.wait_for_load_state("networkidle")
        loaded, files = sum(len(each.body()) for each in answers), len(answers)
        page.close()
    return statistics.median(seconds), loaded, files


def sorted_by(browser, url: str) -> float:
    """Seconds until all units are sorted by a score whose pieces are not loaded yet."""
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    page.goto(url)
    page.wait_for_selector("html.drawn")
    start = time.perf_counter()
    page.get_by_role("button", name="crisp", exact=True).click()
    page.wait_for_selector("th[aria-sort=descending]")
    seconds = time.perf_counter() - start
    page.close()
    return seconds


def measured(folder: Path, units: int) -> list[str]:
    from playwright.sync_api import sync_playwright

    run = made(folder, units)
    start = time.perf_counter()
    site = site_of(run, cache=folder / "cache")
    ready = time.perf_counter() - start
    written = folder / f"site-{units}"
    for address in site.addresses():
        (written / address).parent.mkdir(parents=True, exist_ok=True)
        (written / address).write_bytes(site.content(address) or b"")
    size = sum(file.stat().st_size for file in written.rglob("*") if file.is_file())
    drawn = "document.documentElement.classList.contains('drawn')"
    pictures = "[...document.images].slice(0, 18).every(image => image.complete) && document.images.length > 18"
    with sync_playwright() as playwright, server_of(site) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        path = os.environ.get("CHROMIUM") or shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        disk, _, _ = timed(browser, (written / "index.html").as_uri(), drawn)
        served, served_bytes, files = timed(browser, f"{url}index.html", drawn)
        order = sorted_by(browser, f"{url}index.html")
        network = site.catalogue.networks[RUNGS // 2]
        address = network.address("1", int(network.layers[0].numbers[-1]))
        page, page_bytes, page_files = timed(browser, url + address, pictures)
        browser.close()
        server.shutdown()
        thread.join()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return [
        f"{site.catalogue.count:,} units",
        f"index ready to serve {ready:.1f} s, memory {memory:.1f} GiB, index on disk {size / 1e6:.1f} MB",
        f"index opened from disk {disk:.2f} s; served {served:.2f} s, {served_bytes / 1e3:.0f} kB in {files} files",
        f"sorted by crisp {order:.2f} s",
        f"a unit's page, made and opened {page:.2f} s, {page_bytes / 1e3:.0f} kB in {page_files} files",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--units", type=int, action="append", help="how many; several are measured one after another")
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmark-explore"))
    options = parser.parse_args()
    sizes = options.units or [500, 500_000]
    if len(sizes) > 1:  # each in a process of its own, for memory is a process's
        for units in sizes:
            command = [sys.executable, "-m", "benchmarks.explore", "--units", str(units)]
            subprocess.run([*command, "--folder", str(options.folder)], check=True)
        return
    for line in measured(options.folder, sizes[0]):
        print(line)


if __name__ == "__main__":
    main()
