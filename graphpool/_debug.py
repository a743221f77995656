"""Where the values of tensors may be looked at, and where a derivative would be lost."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch._functorch import pyfunctorch
from torch.autograd import forward_ad

_enabled = False
_Function = TypeVar("_Function", bound=Callable[..., Any])


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


def inside_functorch() -> bool:
    """Whether a transform of :mod:`torch.func` is in force, in a program that is not being compiled."""
    return torch._C._are_functorch_transforms_active() and not torch.compiler.is_compiling()


def on_values(function: _Function) -> _Function:
    """Decorator for what has no derivative: it runs outside of all transforms of :mod:`torch.func`.

    So it may read the storage of its tensors, and what it keeps can be used when the transform is over.
    """
    names = tuple(inspect.signature(function).parameters)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not inside_functorch():
            return function(*args, **kwargs)
        named = {**dict(zip(names, args, strict=False)), **kwargs}
        for name, value in named.items():
            refuse_vectorized(value, name)
            if isinstance(value, Tensor):
                named[name] = unwrapped(value)
        with pyfunctorch.temporarily_clear_interpreter_stack():
            return function(**named)

    return cast("_Function", call)


def refuse_vectorized(value: Any, name: str) -> None:
    """Raises where a program would have to go one way for some of the many that ``value`` stands for.

    Raises:
        ValueError: ``value``, or what it holds, is vectorised by :func:`torch.vmap`.
    """
    if is_vectorized(value):
        raise ValueError(
            f"`{name}` is vectorised by torch.vmap, but what is computed here depends on its "
            "values, which may differ from one to the next. Call it for each in a loop."
        )


def is_vectorized(x: Any) -> bool:
    """Whether ``x`` is a tensor that stands for many at once, or holds one (``Segments``)."""
    if not inside_functorch():
        return False
    functorch = torch._C._functorch
    if hasattr(x, "held_tensors"):
        return any(map(is_vectorized, x.held_tensors()))
    while isinstance(x, Tensor) and functorch.is_functorch_wrapped_tensor(x):
        if functorch.is_batchedtensor(x):
            return True
        x = functorch.get_unwrapped(x)
    return False


def unwrapped(x: Tensor) -> Tensor:
    """``x`` without the wrappers of :mod:`torch.func`, for what has no derivative."""
    if torch.compiler.is_compiling():
        return x
    while torch._C._functorch.is_functorch_wrapped_tensor(x):
        x = torch._C._functorch.get_unwrapped(x)
    return x


def refuse_draws_apart() -> None:
    """Raises inside of ``torch.vmap(..., randomness="different")``: what is drawn here is drawn once for all.

    Raises:
        ValueError: Random numbers are to differ.
        RuntimeError: None are to be drawn; PyTorch says so.
    """
    if inside_vmap() and is_vectorized(torch.rand(1, generator=torch.Generator())):
        raise ValueError(
            "What is drawn here is the same for all that torch.vmap vectorises: take randomness='same', or "
            "call it for each in a loop."
        )


#: Whether ``torch.export`` is at work; torch before 2.7 cannot tell it from ``torch.compile``.
is_exporting: Callable[[], bool] = getattr(torch.compiler, "is_exporting", lambda: False)


def inside_export() -> bool:
    """Whether a program is written that may run where this library is not: export, ONNX, ``torch.jit``."""
    # The older ONNX exporter traces.
    return is_exporting() or torch.jit.is_tracing()


def refuse_older_onnx(what: str) -> None:
    """Raises inside of ``torch.onnx.export(dynamo=False)``, which writes broken programs of some operations.

    Raises:
        ValueError: It is at work.
    """
    if torch.jit.is_tracing() and torch.onnx.is_in_onnx_export() and not is_exporting():
        raise ValueError(
            f"{what} cannot be written by the older ONNX exporter: call torch.onnx.export with dynamo=True."
        )


def being_traced() -> bool:
    """Whether the call is being recorded as a program for other values, by ``torch.compile``,
    ``torch.export``, :func:`torch.jit.trace` or :func:`torch.func.linearize`: none of its branches may
    depend on those at hand."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return True
    return torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.PROXY) is not None


def values_are_checked(device: torch.device) -> bool:
    if being_traced() or inside_vmap():
        return False
    return device.type == "cpu" or (_enabled and device.type != "meta")
