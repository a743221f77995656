"""What numbers and indices may be: one rule and one wording for all of the package."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

_INTEGERS = (
    (torch.int64, torch.int32, torch.int16, torch.int8)
    + (torch.uint8, torch.uint16, torch.uint32, torch.uint64)
)  # fmt: skip


def what_came(value: Any) -> str:
    """A value in the words of a message."""
    if isinstance(value, Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        article = "an" if dtype.startswith("i") else "a"
        return f"{article} {dtype} tensor of shape {tuple(value.shape)}"
    return type(value).__name__


def check_one_of(value: Any, name: str, options: Iterable[Any]) -> None:
    """Raises unless ``value`` is among ``options``.

    Raises:
        ValueError: It is not; the message lists them.

    Example:
        >>> check_one_of("tree", "family", ("path", "star"))
        Traceback (most recent call last):
        ValueError: `family` must be one of 'path', 'star'; got 'tree'.
    """
    if value not in list(options):
        known = ", ".join(map(repr, options))
        raise ValueError(f"`{name}` must be one of {known}; got {value!r}.")


def check_at_least(value: float, name: str, least: float) -> None:
    """Raises unless ``value`` is ``least`` or more.

    Raises:
        ValueError: It is less, or not a number.
    """
    if not value >= least:
        raise ValueError(f"`{name}` must be at least {least}; got {value}.")


def check_one_per(owner: str, count: int, name: str, found: int | tuple[int, ...]) -> None:
    """Raises unless ``found``, a number or a shape ``(number,)``, is the number of its owners.

    Raises:
        ValueError: There are more or fewer entries, or several each.

    Example:
        >>> check_one_per("node", 4, "cluster", (3,))
        Traceback (most recent call last):
        ValueError: `cluster` must have one entry per node, 4; got (3,).
    """
    if found != ((count,) if isinstance(found, tuple) else count):
        got = found if isinstance(found, int) else tuple(found)
        raise ValueError(f"`{name}` must have one entry per {owner}, {count}; got {got}.")


def as_indices(value: Any, name: str, expected: str = "an integer tensor") -> Tensor:
    """``value`` as an int64 tensor, whatever its integers are: all of them fit, so that nothing changes.

    Raises:
        TypeError: It is no tensor, or one of floating point numbers or truth values.

    Example:
        >>> as_indices(torch.tensor([3, 1], dtype=torch.uint8), "batch")
        tensor([3, 1])
    """
    # torch_geometric.Index and EdgeIndex; older versions of torch.compile cannot ask a plain tensor.
    if type(value) is not Tensor and hasattr(value, "as_tensor"):
        value = value.as_tensor()
    if not isinstance(value, Tensor) or value.dtype not in _INTEGERS:
        raise TypeError(f"`{name}` must be {expected}; got {what_came(value)}.")
    return value.long()


def as_edges(
    value: Any, name: str = "edge_index", expected: str = "an integer tensor [2, E]"
) -> Tensor:
    """``value`` as an int64 tensor ``[2, E]``.

    Raises:
        TypeError: As in :func:`as_indices`.
        ValueError: It has another shape.
    """
    edges = as_indices(value, name, expected)
    if edges.dim() != 2 or edges.size(0) != 2:
        raise ValueError(f"`{name}` must have shape [2, E]; got {tuple(edges.shape)}.")
    return edges


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
