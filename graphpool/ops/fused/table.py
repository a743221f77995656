"""The fused ops by name; importing this module imports Numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from graphpool.ops.fused import moments as fused_moments
from graphpool.ops.fused import power as fused_power
from graphpool.ops.fused import scores as fused_scores
from graphpool.ops.fused import softmax as fused_softmax
from graphpool.ops.fused import sort as fused_sort

OPS: dict[str, Callable[..., Any]] = {
    "segment_sum": fused_moments.segment_sum,
    "segment_mean": fused_moments.segment_mean,
    "segment_extremum": fused_moments.segment_extremum,
    "segment_moments": fused_moments.segment_moments,
    "segment_softmax": fused_scores.segment_softmax,
    "segment_logsumexp": fused_scores.segment_logsumexp,
    "segment_softmax_sum": fused_softmax.segment_softmax_sum,
    "segment_softpool": fused_softmax.segment_softpool,
    "segment_power": fused_power.segment_power,
}


def sort_index(index: Tensor, bags: int) -> tuple[Tensor, Tensor]:
    """Offsets of the bags and the stable order of the elements, by counting."""
    return fused_sort.sort_index(index, bags)


OPS_ON_CUDA = set(OPS)

CUDA = (
    "segment_moments",
    "segment_moments_backward",
    "segment_softpool",
    "segment_softpool_backward",
    "segment_softmax_sum",
    "segment_softmax_sum_backward",
    "segment_logsumexp",
    "segment_logsumexp_backward",
    "segment_softmax",
    "segment_softmax_backward",
    "segment_power",
    "segment_power_backward",
)
"""The ops with a Triton kernel."""


def _on_cuda(name: str) -> Callable[..., Any]:
    def run(*args: Any) -> Any:
        # Imported at the first call on a device: triton is neither small nor always there.
        from graphpool.ops.fused.cuda import ops as cuda_ops

        return getattr(cuda_ops, name)(*args)

    return run


_DEFINED = {
    "segment_moments": fused_moments.forward,
    "segment_moments_backward": fused_moments.backward,
    "segment_softpool": fused_softmax.softpool,
    "segment_softpool_backward": fused_softmax.softpool_backward,
    "segment_softmax_sum": fused_softmax.softmax_sum,
    "segment_softmax_sum_backward": fused_softmax.softmax_sum_backward,
    "segment_logsumexp": fused_scores.logsumexp,
    "segment_logsumexp_backward": fused_scores.logsumexp_backward,
    "segment_softmax": fused_scores.softmax,
    "segment_softmax_backward": fused_scores.softmax_backward,
    "segment_power": fused_power.forward,
    "segment_power_backward": fused_power.backward,
}
for _name in CUDA:
    _DEFINED[_name].register_kernel("cuda")(_on_cuda(_name))
