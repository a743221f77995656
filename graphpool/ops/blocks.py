"""Bags as blocks of equal length, for operations that work on dense arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from graphpool.segments import Segments

_BLOCK_NUMBERS = 1 << 22
"""Numbers in the temporary arrays of one step, about."""


class Blocks(NamedTuple):
    """Blocks of ``L`` places that hold elements of one bag each.

    Attributes:
        rows: ``[B, L]``, the element on each place; any element on a free one.
        valid: ``[B, L]``, whether the place is taken; ``None`` if all are.
        bags: ``[B]``, the bag of each block, ascending.
    """

    rows: Tensor
    valid: Tensor | None
    bags: Tensor

    def lay_out(self, x: Tensor) -> Tensor:
        """Elements ``[E, C]`` as ``[B, L, C]``, with any element on free places."""
        return x.index_select(0, self.rows.flatten()).unflatten(0, self.rows.shape)

    def take(self, x: Tensor, fill: float = 0) -> Tensor:
        """Elements ``[E, C]`` as ``[B, L, C]``, with ``fill`` on free places."""
        taken = self.lay_out(x)
        if self.valid is None:
            return taken
        return taken.masked_fill_(~self.valid.unsqueeze(-1), fill)

    def put(self, out: Tensor, values: Tensor) -> None:
        """Writes values ``[B, L, C]`` to the rows of ``out`` ``[E, C]``."""
        rows, flat = self.rows.flatten(), values.flatten(0, 1)
        if self.valid is not None:
            taken = self.valid.flatten().nonzero().squeeze(1)
            rows, flat = rows.index_select(0, taken), flat.index_select(0, taken)
        out.index_copy_(0, rows, flat)


def segment_blocks(
    segments: Segments, numbers: int, longest: int | None = None
) -> Iterator[Blocks]:
    """Cuts bags into blocks of a power of two of places.

    The length of a bag's blocks follows from its own size alone, so that its result does not depend on the
    bags around it.

    Args:
        segments: The bags.
        numbers: How many numbers the caller holds for each place, to bound the size of a step.
        longest: The longest block, a power of two; longer bags get several. Without it every bag is one.

    Yields:
        Blocks, by ascending length.
    """
    counts, ptr, perm = segments.counts, segments.ptr, segments.perm
    if counts.numel() == 0:
        return
    if longest is None:
        longest = 1 << max(int(counts.max()) - 1, 0).bit_length()
    last_place = (counts.clamp(1, longest) - 1).double()
    # frexp counts the bits of n - 1: the exponent of the power of two that n fits into.
    exponent = torch.where(counts > 0, torch.frexp(last_place).exponent, -1)
    for power in range(longest.bit_length()):
        chosen = (exponent == power).nonzero().squeeze(1)
        if chosen.numel() == 0:
            continue
        length = 1 << power
        per_bag = (counts[chosen] + length - 1) // length
        bags = chosen.repeat_interleave(per_bag)
        first_block = (per_bag.cumsum(0) - per_bag).repeat_interleave(per_bag)
        start = ptr[bags] + (torch.arange(bags.numel(), device=bags.device) - first_block) * length
        free = bool((start + length > ptr[bags + 1]).any())
        inside = torch.arange(length, device=bags.device)
        step = max(1, _BLOCK_NUMBERS // (length * numbers))
        for begin in range(0, bags.numel(), step):
            part = slice(begin, begin + step)
            rows = start[part, None] + inside
            valid = rows < ptr[bags[part] + 1, None] if free else None
            if free:
                rows = rows.clamp(max=segments.num_elements - 1)
            yield Blocks(rows if perm is None else perm[rows], valid, bags[part])
