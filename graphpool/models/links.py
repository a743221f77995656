"""Link prediction from the bag of neighbours that two nodes share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import dropout_edge

from graphpool import _debug
from graphpool._arguments import as_count, what_came
from graphpool._recorded import savable
from graphpool.aggr.pyg import pool as pool_bags
from graphpool.aggr.pyg import pooled_width
from graphpool.aggr.registry import resolve_pool
from graphpool.nn import Linear, check_input, reset
from graphpool.ops import segment_sum
from graphpool.overlap import checked_edges, neighborhood_overlap
from graphpool.segments import Segments


@savable
class NCN(nn.Module):
    r"""Neural common neighbours: how likely two nodes are joined, from the neighbours that they share.

    .. math::
        c_{ij} = \mathrm{pool}\{v_u : u \in N(i) \cap N(j)\}, \quad
        z_{ij} = \psi\big(\beta\, \phi(c_{ij}) + \xi(h_i \odot h_j)\big)

    with :math:`h` from an encoder of nodes, :math:`v = h + g(h)`, and perceptrons :math:`g, \phi, \xi, \psi`.
    A pair that shares no neighbour has an empty bag, which pools to 0. With ``completion`` (NCNC) the nodes
    that are neighbours of one end only belong to the bag, too, weighted by the probability, as this network
    gives it, that they are neighbours of the other:

    .. math::
        w = \alpha\, \frac{\pi p}{\pi p + 1 - p}, \quad p = \mathrm{sigmoid}(s\,(z - o))

    (without a derivative). ``pool="sum"`` is the original (Wang, Yang, Zhang, "Neural Common Neighbor with
    Completion for Link Prediction", ICLR 2024); any pool that takes weights will do.

    Training must hide the links it asks about: see :func:`graphpool.overlap.without_links`.

    Args:
        in_channels: Width of the node features, -1 to find out at the first call.
        hidden_channels: Width inside.
        pool: Pool over the shared neighbours: a name, class or module.
        completion: 0 for common neighbours alone; 1 for NCNC; more to complete what completes.
        num_layers: Steps of the encoder, :math:`h = (\hat D^{-1/2} (A + I) \hat D^{-1/2})^k\, W x`.
        encoder: A module called with ``(x, edge_index)``, giving ``[N, hidden_channels]``, in its place.
        dropout: Dropout in the perceptrons, in [0, 1).
        input_dropout: Of the node features.
        edge_dropout: Share of the edges that are left out of the bags in training.
        head_layers: Hidden layers of :math:`\psi`, 1 or 2.
        completion_weights: :math:`(\pi, \alpha, s, o)` with :math:`\pi > 0` and :math:`\alpha \ge 0`.
        chunk: How many pairs are completed at once, which bounds the memory.
        pool_kwargs: Arguments of the pool, where ``pool`` names or is a class.

    Raises:
        ValueError: An argument is not one of those above; the message names it.

    Example:
        >>> model = NCN(8, 16, pool="max", completion=1)
        >>> edges = torch.tensor([[0, 2, 1, 2, 0, 3], [2, 0, 2, 1, 3, 0]])
        >>> model(torch.randn(4, 8), edges, torch.tensor([[0, 2], [1, 3]])).shape
        torch.Size([2])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        pool: Any = "sum",
        *,
        completion: int = 0,
        num_layers: int = 1,
        encoder: nn.Module | None = None,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        edge_dropout: float = 0.0,
        head_layers: int = 1,
        completion_weights: Sequence[float] = (0.75, 1.0, 4.3, 2.8),
        chunk: int = 2**16,
        pool_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        shares = {"dropout": dropout, "input_dropout": input_dropout, "edge_dropout": edge_dropout}
        for name, share in shares.items():
            if not 0.0 <= share < 1.0:
                raise ValueError(f"`{name}` must lie in [0, 1); got {share}.")
        if encoder is None and in_channels != -1:
            as_count(in_channels, "in_channels")
        if not isinstance(encoder, (nn.Module, type(None))):
            raise TypeError(f"`encoder` must be a module; got {what_came(encoder)}.")
        if head_layers not in (1, 2):
            raise ValueError(f"`head_layers` must be 1 or 2; got {head_layers}.")
        self.in_channels, self.edge_dropout = in_channels, edge_dropout
        self.completion = as_count(completion, "completion", least=0)
        self.completion_weights = _checked_weights(completion_weights)
        self.chunk = as_count(chunk, "chunk")
        width = as_count(hidden_channels, "hidden_channels")
        self.hidden_channels, self._encoder_given = width, encoder is not None
        self.encoder = encoder or _Propagation(
            in_channels, width, as_count(num_layers, "num_layers"), input_dropout, dropout
        )
        self.pool = resolve_pool(pool, channels=width, **(pool_kwargs or {}))
        self.node = nn.Sequential(*_dense(width, width, dropout), *_dense(width, width, dropout))
        self.shared = nn.Sequential(
            nn.Linear(pooled_width(self.pool, width), width), nn.Dropout(dropout), nn.ReLU(),
            *_dense(width, width, dropout),
        )  # fmt: skip
        self.ends = nn.Sequential(*_dense(width, width, dropout))
        hidden = [layer for _ in range(head_layers) for layer in _dense(width, width, dropout)]
        self.head = nn.Sequential(*hidden, nn.Linear(width, 1))
        self.beta = nn.Parameter(torch.ones(()))

    def reset_parameters(self) -> None:
        """Restores the initial parameters of all parts."""
        reset(*self.children())
        nn.init.ones_(self.beta)

    def forward(self, x: Tensor, edge_index: Tensor, pairs: Tensor) -> Tensor:
        """A logit for each pair.

        Args:
            x: Node features ``[N, in_channels]``, dense or sparse (``torch.sparse``, of any layout); bags of
                words are faster sparse.
            edge_index: ``[2, E]``, both directions of each edge.
            pairs: ``[2, P]``.

        Returns:
            ``[P]``; their order in a pair does not matter where the bags of both are the same, as they are
            on an undirected graph.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: Shapes do not fit, or a node lies outside of the graph; the message names it. A pair
                to be completed has a logit that is NaN.
        """
        if not self._encoder_given:
            check_input(x, "x", self.in_channels, self.encoder)
        edge_index = checked_edges(edge_index, "edge_index", x.size(0))
        pairs = checked_edges(pairs, "pairs", x.size(0))
        h = self.encoder(x, edge_index)
        if h.shape != (x.size(0), self.hidden_channels):
            raise ValueError(
                f"`encoder` must give [{x.size(0)}, {self.hidden_channels}], a row of `hidden_channels` for "
                f"each node; got {what_came(h)}."
            )
        seen = edge_index
        if self.training and self.edge_dropout:
            seen, _ = dropout_edge(edge_index, self.edge_dropout, force_undirected=True)
        return self._logits(h, h + self.node(h), seen, pairs, self.completion)

    def _logits(self, h: Tensor, v: Tensor, edges: Tensor, pairs: Tensor, depth: int) -> Tensor:
        overlap = neighborhood_overlap(edges, pairs, h.size(0))
        bags, weight = [overlap.common], None
        if depth > 0:
            bags += [overlap.first, overlap.second]
            # Whether a neighbour of the one end is one of the other.
            missing = [
                torch.stack([pairs[1 - side][bag.segments.index], bag.nodes])
                for side, bag in enumerate(bags[1:])
            ]
            asked = torch.cat(missing, 1)
            likely = self._probable(h, v, edges, asked, depth - 1)
            weight = torch.cat([likely.new_ones(overlap.common.nodes.numel()), likely])
        nodes = Segments(index=torch.cat([b.nodes for b in bags]), num_segments=h.size(0))
        index = torch.cat([b.segments.index for b in bags])
        segments = Segments(index=index, num_segments=pairs.size(1))
        pooled = pool_bags(self.pool, v, segments, weight, gather=nodes)
        ends = h[pairs[0]] * h[pairs[1]]
        return self.head(self.beta * self.shared(pooled) + self.ends(ends)).squeeze(-1)

    @torch.no_grad()
    def _probable(self, h: Tensor, v: Tensor, edges: Tensor, pairs: Tensor, depth: int) -> Tensor:
        prior, alpha, scale, offset = self.completion_weights
        parts = [self._logits(h, v, edges, part, depth) for part in pairs.split(self.chunk, 1)]
        p = torch.sigmoid(scale * (torch.cat(parts) - offset))
        if _debug.values_are_checked(p.device) and p.isnan().any():
            raise ValueError(
                "The logits to be completed are NaN: `x` is, or training has diverged."
            )
        return alpha * prior * p / (prior * p + 1 - p)


class _Propagation(nn.Module):
    """A linear map, then means over neighbours that are weighted by degrees."""

    def __init__(
        self, in_channels: int, width: int, steps: int, input_dropout: float, dropout: float
    ) -> None:
        super().__init__()
        self.steps = steps
        self.linear = nn.Sequential(
            nn.Dropout(input_dropout), Linear(in_channels, width), nn.Dropout(dropout)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(steps))

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        h, size = self._mapped(x), x.size(0)
        edges, weight = gcn_norm(edge_index, None, size, dtype=h.dtype)
        senders = Segments(index=edges[0], num_segments=size)
        receivers = Segments(index=edges[1], num_segments=size)
        for norm in self.norms:
            h = norm(segment_sum(h, receivers, weight=weight, gather=senders))
        return h

    def _mapped(self, x: Tensor) -> Tensor:
        if x.layout is torch.strided:
            return self.linear(x)
        # A row is a bag of columns, those of its values, and the product is a weighted sum over the bag.
        x = x.to_sparse_coo().coalesce()
        if x.sparse_dim() != 2:
            raise ValueError(
                f"`x` must be sparse in both of its dimensions; got {x.sparse_dim()}: `x.to_dense()`."
            )
        linear = cast(Linear, self.linear[1])
        if isinstance(linear.weight, nn.UninitializedParameter):
            linear.initialize_parameters(linear, (x,))
        (rows, columns), (size, width) = x.indices(), x.shape
        bags = Segments(index=rows, num_segments=size)
        places = Segments(index=columns, num_segments=width)
        weight = self.linear[0](x.values())
        h = segment_sum(linear.weight.t(), bags, weight=weight, gather=places)
        return self.linear[2](h + linear.bias)


def _checked_weights(given: Sequence[float]) -> tuple[float, ...]:
    weights = tuple(float(w) for w in given)
    fits = len(weights) == 4 and all(map(math.isfinite, weights))
    if not fits or weights[0] <= 0 or weights[1] < 0:
        raise ValueError(
            "`completion_weights` must be four finite numbers (pi, alpha, scale, offset), pi above 0 and "
            f"alpha not below; got {given}."
        )
    return weights


def _dense(before: int, after: int, dropout: float) -> list[nn.Module]:
    return [nn.Linear(before, after), nn.LayerNorm(after), nn.Dropout(dropout), nn.ReLU()]
