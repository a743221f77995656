"""Sorting elements by their bags."""

from __future__ import annotations

import torch
from torch import Tensor


def sort_index(index: Tensor, num_segments: int) -> tuple[Tensor, Tensor]:
    """Stable sort of ``index`` ``[E]``: ``(ptr, perm)``, with ``index[perm]`` sorted and ``ptr`` its offsets."""
    counts = index.new_zeros(num_segments).scatter_add(0, index, torch.ones_like(index))
    ptr = torch.cat([index.new_zeros(1), counts.cumsum(0)])
    return ptr, index.argsort(stable=True)
