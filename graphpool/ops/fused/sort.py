"""The stable sort of an index by counting."""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool import sorting
from graphpool.ops.fused.cpu import sort as cpu_sort
from graphpool.ops.fused.fused_op import define


def _on_cpu(index: Tensor, bags: int) -> tuple[Tensor, Tensor]:
    """``(ptr, perm)`` of a stable sort of ``index`` ``[E]``, whose values lie in ``[0, bags)``."""
    ptr, perm = cpu_sort.counting_sort(index.contiguous().numpy(), bags)
    return torch.from_numpy(ptr), torch.from_numpy(perm)


def _on_cuda(index: Tensor, bags: int) -> tuple[Tensor, Tensor]:
    ordered, perm = index.sort(stable=True)
    return torch.searchsorted(ordered, torch.arange(bags + 1, device=index.device)), perm


def _fake(index: Tensor, bags: int) -> tuple[Tensor, Tensor]:
    return index.new_empty((bags + 1,)), torch.empty_like(index)


sort_index = define("sort_index", "(Tensor index, SymInt bags) -> (Tensor, Tensor)", _on_cpu, _fake)
sort_index.register_kernel("cuda")(_on_cuda)
sorting.use(sort_index)
