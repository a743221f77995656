"""Pools that order the elements of a bag."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from graphpool._arguments import check_one_of
from graphpool.aggr.absent import fill_empty
from graphpool.aggr.base import Aggregation
from graphpool.aggr.registry import register
from graphpool.ops import INTERPOLATIONS, Gather, segment_quantile
from graphpool.segments import Segments


@register("quantile")
class Quantile(Aggregation):
    """Quantile per channel, see :func:`graphpool.ops.segment_quantile`.

    Args:
        channels: See :class:`Aggregation`.
        q: Which quantile, in ``[0, 1]``: 0 is the minimum, 0.5 the median, 1 the maximum. Several, as
            a list, are found at once and put side by side.
        interpolation: ``"linear"``, ``"lower"``, ``"higher"``, ``"midpoint"`` or ``"nearest"``.
        fill_value: What an empty bag gives.

    Shapes:
        ``[E, ..., C]`` to ``[S, ..., len(q) * C]``; the first quantile of all channels comes first.

    Raises:
        ValueError: ``q`` or ``interpolation`` is out of range.

    Example:
        >>> from graphpool import aggr
        >>> aggr.Quantile(q=0.75)(torch.tensor([[1.0], [2.0], [3.0], [4.0], [5.0]]))
        tensor([[4.]])
    """

    supports_gather = True
    whole_bag = (
        "a quantile in the middle of a bag may be any of its elements; graphpool.states.exact_quantile finds "
        "it in two passes"
    )
    complexity = "E C log E"
    exempt = {"ties": "the derivative goes to one of the equal elements, as in torch.quantile"}

    def __init__(
        self,
        channels: int | None = None,
        *,
        q: float | Sequence[float] = 0.5,
        interpolation: str = "linear",
        fill_value: float = 0.0,
    ) -> None:
        super().__init__(channels)
        self.levels = [float(q)] if isinstance(q, (int, float)) else [float(v) for v in q]
        if not self.levels or not all(0 <= v <= 1 for v in self.levels):
            raise ValueError(f"`q` must lie in [0, 1], one or several; got {q}.")
        check_one_of(interpolation, "interpolation", INTERPOLATIONS)
        self.q = q
        self.interpolation = interpolation
        self.fill_value = float(fill_value)

    @property
    def out_channels(self) -> int | None:
        return self.channels if self.channels in (None, -1) else len(self.levels) * self.channels

    def pool(
        self,
        x: Tensor,
        segments: Segments,
        weight: Tensor | None = None,
        gather: Gather | None = None,
    ) -> Tensor:
        found = segment_quantile(x, segments, self.levels, self.interpolation, weight, gather)
        y = found.movedim(1, -2).flatten(-2)
        return fill_empty(y, segments, weight, self.fill_value) if self.fill_value else y

    def extra_repr(self) -> str:
        fill = f", fill_value={self.fill_value}" if self.fill_value else ""
        return f"q={self.q}, interpolation={self.interpolation!r}{fill}"


@register("median")
class Median(Quantile):
    """Median per channel; of an even number of elements the lower one, as in :func:`torch.median`.

    Args:
        channels: See :class:`Aggregation`.
        fill_value: What an empty bag gives.

    Example:
        >>> from graphpool import aggr
        >>> aggr.Median()(torch.tensor([[1.0], [9.0], [3.0], [4.0]]))
        tensor([[3.]])
    """

    def __init__(self, channels: int | None = None, *, fill_value: float = 0.0) -> None:
        super().__init__(channels, q=0.5, interpolation="lower", fill_value=fill_value)

    def extra_repr(self) -> str:
        return f"fill_value={self.fill_value}" if self.fill_value else ""
