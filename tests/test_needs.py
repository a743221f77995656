"""Tests of optional parts: tried, or said not to be; a package that cannot load is an error in CI."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ONE = "tests/io/test_points.py::test_what_open3d_writes_is_read"
BROKEN = 'raise OSError("libusb-1.0.so.0: cannot open shared object file")\n'
UNMET = "import open3d_parts_that_are_not_there\n"


@pytest.fixture
def run(tmp_path, monkeypatch, fresh):
    """Runs one test that needs open3d, which is what ``stub`` says, in CI or elsewhere."""
    monkeypatch.chdir(ROOT)

    def tried(*options: str, stub: str | None, ci: bool):
        environment = {**os.environ, "GRAPHPOOL_NOT_TRIED": str(tmp_path / "not-tried.txt")}
        environment.pop("CI", None)
        if ci:
            environment["CI"] = "true"
        if stub is not None:
            (tmp_path / "open3d").mkdir()
            (tmp_path / "open3d" / "__init__.py").write_text(stub)
            environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), str(ROOT)])
        command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", ONE, *options]
        return fresh(command, env=environment)[0]

    return tried


@pytest.mark.parametrize(
    "stub",
    [
        pytest.param(BROKEN, id="library"),
        pytest.param(UNMET, id="dependency", marks=pytest.mark.slow),
    ],
)
def test_a_package_that_cannot_be_imported_is_an_error_in_ci(run, stub):
    done = run(stub=stub, ci=True)
    assert done.returncode == 1
    assert "open3d is installed and cannot be imported" in done.stdout


def test_elsewhere_it_is_skipped_and_the_last_line_says_how_to_get_it(run, tmp_path):
    done = run(stub=BROKEN, ci=False)
    assert done.returncode == 0
    last = done.stdout.strip().splitlines()[-2:]
    assert any("not tried: open3d" in line and "apt-get install libusb" in line for line in last)
    assert "apt-get install libusb" in (tmp_path / "not-tried.txt").read_text()


def test_loading_can_be_made_impossible_on_purpose(run):
    done = run("--unloadable", "open3d", stub=None, ci=True)
    assert done.returncode == 0 and "1 skipped" in done.stdout
    assert "not tried: open3d is installed and cannot be imported" in done.stdout
