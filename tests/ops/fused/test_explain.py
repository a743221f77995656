from __future__ import annotations

import os

import pytest
import torch

from graphpool import explain, ops, use_backend


def test_tells_the_path_and_the_reason():
    x = torch.zeros(3, 2)
    assert "fused CPU kernel" in explain(ops.segment_power, x)
    assert "fused CPU kernel" in explain(ops.segment_max, x)
    assert "x is torch.int64" in explain("segment_sum", x.long())
    assert "no fused kernel" in explain("segment_product", x)
    weight = torch.ones(3, requires_grad=True)
    assert "fused CPU kernel" in explain("segment_sum", x, weight)
    assert "derivative with respect to the weight" in explain("segment_softmax", x, weight)
    with use_backend("torch"):
        assert "use_backend('torch')" in explain("segment_sum", x)
    with pytest.raises(TypeError, match="an op or its name"):
        explain(3, x)


def test_tells_the_bytes_that_have_to_move():
    x = torch.zeros(10, 4, dtype=torch.float64)
    assert "must move: 320 bytes forward (x read), 960 forward and backward" in explain(
        "segment_max", x
    )
    weighted = explain("segment_sum", x, torch.ones(10, dtype=torch.float32))
    assert "360 bytes forward (x and weight read), 1,040 forward and backward" in weighted
    assert "must move" not in explain("knn", x)


CODE = """
import sys, warnings
warnings.simplefilter("always")
import torch
from graphpool import Segments, ops
from graphpool import explain
x = torch.tensor([0.0, 0.0, 3.0])
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    # Of all kernels the one that is compiled soonest.
    y = ops.segment_softmax(x, Segments(ptr=torch.tensor([0, 2, 3])))
    ops.segment_softmax(x, Segments(ptr=torch.tensor([0, 1, 3])))
print(*y.tolist())
print(sum("graphpool" in str(w.message) for w in caught))
print(explain("segment_softmax", x).replace("\\n", " "))
"""


@pytest.fixture
def run(fresh):
    """The lines that ``CODE`` prints, after something else."""

    def lines(setup: str) -> list[str]:
        env = dict(os.environ)
        env.pop("NUMBA_CACHE_DIR", None)
        (done,) = fresh(["-c", setup + CODE], env=env)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip().splitlines()

    return lines


def test_compiles_without_a_cache_folder_and_says_so_once(run):
    # Every place where Numba would keep compiled code refuses.
    value, warned, line = run(
        "from numba.core import caching\ncaching.CacheImpl._locator_classes = []\n"
    )
    assert (value, warned) == ("0.5 0.5 1.0", "1")
    assert "no cache folder can be written" in line


def test_composed_form_where_numba_cannot_be_imported(run):
    value, warned, line = run("import sys\nsys.modules['numba'] = None\n")
    assert (value, warned) == ("0.5 0.5 1.0", "1")
    assert "composed form" in line and "cannot be imported" in line
