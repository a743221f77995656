"""Every task of the battery of one word, in its smallest form."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_every_task_runs(shared_data, tmp_path):
    script = ROOT / "benchmarks" / "safe_word.py"
    options = ["--quick", "--pools", "mean", "gnp", "--seeds", "0", "--data", shared_data]
    run = subprocess.run(
        [sys.executable, script, *options, "--out", tmp_path],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    runs = json.loads((tmp_path / "safe_word_quick.json").read_text("utf-8"))
    assert len({r["task"] for r in runs}) == 12
    assert not any(r["diverged"] for r in runs)
