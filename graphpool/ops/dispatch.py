"""Which path computes an op, and why."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from graphpool import _debug, _optional, sorting
from graphpool.ops import backends

FUSED: dict[str, Callable[..., Any]] = {}
"""The fused form of each op that has one, once :func:`load` has run; arguments as the public function's."""

ON_CUDA: set[str] = set()
"""Those of :data:`FUSED` that have a CUDA kernel too."""

_SIMPLE = ("segment_sum", "segment_mean", "segment_extremum", "segment_moments")
"""Those that the older ONNX exporter gets right."""

_trouble: list[str] = []


@torch.compiler.assume_constant_result
def load() -> str:
    """Imports the fused ops, at the first call only: Numba takes a while.

    Returns:
        Why they cannot be had; empty where they can.
    """
    if not FUSED and not _trouble:
        try:
            from graphpool.ops.fused import table as fused
        except ImportError as error:
            _trouble.append(f"the kernels cannot be imported: {error}")
            warnings.warn(
                f"graphpool computes without its fused kernels: {error}",
                RuntimeWarning,
                stacklevel=2,
            )
        else:
            FUSED.update(fused.OPS)
            ON_CUDA.update(fused.OPS_ON_CUDA)
            sorting.use(fused.sort_index)
    return _trouble[0] if _trouble else ""


class Path(NamedTuple):
    """The path of one call: ``name``, and the reason in words."""

    name: str
    reason: str


def choose(op: str, x: Tensor, weight: Tensor | None = None) -> Path:
    """The path that ``op`` takes for elements ``x``."""
    composed = backends.composed_backend()
    if _debug.inside_transform():
        return Path(composed, "torch.func and dual numbers transform PyTorch's own operations only")
    if _debug.inside_export():
        return Path(composed, "what is exported must run where the kernels are not")
    if not backends.fused_is_allowed():
        return Path(composed, f"use_backend({backends.backend()!r}) is in force")
    if trouble := load():
        return Path(composed, trouble)
    if op not in FUSED:
        return Path(composed, f"{op} has no fused kernel")
    if not x.is_floating_point():
        return Path(composed, f"the kernels take floating point; x is {x.dtype}")
    if weight is not None and weight.requires_grad and torch.is_grad_enabled():
        return Path(composed, "the kernels have no derivative with respect to the weight")
    if x.device.type == "cpu":
        return Path("numba", "floating point on the CPU")
    if x.device.type == "cuda":
        if op not in ON_CUDA:
            return Path(composed, f"{op} has no CUDA kernel")
        if not _optional.has("triton"):
            return Path(composed, "triton is not installed")
        return Path("triton", "floating point on a CUDA device")
    return Path(composed, f"there is no kernel for device {x.device.type!r}")


def fused(op: str, x: Tensor, weight: Tensor | None = None) -> Callable[..., Any] | None:
    """The fused form of ``op`` if that is the path to take, else ``None``.

    Raises:
        ValueError: The older ONNX exporter is at work, and is known to go wrong for ``op``.
    """
    if op not in _SIMPLE:
        _debug.refuse_older_onnx(op)
    return FUSED[op] if choose(op, x, weight).name in ("numba", "triton") else None
