"""Sums over the elements of each bag in order, each times what its ranks are worth."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from graphpool.ops import ranked as composed
from graphpool.ops.fused.common import flat, of_bags, per_channel
from graphpool.ops.fused.cpu.layout import Arrays
from graphpool.ops.fused.cpu.ranks import order as cpu_order
from graphpool.ops.fused.cpu.ranks import sums as cpu_sums
from graphpool.ops.fused.fused_op import FusedOp
from graphpool.ops.fused.layout import Layout
from graphpool.ops.inputs import Gather
from graphpool.segments import Segments


def _shapes(
    x: Tensor, parameter: Tensor, option: str, layout: Layout
) -> tuple[tuple[int, ...], ...]:
    """The sums; for the backward pass what each element is worth, and how sums change with the parameter."""
    elements, bags = (0, 0) if layout.bag_of is None else (layout.num_elements(x), layout.bags)
    return (layout.bags, x.shape[1]), (elements, x.shape[1]), (bags, x.shape[1])


def _forward(
    x: np.ndarray,
    parameter: np.ndarray,
    option: str,
    at: Arrays,
    out: np.ndarray,
    share: np.ndarray,
    slope: np.ndarray,
) -> None:
    levels, none = parameter.astype(np.float64), np.empty((0, x.shape[1]), np.int64)
    if option == "cosine":
        levels[levels == 0] = composed.NO_FREQUENCY
    cpu_order.forward(x, option, levels, at, out, none, share, slope)


def _composed(x: Tensor, parameter: Tensor, option: str, layout: Layout) -> Tensor:
    return composed.ranked_sum(x, parameter, option, layout.segments(), layout.weight)


_ranked = FusedOp(
    "segment_ranked_sum",
    "x[R,C] parameter[C]",
    "out share slope",
    _shapes,
    _forward,
    cpu_sums.backward,
    _composed,
    reads="share slope",
    options=cpu_order.SUMS,
)


@_ranked.serves("segment_trimmed_mean")
def segment_trimmed_mean(
    x: Tensor,
    segments: Segments,
    trim: Tensor,
    weight: Tensor | None = None,
    gather: Gather | None = None,
) -> Tensor:
    return _of("trim", x, segments, trim, weight, gather)


@_ranked.serves("segment_cosine")
def segment_cosine(
    x: Tensor,
    segments: Segments,
    frequency: Tensor,
    weight: Tensor | None = None,
    gather: Gather | None = None,
) -> Tensor:
    return _of("cosine", x, segments, frequency, weight, gather)


def _of(
    option: str,
    x: Tensor,
    segments: Segments,
    parameter: Tensor,
    weight: Tensor | None,
    gather: Gather | None,
) -> Tensor:
    y = _ranked((flat(x), per_channel(parameter, x)), segments, weight, gather, option)
    return of_bags(y, segments, x)
