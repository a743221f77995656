"""Windows over a stream, for every pool."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from graphpool.states.bag_state import BagState
from graphpool.states.held import begin


class Window:
    """The last pieces of a stream: a queue of states, of which the oldest can be dropped.

    Nothing is subtracted, which would leave the rounding of what is gone and cannot be done for maxima. Two
    stacks of merged states take two merges per piece on average: one grows by new pieces, the other
    holds what is left of older ones, from each to the youngest; when that is empty, it is made of the first.

    Args:
        pool: A pool whose bags can be pooled in pieces.
        num_bags: The number of bags.
        **kind: Further arguments of ``pool.begin``.

    Example:
        >>> import torch
        >>> from graphpool import aggr
        >>> window = Window(aggr.Max())
        >>> for value in (9.0, 1.0, 3.0):
        ...     _ = window.push(torch.tensor([[value]]))
        >>> window.pop().result().detach()
        tensor([[3.]])
    """

    def __init__(self, pool: Any, num_bags: int = 1, **kind: Any) -> None:
        self._empty: BagState = begin(pool, num_bags, kind)
        self._new: list[BagState] = []
        self._together = self._empty
        self._old: list[BagState] = []

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    def push(self, x: Tensor, bag: Any = None, weight: Tensor | None = None) -> Window:
        """Takes in a piece at the end; arguments as in :meth:`BagState.add`."""
        piece = self._empty.copy().add(x, bag, weight)
        self._new.append(piece)
        self._together = self._together | piece
        return self

    def pop(self) -> Window:
        """Drops the oldest piece.

        Raises:
            ValueError: There is none.
        """
        if not self:
            raise ValueError("There is no piece in the window to drop.")
        if not self._old:
            while self._new:
                piece = self._new.pop()
                self._old.append(piece | self._old[-1] if self._old else piece)
            self._together = self._empty
        self._old.pop()
        return self

    def state(self) -> BagState:
        """The state of all pieces in the window."""
        return self._old[-1] | self._together if self._old else self._together.copy()

    def result(self) -> Tensor:
        """The pooled bags of the window."""
        return self.state().result()
