"""Sorting elements by their bags."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from graphpool import _debug

Sort = Callable[[Tensor, int], tuple[Tensor, Tensor]]
_fast: list[Sort] = []


def use(sort: Sort) -> None:
    """From now on sorts on the CPU with ``sort``, a faster form of :func:`sort_index`."""
    _fast[:] = [sort]


def sort_index(index: Tensor, num_segments: int) -> tuple[Tensor, Tensor]:
    """Stable sort of ``index`` ``[E]``: ``(ptr, perm)``, ``index[perm]`` sorted, ``ptr`` its offsets."""
    plain = not torch.jit.is_tracing() and not _debug.is_vectorized(index)
    if _fast and index.device.type == "cpu" and plain:
        return _fast[0](index, num_segments)
    counts = index.new_zeros(num_segments).scatter_add(0, index, torch.ones_like(index))
    ptr = torch.cat([index.new_zeros(1), counts.cumsum(0)])
    return ptr, index.argsort(stable=True)
