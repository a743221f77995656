"""Softmax and log-sum-exp of each bag."""

from __future__ import annotations

from torch import Tensor

from graphpool.ops import reference as composed
from graphpool.ops.fused.common import flat, of_bags, per_channel
from graphpool.ops.fused.cpu import share as cpu_share
from graphpool.ops.fused.cpu import softpool as cpu_softpool
from graphpool.ops.fused.cpu import weight as cpu_weight
from graphpool.ops.fused.fused_op import FusedOp
from graphpool.ops.fused.layout import Layout
from graphpool.ops.inputs import Gather, channel_parameter
from graphpool.segments import Segments

# ----------------------------------------------------------------------------------------- logsumexp


def _logsumexp_shapes(
    x: Tensor, tau: Tensor, over: str, layout: Layout
) -> tuple[tuple[int, ...], ...]:
    """``tau log sum exp(x / tau)``, its derivative by ``tau``, and what :mod:`cpu_softpool` keeps."""
    sums = (layout.bags, x.shape[1])
    return sums, sums, (layout.bags, 2, x.shape[1])


def _logsumexp_composed(x: Tensor, tau: Tensor, over: str, layout: Layout) -> Tensor:
    return composed.segment_logsumexp(x, layout.segments(), layout.weight, tau, over == "mean")


_logsumexp = FusedOp(
    "segment_logsumexp",
    "x[R,C] tau[C]",
    "lse slope kept",
    _logsumexp_shapes,
    cpu_softpool.logsumexp_forward,
    cpu_softpool.logsumexp_backward,
    _logsumexp_composed,
    reads="x tau slope kept",
    options=("sum", "mean"),
    of_weight=cpu_weight.of_logsumexp,
)


@_logsumexp.serves("segment_logsumexp")
def segment_logsumexp(
    x: Tensor,
    segments: Segments,
    weight: Tensor | None = None,
    gather: Gather | None = None,
    tau: float | Tensor = 1.0,
    mean: bool = False,
) -> Tensor:
    inputs = (flat(x), per_channel(channel_parameter(tau, x, "tau"), x))
    lse = _logsumexp(inputs, segments, weight, gather, "mean" if mean else "sum")
    return of_bags(lse, segments, x)


# ------------------------------------------------------------------------------------------- softmax


def _softmax_shapes(score: Tensor, layout: Layout) -> tuple[tuple[int, ...], ...]:
    """The share of each element, in the working precision: the backward pass reads nothing else."""
    return ((layout.num_elements(score), score.shape[1]),)


def _softmax_composed(score: Tensor, layout: Layout) -> Tensor:
    return composed.segment_softmax(score, layout.segments(), layout.weight)


_softmax = FusedOp(
    "segment_softmax",
    "score[R,C]",
    "share",
    _softmax_shapes,
    cpu_share.forward,
    cpu_share.backward,
    _softmax_composed,
    reads="share",
)


@_softmax.serves("segment_softmax")
def segment_softmax(
    score: Tensor, segments: Segments, weight: Tensor | None = None, gather: Gather | None = None
) -> Tensor:
    share = _softmax((flat(score),), segments, weight, gather)
    return share.view(segments.num_elements, *score.shape[1:]).to(score.dtype)
