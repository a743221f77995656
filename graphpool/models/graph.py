"""A graph network in which every pool is a word."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import Linear
from torch_geometric.nn.inits import reset

from graphpool.aggr.flat import LayerNorm
from graphpool.aggr.foreign import pool, pooled_width, resolve_pool
from graphpool.conv import EdgeConv, GATv2Conv, GINConv, PairMLPConv, SAGEConv
from graphpool.conv.base import perceptron
from graphpool.segments import Segments

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
        in_channels: Width of the nodes, -1 to find out at the first call.
        hidden_channels: Width of the hidden layers.
        out_channels: Width of the output.
        num_layers: Number of convolutions, at least 1.
        conv: ``"gin"``, ``"sage"``, ``"edge"``, ``"gatv2"``, ``"pair_mlp"``, or a function called
            with ``(in_channels, out_channels, aggr=..., edge_dim=...)``.
        aggr: Pool over neighbours: a name, class, module (copied for each layer) or list
            (concatenated), the same in each layer; or a tuple with one of these per layer.
        readout: Pool over the nodes of a graph, or ``None`` for labels of nodes.
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
        in_channels: int,
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
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, got {num_layers}")
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
        if jumping not in _JUMPING:
            raise ValueError(f"jumping must be one of {', '.join(_JUMPING)}; got {jumping!r}")
        if norm is not None and norm not in _NORMS:
            raise ValueError(f"norm must be None or one of {', '.join(_NORMS)}; got {norm!r}")
        if isinstance(conv, str) and conv not in CONVOLUTIONS:
            raise ValueError(f"conv must be one of {', '.join(CONVOLUTIONS)}; got {conv!r}")
        aggrs = aggr if isinstance(aggr, tuple) else (aggr,) * num_layers
        if len(aggrs) != num_layers:
            raise ValueError(
                f"aggr, as a tuple, must have one entry for each of the {num_layers} layers; "
                f"got {len(aggrs)}"
            )
        self.jumping, self.dropout, self.activation = jumping, dropout, activation
        self.takes_edges = edge_dim is not None

        hidden = hidden_channels
        self.encoder, width = _encoder(encoder, in_channels, hidden)
        make = CONVOLUTIONS[conv] if isinstance(conv, str) else conv
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        widths: list[int] = []
        for layer_aggr in aggrs:
            # A module given once must not become one module shared by all layers.
            layer = make(width, hidden, aggr=copy.deepcopy(layer_aggr), edge_dim=edge_dim)
            width = getattr(layer, "out_channels", hidden)
            self.convs.append(layer)
            self.norms.append(_norm(norm, width))
            widths.append(width)
        if jumping in ("sum", "max") and len(set(widths)) > 1:
            raise ValueError(f"jumping={jumping!r} needs layers of equal width; got {widths}")
        width = sum(widths) if jumping == "cat" else widths[-1]

        self.node_mlp: nn.Module = nn.Identity()
        if node_layers > 0:
            self.node_mlp = perceptron([width] + [hidden] * node_layers, last_activation=True)
            width = hidden
        self.readout: nn.Module | None = None
        if readout is not None:
            self.readout = resolve_pool(copy.deepcopy(readout), channels=width)
            width = pooled_width(self.readout, width)
        self.head = _head(head, width, hidden, out_channels)

    def reset_parameters(self) -> None:
        """Restores the initial parameters of all parts, as far as they can."""
        for part in self.children():
            reset(part)

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
        edge_index: Tensor,
        edge_attr: Tensor | None = None,
        edge_weight: Tensor | None = None,
    ) -> Tensor:
        """The node vectors that the readout pools."""
        extra: dict[str, Tensor] = {}
        if self.takes_edges and edge_attr is not None:
            extra["edge_attr"] = edge_attr
        if edge_weight is not None:
            extra["edge_weight"] = edge_weight
        h = self.encoder(x)
        states: list[Tensor] = []
        for conv, norm in zip(self.convs, self.norms, strict=True):
            h = norm(conv(h, edge_index, **extra))
            if self.activation:
                h = h.relu()
            h = nn.functional.dropout(h, self.dropout, self.training)
            states.append(h)
        return self.node_mlp(_jump(self.jumping, states))

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        batch: Tensor | Segments | None = None,
        batch_size: int | None = None,
        edge_attr: Tensor | None = None,
        edge_weight: Tensor | None = None,
        node_weight: Tensor | None = None,
    ) -> Tensor:
        """Predicts one row per graph, or one per node if there is no readout.

        Args:
            x: Node features ``[N, in_channels]``.
            edge_index: ``[2, E]``, or a :class:`torch_geometric.EdgeIndex`.
            batch: The graph of each node, ``[N]`` or :class:`~graphpool.Segments`; one graph if
                absent.
            batch_size: Number of graphs; required with a tensor ``batch``, since the last graphs
                may be empty.
            edge_attr: Edge features ``[E, edge_dim]``.
            edge_weight: Weight of each edge in its receiver's bag, ``[E]``.
            node_weight: Weight of each node in the readout, ``[N]``.

        Raises:
            ValueError: If ``batch_size`` is missing, or edge features do not fit ``edge_dim``.
        """
        if edge_attr is not None and not self.takes_edges:
            raise ValueError("edge_attr was given, but the model was made without edge_dim")
        h = self.embed(x, edge_index, edge_attr, edge_weight)
        if self.readout is None:
            return self.head(h)
        nodes = _as_segments(batch, batch_size, h)
        return self.head(pool(self.readout, h, nodes, node_weight))


def _as_segments(batch: Tensor | Segments | None, batch_size: int | None, h: Tensor) -> Segments:
    if isinstance(batch, Segments):
        return batch
    if batch is None:
        return Segments(ptr=torch.tensor([0, h.size(0)], device=h.device), num_elements=h.size(0))
    if batch_size is None:
        raise ValueError(
            "batch_size must be given with batch: the largest index does not tell how many graphs "
            "there are"
        )
    return Segments(index=batch, num_segments=batch_size)


def _encoder(
    encoder: str | nn.Module | None, in_channels: int, hidden: int
) -> tuple[nn.Module, int]:
    if encoder is None:
        return nn.Identity(), in_channels
    if isinstance(encoder, nn.Module):
        return encoder, hidden
    if encoder == "linear":
        return Linear(in_channels, hidden), hidden
    if encoder == "mlp":
        return perceptron([in_channels, hidden, hidden]), hidden
    raise ValueError(f"encoder must be 'linear', 'mlp', a module or None; got {encoder!r}")


def _head(head: str | nn.Module, width: int, hidden: int, out_channels: int) -> nn.Module:
    if isinstance(head, nn.Module):
        return head
    if head == "linear":
        return Linear(width, out_channels)
    if head == "mlp":
        return perceptron([width, hidden, out_channels])
    raise ValueError(f"head must be 'linear', 'mlp' or a module; got {head!r}")


def _norm(norm: str | None, width: int) -> nn.Module:
    if norm is None:
        return nn.Identity()
    return nn.BatchNorm1d(width) if norm == "batch" else LayerNorm(width)


def _jump(jumping: str, states: Iterable[Tensor]) -> Tensor:
    states = list(states)
    if jumping == "last":
        return states[-1]
    if jumping == "cat":
        return torch.cat(states, dim=-1)
    stacked = torch.stack(states)
    return stacked.sum(0) if jumping == "sum" else stacked.amax(0)
