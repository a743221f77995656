from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.needs("matplotlib")
@pytest.mark.slow
@pytest.mark.parametrize(
    "script, options, outputs",
    [
        (
            "mesh_segmentation.py",
            ["--pool", "max"],
            ["mesh_segmentation.txt", "mesh_segmentation_max.png"],
        ),
        (
            "mesh_segmentation.py",
            ["--model", "superpixel", "--published", "--no-baseline"],
            ["mesh_segmentation_mean.png"],
        ),
        (
            "mesh_classification.py",
            ["--reduce", "mean"],
            ["mesh_classification.txt", "mesh_classification_mean.png"],
        ),
        ("mesh_classification.py", ["--model", "meshcnn"], ["mesh_classification.txt"]),
    ],
)
def test_the_scripts_run_and_leave_a_table_and_a_picture(tmp_path, script, options, outputs):
    command = [sys.executable, str(EXAMPLES / script), "--quick", f"--out={tmp_path}", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    for name in outputs:
        assert (tmp_path / name).stat().st_size > 100
