"""What every op does with its arguments before it computes: check, gather, and choose the precision."""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool import _debug
from graphpool._arguments import what_came
from graphpool.segments import Segments

Gather = Tensor | Segments
"""Rows to pool: element ``e`` is ``x[gather[e]]``. As :class:`Segments` over the rows of ``x`` it also
carries, for the backward pass, which elements read each row."""

_HALF = (torch.float16, torch.bfloat16)


def check_elements(
    x: Tensor,
    segments: Segments,
    weight: Tensor | None = None,
    gather: Gather | None = None,
    *,
    name: str = "x",
    integers: bool = False,
    signed_weight: bool = False,
) -> None:
    """Raises unless the arguments what_came elements that lie in bags.

    Raises:
        TypeError: An argument has the wrong type or dtype.
        ValueError: Sizes do not fit, or a weight is negative or not finite.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"`{name}` must be a tensor; got {type(x).__name__}.")
    if not isinstance(segments, Segments):
        raise TypeError(f"`segments` must be graphpool.Segments; got {type(segments).__name__}.")
    if x.is_complex() or x.dtype == torch.bool or not (integers or x.is_floating_point()):
        kinds = "floating point or integer" if integers else "floating point"
        raise TypeError(f"`{name}` must be a {kinds} tensor; got {x.dtype}.")
    if x.dim() == 0:
        raise ValueError(f"`{name}` must have its elements on dimension 0; got a scalar.")
    if x.device != segments.device:
        raise ValueError(f"`{name}` is on {x.device}, but `segments` on {segments.device}.")
    if gather is not None:
        _check_gather(gather, x, segments, name)
    elif x.size(0) != segments.num_elements:
        raise ValueError(
            f"`{name}` must have one row per element, {segments.num_elements}; "
            f"got shape {tuple(x.shape)}."
        )
    if weight is not None:
        check_weight(weight, segments.num_elements, signed=signed_weight)
        if weight.device != x.device:
            raise ValueError(f"`weight` is on {weight.device}, but `{name}` on {x.device}.")
        if weight.is_floating_point() and not x.is_floating_point():
            raise TypeError(
                f"`weight` must be integers where `{name}` is {x.dtype}; got {weight.dtype}."
            )


def _check_gather(gather: Gather, x: Tensor, segments: Segments, name: str) -> None:
    if isinstance(gather, Segments):
        if gather.num_segments != x.size(0):
            raise ValueError(
                f"`gather` is a Segments over {gather.num_segments} rows, "
                f"but `{name}` has {x.size(0)}."
            )
        entries = gather.num_elements
    else:
        if not isinstance(gather, Tensor) or gather.dtype != torch.int64 or gather.dim() != 1:
            raise TypeError(
                f"`gather` must be an int64 tensor [E] or graphpool.Segments; got {what_came(gather)}."
            )
        entries = gather.numel()
        if _debug.values_are_checked(x.device) and entries:
            low, high = (int(v) for v in gather.aminmax())
            if low < 0 or high >= x.size(0):
                raise ValueError(
                    f"`gather` must lie in [0, {x.size(0)}); got values from {low} to {high}."
                )
    if entries != segments.num_elements:
        raise ValueError(f"`gather` has {entries} entries, expected {segments.num_elements}.")


def check_weight(weight: Tensor, count: int, name: str = "weight", signed: bool = False) -> None:
    """Raises unless there is a weight for each of ``count`` elements, finite and, unless signed, >= 0.

    Raises:
        TypeError: It is no real tensor.
        ValueError: It has another shape, or a value is out of range; the message says where.
    """
    if not isinstance(weight, Tensor) or weight.is_complex():
        raise TypeError(f"`{name}` must be a real tensor [E]; got {what_came(weight)}.")
    if weight.shape != (count,):
        raise ValueError(
            f"`{name}` must have shape ({count},), one weight per element; got {tuple(weight.shape)}."
        )
    if signed or not weight.numel() or not _debug.values_are_checked(weight.device):
        return
    low, high = (float(v) for v in weight.detach().aminmax())
    if not (low >= 0 and high < torch.inf):
        bad = ~((weight.detach() >= 0) & weight.detach().isfinite())
        first = int(bad.nonzero()[0])
        raise ValueError(
            f"`{name}` must be finite and >= 0; got {float(weight[first])} at position {first}."
        )


def gathered(x: Tensor, gather: Gather | None) -> Tensor:
    """The elements themselves, made from the rows they read."""
    if gather is None:
        return x
    index = gather.index if isinstance(gather, Segments) else gather
    # A row that many elements read adds up their derivatives.
    return wide(x).index_select(0, index).to(x.dtype)


def working(x: Tensor) -> Tensor:
    """``x`` in the precision in which it is accumulated: at least float32."""
    return x.float() if x.dtype in _HALF else x


def wide(x: Tensor) -> Tensor:
    """``x`` in the precision in which it is summed: float32 in float64, where the device knows it.

    A long bag loses half its digits in float32, and n times a number is not exact.
    """
    return x.double() if x.is_floating_point() and x.device.type != "mps" else x


def align(v: Tensor, x: Tensor) -> Tensor:
    """A vector over elements or bags, shaped so that it broadcasts over the channels of ``x``."""
    return v.view(-1, *[1] * (x.dim() - 1))


def working_weight(weight: Tensor | None, x: Tensor) -> Tensor | None:
    """``weight`` in the precision of ``working(x)``."""
    if weight is None:
        return None
    return weight.to(working(x).dtype)


def channel_parameter(value: float | Tensor, x: Tensor, name: str, rows: bool = False) -> Tensor:
    """A number, or one per channel (the last dimension of ``x``), in the precision of ``working(x)``.

    With ``rows`` also several of them, ``[K, 1]`` or ``[K, C]``.

    Raises:
        TypeError: It is neither a number nor a floating point tensor.
        ValueError: It has neither one value nor one per channel.
    """
    x = working(x)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return x.new_tensor(float(value))
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise TypeError(f"`{name}` must be a number or a floating point tensor; got {value!r}.")
    channels = x.size(-1) if x.dim() > 1 else 1
    if rows and value.dim() == 2 and value.shape[0] and value.shape[1] in (1, channels):
        return value.to(x.dtype)
    if value.numel() == 1:
        return value.reshape(()).to(x.dtype)
    if value.shape != (channels,):
        raise ValueError(
            f"`{name}` must have {'rows [K, 1] or [K, C], ' if rows else ''}one value or one per channel, "
            f"({channels},); "
            f"got shape {tuple(value.shape)}."
        )
    return value.to(x.dtype)
