"""Where the elements of each bag lie, as the tensors that a fused op takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from graphpool.ops.inputs import Gather, gathered
from graphpool.segments import Segments

SCHEMA = (
    "Tensor ptr, Tensor? perm, Tensor? bag_of, Tensor? gather, Tensor? weight, "
    "Tensor? row_ptr, Tensor? row_elements"
)
"""The arguments of a fused op that say where its elements lie; the fields of :class:`Layout`."""


class Layout(NamedTuple):
    """The bags, and for the backward pass the rows seen from the other side.

    Bag ``s`` holds the elements ``perm[ptr[s]], ..., perm[ptr[s + 1] - 1]``; element ``i`` is row
    ``gather[i]`` of ``x`` and has the weight ``weight[i]``. Row ``r`` of ``x`` is read by the elements
    ``row_elements[row_ptr[r]], ...``, and element ``i`` lies in bag ``bag_of[i]``. A field that is
    ``None`` stands for the identity.
    """

    ptr: Tensor
    perm: Tensor | None
    bag_of: Tensor | None
    gather: Tensor | None
    weight: Tensor | None
    row_ptr: Tensor | None
    row_elements: Tensor | None

    @classmethod
    def of(
        cls,
        segments: Segments,
        weight: Tensor | None,
        gather: Gather | None,
        rows: int,
        backward: bool,
    ) -> Layout:
        """``backward`` asks for what only the backward pass reads."""
        index = segments.index if backward else None
        rows_of = gather.index if isinstance(gather, Segments) else gather
        row_ptr = row_elements = None
        if backward and gather is not None:
            # A row of x is to the backward pass what a bag is to the forward pass.
            read_by = gather if isinstance(gather, Segments) else Segments(gather, None, rows)
            row_ptr, row_elements = read_by.ptr, read_by.perm
        return cls(segments.ptr, segments.perm, index, rows_of, weight, row_ptr, row_elements)

    @property
    def bags(self) -> int:
        return self.ptr.shape[0] - 1

    def num_elements(self, x: Tensor) -> int:
        """How many elements read the rows of ``x``."""
        return x.shape[0] if self.gather is None else self.gather.shape[0]

    @classmethod
    def from_args(cls, args: Sequence[Tensor | None]) -> Layout:
        """From the arguments of an op, in the order of :data:`SCHEMA`."""
        ptr, *others = args
        if ptr is None or len(others) != len(cls._fields) - 1:
            raise ValueError(f"A layout has the fields {cls._fields}; got {len(args)} arguments.")
        return cls(ptr, *others)

    def segments(self) -> Segments:
        """The bags again, for the composed form."""
        if self.perm is None:
            return Segments(ptr=self.ptr)
        index = self.bag_of
        if index is None:
            ordered = Segments(ptr=self.ptr).index
            index = torch.empty_like(ordered).index_copy(0, self.perm, ordered)
        return Segments(index, None, self.bags, is_sorted=False)

    def gathered(self, x: Tensor) -> Tensor:
        return gathered(x, self.gather)
