"""Convolution over the four neighbours of an edge."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graphpool.mesh.edges.topology import EdgeTopology
from graphpool.mesh.structures import expect


class MeshConv(nn.Module):
    r"""The convolution of MeshCNN (Hanocka et al., SIGGRAPH 2019).

    For an edge :math:`e` whose faces go on to :math:`a, b` and to :math:`c, d`:

    .. math::
        y_e = W\,[\,x_e,\; x_a + x_c,\; x_b + x_d,\; |x_a - x_c|,\; |x_b - x_d|\,] + b

    which does not depend on which face comes first. Missing neighbours count as zeros.

    Args:
        in_channels: Width of the input.
        out_channels: Width of the output.
        bias: Whether :math:`b` exists.

    Example:
        >>> from graphpool.mesh import edge_graph, icosphere
        >>> graph = edge_graph(*icosphere(1))
        >>> MeshConv(5, 16)(graph.x, graph.topology()).shape
        torch.Size([120, 16])
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.linear = nn.Linear(5 * in_channels, out_channels, bias=bias)

    def reset_parameters(self) -> None:
        """Restores the initial state."""
        self.linear.reset_parameters()

    def forward(self, x: Tensor, topology: EdgeTopology) -> Tensor:
        """``[E, in_channels]`` to ``[E, out_channels]``."""
        expect(topology, EdgeTopology, "topology")
        if x.dim() != 2 or x.size(0) != topology.num_edges or x.size(1) != self.in_channels:
            raise ValueError(
                f"`x` must have shape [{topology.num_edges}, {self.in_channels}]; got "
                f"{tuple(x.shape)}."
            )
        # The row of zeros behind the others is where -1 points.
        rows = torch.cat([x, x.new_zeros(1, x.size(1))])
        around = topology.neighbors
        place = torch.where(around >= 0, around, x.size(0))
        a, b, c, d = (rows.index_select(0, column) for column in place.unbind(1))
        return self.linear(torch.cat([x, a + c, b + d, (a - c).abs(), (b - d).abs()], dim=1))

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}"
