"""The generalised norm of each bag, with gradients to its exponents."""

from __future__ import annotations

from torch import Tensor

from graphpool.ops import reference as composed
from graphpool.ops.fused.common import flat, of_bags, per_channel
from graphpool.ops.fused.cpu import power as cpu_power
from graphpool.ops.fused.fused_op import FusedOp
from graphpool.ops.fused.layout import Layout
from graphpool.ops.inputs import Gather
from graphpool.segments import Segments


def _shapes(x: Tensor, p: Tensor, q: Tensor, layout: Layout) -> tuple[tuple[int, ...], ...]:
    """``n^-q (sum |x|^p)^(1/p)``, the log of the norm without the factor, and the sizes ``n``."""
    bags, channels = layout.bags, x.shape[1]
    return (bags, channels), (bags, channels), (bags,)


def _composed(x: Tensor, p: Tensor, q: Tensor, layout: Layout) -> Tensor:
    return composed.segment_power(x, p, q, layout.segments(), layout.weight)


_power = FusedOp(
    "segment_power",
    "x[R,C] p[C] q[C]",
    "out norm size",
    _shapes,
    cpu_power.forward,
    cpu_power.backward,
    _composed,
)


@_power.serves("segment_power")
def segment_power(
    x: Tensor,
    segments: Segments,
    p: Tensor,
    q: Tensor,
    weight: Tensor | None = None,
    gather: Gather | None = None,
) -> Tensor:
    inputs = (flat(x), per_channel(p, x), per_channel(q, x))
    return of_bags(_power(inputs, segments, weight, gather), segments, x)
