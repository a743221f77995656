"""No example judges a network by running averages over the networks that it was on the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
SCRIPTS = sorted((HERE.parents[1] / "examples").glob("[!_]*.py"))


def evaluated(script, folder, *options):
    done = subprocess.run(
        [sys.executable, HERE / "evaluated.py", script, *options],
        cwd=folder, capture_output=True, text=True, timeout=600, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    # Status 77: what the script is about is not to be had on this machine.
    assert done.returncode in (0, 77), done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


SMALL = """
import torch
from graphpool.train import recalibrate

model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
x = torch.randn(9, 2)
model(x)
{settle}
model.eval()(x)
"""


@pytest.mark.parametrize(
    "settle, lagging", [("", ["BatchNorm1d of 3"]), ("recalibrate(model, [x])", [])]
)
def test_statistics_that_lag_are_seen(settle, lagging, tmp_path):
    (tmp_path / "small.py").write_text(SMALL.format(settle=settle))
    assert evaluated(tmp_path / "small.py", tmp_path) == {"used": 1, "lagging": lagging}


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=[path.stem for path in SCRIPTS])
def test_what_is_evaluated_has_the_statistics_of_the_network_as_it_is(script, tmp_path):
    assert evaluated(script, tmp_path, "--quick", "--out", tmp_path)["lagging"] == []
