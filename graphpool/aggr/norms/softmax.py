"""Pools weighted by a softmax of the elements themselves."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from graphpool.aggr.base import Aggregation
from graphpool.aggr.registry import register
from graphpool.ops import (
    Gather,
    segment_logsumexp,
    segment_softmax,
    segment_softmax_sum,
    segment_softpool,
)
from graphpool.segments import Segments
from graphpool.states import Exponential, Mergeable, Tensors, size_of


@register("softmax", "softpool")
class SoftPool(Aggregation):
    r"""Sum of the elements weighted by a softmax of themselves, per channel:

    .. math:: y_s = \sum_{e \in s} a_e x_e, \qquad a_e = \frac{e^{t x_e}}{\sum_{j \in s} e^{t x_j}}

    ``t = 0`` is the mean, ``t -> inf`` the maximum, ``t -> -inf`` the minimum. SoftPool (Stergiou et al.,
    "Refining activation downsampling with SoftPool", ICCV 2021) has ``t = 1``; the learnable temperature
    is from Li et al., "DeeperGCN", 2020.

    Args:
        channels: See :class:`Aggregation`.
        t: Inverse temperature at the start.
        learn: Whether ``t`` is learned.
        per_channel: One ``t`` for each channel; needs ``channels``.
        semi_grad: Treat the weights as constants in the backward pass, as the released code of SoftPool
            does: :math:`\partial y / \partial x_e = a_e` instead of :math:`a_e (1 + t (x_e - y))`, and
            no derivative with respect to ``t``.

    Raises:
        ValueError: ``per_channel`` without ``channels``, or ``learn`` with ``semi_grad``.

    Example:
        >>> from graphpool import aggr
        >>> aggr.SoftPool(t=100.0)(torch.tensor([[1.0], [2.0]])).detach()
        tensor([[2.]])
    """

    learnable = True
    supports_gather = True

    def __init__(
        self,
        channels: int | None = None,
        *,
        t: float = 1.0,
        learn: bool = True,
        per_channel: bool = False,
        semi_grad: bool = False,
    ) -> None:
        super().__init__(channels)
        if per_channel and channels is None:
            raise ValueError("`per_channel` needs `channels`.")
        if learn and semi_grad:
            raise ValueError(
                "`semi_grad` cuts the derivative with respect to `t`; set `learn=False` with it."
            )
        self.initial_t = float(t)
        self.learn = learn
        self.per_channel = per_channel
        self.semi_grad = semi_grad
        if not per_channel:
            self._make(1)
            self.reset_parameters()

    @property
    def needs_channels(self) -> bool:
        return self.per_channel

    def build(self, channels: int) -> None:
        if self.per_channel:
            self._make(channels)

    def _make(self, size: int) -> None:
        t = torch.empty(size)
        if self.learn:
            self.t = torch.nn.Parameter(t)
        else:
            self.register_buffer("t", t)

    def reset_parameters(self) -> None:
        torch.nn.init.constant_(self.t, self.initial_t)

    def pool(
        self,
        x: Tensor,
        segments: Segments,
        weight: Tensor | None = None,
        gather: Gather | None = None,
    ) -> Tensor:
        if not self.semi_grad:
            return segment_softpool(x, segments, self.t, weight, gather)
        score = self.t.to(x.dtype) * x.detach()
        if gather is not None:
            score = score.index_select(0, gather.index if isinstance(gather, Segments) else gather)
        return segment_softmax_sum(score, x, segments, weight, gather)

    def merging(self) -> Mergeable:
        def score(seen: Tensors) -> Tensor:
            x = seen["x"].detach() if self.semi_grad else seen["x"]
            return self.t.to(x.dtype) * x

        return Exponential(lambda mean, log, sums: mean, score, lambda seen: seen["x"])

    def attention(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        """The weights ``[E, ..., C]``; each bag and channel sums to 1."""
        return segment_softmax(self.t.to(x.dtype) * x, segments, weight)

    def extra_repr(self) -> str:
        channels = "" if self.channels is None else f"channels={self.channels}, "
        flags = "".join(f", {k}=True" for k in ("per_channel", "semi_grad") if getattr(self, k))
        return f"{channels}t={self.initial_t}, learn={self.learn}{flags}"


@register("logsumexp", "lse")
class LogSumExp(Aggregation):
    r"""Soft maximum per channel: :math:`y_s = \tau \log \sum_{e \in s} e^{x_e / \tau}`, or with the mean
    instead of the sum.

    With the sum, :math:`\max \le y \le \max + \tau \log n`; with the mean,
    :math:`\max - \tau \log n \le y \le \max`. ``tau -> 0`` is the maximum; with the mean,
    ``tau -> inf`` is the mean.

    Args:
        channels: See :class:`Aggregation`.
        tau: Temperature, positive; the one at the start if it is learned.
        mean: Use the mean of the exponentials, so that repeating the bag changes nothing.
        learn: Whether ``tau`` is learned; it stays positive, because its logarithm is the parameter.

    Raises:
        ValueError: ``tau`` is not positive.

    Example:
        >>> from graphpool import aggr
        >>> aggr.LogSumExp(mean=True)(torch.tensor([[2.0], [2.0]]))
        tensor([[2.]])
    """

    multiplicity_aware = True
    supports_gather = True

    def __init__(
        self,
        channels: int | None = None,
        *,
        tau: float = 1.0,
        mean: bool = False,
        learn: bool = False,
    ) -> None:
        super().__init__(channels)
        if not 0 < tau < math.inf:
            raise ValueError(f"`tau` must be positive and finite; got {tau}.")
        self.initial_tau = float(tau)
        self.mean = mean
        self.learn = learn
        if learn:
            self.log_tau = torch.nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        if self.learn:
            torch.nn.init.constant_(self.log_tau, math.log(self.initial_tau))

    @property
    def tau(self) -> float | Tensor:
        """The temperature as it is now."""
        return self.log_tau.exp() if self.learn else self.initial_tau

    def pool(
        self,
        x: Tensor,
        segments: Segments,
        weight: Tensor | None = None,
        gather: Gather | None = None,
    ) -> Tensor:
        return segment_logsumexp(x, segments, weight, gather, self.tau, self.mean)

    def merging(self) -> Mergeable:
        def finish(mean: Tensor, log: Tensor, sums: Tensors) -> Tensor:
            return self.tau * (log - size_of(sums, log).log() if self.mean else log)

        def score(seen: Tensors) -> Tensor:
            tau = self.tau
            return seen["x"] if isinstance(tau, float) and tau == 1 else seen["x"] / tau

        return Exponential(finish, score)

    def attention(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        """The derivative of the output by each element, ``softmax(x / tau)``, ``[E, ..., C]``."""
        return segment_softmax(x / self.tau, segments, weight)

    def extra_repr(self) -> str:
        return f"tau={self.initial_tau}, mean={self.mean}" + (", learn=True" if self.learn else "")
