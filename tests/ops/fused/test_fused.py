"""Every fused op against its composed form, derivatives included, over the ways elements may lie."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from graphpool.ops import reference as composed
from graphpool.ops.fused import moments as fused_moments
from graphpool.ops.fused import power as fused_power
from graphpool.ops.fused import scores as fused_scores
from graphpool.ops.fused import softmax as fused_softmax
from graphpool.ops.fused import sort as fused_sort
from graphpool.ops.fused.common import working_dtype
from graphpool.segments import Segments

MOMENTS = ("mean", "var", "max", "min", "sum", "std")


@dataclass(frozen=True)
class Case:
    """Elements, bags, channels, and how the elements lie."""

    elements: int
    bags: int
    channels: int
    ordered: bool = True
    gathered: bool = False
    weighted: bool = False

    def build(self, dtype: torch.dtype) -> tuple[Tensor, Segments, Tensor | None, Tensor | None]:
        torch.manual_seed(self.elements + self.channels)
        index = torch.randint(max(self.bags, 1), (self.elements,))
        index = index.sort()[0] if self.ordered else index
        rows = 20 if self.gathered else self.elements
        # A coarse grid, so that extrema tie.
        x = (torch.randn(rows, self.channels, dtype=torch.float64) * 4).round() / 4
        weight = torch.randint(0, 4, (self.elements,)) if self.weighted else None
        gather = torch.randint(rows, (self.elements,)) if self.gathered else None
        return x.to(dtype), Segments(index=index, num_segments=self.bags), weight, gather


CASES = [
    Case(50, 8, 4),
    Case(50, 8, 4, ordered=False, weighted=True),
    Case(300, 40, 6, ordered=False, gathered=True, weighted=True),
    Case(300, 40, 6, gathered=True),
    # Bags of several pieces.
    Case(5000, 3, 200, weighted=True),
    Case(5000, 3, 200, ordered=False, gathered=True, weighted=True),
    Case(0, 4, 4),
    Case(0, 0, 2),
]
DTYPES = {torch.float64: 1e-10, torch.float32: 2e-5, torch.bfloat16: 2e-2}


def cases(test):
    test = pytest.mark.parametrize("case", CASES, ids=str)(test)
    return pytest.mark.parametrize("dtype", DTYPES, ids=str)(test)


def assert_same(ours, theirs, inputs, tolerance: float) -> None:
    """Values and derivatives agree, relative to the largest entry."""
    torch.manual_seed(0)
    direction = [torch.randn_like(y) for y in ours]
    found = torch.autograd.grad(ours, inputs, direction)
    wide = [d.to(y.dtype) for d, y in zip(direction, theirs, strict=True)]
    expected = torch.autograd.grad(theirs, inputs, wide)
    for a, b in [*zip(ours, theirs, strict=True), *zip(found, expected, strict=True)]:
        scale = b.abs().amax().clamp_min(1) if b.numel() else 1
        torch.testing.assert_close(
            a.double() / scale, b.double() / scale, atol=tolerance, rtol=tolerance
        )


def reference(x: Tensor, gather: Tensor | None, weight: Tensor | None):
    # Gathered in the working precision, so that the derivative of the reference adds up in it too.
    x = x.to(working_dtype(x))
    x = x if gather is None else x[gather]
    return x, None if weight is None else weight.to(x.dtype)


@cases
def test_moments(case, dtype):
    x, segments, weight, gather = case.build(dtype)
    x.requires_grad_()
    ours = fused_moments.segment_moments(x, segments, MOMENTS, weight, gather)
    elements, w = reference(x, gather, weight)
    variance = composed.segment_var(elements, segments, w)
    theirs = [
        composed.segment_mean(elements, segments, w),
        variance,
        composed.segment_extremum(elements, segments, w, True),
        composed.segment_extremum(elements, segments, w, False),
        composed.segment_sum(elements, segments, w),
        composed.standard_deviation(variance),
    ]
    tolerance = DTYPES[dtype]
    assert_same(ours, theirs, [x], max(tolerance, 2e-4) if dtype == torch.float32 else tolerance)


@cases
def test_single_moments_equal_those_taken_together(case, dtype):
    x, segments, weight, gather = case.build(dtype)
    together = fused_moments.segment_moments(x, segments, MOMENTS, weight, gather)
    for name, expected in zip(MOMENTS, together, strict=True):
        (alone,) = fused_moments.segment_moments(x, segments, (name,), weight, gather)
        assert torch.equal(alone, expected)
    for one, name in (
        (fused_moments.segment_sum(x, segments, weight, gather), "sum"),
        (fused_moments.segment_mean(x, segments, weight, gather), "mean"),
        (fused_moments.segment_extremum(x, segments, weight, gather, True), "max"),
        (fused_moments.segment_extremum(x, segments, weight, gather, False), "min"),
    ):
        assert torch.equal(one, together[MOMENTS.index(name)])


@cases
def test_softpool(case, dtype):
    x, segments, weight, gather = case.build(dtype)
    x.requires_grad_()
    t = torch.randn(case.channels, dtype=working_dtype(x)).requires_grad_()
    elements, w = reference(x, gather, weight)
    theirs = composed.segment_softmax_sum(t * elements, elements, segments, w)
    ours = fused_softmax.segment_softpool(x, segments, t, weight, gather)
    assert_same([ours], [theirs], [x, t], DTYPES[dtype])


@pytest.mark.parametrize("heads", ["channel", "half", "one", "flat"])
@cases
def test_softmax_sum(case, dtype, heads):
    value, segments, weight, gather = case.build(dtype)
    value.requires_grad_()
    count = {"channel": case.channels, "half": case.channels // 2, "one": 1, "flat": 1}[heads]
    shape = (case.elements,) if heads == "flat" else (case.elements, count)
    score = torch.randn(shape).to(dtype).requires_grad_()
    elements, w = reference(value, gather, weight)
    by_head = elements.view(case.elements, count, case.channels // count)
    scores = score.to(elements.dtype).view(case.elements, count, 1)
    theirs = composed.segment_softmax_sum(scores, by_head, segments, w).flatten(1)
    ours = fused_softmax.segment_softmax_sum(score, value, segments, weight, gather)
    assert_same([ours], [theirs], [score, value], DTYPES[dtype])


@cases
def test_power(case, dtype):
    x, segments, weight, gather = case.build(dtype)
    x = (x.abs() + 0.1) * torch.where(x < 0, -1, 1)
    x[::7] *= 30
    x = x.detach().requires_grad_()
    p = torch.rand(case.channels, dtype=working_dtype(x)) * 4 + 0.7
    p[::2] *= -1
    p.requires_grad_()
    q = (torch.randn(case.channels, dtype=working_dtype(x)) / 2).requires_grad_()
    elements, w = reference(x, gather, weight)
    theirs = composed.segment_power(elements, p, q, segments, w)
    ours = fused_power.segment_power(x, segments, p, q, weight, gather)
    assert_same([ours], [theirs], [x, p, q], DTYPES[dtype])


@cases
def test_logsumexp(case, dtype):
    x, segments, weight, gather = case.build(dtype)
    x.requires_grad_()
    elements, w = reference(x, gather, weight)
    theirs = composed.segment_logsumexp(elements, segments, w)
    ours = fused_scores.segment_logsumexp(x, segments, weight, gather)
    assert_same([ours], [theirs], [x], DTYPES[dtype])


@cases
def test_softmax(case, dtype):
    score, segments, weight, gather = case.build(dtype)
    score.requires_grad_()
    elements, w = reference(score, gather, weight)
    theirs = composed.segment_softmax(elements, segments, w)
    ours = fused_scores.segment_softmax(score, segments, weight, gather)
    assert_same([ours], [theirs], [score], DTYPES[dtype])


@pytest.mark.parametrize("elements, bags", [(0, 0), (0, 3), (1, 1), (1000, 7), (600_000, 50)])
def test_sort_index_is_a_stable_sort(elements, bags):
    index = torch.randint(max(bags, 1), (elements,))
    ptr, perm = fused_sort.sort_index(index, bags)
    assert torch.equal(perm, index.argsort(stable=True))
    assert torch.equal(ptr.diff(), torch.bincount(index, minlength=bags))
    assert ptr[0] == 0
