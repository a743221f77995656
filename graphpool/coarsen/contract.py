"""A graph contracted by its clusters, in one call."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from graphpool import _debug
from graphpool.coarsen.connect import connect, connect_by_products
from graphpool.coarsen.lift import lift
from graphpool.coarsen.reduce import reduce
from graphpool.coarsen.select import Selection, select
from graphpool.segments import Segments, graph_segments


class Coarsened(NamedTuple):
    """What a coarsening gives, be it of a graph, a cloud or a mesh.

    Attributes:
        x: Features of the coarse elements ``[K, C']``.
        selection: Which fine element belongs to which coarse one.
        edge_index: ``[2, E']``, the edges between coarse elements; ``None`` where there are none to speak of.
        edge_attr: Their features.
        edges: Which fine edge belongs to which coarse one; ``None`` where it was not asked, because edges
            come from a product of matrices (a dense assignment, ``edge_pool="sum"``, no or finite
            one-dimensional ``edge_attr``, not vectorised by ``torch.vmap``).
            :func:`~graphpool.coarsen.connect` tells it there, too.
        edge_weight: ``[E']``, where a :class:`~graphpool.coarsen.Coarsening` says how often an edge counts.
        loss: Losses of a learned selection, by name, to be added to that of the task.
    """

    x: Tensor
    selection: Selection
    edge_index: Tensor | None = None
    edge_attr: Tensor | None = None
    edges: Selection | None = None
    edge_weight: Tensor | None = None
    loss: dict[str, Tensor] | None = None

    @property
    def batch(self) -> Segments | None:
        """The graph of each coarse element."""
        return self.selection.batch

    def lift(self, values: Tensor, pool: Any = "mean", fill: Tensor | None = None) -> Tensor:
        """Leads values of the coarse elements back to the fine ones: :func:`graphpool.coarsen.lift`."""
        return lift(values, self.selection, pool, fill)


def contract(
    x: Tensor,
    edge_index: Tensor,
    cluster: Tensor | Selection,
    pool: Any = "mean",
    *,
    edge_attr: Tensor | None = None,
    edge_pool: Any = "sum",
    batch: Tensor | Segments | None = None,
    batch_size: int | None = None,
    num_clusters: int | None = None,
    directed: bool = True,
    self_loops: bool = False,
    max_memberships: int = 50_000_000,
) -> Coarsened:
    r"""Contracts a graph: the nodes of each cluster become one.

    With a soft assignment :math:`S` features are pooled by its weights, and edges are those of
    :math:`S^\top A S`, sparse (``edge_pool="sum"``).

    Args:
        x: ``[N, C]``, features of the nodes.
        edge_index: ``[2, E]``.
        cluster: The cluster of each node ``[N]``, weights ``[N, K]`` dense or sparse, or a
            :class:`~graphpool.coarsen.Selection`; see :func:`~graphpool.coarsen.select`. A dense assignment
            has ``K`` clusters for each graph of ``batch``.
        pool: Reduces the nodes of a cluster: whatever :func:`graphpool.aggr.resolve` takes, as a module if
            it has parameters.
        edge_attr: ``[E]`` or ``[E, D]``, weights or features of the edges. If absent, none come out of a
            hard contraction, and every edge weighs 1 in a soft one.
        edge_pool: Reduces the edges that become one, likewise.
        batch: The graph of each node, ``[N]`` or :class:`~graphpool.Segments`; one graph if absent.
        batch_size: The number of graphs, required with a tensor ``batch``.
        num_clusters: The number of clusters of a cluster vector. Given, cluster ``k`` is row ``k`` of the
            result, and may be empty; otherwise gaps between cluster numbers close.
        directed: See :func:`~graphpool.coarsen.connect`.
        self_loops: See :func:`~graphpool.coarsen.connect`.
        max_memberships: See :func:`~graphpool.coarsen.connect`.

    Returns:
        :class:`Coarsened`; its ``lift`` leads back.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A value or size does not fit; a cluster lies in two graphs; a pool cannot serve, see
            :func:`~graphpool.coarsen.reduce`.

    Example:
        >>> from graphpool.coarsen import contract
        >>> x = torch.tensor([[1.0], [3.0], [5.0], [9.0]])
        >>> path = torch.tensor([[0, 1, 2], [1, 2, 3]])
        >>> coarse = contract(x, path, torch.tensor([0, 0, 1, 1]), "max")
        >>> coarse.x.flatten().tolist(), coarse.edge_index.tolist()
        ([3.0, 9.0], [[0], [1]])
        >>> coarse.lift(coarse.x).flatten().tolist()
        [3.0, 3.0, 9.0, 9.0]
    """
    if not isinstance(x, Tensor) or x.dim() == 0:
        raise TypeError(
            f"`x` must be a tensor [N, C]; got {x if isinstance(x, Tensor) else type(x)}."
        )
    _debug.refuse_vectorized(edge_index, "edge_index")
    _debug.refuse_vectorized(cluster, "cluster")
    told = isinstance(cluster, Selection) and cluster.batch is not None
    graphs = None
    if batch is not None or batch_size is not None or not told:
        graphs = graph_segments(batch, batch_size, x.size(0), x.device)
    selection = select(cluster, num_clusters, graphs)
    kinds: dict[str, bool] = {"directed": directed, "self_loops": self_loops}
    if edge_attr is not None and not isinstance(edge_attr, Tensor):
        raise TypeError(f"`edge_attr` must be a tensor; got {type(edge_attr).__name__}.")
    if selection.columns is not None and edge_pool == "sum" and _spread_nothing(edge_attr):
        edge_index, edge_attr = connect_by_products(edge_index, selection, edge_attr, **kinds)
        return Coarsened(reduce(x, selection, pool), selection, edge_index, edge_attr)
    joined = connect(edge_index, selection, max_memberships=max_memberships, **kinds)
    edges = joined.selection
    if edge_attr is None and edges.weight is not None:
        edge_attr = edges.weight.new_ones(edges.num_fine)
    if edge_attr is not None:
        if edge_attr.shape[:1] != (edges.num_fine,):
            raise ValueError(
                f"`edge_attr` must have one row per edge, {edges.num_fine}; got "
                f"{tuple(edge_attr.shape)}."
            )
        edge_attr = reduce(edge_attr, edges, edge_pool)
    return Coarsened(reduce(x, selection, pool), selection, joined.edge_index, edge_attr, edges)


def _spread_nothing(weight: Tensor | None) -> bool:
    """Whether edges weigh something finite: a product of matrices would spread an infinity or a NaN over the
    whole graph. Of what is vectorised it is not known."""
    if weight is None or weight.dim() != 1 or _debug.is_vectorized(weight):
        return weight is None
    return bool(weight.isfinite().all())
