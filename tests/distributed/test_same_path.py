"""Two processes follow the path of one: graphs, point clouds, meshes, and pools with a memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("worker.py")
STEPS = 4


def run(what: str, processes: int, folder: Path) -> list[dict]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={processes}", str(WORKER), what, str(folder), str(STEPS)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=500,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [
        json.loads((folder / f"rank{rank}of{processes}.json").read_text())
        for rank in range(processes)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["graphs", "points", "meshes", "bags"])
def test_two_processes_follow_the_path_of_one(what, tmp_path):
    (alone,) = run(what, 1, tmp_path)
    pair = run(what, 2, tmp_path)
    assert pair[0]["pid"] != pair[1]["pid"]
    assert len(set(alone["losses"])) == STEPS
    for one in pair:
        assert one["losses"] == pytest.approx(alone["losses"], rel=1e-9)
        # Parameters and memories, those of bags that the other process saw included.
        assert one["state"] == pytest.approx(alone["state"], rel=1e-8, abs=1e-9)
