"""Values, gradients and precision where they are easily lost; arguments that make no sense."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from graphpool.testing.samples import (
    close,
    expect_error,
    gradients,
    in_double,
    pooled,
    result,
    sample,
    trainable,
)

_INTEGER_POOLS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "sum": torch.sum,
    "max": torch.amax,
    "min": torch.amin,
}


def assert_empty_bags_are_zero(aggr: torch.nn.Module, channels: int) -> None:
    """Empty bags give 0 and no gradient, in the middle, at the end, all of them, or no bag at all."""
    aggr = aggr.double()
    learned = tuple(trainable(aggr).values())
    for counts in ((3, 0, 1, 5, 0, 2, 0), (0, 0, 0), (), (0,)):
        x, segments = sample(channels, counts)
        x.requires_grad_()
        y = pooled(aggr, x, segments)
        if y.size(0) != len(counts):
            raise AssertionError(
                f"Expected {len(counts)} bags, got {y.size(0)} for sizes {counts}."
            )
        empty = segments.counts == 0
        if not (y[empty] == 0).all():
            raise AssertionError(f"Empty bags must give 0; got {y[empty]} for sizes {counts}.")
        if not y.requires_grad:
            continue
        if not all(g.isfinite().all() for g in gradients(y, x, *learned)):
            raise AssertionError(f"Gradients must be finite for sizes {counts}.")
        if any(g.any() for g in gradients(y[empty], x, *learned)):
            raise AssertionError(f"Empty bags must have no gradient, for sizes {counts}.")


def assert_half_precision(aggr: torch.nn.Module, channels: int) -> None:
    """bfloat16 and float16 come out as they went in, right to their precision, also under autocast."""
    x, segments = sample(channels, (3, 0, 1, 50, 400), torch.float32)
    for dtype, tolerance in ((torch.bfloat16, 3e-2), (torch.float16, 1e-2)):
        half = x.to(dtype)
        expected = pooled(aggr.double(), half.double(), segments)
        y = pooled(aggr.float(), half, segments)
        if y.dtype != dtype:
            raise AssertionError(f"{dtype} elements must give {dtype}; got {y.dtype}.")
        scale = float(expected.detach().abs().max().clamp_min(1))
        close(y.double(), expected, rtol=tolerance, atol=tolerance * scale)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = pooled(aggr.float(), x, segments)
    expected = pooled(aggr.double(), x.double(), segments)
    scale = float(expected.detach().abs().max().clamp_min(1))
    close(y.double(), expected, rtol=5e-2, atol=5e-2 * scale)
    # Small bags, of which each element counts, in a pool that is itself in half precision.
    x, segments = sample(channels, (1, 2, 3, 4))
    x = (x.abs() / 3 + 0.1).bfloat16()
    rounded = copy.deepcopy(aggr).bfloat16()
    y, expected = pooled(rounded, x, segments), pooled(rounded.double(), x.double(), segments)
    scale = float(expected.detach().abs().max())
    close(y.double(), expected, rtol=5e-2, atol=5e-2 * scale)


def assert_compiles(aggr: torch.nn.Module, channels: int) -> None:
    """``torch.compile(fullgraph=True)`` with ``dim_size`` given, forward and backward."""
    aggr, x, segments = in_double(aggr, channels)
    expected_x = x.clone().requires_grad_()
    expected = pooled(aggr, expected_x, segments.index, dim_size=len(segments))
    (expected_grad,) = torch.autograd.grad(expected.square().sum(), expected_x)
    torch._dynamo.reset()
    compiled = torch.compile(aggr, fullgraph=True, backend="aot_eager")
    x.requires_grad_()
    y = result(compiled(x, segments.index, dim_size=len(segments)))
    close(y, expected)
    (grad,) = torch.autograd.grad(y.square().sum(), x)
    close(grad, expected_grad)
    torch._dynamo.reset()


def assert_stable_under_offset(aggr: torch.nn.Module, channels: int) -> None:
    """float32 keeps to the float64 result of the same elements, at an offset of 10,000."""
    x, segments = sample(channels, (3, 0, 1, 50, 400), torch.float32)
    for offset in (0.0, 1e4):
        moved = x + offset
        expected = pooled(aggr.double(), moved.double(), segments)
        y = pooled(aggr.float(), moved, segments)
        if not (y.isfinite() | ~expected.isfinite()).all():
            raise AssertionError(f"Not finite at an offset of {offset}: {y}.")
        close(y.double(), expected, rtol=1e-2, atol=1e-2)


def assert_dimensions_agree(aggr: torch.nn.Module, channels: int) -> None:
    """3-D elements are pooled slice by slice, over any dimension but the last, counted either way."""
    aggr, x, segments = in_double(aggr, channels)
    slices = [x, 2 * x, -x]
    expected = torch.stack([pooled(aggr, s, segments) for s in slices])
    stacked = torch.stack(slices)
    for arguments in ({"dim": -2}, {"dim": 1}, {}):
        close(pooled(aggr, stacked, segments, **arguments), expected)
    for dim in (0, -3):
        close(pooled(aggr, stacked.transpose(0, 1), segments, dim=dim), expected.transpose(0, 1))
    close(pooled(aggr, x, segments, dim=0), expected[0])
    bad = (ValueError, TypeError)
    expect_error(bad, lambda: aggr(x, segments, dim=2), "A dimension that does not exist")
    expect_error(bad, lambda: aggr(x, segments, dim=-1), "The dimension of the channels")
    expect_error(bad, lambda: aggr(x[0, 0], segments), "A scalar")


def assert_integers(aggr: torch.nn.Module, channels: int) -> None:
    """Integers are pooled exactly and stay integers, or are refused."""
    x, segments = sample(channels)
    whole = (10 * x).round().long()
    if not getattr(aggr, "accepts_integers", False):
        expect_error((TypeError,), lambda: aggr.float()(whole, segments), "Integer elements")
        return
    y, expected = aggr(whole, segments), pooled(aggr.double(), whole.double(), segments)
    if y.dtype != whole.dtype or not torch.equal(y.double(), expected):
        raise AssertionError(f"Integers must be pooled exactly: expected {expected}, got {y}.")
    name = str(getattr(aggr, "moment", ""))
    if name not in _INTEGER_POOLS:
        return
    # Beyond what floating point numbers can tell apart.
    large = whole + 2**60
    y = aggr(large, segments)
    for bag in range(len(segments)):
        rows = large[segments.index == bag]
        expected = _INTEGER_POOLS[name](rows, 0) if len(rows) else torch.zeros_like(y[bag])
        if not torch.equal(y[bag], expected):
            raise AssertionError(f"Bag {bag}: expected {expected}, got {y[bag]}.")


def assert_mismatch_raises(aggr: torch.nn.Module, channels: int) -> None:
    """Contradictory or invalid arguments are errors, and never a wrong result."""
    aggr, x, segments = in_double(aggr, channels)
    index, ptr, size = segments.index, segments.ptr, len(segments)
    errors = (ValueError, TypeError)

    def expect(what: str, *args: object, **kwargs: object) -> None:
        expect_error(errors, lambda: aggr(*args, **kwargs), what)

    other = ptr.clone()
    other[1] -= 1
    expect("An index that contradicts ptr", x, index, ptr=other)
    expect("A dim_size that contradicts ptr", x, ptr=ptr, dim_size=size + 1)
    expect("A dim_size below the largest index", x, index, dim_size=2)
    expect("A negative index", x, index - 1, dim_size=size)
    expect("An index of the wrong length", x, index[:-1], dim_size=size)
    expect("Offsets that end too early", x, ptr=torch.tensor([0, 3]))
    expect("Offsets that fall", x, ptr=torch.tensor([0, 5, 3, x.size(0)]))
    expect("A floating point index", x, index.double(), dim_size=size)
    expect("A weight of the wrong length", x, segments, weight=torch.ones(2))
    expect("A negative number of bags", x, index, dim_size=-1)
    expect("Something that is no tensor", [1.0, 2.0], segments)
