"""Softmax-weighted sums of each bag: with scores from elsewhere, and of the elements by themselves."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from graphpool.ops import reference as composed
from graphpool.ops.fused.common import flat, of_bags, per_channel
from graphpool.ops.fused.cpu import heads as cpu_heads
from graphpool.ops.fused.cpu import softmax as cpu_softmax
from graphpool.ops.fused.cpu import softpool as cpu_softpool
from graphpool.ops.fused.cpu import weight as cpu_weight
from graphpool.ops.fused.cpu.core import run
from graphpool.ops.fused.cpu.layout import Arrays
from graphpool.ops.fused.fused_op import FusedOp
from graphpool.ops.fused.layout import Layout
from graphpool.ops.inputs import Gather
from graphpool.segments import Segments

# ------------------------------------------------------------------------------------------ softpool


def _softpool_shapes(x: Tensor, t: Tensor, layout: Layout) -> tuple[tuple[int, ...], ...]:
    """``sum softmax(t x) x``, what it lacks by rounding, and what :mod:`cpu_softpool` keeps."""
    sums = (layout.bags, x.shape[1])
    return sums, sums, (layout.bags, 2, x.shape[1])


def _softpool_composed(x: Tensor, t: Tensor, layout: Layout) -> Tensor:
    return composed.segment_softpool(x, t, layout.segments(), layout.weight)


_softpool = FusedOp(
    "segment_softpool",
    "x[R,C] t[C]",
    "out lacks kept",
    _softpool_shapes,
    cpu_softpool.forward,
    cpu_softpool.backward,
    _softpool_composed,
    of_weight=cpu_weight.of_softpool,
)


@_softpool.serves("segment_softpool")
def segment_softpool(
    x: Tensor,
    segments: Segments,
    t: Tensor,
    weight: Tensor | None = None,
    gather: Gather | None = None,
) -> Tensor:
    out = _softpool((flat(x), per_channel(t, x)), segments, weight, gather)
    return of_bags(out, segments, x)


# --------------------------------------------------------------------------------------- softmax sum


def _sum_shapes(score: Tensor, value: Tensor, layout: Layout) -> tuple[tuple[int, ...], ...]:
    """``sum softmax(score) value``, what it lacks by rounding, and what :func:`cpu_softmax.reduce` keeps of
    the scores."""
    sums = (layout.bags, value.shape[1])
    return sums, sums, (layout.bags, 2, score.shape[1])


def _sum_forward(
    score: np.ndarray,
    value: np.ndarray,
    at: Arrays,
    out: np.ndarray,
    lacks: np.ndarray,
    kept: np.ndarray,
) -> None:
    if score.shape[1] == value.shape[1]:
        kernel = cpu_softmax.softmax_forward
    else:
        kernel = cpu_heads.heads_forward
        value, out, lacks = (_by_head(v, score.shape[1]) for v in (value, out, lacks))
    cpu_softmax.reduce(kernel, (score, value), np.ones(score.shape[1]), at, out, lacks, kept)


def _by_head(rows: np.ndarray, heads: int) -> np.ndarray:
    return rows.reshape(rows.shape[0], heads, rows.shape[1] // heads)


def _sum_backward(
    grad: np.ndarray,
    score: np.ndarray,
    value: np.ndarray,
    out: np.ndarray,
    lacks: np.ndarray,
    kept: np.ndarray,
    at: Arrays,
    grad_score: np.ndarray,
    grad_value: np.ndarray,
) -> None:
    # Values that are gathered get their gradient row by row, all others with that of the score.
    inline = grad_value[:0] if at.gathered else grad_value
    elements = at.row_chunks(score.shape[0], value.shape[1])
    rows = at.backward_chunks(value.shape[1])
    by_row = (at.weight, at.row_ptr, at.row_elements)
    if score.shape[1] == value.shape[1]:
        here = (score, value, at.bag_of, at.in_order, at.gather, at.weight)
        run(
            cpu_softmax.softmax_backward,
            (*here, out, kept, lacks, grad, grad_score, inline),
            elements,
        )
        if at.gathered:
            ones = np.ones(score.shape[1], score.dtype)
            there = (score, ones, at.bag_of, at.in_order, *by_row, False, kept, grad, grad_value)
            run(cpu_softmax.share_backward, there, rows)
        return
    heads = score.shape[1]
    value, grad, out, lacks = (_by_head(v, heads) for v in (value, grad, out, lacks))
    infinite = np.isinf(out)
    finite = np.where(infinite, 0, grad) if infinite.any() else grad
    by_head = (score, value, at.bag_of, at.gather, at.weight, out, lacks, kept, finite, grad)
    run(cpu_heads.heads_backward, (*by_head, grad_score, _by_head(inline, heads)), elements)
    if at.gathered:
        of_rows = (score, at.bag_of, *by_row, kept, grad, _by_head(grad_value, heads))
        run(cpu_heads.heads_value_backward, of_rows, rows)


def _sum_composed(score: Tensor, value: Tensor, layout: Layout) -> Tensor:
    heads = value.reshape(score.shape[0], score.shape[1], value.shape[1] // max(score.shape[1], 1))
    scores = score.to(value.dtype).unsqueeze(-1)
    y = composed.segment_softmax_sum(scores, heads, layout.segments(), layout.weight)
    return y.flatten(1)


_sum = FusedOp(
    "segment_softmax_sum",
    "score[E,H] value[R,C]",
    "out lacks kept",
    _sum_shapes,
    _sum_forward,
    _sum_backward,
    _sum_composed,
)


@_sum.serves("segment_softmax_sum")
def segment_softmax_sum(
    score: Tensor,
    value: Tensor,
    segments: Segments,
    weight: Tensor | None = None,
    gather: Gather | None = None,
) -> Tensor:
    dtype = value.dtype
    if score.dim() == 1:
        heads = score.view(-1, *(1,) * max(value.dim() - 1, 1))
    else:
        heads = score.expand(score.shape[0], *value.shape[1:-1], score.shape[-1])
    if score.dtype != dtype:
        common = torch.promote_types(score.dtype, dtype)
        heads, value = heads.to(common), value.to(common)
    out = _sum((flat(heads), flat(value)), segments, weight, gather)
    return of_bags(out, segments, value).to(dtype)
