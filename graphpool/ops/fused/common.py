"""What the fused ops share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from graphpool import _debug
from graphpool._memory import large
from graphpool.ops.fused.layout import Layout
from graphpool.ops.inputs import Gather, working_weight
from graphpool.segments import Segments


def working_dtype(x: Tensor) -> torch.dtype:
    """The precision in which ``x`` is accumulated; integers stay what they are."""
    exact = x.dtype == torch.float64 or not x.is_floating_point()
    return x.dtype if exact else torch.float32


def working_array(x: Tensor) -> np.ndarray:
    """``x`` for a CPU kernel; a copy for half precision and strided tensors only."""
    return converted(x.detach(), working_dtype(x)).contiguous().numpy()


def converted(x: Tensor, dtype: torch.dtype) -> Tensor:
    """``x`` in ``dtype``: the copy, if it takes one, in large pages."""
    return x if x.dtype == dtype else large(torch.empty(x.shape, dtype=dtype)).copy_(x)


def flat(x: Tensor) -> Tensor:
    """``x`` ``[E, ...]`` as a contiguous matrix ``[E, C]``."""
    if x.dim() == 2:  # a view is one more node for the backward pass
        return x.contiguous()
    return x.reshape(x.shape[0], math.prod(x.shape[1:])).contiguous()


def per_channel(value: Tensor, x: Tensor) -> Tensor:
    """A parameter of one value, or one per entry of the last dimension, for the columns of ``flat(x)``."""
    return value.expand(x.shape[1:]).reshape(-1).contiguous()


def layout_of(
    segments: Segments,
    weight: Tensor | None,
    gather: Gather | None,
    inputs: Sequence[Tensor],
    x: Tensor,
) -> Layout:
    """The layout of an op on ``inputs``, of which ``gather`` reads ``x``."""
    learned = inputs if weight is None else (*inputs, weight)
    backward = torch.is_grad_enabled() and any(v.requires_grad for v in learned)
    return Layout.of(segments, working_weight(weight, x), gather, x.shape[0], backward)


def of_bags(y: Tensor, segments: Segments, x: Tensor) -> Tensor:
    """Results ``[S, C]`` in the dtype of ``x`` and with its trailing dimensions."""
    shape = (segments.num_segments, *x.shape[1:])
    return (y if y.shape == shape else y.view(shape)).to(x.dtype)


def overflowed(spread: Tensor) -> bool:
    """Whether a variance, or the root of one, is no number where the root may well be one.

    That is rare, and looked for where looking is cheap.
    """
    if spread.device.type != "cpu" or spread.dtype == torch.float64 or _debug.being_traced():
        return False
    # One pass instead of four; a NaN is the largest.
    return spread.numel() > 0 and not math.isfinite(spread.detach().amax())
