"""What all convolutions of this package share: pooling a neighbourhood with any aggregation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch_geometric.nn import Linear, MessagePassing

from graphpool.aggr.foreign import pool, pooled_width, resolve_pool
from graphpool.conv.neighborhoods import Neighborhoods, neighborhoods

Nodes = Tensor | tuple[Tensor, Tensor]


class PoolingConv(MessagePassing):
    """Message passing whose aggregation is any pool of :mod:`graphpool.aggr`.

    The bags are found once per graph and shared by all layers (see
    :func:`~graphpool.conv.neighborhoods.neighborhoods`). Where the message is a row of a node
    tensor, the pool reads it in place and no message is ever stored.

    Args:
        aggr: A registered name, a module, a class, or a list of them (concatenated).
        channels: Width of the messages; -1 where it is not known yet.
        aggr_kwargs: Passed on to :func:`graphpool.aggr.resolve`.
    """

    def __init__(
        self,
        aggr: Any,
        channels: int,
        aggr_kwargs: dict[str, Any] | None = None,
    ) -> None:
        module = resolve_pool(aggr, channels=channels, **(aggr_kwargs or {}))
        super().__init__(aggr=module)

    def neighborhoods(self, x: tuple[Tensor, Tensor], edge_index: Tensor) -> Neighborhoods:
        """The bags of the graph that connects the senders ``x[0]`` with the receivers ``x[1]``."""
        return neighborhoods(edge_index, x[0].size(0), x[1].size(0))

    def pool_senders(
        self, x: tuple[Tensor, Tensor], edge_index: Tensor, weight: Tensor | None = None
    ) -> Tensor:
        """Pools, for each receiver, the rows of ``x[0]`` that its neighbours hold."""
        bags = self.neighborhoods(x, edge_index)
        aggr = self.aggr_module
        # A pool that has yet to find out its channels does so in its ordinary call, and an
        # explainer must see messages.
        built = getattr(aggr, "channels", None) != -1
        if getattr(aggr, "supports_gather", False) and built and not self.explain:
            return aggr.pool(x[0], bags.receivers, weight=weight, gather=bags.senders)
        return self.pool_messages(x[0].index_select(0, bags.senders.index), bags, weight)

    def pool_neighbors(
        self,
        x: tuple[Tensor, Tensor],
        edge_index: Tensor,
        edge_attr: Tensor | None,
        weight: Tensor | None,
        activation: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Pools the rows of the senders, plus ``lin_edge`` of the edge features where there are any."""
        self.check_edge_features(edge_attr)
        if edge_attr is None:
            return self.pool_senders(x, edge_index, weight)
        bags = self.neighborhoods(x, edge_index)
        sent = x[0].index_select(0, bags.senders.index) + self.lin_edge(edge_attr)
        return self.pool_messages(activation(sent) if activation else sent, bags, weight)

    def pool_messages(
        self, messages: Tensor, bags: Neighborhoods, weight: Tensor | None = None
    ) -> Tensor:
        """Pools one message per edge at the receivers."""
        if self.explain:
            messages = self.explain_message(messages, bags.receivers.num_segments)
        return pool(self.aggr_module, messages, bags.receivers, weight)

    def pooled_channels(self, channels: int) -> int:
        """Width of what the pool makes out of ``channels``."""
        return pooled_width(self.aggr_module, channels)

    def check_edge_features(self, edge_attr: Tensor | None) -> None:
        """Raises unless edge features come exactly if the layer was made for them."""
        expected = getattr(self, "edge_dim", None)
        if expected is None and edge_attr is not None:
            raise ValueError("edge_attr was given, but the layer was made without edge_dim")
        if expected is not None and (edge_attr is None or edge_attr.shape[1:] != (expected,)):
            got = "none" if edge_attr is None else f"shape {tuple(edge_attr.shape)}"
            raise ValueError(f"edge_attr must be [num_edges, {expected}] (edge_dim); got {got}")


def edge_layer(edge_dim: int | None, channels: int) -> Linear | None:
    """The linear layer that brings edge features to the width of the nodes; none without features."""
    if edge_dim is not None and channels < 0:
        raise ValueError("in_channels must be known where there are edge features; got -1")
    return None if edge_dim is None else Linear(edge_dim, channels)


def as_pair(x: Nodes) -> tuple[Tensor, Tensor]:
    """Senders and receivers: one tensor plays both parts."""
    return (x, x) if isinstance(x, Tensor) else x


def perceptron(channels: list[int], last_activation: bool = False) -> nn.Sequential:
    """Linear layers with ReLU between them; ``channels[0]`` may be -1 (lazy)."""
    layers: list[nn.Module] = []
    for width_in, width_out in zip(channels[:-1], channels[1:], strict=True):
        layers += [Linear(width_in, width_out), nn.ReLU()]
    return nn.Sequential(*(layers if last_activation else layers[:-1]))
