"""Generalised-mean pooling with an exponent for each group of channels."""

from __future__ import annotations

from graphpool.aggr.norms.power import PowerMean
from graphpool.aggr.registry import register


@register("ggem")
class GGeM(PowerMean):
    r"""Group generalised-mean pooling: a :class:`GeM` with one exponent per group of channels,

    .. math:: y_{s,c} = \Big(\frac{1}{n_s} \sum_{e \in s} \max(x_{e,c}, 0)^{p_{g(c)}}\Big)^{1 / p_{g(c)}}

    One group is GeM, as many groups as channels one exponent for each. For a transformer take the number
    of its heads, so that the groups are the channels of the heads.

    Ko et al., "Group generalized mean pooling for vision transformer", 2022.

    Args:
        channels: Number of channels ``C``.
        groups: Number of groups, a divisor of ``C``.
        p: Exponent at the start, not 0.
        learn: Whether the exponents are learned.
        negative: See :class:`PowerMean`. The paper's clamp loses half of what comes out of a layer norm;
            ``"split"`` and ``"abs"`` keep it.

    Raises:
        ValueError: ``groups`` does not divide ``channels``, or ``p`` is 0.

    Example:
        >>> from graphpool import aggr
        >>> aggr.GGeM(4, groups=2).p.shape
        torch.Size([2])
    """

    example_arguments = {"groups": 2}

    def __init__(
        self,
        channels: int,
        *,
        groups: int = 1,
        p: float = 3.0,
        learn: bool = True,
        negative: str = "clamp",
    ) -> None:
        super().__init__(channels, p=p, learn=learn, groups=groups, negative=negative)
