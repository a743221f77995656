"""What all convolutions of this package share: pooling a neighbourhood with any aggregation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch_geometric import nn as pyg
from torch_geometric.utils import is_sparse

from graphpool._arguments import what_came
from graphpool.aggr.pyg import pool, pooled_width
from graphpool.aggr.registry import resolve_pool
from graphpool.conv.neighborhoods import Neighborhoods, neighborhoods
from graphpool.nn import Linear, check_input
from graphpool.ops import check_weight

Nodes = Tensor | tuple[Tensor, Tensor | None]
Width = int | tuple[int, int]
Size = tuple[int | None, int | None] | None


class Incoming(NamedTuple):
    """What one call of a convolution pools, checked.

    Attributes:
        senders: Features of the nodes that send.
        receivers: Features of the nodes that receive, ``None`` where they have none.
        edges: Who sends to whom.
        edge_attr: One row per edge, laid out like the nodes.
        weight: ``[E]``: weight of each edge.
    """

    senders: Tensor
    receivers: Tensor | None
    edges: Neighborhoods
    edge_attr: Tensor | None
    weight: Tensor | None


class PoolingConv(pyg.MessagePassing):
    """Message passing whose aggregation is any pool of :mod:`graphpool.aggr`.

    The bags are found once per graph and shared by all layers (see
    :func:`~graphpool.conv.neighborhoods.neighborhoods`). Where the message is a row of a node
    tensor, the pool reads it in place and no message is ever stored. PyG's hooks on ``propagate`` and
    ``message`` therefore have nothing to see here; hooks on the pool and on the layer fire.

    Args:
        aggr: A registered name, a module, a class, or a list of them (concatenated).
        channels: Width of the messages; -1 where it is not known yet.
        aggr_kwargs: Passed on to :func:`graphpool.aggr.resolve`.
        flow: ``"source_to_target"``, or ``"target_to_source"`` to send along the edges backwards.
        node_dim: The dimension of ``x`` that counts nodes. With -2, ``[B, N, C]`` are B sets of
            features of one graph; with 0, ``[N, S, C]`` are S sets.
    """

    def __init__(
        self,
        aggr: Any,
        channels: int,
        aggr_kwargs: dict[str, Any] | None = None,
        flow: str = "source_to_target",
        node_dim: int = -2,
    ) -> None:
        module = resolve_pool(aggr, channels=channels, **(aggr_kwargs or {}))
        super().__init__(aggr=module, flow=flow, node_dim=node_dim)

    in_channels: Width
    edge_dim: int | None = None

    def incoming(
        self,
        x: Nodes,
        edge_index: Any,
        edge_attr: Tensor | None,
        edge_weight: Tensor | None,
        size: Size,
    ) -> Incoming:
        """Checks the arguments of a call, and brings them into one form.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If numbers of nodes, edges or channels do not fit; the message names the argument.
        """
        nodes = checked_nodes(self, x)
        counts = self._counts(nodes, edge_index, size)
        if is_sparse(edge_index) and self.flow == "target_to_source":
            raise ValueError(
                "A sparse adjacency says who receives; give its transpose in place of "
                "flow='target_to_source'."
            )
        edges = neighborhoods(edge_index, *counts)
        edge_attr, edge_weight = _values_of(edges, edge_attr, edge_weight)
        if self.flow == "target_to_source":
            edges, nodes = edges.reverse(), nodes[::-1]
        senders, receivers = nodes
        if senders is None:
            raise ValueError(
                "The features of the nodes that send, in `x`, must be a tensor; got None."
            )
        if edge_weight is not None:
            check_weight(edge_weight, edges.num_edges, "edge_weight")
        edge_attr = edge_features(
            self, edge_attr, self.edge_dim, edges.num_edges, senders.dim(), self.node_dim
        )
        return Incoming(senders, receivers, edges, edge_attr, edge_weight)

    def _counts(
        self, nodes: tuple[Tensor | None, Tensor | None], edge_index: Any, size: Size
    ) -> tuple[int, int]:
        said = (None, None) if size is None else size
        known: tuple[int | None, int | None] = (None, None)
        if isinstance(edge_index, Neighborhoods):
            known = (edge_index.senders.num_segments, edge_index.receivers.num_segments)
        elif is_sparse(edge_index):
            known = (edge_index.size(1), edge_index.size(0))
        elif hasattr(edge_index, "sparse_size"):
            known = edge_index.sparse_size()
        counts: list[Any] = []
        for i, part in enumerate(nodes):
            count = said[i] if part is None else part.size(self.node_dim)
            if part is not None and said[i] is not None and said[i] != count:
                raise ValueError(
                    f"`size` says {tuple(said)} nodes, but part {i} of `x` has {count}."
                )
            if count is None:
                count = known[i]
            if count is None:
                raise ValueError(
                    "`size`, (num_senders, num_receivers), must be given where one of them has no "
                    "features in `x`: the largest index does not tell how many nodes there are."
                )
            counts.append(count)
        return counts[0], counts[1]

    def at_senders(self, values: Tensor, edges: Neighborhoods) -> Tensor:
        """For each edge, the row of its sender."""
        return values.index_select(self.node_dim, edges.senders.index)

    def at_receivers(self, values: Tensor, edges: Neighborhoods) -> Tensor:
        """For each edge, the row of its receiver."""
        return values.index_select(self.node_dim, edges.receivers.index)

    def pool_neighbors(
        self, call: Incoming, activation: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """Pools the rows of the senders, plus ``lin_edge`` of the edge features where there are any."""
        if call.edge_attr is None and not self.explain:
            return pool(
                self.aggr_module,
                call.senders,
                call.edges.receivers,
                call.weight,
                gather=call.edges.senders,
                dim=self.node_dim,
            )
        sent = self.at_senders(call.senders, call.edges)
        if call.edge_attr is not None:
            sent = sent + self.lin_edge(call.edge_attr)
            sent = activation(sent) if activation else sent
        return self.pool_messages(sent, call)

    def pool_messages(self, messages: Tensor, call: Incoming) -> Tensor:
        """Pools one message per edge at the receivers."""
        receivers = call.edges.receivers
        if self.explain:
            messages = self.explain_message(messages, receivers.num_segments)
        return pool(self.aggr_module, messages, receivers, call.weight, dim=self.node_dim)

    def pooled_channels(self, channels: int) -> int:
        """Width of what the pool makes out of ``channels``."""
        return pooled_width(self.aggr_module, channels)


def checked_nodes(layer: Any, x: Nodes) -> tuple[Tensor | None, Tensor | None]:
    """Features of the nodes in row 0 and in row 1 of ``edge_index``: one tensor plays both parts.

    Raises:
        TypeError: If a part is no tensor, or not in the precision of the layer.
        ValueError: If there is none, or one has not the width that the layer was made for.
    """
    several = isinstance(x, (tuple, list))
    nodes = tuple(x) if several else (x, x)
    if len(nodes) != 2 or all(part is None for part in nodes):
        got = ", ".join(map(what_came, nodes))
        raise ValueError(f"`x` must be a tensor, or a pair of them; got {got}.")
    parts = list(zip(nodes, width_pair(layer.in_channels), strict=True))
    if not several and parts[0][1] == parts[1][1]:
        parts.pop()  # the same tensor and the same width
    for i, (part, width) in enumerate(parts):
        if part is not None:
            check_input(part, f"x[{i}]" if several else "x", width, layer)
    return nodes


def edge_features(
    layer: nn.Module,
    edge_attr: Tensor | None,
    edge_dim: int | None,
    num_edges: int,
    dims: int = 2,
    node_dim: int = 0,
) -> Tensor | None:
    """``edge_attr`` laid out like nodes of ``dims`` dimensions.

    Raises:
        TypeError: If it is no tensor, or not in the precision of the layer.
        ValueError: Unless it has a row for each edge, exactly if the layer was made for it.
    """
    if edge_dim is None and edge_attr is not None:
        raise ValueError(
            f"`edge_attr` was given, but {type(layer).__name__} was made without `edge_dim`."
        )
    if edge_dim is None:
        return None
    if (
        not isinstance(edge_attr, Tensor)
        or not 2 <= edge_attr.dim() <= dims
        or edge_attr.size(-1) != edge_dim
        or edge_attr.size(0 if edge_attr.dim() == 2 else node_dim) != num_edges
    ):
        raise ValueError(
            f"`edge_attr` must be [num_edges, {edge_dim}] (`edge_dim`), here [{num_edges}, {edge_dim}]; "
            f"got {what_came(edge_attr)}."
        )
    check_input(edge_attr, "edge_attr", edge_dim, layer)
    if edge_attr.dim() < dims:
        shape = [1] * dims
        shape[node_dim], shape[-1] = edge_attr.shape
        edge_attr = edge_attr.reshape(shape)
    return edge_attr


def _values_of(
    edges: Neighborhoods, edge_attr: Tensor | None, edge_weight: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    """Edge features and weights, which a sparse adjacency may bring along."""
    if edges.values is None:
        return edge_attr, edge_weight
    name = "edge_weight" if edges.values.dim() == 1 else "edge_attr"
    if (edge_weight if name == "edge_weight" else edge_attr) is not None:
        raise ValueError(f"`{name}` was given, but the sparse adjacency holds values of its own.")
    return (edge_attr, edges.values) if name == "edge_weight" else (edges.values, edge_weight)


def width_pair(in_channels: Width) -> tuple[int, int]:
    """Widths of senders and of receivers: one number is both."""
    return (in_channels, in_channels) if isinstance(in_channels, int) else in_channels


def total_width(*widths: int | None) -> int:
    """The width of several parts side by side, -1 if one is not known."""
    return -1 if any(w is not None and w < 0 for w in widths) else sum(w or 0 for w in widths)


def edge_layer(edge_dim: int | None, channels: int) -> Linear | None:
    """The linear layer that brings edge features to the width of the nodes; none without features."""
    if edge_dim is not None and channels < 0:
        raise ValueError("`in_channels` must be known where there are edge features; got -1.")
    return None if edge_dim is None else Linear(edge_dim, channels)
