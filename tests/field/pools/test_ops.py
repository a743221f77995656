"""What networks on meshes need of the ops: levels without edges, on memory that others have used before."""

from __future__ import annotations

import inspect
from contextlib import contextmanager

import numpy as np
import pytest
import torch

import graphpool
from graphpool import Segments, ops
from graphpool.testing.ops import segment_functions

CHANNELS = 4
OPS = segment_functions()
for _heads in (1, 2):
    OPS[f"attention of {_heads}"] = lambda x, s, h=_heads, weight=None, gather=None: (
        ops.segment_softmax_sum(x.new_ones(s.num_elements, h), x, s, weight, gather)
    )


@contextmanager
def poisoned_memory():
    """Whatever is allocated without being written to holds NaN."""
    empty, before = np.empty, torch.are_deterministic_algorithms_enabled()

    def poisoned(*args, **kwargs):
        array = empty(*args, **kwargs)
        array.fill(np.nan if array.dtype.kind == "f" else -(2**40) % np.iinfo(array.dtype).max)
        return array

    torch.use_deterministic_algorithms(True, warn_only=True)
    np.empty = poisoned
    try:
        assert torch.empty(3).isnan().all() and np.isnan(np.empty(3)).all()
        yield
    finally:
        np.empty = empty
        torch.use_deterministic_algorithms(before)


def both(op, x, segments, **options):
    """Value and gradient."""
    x = x.detach().requires_grad_()
    y = op(x, segments, **options)
    weights = torch.arange(1.0, y.numel() + 1, dtype=y.dtype).view_as(y)
    (grad,) = torch.autograd.grad((y * weights).sum(), x, allow_unused=True)
    return y.detach(), torch.zeros_like(x) if grad is None else grad


def gathers(kind, rows, elements):
    """Which rows the elements read; none reads row 0 or the last."""
    read = torch.arange(elements) % max(rows - 2, 1) + 1
    return read if kind == "index" else Segments(index=read, num_segments=rows)


@pytest.mark.filterwarnings("ignore:.*does not have a deterministic implementation")
@pytest.mark.parametrize("gather", ["none", "index", "segments"])
@pytest.mark.parametrize("weighted", [False, True, "absent"])
@pytest.mark.parametrize("elements, bags", [(0, 0), (0, 5), (9, 5)])
@pytest.mark.parametrize("name", OPS)
def test_no_op_hands_out_memory_that_it_has_not_written(name, elements, bags, weighted, gather):
    takes = inspect.signature(OPS[name]).parameters
    if (weighted and "weight" not in takes) or (gather != "none" and "gather" not in takes):
        pytest.skip("takes no weight, or reads no rows")
    rows = elements if gather == "none" else 7
    x = torch.rand(rows, CHANNELS) + 0.5
    index = torch.arange(elements) % max(bags - 2, 1)
    segments = Segments(index=index, num_segments=bags)
    options = {}
    if weighted:
        options["weight"] = torch.full((elements,), 0.0 if weighted == "absent" else 2.0)
    if gather != "none":
        options["gather"] = gathers(gather, rows, elements)
    with graphpool.use_backend("torch"):
        expected = both(OPS[name], x, segments, **options)
    both(OPS[name], x, segments, **options)  # compiled before NumPy is tampered with
    with poisoned_memory():
        found = both(OPS[name], x, segments, **options)
    # Of few elements the higher moments lose digits in both forms.
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
    if gather != "none":
        assert not found[1][[0, -1]].any(), "rows that nobody reads"


def test_attention_over_no_elements_leaves_no_gradient():
    segments = Segments(index=torch.zeros(0, dtype=torch.long), num_segments=64)
    value = torch.randn(64, 8, requires_grad=True)
    score = torch.zeros(0, 2, requires_grad=True)
    with poisoned_memory():
        y = ops.segment_softmax_sum(score, value, segments, gather=segments)
        y.sum().backward()
    assert torch.equal(y, torch.zeros(64, 8))
    assert torch.equal(value.grad, torch.zeros(64, 8))
    assert score.grad.shape == (0, 2)


def test_attention_of_no_channels():
    """One head and values of width 0: nothing to weigh, and nothing to complain about."""
    segments = Segments(ptr=torch.tensor([0, 2, 3]))
    value = torch.randn(3, 0, requires_grad=True)
    score = torch.randn(3, 1, requires_grad=True)
    y = ops.segment_softmax_sum(score, value, segments)
    y.sum().backward()
    assert y.shape == (2, 0) and value.grad.shape == (3, 0)
    assert torch.equal(score.grad, torch.zeros(3, 1))
