"""Sum, mean, variance, minimum and maximum of each bag in one op."""

from __future__ import annotations

from collections.abc import Sequence
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
from graphpool.ops.fused.cpu import moments as cpu_moments
from graphpool.ops.fused.cpu.layout import Arrays
from graphpool.ops.fused.layout import SCHEMA, Layout
from graphpool.ops.fused.memory import empty, large
from graphpool.ops.inputs import Gather
from graphpool.segments import Segments

ORDER = ("sum", "mean", "var", "min", "max")
KEPT = ("min", "max", "var")
"""Moments of which the backward pass needs something besides their values."""


def _rows(moments: str) -> np.ndarray:
    """The row of the result that holds each moment of :data:`ORDER`, or -1."""
    names = moments.split(",")
    return np.array([names.index(k) if k in names else -1 for k in ORDER], np.int64)


def _sizes(moments: str) -> tuple[int, int]:
    names = moments.split(",")
    return len(names), sum(name in names for name in KEPT)


@torch.library.custom_op(
    "graphpool::segment_moments",
    mutates_args=(),
    device_types="cpu",
    schema=f"(Tensor x, str moments, {SCHEMA}) -> (Tensor, Tensor)",
)
def forward(x: Tensor, moments: str, *layout: Tensor | None) -> tuple[Tensor, Tensor]:
    """The named moments ``[K, S, C]``, and what the backward pass needs of them besides."""
    elements = working_array(x)
    at = Arrays(Layout.from_args(layout), elements.dtype)
    out, kept = map(large, _empty(x, moments, *layout))
    cpu_moments.forward(elements, at, _rows(moments), out.numpy(), kept.numpy())
    return out, kept


@forward.register_fake
def _empty(x: Tensor, moments: str, *layout: Tensor | None) -> tuple[Tensor, Tensor]:
    bags = Layout.from_args(layout).ptr.shape[0] - 1
    dtype = working_dtype(x)
    out, kept = (x.new_empty((k, bags, x.shape[1]), dtype=dtype) for k in _sizes(moments))
    return out, kept


@torch.library.custom_op(
    "graphpool::segment_moments_backward",
    mutates_args=(),
    device_types="cpu",
    schema=f"(Tensor grad, Tensor x, Tensor out, Tensor kept, str moments, {SCHEMA}) -> Tensor",
)
def backward(
    grad: Tensor, x: Tensor, out: Tensor, kept: Tensor, moments: str, *layout: Tensor | None
) -> Tensor:
    elements = working_array(x)
    at = Arrays(Layout.from_args(layout), elements.dtype)
    grad_x = empty(tuple(x.shape), x, working_dtype(x))
    arrays = (working_array(out), working_array(kept), working_array(grad))
    cpu_moments.backward(elements, at, _rows(moments), *arrays, grad_x.numpy())
    return grad_x.to(x.dtype)


@backward.register_fake
def _backward_fake(
    grad: Tensor, x: Tensor, out: Tensor, kept: Tensor, moments: str, *layout: Tensor | None
) -> Tensor:
    return torch.empty_like(x)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, ctx.moments, *layout = inputs
    only_first(ctx, output)
    ctx.save_for_backward(x, *output, *layout)


@given_grad
def _derive(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, out, kept, *layout = ctx.saved_tensors
    none = (None,) * (1 + len(layout))
    if torch.is_grad_enabled():
        return differentiate_again(
            lambda x: _composed(x, ctx.moments, Layout.from_args(layout)), [x], [True], grad
        )[0], *none
    return torch.ops.graphpool.segment_moments_backward(
        grad, x, out, kept, ctx.moments, *layout
    ), *none


forward.register_autograd(_derive, setup_context=_setup)


def _composed(x: Tensor, moments: str, layout: Layout) -> Tensor:
    x = layout.gathered(x.to(working_dtype(x)))
    segments, weight = layout.segments(), layout.weight
    forms = {
        "sum": lambda: composed.segment_sum(x, segments, weight),
        "mean": lambda: composed.segment_mean(x, segments, weight),
        "var": lambda: composed.segment_var(x, segments, weight),
        "min": lambda: composed.segment_extremum(x, segments, weight, False),
        "max": lambda: composed.segment_extremum(x, segments, weight, True),
    }
    return torch.stack([forms[name]() for name in moments.split(",")])


def segment_moments(
    x: Tensor,
    segments: Segments,
    moments: Sequence[str],
    weight: Tensor | None = None,
    gather: Gather | None = None,
) -> tuple[Tensor, ...]:
    """See :func:`graphpool.ops.segment_moments`."""
    wanted = {"var" if name == "std" else name for name in moments}
    if "var" in wanted:
        wanted.add("mean")
    if not wanted:
        return ()
    names = [name for name in ORDER if name in wanted]
    layout = layout_of(segments, weight, gather, x)
    values = torch.ops.graphpool.segment_moments(flat(x), ",".join(names), *layout)[0]
    shape = (segments.num_segments, *x.shape[1:])
    found = dict(zip(names, values.view(len(names), *shape).unbind(), strict=True))
    if "std" in moments:
        found["std"] = composed.standard_deviation(found["var"])
    return tuple(found[name].to(x.dtype) for name in moments)


def segment_sum(
    x: Tensor, segments: Segments, weight: Tensor | None = None, gather: Gather | None = None
) -> Tensor:
    return _one(x, segments, "sum", weight, gather)


def segment_mean(
    x: Tensor, segments: Segments, weight: Tensor | None = None, gather: Gather | None = None
) -> Tensor:
    return _one(x, segments, "mean", weight, gather)


def segment_extremum(
    x: Tensor,
    segments: Segments,
    weight: Tensor | None = None,
    gather: Gather | None = None,
    largest: bool = True,
) -> Tensor:
    return _one(x, segments, "max" if largest else "min", weight, gather)


def _one(
    x: Tensor, segments: Segments, name: str, weight: Tensor | None, gather: Gather | None
) -> Tensor:
    layout = layout_of(segments, weight, gather, x)
    value = torch.ops.graphpool.segment_moments(flat(x), name, *layout)[0]
    return value.view(segments.num_segments, *x.shape[1:]).to(x.dtype)
