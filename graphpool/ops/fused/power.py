"""The generalised norm of each bag, with gradients to its exponents."""

from __future__ import annotations

import math
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
from graphpool.ops.fused.cpu import power as cpu_power
from graphpool.ops.fused.cpu.core import row_chunks, run
from graphpool.ops.fused.cpu.layout import Arrays
from graphpool.ops.fused.layout import SCHEMA, Layout
from graphpool.ops.fused.memory import empty, large
from graphpool.ops.inputs import Gather
from graphpool.segments import Segments

_LN2 = math.log(2)


@torch.library.custom_op(
    "graphpool::segment_power",
    mutates_args=(),
    device_types="cpu",
    schema=f"(Tensor x, Tensor p, Tensor q, {SCHEMA}) -> (Tensor, Tensor, Tensor)",
)
def forward(
    x: Tensor, p: Tensor, q: Tensor, *layout: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """``n^-q (sum |x|^p)^(1/p)``, the log of the norm without the factor, and the sizes ``n``."""
    elements = working_array(x)
    at = Arrays(Layout.from_args(layout), elements.dtype)
    out, norm, size = map(large, _fake(x, p, q, *layout))
    arrays = (working_array(p), working_array(q), at, out.numpy(), norm.numpy(), size.numpy())
    cpu_power.forward(elements, *arrays)
    return out, norm, size


@forward.register_fake
def _fake(x: Tensor, p: Tensor, q: Tensor, *layout: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    bags, dtype = Layout.from_args(layout).ptr.shape[0] - 1, working_dtype(x)
    out, norm = (x.new_empty((bags, x.shape[1]), dtype=dtype) for _ in range(2))
    return out, norm, x.new_empty((bags,), dtype=dtype)


@torch.library.custom_op(
    "graphpool::segment_power_backward",
    mutates_args=(),
    device_types="cpu",
    schema="(Tensor grad, Tensor x, Tensor p, Tensor q, Tensor out, Tensor norm, Tensor size, "
    f"{SCHEMA}) -> (Tensor, Tensor, Tensor)",
)
def backward(
    grad: Tensor,
    x: Tensor,
    p: Tensor,
    q: Tensor,
    out: Tensor,
    norm: Tensor,
    size: Tensor,
    *layout: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    elements, exponents = working_array(x), working_array(p)
    at = Arrays(Layout.from_args(layout), elements.dtype)
    grad_x = empty(tuple(x.shape), x, working_dtype(x))
    chunks = at.backward_chunks(x.shape[1])
    sums = np.zeros((len(chunks), x.shape[1]))
    of_bag = empty((norm.shape[0], 3, norm.shape[1]), norm).numpy()
    bags = row_chunks(norm.shape[0], norm.numel())
    of_q = np.zeros((len(bags), x.shape[1]))
    saved = (working_array(q), *map(working_array, (norm, out, size, grad)))
    run(cpu_power.power_bags, (*saved, of_bag, of_q), bags)
    where = (at.bag_of, at.in_order, at.weight, at.row_ptr, at.row_elements)
    args = (elements, exponents, *where, of_bag, grad_x.numpy(), sums)
    run(cpu_power.power_backward, args, chunks)
    grad_p = torch.from_numpy(_LN2 * sums.sum(0) / exponents)
    grad_q = torch.from_numpy(_LN2 * of_q.sum(0))
    return grad_x.to(x.dtype), grad_p.to(p.dtype), grad_q.to(q.dtype)


@backward.register_fake
def _backward_fake(
    grad: Tensor, x: Tensor, p: Tensor, q: Tensor, *saved: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(p), torch.empty_like(q)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, p, q, *layout = inputs
    only_first(ctx, output)
    ctx.save_for_backward(x, p, q, *output, *layout)


@given_grad
def _derive(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, p, q, out, norm, size, *layout = ctx.saved_tensors
    if torch.is_grad_enabled():
        found = differentiate_again(
            lambda x, p, q: _composed(x, p, q, Layout.from_args(layout)),
            [x, p, q],
            ctx.needs_input_grad[:3],
            grad,
        )
    else:
        found = torch.ops.graphpool.segment_power_backward(grad, x, p, q, out, norm, size, *layout)
    return *found, *(None,) * len(layout)


def _composed(x: Tensor, p: Tensor, q: Tensor, layout: Layout) -> Tensor:
    x = layout.gathered(x.to(working_dtype(x)))
    return composed.segment_power(x, p, q, layout.segments(), layout.weight)


forward.register_autograd(_derive, setup_context=_setup)


def segment_power(
    x: Tensor,
    segments: Segments,
    p: Tensor,
    q: Tensor,
    weight: Tensor | None = None,
    gather: Gather | None = None,
) -> Tensor:
    layout = layout_of(segments, weight, gather, p, q, x)
    exponents = (per_channel(p, x), per_channel(q, x))
    out = torch.ops.graphpool.segment_power(flat(x), *exponents, *layout)[0]
    return out.view(segments.num_segments, *x.shape[1:]).to(x.dtype)
