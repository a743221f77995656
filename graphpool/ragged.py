"""Index arithmetic for many small ranges at once."""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool import _debug


def ragged_arange(counts: Tensor) -> tuple[Tensor, Tensor]:
    """``0..c-1`` for every count ``c``, one after the other.

    Args:
        counts: Non-negative int64 ``[M]``.

    Returns:
        Which count each number belongs to, and the numbers; both ``[sum(counts)]``.

    Example:
        >>> ragged_arange(torch.tensor([2, 0, 3]))
        (tensor([0, 0, 2, 2, 2]), tensor([0, 1, 0, 1, 2]))
    """
    total = int(counts.sum())
    owner = torch.repeat_interleave(counts, output_size=total)
    position = torch.arange(total, device=counts.device)
    return owner, position.sub_(ragged_offsets(counts)[:-1][owner])


def ragged_offsets(counts: Tensor) -> Tensor:
    """``[0, c0, c0 + c1, ...]``: where ranges of these lengths begin, and where the last one ends.

    Example:
        >>> ragged_offsets(torch.tensor([2, 0, 3]))
        tensor([0, 2, 2, 5])
    """
    if _debug.is_vectorized(counts):
        return torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    out = counts.new_zeros(counts.numel() + 1)
    torch.cumsum(counts, 0, out=out[1:])
    return out


def ragged_gather(ptr: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The entries of several CSR rows: for each, which of ``rows`` it came from, and its position.

    Example:
        >>> ragged_gather(torch.tensor([0, 2, 2, 5]), torch.tensor([2, 0]))
        (tensor([0, 0, 0, 1, 1]), tensor([2, 3, 4, 0, 1]))
    """
    start = ptr[rows]
    counts = ptr[rows + 1] - start
    total = int(counts.sum())
    owner = torch.repeat_interleave(counts, output_size=total)
    shift = start - ragged_offsets(counts)[:-1]
    # In place: fresh memory costs more than the arithmetic.
    return owner, torch.arange(total, device=ptr.device).add_(shift[owner])
