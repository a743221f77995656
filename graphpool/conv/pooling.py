"""One call for every aggregation, ours and PyTorch Geometric's."""

from __future__ import annotations

from torch import Tensor, nn

from graphpool.aggr import Aggregation
from graphpool.segments import Segments


def pool(aggr: nn.Module, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
    """Pools ``x`` with an aggregation of this package or of PyTorch Geometric.

    Args:
        aggr: The aggregation.
        x: Elements ``[E, C]`` in the order of ``segments``.
        segments: The bags.
        weight: Weight of each element ``[E]``.

    Raises:
        ValueError: If a weight is given to an aggregation of PyTorch Geometric, which knows none.
    """
    if isinstance(aggr, Aggregation):
        return aggr(x, segments, weight=weight)
    if weight is not None:
        raise ValueError(
            f"`weight` was given, but {type(aggr).__name__} is not an aggregation of graphpool "
            "and takes no weights."
        )
    # Several of them insist on a sorted index.
    index = segments.bag_order(segments.index)
    return aggr(segments.bag_order(x), index, dim_size=segments.num_segments)
