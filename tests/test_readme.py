"""The README's example is whole: it runs as it stands."""

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_the_example_of_ones_own_ladder_runs_and_is_short(tmp_path: Path):
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.S)
    assert sum(bool(line.strip()) for line in code.splitlines()) < 30
    (tmp_path / "own.py").write_text(code)
    environment = {"HOME": str(tmp_path), "PATH": ""}
    found = subprocess.run(
        [sys.executable, "own.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert found.returncode == 0, found.stderr[-2000:]
    assert "models" in found.stdout
    report = tmp_path / found.stdout.strip().splitlines()[-1]
    assert report.stat().st_size > 100_000
