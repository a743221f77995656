"""GraphSAGE convolution."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from graphpool.conv.base import (
    Nodes,
    PoolingConv,
    Size,
    Width,
    edge_layer,
    width_pair,
)
from graphpool.nn import Linear


class SAGEConv(PoolingConv):
    r"""GraphSAGE convolution with any neighbour pool:

    .. math:: x_i' = W_1\, \mathrm{pool}_{j \in N(i)}\, m_{ij} + W_2\, x_i + b

    with :math:`m_{ij} = x_j`, or :math:`x_j + W_3 e_{ij}` where there are edge features.
    ``aggr="mean"`` is the original (Hamilton et al., "Inductive Representation Learning on Large
    Graphs", NeurIPS 2017).

    Args:
        in_channels: Width of the nodes, -1 to find out at the first call; or a pair, of the senders
            and of the receivers.
        out_channels: Width of the output.
        aggr: Any pool: a name, module, class, or list.
        edge_dim: Width of the edge features, if there are any.
        root_weight: Whether :math:`W_2` exists.
        bias: Whether b exists.
        aggr_kwargs: Arguments of the pool.
        **kwargs: ``flow`` and ``node_dim``, see :class:`~graphpool.conv.base.PoolingConv`.

    Receivers without features, ``x=(senders, None)`` with ``size``, leave out :math:`W_2`.
    ``edge_weight`` in the call weights the elements of the bag, so that 2 counts like a double
    edge.

    Example:
        >>> conv = SAGEConv(8, 16, aggr=["mean", "std"])
        >>> edge_index = torch.tensor([[0, 1, 2], [1, 0, 1]])
        >>> conv(torch.randn(3, 8), edge_index).shape
        torch.Size([3, 16])
    """

    def __init__(
        self,
        in_channels: Width,
        out_channels: int,
        aggr: Any = "mean",
        edge_dim: int | None = None,
        root_weight: bool = True,
        bias: bool = True,
        aggr_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        sent, received = width_pair(in_channels)
        super().__init__(aggr, sent, aggr_kwargs, **kwargs)
        self.in_channels, self.out_channels, self.edge_dim = in_channels, out_channels, edge_dim
        self.lin_neighbors = Linear(self.pooled_channels(sent), out_channels, bias=bias)
        self.lin_root = Linear(received, out_channels, bias=False) if root_weight else None
        self.lin_edge = edge_layer(edge_dim, sent)

    def reset_parameters(self) -> None:
        super().reset_parameters()
        for layer in (self.lin_neighbors, self.lin_root, self.lin_edge):
            if layer is not None:
                layer.reset_parameters()

    def forward(
        self,
        x: Nodes,
        edge_index: Any,
        edge_attr: Tensor | None = None,
        edge_weight: Tensor | None = None,
        size: Size = None,
    ) -> Tensor:
        """Maps nodes ``[..., N, in_channels]``, or (senders, receivers), to ``[..., N, out_channels]``."""
        call = self.incoming(x, edge_index, edge_attr, edge_weight, size)
        out = self.lin_neighbors(self.pool_neighbors(call))
        if self.lin_root is None or call.receivers is None:
            return out
        return out + self.lin_root(call.receivers)
