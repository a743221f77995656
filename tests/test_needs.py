"""Tests of optional parts: tried, or said not to be; a package that cannot load is an error in CI."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ONE = "tests/io/test_points.py::test_what_open3d_writes_is_read"
BROKEN = 'raise OSError("libusb-1.0.so.0: cannot open shared object file")\n'
UNMET = "import open3d_parts_that_are_not_there\n"


def run(tmp_path: Path, *options: str, stub: str | None, ci: bool) -> subprocess.CompletedProcess:
    environment = {**os.environ, "GRAPHPOOL_NOT_TRIED": str(tmp_path / "not-tried.txt")}
    environment.pop("CI", None)
    if ci:
        environment["CI"] = "true"
    if stub is not None:
        (tmp_path / "open3d").mkdir()
        (tmp_path / "open3d" / "__init__.py").write_text(stub)
        environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), str(ROOT)])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", ONE, *options]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("stub", [BROKEN, UNMET], ids=["library", "dependency"])
def test_a_package_that_cannot_be_imported_is_an_error_in_ci(tmp_path, stub):
    done = run(tmp_path, stub=stub, ci=True)
    assert done.returncode == 1
    assert "open3d is installed and cannot be imported" in done.stdout


def test_elsewhere_it_is_skipped_and_the_last_line_says_how_to_get_it(tmp_path):
    done = run(tmp_path, stub=BROKEN, ci=False)
    assert done.returncode == 0
    last = done.stdout.strip().splitlines()[-2:]
    assert any("not tried: open3d" in line and "apt-get install libusb" in line for line in last)
    assert "apt-get install libusb" in (tmp_path / "not-tried.txt").read_text()


def test_loading_can_be_made_impossible_on_purpose(tmp_path):
    done = run(tmp_path, "--unloadable", "open3d", stub=None, ci=True)
    assert done.returncode == 0 and "1 skipped" in done.stdout
    assert "not tried: open3d is installed and cannot be imported" in done.stdout
