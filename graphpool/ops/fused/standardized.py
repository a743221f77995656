"""Mean, deviation and standardised moments of each bag, up to any order."""

from __future__ import annotations

from torch import Tensor

from graphpool.ops import reference as composed
from graphpool.ops.fused.common import flat, overflowed
from graphpool.ops.fused.cpu.standardized import backward as cpu_backward
from graphpool.ops.fused.cpu.standardized import forward as cpu_forward
from graphpool.ops.fused.fused_op import FusedOp
from graphpool.ops.fused.layout import Layout
from graphpool.ops.inputs import Gather
from graphpool.segments import Segments


def _shapes(x: Tensor, option: str, layout: Layout) -> tuple[tuple[int, ...], ...]:
    """The result, mean and variance, and what the mean lacks by rounding."""
    order, bags, channels = cpu_forward.parsed(option)[0], layout.bags, x.shape[1]
    return (bags, order, channels), (2, bags, channels), (1, bags, channels)


def _composed(x: Tensor, option: str, layout: Layout) -> Tensor:
    segments, weight = layout.segments(), layout.weight
    return composed.segment_standardized_moments(x, segments, *cpu_forward.parsed(option), weight)


_standardized = FusedOp(
    "segment_standardized_moments",
    "x[R,C]",
    "out values lacks",
    _shapes,
    cpu_forward.forward,
    cpu_backward.backward,
    _composed,
    options=("1,1e-06", "4,0.01", "7,1e-06"),
    of_weight=cpu_backward.of_weight,
)


@_standardized.serves("segment_standardized_moments")
def segment_standardized_moments(
    x: Tensor,
    segments: Segments,
    order: int = 4,
    weight: Tensor | None = None,
    gather: Gather | None = None,
    eps: float = 1e-6,
) -> Tensor:
    y, values, _ = _standardized.results(
        (flat(x),), segments, weight, gather, f"{order},{float(eps)!r}"
    )
    if overflowed(values[1]):
        wide = segment_standardized_moments(x.double(), segments, order, weight, gather, eps)
        return wide.to(x.dtype)
    return y.view(segments.num_segments, order, *x.shape[1:]).to(x.dtype)
