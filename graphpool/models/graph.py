"""A graph network in which every pool is a word."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, fx, nn

from graphpool._arguments import what_came
from graphpool._recorded import savable
from graphpool.aggr.pyg import pool, pooled_width
from graphpool.aggr.registry import resolve_pool
from graphpool.coarsen import Coarsened
from graphpool.conv import EdgeConv, GATv2Conv, GINConv, Neighborhoods, PairMLPConv, SAGEConv
from graphpool.conv.base import PoolingConv, Width
from graphpool.conv.neighborhoods import neighborhoods
from graphpool.models.hierarchy import Hierarchy
from graphpool.models.inputs import GraphInputs
from graphpool.models.parts import jump, network_of, norm_of, one_of
from graphpool.nn import perceptron, reset
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


@savable
class GraphModel(GraphInputs):
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
            all layers. With ``coarsen`` of all levels, each pooled by a readout of its own.
        node_layers: Linear layers, each followed by a ReLU, between the convolutions and the
            readout.
        head: ``"linear"``, ``"mlp"`` or a module.
        node_dim: The dimension of ``x`` that counts nodes. With -2, ``[B, N, C]`` are B sets of features
            of one graph and give ``[B, num_graphs, out_channels]``; with 0, ``[N, S, C]`` are S sets.
        coarsen: What makes the graph smaller between convolutions: whatever
            :func:`graphpool.coarsen.resolve_selector` takes, such as ``"topk"``; or a tuple with one of
            these, or ``None``, for each of the ``num_layers - 1`` places. With ``readout=None`` the way leads
            back to the nodes: at each level a convolution of what it held and what is lifted to it.
        coarsen_kwargs: Arguments of the selectors, where they are named.
        reduce: Pool over the nodes of a cluster.
        edge_reduce: Pool over the features of edges that become one.
        node_categories: For each column of ``x`` the number of its categories, ``None`` where it holds
            numbers: a :class:`graphpool.nn.ColumnEmbedding` is the first layer of the encoder.
        edge_categories: Likewise for ``edge_attr``.
        features: What nodes hold: ``"x"``, given in each call; or, with ``in_channels=1`` and ``x=None``,
            ``"degree"``, log(1 + d) of the edges that arrive, or ``"constant"``, 1.

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
        coarsen: Any = None,
        coarsen_kwargs: dict[str, Any] | None = None,
        reduce: Any = "mean",
        edge_reduce: Any = "mean",
        node_categories: Sequence[int | None] | None = None,
        edge_categories: Sequence[int | None] | None = None,
        features: str = "x",
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"`num_layers` must be at least 1; got {num_layers}.")
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"`dropout` must lie in [0, 1); got {dropout}.")
        one_of("jumping", jumping, ("last", "cat", "sum", "max"))
        one_of("norm", norm, (None, "batch", "layer"))
        if isinstance(conv, str):
            one_of("conv", conv, CONVOLUTIONS)
        aggrs = aggr if isinstance(aggr, tuple) else (aggr,) * num_layers
        if len(aggrs) != num_layers:
            raise ValueError(
                f"`aggr`, as a tuple, must have one entry for each of the {num_layers} layers; "
                f"got {len(aggrs)}."
            )
        self.in_channels, self.out_channels = in_channels, out_channels
        self.jumping, self.activation, self.node_dim = jumping, activation, node_dim
        # A module, which notices train() and eval() where the model is traced.
        self.dropout = nn.Dropout(dropout)
        more: dict[str, Any] = {} if aggr_kwargs is None else {"aggr_kwargs": aggr_kwargs}
        if node_dim != -2:
            more["node_dim"] = node_dim

        hidden = hidden_channels
        width: Any
        width, edge_dim = self._make_inputs(
            in_channels, hidden, encoder, edge_dim, node_categories, edge_categories, features
        )
        made = CONVOLUTIONS[conv] if isinstance(conv, str) else conv

        def make(layer: int, width: Width) -> nn.Module:
            # A module given once must not become one module shared by all layers.
            return made(width, hidden, aggr=copy.deepcopy(aggrs[layer]), edge_dim=edge_dim, **more)

        self.hierarchy = Hierarchy(coarsen, num_layers, reduce, edge_reduce, coarsen_kwargs)
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        widths: list[int] = []
        for i in range(num_layers):
            if i:
                width = self.hierarchy.step_before(i, widths[-1], edge_dim)
            layer = make(i, width)
            widths.append(getattr(layer, "out_channels", hidden))
            self.convs.append(layer)
            self.norms.append(norm_of(norm, widths[-1]))
        levels = len(self.hierarchy.steps) + 1
        if levels > 1:
            widths = [*self.hierarchy.skips, widths[-1]]
            if jumping != "last" and readout is None:
                raise ValueError(
                    f"`jumping` must be 'last' with `coarsen` and readout=None, where the way back joins all "
                    f"levels; got {jumping!r}."
                )
        if (jumping in ("sum", "max") or (jumping == "cat" and levels > 1)) and len(
            set(widths)
        ) > 1:
            raise ValueError(f"`jumping`={jumping!r} needs layers of equal width; got {widths}.")
        width = sum(widths) if jumping == "cat" and levels == 1 else widths[-1]
        if readout is None:
            width = self.hierarchy.make_way_back(width, make, norm)

        self.node_mlp: nn.Module = nn.Identity()
        if node_layers > 0:
            self.node_mlp = perceptron(width, *[hidden] * node_layers, last_activation=True)
            width = hidden
        self.readout: nn.Module | None = None
        #: Those of the finer levels, where the readout sees all of them.
        self.level_readouts = nn.ModuleList()
        if readout is not None:
            seen = 1 if jumping == "last" else levels
            readouts = [
                resolve_pool(copy.deepcopy(readout), channels=width, **(readout_kwargs or {}))
                for _ in range(seen)
            ]
            self.level_readouts.extend(readouts[:-1])
            self.readout = readouts[-1]
            width = pooled_width(self.readout, width) * (seen if jumping == "cat" else 1)
        self.head = network_of(head, "head", width, hidden, out_channels)

    def reset_parameters(self) -> None:
        """Restores the initial parameters of all parts, as far as they can."""
        reset(*self.children())

    def pools(self) -> dict[str, nn.Module]:
        """Every pool of the model by its site: ``"conv 1"``, ``"conv 2"``, ..., ``"readout"``.

        With ``coarsen`` also ``"reduce 1"``, ...; on the way back ``"up 1"``, ...; with ``jumping`` the
        readouts of the finer levels, ``"readout 1"``, ...
        """
        found: dict[str, list[Any]] = {
            "conv": [getattr(layer, "aggr_module", None) for layer in self.convs],
            "reduce": [step.pool for step in self.hierarchy.steps.values()],
            "up": [getattr(layer, "aggr_module", None) for layer in self.hierarchy.ups],
            "readout": list(self.level_readouts),
        }
        sites = {
            f"{kind} {i}": module
            for kind, modules in found.items()
            for i, module in enumerate(modules, start=1)
            if isinstance(module, nn.Module)
        }
        return sites if self.readout is None else {**sites, "readout": self.readout}

    def embed(
        self,
        x: Tensor | None,
        edge_index: Any,
        edge_attr: Tensor | None = None,
        edge_weight: Tensor | None = None,
        batch: Tensor | Segments | None = None,
    ) -> Tensor:
        """The node vectors that the readout pools; with ``coarsen`` each level has its own: :meth:`levels`.

        Arguments as in :meth:`forward`.
        """
        if self.hierarchy.steps:
            raise ValueError(
                "Each level of a hierarchy has node vectors; ask `levels(x, edge_index, batch)` for them."
            )
        h, graph, edge_attr = self._encoded(x, edge_index, edge_attr, batch)
        states: list[Tensor] = []
        for conv, norm in zip(self.convs, self.norms, strict=True):
            h = self._convolved(conv, norm, h, graph, edge_attr, edge_weight)
            states.append(h)
        return self.node_mlp(jump(self.jumping, states))

    def levels(
        self, x: Tensor | None, edge_index: Any, *args: Any, **kwargs: Any
    ) -> list[Coarsened]:
        """The graph of each level, finest first, with what its nodes hold after the last convolution on it.

        Arguments as in :meth:`forward`, up to ``edge_weight``. A level knows its edges, the graph of each of
        its nodes (``batch``), which nodes of the level before became one (``selection``), how to lead back
        to them (``lift``), and the losses of the selector.
        """
        return self._run(x, edge_index, *args, **kwargs)[0]

    def _run(
        self,
        x: Tensor | None,
        edge_index: Any,
        batch: Tensor | Segments | None = None,
        batch_size: int | None = None,
        edge_attr: Tensor | None = None,
        edge_weight: Tensor | None = None,
    ) -> tuple[list[Coarsened], Tensor]:
        h, graph, edge_attr = self._encoded(x, edge_index, edge_attr, batch)
        if isinstance(h, fx.Proxy) or h.dim() != 2:
            raise ValueError(
                f"`x` must be a tensor [N, channels] with `coarsen`; got {what_came(x)}."
            )
        nodes = graph_segments(batch, batch_size, h.size(0), h.device)
        layers = list(zip(self.convs, self.norms, strict=True))
        edges = neighborhoods(graph, h.size(0))
        return self.hierarchy.run(h, edges, nodes, edge_attr, edge_weight, layers, self._convolved)

    def _convolved(
        self,
        conv: nn.Module,
        norm: nn.Module,
        h: Tensor,
        graph: Any,
        edge_attr: Tensor | None,
        edge_weight: Tensor | None,
    ) -> Tensor:
        """One layer: convolution, norm, activation, dropout."""
        extra: dict[str, Any] = {"edge_attr": edge_attr, "edge_weight": edge_weight}
        if not isinstance(conv, PoolingConv | GATv2Conv):
            graph = graph.edge_index if isinstance(graph, Neighborhoods) else graph
            extra = {name: value for name, value in extra.items() if value is not None}
        h = norm(conv(h, graph, **extra))
        if self.activation:
            h = h.relu()
        return self.dropout(h)

    def forward(
        self,
        x: Tensor | None,
        edge_index: Any,
        batch: Tensor | Segments | None = None,
        batch_size: int | None = None,
        edge_attr: Tensor | None = None,
        edge_weight: Tensor | None = None,
        node_weight: Tensor | None = None,
        return_loss: bool | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Predicts one row per graph, or one per node if there is no readout.

        Args:
            x: Node features ``[N, in_channels]``, or ``[B, N, in_channels]``; ``None`` where ``features`` are
                made.
            edge_index: ``[2, E]``, a :class:`torch_geometric.EdgeIndex`, a sparse adjacency, or
                :class:`~graphpool.conv.Neighborhoods`, which are sorted once for all calls.
            batch: The graph of each node, ``[N]`` or :class:`~graphpool.Segments`; one graph if
                absent.
            batch_size: Number of graphs; required with a tensor ``batch``, since the last graphs
                may be empty.
            edge_attr: Edge features ``[E, edge_dim]``.
            edge_weight: Weight of each edge in its receiver's bag, ``[E]``.
            node_weight: Weight of each node in the readout, ``[N]``; not with ``coarsen``.
            return_loss: Returns ``(prediction, loss)``, where the loss is the sum of those of the selectors,
                0 if they have none. Left out in training, a warning says that there are some.

        Raises:
            ValueError: If ``batch_size`` is missing, or sizes do not fit; the message names the argument.
        """
        if self.hierarchy.steps:
            if node_weight is not None:
                raise ValueError(
                    "`node_weight` must be None with `coarsen`: readouts see coarse nodes."
                )
            levels, h = self._run(x, edge_index, batch, batch_size, edge_attr, edge_weight)
            loss = self.hierarchy.loss(levels, h, return_loss)
            out = self._read(levels) if self.readout is not None else self.node_mlp(h)
        else:
            out, loss = self.embed(x, edge_index, edge_attr, edge_weight, batch), None
            if self.readout is not None:
                nodes = graph_segments(batch, batch_size, out.size(self.node_dim), out.device)
                if node_weight is not None:
                    check_weight(node_weight, nodes.num_elements, "node_weight")
                out = pool(self.readout, out, nodes, node_weight, dim=self.node_dim)
            elif isinstance(node_weight, Tensor):
                raise ValueError("`node_weight` weights the nodes in the readout; there is none.")
        out = self.head(out)
        # What traces the model has no truth values here.
        if return_loss is not True:
            return out
        return out, out.new_zeros(()) if loss is None else loss

    def _read(self, levels: list[Coarsened]) -> Tensor:
        """What the readouts make of the levels that they see, the last or all of them."""
        readouts = [*self.level_readouts, self.readout]
        pooled = [
            pool(readout, self.node_mlp(level.x), level.batch)  # type: ignore[arg-type]
            for readout, level in zip(readouts, levels[-len(readouts) :], strict=True)
        ]
        return jump(self.jumping, pooled)
