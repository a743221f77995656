"""A graph network in which every pool is a word."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch_geometric.utils import is_sparse

from graphpool._recorded import savable
from graphpool.aggr.pyg import pool, pooled_width
from graphpool.aggr.registry import resolve_pool
from graphpool.conv import EdgeConv, GATv2Conv, GINConv, Neighborhoods, PairMLPConv, SAGEConv
from graphpool.conv.base import PoolingConv, Width, edge_features, width_pair
from graphpool.conv.neighborhoods import neighborhoods
from graphpool.nn import LayerNorm, Linear, check_input, perceptron, reset
from graphpool.ops import check_weight
from graphpool.segments import Segments, graph_segments

#: Convolutions that :class:`GraphModel` knows by name.
CONVOLUTIONS: dict[str, Callable[..., nn.Module]] = {
    "gin": GINConv,
    "sage": SAGEConv,
    "edge": EdgeConv,
    "gatv2": GATv2Conv,
    "pair_mlp": PairMLPConv,
}

_JUMPING = ("last", "cat", "sum", "max")
_NORMS = ("batch", "layer")


@savable
class GraphModel(nn.Module):
    r"""Encoder, convolutions, readout, head; for labels of graphs or of nodes.

    .. math::
        h^0 = \mathrm{encoder}(x), \quad
        h^l = \mathrm{conv}_l(h^{l-1}), \quad
        y = \mathrm{head}\big(\mathrm{readout}(\{h_v\})\big)

    Every pool, over neighbours and over nodes, is one argument::

        GraphModel(7, 64, 2, aggr="sum", readout="mean")
        GraphModel(7, 64, 2, aggr="gnp", readout="gnp")
        GraphModel(7, 64, 2, aggr=("max", "mean", ["sum", "std"]), readout=AttSets)

    Args:
        in_channels: Width of the nodes, -1 to find out at the first call; without an encoder also a pair,
            of senders and receivers.
        hidden_channels: Width of the hidden layers.
        out_channels: Width of the output.
        num_layers: Number of convolutions, at least 1.
        conv: ``"gin"``, ``"sage"``, ``"edge"``, ``"gatv2"``, ``"pair_mlp"``, or a function called
            with ``(in_channels, out_channels, aggr=..., edge_dim=...)``, and ``aggr_kwargs`` and
            ``node_dim`` where they are given here.
        aggr: Pool over neighbours: a name, class, module (copied for each layer) or list
            (concatenated), the same in each layer; or a tuple with one of these per layer.
        aggr_kwargs: Arguments of the pools over neighbours, where ``aggr`` names or is a class.
        readout: Pool over the nodes of a graph, or ``None`` for labels of nodes.
        readout_kwargs: Arguments of the readout, likewise.
        edge_dim: Width of the edge features, if there are any.
        encoder: ``"linear"``, ``"mlp"``, a module, or ``None`` for no encoder.
        norm: ``"batch"``, ``"layer"`` or ``None``: after each convolution.
        activation: Whether a ReLU follows each convolution (after the norm).
        dropout: Dropout after each convolution, in [0, 1).
        jumping: What the readout sees: ``"last"`` layer, or ``"cat"``, ``"sum"`` or ``"max"`` of
            all layers.
        node_layers: Linear layers, each followed by a ReLU, between the convolutions and the
            readout.
        head: ``"linear"``, ``"mlp"`` or a module.
        node_dim: The dimension of ``x`` that counts nodes. With -2, ``[B, N, C]`` are B sets of features
            of one graph and give ``[B, num_graphs, out_channels]``; with 0, ``[N, S, C]`` are S sets.

    With ``readout=None``, :func:`torch_geometric.nn.to_hetero` makes of the model one for graphs with
    several types of nodes and edges.

    Raises:
        ValueError: If an argument is not one of those above; the message names it.

    Example:
        >>> model = GraphModel(4, 16, 1, num_layers=2, aggr="max", readout="mean")
        >>> edge_index = torch.tensor([[0, 1, 2, 3], [1, 0, 3, 2]])
        >>> batch = torch.tensor([0, 0, 1, 1])
        >>> model(torch.randn(4, 4), edge_index, batch, batch_size=2).shape
        torch.Size([2, 1])
    """

    def __init__(
        self,
        in_channels: Width,
        hidden_channels: int,
        out_channels: int,
        num_layers: int = 3,
        conv: str | Callable[..., nn.Module] = "gin",
        aggr: Any = "sum",
        readout: Any = "mean",
        edge_dim: int | None = None,
        encoder: str | nn.Module | None = "linear",
        norm: str | None = None,
        activation: bool = True,
        dropout: float = 0.0,
        jumping: str = "last",
        node_layers: int = 0,
        head: str | nn.Module = "linear",
        node_dim: int = -2,
        aggr_kwargs: dict[str, Any] | None = None,
        readout_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"`num_layers` must be at least 1; got {num_layers}.")
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"`dropout` must lie in [0, 1); got {dropout}.")
        if jumping not in _JUMPING:
            raise ValueError(f"`jumping` must be one of {', '.join(_JUMPING)}; got {jumping!r}.")
        if norm is not None and norm not in _NORMS:
            raise ValueError(f"`norm` must be None or one of {', '.join(_NORMS)}; got {norm!r}.")
        if isinstance(conv, str) and conv not in CONVOLUTIONS:
            raise ValueError(f"`conv` must be one of {', '.join(CONVOLUTIONS)}; got {conv!r}.")
        aggrs = aggr if isinstance(aggr, tuple) else (aggr,) * num_layers
        if len(aggrs) != num_layers:
            raise ValueError(
                f"`aggr`, as a tuple, must have one entry for each of the {num_layers} layers; "
                f"got {len(aggrs)}."
            )
        self.in_channels, self.out_channels = in_channels, out_channels
        self.jumping, self.activation, self.node_dim = jumping, activation, node_dim
        self.edge_dim = edge_dim
        # A module, which notices train() and eval() where the model is traced.
        self.dropout = nn.Dropout(dropout)
        more: dict[str, Any] = {} if aggr_kwargs is None else {"aggr_kwargs": aggr_kwargs}
        if node_dim != -2:
            more["node_dim"] = node_dim

        hidden = hidden_channels
        self._encoder_given = isinstance(encoder, nn.Module)
        self.encoder: nn.Module = nn.Identity()
        width = in_channels
        if encoder is not None:
            if not isinstance(in_channels, int):
                raise ValueError(
                    f"`in_channels` may be a pair only where encoder=None; got {in_channels}."
                )
            self.encoder, width = _network(encoder, "encoder", in_channels, hidden, hidden), hidden
        make = CONVOLUTIONS[conv] if isinstance(conv, str) else conv
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        widths: list[int] = []
        for layer_aggr in aggrs:
            # A module given once must not become one module shared by all layers.
            layer = make(width, hidden, aggr=copy.deepcopy(layer_aggr), edge_dim=edge_dim, **more)
            width = getattr(layer, "out_channels", hidden)
            self.convs.append(layer)
            self.norms.append(_norm(norm, width))
            widths.append(width)
        if jumping in ("sum", "max") and len(set(widths)) > 1:
            raise ValueError(f"`jumping`={jumping!r} needs layers of equal width; got {widths}.")
        width = sum(widths) if jumping == "cat" else widths[-1]

        self.node_mlp: nn.Module = nn.Identity()
        if node_layers > 0:
            self.node_mlp = perceptron(width, *[hidden] * node_layers, last_activation=True)
            width = hidden
        self.readout: nn.Module | None = None
        if readout is not None:
            self.readout = resolve_pool(
                copy.deepcopy(readout), channels=width, **(readout_kwargs or {})
            )
            width = pooled_width(self.readout, width)
        self.head = _network(head, "head", width, hidden, out_channels)

    def reset_parameters(self) -> None:
        """Restores the initial parameters of all parts, as far as they can."""
        reset(*self.children())

    def pools(self) -> dict[str, nn.Module]:
        """Every pool of the model by its site: ``"conv 1"``, ``"conv 2"``, ..., ``"readout"``."""
        sites: dict[str, nn.Module] = {}
        for i, layer in enumerate(self.convs, start=1):
            found = getattr(layer, "aggr_module", None)
            if isinstance(found, nn.Module):
                sites[f"conv {i}"] = found
        if self.readout is not None:
            sites["readout"] = self.readout
        return sites

    def embed(
        self,
        x: Tensor,
        edge_index: Any,
        edge_attr: Tensor | None = None,
        edge_weight: Tensor | None = None,
    ) -> Tensor:
        """The node vectors that the readout pools."""
        graph = self._checked(x, edge_index, edge_attr)
        h = self.encoder(x)
        states: list[Tensor] = []
        for conv, norm in zip(self.convs, self.norms, strict=True):
            extra: dict[str, Any] = {"edge_attr": edge_attr, "edge_weight": edge_weight}
            edges = graph
            if not isinstance(conv, PoolingConv | GATv2Conv):
                edges = graph.edge_index if isinstance(graph, Neighborhoods) else graph
                extra = {name: value for name, value in extra.items() if value is not None}
            h = norm(conv(h, edges, **extra))
            if self.activation:
                h = h.relu()
            h = self.dropout(h)
            states.append(h)
        return self.node_mlp(_jump(self.jumping, states))

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

    def forward(
        self,
        x: Tensor,
        edge_index: Any,
        batch: Tensor | Segments | None = None,
        batch_size: int | None = None,
        edge_attr: Tensor | None = None,
        edge_weight: Tensor | None = None,
        node_weight: Tensor | None = None,
    ) -> Tensor:
        """Predicts one row per graph, or one per node if there is no readout.

        Args:
            x: Node features ``[N, in_channels]``, or ``[B, N, in_channels]``.
            edge_index: ``[2, E]``, a :class:`torch_geometric.EdgeIndex`, a sparse adjacency, or
                :class:`~graphpool.conv.Neighborhoods`, which are sorted once for all calls.
            batch: The graph of each node, ``[N]`` or :class:`~graphpool.Segments`; one graph if
                absent.
            batch_size: Number of graphs; required with a tensor ``batch``, since the last graphs
                may be empty.
            edge_attr: Edge features ``[E, edge_dim]``.
            edge_weight: Weight of each edge in its receiver's bag, ``[E]``.
            node_weight: Weight of each node in the readout, ``[N]``.

        Raises:
            ValueError: If ``batch_size`` is missing, or sizes do not fit; the message names the argument.
        """
        h = self.embed(x, edge_index, edge_attr, edge_weight)
        if self.readout is None:
            if isinstance(node_weight, Tensor):
                raise ValueError("`node_weight` weights the nodes in the readout; there is none.")
            return self.head(h)
        nodes = graph_segments(batch, batch_size, h.size(self.node_dim), h.device)
        if node_weight is not None:
            check_weight(node_weight, nodes.num_elements, "node_weight")
        return self.head(pool(self.readout, h, nodes, node_weight, dim=self.node_dim))


def _network(query: str | nn.Module, name: str, *widths: int) -> nn.Module:
    if isinstance(query, nn.Module):
        return query
    if query == "linear":
        return Linear(widths[0], widths[-1])
    if query == "mlp":
        return perceptron(*widths)
    raise ValueError(f"`{name}` must be 'linear', 'mlp' or a module; got {query!r}.")


def _norm(norm: str | None, width: int) -> nn.Module:
    if norm is None:
        return nn.Identity()
    return _BatchNorm(width) if norm == "batch" else LayerNorm(width)


class _BatchNorm(nn.BatchNorm1d):
    """Batch normalisation of the last dimension, over all others."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.flatten(0, -2)).view(input.shape)


def _jump(jumping: str, states: Iterable[Tensor]) -> Tensor:
    states = list(states)
    if jumping == "last":
        return states[-1]
    if jumping == "cat":
        return torch.cat(states, dim=-1)
    stacked = torch.stack(states)
    return stacked.sum(0) if jumping == "sum" else stacked.amax(0)
