"""GraphSAGE convolution."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch_geometric.nn import Linear

from graphpool.conv.base import Nodes, PoolingConv, as_pair, edge_layer


class SAGEConv(PoolingConv):
    r"""GraphSAGE convolution with any neighbour pool:

    .. math:: x_i' = W_1\, \mathrm{pool}_{j \in N(i)}\, m_{ij} + W_2\, x_i + b

    with :math:`m_{ij} = x_j`, or :math:`x_j + W_3 e_{ij}` where there are edge features.
    ``aggr="mean"`` is the original (Hamilton et al., "Inductive Representation Learning on Large
    Graphs", NeurIPS 2017).

    Args:
        in_channels: Width of the nodes, -1 to find out at the first call.
        out_channels: Width of the output.
        aggr: Any pool: a name, module, class, or list.
        edge_dim: Width of the edge features, if there are any.
        root_weight: Whether :math:`W_2` exists.
        bias: Whether b exists.
        aggr_kwargs: Arguments of the pool.

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
        in_channels: int,
        out_channels: int,
        aggr: Any = "mean",
        edge_dim: int | None = None,
        root_weight: bool = True,
        bias: bool = True,
        aggr_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(aggr, in_channels, aggr_kwargs)
        self.in_channels, self.out_channels, self.edge_dim = in_channels, out_channels, edge_dim
        self.lin_neighbors = Linear(self.pooled_channels(in_channels), out_channels, bias=bias)
        self.lin_root = Linear(in_channels, out_channels, bias=False) if root_weight else None
        self.lin_edge = edge_layer(edge_dim, in_channels)

    def reset_parameters(self) -> None:
        super().reset_parameters()
        for layer in (self.lin_neighbors, self.lin_root, self.lin_edge):
            if layer is not None:
                layer.reset_parameters()

    def forward(
        self,
        x: Nodes,
        edge_index: Tensor,
        edge_attr: Tensor | None = None,
        edge_weight: Tensor | None = None,
    ) -> Tensor:
        """Maps nodes ``[N, in_channels]``, or (senders, receivers), to ``[N, out_channels]``."""
        nodes = as_pair(x)
        pooled = self.pool_neighbors(nodes, edge_index, edge_attr, edge_weight)
        out = self.lin_neighbors(pooled)
        return out if self.lin_root is None else out + self.lin_root(nodes[1])
