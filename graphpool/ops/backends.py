"""The choice of how an op is computed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import torch

from graphpool import _debug, _optional
from graphpool._arguments import check_one_of

BACKENDS = ("auto", "fused", "torch", "torch_scatter")
_chosen = "auto"


def backend() -> str:
    """The backend that :func:`use_backend` chose; ``"auto"`` unless it is in force.

    ``"auto"`` takes the fused kernel of the device where there is one, and else the composed form, on
    torch-scatter if that is installed and on plain PyTorch if not. :func:`graphpool.explain` tells
    which one a particular call would take.

    Example:
        >>> import graphpool
        >>> with graphpool.use_backend("torch"):
        ...     graphpool.backend()
        'torch'
    """
    return _chosen


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Chooses the backend of every op while the context lasts (in all threads).

    Args:
        name: ``"auto"``; ``"fused"``, the kernels of this library; ``"torch"`` or ``"torch_scatter"``,
            the composed form, which is the reference the kernels are tested against.

    Raises:
        ValueError: The name is unknown.
        ImportError: The backend is not installed; the message says how to get it.
    """
    global _chosen
    check_one_of(name, "name", BACKENDS)
    if name == "torch_scatter":
        torch_scatter()
    before, _chosen = _chosen, name
    try:
        yield
    finally:
        _chosen = before


def composed_backend() -> str:
    """What the composed form stands on: ``"torch"`` or ``"torch_scatter"``."""
    if _debug.inside_transform() or _debug.inside_export():
        return "torch"
    if _chosen in ("torch", "torch_scatter"):
        return _chosen
    if torch.compiler.is_compiling():
        return "torch"  # a traced program fuses plain operations by itself
    return "torch_scatter" if _optional.has("torch_scatter") else "torch"


def fused_is_allowed() -> bool:
    """Whether compiled kernels may run: :func:`use_backend` allows them, and TorchScript does not trace."""
    return _chosen in ("auto", "fused") and not torch.jit.is_tracing()


def torch_scatter() -> ModuleType:
    return _optional.require(
        "torch_scatter", purpose="the torch_scatter backend of the segment ops"
    )
