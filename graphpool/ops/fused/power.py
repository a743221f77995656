"""The generalised norms of each bag, with gradients to their exponents; two of them mixed with the mean."""

from __future__ import annotations

import math

from torch import Tensor

from graphpool.ops import reference as composed
from graphpool.ops.fused.common import flat, of_bags
from graphpool.ops.fused.cpu import weight as cpu_weight
from graphpool.ops.fused.cpu.norms import mixed as cpu_mixed
from graphpool.ops.fused.cpu.norms import mixed_backward as cpu_mixed_backward
from graphpool.ops.fused.cpu.norms import power as cpu_power
from graphpool.ops.fused.fused_op import FusedOp
from graphpool.ops.fused.layout import Layout
from graphpool.ops.inputs import Gather
from graphpool.segments import Segments


def _shapes(
    x: Tensor, p: Tensor, q: Tensor, negative: str, layout: Layout
) -> tuple[tuple[int, ...], ...]:
    """``n^-q (sum a^p)^(1/p)``, the log of the norm without the factor, and the sizes ``n``.

    ``a`` is the absolute value of an element, what it has above zero, or, of the second half of the norms of
    ``"split"``, what it has below.
    """
    norms = (layout.bags, p.shape[0], x.shape[1])
    return norms, norms, (layout.bags,)


def _composed(x: Tensor, p: Tensor, q: Tensor, negative: str, layout: Layout) -> Tensor:
    return composed.segment_powers(x, p, q, negative, layout.segments(), layout.weight)


_power = FusedOp(
    "segment_power",
    "x[R,C] p[K,C] q[K,C]",
    "out norm size",
    _shapes,
    cpu_power.forward,
    cpu_power.backward,
    _composed,
    options=tuple(composed.SIDES),
    of_weight=cpu_weight.of_power,
)


@_power.serves("segment_power")
def segment_power(
    x: Tensor,
    segments: Segments,
    p: Tensor,
    q: Tensor,
    weight: Tensor | None = None,
    gather: Gather | None = None,
    negative: str = "abs",
) -> Tensor:
    # Exponents are those of the norms of all sides, which are joined by whoever calls.
    exponents = (v.reshape(len(v), math.prod(x.shape[1:])).contiguous() for v in (p, q))
    y = _power((flat(x), *exponents), segments, weight, gather, negative)
    return y.view(segments.num_segments, len(p), *x.shape[1:])


def _mixed_shapes(
    x: Tensor, exponents: Tensor, mix: Tensor, growth: Tensor, layout: Layout
) -> tuple[tuple[int, ...], ...]:
    """The result, what :mod:`cpu_mixed` keeps, and the sizes of the bags."""
    return (layout.bags, x.shape[1]), (layout.bags, cpu_mixed.KEPT, x.shape[1]), (layout.bags,)


def _mixed_composed(
    x: Tensor, exponents: Tensor, mix: Tensor, growth: Tensor, layout: Layout
) -> Tensor:
    return composed.segment_mixed_means(x, exponents, mix, growth, layout.segments(), layout.weight)


_mixed = FusedOp(
    "segment_mixed_means",
    "x[R,C] exponents[K] mix[M,C] growth[G]",
    "out kept size",
    _mixed_shapes,
    cpu_mixed.forward,
    cpu_mixed_backward.backward,
    _mixed_composed,
)


@_mixed.serves("segment_mixed_means")
def segment_mixed_means(
    x: Tensor,
    segments: Segments,
    exponents: Tensor,
    mix: Tensor,
    growth: Tensor,
    weight: Tensor | None = None,
    gather: Gather | None = None,
) -> Tensor:
    inputs = (
        flat(x),
        exponents.contiguous(),
        mix.reshape(3, math.prod(x.shape[1:])).contiguous(),
        growth.contiguous(),
    )
    return of_bags(_mixed(inputs, segments, weight, gather), segments, x)
