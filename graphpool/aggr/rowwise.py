"""Functions of single rows, computed a few rows at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from graphpool import _debug
from graphpool.ops import differentiate_again

_CHUNK = 1 << 17
"""Numbers of a chunk of the widest input, so that what is made of it stays in the cache."""

RowFunction = Callable[..., Tensor]


def rowwise(function: RowFunction, *inputs: Tensor) -> Tensor:
    """``function(*inputs)``, where each row of the result depends on the same row of the inputs alone.

    On a CPU the rows are taken a few at a time. What the function makes on the way stays in the cache, is
    not kept for the backward pass, and is computed anew there: for chains of cheap operations that is faster
    than to write them to memory, and long ones would fill it.

    Args:
        function: Maps tensors of ``n`` rows to one of ``n`` rows. It must not hold parameters.
        *inputs: Tensors with the same number of rows.

    Example:
        >>> x = torch.tensor([[3.0, 4.0]], requires_grad=True)
        >>> rowwise(lambda v: (v * v).sum(-1).sqrt(), x)
        tensor([5.], grad_fn=<_RowwiseBackward>)
    """
    plain = _debug.being_traced() or _debug.inside_transform()
    if plain or inputs[0].is_cuda or inputs[0].size(0) == 0:
        return function(*inputs)
    return _Rowwise.apply(function, *inputs)


class _Rowwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: RowFunction, *inputs: Tensor) -> Tensor:
        ctx.function = function
        ctx.save_for_backward(*inputs)
        first, *others = _chunks(inputs)
        part = function(*(v[first] for v in inputs))
        if not others:
            return part
        out = part.new_empty(inputs[0].size(0), *part.shape[1:])
        out[first] = part
        for rows in others:
            out[rows] = function(*(v[rows] for v in inputs))
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        inputs, (grad,) = ctx.saved_tensors, grads
        needed = ctx.needs_input_grad[1:]
        if torch.is_grad_enabled() or _debug.inside_transform():
            # Chunks are written side by side, which has no derivative of its own.
            return (None, *differentiate_again(ctx.function, inputs, needed, grad))
        wanted = [i for i, need in enumerate(needed) if need]
        found: list[Tensor | None] = [None] * len(inputs)
        for i in wanted:
            found[i] = torch.empty_like(inputs[i])
        for rows in _chunks(inputs):
            parts = [v[rows].detach().requires_grad_(i in wanted) for i, v in enumerate(inputs)]
            with torch.enable_grad():
                y = ctx.function(*parts)
            slopes = torch.autograd.grad(y, [parts[i] for i in wanted], grad[rows])
            for i, slope in zip(wanted, slopes, strict=True):
                found[i][rows] = slope  # type: ignore[index]
        return (None, *found)


def _chunks(inputs: tuple[Tensor, ...]) -> list[slice]:
    size = inputs[0].size(0)
    step = max(1, _CHUNK // max(1, *(v[0].numel() for v in inputs)))
    return [slice(start, start + step) for start in range(0, size, step)]
