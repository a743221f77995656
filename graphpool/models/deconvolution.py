"""The graph behind a mixture of its powers, from the bags of wedges of its pairs."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from graphpool import _debug
from graphpool._arguments import as_count, check_one_per, what_came
from graphpool._recorded import savable
from graphpool.aggr.pyg import pool as pool_bags
from graphpool.aggr.pyg import pooled_width
from graphpool.aggr.registry import resolve_pool
from graphpool.nn import check_input, reset
from graphpool.ops import segment_gather, segment_max, segment_sum
from graphpool.overlap import Wedges, checked_edges, wedges
from graphpool.segments import Segments, graph_segments


@savable
class GraphDeconvolution(nn.Module):
    r"""Recovers a graph from an observed mixture of its powers, :math:`A_O = \sum_k h_k A^k` and noise.

    Steps of a proximal gradient descent, with learned coefficients, from channels to channels:

    .. math::
        S_{uv} \leftarrow \mathrm{ReLU}\big(N(\alpha S_{uv}
            + \beta\, \mathrm{pool}_w\{S_{uw} A_{wv} + A_{uw} S_{wv}\}
            + \sum_{p=1}^{P} c_p\, T_p(A_O)_{uv}) - \tau\big)

    where ``N`` divides by the largest absolute value of a graph and channel, and :math:`T_p` are Chebyshev
    polynomials. The bag of a pair are its wedges u-w-v; ``pool="sum"`` is the original,
    :math:`S A_O + A_O S` (Wasserman, Sihag, Mateos, Ribeiro, "Learning Graph Structure from Convolutional
    Mixtures", TMLR 2023), any pool will do. Diagonals are zero. With all pairs this is the dense formula;
    with fewer the graph is sought among them, and entries of :math:`A_O` elsewhere count as 0.

    The result is the mean of the channels of the last step, before its ``ReLU`` and without its ``N``, so
    that a loss sees what is below 0, too. Parameters do not depend on the number of nodes.

    Args:
        channels: Channels of every step.
        pool: Pool over the wedges: a name, class or module.
        num_layers: Steps.
        order: The highest polynomial ``P``.
        pool_kwargs: Arguments of the pool, where it names or is a class.

    Raises:
        ValueError: A number is less than 1.

    Example:
        >>> pairs = torch.combinations(torch.arange(4)).t()
        >>> GraphDeconvolution(8, pool="max")(torch.rand(6), pairs, num_nodes=4).shape
        torch.Size([6])
    """

    def __init__(
        self,
        channels: int = 8,
        pool: Any = "sum",
        *,
        num_layers: int = 6,
        order: int = 2,
        pool_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        width, layers = as_count(channels, "channels"), as_count(num_layers, "num_layers")
        self.order = as_count(order, "order")
        self.steps = nn.ModuleList(
            _Step(width if k else 1, width, self.order, pool, pool_kwargs or {})
            for k in range(layers)
        )

    def reset_parameters(self) -> None:
        """Restores the initial parameters of all steps."""
        reset(*self.steps)

    def forward(
        self,
        observed: Tensor,
        pairs: Tensor,
        batch: Tensor | Segments | None = None,
        *,
        num_nodes: int,
        diagonal: Tensor | None = None,
        prior: Tensor | None = None,
        batch_size: int | None = None,
        ways: Wedges | None = None,
    ) -> Tensor:
        """A score for each pair, ``[P]``; a link where it is above a threshold such as 0.

        Args:
            observed: :math:`A_O` of each pair, ``[P]``, floating point.
            pairs: ``[2, P]``, each once, in either order, without loops.
            batch: The graph of each node, ``[N]``, with ``batch_size``; or segments; ``None`` is one graph.
            num_nodes: Number of nodes ``N``.
            diagonal: :math:`A_O` of each node, ``[N]``; zeros if ``None``.
            prior: Where S begins, ``[P]``; zeros if ``None``.
            batch_size: Number of graphs.
            ways: ``graphpool.overlap.wedges(pairs, num_nodes)``, where they are at hand: of these pairs in
                this order, of which the number alone is checked.

        Raises:
            TypeError: An argument has the wrong type, or is in another precision than the parameters.
            ValueError: Shapes do not fit, a node or a pair is not what it should be, or a pair joins two
                graphs.
        """
        size = as_count(num_nodes, "num_nodes", least=0)
        pairs = checked_edges(pairs, "pairs", size)
        count = pairs.size(1)
        for name, value, owners in (("observed", observed, "pair"), ("prior", prior, "pair"),
                                    ("diagonal", diagonal, "node")):  # fmt: skip
            if value is None and name != "observed":
                continue
            check_input(value.unsqueeze(-1) if isinstance(value, Tensor) else value, name, 1, self)
            check_one_per(
                owners, count if owners == "pair" else size, name, tuple(cast(Tensor, value).shape)
            )
        if ways is not None and (
            not isinstance(ways, Wedges) or ways.segments.num_segments != count + size
        ):
            raise ValueError(
                f"`ways` must be graphpool.overlap.wedges(pairs, {size}) of the same {count} pairs; got "
                f"{what_came(ways) if not isinstance(ways, Wedges) else 'those of others'}."
            )
        ways = wedges(pairs, size) if ways is None else ways
        graphs = graph_segments(batch, batch_size, size, observed.device)
        if _debug.values_are_checked(pairs.device):
            apart = (graphs.index[pairs[0]] != graphs.index[pairs[1]]).nonzero().flatten()
            if apart.numel():
                raise ValueError(
                    "`pairs` must join nodes of one graph; got nodes "
                    f"{pairs[:, apart[0]].tolist()} of two, by `batch`."
                )
        # Everything of a pair, and then of a node with itself.
        ends = torch.cat([pairs[0], torch.arange(size, device=pairs.device)])
        bags = Segments(index=graphs.index[ends], num_segments=graphs.num_segments)
        a = torch.cat([observed, observed.new_zeros(size) if diagonal is None else diagonal])
        off = (torch.arange(count + size, device=a.device) < count).to(a)[:, None]
        given = [off.new_zeros(off.shape).add(1 - off), a[:, None]]
        while len(given) <= self.order:
            given.append(segment_sum(_products(given[-1], a, ways), ways.segments) - given[-2])
        powers = torch.cat(given[1:], 1)
        s = off.new_zeros(off.shape)
        if prior is not None:
            s = torch.cat([prior, prior.new_zeros(size)])[:, None]
        for step in self.steps:
            s, tau = step(s, a, powers, ways)
            s, last = off * s, step is self.steps[-1]
            if not last:
                largest = segment_max(s.abs(), bags)
                s = s / segment_gather(torch.where(largest > 0, largest, 1.0), bags)
            s = s - off * tau
            s = s if last else s.relu()
        return s[:count].mean(1)


class _Step(nn.Module):
    """The affine part of one step, and its threshold."""

    def __init__(
        self, before: int, width: int, order: int, pool: Any, kwargs: dict[str, Any]
    ) -> None:
        super().__init__()
        self.pool = resolve_pool(pool, channels=before, **kwargs)
        self.alpha = nn.Parameter(torch.empty(width, before))
        self.beta = nn.Parameter(torch.empty(width, pooled_width(self.pool, before)))
        self.c = nn.Parameter(torch.empty(width, order))
        self.tau = nn.Parameter(torch.empty(width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        reset(self.pool)
        nn.init.normal_(self.alpha, 1.0, 1 / 3)
        nn.init.normal_(self.beta, 0.0, 1 / 3)
        nn.init.normal_(self.c, 0.0, 1 / 3)
        with torch.no_grad():
            self.c[:, 0] = 1.0
            self.tau.copy_(torch.linspace(0.01, 0.9, self.tau.numel()))

    def forward(self, s: Tensor, a: Tensor, powers: Tensor, ways: Wedges) -> tuple[Tensor, Tensor]:
        pooled = pool_bags(self.pool, _products(s, a, ways), ways.segments)
        channels = s.size(1)
        mean = (s @ self.alpha.t() + pooled @ self.beta.t()) / channels
        return mean + powers @ self.c.t(), self.threshold()

    def threshold(self) -> Tensor:
        """``tau`` in [0, 0.99]; outside of it the derivative is that of the bound: it can come back."""
        return self.tau + (self.tau.clamp(0.0, 0.99) - self.tau).detach()


def _products(s: Tensor, a: Tensor, ways: Wedges) -> Tensor:
    """``S_uw A_wv + A_uw S_wv`` of every wedge, ``[W, C]``."""
    first, second = ways.first, ways.second
    left, right = s.index_select(0, first), s.index_select(0, second)
    return left * a[second][:, None] + right * a[first][:, None]
