"""Pools that order the elements of a bag."""

from __future__ import annotations

from torch import Tensor

from graphpool.aggr.base import Aggregation
from graphpool.aggr.registry import register
from graphpool.ops.order import INTERPOLATIONS, segment_quantile
from graphpool.segments import Segments


@register("quantile")
class Quantile(Aggregation):
    """Quantile per channel, see :func:`graphpool.ops.segment_quantile`.

    Args:
        channels: See :class:`Aggregation`.
        q: Which quantile, in ``[0, 1]``: 0 is the minimum, 0.5 the median, 1 the maximum.
        interpolation: ``"linear"``, ``"lower"``, ``"higher"``, ``"midpoint"`` or ``"nearest"``.

    Raises:
        ValueError: ``q`` or ``interpolation`` is out of range.

    Example:
        >>> from graphpool import aggr
        >>> aggr.Quantile(q=0.75)(torch.tensor([[1.0], [2.0], [3.0], [4.0], [5.0]]))
        tensor([[4.]])
    """

    complexity = "E C log E"
    exempt = {"ties": "the derivative goes to one of the equal elements, as in torch.quantile"}

    def __init__(
        self, channels: int | None = None, *, q: float = 0.5, interpolation: str = "linear"
    ) -> None:
        super().__init__(channels)
        if not 0 <= q <= 1:
            raise ValueError(f"`q` must lie in [0, 1]; got {q}.")
        if interpolation not in INTERPOLATIONS:
            raise ValueError(
                f"`interpolation` must be one of {INTERPOLATIONS}; got {interpolation!r}."
            )
        self.q = q
        self.interpolation = interpolation

    def pool(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        return segment_quantile(x, segments, self.q, self.interpolation, weight)

    def extra_repr(self) -> str:
        return f"q={self.q}, interpolation={self.interpolation!r}"


@register("median")
class Median(Quantile):
    """Median per channel; of an even number of elements the lower one, as in :func:`torch.median`.

    Example:
        >>> from graphpool import aggr
        >>> aggr.Median()(torch.tensor([[1.0], [9.0], [3.0], [4.0]]))
        tensor([[3.]])
    """

    def __init__(self, channels: int | None = None) -> None:
        super().__init__(channels, q=0.5, interpolation="lower")

    def extra_repr(self) -> str:
        return ""
