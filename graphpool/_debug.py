"""Whether the values of index tensors are looked at before they are used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_enabled = False


@contextmanager
def debug(enabled: bool = True) -> Iterator[None]:
    """Checks the values of index tensors on every device while the context lasts.

    On the CPU they are always checked. On an accelerator looking at a value stalls the device, so a bad
    index there goes unnoticed unless one asks.

    Example:
        >>> import graphpool
        >>> with graphpool.debug():
        ...     segments = graphpool.Segments(ptr=torch.tensor([0, 2, 3]))
    """
    global _enabled
    before, _enabled = _enabled, enabled
    try:
        yield
    finally:
        _enabled = before


def values_are_checked(device: torch.device) -> bool:
    if torch.compiler.is_compiling():
        return False
    return device.type == "cpu" or (_enabled and device.type != "meta")
