"""What the fused ops share."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphpool.ops.fused.layout import Layout
from graphpool.ops.inputs import Gather, working_weight
from graphpool.segments import Segments

FIELDS = len(Layout._fields)


def working_dtype(x: Tensor) -> torch.dtype:
    """The precision in which ``x`` is accumulated."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def working_array(x: Tensor) -> np.ndarray:
    """``x`` for a CPU kernel; a copy for half precision and strided tensors only."""
    return x.detach().to(working_dtype(x)).contiguous().numpy()


def flat(x: Tensor) -> Tensor:
    """``x`` ``[E, ...]`` as a contiguous matrix ``[E, C]``."""
    return x.reshape(x.shape[0], math.prod(x.shape[1:])).contiguous()


def per_channel(value: Tensor, x: Tensor) -> Tensor:
    """A parameter of one value, or one per entry of the last dimension, for the columns of ``flat(x)``."""
    return value.expand(x.shape[1:]).reshape(-1).contiguous()


def layout_of(
    segments: Segments, weight: Tensor | None, gather: Gather | None, *inputs: Tensor
) -> Layout:
    """The layout of an op on ``inputs``, the last of which is the one that ``gather`` reads."""
    x = inputs[-1]
    backward = torch.is_grad_enabled() and any(v.requires_grad for v in inputs)
    return Layout.of(segments, working_weight(weight, x), gather, x.shape[0], backward)


def only_first(ctx: Any, outputs: Sequence[Tensor]) -> None:
    """Of the outputs of an op, the first is its result; the others serve the backward pass."""
    ctx.mark_non_differentiable(*outputs[1:])
    # PyTorch would fill zero gradients for them, with OpenMP threads that go on spinning for
    # milliseconds where the threads of the kernels ought to run. See :func:`given_grad`.
    ctx.set_materialize_grads(False)


def given_grad(derive: Callable[..., tuple[Tensor | None, ...]]) -> Callable[..., Any]:
    """The backward pass ``derive(ctx, grad)`` of an op of :func:`only_first`: nothing from no gradient."""

    @functools.wraps(derive)
    def backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        return (None,) * len(ctx.needs_input_grad) if grad is None else derive(ctx, grad)

    return backward


def differentiate_again(
    fn: Callable[..., Any],
    inputs: Sequence[Tensor],
    needed: Sequence[bool],
    grad: Tensor,
) -> list[Tensor | None]:
    """Gradients of ``fn(*inputs)`` by way of plain operations, which in grad mode can themselves be
    differentiated."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        # One input may be made of another. Behind an alias of each the way from one to the other, which
        # is not part of ``fn``, is out of sight.
        seen = [v.view_as(v) for v in inputs]
        y = fn(*seen)
        chosen = [i for i, need in enumerate(needed) if need and inputs[i].requires_grad]
        found = torch.autograd.grad(
            y, [seen[i] for i in chosen], grad.to(y.dtype), create_graph=again, allow_unused=True
        )
    out: list[Tensor | None] = [None] * len(inputs)
    for i, g in zip(chosen, found, strict=True):
        out[i] = g
    return out
