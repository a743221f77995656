"""Elements of weight 0."""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool import _debug
from graphpool.ops.kernels.composed import align


def absent_as_zero(x: Tensor, weight: Tensor) -> Tensor:
    """``x`` with 0 in place of elements of weight 0, which are absent, whatever they hold.

    A formula would multiply what they hold by 0, and so would its derivative; that is NaN for an infinity
    or a NaN. Where the weight itself is differentiated, finite elements stay: their values are the
    derivative by the weight.

    Args:
        x: Elements ``[E, ...]``.
        weight: ``[E]``.

    Example:
        >>> absent_as_zero(torch.tensor([1.0, torch.nan]), torch.tensor([1, 0]))
        tensor([1., 0.])
    """
    absent = weight == 0
    if _debug.values_are_checked(weight.device) and not bool(absent.any()):
        return x
    absent = align(absent, x)
    if weight.requires_grad or _is_transformed(weight):
        absent = absent & ~x.isfinite()
    return torch.where(absent, 0, x)


def _is_transformed(weight: Tensor) -> bool:
    """Whether a transform of torch.func, or forward mode, may differentiate by the weight."""
    if torch.compiler.is_compiling():
        return False
    forward_mode = torch.autograd.forward_ad._current_level >= 0
    return forward_mode or torch._C._functorch.is_functorch_wrapped_tensor(weight)
