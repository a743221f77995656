"""Exchange between the processes of one training run."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def in_company() -> bool:
    """Whether other processes train with this one."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def gather_rows(x: Tensor) -> Tensor:
    """The rows ``[n, ...]`` of all processes, one after the other; ``n`` may differ between them.

    Every process must call this equally often. Without other processes it is ``x`` itself.

    Example:
        >>> gather_rows(torch.tensor([1, 2]))
        tensor([1, 2])
    """
    if not in_company():
        return x
    size = torch.tensor([x.size(0)], device=x.device)
    sizes = [torch.zeros_like(size) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, size)
    longest = max(int(n) for n in sizes)
    padded = x.new_zeros((longest, *x.shape[1:]))
    padded[: x.size(0)] = x
    found = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(found, padded)
    return torch.cat([rows[: int(n)] for rows, n in zip(found, sizes, strict=True)])
