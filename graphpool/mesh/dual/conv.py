"""Attention between faces that is read off the dual graph."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint as computed_again

from graphpool import ops
from graphpool.mesh.dual.topology import MeshTopology
from graphpool.mesh.structures import expect
from graphpool.segments import Segments


class MeshFeatures(NamedTuple):
    """What a convolution returns.

    Attributes:
        primal: ``[F, heads * C_p]``.
        dual: ``[n_d, heads * C_d]``.
        attention: ``[2 E, heads]``, of each directed edge of ``edge_index``, after dropout.
    """

    primal: Tensor
    dual: Tensor
    attention: Tensor


class PrimalDualConv(nn.Module):
    r"""The convolution of PD-MeshNet (Milano et al., NeurIPS 2020).

    The dual nodes attend to their neighbours in the dual graph (:math:`v` the target, :math:`u` a
    source, :math:`\sigma` a LeakyReLU of slope 0.2), per head:

    .. math::
        z = x_d W_d, \quad
        \beta_{uv} = \operatorname{softmax}_u \sigma(a_t \cdot z_v + a_s \cdot z_u), \quad
        x_d'^{\,v} = \operatorname{ReLU}\Big(\sum_u \beta_{uv} z_u + b_d\Big)

    and the new dual features give the attention between faces, where :math:`d(j \to i)` is the dual
    node of that pair:

    .. math::
        \alpha_{ij} = \operatorname{softmax}_{j \in N(i)} \sigma(a \cdot x_d'^{\,d(j \to i)}), \quad
        x_p'^{\,i} = \operatorname{ReLU}\Big(\sum_j \alpha_{ij} (x_p W_p)^j + b_p\Big)

    Heads are concatenated in both streams. As published, a face's own feature does not enter its
    update, and what the dual stream knows reaches the faces through :math:`\alpha` alone.
    ``own_feature`` adds :math:`x_p^i W_o` inside the ReLU, and ``dual_messages`` adds
    :math:`\sum_j \alpha_{ij}\, x_d'^{\,d(j \to i)} W_m`: a message also carries the new feature of its
    pair of faces. The dual stream never sees the primal one.

    Args:
        in_channels: Widths of the two inputs, primal and dual.
        out_channels: Widths of the two outputs, per head.
        heads: Number of heads, the same in both streams.
        bias: Whether :math:`b_p, b_d` exist.
        dropout: Probability with which attention coefficients are dropped in training.
        dual_self_loops: Whether dual nodes also attend to themselves.
        own_feature, dual_messages: See above.
        checkpoint: Whether training keeps the inputs and outputs only, and computes what is between them
            again in the backward pass: the same numbers, in less memory and more time.

    A face or a dual node without neighbours gets ``ReLU(bias)`` (or of the own feature).

    Example:
        >>> from graphpool.mesh import icosphere, primal_dual
        >>> graph = primal_dual(*icosphere(1))
        >>> conv = PrimalDualConv((1, 8), (16, 8), heads=2)
        >>> out = conv(graph.x, graph.x_dual, graph.topology())
        >>> out.primal.shape, out.dual.shape, out.attention.shape
        (torch.Size([80, 32]), torch.Size([120, 16]), torch.Size([240, 2]))
    """

    def __init__(
        self,
        in_channels: tuple[int, int],
        out_channels: tuple[int, int],
        heads: int = 1,
        *,
        bias: bool = True,
        dropout: float = 0.0,
        dual_self_loops: bool = False,
        own_feature: bool = False,
        dual_messages: bool = False,
        negative_slope: float = 0.2,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        if heads < 1:
            raise ValueError(f"`heads` must be >= 1; got {heads}.")
        if not 0 <= dropout < 1:
            raise ValueError(f"`dropout` must lie in [0, 1); got {dropout}.")
        self.in_channels, self.out_channels, self.heads = in_channels, out_channels, heads
        self.dropout, self.dual_self_loops = dropout, dual_self_loops
        self.negative_slope, self.checkpoint = negative_slope, checkpoint
        primal, dual = out_channels
        self.primal_weight = nn.Linear(in_channels[0], heads * primal, bias=False)
        self.dual_weight = nn.Linear(in_channels[1], heads * dual, bias=False)
        self.own_weight = (
            nn.Linear(in_channels[0], heads * primal, bias=False) if own_feature else None
        )
        self.message_weight = (
            nn.Linear(heads * dual, heads * primal, bias=False) if dual_messages else None
        )
        self.dual_target = nn.Parameter(torch.empty(heads, dual))
        self.dual_source = nn.Parameter(torch.empty(heads, dual))
        self.primal_score = nn.Parameter(torch.empty(heads, dual))
        self.primal_bias = nn.Parameter(torch.empty(heads * primal)) if bias else None
        self.dual_bias = nn.Parameter(torch.empty(heads * dual)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot uniform weights and attention vectors, zero biases."""
        for linear in (
            self.primal_weight,
            self.dual_weight,
            self.own_weight,
            self.message_weight,
        ):
            if linear is not None:
                nn.init.xavier_uniform_(linear.weight)
        nn.init.xavier_uniform_(self.primal_score)
        # The two halves are one vector of length 2 D in the paper; its bound is theirs.
        bound = (6.0 / (self.heads + 2 * self.out_channels[1])) ** 0.5
        nn.init.uniform_(self.dual_target, -bound, bound)
        nn.init.uniform_(self.dual_source, -bound, bound)
        for parameter in (self.primal_bias, self.dual_bias):
            if parameter is not None:
                nn.init.zeros_(parameter)

    def forward(self, primal: Tensor, dual: Tensor, topology: MeshTopology) -> MeshFeatures:
        """Args: features ``[F, C_p]`` and ``[n_d, C_d]`` of the faces and dual nodes of ``topology``."""
        expect(topology, MeshTopology, "topology")
        _check_rows(primal, topology.num_faces, self.in_channels[0], "primal")
        _check_rows(dual, topology.num_dual_nodes, self.in_channels[1], "dual")
        if self.dual_self_loops:
            topology = topology.with_dual_loops
        if self.checkpoint and self.training and torch.is_grad_enabled():
            return computed_again(self._compute, primal, dual, topology, use_reentrant=False)
        return self._compute(primal, dual, topology)

    def _compute(self, primal: Tensor, dual: Tensor, topology: MeshTopology) -> MeshFeatures:
        # a . (x W) as x . (W a): the rows of x W are not needed for that.
        weight = self.dual_weight.weight.unflatten(0, (self.heads, -1))
        target, source = (
            F.linear(dual, (a[:, :, None] * weight).sum(1))
            for a in (self.dual_target, self.dual_source)
        )
        score = F.leaky_relu(
            target.index_select(0, topology.dual_targets.index)
            + source.index_select(0, topology.dual_sources.index),
            self.negative_slope,
        )
        of_duals = topology.dual_targets, topology.dual_sources
        new_dual, _ = self._mixed(score, dual, self.dual_weight, *of_duals)
        if self.dual_bias is not None:
            new_dual = new_dual + self.dual_bias
        new_dual = new_dual.relu()

        # One number per dual node and head is all that the edges need of the dual features.
        score = (new_dual.unflatten(1, (self.heads, -1)) * self.primal_score).sum(2)
        score = topology.per_directed_edge(F.leaky_relu(score, self.negative_slope))
        ends = topology.face_targets
        new_primal, attention = self._mixed(
            score, primal, self.primal_weight, ends, topology.face_sources, True
        )
        if self.message_weight is not None:
            new_primal = (
                new_primal
                + self._mixed(score, new_dual, self.message_weight, ends, topology.edge_duals)[0]
            )
        if self.own_weight is not None:
            new_primal = new_primal + self.own_weight(primal)
        if self.primal_bias is not None:
            new_primal = new_primal + self.primal_bias
        return MeshFeatures(new_primal.relu(), new_dual, attention)

    def _mixed(
        self, score: Tensor, x: Tensor, layer: nn.Linear, *bags: Any
    ) -> tuple[Tensor, Tensor]:
        """:meth:`_attend` to ``layer(x)``."""
        if self.heads > 1 or layer.out_features < layer.in_features:
            return self._attend(score, layer(x), *bags)
        # The mean of one head may be taken before the layer: then ``layer(x)`` need not be kept.
        mixed, attention = self._attend(score, x, *bags)
        return layer(mixed), attention

    def _attend(
        self,
        score: Tensor,
        value: Tensor,
        targets: Segments,
        sources: Segments,
        with_attention: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Softmax-weighted sums of ``value[source]`` per target, and the weights if asked for."""
        drop = self.training and self.dropout > 0
        attention = score
        if drop or with_attention:
            attention = F.dropout(ops.segment_softmax(score, targets), self.dropout, drop)
        if not drop:
            return ops.segment_softmax_sum(score, value, targets, gather=sources), attention
        messages = value.index_select(0, sources.index).unflatten(1, (self.heads, -1))
        return ops.segment_sum((messages * attention[:, :, None]).flatten(1), targets), attention

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, heads={self.heads}"


class PrimalDualResidual(nn.Module):
    r"""Convolutions with a way around them.

    :math:`x_0 = \mathrm{conv}_0(x)`, then ``num_skips`` times
    :math:`x \leftarrow \mathrm{conv}(\mathrm{BN}(x))`, where a convolution ends in a ReLU; the output is
    :math:`\mathrm{ReLU}(x + x_0)` in both streams, with the attention of the last convolution.

    Args:
        in_channels, out_channels, heads: As in :class:`PrimalDualConv`.
        num_skips: The number of convolutions after the first.
        **kwargs: Passed on to every convolution.
    """

    def __init__(
        self,
        in_channels: tuple[int, int],
        out_channels: tuple[int, int],
        heads: int = 1,
        *,
        num_skips: int = 1,
        **kwargs,
    ) -> None:
        super().__init__()
        if num_skips < 0:
            raise ValueError(f"`num_skips` must be >= 0; got {num_skips}.")
        wide = (heads * out_channels[0], heads * out_channels[1])
        self.first = PrimalDualConv(in_channels, out_channels, heads, **kwargs)
        self.convs = nn.ModuleList(
            PrimalDualConv(wide, out_channels, heads, **kwargs) for _ in range(num_skips)
        )
        self.primal_norms = nn.ModuleList(nn.BatchNorm1d(wide[0]) for _ in range(num_skips))
        self.dual_norms = nn.ModuleList(nn.BatchNorm1d(wide[1]) for _ in range(num_skips))

    def reset_parameters(self) -> None:
        """Restores the initial state."""
        for module in (self.first, *self.convs, *self.primal_norms, *self.dual_norms):
            module.reset_parameters()

    def forward(self, primal: Tensor, dual: Tensor, topology: MeshTopology) -> MeshFeatures:
        """As :meth:`PrimalDualConv.forward`."""
        start = self.first(primal, dual, topology)
        out = start
        layers = zip(self.convs, self.primal_norms, self.dual_norms, strict=True)
        for conv, primal_norm, dual_norm in layers:
            out = conv(
                apply_norm(primal_norm, out.primal),
                apply_norm(dual_norm, out.dual),
                topology,
            )
        return MeshFeatures(
            (out.primal + start.primal).relu(), (out.dual + start.dual).relu(), out.attention
        )


def apply_norm(norm: nn.Module, x: Tensor) -> Tensor:
    """``norm(x)``, also where pooling has left a single node, or none, in the whole mini-batch.

    One node has no variance: batch normalisation then uses its running statistics.
    """
    if x.size(0) == 0:
        return x
    if x.size(0) == 1 and norm.training and isinstance(norm, nn.BatchNorm1d):
        return F.batch_norm(
            x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps
        )
    return norm(x)


def _check_rows(x: Tensor, rows: int, channels: int, name: str) -> None:
    if x.dim() != 2 or x.size(0) != rows or x.size(1) != channels:
        raise ValueError(f"`{name}` must have shape [{rows}, {channels}]; got {tuple(x.shape)}.")
