"""k nearest neighbours and neighbours within a radius."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from graphpool import _debug
from graphpool.ops.neighbors import cluster, dense, trees
from graphpool.ops.neighbors.clouds import (
    Clouds,
    as_clouds,
    check_positive_int,
    check_same_clouds,
)
from graphpool.segments import Segments

_METRICS = ("euclidean", "cosine")
_ORDERS = ("nearest", "random")


class Neighbors(NamedTuple):
    """The answer of :func:`knn`.

    Args:
        index: ``[M, k]`` positions of the neighbours, ascending by distance, ties by position; -1 where
            a cloud has no more points.
        squared_distance: ``[M, k]``; infinite where there is no neighbour. With ``metric="cosine"`` it
            is ``1 - cosine``.
    """

    index: Tensor  # type: ignore[assignment]
    squared_distance: Tensor


@dataclass(frozen=True)
class Groups:
    """Neighbourhoods as bags, which any aggregation pools.

    Args:
        index: ``[E]`` position of the point of each element.
        segments: The bags: bag ``q`` is the neighbourhood of query ``q``.
        squared_distance: ``[E]``.

    Example:
        >>> from graphpool import ops
        >>> groups = knn_groups(torch.tensor([[0.0], [1.0], [5.0]]), k=2)
        >>> ops.segment_max(torch.tensor([1.0, 2.0, 3.0]), groups.segments, gather=groups.index)
        tensor([2., 2., 3.])
    """

    index: Tensor
    segments: Segments
    squared_distance: Tensor

    @property
    def edge_index(self) -> Tensor:
        """``[2, E]``: from the neighbour (row 0) to the query (row 1), as PyG passes messages."""
        return torch.stack([self.index, self.segments.index])


def knn(
    points: Tensor,
    k: int,
    queries: Tensor | None = None,
    segments: Segments | None = None,
    query_segments: Segments | None = None,
    *,
    exclude_self: bool = False,
    dilation: int = 1,
    max_distance: float = math.inf,
    metric: str = "euclidean",
) -> Neighbors:
    """The ``k`` nearest points of the same cloud for each query.

    Exact for up to eight coordinates. With more, candidates are found from a matrix product of the
    centred points, and their distances computed again. A query in a cloud of fewer than ``k`` points gets
    all of them and then -1 / inf; never fewer columns.

    Args:
        points: ``[N, D]``, floating point, finite.
        k: Number of neighbours, >= 1.
        queries: ``[M, D]``; the points themselves if ``None``.
        segments: The cloud of each point, in any order; one cloud if ``None``.
        query_segments: The cloud of each query, with the same number of clouds.
        exclude_self: With ``queries=None``: a point is not its own neighbour. It is left out by its
            position, so that a duplicate of it stays.
        dilation: Every ``dilation``-th of the ``k * dilation`` nearest, from the nearest on.
        max_distance: Farther points do not count. Only for ``metric="euclidean"``.
        metric: ``"euclidean"`` or ``"cosine"`` (vectors of length zero have cosine 0 with all).

    Returns:
        :class:`Neighbors` ``(index, squared_distance)``, without gradient. The distances are those of
        the coordinates in their own precision; half precision is computed in float32.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A coordinate is not finite, sizes do not fit, or an argument is out of range.

    Example:
        >>> points = torch.tensor([[0.0], [1.0], [3.0]])
        >>> index, squared_distance = knn(points, k=2, exclude_self=True)
        >>> index.tolist(), squared_distance.tolist()
        ([[1, 2], [0, 2], [1, 0]], [[1.0, 9.0], [1.0, 4.0], [4.0, 9.0]])
    """
    check_positive_int(k, "k")
    check_positive_int(dilation, "dilation")
    if metric not in _METRICS:
        raise ValueError(
            f"`metric` must be one of {', '.join(map(repr, _METRICS))}; got {metric!r}."
        )
    if metric == "cosine":
        if max_distance != math.inf:
            raise ValueError("`max_distance` needs metric='euclidean'.")
        points = _unit(points)
        queries = None if queries is None else _unit(queries)
    limit = _squared(max_distance, "max_distance")
    index, squared = search(
        points, k * dilation, queries, segments, query_segments, exclude_self, limit
    )
    if dilation > 1:
        index, squared = index[:, ::dilation].contiguous(), squared[:, ::dilation].contiguous()
    return Neighbors(index, squared / 2 if metric == "cosine" else squared)


def knn_groups(
    points: Tensor,
    k: int,
    queries: Tensor | None = None,
    segments: Segments | None = None,
    query_segments: Segments | None = None,
    *,
    exclude_self: bool = False,
    dilation: int = 1,
    max_distance: float = math.inf,
    metric: str = "euclidean",
) -> Groups:
    """The neighbourhoods of :func:`knn` as bags; arguments and errors are the same.

    Returns:
        :class:`Groups`. Neighbours that are missing are left out, so that bags may be smaller than ``k``.
    """
    index, squared = knn(
        points, k, queries, segments, query_segments, exclude_self=exclude_self, dilation=dilation,
        max_distance=max_distance, metric=metric,
    )  # fmt: skip
    return dense_groups(index, squared)


def dense_groups(index: Tensor, squared_distance: Tensor) -> Groups:
    """``[M, k]`` neighbours as bags, without the missing ones."""
    found = index >= 0
    if bool(found.all()):
        size, k = index.shape
        ptr = torch.arange(0, size * k + 1, k, device=index.device)
        return Groups(index.flatten(), Segments(ptr=ptr), squared_distance.flatten())
    return Groups(index[found], Segments.from_padded(found), squared_distance[found])


@_debug.on_values
def radius(
    points: Tensor,
    r: float,
    queries: Tensor | None = None,
    segments: Segments | None = None,
    query_segments: Segments | None = None,
    *,
    max_neighbors: int | None = None,
    order: str = "nearest",
    generator: torch.Generator | None = None,
    exclude_self: bool = False,
    inclusive: bool = True,
) -> Groups:
    r"""All points of the same cloud within a distance ``r`` of each query, as bags.

    Args:
        points: ``[N, D]``, floating point, finite.
        r: The radius, >= 0.
        queries: ``[M, D]``; the points themselves if ``None``.
        segments: The cloud of each point, in any order; one cloud if ``None``.
        query_segments: The cloud of each query, with the same number of clouds.
        max_neighbors: At most so many per query; all if ``None``.
        order: Which ones remain where there are more: the ``"nearest"``, or a uniformly ``"random"``
            subset of them.
        generator: Source of randomness for ``"random"``.
        exclude_self: With ``queries=None``: a point is not in its own neighbourhood.
        inclusive: Whether a distance of exactly ``r`` counts.

    Returns:
        :class:`Groups`; each bag ascends by distance, ties by position. A query without neighbours is an
        empty bag.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A coordinate is not finite, sizes do not fit, or an argument is out of range.

    Example:
        >>> groups = radius(torch.tensor([[0.0], [1.0], [3.0]]), r=1.0, exclude_self=True)
        >>> groups.edge_index.tolist(), groups.segments.counts.tolist()
        ([[1, 0], [0, 1]], [1, 1, 0])
    """
    if order not in _ORDERS:
        raise ValueError(f"`order` must be one of {', '.join(map(repr, _ORDERS))}; got {order!r}.")
    if max_neighbors is not None:
        check_positive_int(max_neighbors, "max_neighbors")
    limit = _squared(r, "r")
    if max_neighbors is not None and order == "nearest" and inclusive:
        return dense_groups(
            *search(points, max_neighbors, queries, segments, query_segments, exclude_self, limit)
        )
    clouds, asked, exclude = _prepare(points, queries, segments, query_segments, exclude_self)
    if trees.trees_serve(clouds.points):
        offsets, index, squared = trees.within(
            clouds, asked, limit, inclusive, exclude, queries is None
        )
    else:
        offsets, index, squared = dense.within(clouds, asked, limit, inclusive, exclude)
    groups = _in_query_order(Groups(clouds.original(index), Segments(ptr=offsets), squared), asked)
    if max_neighbors is None:
        return groups
    return _at_most(groups, max_neighbors, order, generator)


@_debug.on_values
def search(
    points: Tensor,
    k: int,
    queries: Tensor | None,
    segments: Segments | None,
    query_segments: Segments | None,
    exclude_self: bool,
    limit: float,
    ascending: bool = True,
) -> tuple[Tensor, Tensor]:
    """The search behind :func:`knn`. ``ascending=False`` may leave the ``k`` nearest in any order."""
    clouds, asked, exclude = _prepare(points, queries, segments, query_segments, exclude_self)
    if trees.trees_serve(clouds.points):
        index, squared = trees.knn(clouds, asked, k, exclude, limit, ascending, queries is None)
    elif cluster.knn_serves(clouds, asked, k):
        index, squared = cluster.knn(clouds, asked, k, exclude, limit)
    else:
        index, squared = dense.knn(clouds, asked, k, exclude, limit)
    index = clouds.original(index)
    if asked.perm is None:
        return index, squared
    back = torch.empty_like(asked.perm)
    back[asked.perm] = torch.arange(back.numel(), device=back.device)
    return index[back], squared[back]


def _prepare(
    points: Tensor,
    queries: Tensor | None,
    segments: Segments | None,
    query_segments: Segments | None,
    exclude_self: bool,
) -> tuple[Clouds, Clouds, Tensor | None]:
    clouds = as_clouds(points, segments, "points", "segments")
    if queries is None:
        if query_segments is not None:
            raise ValueError("`query_segments` needs `queries`.")
        own = torch.arange(clouds.points.size(0), device=clouds.points.device)
        return clouds, clouds, own if exclude_self else None
    if exclude_self:
        raise ValueError("`exclude_self` needs queries=None: other queries are not points.")
    asked = as_clouds(queries, query_segments, "queries", "query_segments")
    check_same_clouds(clouds, asked)
    return clouds, asked, None


def _unit(x: Tensor) -> Tensor:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise TypeError("`points` and `queries` must be floating point tensors.")
    x = x if x.dtype in (torch.float32, torch.float64) else x.float()
    return torch.nn.functional.normalize(x, dim=-1)


def _squared(distance: float, name: str) -> float:
    if isinstance(distance, bool) or not isinstance(distance, (int, float)):
        raise TypeError(f"`{name}` must be a number; got {type(distance).__name__}.")
    if not distance >= 0:
        raise ValueError(f"`{name}` must be >= 0; got {distance}.")
    return float(distance) ** 2


def _in_query_order(groups: Groups, asked: Clouds) -> Groups:
    """Bags in the order in which the queries came, where those had to be sorted by cloud."""
    if asked.perm is None:
        return groups
    # One sort by the query each bag belongs to; stable, so every bag keeps its own order.
    query = asked.perm[groups.segments.index]
    bags = Segments(index=query, num_segments=groups.segments.num_segments)
    return Groups(
        bags.bag_order(groups.index),
        Segments(ptr=bags.ptr),
        bags.bag_order(groups.squared_distance),
    )


def _at_most(groups: Groups, limit: int, order: str, generator: torch.Generator | None) -> Groups:
    bags = groups.segments
    count = groups.index.numel()
    places = torch.arange(count, device=groups.index.device)
    rank = places - bags.ptr[bags.index]
    if order == "random":
        device = places.device if generator is None else generator.device
        key = torch.rand(count, generator=generator, device=device).to(places.device)
        by_key = key.argsort(stable=True)
        shuffled = by_key[bags.index[by_key].argsort(stable=True)]
        rank = torch.empty_like(rank).scatter_(0, shuffled, rank)
    kept = rank < limit
    return Groups(
        groups.index[kept],
        Segments.from_counts(bags.counts.clamp_max(limit)),
        groups.squared_distance[kept],
    )
