"""The example on bags in pieces runs as a whole, and its claims are read off what it prints."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.needs("matplotlib", "sklearn")
def test_all_parts(tmp_path):
    command = [
        sys.executable,
        str(ROOT / "examples" / "streaming.py"),
        "--quick",
        f"--out={tmp_path}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    for picture in ("streaming_memory.png", "streaming_errors.png"):
        assert (tmp_path / picture).stat().st_size > 0
    assert "the same bits" in done.stdout
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines()]
    found = {row[0]: row[1:] for row in rows if row}
    assert float(found["2"][1]) < 1e-9
    full, pieces = (int(re.match(r"\d+", cell)[0]) for cell in found["40,000"][:2])
    assert pieces < full
    assert float(found["float64, two stacks"][1]) < 1e-10
    _, worst, _, lost = found["float32, added and taken out"]
    assert float(worst) > 0.1 or lost != "0 %"
    assert float(found["float64"][1]) < 1e-10
    assert float(re.search(r"by at most (\S+) up to", done.stdout)[1]) < 1e-6
    assert float(re.search(r"at most (\S+) apart", done.stdout)[1]) < 1e-3
