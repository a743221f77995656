"""k nearest neighbours and neighbours within a radius."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from graphpool import _debug
from graphpool._arguments import as_count, check_at_least, check_one_of
from graphpool.ops.neighbors import dense, paths, trees
from graphpool.ops.neighbors.clouds import (
    Clouds,
    as_clouds,
    check_same_clouds,
    unit_vectors,
)
from graphpool.ops.neighbors.units import as_measured, comparable, squared_limit
from graphpool.segments import Segments

_METRICS = ("euclidean", "cosine")
_LAST = torch.iinfo(torch.long).max
_ORDERS = ("nearest", "random")


class Neighbors(NamedTuple):
    """The answer of :func:`knn`.

    Args:
        index: ``[M, k]`` positions of the neighbours, ascending by distance, ties by position; -1 where
            a cloud has no more points.
        squared_distance: ``[M, k]``; infinite where there is no neighbour. With ``metric="cosine"`` it
            is ``1 - cosine``, in [0, 2]. Below the smallest number of its dtype (distances of 1e-22 in
            float32, 1e-162 in float64) it rounds to 0; the ranks are right there, too.
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

    Exact for any number of coordinates: the answer is that of all squared distances, summed in the order
    of the coordinates in their own precision, and sorted. The unit of length does not matter: where
    squares would underflow they are computed in another one, or in float64, where float32 has no unit that
    holds all coordinates (from 1e-30 to 1, say). A query in a cloud of fewer than ``k`` points
    gets all of them and then -1 / inf; never fewer columns.

    Args:
        points: ``[N, D]``, floating point, finite.
        k: Number of neighbours, >= 1.
        queries: ``[M, D]``; the points themselves if ``None``.
        segments: The cloud of each point, in any order; one cloud if ``None``.
        query_segments: The cloud of each query, with the same number of clouds.
        exclude_self: With ``queries=None``: a point is not its own neighbour. It is left out by its
            position, so that a duplicate of it stays.
        dilation: Every ``dilation``-th of the ``k * dilation`` nearest, from the nearest on.
        max_distance: Farther points do not count; rounded to the dtype of the points, so that 0.1 is
            the 0.1 of the coordinates. Only for ``metric="euclidean"``.
        metric: ``"euclidean"`` or ``"cosine"``. A vector of zeros has cosine 0 with every vector, itself
            included; any other vector, however short, has the direction of its entries. Cosines are
            compared in float64: multiples of a vector tie, other cosines that agree within 1e-15 may be
            ranked either way.

    Returns:
        :class:`Neighbors` ``(index, squared_distance)``, without gradient. The distances are those of
        the coordinates in their own precision; half precision is computed in float32.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A coordinate is not finite, sizes do not fit, an argument is out of range, or float64
            has no unit for coordinates as different as these (from 1e-289 to 1, say).

    Example:
        >>> points = torch.tensor([[0.0], [1.0], [3.0]])
        >>> index, squared_distance = knn(points, k=2, exclude_self=True)
        >>> index.tolist(), squared_distance.tolist()
        ([[1, 2], [0, 2], [1, 0]], [[1.0, 9.0], [1.0, 4.0], [4.0, 9.0]])
    """
    k = as_count(k, "k")
    dilation = as_count(dilation, "dilation")
    _check_self(queries, exclude_self)
    check_one_of(metric, "metric", _METRICS)
    if metric == "cosine":
        if max_distance != math.inf:
            raise ValueError("`max_distance` needs metric='euclidean'.")
        found = _by_cosine(points, k * dilation, queries, segments, query_segments, exclude_self)
    else:
        _check_distance(max_distance, "max_distance")
        found = search(
            points, k * dilation, queries, segments, query_segments, exclude_self, max_distance
        )
    index, squared = found
    if dilation > 1:
        index, squared = index[:, ::dilation].contiguous(), squared[:, ::dilation].contiguous()
    return Neighbors(index, squared)


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
    k = as_count(k, "k")
    index, squared = knn(
        points, min(k, largest_cloud(points, segments)), queries, segments, query_segments,
        exclude_self=exclude_self, dilation=dilation, max_distance=max_distance, metric=metric,
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
        r: The radius, >= 0; rounded to the dtype of the points, so that 0.1 is the 0.1 of the
            coordinates.
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
    check_one_of(order, "order", _ORDERS)
    if max_neighbors is not None:
        max_neighbors = as_count(max_neighbors, "max_neighbors")
    _check_self(queries, exclude_self)
    _check_distance(r, "r")
    if max_neighbors is not None and order == "nearest" and inclusive:
        k = min(max_neighbors, largest_cloud(points, segments))
        return dense_groups(*search(points, k, queries, segments, query_segments, exclude_self, r))
    clouds, asked, exclude, lift = _prepare(points, queries, segments, query_segments, exclude_self)
    limit = squared_limit(r, points, clouds, lift)
    if trees.trees_serve(clouds.points):
        offsets, index, squared = trees.within(
            clouds, asked, limit, inclusive, exclude, queries is None
        )
    elif paths.on_triton("radius", clouds.points):
        offsets, index, squared = paths.kernels().within(
            clouds, asked, limit, inclusive, exclude, queries is None
        )
    else:
        offsets, index, squared = dense.within(clouds, asked, limit, inclusive, exclude)
    squared = as_measured(squared, lift, points)
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
    distance: float = math.inf,
    ascending: bool = True,
    in_own_unit: bool = False,
) -> tuple[Tensor, Tensor]:
    """The search behind :func:`knn`, up to a ``distance``. ``ascending=False`` may leave the ``k`` nearest
    in any order; ``in_own_unit`` leaves their squared distances in the unit and precision in which they
    were compared, the same for all.

    With ``exclude_self`` the queries, where they are given, are other vectors for the same points.
    """
    clouds, asked, exclude, lift = _prepare(points, queries, segments, query_segments, exclude_self)
    limit = squared_limit(distance, points, clouds, lift)
    if trees.trees_serve(clouds.points):
        index, squared = trees.knn(clouds, asked, k, exclude, limit, ascending, queries is None)
    elif paths.on_triton("knn", clouds.points, k):
        index, squared = paths.kernels().knn(clouds, asked, k, exclude, limit, queries is None)
    else:
        index, squared = dense.knn(clouds, asked, k, exclude, limit)
    index = clouds.original(index)
    if asked.perm is not None:
        back = torch.empty_like(asked.perm)
        back[asked.perm] = torch.arange(back.numel(), device=back.device)
        index, squared = index[back], squared[back]
    return index, squared if in_own_unit else as_measured(squared, lift, points)


def _prepare(
    points: Tensor,
    queries: Tensor | None,
    segments: Segments | None,
    query_segments: Segments | None,
    exclude_self: bool,
) -> tuple[Clouds, Clouds, Tensor | None, int]:
    """Points and queries in a unit that can compare them, whom each query leaves out, and the unit."""
    clouds = as_clouds(points, segments, "points", "segments")
    if queries is None:
        if query_segments is not None:
            raise ValueError("`query_segments` needs `queries`.")
        asked = clouds
    else:
        asked = as_clouds(queries, query_segments, "queries", "query_segments")
        check_same_clouds(clouds, asked)
    (clouds, asked), lift = comparable(clouds, asked)
    own = torch.arange(len(clouds.points), device=clouds.points.device) if exclude_self else None
    return clouds, asked, own, lift


def _check_self(queries: Tensor | None, exclude_self: bool) -> None:
    if exclude_self and queries is not None:
        raise ValueError("`exclude_self` needs queries=None: other queries are not points.")


def _by_cosine(
    points: Tensor,
    k: int,
    queries: Tensor | None,
    segments: Segments | None,
    query_segments: Segments | None,
    exclude_self: bool,
) -> tuple[Tensor, Tensor]:
    """:func:`search` among unit vectors, half of whose squared distance is ``1 - cosine``."""
    places = _without_traces(unit_vectors(points, "points"))
    asked = None if queries is None else _without_traces(unit_vectors(queries, "queries"))
    zero = ~places.any(1)
    zero_query = zero if asked is None else ~asked.any(1)
    if bool(zero.any() | zero_query.any()):
        # At a right angle to all others, and those among the points to those among the queries.
        asked, query_segments = (places, segments) if asked is None else (asked, query_segments)
        places = torch.cat([places, zero[:, None], torch.zeros_like(zero[:, None])], 1)
        asked = torch.cat([asked, torch.zeros_like(zero_query[:, None]), zero_query[:, None]], 1)
    index, squared = search(places, k, asked, segments, query_segments, exclude_self)
    found = index >= 0
    distance = (squared / 2).clamp_max(2).masked_fill(~found, math.inf)
    if bool(zero.any() | zero_query.any()):
        apart = found & (zero[index.clamp_min(0)] | zero_query[:, None])
        distance = distance.masked_fill(apart, 1.0)
    if points.dtype == torch.float64:
        return index, distance
    # Rounding makes ties of what was ranked.
    index, order = index.masked_fill(~found, _LAST).sort(dim=1)
    distance, again = distance.float().gather(1, order).sort(dim=1, stable=True)
    index = index.gather(1, again)
    return index.masked_fill(index == _LAST, -1), distance


def _without_traces(unit: Tensor) -> Tensor:
    """Entries that no cosine can feel would only make the squares of their differences underflow."""
    return unit.masked_fill(unit.abs() < 1e-100, 0.0)


def largest_cloud(points: Tensor, segments: Segments | None) -> int:
    """No query has more neighbours than this, but for an answer at least one column is asked for."""
    if isinstance(segments, Segments):
        return max(int(segments.counts.max()) if segments.num_segments else 0, 1)
    return max(len(points), 1) if isinstance(points, Tensor) and points.dim() else 1


def _check_distance(distance: float, name: str) -> None:
    if isinstance(distance, bool) or not isinstance(distance, (int, float)):
        raise TypeError(f"`{name}` must be a number; got {type(distance).__name__}.")
    check_at_least(distance, name, 0)


def _in_query_order(groups: Groups, asked: Clouds) -> Groups:
    """Bags in the order in which the queries came, where those had to be sorted by cloud."""
    if asked.perm is None:
        return groups
    # One sort by the query each bag belongs to; stable, so every bag keeps its own order.
    query = asked.perm[groups.segments.index]
    bags = Segments(index=query, num_segments=groups.segments.num_segments)
    return Groups(
        bags.sort_elements(groups.index),
        Segments(ptr=bags.ptr),
        bags.sort_elements(groups.squared_distance),
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
