"""Softmax-weighted sums of each bag: with scores from elsewhere, and of the elements by themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphpool.ops import reference as composed
from graphpool.ops.fused.common import (
    differentiate_again,
    flat,
    given_grad,
    layout_of,
    only_first,
    per_channel,
    working_array,
    working_dtype,
)
from graphpool.ops.fused.cpu import heads as cpu_heads
from graphpool.ops.fused.cpu import softmax as cpu_softmax
from graphpool.ops.fused.cpu.core import run
from graphpool.ops.fused.cpu.layout import Arrays
from graphpool.ops.fused.layout import SCHEMA, Layout
from graphpool.ops.fused.memory import empty, large
from graphpool.ops.inputs import Gather
from graphpool.segments import Segments

# ------------------------------------------------------------------------------------------ softpool


@torch.library.custom_op(
    "graphpool::segment_softpool",
    mutates_args=(),
    device_types="cpu",
    schema=f"(Tensor x, Tensor t, {SCHEMA}) -> (Tensor, Tensor, Tensor)",
)
def softpool(x: Tensor, t: Tensor, *layout: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """``sum softmax(t x) x`` ``[S, C]``, what it lacks by rounding, and what :func:`cpu_softmax.forward`
    keeps ``[S, 2, C]``."""
    elements = working_array(x)
    at = Arrays(Layout.from_args(layout), elements.dtype)
    out, lacks, kept = map(large, _softpool_fake(x, t, *layout))
    results = (out.numpy(), lacks.numpy(), kept.numpy())
    cpu_softmax.forward(elements, elements, working_array(t), at, at.gather, *results)
    return out, lacks, kept


@softpool.register_fake
def _softpool_fake(x: Tensor, t: Tensor, *layout: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    bags, dtype = Layout.from_args(layout).ptr.shape[0] - 1, working_dtype(x)
    out, lacks = (x.new_empty((bags, x.shape[1]), dtype=dtype) for _ in range(2))
    return out, lacks, x.new_empty((bags, 2, x.shape[1]), dtype=dtype)


@torch.library.custom_op(
    "graphpool::segment_softpool_backward",
    mutates_args=(),
    device_types="cpu",
    schema=f"(Tensor grad, Tensor x, Tensor t, Tensor out, Tensor lacks, Tensor kept, {SCHEMA})"
    " -> (Tensor, Tensor)",
)
def softpool_backward(
    grad: Tensor,
    x: Tensor,
    t: Tensor,
    out: Tensor,
    lacks: Tensor,
    kept: Tensor,
    *layout: Tensor | None,
) -> tuple[Tensor, Tensor]:
    elements = working_array(x)
    at = Arrays(Layout.from_args(layout), elements.dtype)
    grad_x = empty(tuple(x.shape), x, working_dtype(x))
    chunks = at.backward_chunks(x.shape[1])
    sums = np.zeros((len(chunks), x.shape[1]))
    where = (at.bag_of, at.in_order, at.weight, at.row_ptr, at.row_elements)
    saved = map(working_array, (out, kept, lacks, grad))
    args = (elements, working_array(t), *where, *saved, grad_x.numpy(), sums)
    run(cpu_softmax.softpool_backward, args, chunks)
    return grad_x.to(x.dtype), torch.from_numpy(sums.sum(0)).to(t.dtype)


@softpool_backward.register_fake
def _softpool_backward_fake(
    grad: Tensor, x: Tensor, t: Tensor, *saved: Tensor | None
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(t)


def _softpool_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, t, *layout = inputs
    only_first(ctx, output)
    ctx.save_for_backward(x, t, *output, *layout)


@given_grad
def _softpool_derive(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, t, out, lacks, kept, *layout = ctx.saved_tensors
    if torch.is_grad_enabled():
        found = differentiate_again(
            lambda x, t: _softpool_composed(x, t, Layout.from_args(layout)),
            [x, t],
            ctx.needs_input_grad[:2],
            grad,
        )
    else:
        found = torch.ops.graphpool.segment_softpool_backward(grad, x, t, out, lacks, kept, *layout)
    return *found, *(None,) * len(layout)


def _softpool_composed(x: Tensor, t: Tensor, layout: Layout) -> Tensor:
    x = layout.gathered(x.to(working_dtype(x)))
    return composed.segment_softpool(x, t, layout.segments(), layout.weight)


softpool.register_autograd(_softpool_derive, setup_context=_softpool_setup)


def segment_softpool(
    x: Tensor,
    segments: Segments,
    t: Tensor,
    weight: Tensor | None = None,
    gather: Gather | None = None,
) -> Tensor:
    layout = layout_of(segments, weight, gather, t, x)
    out = torch.ops.graphpool.segment_softpool(flat(x), per_channel(t, x), *layout)[0]
    return out.view(segments.num_segments, *x.shape[1:]).to(x.dtype)


# --------------------------------------------------------------------------------------- softmax sum


@torch.library.custom_op(
    "graphpool::segment_softmax_sum",
    mutates_args=(),
    device_types="cpu",
    schema=f"(Tensor score, Tensor value, {SCHEMA}) -> (Tensor, Tensor, Tensor)",
)
def softmax_sum(
    score: Tensor, value: Tensor, *layout: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """``sum softmax(score) value`` ``[S, C]`` for scores ``[E, H]``, what it lacks by rounding, and what
    :func:`cpu_softmax.forward` keeps ``[S, 2, H]``."""
    scores, values = working_array(score), working_array(value)
    at = Arrays(Layout.from_args(layout), scores.dtype)
    out, lacks, kept = map(large, _softmax_sum_fake(score, value, *layout))
    sums = (out.numpy(), lacks.numpy())
    if score.shape[1] == value.shape[1]:
        ones, here = np.ones(scores.shape[1], scores.dtype), np.empty(0, np.int64)
        cpu_softmax.forward(scores, values, ones, at, here, *sums, kept.numpy())
    else:
        heads = (-1, score.shape[1], value.shape[1] // score.shape[1])
        parts = (sums[0].reshape(heads), sums[1].reshape(heads))
        cpu_heads.forward(scores, values.reshape(heads), at, *parts, kept.numpy())
    return out, lacks, kept


@softmax_sum.register_fake
def _softmax_sum_fake(
    score: Tensor, value: Tensor, *layout: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    bags, dtype = Layout.from_args(layout).ptr.shape[0] - 1, working_dtype(value)
    out, lacks = (value.new_empty((bags, value.shape[1]), dtype=dtype) for _ in range(2))
    return out, lacks, value.new_empty((bags, 2, score.shape[1]), dtype=dtype)


@torch.library.custom_op(
    "graphpool::segment_softmax_sum_backward",
    mutates_args=(),
    device_types="cpu",
    schema="(Tensor grad, Tensor score, Tensor value, Tensor out, Tensor lacks, Tensor kept, "
    f"{SCHEMA}) -> (Tensor, Tensor)",
)
def softmax_sum_backward(
    grad: Tensor,
    score: Tensor,
    value: Tensor,
    out: Tensor,
    lacks: Tensor,
    kept: Tensor,
    *layout: Tensor | None,
) -> tuple[Tensor, Tensor]:
    scores, values, gradient = working_array(score), working_array(value), working_array(grad)
    at = Arrays(Layout.from_args(layout), scores.dtype)
    shares = working_array(kept)
    dtype = working_dtype(value)
    grad_score = empty(tuple(score.shape), score, dtype)
    grad_value = empty(tuple(value.shape), value, dtype)
    # Values that are gathered get their gradient row by row, all others with that of the score.
    inline = grad_value.numpy() if not at.gathered else grad_value.numpy()[:0]
    elements = at.row_chunks(score.shape[0], value.shape[1])
    rows = at.backward_chunks(value.shape[1])
    where = (at.bag_of, at.weight, at.row_ptr, at.row_elements)
    if score.shape[1] == value.shape[1]:
        here = (scores, values, at.bag_of, at.in_order, at.gather, at.weight)
        saved = (working_array(out), shares, working_array(lacks), gradient)
        run(cpu_softmax.softmax_backward, (*here, *saved, grad_score.numpy(), inline), elements)
        if at.gathered:
            there = (
                scores,
                where[0],
                at.in_order,
                *where[1:],
                False,
                shares,
                gradient,
                grad_value.numpy(),
            )
            run(cpu_softmax.share_backward, there, rows)
    else:
        heads = (-1, score.shape[1], value.shape[1] // score.shape[1])
        values, gradient = values.reshape(heads), gradient.reshape(heads)
        result = working_array(out).reshape(heads)
        infinite = np.isinf(result)
        finite = np.where(infinite, 0, gradient) if infinite.any() else gradient
        by_head = (scores, values, at.bag_of, at.gather, at.weight)
        rest = working_array(lacks).reshape(heads)
        results = (grad_score.numpy(), inline.reshape(heads))
        args = (*by_head, result, rest, shares, finite, gradient, *results)
        run(cpu_heads.heads_backward, args, elements)
        if at.gathered:
            by_row = (scores, *where, shares, gradient, grad_value.numpy().reshape(heads))
            run(cpu_heads.heads_value_backward, by_row, rows)
    return grad_score.to(score.dtype), grad_value.to(value.dtype)


@softmax_sum_backward.register_fake
def _softmax_sum_backward_fake(
    grad: Tensor, score: Tensor, value: Tensor, *saved: Tensor | None
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(score), torch.empty_like(value)


def _softmax_sum_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    score, value, *layout = inputs
    only_first(ctx, output)
    ctx.save_for_backward(score, value, *output, *layout)


@given_grad
def _softmax_sum_derive(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    score, value, out, lacks, kept, *layout = ctx.saved_tensors
    if torch.is_grad_enabled():
        found = differentiate_again(
            lambda score, value: _softmax_sum_composed(score, value, Layout.from_args(layout)),
            [score, value],
            ctx.needs_input_grad[:2],
            grad,
        )
    else:
        found = torch.ops.graphpool.segment_softmax_sum_backward(
            grad, score, value, out, lacks, kept, *layout
        )
    return *found, *(None,) * len(layout)


def _softmax_sum_composed(score: Tensor, value: Tensor, layout: Layout) -> Tensor:
    value = layout.gathered(value.to(working_dtype(value)))
    heads = value.reshape(score.shape[0], score.shape[1], value.shape[1] // max(score.shape[1], 1))
    scores = score.to(value.dtype).unsqueeze(-1)
    y = composed.segment_softmax_sum(scores, heads, layout.segments(), layout.weight)
    return y.flatten(1)


softmax_sum.register_autograd(_softmax_sum_derive, setup_context=_softmax_sum_setup)


def segment_softmax_sum(
    score: Tensor,
    value: Tensor,
    segments: Segments,
    weight: Tensor | None = None,
    gather: Gather | None = None,
) -> Tensor:
    layout, dtype = layout_of(segments, weight, gather, score, value), value.dtype
    if score.dim() == 1:
        score = score.view(-1, *(1,) * max(value.dim() - 1, 1))
        heads = score
    else:
        heads = score.expand(score.shape[0], *value.shape[1:-1], score.shape[-1])
    if score.dtype != value.dtype:
        common = torch.promote_types(score.dtype, value.dtype)
        heads, value = heads.to(common), value.to(common)
    y = torch.ops.graphpool.segment_softmax_sum(flat(heads), flat(value), *layout)[0]
    return y.view(segments.num_segments, *value.shape[1:]).to(dtype)
