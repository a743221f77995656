"""One call for every aggregation, ours and PyTorch Geometric's."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from graphpool.aggr.base import Aggregation
from graphpool.aggr.registry import resolve
from graphpool.segments import Segments


def resolve_pool(query: Any, channels: int, **kwargs: Any) -> nn.Module:
    """:func:`graphpool.aggr.resolve`, for pools that give one vector per bag.

    Raises:
        ValueError: If the pool gives smaller bags or more than one result, which no layer can use.
    """
    return one_vector_per_bag(resolve(query, channels=channels, **kwargs))


def one_vector_per_bag(module: nn.Module) -> nn.Module:
    """``module``, if it is a pool that gives one vector per bag and nothing else.

    Raises:
        ValueError: It gives smaller bags, or more than one result.
    """
    name = type(module).__name__
    if getattr(module, "ragged", False):
        raise ValueError(
            f"{name} gives a smaller bag, not one vector, for each bag; it cannot stand for a neighbour "
            "pool, a readout or one pool of several."
        )
    if getattr(module, "return_weights", False):
        raise ValueError(
            f"{name}(return_weights=True) gives its weights beside the vectors; it cannot stand for a "
            "neighbour pool, a readout or one pool of several. Make it without, and ask "
            "graphpool.attention for the weights."
        )
    return module


def pool(aggr: nn.Module, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
    """Pools ``x`` with an aggregation of this package or of PyTorch Geometric.

    Args:
        aggr: The aggregation.
        x: Elements ``[E, ..., C]`` in the order of ``segments``.
        segments: The bags.
        weight: Weight of each element ``[E]``.

    Raises:
        ValueError: If a weight is given to an aggregation of PyTorch Geometric, which knows none.
    """
    if isinstance(aggr, Aggregation):
        return aggr(x, segments, dim=0, weight=weight)
    if weight is not None:
        raise ValueError(
            f"`weight` was given, but {type(aggr).__name__} is not an aggregation of graphpool "
            "and takes no `weight`."
        )
    # Several of them insist on a sorted index.
    index = segments.bag_order(segments.index)
    return aggr(segments.bag_order(x), index, dim_size=segments.num_segments, dim=0)


def pooled_width(aggr: nn.Module, channels: int) -> int:
    """Channels that come out of an aggregation of ``channels`` channels; the same where it does not say."""
    width = getattr(aggr, "out_channels", None)
    return channels if width is None or width == -1 else int(width)
