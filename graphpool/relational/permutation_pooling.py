"""Relational pooling: averaging a network that sees the order of the nodes over orders."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from graphpool import _debug
from graphpool._arguments import check_at_least, check_one_of
from graphpool.aggr import Aggregation
from graphpool.aggr.pyg import Deferred
from graphpool.ragged import ragged_arange
from graphpool.relational.copies import induced_edges, whole_copies
from graphpool.relational.copy_pooling import (
    CopyPooling,
    CopyUnion,
    Plan,
    check_node_features,
    weighted_pool,
)
from graphpool.relational.graphs import GraphBatch
from graphpool.relational.orders import ORDERS, all_orders, draw_orders
from graphpool.relational.rectangular import Slices
from graphpool.segments import Segments


class OrderPlan(Plan):
    """Copies of a batch with numbered nodes.

    Args:
        graphs: The batch.
        place: Place of every node in every order ``[N, S]``.
        counts: Orders of each graph ``[B]``, at most S.
        id_dim: Number of different ids.
        arity: Keep only the first nodes of every order; ``None`` for all.
        times: For how many orders each of a graph's stands ``[B]``; ``None`` for one.
    """

    def __init__(
        self,
        graphs: GraphBatch,
        place: Tensor,
        counts: Tensor,
        id_dim: int,
        arity: int | None,
        times: Tensor | None = None,
    ) -> None:
        self.graphs, self.place, self.id_dim = graphs, place, id_dim
        self.graph, self.order = ragged_arange(counts)
        self.weight = None if times is None else times[self.graph]
        largest = int(graphs.counts.max()) if graphs.num_graphs else 0
        self.arity = None if arity is None or arity >= largest else arity

    @property
    def fits_rectangle(self) -> bool:
        return self.arity is None

    def _with_ids(self, x: Tensor, place: Tensor) -> Tensor:
        ids = nn.functional.one_hot(place % self.id_dim, self.id_dim)
        return torch.cat([x, ids.to(x.dtype)], dim=-1)

    @torch.compiler.disable
    def union(self, x: Tensor, rows: slice, roots: bool) -> CopyUnion:
        node, copy, place, edge_index, edge_id = self._consecutive_copies(rows)
        features = self._with_ids(x.index_select(0, node), place)
        return CopyUnion(features, node, copy, edge_index, edge_id, self.graph[rows].numel())

    @_debug.on_values
    def _consecutive_copies(self, rows: slice) -> tuple[Tensor, ...]:
        """Node, copy and place of each row, edges, and which edges of the batch they are."""
        graphs, graph, order = self.graphs, self.graph[rows], self.order[rows]
        if self.arity is None:
            node, copy, edge_index, edge_id = whole_copies(graphs, graph)
        else:
            copy, local = ragged_arange(graphs.counts[graph])
            node = graphs.ptr[graph][copy] + local
            keep = self.place[node, order[copy]] < self.arity
            node, copy = node[keep], copy[keep]
            edge_index, edge_id = induced_edges(graphs, graph, node, copy, keep)
        return node, copy, self.place[node, order[copy]], edge_index, edge_id

    @torch.compiler.disable
    def rectangle(self, x: Tensor, slices: Slices, first: int, last: int) -> Tensor:
        wide = x.unsqueeze(1).expand(-1, last - first, -1)
        return self._with_ids(wide, self.place[:, first:last])


class RelationalPooling(CopyPooling):
    r"""Averages a network that sees node ids over orders of the nodes.

    .. math::
        \bar f(G) = \mathrm{outer}_{\pi}\; \mathrm{inner}_{v}\;
        \mathrm{GNN}\bigl(A, [X \mid \mathrm{onehot}(\pi(v) \bmod m)]\bigr)_v

    With ``outer="mean"`` over all n! orders this is invariant whatever the network, and as expressive as
    can be when ids are unique (m >= n). Training draws a fresh order per graph and step (pi-SGD), which
    minimises an upper bound of the loss of the average; evaluation averages ``num_permutations`` orders,
    an unbiased estimate with variance falling as one over their number, invariant in expectation only.
    From *Relational Pooling for Graph Representations* (Murphy et al., ICML 2019).

    Args:
        gnn: Any network ``gnn(x, edge_index) -> [num_nodes, d]``, with ``id_dim`` more input channels
            than ``x`` has. Called with ``edge_attr=`` or ``edge_weight=`` if they are given.
        num_permutations: Orders S per graph in evaluation; ``"all"`` for all n! (at most 8 nodes), in
            training as well; orders that give the same ids are run once and weighted, where ``outer`` is a
            pool of this library and ``arity`` is ``None``.
        id_dim: Number m of different ids, at least 1. Fewer than nodes: less power, less variance.
        inner: Pool over the nodes of a copy: anything :func:`graphpool.aggr.resolve` takes.
        outer: Pool over the orders of a graph (or of a node, for node outputs).
        train_permutations: Orders per graph in training.
        arity: k-ary relational pooling: the network sees only the first k nodes of each order and the edges
            among them; graphs with no more nodes are seen whole. ``None`` for all nodes.
        order: ``"random"``; ``"bfs"`` or ``"dfs"`` from a random root with random tie-breaks; or
            ``"canonical"``, by colour refinement from the features, with random tie-breaks only.
        output: ``"graph"`` ``[B, d]`` or ``"node"`` ``[N, d]``.
        form: ``"rectangular"``, ``"ragged"`` or ``"auto"``, as in :class:`LabelPooling`.
        max_copies: The most copies the network sees at once, as in :class:`LabelPooling`.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> from torch_geometric.nn import GIN
        >>> from graphpool.datasets import circulant_graph
        >>> from graphpool.relational import RelationalPooling
        >>> model = RelationalPooling(GIN(1 + 10, 16, 3), num_permutations=5, id_dim=10)
        >>> data = circulant_graph(7, [1, 2])
        >>> model.eval()(data.x, data.edge_index).shape
        torch.Size([1, 16])
    """

    def __init__(
        self,
        gnn: nn.Module,
        num_permutations: int | str,
        id_dim: int,
        inner: Any = "sum",
        outer: Any = "mean",
        *,
        train_permutations: int = 1,
        arity: int | None = None,
        order: str = "random",
        output: str = "graph",
        form: str = "auto",
        max_copies: int | None = None,
    ) -> None:
        exact = num_permutations == "all"
        if not exact and (not isinstance(num_permutations, int) or num_permutations < 1):
            raise ValueError(
                f"`num_permutations` must be an int of at least 1 or 'all'; got {num_permutations!r}."
            )
        for name, value in (("id_dim", id_dim), ("train_permutations", train_permutations)):
            check_at_least(value, name, 1)
        if arity is not None and arity < 1:
            raise ValueError(f"`arity` must be at least 1 or None; got {arity}.")
        check_one_of(order, "order", ORDERS)
        if exact and order != "random":
            raise ValueError(f"`num_permutations`='all' lists all orders, not {order!r} ones.")
        check_one_of(output, "output", ("graph", "node"))
        if inner == "root":
            raise ValueError("`inner`='root' needs labelled nodes; use LabelPooling.")
        super().__init__(gnn, inner, outer, form, max_copies, output == "node")
        self.num_permutations, self.train_permutations = num_permutations, train_permutations
        self.id_dim, self.arity, self.order, self.output = id_dim, arity, order, output

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        batch: Tensor | Segments | None = None,
        batch_size: int | None = None,
        *,
        edge_attr: Tensor | None = None,
        edge_weight: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Pools a mini-batch of graphs.

        Args:
            x: Node features ``[N, d]``.
            edge_index: ``[2, E]``.
            batch: Graph of every node ``[N]``, in any order, or :class:`~graphpool.Segments`; ``None`` for
                one graph.
            batch_size: Number of graphs B, required with a tensor ``batch``.
            edge_attr: Edge features ``[E, d_e]``, passed on to the network.
            edge_weight: Edge weights ``[E]``, passed on to the network.
            generator: Source of randomness of the orders.

        Returns:
            ``[B, d]``, or ``[N, d]`` for node outputs (0 for nodes that no k-ary copy holds).
        """
        check_node_features(x)
        if self.num_permutations != "all":
            _debug.refuse_draws_apart()
        features = x if self.order == "canonical" else None
        plan = self._plan(x.size(0), edge_index, batch, batch_size, generator, features)
        values, node, copy = self._embed(plan, x, edge_attr, edge_weight)
        graphs, weight = plan.graphs, plan.weight
        if self.output == "node":
            at = None if weight is None else weight[copy]
            pooled = weighted_pool(self.outer, values, node, graphs.num_nodes, at)
            return graphs.as_given(pooled)
        return weighted_pool(self.outer, values, plan.graph, graphs.num_graphs, weight)

    @torch.compiler.disable
    @_debug.on_values
    def _plan(
        self,
        num_nodes: int,
        edge_index: Tensor,
        batch: Tensor | Segments | None,
        batch_size: int | None,
        generator: torch.Generator | None,
        x: Tensor | None,
    ) -> OrderPlan:
        graphs = GraphBatch(edge_index, num_nodes, batch, batch_size)
        if isinstance(self.num_permutations, str):
            # Orders with the same ids are one copy with a weight, where the pool takes weights.
            takes_weights = isinstance(self.outer, Aggregation) and not isinstance(
                self.outer, Deferred
            )
            alike = self.arity is None and takes_weights
            place, counts, times = all_orders(graphs, self.id_dim if alike else None)
            weight = times if bool((times > 1).any()) else None
        else:
            number = self.train_permutations if self.training else self.num_permutations
            features = None if x is None else graphs.sort_nodes(x)
            place = draw_orders(graphs, self.order, number, features, generator)
            counts, weight = torch.full_like(graphs.counts, number), None
        return OrderPlan(graphs, place, counts, self.id_dim, self.arity, weight)

    def extra_repr(self) -> str:
        arity = "" if self.arity is None else f", arity={self.arity}"
        return (
            f"num_permutations={self.num_permutations}, id_dim={self.id_dim}, "
            f"order={self.order!r}{arity}, output={self.output!r}, form={self.form!r}"
        )
