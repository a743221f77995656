"""No example judges a network by running averages over the networks that it was on the way."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
SCRIPTS = sorted((HERE.parents[1] / "examples").glob("[!_]*.py"))


@pytest.fixture
def evaluated(fresh, tmp_path, monkeypatch):
    """What became of each script, run in a process of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*scripts, options=()):
        commands = [[HERE / "evaluated.py", script, *options] for script in scripts]
        found = fresh(*commands, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=600)
        # Status 77: what the script is about is not to be had on this machine.
        assert all(done.returncode in (0, 77) for done in found), found[-1].stderr[-3000:]
        return [json.loads(done.stdout.splitlines()[-1]) for done in found]

    return run


SMALL = """
import torch
from graphpool.train import recalibrate

model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
x = torch.randn(9, 2)
model(x)
{settle}
model.eval()(x)
"""


def test_statistics_that_lag_are_seen(evaluated, tmp_path):
    lags, settled = tmp_path / "lags.py", tmp_path / "settled.py"
    lags.write_text(SMALL.format(settle=""))
    settled.write_text(SMALL.format(settle="recalibrate(model, [x])"))
    assert evaluated(lags, settled) == [
        {"used": 1, "lagging": ["BatchNorm1d of 3"]},
        {"used": 1, "lagging": []},
    ]


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=[path.stem for path in SCRIPTS])
def test_what_is_evaluated_has_the_statistics_of_the_network_as_it_is(script, evaluated, tmp_path):
    (found,) = evaluated(script, options=("--quick", "--out", tmp_path))
    assert found["lagging"] == []
