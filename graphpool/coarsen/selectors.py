"""Which nodes of a graph become one: selections that are learned, or read off the edges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import GraphConv
from torch_geometric.nn.pool.select import SelectTopK

from graphpool import ops
from graphpool._arguments import as_count
from graphpool._recorded import savable
from graphpool.coarsen.matching import descending, greedy_matching, independent_set
from graphpool.coarsen.select import Selected, Selection
from graphpool.coarsen.tgp import PoolerSelector, is_pooler, make_pooler
from graphpool.nn import reset
from graphpool.ops import merge_edges
from graphpool.segments import Segments


@savable
class TopK(nn.Module):
    r"""Keeps the nodes of the highest scores, :math:`s_v = \tanh(p^\top x_v / \lVert p \rVert)`.

    The selection of ``torch_geometric.nn.TopKPooling`` (Gao and Ji, *Graph U-Nets*, ICML 2019). A coarse
    node is one node, with its features times its score; all others vanish.

    Args:
        channels: Width of the nodes.
        ratio: Share of the nodes of a graph that is kept, rounded up, in (0, 1); or how many, an int.
    """

    def __init__(self, channels: int, ratio: float = 0.5) -> None:
        super().__init__()
        self._make(channels, ratio)

    def _make(self, channels: int, ratio: float) -> None:
        if isinstance(ratio, bool) or not (0 < ratio < 1 or (ratio >= 1 and int(ratio) == ratio)):
            raise ValueError(
                f"`ratio` must be a share in (0, 1) or a number of nodes, at least 1; got {ratio}."
            )
        self.select = SelectTopK(channels, ratio)

    def reset_parameters(self) -> None:
        reset(*self.children())

    def scored(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None) -> Tensor:
        """What the score is computed from."""
        return x

    def forward(
        self, x: Tensor, edge_index: Tensor, batch: Segments, edge_weight: Tensor | None = None
    ) -> Selected:
        scored = self.scored(x, edge_index, edge_weight)
        if not x.size(0):
            empty = torch.zeros(0, dtype=torch.long, device=x.device)
            return Selected(Selection.from_memberships(empty, empty, 0, 0), x.new_zeros(0))
        out = self.select(scored, batch.index)
        # Of one graph the kept nodes stay in their order.
        kept, back = out.node_index.sort()
        count = kept.numel()
        place = torch.arange(count, device=x.device)
        return Selected(Selection.from_memberships(kept, place, x.size(0), count), out.weight[back])


@savable
class SAG(TopK):
    """Keeps the nodes of the highest scores, which a graph convolution computes.

    The selection of ``torch_geometric.nn.SAGPooling`` (Lee et al., *Self-Attention Graph Pooling*, ICML
    2019), with its ``GraphConv``.

    Args:
        channels: Width of the nodes.
        ratio: As in :class:`TopK`.
    """

    def __init__(self, channels: int, ratio: float = 0.5) -> None:
        nn.Module.__init__(self)
        self.gnn = GraphConv(channels, 1)
        self._make(1, ratio)

    def scored(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None) -> Tensor:
        return self.gnn(x, edge_index, edge_weight)


@savable
class EdgeContraction(nn.Module):
    r"""Contracts edges in the order of a learned score, each node at most once.

    .. math::
        s_{uv} = \tfrac12 + \mathrm{softmax}_{u \to v}\big(w^\top [x_u, x_v] + b\big)

    The selection of ``torch_geometric.nn.EdgePooling`` (Diehl, 2019) without its loop over the edges, and
    without loops, which contract nothing. The features of two nodes that become one are multiplied by the
    score of their edge, others by 1. Half of the nodes stay, or more.

    Args:
        channels: Width of the nodes.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.lin = nn.Linear(2 * channels, 1)

    def reset_parameters(self) -> None:
        self.lin.reset_parameters()

    def forward(
        self, x: Tensor, edge_index: Tensor, batch: Segments, edge_weight: Tensor | None = None
    ) -> Selected:
        pairs = edge_index[:, edge_index[0] != edge_index[1]]
        u, v = pairs
        raw = self.lin(torch.cat([x[u], x[v]], dim=1)).squeeze(1)
        incoming = Segments(index=v, num_segments=x.size(0))
        score = 0.5 + ops.segment_softmax(raw[:, None], incoming).squeeze(1)
        cluster, matched = _matched(pairs, score, batch)
        factor = score.new_ones(x.size(0))
        for end in pairs[:, matched]:
            factor = factor.index_copy(0, end, score[matched])
        return Selected(Selection.from_cluster(cluster), factor)


@savable
class Matching(nn.Module):
    r"""Contracts the heaviest edges, each node at most once; nothing is learned.

    .. math:: s_{uv} = w_{uv} \Big( \frac{1}{d_u} + \frac{1}{d_v} \Big)

    with :math:`d` the sum of the weights at a node. What Graclus does (Dhillon et al., TPAMI 2007), with the
    best edge of the graph first in place of a random node: the same pairs each time. Parallel edges, and the
    two directions of an edge, count together.
    """

    def forward(
        self, x: Tensor, edge_index: Tensor, batch: Segments, edge_weight: Tensor | None = None
    ) -> Selected:
        pairs, place = merge_edges(edge_index, x.size(0), directed=False)
        kept = place >= 0
        weight = x.new_ones(place.numel()) if edge_weight is None else edge_weight.detach().to(x)
        weight = x.new_zeros(pairs.size(1)).index_add(0, place[kept], weight[kept])
        degree = x.new_zeros(x.size(0))
        for end in pairs:
            degree = degree.index_add(0, end, weight)
        share = torch.where(weight > 0, weight, 0.0)
        inverse = torch.where(degree > 0, 1 / degree, 0.0)
        score = share * (inverse[pairs[0]] + inverse[pairs[1]])
        return Selected(Selection.from_cluster(_matched(pairs, score, batch)[0]))


@savable
class KMIS(nn.Module):
    r"""Centres more than ``k`` steps apart, and every node to its nearest centre.

    A maximal ``k``-independent set, greedily in the order of a score (Bacciu et al., *Generalizing
    downsampling from regular data to graphs*, AAAI 2023). Features are multiplied by the score, where it is
    learned. Every node lies within ``k`` steps of its centre.

    Args:
        channels: Width of the nodes.
        k: Centres are more than so many steps apart.
        score: ``"linear"``: :math:`\sigma(w^\top x_v + b)`, learned; or ``"degree"``, nodes with many edges
            first.
    """

    def __init__(self, channels: int, k: int = 1, score: str = "linear") -> None:
        super().__init__()
        if score not in ("linear", "degree"):
            raise ValueError(f"`score` must be 'linear' or 'degree'; got {score!r}.")
        self.k = as_count(k, "k")
        self.lin = nn.Linear(channels, 1) if score == "linear" else None

    def reset_parameters(self) -> None:
        if self.lin is not None:
            self.lin.reset_parameters()

    def forward(
        self, x: Tensor, edge_index: Tensor, batch: Segments, edge_weight: Tensor | None = None
    ) -> Selected:
        score = None if self.lin is None else self.lin(x).squeeze(1).sigmoid()
        by = score
        if by is None:
            by = torch.bincount(edge_index[1], minlength=x.size(0))
        order = descending(by, batch)
        centres, cluster = independent_set(edge_index, order, x.size(0), self.k)
        return Selected(Selection.from_cluster(cluster, centres.numel()), score)


#: Selectors by name.
SELECTORS: dict[str, Callable[..., nn.Module]] = {
    "topk": TopK,
    "sag": SAG,
    "edge_contraction": EdgeContraction,
    "matching": lambda channels: Matching(),
    "kmis": KMIS,
}


def resolve_selector(query: Any, channels: int, **kwargs: Any) -> nn.Module:
    """Makes a selector from whatever a user may name it by.

    Args:
        query: ``"topk"``, ``"sag"``, ``"edge_contraction"``, ``"matching"``, ``"kmis"``; a name of
            torch-geometric-pool, such as ``"mincut"``; one of its poolers; or a module called with ``(x,
            edge_index, batch, edge_weight)``, ``batch`` being :class:`graphpool.Segments`, that returns what
            :func:`graphpool.coarsen.select` takes, or :class:`Selected`.
        channels: Width of the nodes.
        **kwargs: Arguments of the selector, where ``query`` is a name.

    Raises:
        TypeError: ``query`` is none of these, or the selector does not take the arguments.
        ValueError: The name is unknown, or arguments were given for a module.

    Example:
        >>> resolve_selector("topk", channels=16, ratio=0.8)
        TopK(
          (select): SelectTopK(16, ratio=0.8)
        )
    """
    if isinstance(query, str):
        if query in SELECTORS:
            try:
                return SELECTORS[query](channels=channels, **kwargs)
            except TypeError as error:
                raise TypeError(f"{query!r} cannot be made with {kwargs}: {error}.") from None
        return PoolerSelector(make_pooler(query, channels, sorted(SELECTORS), kwargs))
    if not isinstance(query, nn.Module):
        names = ", ".join(sorted(SELECTORS))
        raise TypeError(
            f"`coarsen` must be one of {names}, a pooler or a module; got {type(query).__name__}."
        )
    if kwargs:
        raise ValueError(
            f"`coarsen` is a module already; it cannot take {', '.join(sorted(kwargs))}."
        )
    return PoolerSelector(query) if is_pooler(query) else query


def _matched(pairs: Tensor, score: Tensor, batch: Segments) -> tuple[Tensor, Tensor]:
    """A cluster for each node, the smallest of its nodes, and the pairs that were matched."""
    graphs = Segments(index=batch.index[pairs[0]], num_segments=batch.num_segments)
    chosen = greedy_matching(pairs, descending(score, graphs), batch.num_elements)
    matched = chosen.nonzero().squeeze(1)
    cluster = torch.arange(batch.num_elements, device=pairs.device)
    low, high = pairs[:, matched].amin(0), pairs[:, matched].amax(0)
    return cluster.index_copy(0, high, low), matched
