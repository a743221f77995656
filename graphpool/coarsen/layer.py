"""Select, reduce and connect as one layer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from graphpool import ops
from graphpool._recorded import savable
from graphpool.aggr.pyg import pooled_width
from graphpool.aggr.registry import resolve_pool
from graphpool.coarsen.connect import connect
from graphpool.coarsen.contract import Coarsened, contract
from graphpool.coarsen.reduce import reduce
from graphpool.coarsen.select import Selected, Selection, select
from graphpool.coarsen.selectors import resolve_selector
from graphpool.nn import reset
from graphpool.segments import Segments, graph_segments


@savable
class Coarsening(nn.Module):
    r"""Makes a graph smaller between two layers of message passing.

    .. math::
        S, s = \mathrm{select}(X, A), \quad
        x'_k = \mathrm{pool}\{ s_i x_i : i \in k \}, \quad
        A' = S^\top A S \text{ without loops}

    The pool is any, weighted by :math:`S` where that is a soft assignment; ``s`` is 1 where the selector
    has no scores. Graphs of a batch do not see each other.

    Args:
        channels: Width of the nodes.
        select: What chooses: a name, a pooler of torch-geometric-pool or a module; see
            :func:`graphpool.coarsen.resolve_selector`.
        pool: Reduces the nodes of a cluster: whatever :func:`graphpool.aggr.resolve` takes.
        edge_pool: Reduces the features of edges that become one, likewise; width is kept.
        edge_dim: Width of the edge features, if there are any.
        select_kwargs: Arguments of the selector, where it is named.

    Attributes:
        out_channels: Width of the coarse nodes.

    Raises:
        ValueError: An argument is not one of those above; the message names it.

    Example:
        >>> from graphpool.coarsen import Coarsening
        >>> layer = Coarsening(8, "kmis", pool="softmax")
        >>> ring = torch.stack([torch.arange(6), (torch.arange(6) + 1) % 6])
        >>> coarse = layer(torch.randn(6, 8), ring)
        >>> coarse.x.size(0) in (2, 3), coarse.lift(coarse.x).shape
        (True, torch.Size([6, 8]))
    """

    def __init__(
        self,
        channels: int,
        select: Any = "topk",
        pool: Any = "mean",
        edge_pool: Any = "mean",
        edge_dim: int | None = None,
        select_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.select = resolve_selector(select, channels, **(select_kwargs or {}))
        self.pool = resolve_pool(pool, channels)
        self.out_channels = pooled_width(self.pool, channels)
        self.edge_pool: nn.Module | None = None
        if edge_dim is not None:
            self.edge_pool = resolve_pool(edge_pool, edge_dim)
            if (width := pooled_width(self.edge_pool, edge_dim)) != edge_dim:
                raise ValueError(
                    f"`edge_pool` must keep the {edge_dim} channels of the edges; got {width}."
                )

    def reset_parameters(self) -> None:
        reset(*self.children())

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        batch: Tensor | Segments | None = None,
        batch_size: int | None = None,
        edge_attr: Tensor | None = None,
        edge_weight: Tensor | None = None,
    ) -> Coarsened:
        """The coarse graph.

        Args:
            x: ``[N, channels]``.
            edge_index: ``[2, E]``.
            batch: The graph of each node, ``[N]`` or :class:`~graphpool.Segments`; one graph if absent.
            batch_size: The number of graphs, required with a tensor ``batch``.
            edge_attr: ``[E, edge_dim]``, exactly if the layer was made for them.
            edge_weight: ``[E]``: how often an edge counts. Weights of edges that become one add up.

        Returns:
            :class:`~graphpool.coarsen.Coarsened`, with ``edge_weight`` where there were weights, or the
            assignment is soft.
        """
        if (edge_attr is None) != (self.edge_pool is None):
            raise ValueError(
                "`edge_attr` must be given exactly if the layer was made with `edge_dim`; got "
                f"{'none' if edge_attr is None else tuple(edge_attr.shape)}."
            )
        graphs = graph_segments(batch, batch_size, x.size(0), x.device)
        found = self.select(x, edge_index, graphs, edge_weight)
        if not isinstance(found, Selected):
            found = Selected(select(found, batch=graphs))
        selection = found.selection
        if selection.batch is None:
            selection = selection.with_batch(graphs)
        members, bags = x, selection
        if found.score is not None:
            members = x.index_select(0, selection.rows) * found.score[:, None]
            bags = Selection(selection.coarse, None, selection.weight)
        coarse = Coarsened(reduce(members, bags, self.pool), selection, loss=found.loss)
        if edge_attr is None and found.edges is not None:
            return coarse._replace(edge_index=found.edges[0], edge_weight=found.edges[1])
        if edge_attr is None:
            joined = contract(x, edge_index, selection, "sum", edge_attr=edge_weight)
            return coarse._replace(
                edge_index=joined.edge_index, edge_weight=joined.edge_attr, edges=joined.edges
            )
        edge_index, edges = connect(edge_index, selection)
        if edge_weight is not None:
            weight = edge_weight.index_select(0, edges.rows)
            edges = replace(edges, weight=weight if edges.weight is None else weight * edges.weight)
        total = None
        if edges.weight is not None:
            total = ops.segment_sum(edges.weight[:, None], edges.coarse).squeeze(1)
        attributes = reduce(edge_attr, edges, self.edge_pool)
        return coarse._replace(
            edge_index=edge_index, edge_attr=attributes, edge_weight=total, edges=edges
        )
