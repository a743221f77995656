"""What networks on meshes need of the ops: levels without edges, on memory that others have used before."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch

import graphpool
from graphpool import Segments, ops

CHANNELS = 4
MOMENTS = ("sum", "mean", "var", "std", "min", "max")


OPS = {
    "sum": ops.segment_sum,
    "mean": ops.segment_mean,
    "max": ops.segment_max,
    "min": ops.segment_min,
    "var": ops.segment_var,
    "std": ops.segment_std,
    "moments": lambda x, s, **k: torch.cat(ops.segment_moments(x, s, MOMENTS, **k)),
    "softmax": ops.segment_softmax,
    "logsumexp": ops.segment_logsumexp,
    "softpool": lambda x, s, **k: ops.segment_softpool(x, s, 0.5, **k),
    "power": lambda x, s, **k: ops.segment_power(x, s, 1.5, 0.5, **k),
    "median": ops.segment_median,
    "quantile": lambda x, s, **k: ops.segment_quantile(x, s, 0.3, **k),
    "sort": lambda x, s, **k: ops.segment_sort(x, s, **k)[0],
    "topk": lambda x, s, **k: ops.segment_topk(x, s, 2, **k)[0],
}
for _heads in (1, 2, CHANNELS):
    OPS[f"attention of {_heads}"] = lambda x, s, h=_heads, **k: ops.segment_softmax_sum(
        x.new_ones(s.num_elements, h), x, s, **k
    )
WITHOUT_WEIGHT = {"sort", "topk"}


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
    if weighted and name in WITHOUT_WEIGHT:
        pytest.skip("takes no weights")
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
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
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
