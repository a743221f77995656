"""Numbers that an argument may be: one rule and one wording for all of the package."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor


def as_integer(value: Any, name: str, expected: str = "an int") -> int:
    """``value`` as an int, whatever its type: NumPy's integers and tensors of one are integers, too.

    Raises:
        TypeError: It is no integer.

    Example:
        >>> as_integer(torch.tensor(3), "dim_size")
        3
    """
    if isinstance(value, torch.SymInt) or (torch.jit.is_tracing() and isinstance(value, Tensor)):
        # A traced program takes other sizes, too.
        return value  # type: ignore[return-value]
    truth = isinstance(value, bool) or getattr(value, "dtype", None) == torch.bool
    try:
        return operator.index(None if truth else value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        got = f"{value!r} ({type(value).__name__})"
        if isinstance(value, Tensor):
            got = f"a {value.dtype} tensor of shape {tuple(value.shape)}"
        raise TypeError(f"`{name}` must be {expected}; got {got}.") from None


def as_count(value: Any, name: str, least: int = 1) -> int:
    """``value`` as an int of at least ``least``.

    Raises:
        TypeError: It is no integer.
        ValueError: It is less than ``least``.
    """
    count = as_integer(value, name, f"an int of at least {least}")
    if isinstance(count, int) and count < least:
        raise ValueError(f"`{name}` must be an int of at least {least}; got {count}.")
    return count


def check_divides(value: int, name: str, channels: int) -> None:
    """Raises unless ``value`` divides the number of channels.

    Raises:
        ValueError: It does not; the message lists those that do.
    """
    if channels % value:
        divisors = [d for d in range(1, channels + 1) if channels % d == 0]
        raise ValueError(
            f"`{name}` must divide the number of channels, {channels}; got {value}. "
            f"These do: {', '.join(map(str, divisors[:12]))}."
        )
