"""Which path computes an op, and why; in words, too."""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from graphpool import _compiled, _debug, _optional
from graphpool.ops import backends


class Fused(NamedTuple):
    """A fused form: the function, with the arguments of the public one, and the operator it calls."""

    form: Callable[..., Any]
    operator: str


FUSED: dict[str, Fused] = {}
"""The fused form of each public function that has one, once :func:`load` has run."""

OPERATORS: dict[str, Any] = {}
"""The :class:`FusedOp` of each name."""

_CPU_ONLY = ("segment_outer", "segment_matmul", "segment_cumsum")
"""Those whose kernels are no operators of their own: a traced program goes by plain operations."""

POINTS: dict[str, Callable[[Tensor], Path]] = {}
"""How samples and searches choose, from their points; those of the library are in ops.neighbors.paths."""

_SIMPLE = ("segment_sum", "segment_mean", "segment_max", "segment_min", "segment_moments")
"""Those that the older ONNX exporter gets right."""

_PATHS = {
    "numba": "fused CPU kernel (Numba)",
    "triton": "fused CUDA kernel (Triton)",
    "torch": "composed form on plain PyTorch",
    "torch_scatter": "composed form on torch-scatter",
}

_trouble: list[str] = []


@torch.compiler.assume_constant_result
def load() -> str:
    """Imports the fused ops, at the first call only: Numba takes a while.

    Returns:
        Why they cannot be had; empty where they can.
    """
    if not FUSED and not _trouble:
        try:
            from graphpool.ops import fused

            # Each of the files registers what it defines.
            for file in pkgutil.iter_modules(fused.__path__, f"{fused.__name__}."):
                importlib.import_module(file.name)
        except ImportError as error:
            _trouble.append(f"the kernels cannot be imported: {error}")
            warnings.warn(
                f"graphpool computes without its fused kernels: {error}",
                RuntimeWarning,
                stacklevel=2,
            )
    return _trouble[0] if _trouble else ""


class Path(NamedTuple):
    """The path of one call: ``name``, and the reason in words."""

    name: str
    reason: str


def choose(op: str, x: Tensor, weight: Tensor | None = None) -> Path:
    """The path that ``op`` takes for elements (or points) ``x``."""
    if op in POINTS:
        return POINTS[op](x)
    if _debug.inside_transform():
        return _composed("torch.func and dual numbers transform PyTorch's own operations only")
    if _debug.inside_export():
        return _composed("what is exported must run where the kernels are not")
    if not backends.fused_is_allowed():
        return _composed(f"use_backend({backends.backend()!r}) is in force")
    if trouble := load():
        return _composed(trouble)
    if op in _CPU_ONLY:
        if x.is_floating_point() and x.device.type == "cpu":
            return Path("numba", "floating point on the CPU")
        return _composed(f"{op} has a kernel for floating point on the CPU alone")
    if op not in FUSED:
        return _composed(f"{op} has no fused kernel")
    if not x.is_floating_point() and not OPERATORS[FUSED[op].operator].integers:
        return _composed(f"the kernels take floating point; x is {x.dtype}")
    learned = weight is not None and weight.requires_grad and torch.is_grad_enabled()
    learns = x.device.type == "cpu" and OPERATORS[FUSED[op].operator].learns_weight
    if learned and not learns:
        return _composed(f"the kernel of {op} has no derivative with respect to the weight")
    if x.device.type == "cpu":
        kind = "floating point" if x.is_floating_point() else "integers"
        return Path("numba", f"{kind} on the CPU")
    if x.device.type == "cuda":
        if not _optional.has("triton"):
            return _composed("triton is not installed")
        if not _launched_on_cuda(FUSED[op].operator):
            return _composed(f"{op} has no CUDA kernel")
        return Path("triton", "floating point on a CUDA device")
    return _composed(f"there is no kernel for device {x.device.type!r}")


def _composed(reason: str) -> Path:
    return Path(backends.composed_backend(), reason)


@torch.compiler.assume_constant_result
def _launched_on_cuda(operator: str) -> bool:
    from graphpool.ops.fused.cuda import ops as cuda_ops

    return hasattr(cuda_ops, operator)


def fused(op: str, x: Tensor, weight: Tensor | None = None) -> Callable[..., Any] | None:
    """The fused form of ``op`` if that is the path to take, else ``None``.

    Raises:
        ValueError: The older ONNX exporter is at work, and is known to go wrong for ``op``.
    """
    if op not in _SIMPLE:
        _debug.refuse_older_onnx(op)
    return FUSED[op].form if choose(op, x, weight).name in ("numba", "triton") else None


def explain(op: str | Callable[..., Any], x: Tensor, weight: Tensor | None = None) -> str:
    """Tells which path an op takes for the elements ``x``, and why.

    Args:
        op: A function of :mod:`graphpool.ops` or of :mod:`graphpool.ops.neighbors`, or its name.
        x: The elements ``[E, ...]``, or the points ``[N, D]``.
        weight: The weights that go with them, if any.

    Returns:
        One line for the path; one for what has to move through memory on any path, if ``op`` pools elements,
        which divided by the time of a call is to be held against the bandwidth of the memory; and one for
        the compilation of the CPU kernels where they are taken.

    Raises:
        TypeError: ``op`` is neither a function nor a name.

    Example:
        >>> import torch, graphpool
        >>> x = torch.zeros(3, 2)
        >>> with graphpool.use_backend("torch"):
        ...     print(explain("segment_power", x))
        segment_power: composed form on plain PyTorch, because use_backend('torch') is in force
        must move: 24 bytes forward (x read), 72 forward and backward (x read twice, its gradient written)
    """
    name = op if isinstance(op, str) else getattr(op, "__name__", None)
    if not isinstance(name, str) or not isinstance(x, Tensor):
        raise TypeError(f"`explain` takes an op or its name, and a tensor; got {op!r}, {x!r}.")
    path = choose(name, x, weight)
    line = f"{name}: {_PATHS[path.name]}, because {path.reason}"
    if name not in POINTS:
        line = f"{line}\n{_floor(x, weight)}"
    if path.name != "numba":
        return line
    cached, seconds = _compiled.report()
    where = "kept on disk" if cached else "for this process only: no cache folder can be written"
    spent = sum(seconds.values())
    return (
        f"{line}\nkernels compiled or loaded so far: {len(seconds)}, in {spent:.1f} s ({where}); "
        f"ops with a kernel: {', '.join(sorted({*FUSED, *_CPU_ONLY}))}"
    )


def _floor(x: Tensor, weight: Tensor | None) -> str:
    """The least that a pool of ``x`` can read and write; its result, one row for a bag, is not counted."""
    size = x.numel() * x.element_size()
    other = 0 if weight is None else weight.numel() * weight.element_size()
    what = "x" if weight is None else "x and weight"
    return (
        f"must move: {size + other:,} bytes forward ({what} read), {3 * size + 2 * other:,} forward and "
        f"backward ({what} read twice, {'its gradient' if weight is None else 'the gradient of x'} written)"
    )
