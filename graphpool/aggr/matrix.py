"""The base of pools that mix channels: elements as a matrix."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from graphpool import _debug
from graphpool.aggr.absent import fill_empty
from graphpool.aggr.base import Aggregation
from graphpool.nn import has_hooks
from graphpool.ops import check_elements, working
from graphpool.segments import Segments

_PART = 1 << 20
"""Numbers of the elements that a formula is given at a time, about."""


class MatrixAggregation(Aggregation):
    """A pool that is written for elements ``[E, C]`` only.

    :meth:`pool` makes every further dimension part of the bags, computes in the precision of the
    parameters, and sets empty bags to 0, so that :meth:`pool_matrix` holds the formula and nothing else.
    """

    formula = "pool_matrix"
    empty_gives_zero: ClassVar[bool] = False
    """Whether the formula itself gives 0 for an empty bag, which saves a copy of a wide result."""
    bags_apart: bool = False
    """Whether the formula may be given a few bags at a time: see :func:`few_bags_at_a_time`."""

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
        flat = flat.to(self._dtype(x))
        if self.bags_apart and not kwargs:
            y = few_bags_at_a_time(self, self.pool_matrix, flat, bags, w)
        else:
            y = self.pool_matrix(flat, bags, w, **kwargs)
        if w is not None or not self.empty_gives_zero:
            y = fill_empty(y, bags, w)
        y = y.to(x.dtype)
        return y.reshape(segments.num_segments, *middle, *y.shape[1:]) if middle else y

    def _dtype(self, x: Tensor) -> torch.dtype:
        for parameter in self.parameters():
            if parameter.is_floating_point():
                return parameter.dtype
        return working(x).dtype


def few_bags_at_a_time(
    pool: torch.nn.Module,
    formula: Callable[[Tensor, Segments, Tensor | None], Tensor],
    x: Tensor,
    segments: Segments,
    weight: Tensor | None,
) -> Tensor:
    """``formula(x, segments, weight)``; of a few bags at a time where only their results are wanted.

    What a formula makes of many elements ``[E, C]`` is memory that the system hands out page by page, and
    leaves the cache before it is read. Of few it is the same memory again. So it is done without gradients,
    on a CPU, for bags that lie one after the other, in a ``pool`` that is not being trained and has no hooks.
    """
    seen = torch.is_grad_enabled() or pool.training or x.device.type != "cpu"
    if seen or _debug.being_traced() or _debug.inside_transform() or has_hooks(pool):
        return formula(x, segments, weight)
    # Not before: a program that is traced would hold for such sizes only.
    step = _PART // max(x.size(1), 1)
    if x.size(0) < 2 * step or segments.perm is not None:
        return formula(x, segments, weight)
    ptr = segments.ptr
    cuts = torch.searchsorted(ptr, torch.arange(step, x.size(0), step)).unique().tolist()
    bounds = sorted({0, *cuts, segments.num_segments})
    parts = []
    for first, last in zip(bounds[:-1], bounds[1:], strict=True):
        begin, end = int(ptr[first]), int(ptr[last])
        part = Segments(ptr=ptr[first : last + 1] - begin, num_elements=end - begin)
        parts.append(formula(x[begin:end], part, None if weight is None else weight[begin:end]))
    return torch.cat(parts)


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
