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


def inside_vmap() -> bool:
    """Whether the call is being vectorised by :func:`torch.vmap`: a tensor may then be many at once,
    so that no kernel can read its storage and no branch can look at its values."""
    if torch.compiler.is_compiling():
        return False
    stack = torch._C._functorch.get_interpreter_stack()
    return stack is not None and any(
        level.key() == torch._C._functorch.TransformType.Vmap for level in stack
    )


def being_traced() -> bool:
    """Whether the call is being recorded, by ``torch.compile``, ``torch.export`` or ``torch.jit.trace``, as a
    program for other values: none of its branches may depend on those at hand."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def values_are_checked(device: torch.device) -> bool:
    if being_traced() or inside_vmap():
        return False
    return device.type == "cpu" or (_enabled and device.type != "meta")
