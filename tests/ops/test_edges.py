"""Corners that the larger suites pass by; most were found by the soak run or by mutants that survived."""

from __future__ import annotations

import pytest
import torch

import graphpool
from graphpool import Segments, ops
from graphpool.ops.second_moment import segment_matmul, segment_outer


@pytest.mark.parametrize("backend", ["torch", "auto"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["segment_sum", "segment_max", "segment_median"])
def test_a_row_read_often_adds_up_its_derivatives_in_float32(name, dtype, backend):
    """bfloat16 cannot count beyond 256, float16 not beyond 2048."""
    times = 5000
    x = torch.ones(1, 1, dtype=dtype, requires_grad=True)
    segments = Segments(index=torch.arange(times), num_segments=times)
    with graphpool.use_backend(backend):
        y = getattr(ops, name)(x, segments, gather=torch.zeros(times, dtype=torch.long))
        y.sum().backward()
    assert float(x.grad) == pytest.approx(times, rel=0.01)


@pytest.mark.parametrize("k", [1, 3])
def test_top_k_of_empty_bags_can_be_differentiated(k):
    x = torch.zeros(0, 2, requires_grad=True)
    values, index = ops.segment_topk(x, Segments(ptr=torch.tensor([0, 0, 0])), k=k, fill=-1.0)
    assert torch.equal(values, torch.full((2, k, 2), -1.0))
    assert torch.equal(index, torch.full((2, k, 2), -1))
    values.sum().backward()
    assert x.grad.shape == (0, 2)


def test_top_k_keeps_large_integers():
    """float32 cannot tell 2^24 from 2^24 + 1."""
    x = torch.tensor([2**24 + 1, 2**24])
    values, _ = ops.segment_topk(x, Segments(ptr=torch.tensor([0, 2, 2])), k=1, fill=-5)
    assert values.dtype == torch.int64 and values.tolist() == [[2**24 + 1], [-5]]
    with pytest.raises(ValueError, match="`fill` must be an integer"):
        ops.segment_topk(x, Segments(ptr=torch.tensor([0, 2])), k=1, fill=0.5)


def test_top_k_of_empty_bags_keeps_integers():
    x = torch.zeros(0, dtype=torch.int32)
    values, _ = ops.segment_topk(x, Segments(ptr=torch.tensor([0, 0])), k=2)
    assert values.dtype == torch.int32 and values.tolist() == [[0, 0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products_of_matrices_keep_their_precision_under_autocast(dtype):
    x, y = torch.randn(9, 3, dtype=dtype), torch.randn(9, 2, dtype=dtype)
    segments = Segments(index=torch.arange(9) % 4, num_segments=5)
    moments = segment_outer(x, y, segments)
    rows = segment_matmul(x, moments, segments)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(segment_outer(x, y, segments), moments)
        assert torch.equal(segment_matmul(x, moments, segments), rows)


def test_products_of_matrices_for_many_sets_of_elements():
    """What vmap and torch.compile take in place of blocks."""
    x, y = torch.randn(2, 9, 3, requires_grad=True), torch.randn(2, 9, 4, requires_grad=True)
    segments = Segments(index=torch.arange(9) % 4, num_segments=5)

    def product(x, y):
        moments = segment_outer(x, y, segments)
        return moments, segment_matmul(x, moments, segments)

    together = torch.vmap(product)(x, y)
    alone = [torch.stack(pair) for pair in zip(*map(product, x, y), strict=True)]
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b)
    found = torch.autograd.grad(together[1].cos().sum(), (x, y))
    expected = torch.autograd.grad(alone[1].cos().sum(), (x, y))
    torch.testing.assert_close(found, expected)


def test_products_of_matrices_where_only_one_side_is_many():
    x, y = torch.randn(9, 3), torch.randn(2, 9, 4)
    segments = Segments(index=torch.arange(9) % 4, num_segments=5)
    moments = torch.vmap(lambda y: segment_outer(x, y, segments))(y)
    torch.testing.assert_close(moments, torch.stack([segment_outer(x, v, segments) for v in y]))
    rows = torch.vmap(lambda m: segment_matmul(x, m, segments))(moments)
    torch.testing.assert_close(rows, torch.stack([segment_matmul(x, m, segments) for m in moments]))


def test_a_sort_for_many_sets_of_elements():
    x = torch.randint(3, (2, 9, 4)).double()
    segments = Segments(index=torch.arange(9) % 4, num_segments=5)
    together = torch.vmap(lambda x: ops.segment_sort(x, segments)[0])(x)
    assert torch.equal(together, torch.stack([ops.segment_sort(v, segments)[0] for v in x]))
    order = torch.vmap(lambda x: ops.segment_sort(x, segments)[1])(x)
    assert torch.equal(order, torch.stack([ops.segment_sort(v, segments)[1] for v in x]))


@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_a_sum_of_gathered_values(backend):
    segments = Segments(ptr=torch.tensor([0, 2, 4]))
    value = torch.tensor([[1.0, 2.0], [5.0, 7.0]])
    gather = torch.tensor([0, 1, 1, 1])
    with graphpool.use_backend(backend):
        y = ops.segment_softmax_sum(torch.zeros(4, 2), value, segments, gather=gather)
        assert y.tolist() == [[3.0, 4.5], [5.0, 7.0]]
        # The temperature is 1 where none is given.
        x = torch.tensor([0.0, 1.0, 2.0, 2.0])
        expected = torch.tensor([0, 1]).softmax(0, dtype=torch.float32)[1].item()
        assert ops.segment_softpool(x, segments).tolist() == pytest.approx([expected, 2.0])


@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_heads_of_matrices_of_values(backend):
    segments = Segments(ptr=torch.tensor([0, 2, 4]))
    value, score = torch.randn(4, 3, 4), torch.randn(4, 3, 2)
    with graphpool.use_backend(backend):
        y = ops.segment_softmax_sum(score, value, segments)
        for c in range(4):
            one = ops.segment_softmax_sum(score[..., c // 2], value[..., c], segments)
            torch.testing.assert_close(y[..., c], one)
        for heads in (0, 3):
            with pytest.raises(ValueError, match="one column per head"):
                ops.segment_softmax_sum(torch.randn(4, 3, heads), value, segments)


@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_parameters_per_channel_of_matrices(backend):
    """Channels are the last dimension, not the one after the elements."""
    x, t = torch.rand(4, 3, 2) + 0.5, torch.tensor([1.0, -2.0])
    segments = Segments(ptr=torch.tensor([0, 2, 4]))
    with graphpool.use_backend(backend):
        for op in (ops.segment_softpool, ops.segment_power):
            y = op(x, segments, t)
            for c in range(2):
                torch.testing.assert_close(y[..., c], op(x[..., c], segments, t[c]))


def test_a_quantile_with_weights_of_bags_without_elements():
    x = torch.tensor([3.0, 1.0, 2.0])
    segments = Segments(ptr=torch.tensor([0, 0, 3, 3]))
    y = ops.segment_quantile(x, segments, 0.5, weight=torch.tensor([1.0, 2.0, 1.0]))
    assert y.tolist() == [0.0, 1.5, 0.0]


def test_a_quantile_with_weights_sees_a_nan_that_is_present():
    x = torch.tensor([3.0, torch.nan, 2.0, torch.nan])
    segments = Segments(ptr=torch.tensor([0, 2, 4]))
    y = ops.segment_quantile(x, segments, 0.0, weight=torch.tensor([1.0, 0.0, 1.0, 1.0]))
    assert y[0] == 3.0 and y[1].isnan()


def test_a_mask_of_integers_is_refused():
    with pytest.raises(TypeError, match="`mask` must be a boolean tensor.*int64"):
        Segments.from_padded(torch.ones(2, 2, dtype=torch.long))


def test_elements_in_the_order_of_their_bags():
    x = torch.arange(12).view(4, 3)
    segments = Segments(index=torch.tensor([1, 0, 1, 0]), num_segments=2)
    assert segments.sort_elements(x)[:, 0].tolist() == [3, 9, 0, 6]


def test_the_first_of_several_bad_bags_is_named():
    with pytest.raises(ValueError, match="-1 at position 1"):
        Segments(index=torch.tensor([0, -1, -1]), num_segments=2)
    with pytest.raises(ValueError, match="disagree at position 1"):
        Segments(index=torch.tensor([0, 1, 1, 0]), ptr=torch.tensor([0, 3, 4]))


@pytest.mark.parametrize("op", [ops.segment_sum, ops.segment_mean])
def test_the_derivative_by_the_weight_of_what_has_no_square(op):
    x = torch.tensor([[1.0, 2.0], [1e20, 3.0], [-1e30, 0.0]])
    weight, bags = torch.tensor([1.0, 1.0, 0.0]), Segments(ptr=torch.tensor([0, 3]))
    found = []
    for dtype in (torch.float32, torch.float64):
        w = weight.to(dtype).requires_grad_()
        y = op(x.to(dtype), bags, w)
        found.append(torch.autograd.grad(y.sum(), w)[0])
    torch.testing.assert_close(found[0].double(), found[1])
