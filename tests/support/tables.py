"""A table of models whose curve is a valley."""

from pathlib import Path

import polars as pl


def valley(path: Path) -> Path:
    strength = [1.0, 2, 3, 4, 5, 6, 7, 8, 9] * 3
    wobble = [0.004, -0.004, 0.0]
    score = [0.9 - 0.3 * (1 - abs(x - 5) / 4) + wobble[(i // 9 + i) % 3] for i, x in enumerate(strength)]
    pl.DataFrame({"loss": strength, "clear": score, "name": [f"m{int(x)}" for x in strength]}).write_csv(path)
    return path
