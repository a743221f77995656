"""Standardised moments against a Python loop in float64."""

from __future__ import annotations

import math

import pytest
import torch

from graphpool import Segments, ops, use_backend

COUNTS = [3, 0, 1, 5, 0, 200, 2]


def make(weighted):
    index = torch.repeat_interleave(torch.arange(len(COUNTS)), torch.tensor(COUNTS))
    index = index[torch.randperm(len(index))]
    x = torch.randn(len(index), 3, dtype=torch.float64).exp()
    weight = torch.randint(0, 4, (len(index),)) if weighted else None
    return x, Segments(index=index, num_segments=len(COUNTS)), weight


def loop(values, order, eps):
    n = len(values)
    mean = math.fsum(values) / n
    central = [math.fsum((v - mean) ** k for v in values) / n for k in range(order + 1)]
    scale = math.sqrt(central[2] + eps) if order > 1 else 1.0
    found = [mean, *(math.sqrt(m) for m in central[2:3])]
    return found + [m / scale**k for k, m in enumerate(central) if k > 2]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("order", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_value(order, weighted, backend):
    x, segments, weight = make(weighted)
    expected = torch.zeros(len(COUNTS), order, 3, dtype=torch.float64)
    for s in range(len(COUNTS)):
        rows = (segments.index == s).nonzero().flatten().tolist()
        rows = [r for r in rows for _ in range(1 if weight is None else int(weight[r]))]
        for c in range(3 if rows else 0):
            found = loop([float(x[r, c]) for r in rows], order, 0.1)
            expected[s, :, c] = torch.tensor(found, dtype=torch.float64)
    with use_backend(backend):
        y = ops.segment_standardized_moments(x, segments, order, weight, eps=0.1)
        torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-12)
        y = ops.segment_standardized_moments(x.float(), segments, order, weight, eps=0.1)
    torch.testing.assert_close(y.double(), expected, rtol=1e-4, atol=1e-5)


def test_trailing_dimensions_and_rows_read_in_place():
    x, segments, weight = make(True)
    gather = torch.randint(len(x), (len(x),))
    x = torch.stack([x, 2 * x], 1).requires_grad_()
    y = ops.segment_standardized_moments(x, segments, 5, weight, gather)
    assert y.shape == (len(COUNTS), 5, 2, 3)
    expected = ops.segment_standardized_moments(x[gather], segments, 5, weight)
    torch.testing.assert_close(y, expected)
    grad = torch.randn_like(y)
    found, wanted = (torch.autograd.grad(v, x, grad)[0] for v in (y, expected))
    torch.testing.assert_close(found, wanted)


def test_one_more_weight_is_one_more_element():
    x, segments, _ = make(False)
    weight = torch.rand(len(x), dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda w: ops.segment_standardized_moments(x, segments, 4, w), weight, fast_mode=True
    )


def test_refusals():
    x, segments, _ = make(False)
    with pytest.raises(ValueError, match="`order`"):
        ops.segment_standardized_moments(x, segments, 0)
    for eps in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="`eps` must be positive and finite"):
            ops.segment_standardized_moments(x, segments, eps=eps)
