"""Power means."""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool._arguments import as_count
from graphpool.aggr.base import Aggregation
from graphpool.aggr.norms.negative_elements import check_policy, norms, seen
from graphpool.aggr.registry import register
from graphpool.ops import Gather, segment_power
from graphpool.segments import Segments
from graphpool.states import Mergeable


@register("powermean")
class PowerMean(Aggregation):
    r"""Power mean per channel, :math:`y_s = \left(\frac{1}{n_s} \sum_{e \in s} |x_e|^p\right)^{1/p}`.

    ``p = 1`` is the mean, ``p = 2`` the root mean square, ``p = -1`` the harmonic mean,
    ``p -> inf`` the maximum, ``p -> -inf`` the minimum, ``p -> 0`` (not representable) the geometric mean.
    Nothing is clamped; the computation in the log domain does not overflow.

    Args:
        channels: See :class:`Aggregation`; needed for more than one group.
        p: Exponent at the start, not 0.
        learn: Whether ``p`` is learned. It keeps the sign it starts with only as long as the steps are
            small: :class:`~graphpool.aggr.GNP` keeps it by construction.
        groups: Number of exponents: 1, or a divisor of ``channels`` (``channels`` itself for one each).
            Each serves ``channels / groups`` neighbouring channels.
        negative: What becomes of negative elements: ``"abs"``, ``"split"``, ``"clamp"`` or ``"raise"``,
            see :func:`graphpool.aggr.norms.negative_elements.seen`.

    Raises:
        ValueError: ``p`` is 0, or ``groups`` does not divide ``channels``.

    Example:
        >>> from graphpool import aggr
        >>> aggr.PowerMean(p=-1.0, learn=False)(torch.tensor([[1.0], [3.0]]))
        tensor([[1.5000]])
    """

    learnable = True
    supports_gather = True

    def __init__(
        self,
        channels: int | None = None,
        *,
        p: float = 1.0,
        learn: bool = True,
        groups: int = 1,
        negative: str = "abs",
    ) -> None:
        super().__init__(channels)
        if p == 0:
            raise ValueError("`p` must not be 0: the power mean has no value there.")
        self.groups = as_count(groups, "groups")
        if self.groups > 1 and channels is None:
            raise ValueError("More than one of `groups` needs `channels`.")
        self.initial_p = float(p)
        self.learn = learn
        self.negative = check_policy(negative)
        value = torch.empty(self.groups)
        if learn:
            self.register_parameter("p", torch.nn.Parameter(value))
        else:
            self.register_buffer("p", value)
        self.reset_parameters()

    @property
    def needs_channels(self) -> bool:
        return False

    def build(self, channels: int) -> None:
        if channels % self.groups:
            raise ValueError(
                f"`groups` must divide `channels`; got groups={self.groups}, channels={channels}. "
                f"Choose a divisor of {channels}."
            )

    def reset_parameters(self) -> None:
        torch.nn.init.constant_(self.p, self.initial_p)

    def pool(
        self,
        x: Tensor,
        segments: Segments,
        weight: Tensor | None = None,
        gather: Gather | None = None,
    ) -> Tensor:
        p = self._exponents(x)
        return segment_power(x, segments, p, 1 / p, weight, gather, seen(self.negative, x))

    def _exponents(self, x: Tensor) -> Tensor:
        return self.p.repeat_interleave(x.size(-1) // self.groups) if self.groups > 1 else self.p

    def merging(self) -> Mergeable:
        return norms(
            self.negative, lambda x: (self._exponents(x)[None], 1 / self._exponents(x)[None])
        )

    def extra_repr(self) -> str:
        channels = "" if self.channels is None else f"channels={self.channels}, "
        groups = "" if self.groups == 1 else f", groups={self.groups}"
        return (
            f"{channels}p={self.initial_p}, learn={self.learn}{groups}, negative={self.negative!r}"
        )


@register("gem")
class GeM(PowerMean):
    r"""Generalised-mean pooling: a :class:`PowerMean` of :math:`\max(x, 0)` that starts at ``p = 3``.

    Radenović, Tolias, Chum, "Fine-tuning CNN image retrieval with no human annotation", TPAMI 2019.
    Negative elements count as 0 (``negative="clamp"``), the definition of the paper; choose another policy
    where they carry something, as after a layer norm.

    Args:
        channels: See :class:`Aggregation`.
        p: Exponent at the start.
        learn: Whether ``p`` is learned.
        negative: See :class:`PowerMean`.

    Example:
        >>> from graphpool import aggr
        >>> aggr.GeM(p=2.0)(torch.tensor([[1.0], [7.0]])).detach()
        tensor([[5.]])
    """

    def __init__(
        self,
        channels: int | None = None,
        *,
        p: float = 3.0,
        learn: bool = True,
        negative: str = "clamp",
    ) -> None:
        super().__init__(channels, p=p, learn=learn, negative=negative)
