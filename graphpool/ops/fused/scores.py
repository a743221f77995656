"""Softmax and log-sum-exp of each bag."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from graphpool.ops import reference as composed
from graphpool.ops.fused.common import flat, of_bags
from graphpool.ops.fused.cpu import share as cpu_share
from graphpool.ops.fused.cpu import softmax as cpu_softmax
from graphpool.ops.fused.cpu.core import run
from graphpool.ops.fused.cpu.layout import Arrays
from graphpool.ops.fused.fused_op import FusedOp
from graphpool.ops.fused.layout import Layout
from graphpool.ops.inputs import Gather
from graphpool.segments import Segments

# ----------------------------------------------------------------------------------------- logsumexp


def _logsumexp_shapes(x: Tensor, layout: Layout) -> tuple[tuple[int, ...], ...]:
    """``log sum exp``, and what :func:`cpu_softmax.forward` keeps."""
    return (layout.bags, x.shape[1]), (layout.bags, 2, x.shape[1])


def _logsumexp_forward(x: np.ndarray, at: Arrays, lse: np.ndarray, kept: np.ndarray) -> None:
    none, ones = np.empty((0, x.shape[1]), x.dtype), np.ones(x.shape[1], x.dtype)
    cpu_softmax.forward(x, none, ones, at, at.gather, none, none, kept)
    present = at.present(at.ptr[:-1], at.ptr[1:])[:, None]
    lse[:] = np.where(present, cpu_softmax.log_sum_exp(kept), 0)


def _logsumexp_backward(
    grad: np.ndarray, x: np.ndarray, kept: np.ndarray, at: Arrays, grad_x: np.ndarray
) -> None:
    where = (at.bag_of, at.in_order, at.weight, at.row_ptr, at.row_elements, True)
    args = (x, *where, kept, grad, grad_x)
    run(cpu_softmax.share_backward, args, at.backward_chunks(x.shape[1]))


def _logsumexp_composed(x: Tensor, layout: Layout) -> Tensor:
    return composed.segment_logsumexp(x, layout.segments(), layout.weight)


_logsumexp = FusedOp(
    "segment_logsumexp",
    "x[R,C]",
    "lse kept",
    _logsumexp_shapes,
    _logsumexp_forward,
    _logsumexp_backward,
    _logsumexp_composed,
    reads="x kept",
)


@_logsumexp.serves("segment_logsumexp")
def segment_logsumexp(
    x: Tensor, segments: Segments, weight: Tensor | None = None, gather: Gather | None = None
) -> Tensor:
    return of_bags(_logsumexp((flat(x),), segments, weight, gather), segments, x)


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
