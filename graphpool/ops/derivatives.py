"""The derivative of a function whose own backward pass cannot be differentiated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


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
