from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.needs("matplotlib")
def test_two_processes_one_of_which_dies_follow_the_path_of_one(tmp_path):
    command = [sys.executable, str(ROOT / "examples" / "distributed.py"), "--quick"]
    command += [f"--out={tmp_path}", f"--root={tmp_path / 'data'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    curves = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("*/losses.json"))]
    assert len(curves) == 2
    alone, together = curves
    assert len(alone) == len(together) == 3
    assert alone[-1] < alone[0]
    # float32 sums in another order, after 18 steps
    assert together == pytest.approx(alone, rel=1e-4)
    assert (tmp_path / "distributed.png").stat().st_size > 0
