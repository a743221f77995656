"""The stable sort of an index by counting."""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool.ops.fused.cpu import sort as cpu_sort


@torch.library.custom_op(
    "graphpool::sort_index",
    mutates_args=(),
    device_types="cpu",
    schema="(Tensor index, SymInt bags) -> (Tensor, Tensor)",
)
def sort_index(index: Tensor, bags: int) -> tuple[Tensor, Tensor]:
    """``(ptr, perm)`` of a stable sort of ``index`` ``[E]``, whose values lie in ``[0, bags)``."""
    ptr, perm = cpu_sort.counting_sort(index.contiguous().numpy(), bags)
    return torch.from_numpy(ptr), torch.from_numpy(perm)


@sort_index.register_kernel("cuda")
def _on_device(index: Tensor, bags: int) -> tuple[Tensor, Tensor]:
    ordered, perm = index.sort(stable=True)
    return torch.searchsorted(ordered, torch.arange(bags + 1, device=index.device)), perm


@sort_index.register_fake
def _fake(index: Tensor, bags: int) -> tuple[Tensor, Tensor]:
    return index.new_empty((bags + 1,)), torch.empty_like(index)
