"""Processes that tests start: what came of each is told, they run side by side, and none for ever."""

from __future__ import annotations

MEET = """
import sys, time
from pathlib import Path
mine, other = map(Path, sys.argv[1:])
mine.touch()
while not other.exists():
    time.sleep(0.01)
"""


def test_what_came_of_a_command_is_told(fresh, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import sys\nprint(__name__, *sys.argv[1:])\nsys.exit(3)\n")
    fails, leaves, sees = fresh(
        ["-c", "raise ValueError('no good')"],
        [script, "one", 2],
        ["-c", "import sys; print('torch' in sys.modules, 'graphpool' in sys.modules)"],
    )
    assert fails.returncode == 1 and "ValueError: no good" in fails.stderr
    assert (leaves.returncode, leaves.stdout) == (3, "__main__ one 2\n")
    assert (sees.returncode, sees.stdout) == (0, "True False\n")


def test_commands_run_side_by_side(fresh, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    assert [d.returncode for d in fresh(["-c", MEET, one, two], ["-c", MEET, two, one])] == [0, 0]


def test_what_hangs_is_stopped(fresh):
    (done,) = fresh(["-c", "import time; time.sleep(600)"], timeout=0.5)
    assert done.returncode < 0
