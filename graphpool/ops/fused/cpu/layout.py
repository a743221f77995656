"""A layout as the CPU kernels read it."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from graphpool.ops.fused.cpu.core import bag_chunks, row_chunks
from graphpool.ops.fused.layout import Layout

_NONE = np.empty(0, np.int64)


class Arrays:
    """A :class:`Layout` as NumPy arrays for the CPU kernels; the identity is an empty array."""

    def __init__(self, layout: Layout, dtype: Any) -> None:
        def array(t: Tensor | None) -> np.ndarray:
            return _NONE if t is None else t.detach().contiguous().numpy()

        self.ptr = array(layout.ptr)
        self.perm = array(layout.perm)
        self.bag_of = array(layout.bag_of)
        self.gather = array(layout.gather)
        self.row_ptr = array(layout.row_ptr)
        self.row_elements = array(layout.row_elements)
        # Whether elements are rows that an index names: without elements the index is empty, too.
        self.gathered = layout.gather is not None
        # Whether the backward pass meets the bags one after the other.
        self.in_order = not (self.perm.size or self.row_elements.size)
        self.weight = np.empty(0, dtype) if layout.weight is None else array(layout.weight)

    def sizes(self, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
        """The sum of the weights of runs of elements, in float64."""
        if not self.weight.size:
            return (end - begin).astype(np.float64)
        return self._sums(self.weight, begin, end)

    def divisors(self) -> np.ndarray:
        """What sums over the elements of each bag are divided by: its size, 1 of an empty one."""
        size = self.sizes(self.ptr[:-1], self.ptr[1:])
        size[size == 0] = 1
        return size

    def present(self, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Whether each run holds an element whose weight is not 0."""
        if not self.weight.size:
            return end > begin
        return self._sums(self.weight != 0, begin, end) > 0

    def _sums(self, values: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
        # Each run is added by itself: a running total would carry the rounding of other bags.
        ordered = values[self.perm] if self.perm.size else values
        ordered = np.append(ordered.astype(np.float64), 0.0)
        bounds = np.stack([begin, end], 1).ravel()
        total = np.add.reduceat(ordered, bounds)[::2] if bounds.size else np.empty(0)
        return np.where(end > begin, total, 0.0)

    def backward_chunks(self, channels: int) -> list[tuple[int, int, int]]:
        """Runs of rows of ``x`` with about equal work."""
        if self.row_ptr.size:
            return bag_chunks(self.row_ptr, channels)[0]
        return row_chunks(self.bag_of.size, self.bag_of.size * channels)

    def row_chunks(self, rows: int, channels: int) -> list[tuple[int, int, int]]:
        """Runs of elements with equal work."""
        return row_chunks(rows, rows * channels)
