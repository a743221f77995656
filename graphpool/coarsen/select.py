"""Which fine element belongs to which coarse one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from graphpool import _debug
from graphpool._arguments import as_count, as_indices, check_one_per
from graphpool.ops import distinct
from graphpool.segments import Segments


@dataclass(frozen=True, eq=False, repr=False)
class Selection:
    """Memberships: each says that a fine element belongs to a coarse one, and how much.

    Hard clusters have one membership per fine element and no weights. Edge collapses have several
    memberships per element, soft assignments weights. Make one by :meth:`from_cluster`,
    :meth:`from_memberships` or :meth:`from_assignment`; :func:`select` chooses among them.

    Args:
        coarse: The coarse element of each membership, ``M`` of them.
        fine: The fine element of each membership; ``None`` where membership ``m`` is that of element ``m``.
        weight: ``[M]``, at least 0; 1 if absent.
        batch: The graph (cloud, mesh) of each *coarse* element, where it is known.
        columns: ``K`` of a dense assignment, whose membership ``i K + k`` is that of element ``i`` and ``k``.

    Raises:
        ValueError: Sizes do not fit.

    Example:
        >>> Selection.from_cluster(torch.tensor([1, 0, 1]), num_coarse=2)
        Selection(num_fine=3, num_coarse=2, num_memberships=3)
    """

    coarse: Segments
    fine: Segments | None = None
    weight: Tensor | None = None
    batch: Segments | None = None
    columns: int | None = None

    def __post_init__(self) -> None:
        size = self.coarse.num_elements
        if self.fine is not None:
            check_one_per("membership", size, "fine", self.fine.num_elements)
        if self.weight is not None:
            check_one_per("membership", size, "weight", self.weight.shape)
        if self.batch is not None:
            check_one_per("coarse element", self.num_coarse, "batch", self.batch.num_elements)

    @classmethod
    def from_cluster(
        cls, cluster: Tensor, num_coarse: int | None = None, *, may_vanish: bool = False
    ) -> Selection:
        """Hard clusters: element ``i`` belongs to coarse element ``cluster[i]``.

        Args:
            cluster: ``[N]``, integers in any order.
            num_coarse: The number of coarse elements ``K``: clusters are rows in ``[0, K)``, and one that
                nobody belongs to is an empty coarse element. Without it, clusters are labels: every label
                that occurs is a coarse element, in ascending order, and gaps between labels close.
            may_vanish: Elements of cluster -1 belong nowhere; otherwise -1 is refused.

        Raises:
            TypeError: ``cluster`` does not hold integers.
            ValueError: It has another shape, or a cluster is out of range; the message says where.

        Example:
            >>> labels = torch.tensor([7, 2, 7])
            >>> Selection.from_cluster(labels).cluster
            tensor([1, 0, 1])
            >>> Selection.from_cluster(labels, num_coarse=8).num_coarse
            8
        """
        cluster = as_indices(cluster, "cluster", "an integer tensor [N]")
        if cluster.dim() != 1:
            raise ValueError(
                f"`cluster` of integers must have shape [N] (weights [N, K] are floating point); got "
                f"{tuple(cluster.shape)}."
            )
        limit = None if num_coarse is None else as_count(num_coarse, "num_coarse", least=0)
        fine = None
        if limit is None or may_vanish:
            _debug.refuse_vectorized(cluster, "cluster")
            low, high = map(int, cluster.aminmax()) if cluster.numel() else (0, -1)
            least, bound = -int(may_vanish), high + 1 if limit is None else limit
            if low < least or high >= bound:
                first = int(((cluster < least) | (cluster >= bound)).nonzero()[0])
                span = f"be at least {least}" if limit is None else f"lie in [{least}, {limit})"
                raise ValueError(
                    f"`cluster` must {span}; got {int(cluster[first])} at position {first}."
                )
            if may_vanish:
                kept = (cluster != -1).nonzero().squeeze(1)
                fine = Segments(index=kept, num_segments=cluster.numel(), is_sorted=True)
                cluster = cluster.index_select(0, kept)
            if limit is None:
                labels, cluster = distinct(cluster, bound)
                limit = labels.numel()
        return cls(Segments(index=cluster, num_segments=limit, name="cluster"), fine)

    @classmethod
    def from_memberships(
        cls,
        fine: Tensor,
        coarse: Tensor,
        num_fine: int,
        num_coarse: int,
        weight: Tensor | None = None,
    ) -> Selection:
        """Any number of memberships per element: ``fine[m]`` belongs to ``coarse[m]``, ``weight[m]`` times.

        Raises:
            ValueError: A number is out of range, or sizes do not fit.

        Example:
            >>> pairs = torch.tensor([[0, 1, 1, 2], [0, 0, 1, 1]])
            >>> reduced = graphpool.coarsen.reduce(
            ...     torch.tensor([[1.0], [2.0], [6.0]]), Selection.from_memberships(*pairs, 3, 2)
            ... )
            >>> reduced.flatten()
            tensor([1.5000, 4.0000])
        """
        return cls(
            Segments(index=coarse, num_segments=num_coarse, name="coarse"),
            Segments(index=fine, num_segments=num_fine, name="fine"),
            weight,
        )

    @classmethod
    def from_assignment(cls, assignment: Tensor, batch: Segments | None = None) -> Selection:
        r"""Soft clusters: element ``i`` belongs to coarse element ``k`` by the weight :math:`S_{ik} \ge 0`.

        Weights count as in every pool: ``"sum"`` gives :math:`S^\top X`, ``"mean"`` divides it by the sum of
        each column. Nothing is normalised; rows of a softmax sum to 1.

        Args:
            assignment: ``[N, K]``, floating point. Dense: each graph of ``batch`` has ``K`` coarse elements
                of its own, numbered graph by graph, ``b K + k``. Sparse (COO or CSR): ``K`` counts the
                coarse elements of all graphs, and what is not stored is no membership.
            batch: The graph of each fine element; one graph if ``None``.

        Raises:
            TypeError: ``assignment`` is no floating point tensor.
            ValueError: Its shape is wrong, or a weight is negative or not finite.
        """
        sparse = isinstance(assignment, Tensor) and assignment.layout != torch.strided
        if not isinstance(assignment, Tensor) or not assignment.is_floating_point():
            got = assignment.dtype if isinstance(assignment, Tensor) else type(assignment).__name__
            raise TypeError(f"`assignment` must be a floating point tensor [N, K]; got {got}.")
        if assignment.dim() != 2:
            raise ValueError(f"`assignment` must have shape [N, K]; got {tuple(assignment.shape)}.")
        (rows, columns), device = assignment.shape, assignment.device
        if sparse:
            stored = assignment.to_sparse_coo().coalesce()
            (fine, coarse), weight = stored.indices(), stored.values()
            bags, total = Segments(index=fine, num_segments=rows), columns
        else:
            weight = assignment.reshape(-1)
            bags = Segments.from_counts(torch.full((rows,), columns, device=device))
            first = 0 if batch is None else (batch.index * columns)[:, None]
            column = torch.arange(columns, device=device)
            coarse = (first + column).expand(rows, columns).reshape(-1)
            total = columns * (1 if batch is None else batch.num_segments)
        # What is vectorised cannot be looked at.
        if not _debug.is_vectorized(weight):
            values = weight.detach()
            bad = ~((values >= 0) & values.isfinite())
            if bool(bad.any()):
                m = int(bad.nonzero()[0])
                k = int(coarse[m]) if sparse else m % columns
                raise ValueError(
                    f"`assignment` must be finite and >= 0; got {float(weight[m])} in row "
                    f"{int(bags.index[m])}, column {k}."
                )
        graphs = None
        if not sparse and batch is not None:
            counts = torch.full((batch.num_segments,), columns, device=device)
            graphs = Segments.from_counts(counts)
        selection = cls(Segments(index=coarse, num_segments=total), bags, weight, graphs)
        return selection if sparse else replace(selection, columns=columns)

    def held_tensors(self) -> list[Tensor | Segments]:
        return [part for part in (self.coarse, self.fine, self.weight) if part is not None]

    @property
    def num_fine(self) -> int:
        """The number of fine elements."""
        return self.coarse.num_elements if self.fine is None else self.fine.num_segments

    @property
    def num_coarse(self) -> int:
        """The number of coarse elements."""
        return self.coarse.num_segments

    @property
    def rows(self) -> Tensor:
        """``[M]``, the fine element of each membership."""
        if self.fine is not None:
            return self.fine.index
        return torch.arange(self.num_fine, device=self.coarse.device)

    @property
    def cluster(self) -> Tensor:
        """``[N]``, the coarse element of each fine one, -1 where it has none.

        Raises:
            ValueError: Memberships have weights, or an element has several.
        """
        several = self.fine is not None and bool((self.fine.counts > 1).any())
        if several or self.weight is not None:
            raise ValueError(f"{self!r} is no cluster vector: read its memberships.")
        if self.fine is None:
            return self.coarse.index
        vanished = torch.full((self.num_fine,), -1, device=self.coarse.device)
        return vanished.index_copy(0, self.rows, self.coarse.index)

    def transposed(self) -> Selection:
        """The same memberships, coarse to fine."""
        fine = self.fine or Segments(index=self.rows, num_segments=self.num_fine, is_sorted=True)
        return Selection(fine, self.coarse, self.weight)

    def with_batch(self, batch: Segments) -> Selection:
        """The same, with the graph of each coarse element, which is that of its members.

        Args:
            batch: The graph of each *fine* element.

        Raises:
            ValueError: A coarse element has members of two graphs, or none, so that it lies in no graph.
        """
        _debug.refuse_vectorized(self.coarse, "cluster")
        check_one_per("fine element", self.num_fine, "batch", batch.num_elements)
        if self.batch is not None:
            graph = self.batch.index
        else:
            graph = torch.zeros(self.num_coarse, dtype=torch.long, device=self.coarse.device)
            graph.index_copy_(0, self.coarse.index, batch.index.index_select(0, self.rows))
            if batch.num_segments != 1 and bool((self.coarse.counts == 0).any()):
                empty = int((self.coarse.counts == 0).nonzero()[0])
                raise ValueError(
                    f"Coarse element {empty} is empty, so it lies in no graph of `batch`. Leave the "
                    "number of clusters out to close such gaps."
                )
        mine = batch.index.index_select(0, self.rows)
        other = (graph.index_select(0, self.coarse.index) != mine).nonzero()
        if other.numel():
            m = int(other[0])
            k = int(self.coarse.index[m])
            raise ValueError(
                f"Coarse element {k} has members of graphs {int(mine[m])} and {int(graph[k])} of "
                "`batch`: clusters of different graphs must be told apart, for instance by "
                "`cluster + batch * K` with K clusters per graph."
            )
        return replace(self, batch=Segments(index=graph, num_segments=batch.num_segments))

    def to(self, device: torch.device | str) -> Selection:
        """The same memberships on another device."""
        return replace(
            self,
            coarse=self.coarse.to(device),
            fine=None if self.fine is None else self.fine.to(device),
            weight=None if self.weight is None else self.weight.to(device),
            batch=None if self.batch is None else self.batch.to(device),
        )

    def __repr__(self) -> str:
        weighted = "" if self.weight is None else ", weighted"
        return (
            f"Selection(num_fine={self.num_fine}, num_coarse={self.num_coarse}, "
            f"num_memberships={self.coarse.num_elements}{weighted})"
        )


class Selected(NamedTuple):
    """What a selector gives.

    Attributes:
        selection: Which node belongs to which coarse one.
        score: ``[M]``, a factor of the features of each membership before they are pooled: through it a
            selector learns that is no soft assignment. It may be negative.
        edges: Edges ``[2, E']`` of the coarse graph and their weights ``[E']`` or ``None``, where the
            selector makes them; otherwise they are those of :func:`~graphpool.coarsen.connect`.
        loss: Losses by name that are to be added to that of the task.
    """

    selection: Selection
    score: Tensor | None = None
    edges: tuple[Tensor, Tensor | None] | None = None
    loss: dict[str, Tensor] | None = None


def select(cluster: Any, num_coarse: int | None = None, batch: Segments | None = None) -> Selection:
    """A :class:`Selection` from whatever says who belongs where.

    Args:
        cluster: Integers ``[N]`` (:meth:`Selection.from_cluster`), floating point numbers ``[N, K]``, dense
            or sparse (:meth:`Selection.from_assignment`), or a :class:`Selection`.
        num_coarse: The number of clusters of a cluster vector.
        batch: The graph of each fine element.

    Raises:
        TypeError: ``cluster`` is none of these.
        ValueError: A value or size does not fit; a coarse element lies in two graphs.

    Example:
        >>> select(torch.softmax(torch.zeros(5, 2), dim=1))
        Selection(num_fine=5, num_coarse=2, num_memberships=10, weighted)
    """
    if batch is not None and isinstance(cluster, (Tensor, Selection)):
        given = cluster.num_fine if isinstance(cluster, Selection) else len(cluster)
        check_one_per("fine element", batch.num_elements, "cluster", given)
    hard = isinstance(cluster, Tensor) and not cluster.is_floating_point()
    if num_coarse is not None and not hard:
        raise ValueError("`num_coarse` goes with a cluster vector; here `cluster` says it itself.")
    if isinstance(cluster, Selection):
        selection = cluster
    elif hard:
        selection = Selection.from_cluster(cluster, num_coarse)
    elif isinstance(cluster, Tensor) and cluster.dim() == 2:
        selection = Selection.from_assignment(cluster, batch)
    else:
        got = tuple(cluster.shape) if isinstance(cluster, Tensor) else type(cluster).__name__
        raise TypeError(
            "`cluster` must be integers [N], floating point weights [N, K] or a Selection; "
            f"got {got}."
        )
    return selection if batch is None else selection.with_batch(batch)
