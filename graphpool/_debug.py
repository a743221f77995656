"""Whether the values of index tensors are looked at before they are used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.autograd import forward_ad

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


def inside_transform() -> bool:
    """Whether a transform of :mod:`torch.func` (grad, jvp, vmap, ...) or a level of dual numbers
    (:mod:`torch.autograd.forward_ad`) is in force.

    These see through PyTorch's own operations only. A kernel has no tangent, which PyTorch would take
    for 0, and no tensor here knows whether a level further out wants its derivative.
    """
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def _is_traced() -> bool:
    # make_fx, and torch.func.linearize with it, records operations on tensors whose values are open.
    return torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.PROXY) is not None


def values_are_checked(device: torch.device) -> bool:
    if torch.compiler.is_compiling() or inside_vmap() or _is_traced():
        return False
    return device.type == "cpu" or (_enabled and device.type != "meta")
