"""Which path samples and searches points, and why."""

from __future__ import annotations

from functools import partial
from types import ModuleType

from torch import Tensor

from graphpool import _optional
from graphpool.ops import backends, dispatch
from graphpool.ops.neighbors import trees

LARGEST_K = 128
"""The kernel for CUDA keeps so many neighbours of a query in registers."""
# Positions are 32-bit numbers there, and the last few stand for places without a neighbour.
_MOST_POINTS = (1 << 31) - 2048


def choose(op: str, points: Tensor, k: int = 1) -> dispatch.Path:
    """The path of ``op`` (``"fps"``, ``"knn"``, ``"radius"``, ...) among ``points`` ``[N, D]``."""
    if not backends.fused_is_allowed():
        return dispatch.Path("torch", f"use_backend({backends.backend()!r}) is in force")
    device = points.device.type
    if device == "cpu":
        if op == "fps" and not trees.sampling_serves(points):
            return dispatch.Path("torch", "the k-d tree of the samples has up to three coordinates")
        return dispatch.Path("numba", "points on the CPU")
    if device != "cuda":
        return dispatch.Path("torch", f"there is no kernel for device {device!r}")
    if not _optional.has("triton"):
        return dispatch.Path("torch", "triton is not installed")
    if k > LARGEST_K:
        return dispatch.Path("torch", f"the CUDA kernel keeps at most {LARGEST_K} neighbours")
    if points.shape[0] > _MOST_POINTS:
        return dispatch.Path("torch", f"the CUDA kernel takes at most {_MOST_POINTS:,} points")
    return dispatch.Path("triton", "points on a CUDA device")


def on_triton(op: str, points: Tensor, k: int = 1) -> bool:
    return choose(op, points, k).name == "triton"


def kernels() -> ModuleType:
    """What launches the CUDA kernels; imported at the first call: triton is not always there."""
    from graphpool.ops.neighbors.cuda import launch

    return launch


for _op in ("fps", "interpolate", "knn", "knn_groups", "radius"):
    dispatch.POINTS[_op] = partial(choose, _op)
