"""Layers from weights to weights, equivariant under permutations of hidden neurons."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from graphpool._arguments import as_count, check_one_per
from graphpool.aggr.pyg import pool as pool_bags
from graphpool.aggr.pyg import pooled_width
from graphpool.aggr.registry import resolve_pool
from graphpool.models.weight_space.entries import WeightTable
from graphpool.nn import check_input, reset
from graphpool.ops import segment_gather, segment_mean, segment_sum, segment_var
from graphpool.segments import Segments


def num_roles(in_features: int, out_features: int, num_layers: int) -> int:
    """How many roles the rows of a :class:`WeightTable` may have."""
    return (num_layers - 1) * (2 + in_features + out_features) - 1 + out_features


class Summary(nn.Module):
    """What no permutation of hidden neurons changes: every role pooled, and the biases of the outputs.

    Args:
        channels: Features of each row.
        in_features, out_features, num_layers: Of the networks that are read: the most that there may be.
        pool, pool_kwargs: As for :class:`DWSLayer`.
    """

    def __init__(
        self,
        channels: int,
        in_features: int,
        out_features: int,
        num_layers: int,
        *,
        pool: Any = "max",
        pool_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.pool = resolve_pool(pool, channels=channels, **(pool_kwargs or {}))
        shared = num_roles(in_features, out_features, num_layers) - out_features
        self.widths = shared * pooled_width(self.pool, channels), out_features * channels
        self.out_channels = sum(self.widths)

    def reset_parameters(self) -> None:
        """Restores the initial parameters."""
        reset(self.pool)

    def forward(self, x: Tensor, table: WeightTable) -> Tensor:
        """From rows ``[E, channels]`` to networks ``[B, out_channels]``."""
        shared = sum(table.kinds[:2])
        parts = (
            pool_bags(self.pool, x[:shared], table.shared),
            segment_sum(x[shared:], table.outputs),
        )
        size = len(table.networks)
        return torch.cat([t.reshape(size, w) for t, w in zip(parts, self.widths, strict=True)], 1)


class DWSLayer(nn.Module):
    r"""The affine equivariant layer of deep weight spaces, for networks of any architectures at once.

    Each of the :math:`2L` tensors of weights and biases gets something from each. What two of them share, a
    neuron or both ends of a weight, is kept; over what they do not share the sender is pooled. In the terms
    of :class:`WeightTable`, with :math:`s_v` the slots of a hidden neuron :math:`v`, side by side,
    :math:`e_{uv}` the weight between two, and a linear map of its own for each layer :math:`\ell`:

    .. math::
        h_v &= A_\ell\, [s_v, \mathrm{pool}_u\, e_{uv}, \mathrm{pool}_u\, e_{vu}], \quad
        g = G\, [\mathrm{pool\ of\ every\ role}, \mathrm{biases\ of\ outputs}] \\
        s'_v &= h_v + g, \quad e'_{uv} = C_\ell\, e_{uv} + h_u + h_v + g

    (each of these terms a part of :math:`h` or :math:`g` of its own). With ``pool="max"`` or ``"mean"`` that
    is the sum of the :math:`4 L^2` published blocks, with set layers of the kind of Deep Sets (Navon et al.,
    "Equivariant architectures for learning in deep weight spaces", ICML 2023), as three pools and three
    products of matrices.

    Args:
        in_channels: Features of each row.
        out_channels: What comes out.
        in_features, out_features, num_layers: Of the networks that are read: the most that there may be.
        pool: A name, class or module.
        pool_kwargs: Arguments of the pool, where ``pool`` names or is a class.

    Raises:
        ValueError: An argument is not one of those above; the message names it.

    Example:
        >>> from graphpool.models.weight_space import Perceptrons, WeightTable
        >>> small = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1))
        >>> table = WeightTable(Perceptrons.of([small]), 2, 1, 2)
        >>> DWSLayer(1, 8, 2, 1, 2)(table.x, table).shape
        torch.Size([17, 8])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        in_features: int,
        out_features: int,
        num_layers: int,
        *,
        pool: Any = "max",
        pool_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.in_channels = before = as_count(in_channels, "in_channels")
        self.out_channels = after = as_count(out_channels, "out_channels")
        depth = as_count(num_layers, "num_layers", least=2) - 1
        ins, outs = as_count(in_features, "in_features"), as_count(out_features, "out_features")
        self.summary = Summary(
            before, ins, outs, depth + 1, pool=copy.deepcopy(pool), pool_kwargs=pool_kwargs
        )
        self.arriving, self.leaving = (
            resolve_pool(copy.deepcopy(pool), channels=before, **(pool_kwargs or {}))
            for _ in range(2)
        )
        self.slots, width = 1 + ins + outs, pooled_width(self.arriving, before)
        self.neuron = _PerLayer(depth, self.slots * before + 2 * width, (self.slots + 2) * after)
        self.inner = _PerLayer(depth - 1, before, after)
        self.common = nn.Linear(self.summary.out_channels, num_roles(ins, outs, depth + 1) * after)

    def reset_parameters(self) -> None:
        """Restores the initial parameters."""
        reset(*self.children())

    def forward(self, x: Tensor, table: WeightTable) -> Tensor:
        """From rows ``[E, in_channels]`` to rows ``[E, out_channels]``.

        Raises:
            TypeError: ``x`` is no tensor, or in another precision than the parameters.
            ValueError: ``x`` has other rows than the table, or another width.
        """
        check_input(x, "x", self.in_channels, self.common)
        check_one_per("entry", len(table.x), "x", x.size(0))
        after = self.out_channels
        slotted, inner, biases = x.split(table.kinds)
        arriving = pool_bags(self.arriving, inner, table.columns)
        leaving = pool_bags(self.leaving, inner, table.rows)
        own = segment_sum(slotted, table.slots).reshape(arriving.size(0), self.slots * x.size(1))
        h = self.neuron(torch.cat([own, arriving, leaving], 1), table.neurons)
        own, sender, receiver = h.split([h.size(1) - 2 * after, after, after], 1)
        own = segment_gather(own.reshape(-1, after), table.slots)
        inner = self.inner(inner, table.inner)
        inner = inner + segment_gather(sender, table.rows) + segment_gather(receiver, table.columns)
        common = self.common(self.summary(x, table)).view(-1, after)
        parts = torch.cat([own, inner, inner.new_zeros(biases.size(0), after)])
        return parts + segment_gather(common, table.places)


class RoleNorm(nn.Module):
    """Batch normalisation of the rows of each role apart, over the networks of a batch and their neurons.

    A role of which a batch has one row, which has no variance, is normalised by the running moments; they
    start at 0 and 1.

    Args:
        channels: Features of each row.
        roles: How many roles there are.
        momentum: Share of a new batch in the running moments.
        eps: Added to the variance.
    """

    mean: Tensor
    var: Tensor

    def __init__(self, channels: int, roles: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps, self.track_running_stats = momentum, eps, True
        self.scale, self.shift = (nn.Parameter(torch.empty(roles, channels)) for _ in range(2))
        self.register_buffer("mean", torch.empty(roles, channels))
        self.register_buffer("var", torch.empty(roles, channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Restores the initial parameters, and forgets what was seen."""
        for tensor, value in ((self.scale, 1), (self.shift, 0), (self.mean, 0), (self.var, 1)):
            nn.init.constant_(tensor, value)

    def forward(self, x: Tensor, roles: Segments) -> Tensor:
        """Rows ``[E, channels]`` and their roles."""
        mean, var = self.mean, self.var
        if self.training:
            several = roles.counts.unsqueeze(1) > 1
            found = segment_mean(x, roles), segment_var(x, roles)
            if self.track_running_stats:
                self._remember(*found, roles.counts.unsqueeze(1))
            mean, var = torch.where(several, found[0], mean), torch.where(several, found[1], var)
        factor = self.scale * (var + self.eps).rsqrt()
        return x * segment_gather(factor, roles) + segment_gather(self.shift - mean * factor, roles)

    @torch.no_grad()
    def _remember(self, mean: Tensor, var: Tensor, counts: Tensor) -> None:
        step = self.momentum * (counts > 1).to(self.mean)
        unbiased = var * (counts / (counts - 1).clamp_min(1))
        for kept, new in ((self.mean, mean), (self.var, unbiased)):
            kept.copy_(kept.lerp(new.to(kept), step.expand_as(kept)))


class _PerLayer(nn.Module):
    """A linear map for each of some layers, whose rows lie one after the other."""

    def __init__(self, layers: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(layers, out_channels, in_channels))
        self.bias = nn.Parameter(torch.empty(layers, out_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for parameter in (self.weight, self.bias):
            nn.init.uniform_(parameter, -1, 1).data.mul_(1 / math.sqrt(self.weight.size(2)))

    def forward(self, x: Tensor, counts: list[int]) -> Tensor:
        parts = zip(x.split(counts) if counts else (), self.weight, self.bias, strict=True)
        return torch.cat([x.new_zeros(0, self.weight.size(1)), *(linear(*part) for part in parts)])
