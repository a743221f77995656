"""Bags that nobody has named: edges are proposed, and attention decides who belongs to whom."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from graphpool import _debug
from graphpool._arguments import as_count, as_indices, check_one_per
from graphpool._recorded import savable
from graphpool.aggr.pyg import pool as pool_bags
from graphpool.aggr.pyg import pooled_width
from graphpool.aggr.registry import resolve_pool
from graphpool.conv import Neighborhoods
from graphpool.nn import LayerNorm, check_input, reset
from graphpool.ops import connected_components, segment_gather, segment_logsumexp, segment_mean
from graphpool.overlap import checked_edges
from graphpool.ragged import ragged_gather
from graphpool.segments import Segments
from graphpool.sets import ISAB
from graphpool.sets.attention import ToSegment


class _Candidates(NamedTuple):
    """The elements that may share a bag with a seed, one bag for each of ``S`` seeds."""

    pivots: Tensor  # [S, 3]: the seed, its likeliest partner, the likeliest other partner of both
    nodes: Tensor  # [M]: the pivots and all of their partners, ascending within a bag
    segments: Segments


@savable
class HyperTrack(nn.Module):
    r"""Finds bags in a heap of elements, such as the hits of tracks among all hits.

    A graph network gives the probability :math:`p_{ij}` that two elements share a bag,

    .. math::
        m_i = \mathrm{pool}_j\, \mathrm{MLP}[x_i, x_j - x_i, x_i \odot x_j, |x_j - x_i|,
            \langle x_i, x_j \rangle, a_{ij}, e_{ij}], \quad
        x_i \leftarrow x_i + \mathrm{MLP}[x_i, m_i], \quad
        \mathrm{logit}\, p_{ij} = \mathrm{MLP}[z_i \odot z_j, e_{ij}]

    with :math:`a_{ij} = (d_i - d_j) / (d_i + d_j)` of the degrees, features ``e`` of the pairs if there are
    any, and ``z`` from the results of all layers.
    Then, in every connected component of the likely pairs at once, three pivots are chosen, and a set
    transformer says which of their partners belong to them: the elements look at the pivots
    (:math:`\mathrm{MAB}(X, P)`), then at one another. What belongs is a bag, and leaves the heap; a pivot
    that finds fewer than ``min_size`` leaves it alone. All events and components are one batch, whose
    candidates are ragged bags.

    Mieskolainen, "Neural Combinatorics for High Energy Physics", CHEP 2023, with these differences: layer
    norms for batch norms, so that events do not see one another; the first pivot is the element with the
    largest :math:`\sum_j p_{ij}`, not a random one; attention goes through inducing vectors.

    Args:
        in_channels: Width of the elements' features.
        hidden_channels: Width inside, a multiple of ``heads``.
        aggr: Pool over the partners of an element: a name, class or module.
        pair_dim: Width of the features of a pair, which must not depend on its order.
        mixer: ``"attention"`` (:class:`graphpool.sets.ISAB`), or a pool through which the candidates see one
            another, :math:`x_e + \mathrm{MLP}[x_e, \mathrm{pool}(x)]`.
        num_layers: Steps of the graph network.
        num_mixers: Layers from candidates to candidates.
        heads: Of the attention.
        cut: The probability above which a pair is likely, in (0, 1).
        min_size: Elements of the smallest bag.
        aggr_kwargs: Arguments of ``aggr``, where it names or is a class.

    Raises:
        ValueError: An argument is not one of those above; the message names it.

    Example:
        >>> model = HyperTrack(3, 16, aggr="max")
        >>> x, pairs = torch.randn(5, 3), torch.tensor([[0, 0, 1, 3], [1, 2, 2, 4]])
        >>> model(x, pairs)[1].shape, model.find(x, pairs).shape
        (torch.Size([4]), torch.Size([5]))
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        aggr: Any = "mean",
        *,
        pair_dim: int = 0,
        mixer: Any = "attention",
        num_layers: int = 3,
        num_mixers: int = 2,
        heads: int = 4,
        cut: float = 0.5,
        min_size: int = 4,
        aggr_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if not 0.0 < cut < 1.0:
            raise ValueError(f"`cut` must lie in (0, 1); got {cut}.")
        width, heads = as_count(hidden_channels, "hidden_channels"), as_count(heads, "heads")
        if width % heads:
            raise ValueError(
                f"`heads` must divide hidden_channels={width} for the attention; got {heads}."
            )
        self.in_channels, self.cut = as_count(in_channels, "in_channels"), cut
        self.min_size, layers = (
            as_count(min_size, "min_size", least=2),
            as_count(num_layers, "num_layers"),
        )
        self.pair_dim = as_count(pair_dim, "pair_dim", least=0)
        self.steps = nn.ModuleList(
            _Step(width if k else in_channels, width, self.pair_dim, aggr, aggr_kwargs or {})
            for k in range(layers)
        )
        self.join = _dense(layers * width, width, width)
        self.pair = nn.Sequential(*_dense(width + self.pair_dim, width), nn.Linear(width, 1))
        self.embed = _dense(width + in_channels, width, width)
        self.look = ToSegment(width, heads, layer_norm=True, scale="full")
        self.mixers = nn.ModuleList(
            ISAB(width, 8, heads, layer_norm=True, scale="full")
            if mixer == "attention"
            else _Mixer(width, resolve_pool(mixer, channels=width))
            for _ in range(as_count(num_mixers, "num_mixers", least=0))
        )
        self.member = nn.Sequential(*_dense(width, width), nn.Linear(width, 1))

    def reset_parameters(self) -> None:
        """Restores the initial parameters of all parts."""
        reset(*self.children())

    def forward(
        self, x: Tensor, pairs: Tensor, pair_attr: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """What each element is like, ``[N, hidden_channels]``, and the logit of each pair, ``[P]``.

        Args:
            x: Features ``[N, in_channels]`` of the elements of all events.
            pairs: ``[2, P]``, each once, in either order, of elements of one event.
            pair_attr: ``[P, pair_dim]``.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: A shape does not fit, a pair repeats or is a loop, or an element is not there.
        """
        check_input(x, "x", self.in_channels, self)
        pairs = checked_edges(pairs, "pairs", x.size(0))
        if _debug.values_are_checked(pairs.device):
            keys = pairs.amin(0) * x.size(0) + pairs.amax(0)
            if keys.unique().numel() < keys.numel() or bool((pairs[0] == pairs[1]).any()):
                raise ValueError(
                    "`pairs` must name each pair of two elements once, in one order; got one that repeats, "
                    "or a loop."
                )
        attr = x.new_empty(pairs.size(1), 0) if pair_attr is None else pair_attr
        if attr.shape != (pairs.size(1), self.pair_dim):
            raise ValueError(
                f"`pair_attr` must have shape [{pairs.size(1)}, {self.pair_dim}], as the network was made "
                f"with pair_dim={self.pair_dim}; got {'none' if pair_attr is None else tuple(attr.shape)}."
            )
        edges = Neighborhoods(torch.cat([pairs, pairs.flip(0)], 1), x.size(0))
        states = [x]
        for step in self.steps:
            states.append(step(states[-1], edges, attr.repeat(2, 1)))
        z = self.join(torch.cat(states[1:], -1))
        both = z.index_select(0, pairs[0]) * z.index_select(0, pairs[1])
        return z, self.pair(torch.cat([both, attr], -1)).squeeze(-1)

    def _members(self, x: Tensor, z: Tensor, bags: _Candidates) -> Tensor:
        given = self.embed(torch.cat([z, x], -1))
        h = self.look(given.index_select(0, bags.nodes), given[bags.pivots], bags.segments)
        for mixer in self.mixers:
            h = mixer(h, bags.segments)
        return self.member(h).squeeze(-1)

    def loss(
        self,
        x: Tensor,
        pairs: Tensor,
        track: Tensor,
        pair_attr: Tensor | None = None,
        share: float = 0.1,
        weights: tuple[float, float, float] = (1.0, 0.2, 1.0),
    ) -> Tensor:
        """What training makes small, for elements whose bags are known.

        A weighted sum of three: a focal loss (gamma 1, both classes weigh the same) of the pairs; for the
        pairs of each bag the mean of ``-log(e^s / (e^s + sum of e^s over pairs with one end in the bag))``,
        where ``s`` is ``tanh(logit) / 0.3``; the focal loss of the candidates of random elements, a mean over
        each bag, which belong if they share the bag of two pivots.

        Args:
            x: ``[N, in_channels]``.
            pairs: ``[2, P]``.
            track: The bag of each element, ``[N]``, integers; events have bags of their own.
            pair_attr: ``[P, pair_dim]``.
            share: Of the elements that stand for pivots, in [0, 1]; 0 trains the pairs alone.
            weights: Of the three, at least 0; published are (0.2, 1, 0.2).

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: As in :meth:`forward`, or ``track``, ``share`` or ``weights`` are not as above.
        """
        label = as_indices(track, "track")
        check_one_per("element", x.size(0), "track", tuple(label.shape))
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"`share` must lie in [0, 1]; got {share}.")
        if len(weights) != 3 or not all(0.0 <= w < math.inf for w in weights):
            raise ValueError(
                f"`weights` must be three finite numbers of at least 0; got {weights}."
            )
        z, logit = self(x, pairs, pair_attr)
        pairs = as_indices(pairs, "pairs")
        same = label[pairs[0]] == label[pairs[1]]
        # Both classes weigh the same.
        kinds = Segments(index=same.long(), num_segments=2)
        means = segment_mean(_focal(logit, same), kinds)
        total = weights[0] * means.sum() / (kinds.counts > 0).sum().clamp_min(1)
        total = total + weights[1] * _contrast(logit, same, label[pairs])
        p = logit.detach().sigmoid()
        likely = p > self.cut
        seeds = pairs[:, likely].unique()
        seeds = seeds[(torch.rand(label.shape, device=x.device) < share)[seeds]]
        if seeds.numel():
            bags = _candidates(p[likely], pairs[:, likely], seeds, x.size(0))
            a, b, c = label[bags.pivots].unbind(1)
            # Candidates of three strangers belong nowhere.
            wanted = torch.where((a == b) | (a == c), a, torch.where(b == c, b, label.min() - 1))
            belongs = label[bags.nodes] == wanted[bags.segments.index]
            each = segment_mean(_focal(self._members(x, z, bags), belongs), bags.segments)
            total = total + weights[2] * each.mean()
        return total

    @torch.no_grad()
    def find(self, x: Tensor, pairs: Tensor, pair_attr: Tensor | None = None) -> Tensor:
        """The first element of the bag of each, ``[N]``; itself where it belongs to none.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: As in :meth:`forward`, or a logit is not a number.
        """
        z, logit = self(x, pairs, pair_attr)
        pairs, unclear = as_indices(pairs, "pairs"), logit.isnan()
        if bool(unclear.any()):
            raise ValueError(
                "`x` and `pair_attr` must give each pair a logit; got NaN for elements "
                f"{pairs[:, unclear][:, 0].tolist()} ({int(unclear.sum())} such pairs)."
            )
        size, p = x.size(0), logit.sigmoid()
        p, pairs = p[p > self.cut], pairs[:, p > self.cut]
        bag = torch.arange(size, device=x.device)
        free = torch.ones_like(bag, dtype=torch.bool)
        while True:
            left = free[pairs].all(0)
            p, pairs = p[left], pairs[:, left]
            part = connected_components(pairs, size)
            large = part.bincount(minlength=size)[part] >= self.min_size
            p, pairs = p[large[pairs[0]]], pairs[:, large[pairs[0]]]
            if not p.numel():
                return bag
            strength = p.new_zeros(size).index_add(0, pairs.flatten(), p.repeat(2))
            # The strongest of each component comes first in it.
            order = strength.argsort(descending=True, stable=True)
            order = order[part[order].argsort(stable=True)]
            seeds = order[torch.cat([order.new_ones(1), part[order].diff()]).bool()]
            seeds = seeds[large[seeds]]
            bags = _candidates(p, pairs, seeds, size)
            chosen = self._members(x, z, bags) > 0
            index = bags.segments.index
            enough = index[chosen].bincount(minlength=seeds.numel()) >= self.min_size
            found = chosen & enough[index]
            nodes, owner = bags.nodes[found], index[found]
            # Nodes ascend within a bag.
            lowest = torch.full_like(seeds, size).scatter_reduce(0, owner, nodes, "amin")
            bag[nodes] = lowest[owner]
            free[nodes] = False
            free[seeds[~enough]] = False


class _Step(nn.Module):
    """One step of the graph network."""

    def __init__(
        self, before: int, width: int, pair_dim: int, aggr: Any, kwargs: dict[str, Any]
    ) -> None:
        super().__init__()
        self.pool = resolve_pool(aggr, channels=width, **kwargs)
        self.message = _dense(3 * before + 3 + pair_dim, width, width)
        self.update = _dense(before + pooled_width(self.pool, width), width, width)
        self.residual = before == width

    def forward(self, x: Tensor, edges: Neighborhoods, attr: Tensor) -> Tensor:
        degree = edges.receivers.counts.to(x.dtype)
        (mine, d), (other, e) = (
            (segment_gather(x, ends), degree[ends.index])
            for ends in (edges.receivers, edges.senders)
        )
        apart, product = other - mine, other * mine
        # As the derivative of a length at 0 is not.
        length = (apart.square().sum(-1) + 1e-12).sqrt()
        scalars = torch.stack([length, product.sum(-1), (d - e) / (d + e)], -1)
        message = self.message(torch.cat([mine, apart, product, scalars, attr], -1))
        new = self.update(torch.cat([x, pool_bags(self.pool, message, edges.receivers)], -1))
        return x + new if self.residual else new


class _Mixer(nn.Module):
    """Candidates see one another through a pool."""

    def __init__(self, width: int, pool: nn.Module) -> None:
        super().__init__()
        self.pool = pool
        self.update = _dense(width + pooled_width(pool, width), width, width)

    def forward(self, x: Tensor, segments: Segments) -> Tensor:
        pooled = segment_gather(pool_bags(self.pool, x, segments), segments)
        return x + self.update(torch.cat([x, pooled], -1))


def _dense(*widths: int) -> nn.Sequential:
    """Linear layers, each with a SiLU and a norm."""
    pairs = zip(widths[:-1], widths[1:], strict=True)
    return nn.Sequential(*(m for a, b in pairs for m in (nn.Linear(a, b), nn.SiLU(), LayerNorm(b))))


def _candidates(p: Tensor, pairs: Tensor, seeds: Tensor, size: int) -> _Candidates:
    """What may belong to each of ``seeds`` ``[S]``, which have a pair at least, by pairs that are likely."""
    # The partners of everyone, the likeliest first.
    order = p.repeat(2).argsort(descending=True, stable=True)
    ends = torch.cat([pairs, pairs.flip(0)], 1)[:, order]
    rows = Segments(index=ends[0], num_segments=size)
    ptr, partner = rows.ptr, rows.sort_elements(ends[1])
    likely = rows.sort_elements(p.repeat(2)[order])
    best = partner[ptr[seeds]]
    # The next of the seed, and the first of its partner that is not the seed.
    after, row = ptr[seeds] + 1, ptr[best]
    row = row + (partner[row] == seeds).long()
    choices = []
    for place, node in ((after, seeds), (row, best)):
        there = place < ptr[node + 1]
        place = place.clamp_max(partner.numel() - 1)
        choices.append((torch.where(there, likely[place], -1.0), partner[place]))
    (mine, a), (its, b) = choices
    third = torch.where(torch.maximum(mine, its) < 0, seeds, torch.where(mine >= its, a, b))
    pivots = torch.stack([seeds, best, third], 1)
    which, place = ragged_gather(ptr, pivots.flatten())
    bags = torch.arange(seeds.numel(), device=seeds.device)
    nodes = torch.cat([pivots.flatten(), partner[place]])
    keys = (torch.cat([bags.repeat_interleave(3), which // 3]) * size + nodes).unique()
    segments = Segments(index=keys // size, num_segments=seeds.numel(), is_sorted=True)
    return _Candidates(pivots, keys % size, segments)


def _focal(logit: Tensor, true: Tensor) -> Tensor:
    """``-(1 - q) log q`` for the probability ``q`` of what is true."""
    log_q = nn.functional.logsigmoid(torch.where(true, logit, -logit))
    return -(1 - log_q.exp()) * log_q


def _contrast(logit: Tensor, same: Tensor, ends: Tensor) -> Tensor:
    """Pairs of a bag against pairs that leave it; mean over the bags that have pairs."""
    score = logit.tanh() / 0.3
    names, bag = ends.unique(return_inverse=True)
    size = names.numel()
    inside = Segments(index=bag[0, same], num_segments=size)
    leaving = Segments(index=bag[:, ~same].flatten(), num_segments=size)
    against = segment_logsumexp(score[~same].repeat(2), leaving)
    against = torch.where(leaving.counts > 0, against, float("-inf"))[inside.index]
    own = score[same]
    each = segment_mean(torch.logaddexp(own, against) - own, inside)
    return each.sum() / (inside.counts > 0).sum().clamp_min(1)
