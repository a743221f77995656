from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphpool import Segments, explain, use_backend
from graphpool.ops.second_moment import segment_matmul, segment_outer, segment_second_moment


@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.integers(1, 9), st.integers(1, 9))
def test_against_loops(sizes, p, q):
    torch.manual_seed(0)
    index = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    index = index[torch.randperm(len(index))]
    segments = Segments(index=index, num_segments=len(sizes))
    x, y = (torch.randn(len(index), c, dtype=torch.float64) for c in (p, q))
    weight = torch.rand(len(index), dtype=torch.float64)
    expected = torch.zeros(len(sizes), p, q, dtype=torch.float64)
    for e, s in enumerate(index):
        expected[s] += weight[e] * torch.outer(x[e], y[e])
    torch.testing.assert_close(segment_outer(x, y, segments, weight), expected)
    product = torch.einsum("ep,epq->eq", x, expected[index])
    torch.testing.assert_close(segment_matmul(x, expected, segments), product)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 15, 16, 17, 33])
def test_blocks_of_every_length(length):
    x = torch.randn(length, 3, dtype=torch.float64)
    segments = Segments(ptr=torch.tensor([0, length]))
    torch.testing.assert_close(segment_outer(x, x, segments)[0], x.T @ x)


def test_covariance():
    x = torch.randn(50, 4, dtype=torch.float64) + 1e4
    y = segment_second_moment(x, Segments(ptr=torch.tensor([0, 50, 50])), center=True)
    torch.testing.assert_close(y[0], torch.cov(x.T, correction=0), rtol=1e-6, atol=1e-9)
    assert (y[1] == 0).all()


@pytest.mark.parametrize("offset", [1e3, 1e6, -1e7])
@pytest.mark.parametrize("weighted", [False, True])
def test_covariance_where_the_mean_is_rounded_by_as_much_as_the_elements_differ(offset, weighted):
    step = abs(float(np.spacing(np.float32(offset))))
    x = offset + step * torch.tensor([[0.0, 1.0], [1.0, 5.0], [0.0, 2.0]], dtype=torch.float64)
    weight = torch.tensor([1.0, 2.0, 1.0]) if weighted else None
    y = segment_second_moment(x.float(), Segments(ptr=torch.tensor([0, 3])), weight, center=True)
    counts = None if weight is None else weight.long()
    torch.testing.assert_close(
        y[0].double(), torch.cov(x.T, correction=0, fweights=counts), rtol=1e-6, atol=0
    )


def test_two_derivatives():
    segments = Segments(index=torch.tensor([1, 0, 1, 1, 3, 3]), num_segments=4)
    x, y = torch.randn(6, 3).double().requires_grad_(), torch.randn(6, 2).double().requires_grad_()
    m = torch.randn(4, 3, 2).double().requires_grad_()
    for function, inputs in (
        (lambda a, b: segment_outer(a, b, segments), (x, y)),
        (lambda a, b: segment_matmul(a, b, segments), (x, m)),
        (lambda a: segment_second_moment(a, segments, center=True), (x,)),
    ):
        torch.autograd.gradcheck(function, inputs)
        torch.autograd.gradgradcheck(function, inputs)


def test_no_outer_products_of_elements():
    """They would take 13 GB here."""
    x = torch.randn(200_000, 128)
    segments = Segments(ptr=torch.tensor([0, 50_000, 200_000]))
    y = segment_second_moment(x, segments, mean=False)
    torch.testing.assert_close(y[0], x[:50_000].T @ x[:50_000], rtol=1e-3, atol=1e-1)


def test_bad_shapes():
    segments = Segments(ptr=torch.tensor([0, 2]))
    with pytest.raises(ValueError, match="two dimensions"):
        segment_outer(torch.ones(2, 2, 2), torch.ones(2, 2), segments)
    with pytest.raises(ValueError, match=r"`matrices` must have shape \(1, 2, Q\)"):
        segment_matmul(torch.ones(2, 2), torch.ones(2, 2, 2), segments)
    with pytest.raises(ValueError, match=r"got \(1, 2, 1\)"):
        segment_matmul(torch.ones(2), torch.ones(1, 2, 1), segments)


@pytest.mark.parametrize("sizes", [[700, 0, 3, 256, 257], [5, 1, 0, 16]])
@pytest.mark.parametrize("p, q", [(3, 40), (40, 3), (33, 34), (1, 1), (4, 0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("ordered", [True, False])
def test_kernels_beside_the_composed_form(sizes, p, q, dtype, ordered):
    """Bags longer than a piece, widths that are no multiple of a step, matrices that lie across."""
    torch.manual_seed(0)
    index = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    index = index if ordered else index[torch.randperm(len(index))]
    segments = Segments(index=index, num_segments=len(sizes))
    x, y = torch.randn(len(index), p, dtype=dtype), torch.randn(q, len(index), dtype=dtype).T
    stored = torch.randn(len(sizes), p, q, dtype=dtype)
    turned = torch.randn(len(sizes), q, p, dtype=dtype).mT
    across = torch.randn(p, q, len(sizes), dtype=dtype).permute(2, 0, 1)
    products = [lambda: segment_outer(x, y, segments)]
    products += [lambda m=m: segment_matmul(x, m, segments) for m in (stored, turned, across)]
    for product in products:
        with use_backend("torch"):
            expected = product()
        found = product()
        assert found.dtype == dtype
        assert found.is_contiguous()
        tolerance = {"rtol": 1e-4, "atol": 2e-4} if dtype == torch.float32 else {}
        torch.testing.assert_close(found, expected, **tolerance)


def test_long_sums_do_not_lose_digits():
    segments = Segments(ptr=torch.tensor([0, 1 << 20]))
    ones = torch.full((1 << 20, 1), 0.1)
    total = segment_outer(ones, ones, segments).double().item()
    assert total == pytest.approx((1 << 20) * float(torch.tensor(0.1)) ** 2, rel=1e-6)


def test_a_nan_stays_in_its_bag():
    x = torch.ones(12, 5)
    x[5, 2] = torch.nan
    segments = Segments(ptr=torch.tensor([0, 4, 8, 12]))
    y = segment_outer(x, x, segments)
    assert y[[0, 2]].isfinite().all() and y[1, 2].isnan().all() and y[1, 0, 0] == 4
    assert segment_matmul(x, y, segments)[[0, 1, 2, 3, 8, 9, 10, 11]].isfinite().all()
    for op in (segment_outer, segment_matmul):
        assert "fused CPU kernel" in explain(op, x)
        with use_backend("torch"):
            assert "use_backend('torch')" in explain(op, x)
