"""The base of pools that mix channels: elements as a matrix."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from graphpool.aggr.absent import fill_empty
from graphpool.aggr.base import Aggregation
from graphpool.ops import check_elements, working
from graphpool.segments import Segments


class MatrixAggregation(Aggregation):
    """A pool that is written for elements ``[E, C]`` only.

    :meth:`pool` makes every further dimension part of the bags, computes in the precision of the
    parameters, and sets empty bags to 0, so that :meth:`pool_matrix` holds the formula and nothing else.
    """

    formula = "pool_matrix"
    empty_gives_zero: ClassVar[bool] = False
    """Whether the formula itself gives 0 for an empty bag, which saves a copy of a wide result."""

    @abstractmethod
    def pool_matrix(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        """Pools ``[E, C]`` to ``[S, out_channels]``; what it gives for an empty bag does not matter."""

    def pool(
        self, x: Tensor, segments: Segments, weight: Tensor | None = None, **kwargs: Any
    ) -> Tensor:
        check_elements(x, segments, weight)
        middle = x.shape[1:-1]
        if middle and any(isinstance(v, Tensor) for v in kwargs.values()):
            raise ValueError(
                f"{', '.join(kwargs)} can only be given with elements [E, C]; got {tuple(x.shape)}."
            )
        flat, bags, w = _fold(x, segments, weight)
        y = self.pool_matrix(flat.to(self._dtype(x)), bags, w, **kwargs)
        if w is not None or not self.empty_gives_zero:
            y = fill_empty(y, bags, w)
        y = y.to(x.dtype)
        return y.reshape(segments.num_segments, *middle, *y.shape[1:]) if middle else y

    def _dtype(self, x: Tensor) -> torch.dtype:
        for parameter in self.parameters():
            if parameter.is_floating_point():
                return parameter.dtype
        return working(x).dtype


def _fold(
    x: Tensor, segments: Segments, weight: Tensor | None
) -> tuple[Tensor, Segments, Tensor | None]:
    """Elements ``[E, ..., C]`` as a matrix, with bags of their own for each of the slices."""
    if x.dim() == 2:
        return x, segments, weight
    slices = x.shape[1:-1].numel()
    place = torch.arange(slices, device=x.device)
    index = (segments.index[:, None] * slices + place).reshape(-1)
    bags = Segments(index=index, num_segments=segments.num_segments * slices)
    if weight is not None:
        weight = weight.repeat_interleave(slices)
    return x.reshape(-1, x.size(-1)), bags, weight
