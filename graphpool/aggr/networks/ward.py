"""Pooling of bags to smaller bags by hierarchical clustering."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphpool import _debug
from graphpool._arguments import as_count, check_at_least
from graphpool.aggr.base import Aggregation
from graphpool.aggr.registry import register
from graphpool.aggr.statistics.kmax import repeat_elements
from graphpool.ops import check_elements, segment_mean
from graphpool.segments import Segments

_Rows = NDArray[np.float64]


@register("ward")
class WardPool(Aggregation):
    r"""Merges the elements of each bag into clusters, and gives the mean of each cluster.

    Ward's method stops at :math:`\max(1, \lfloor n_s / f \rfloor)` clusters. A bag becomes a smaller bag,
    so what comes out is ragged: ``(values, Segments)``. Rows of a bag are in lexicographic order, so that
    they do not depend on the order of the elements. Gradients flow through the means; the clustering is
    taken as given. Time and memory grow with the square of a bag.

    Clavié, Chaffin, Adams, "Reducing the footprint of multi-vector retrieval with minimal performance
    impact via token pooling", 2024 (with ``protect=1``, on vectors of unit length).

    Args:
        channels: See :class:`Aggregation`.
        factor: Reduction factor ``f``, at least 1; 1 keeps all elements.
        protect: The first so many elements of each bag are kept as they are, and come last. This makes the
            result depend on the order of the elements.
        released: Cluster the rows of the matrix of cosine distances, as the released code does, instead of
            the elements themselves.

    Raises:
        ValueError: An argument is out of range; or weights are given that are not whole numbers.

    Example:
        >>> from graphpool import aggr
        >>> x = torch.tensor([[0.0], [9.0], [0.2], [9.4]])
        >>> values, bags = aggr.WardPool(factor=2)(x)
        >>> values.T, bags.counts
        (tensor([[0.1000, 9.2000]]), tensor([2]))
    """

    multiplicity_aware = True
    ragged = True
    whole_bag = "it clusters the elements by the distances of all pairs"
    complexity = "n^2 C for each bag of n"
    exempt = {
        "transforms": "the clustering runs in SciPy, one after the other: torch.vmap is refused by name",
        "compile": "the clustering runs in SciPy, and the number of rows depends on the data",
        "duplicates": "ragged results cannot be concatenated",
        "ndim": "rows of a ragged result lie on the pooled dimension, not on a dimension of bags",
        "ties": "of equal elements some must part when there are to be more clusters than values",
    }

    def __init__(
        self,
        channels: int | None = None,
        *,
        factor: float = 2.0,
        protect: int = 0,
        released: bool = False,
    ) -> None:
        super().__init__(channels)
        check_at_least(factor, "factor", 1)
        self.factor = float(factor)
        self.protect = as_count(protect, "protect", least=0)
        self.released = released

    @_debug.on_values
    @torch.no_grad()
    def clusters(self, x: Tensor, segments: Segments) -> tuple[Tensor, Segments]:
        """The cluster of each element ``[E, C]``, ``[E]``, and the bags of the clusters.

        Clusters are numbered bag by bag, so that cluster ``k`` lies in bag ``bags.index[k]``.
        """
        order = torch.arange(x.size(0)) if segments.perm is None else segments.perm.cpu()
        rows = x.detach().cpu().double().numpy()[order.numpy()]
        bounds = segments.ptr.tolist()
        labels, counts, start = [], [], 0
        for first, last in zip(bounds[:-1], bounds[1:], strict=True):
            found, number = self._cluster(rows[first:last])
            labels.append(found + start)
            counts.append(number)
            start += number
        index = torch.empty(x.size(0), dtype=torch.long)
        if labels:
            index[order] = torch.from_numpy(np.concatenate(labels))
        kept = Segments.from_counts(torch.tensor(counts, dtype=torch.long))
        return index.to(x.device), kept.to(x.device)

    def _cluster(self, rows: _Rows) -> tuple[NDArray[np.int64], int]:
        free = rows[self.protect :]
        number = max(1, int(len(free) / self.factor)) if len(free) else 0
        labels = _cut(free, number, self.released)
        labels = _in_lexicographic_order(free, labels, number)
        protected = np.arange(len(rows) - len(free), dtype=np.int64) + number
        return np.concatenate([protected, labels]), number + len(protected)

    def pool(
        self, x: Tensor, segments: Segments, weight: Tensor | None = None
    ) -> tuple[Tensor, Segments]:
        check_elements(x, segments, weight)
        if weight is not None:
            x, segments = repeat_elements(x, segments, weight)
        cluster, kept = self.clusters(x.flatten(1), segments)
        return segment_mean(x, Segments(index=cluster, num_segments=kept.num_elements)), kept


def _cut(rows: _Rows, number: int, released: bool) -> NDArray[np.int64]:
    """The cluster of each row when Ward's method stops at ``number`` clusters, exactly."""
    # Imported here, because it takes as long as all the rest of the library together.
    from scipy.cluster.hierarchy import linkage

    size = len(rows)
    if number == size:
        return np.arange(size, dtype=np.int64)
    if not np.isfinite(rows).all():
        # Nothing is near to what is nowhere: such bags form one cluster, which is not finite.
        return np.minimum(np.arange(size), number - 1)
    if released:
        unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        rows = 1 - unit @ unit.T
    merges = linkage(rows, method="ward")[: size - number, :2].astype(np.int64)
    parent = np.arange(2 * size - 1)
    for step, (a, b) in enumerate(merges):
        parent[a] = parent[b] = size + step
    # Parents have higher numbers: from the top down, everyone finds the root.
    for node in range(size + len(merges) - 1, -1, -1):
        parent[node] = parent[parent[node]]
    return np.unique(parent[:size], return_inverse=True)[1].astype(np.int64)


def _in_lexicographic_order(
    rows: _Rows, labels: NDArray[np.int64], number: int
) -> NDArray[np.int64]:
    """The same clusters, numbered by their means."""
    if number < 2:
        return labels
    sums = np.zeros((number, rows.shape[1]))
    np.add.at(sums, labels, rows)
    means = sums / np.bincount(labels, minlength=number)[:, None]
    rank = np.empty(number, dtype=np.int64)
    rank[np.lexsort(means.T[::-1])] = np.arange(number)
    return rank[labels]
