"""Softmax and log-sum-exp of each bag."""

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
    working_array,
    working_dtype,
)
from graphpool.ops.fused.cpu import share as cpu_share
from graphpool.ops.fused.cpu import softmax as cpu_softmax
from graphpool.ops.fused.cpu.core import run
from graphpool.ops.fused.cpu.layout import Arrays
from graphpool.ops.fused.layout import SCHEMA, Layout
from graphpool.ops.fused.memory import empty, large
from graphpool.ops.inputs import Gather
from graphpool.segments import Segments

# ----------------------------------------------------------------------------------------- logsumexp


@torch.library.custom_op(
    "graphpool::segment_logsumexp",
    mutates_args=(),
    device_types="cpu",
    schema=f"(Tensor x, {SCHEMA}) -> (Tensor, Tensor)",
)
def logsumexp(x: Tensor, *layout: Tensor | None) -> tuple[Tensor, Tensor]:
    """``log sum exp`` ``[S, C]``, and what :func:`cpu_softmax.forward` keeps ``[S, 2, C]``."""
    elements = working_array(x)
    at = Arrays(Layout.from_args(layout), elements.dtype)
    lse, kept = map(large, _logsumexp_fake(x, *layout))
    none, ones = np.empty((0, x.shape[1]), elements.dtype), np.ones(x.shape[1], elements.dtype)
    cpu_softmax.forward(elements, none, ones, at, at.gather, none, none, kept.numpy())
    present = at.present(at.ptr[:-1], at.ptr[1:])[:, None]
    lse.numpy()[:] = np.where(present, cpu_softmax.log_sum_exp(kept.numpy()), 0)
    return lse, kept


@logsumexp.register_fake
def _logsumexp_fake(x: Tensor, *layout: Tensor | None) -> tuple[Tensor, Tensor]:
    bags, dtype = Layout.from_args(layout).ptr.shape[0] - 1, working_dtype(x)
    lse = x.new_empty((bags, x.shape[1]), dtype=dtype)
    return lse, x.new_empty((bags, 2, x.shape[1]), dtype=dtype)


@torch.library.custom_op(
    "graphpool::segment_logsumexp_backward",
    mutates_args=(),
    device_types="cpu",
    schema=f"(Tensor grad, Tensor x, Tensor lse, Tensor kept, {SCHEMA}) -> Tensor",
)
def logsumexp_backward(
    grad: Tensor, x: Tensor, lse: Tensor, kept: Tensor, *layout: Tensor | None
) -> Tensor:
    elements = working_array(x)
    at = Arrays(Layout.from_args(layout), elements.dtype)
    grad_x = empty(tuple(x.shape), x, working_dtype(x))
    where = (at.bag_of, at.in_order, at.weight, at.row_ptr, at.row_elements, True)
    args = (elements, *where, working_array(kept), working_array(grad), grad_x.numpy())
    run(cpu_softmax.share_backward, args, at.backward_chunks(x.shape[1]))
    return grad_x.to(x.dtype)


@logsumexp_backward.register_fake
def _logsumexp_backward_fake(
    grad: Tensor, x: Tensor, lse: Tensor, kept: Tensor, *layout: Tensor | None
) -> Tensor:
    return torch.empty_like(x)


def _logsumexp_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    only_first(ctx, output)
    ctx.save_for_backward(inputs[0], *output, *inputs[1:])


@given_grad
def _logsumexp_derive(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, lse, kept, *layout = ctx.saved_tensors
    none = (None,) * len(layout)
    if torch.is_grad_enabled():
        again = differentiate_again(
            lambda x: _logsumexp_composed(x, Layout.from_args(layout)), [x], [True], grad
        )
        return again[0], *none
    return torch.ops.graphpool.segment_logsumexp_backward(grad, x, lse, kept, *layout), *none


def _logsumexp_composed(x: Tensor, layout: Layout) -> Tensor:
    x = layout.gathered(x.to(working_dtype(x)))
    return composed.segment_logsumexp(x, layout.segments(), layout.weight)


logsumexp.register_autograd(_logsumexp_derive, setup_context=_logsumexp_setup)


def segment_logsumexp(
    x: Tensor, segments: Segments, weight: Tensor | None = None, gather: Gather | None = None
) -> Tensor:
    layout = layout_of(segments, weight, gather, x)
    y = torch.ops.graphpool.segment_logsumexp(flat(x), *layout)[0]
    return y.view(segments.num_segments, *x.shape[1:]).to(x.dtype)


# ------------------------------------------------------------------------------------------- softmax


@torch.library.custom_op(
    "graphpool::segment_softmax",
    mutates_args=(),
    device_types="cpu",
    schema=f"(Tensor score, {SCHEMA}) -> Tensor",
)
def softmax(score: Tensor, *layout: Tensor | None) -> Tensor:
    """The softmax ``[E, C]``, in the working precision: the backward pass reads nothing else."""
    scores = working_array(score)
    at = Layout.from_args(layout)
    out = empty(tuple(_softmax_fake(score, *layout).shape), score, working_dtype(score))
    cpu_share.forward(scores, Arrays(at, scores.dtype), out.numpy())
    return out


@softmax.register_fake
def _softmax_fake(score: Tensor, *layout: Tensor | None) -> Tensor:
    elements = Layout.from_args(layout).num_elements(score)
    return score.new_empty((elements, score.shape[1]), dtype=working_dtype(score))


@torch.library.custom_op(
    "graphpool::segment_softmax_backward",
    mutates_args=(),
    device_types="cpu",
    schema=f"(Tensor grad, Tensor share, {SCHEMA}) -> Tensor",
)
def softmax_backward(grad: Tensor, share: Tensor, *layout: Tensor | None) -> Tensor:
    shares = working_array(share)
    out = empty(tuple(_softmax_backward_fake(grad, share, *layout).shape), share, share.dtype)
    at = Arrays(Layout.from_args(layout), shares.dtype)
    cpu_share.backward(shares, working_array(grad), at, out.numpy())
    return out


@softmax_backward.register_fake
def _softmax_backward_fake(grad: Tensor, share: Tensor, *layout: Tensor | None) -> Tensor:
    row_ptr = Layout.from_args(layout).row_ptr
    rows = share.shape[0] if row_ptr is None else row_ptr.shape[0] - 1
    return share.new_empty((rows, share.shape[1]))


def _softmax_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0], output, *inputs[1:])


def _softmax_derive(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    score, share, *layout = ctx.saved_tensors
    none = (None,) * len(layout)
    if torch.is_grad_enabled():
        again = differentiate_again(
            lambda score: _softmax_composed(score, Layout.from_args(layout)), [score], [True], grad
        )
        return again[0], *none
    found = torch.ops.graphpool.segment_softmax_backward(grad, share, *layout)
    return found.to(score.dtype), *none


def _softmax_composed(score: Tensor, layout: Layout) -> Tensor:
    score = layout.gathered(score.to(working_dtype(score)))
    return composed.segment_softmax(score, layout.segments(), layout.weight)


softmax.register_autograd(_softmax_derive, setup_context=_softmax_setup)


def segment_softmax(
    score: Tensor, segments: Segments, weight: Tensor | None = None, gather: Gather | None = None
) -> Tensor:
    layout = layout_of(segments, weight, gather, score)
    share = torch.ops.graphpool.segment_softmax(flat(score), *layout)
    return share.view(segments.num_elements, *score.shape[1:]).to(score.dtype)
