"""Every fused op against its composed form, derivatives included, over the ways elements may lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from graphpool import ops
from graphpool.ops.fused.cpu import core
from graphpool.ops.fused.sort import sort_index
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
        # A coarse grid, so that extrema tie, away from 0, where a norm has no derivative.
        x = (torch.randn(rows, self.channels, dtype=torch.float64) * 4).round() / 4
        x = x + torch.where(x < 0, -0.25, 0.25)
        weight = torch.randint(0, 4, (self.elements,)) if self.weighted else None
        gather = torch.randint(rows, (self.elements,)) if self.gathered else None
        return x.to(dtype), Segments(index=index, num_segments=self.bags), weight, gather


CASES = [
    Case(50, 8, 4),
    Case(50, 8, 4, ordered=False, weighted=True),
    Case(300, 40, 6, ordered=False, gathered=True, weighted=True),
    Case(300, 40, 6, gathered=True),
    # Bags of several pieces, and several chunks, as they are cut here.
    Case(1000, 3, 200, weighted=True),
    Case(1000, 3, 200, ordered=False, gathered=True, weighted=True),
    Case(0, 4, 4),
    Case(0, 0, 2),
]
DTYPES = {torch.float64: 1e-10, torch.float32: 2e-5, torch.bfloat16: 2e-2}


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    """A bag above 256 elements is long, the least that can be: oracles need not take a million numbers."""
    monkeypatch.setattr(core, "PIECE", 1 << 14)
    monkeypatch.setattr(core, "CHUNK", 1 << 14)


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


@cases
def test_fused_is_composed(call, case, dtype):
    x, segments, weight, gather = case.build(dtype)
    inputs = call.inputs(x, case.elements)
    ours = call.fused(inputs, segments, weight, gather)
    theirs = call.composed(inputs, segments, weight, gather)
    tolerance = DTYPES[dtype]
    if "var" in "".join(call.option) and dtype == torch.float32:
        tolerance = 2e-4
    assert_same([ours], [theirs], inputs, tolerance)


def test_chunks_have_numbers_without_gaps():
    """They are rows of tables. One of three chunks would begin and end in the bag in the middle."""
    chunks, *_ = core.bag_chunks(np.array([0, 30, 71, 101]), 512)
    assert chunks == [(0, 0, 2), (1, 2, 3)]


@cases
def test_single_moments_equal_those_taken_together(case, dtype):
    x, segments, weight, gather = case.build(dtype)
    together = ops.segment_moments(x, segments, MOMENTS, weight, gather)
    for name, expected in zip(MOMENTS, together, strict=True):
        alone = getattr(ops, f"segment_{name}")(x, segments, weight, gather)
        assert torch.equal(alone, expected)


@pytest.mark.parametrize("elements, bags", [(0, 0), (0, 3), (1, 1), (1000, 7), (600_000, 50)])
def test_sort_index_is_a_stable_sort(elements, bags):
    index = torch.randint(max(bags, 1), (elements,))
    ptr, perm = sort_index(index, bags)
    assert torch.equal(perm, index.argsort(stable=True))
    assert torch.equal(ptr.diff(), torch.bincount(index, minlength=bags))
    assert ptr[0] == 0
