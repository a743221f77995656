"""What goes into a graph network: features of nodes and edges, given, embedded or made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, fx, nn
from torch_geometric.utils import is_sparse

from graphpool._arguments import what_came
from graphpool.conv import Neighborhoods
from graphpool.conv.base import PoolingConv, Width, edge_features, width_pair
from graphpool.conv.neighborhoods import neighborhoods
from graphpool.models.parts import network_of, one_of
from graphpool.nn import ColumnEmbedding, Linear, check_input
from graphpool.segments import Segments


class GraphInputs(nn.Module):
    """The part of :class:`graphpool.models.GraphModel` before its convolutions."""

    in_channels: Width
    node_dim: int
    convs: nn.ModuleList

    def _make_inputs(
        self,
        in_channels: Width,
        hidden: int,
        encoder: str | nn.Module | None,
        edge_dim: int | None,
        node_categories: Sequence[int | None] | None,
        edge_categories: Sequence[int | None] | None,
        features: str,
    ) -> tuple[Width, int | None]:
        """Makes the encoders; the widths of nodes and of edges that come out."""
        one_of("features", features, ("x", "degree", "constant"))
        if features != "x" and (in_channels not in (1, -1) or node_categories is not None):
            raise ValueError(
                f"`in_channels` must be 1, without `node_categories`, where features={features!r}; got "
                f"{in_channels}."
            )
        self.features = features
        # What checks its own input.
        self._encoder_given = isinstance(encoder, nn.Module) or node_categories is not None
        self._one_column = node_categories is not None and len(node_categories) == 1
        self.encoder: nn.Module = nn.Identity()
        width = in_channels
        if node_categories is not None:
            names = ("x", "in_channels")
            self.encoder = _columns(node_categories, in_channels, names, encoder, hidden)
            width = hidden
        elif encoder is not None:
            if not isinstance(in_channels, int):
                raise ValueError(
                    f"`in_channels` may be a pair only where encoder=None; got {in_channels}."
                )
            self.encoder = network_of(encoder, "encoder", in_channels, hidden, hidden)
            width = hidden
        self.edge_encoder: nn.Module | None = None
        if edge_categories is not None:
            names = ("edge_attr", "edge_dim")
            self.edge_encoder = _columns(edge_categories, edge_dim, names, "linear", hidden)
            edge_dim = hidden
        self.edge_dim = edge_dim
        return width, edge_dim

    def _encoded(
        self, x: Tensor | None, edge_index: Any, edge_attr: Tensor | None, batch: Any
    ) -> tuple[Tensor, Any, Tensor | None]:
        """Nodes, edges and their features as the convolutions take them."""
        if self.edge_encoder is not None:
            edge_attr = self.edge_encoder(edge_attr)
        if self.features != "x":
            if x is not None:
                raise ValueError(
                    f"`x` must be None where features={self.features!r} stands for it; got {what_came(x)}."
                )
            x = _made(self.features, edge_index, batch, next(self.parameters()))
        elif x is None:
            raise TypeError(
                "`x` must be a tensor; got NoneType. For graphs without features there are in_channels=1 and "
                "features='degree' or 'constant'."
            )
        elif self._one_column and isinstance(x, Tensor) and x.dim() == 1:
            x = x[:, None]
        graph = self._checked(x, edge_index, edge_attr)
        return self.encoder(x), graph, edge_attr

    def _checked(self, x: Tensor, edge_index: Any, edge_attr: Tensor | None) -> Any:
        """The edges, as neighbourhoods for all layers to share where there are layers that read them."""
        # What traces the model has no tensors here.
        if isinstance(x, fx.Proxy):
            return edge_index
        if not self._encoder_given:
            first = self.convs[0] if isinstance(self.encoder, nn.Identity) else self.encoder
            check_input(x, "x", width_pair(self.in_channels)[0], first)
        graph = edge_index
        if not is_sparse(edge_index) or any(isinstance(c, PoolingConv) for c in self.convs):
            graph = neighborhoods(edge_index, x.size(self.node_dim))
            if graph.values is None:
                edge_features(
                    self, edge_attr, self.edge_dim, graph.num_edges, x.dim(), self.node_dim
                )
        return graph


def _columns(
    categories: Sequence[int | None], width: Any, names: tuple[str, str], encoder: Any, hidden: int
) -> nn.Module:
    """An encoder whose first layer embeds categories.

    Args:
        categories: Of each column.
        width: How many columns were said to be there; -1 or ``None`` where nobody said.
        names: What the caller calls features and width.
        encoder: ``"linear"`` or ``"mlp"``.
        hidden: Width of the result.
    """
    if width not in (-1, None, len(categories)):
        raise ValueError(
            f"`{names[1]}` must be {len(categories)}, as many columns of `{names[0]}` as have categories or "
            f"None; got {width}."
        )
    if encoder not in ("linear", "mlp"):
        raise ValueError(
            f"`encoder` must be 'linear' or 'mlp' where categories are embedded; got {encoder!r}."
        )
    first = ColumnEmbedding(categories, hidden, names[0])
    if encoder == "linear":
        return first
    return nn.Sequential(first, nn.ReLU(), Linear(hidden, hidden))


def _made(kind: str, edge_index: Any, batch: Any, like: Tensor) -> Tensor:
    """``[N, 1]``, of graphs whose nodes have no features: 1, or log(1 + d) of the edges that arrive.

    Args:
        kind: ``"constant"`` or ``"degree"``.
        edge_index: The edges.
        batch: The graph of each node, which says how many there are.
        like: A tensor of the precision and device that are wanted.
    """
    count = None
    if isinstance(batch, Segments):
        count = batch.num_elements
    elif isinstance(batch, Tensor):
        count = batch.numel()
    elif isinstance(edge_index, Neighborhoods):
        count = edge_index.receivers.num_segments
    elif is_sparse(edge_index):
        count = edge_index.size(0)
    elif hasattr(edge_index, "sparse_size"):
        count = edge_index.sparse_size(1)
    if count is None:
        raise ValueError(
            "`batch` must be given where features are made: the largest index in `edge_index` does not tell "
            "how many nodes there are."
        )
    if kind == "constant":
        return like.new_ones(count, 1)
    counts = neighborhoods(edge_index, count).receivers.counts
    return counts.to(like).log1p()[:, None]
