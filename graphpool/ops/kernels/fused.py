"""The fused ops by name; importing this module imports Numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from graphpool.ops.kernels import (
    fused_moments,
    fused_power,
    fused_scores,
    fused_softmax,
    fused_sort,
)

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
