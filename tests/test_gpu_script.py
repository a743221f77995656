"""The script for a GPU keeps going: what fails, crashes or hangs is recorded, and everything else is done."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
CHECKS = '''
import os, time
from pathlib import Path

def fail():
    raise ValueError("no good")

def once():
    """Fails at the first attempt only."""
    mark = Path(__file__).with_name("mark")
    if not mark.exists():
        mark.write_text("")
        raise ValueError("not yet")
    return {"attempt": 2}

def opcheck(run):
    yield "works", lambda: {"number": 0.5}
    yield "fails", fail
    yield "crashes", lambda: os._exit(9)
    yield "hangs", lambda: time.sleep(600)
    yield "works later", lambda: {}

def values(run):
    raise RuntimeError("the part cannot start")
    yield

def conformance(run):
    yield "follows", lambda: {}
    yield "fails at first", once
'''


@pytest.fixture
def script(tmp_path):
    """A copy of the script whose checks are those above."""
    for file in (FOLDER / "gpu.py", FOLDER.parent / "examples" / "_scripts.py"):
        shutil.copy(file, tmp_path)
    shutil.copytree(
        FOLDER / "_gpu", tmp_path / "_gpu", ignore=shutil.ignore_patterns("__pycache__")
    )
    (tmp_path / "_gpu" / "checks.py").write_text(CHECKS)

    def run(*options: str) -> tuple[int, dict[tuple[str, str], dict], str]:
        out = tmp_path / "out"
        command = [
            sys.executable,
            str(tmp_path / "gpu.py"),
            "--interpret",
            "--out",
            str(out),
            *options,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=550, check=False)
        kept = json.loads((out / "gpu.json").read_text())
        records = {(r["part"], r["item"]): r for r in kept["records"]}
        assert (out / "gpu.md").read_text().strip() in done.stdout
        return done.returncode, records, done.stdout

    return run


@pytest.mark.slow
@pytest.mark.needs("triton")
def test_a_failure_stops_nothing_and_is_told(script):
    status, records, text = script("--parts", "opcheck", "--minutes", "1.5", "--grace", "30")
    assert status == 1
    assert {item: record["status"] for (_, item), record in records.items()} == {
        "works": "ok",
        "fails": "failed",
        "crashes": "failed",
        "hangs": "failed",
        "works later": "not reached",
    }
    assert "opcheck: fails: ValueError: no good" in text
    assert "opcheck: works later" in text.partition("Not reached in time")[2]
    assert records["opcheck", "works"]["found"] == {"number": 0.5}


@pytest.mark.slow
@pytest.mark.needs("triton")
def test_a_part_that_cannot_start_is_told_and_the_next_one_follows(script):
    status, records, _ = script("--parts", "values", "conformance", "--minutes", "2")
    assert status == 1
    assert {key: record["status"] for key, record in records.items()} == {
        ("values", "(the part itself)"): "failed",
        ("conformance", "follows"): "ok",
        ("conformance", "fails at first"): "failed",
    }


@pytest.mark.slow
@pytest.mark.needs("triton")
def test_resume_does_what_is_missing(script):
    quick = ("--parts", "conformance", "--minutes", "1")
    assert script(*quick)[0] == 1
    status, records, text = script(*quick, "--resume")
    assert status == 0
    assert {item: record["status"] for (_, item), record in records.items()} == {
        "follows": "ok",
        "fails at first": "ok",
    }
    assert "conformance: fails at first\n" in text and "conformance: follows\n" not in text


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_without_a_card_it_says_so(fresh):
    (done,) = fresh([FOLDER / "gpu.py"])
    assert done.returncode == 77
    assert "no CUDA device" in done.stdout
