"""Generalised norm pooling."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from graphpool.aggr.base import Aggregation
from graphpool.aggr.norms.negative_elements import check_policy, seen
from graphpool.aggr.registry import register
from graphpool.ops import Gather, segment_power
from graphpool.segments import Segments

SIGNS = ("both", "plus", "minus")
STARTS = ("random", "average")


@register("gnp")
class GNP(Aggregation):
    r"""Generalised norm-based pooling with learnable exponents, per channel:

    .. math:: f_{p,q}(s) = n_s^{-q} \left( \sum_{e \in s} |x_e|^p \right)^{1/p}

    On non-negative elements sum is ``p = 1, q = 0``, mean ``p = 1, q = 1``, the L2 norm ``p = 2, q = 0``,
    a power mean ``q = 1/p``, the harmonic mean ``p = q = -1``; ``q = 0`` with ``p -> inf`` is the maximum and
    with ``p -> -inf`` the minimum. Because it also learns how the result depends on the size of the bag,
    a network that pools with it can extrapolate to larger bags.

    The formula is singular at ``p = 0``, so that no gradient step leads from positive to negative ``p``.
    GNP+ keeps :math:`p = p_{min} + e^a`, GNP- :math:`p = -(p_{min} + e^a)`; ``sign="both"`` pools with both
    and combines them by a linear map from ``2 C`` to ``C`` channels, without bias, so that an empty bag
    gives 0.

    The formula is also :math:`n_s^g` times the power mean of order ``p``, with :math:`g = 1/p - q`, the
    *growth*: a bag ``k`` times as large, of like elements, gives :math:`k^g` times the result (sum 1; mean,
    maximum and minimum 0). ``a`` and ``g`` are what is learned: a step in ``p`` then changes which elements
    count and leaves the scale alone, where with ``p`` and ``q`` each step undoes part of the other's.

    Hold the exponents still for the first epochs, with a rate of 0 for their group of
    :func:`exponent_parameter_groups`: while the scale of the output is wrong they would correct that, and
    leave the region from where they find the pool.

    Ko, Kwon, Shin, Lee, "Learning to pool in graph neural networks for extrapolation", 2021. The paper's
    initial values are not known to us; these were chosen by experiment, with this parametrisation.

    Args:
        channels: Number of channels; needed for ``sign="both"`` or ``shared=False``.
        sign: ``"plus"``, ``"minus"``, or ``"both"``.
        shared: One ``p`` and ``q`` for all channels, or one for each.
        p: Size of the exponent at the start, in ``[p_min, p_max]``. At ``p = p_min`` exactly it is not
            learned (``GNP(p=1.0, q=0.0, sign="plus")`` is the sum and stays so in ``p``).
        q: Exponent of the size at the start; ``None`` to give ``growth`` instead.
        growth: :math:`1/p - q` at the start, where ``q`` is ``None``. 0 suits a readout, 0.5 a pool over
            neighbours; the default lies between.
        p_min: Lower bound of ``|p|``. For positive ``p`` below 1 the derivative is unbounded near 0.
        p_max: Upper bound of ``|p|``, beyond which float32 no longer tells the result from the extremum.
        offset: Added to ``|x|``; with ReLU outputs a small one keeps GNP- from being 0 wherever one
            element is.
        negative: What becomes of negative elements: ``"abs"`` (as the formula says), ``"split"`` (an odd
            function, which is the signed sum or mean in those limits), ``"clamp"`` or ``"raise"``, see
            :func:`graphpool.aggr.norms.negative_elements.seen`.
        combine: Where the linear map of ``sign="both"`` starts: ``"random"``, as any linear layer, or
            ``"average"``, the mean of both halves of each channel. That keeps non-negative elements
            non-negative and adds no random layer to the network; three convolutions of width 256
            trained faster with it (results page on extrapolation, shortest paths).

    Attributes:
        p: The exponents as they are now, ``[signs, 1 or C]``: GNP+ first.
        q: Likewise, :math:`1/p - g`.
        growth: The parameter :math:`g`, likewise.

    Raises:
        ValueError: An argument is out of range, or ``channels`` is missing.

    Example:
        >>> from graphpool import aggr
        >>> pool = aggr.GNP(sign="plus", p=2.0, q=0.0)
        >>> pool(torch.tensor([[3.0], [4.0]])).detach()
        tensor([[5.]])
        >>> pool.p.detach()
        tensor([[2.]])
    """

    learnable = True
    multiplicity_aware = True
    supports_gather = True

    def __init__(
        self,
        channels: int | None = None,
        *,
        sign: str = "both",
        shared: bool = True,
        p: float = 8.0,
        q: float | None = None,
        growth: float = 0.25,
        p_min: float = 1.0,
        p_max: float = 1000.0,
        offset: float = 0.0,
        negative: str = "abs",
        combine: str = "random",
    ) -> None:
        super().__init__(channels)
        if sign not in SIGNS:
            raise ValueError(f"`sign` must be one of {SIGNS}; got {sign!r}.")
        if combine not in STARTS:
            raise ValueError(f"`combine` must be one of {STARTS}; got {combine!r}.")
        if not p_min > 0:
            raise ValueError(f"`p_min` must be positive; got {p_min}.")
        if not p_min < p_max < math.inf:
            raise ValueError(f"`p_max` must be finite and above p_min={p_min}; got {p_max}.")
        if not p_min <= p <= p_max:
            raise ValueError(
                f"`p` is the size of the exponent at the start and must be finite, at most "
                f"p_max={p_max} and at least p_min={p_min}; got {p}."
            )
        if offset < 0:
            raise ValueError(f"`offset` must not be negative; got {offset}.")
        if channels is None and (sign == "both" or not shared):
            what = "sign='both'" if sign == "both" else "shared=False"
            raise ValueError(f"`channels` is needed for {what}; give -1 to infer it.")
        self.sign = sign
        self.shared = shared
        self.initial_p = float(p)
        self.initial_q = None if q is None else float(q)
        self.initial_growth = float(growth)
        self.p_min, self.p_max = float(p_min), float(p_max)
        self.offset = float(offset)
        self.negative = check_policy(negative)
        self.initial_combine = combine
        if channels is None:
            self.build(1)
            self.reset_parameters()

    @property
    def signs(self) -> tuple[int, ...]:
        """Sign of ``p`` at each site."""
        return {"both": (1, -1), "plus": (1,), "minus": (-1,)}[self.sign]

    @property
    def needs_channels(self) -> bool:
        return self.channels is not None

    def build(self, channels: int) -> None:
        width = 1 if self.shared else channels
        self.a = torch.nn.Parameter(torch.empty(len(self.signs), width))
        self.growth = torch.nn.Parameter(torch.empty(len(self.signs), width))
        if self.sign == "both":
            self.combine = torch.nn.Linear(2 * channels, channels, bias=False)

    def reset_parameters(self) -> None:
        # Minus infinity, where exp is 0, for p = p_min.
        excess = self.initial_p - self.p_min
        torch.nn.init.constant_(self.a, math.log(excess) if excess > 0 else -math.inf)
        with torch.no_grad():
            if self.initial_q is None:
                self.growth.fill_(self.initial_growth)
            else:
                self.growth.copy_((1 / self.p - self.initial_q).expand_as(self.growth))
        if self.sign == "both":
            # Drawn in any case: a seed starts the rest of a network alike with both choices.
            self.combine.reset_parameters()
            if self.initial_combine == "average":
                with torch.no_grad():
                    self.combine.weight.copy_(torch.eye(self.combine.out_features).repeat(1, 2) / 2)

    @property
    def p(self) -> Tensor:
        size = self.p_min + self.a.clamp(max=math.log(self.p_max - self.p_min)).exp()
        return size * torch.tensor(self.signs, dtype=size.dtype, device=size.device).unsqueeze(1)

    @property
    def q(self) -> Tensor:
        return 1 / self.p - self.growth

    def exponent_parameters(self) -> Iterator[torch.nn.Parameter]:
        """The parameters behind ``p`` and ``q``, which want a larger learning rate and no weight decay."""
        yield self.a
        yield self.growth

    def pool(
        self,
        x: Tensor,
        segments: Segments,
        weight: Tensor | None = None,
        gather: Gather | None = None,
    ) -> Tensor:
        def norms(v: Tensor, negative: str) -> Tensor:
            found = segment_power(v, segments, self.p, self.q, weight, gather, negative)
            return found.movedim(1, -2).flatten(-2)

        negative = seen(self.negative, x)
        if self.offset:
            pooled = norms((x.abs() if negative == "abs" else x.relu()) + self.offset, "abs")
            if negative == "split":
                pooled = pooled - norms((-x).relu() + self.offset, "abs")
        else:
            pooled = norms(x, negative)
        if self.sign != "both":
            return pooled
        return self.combine(pooled.to(self.combine.weight.dtype)).to(x.dtype)

    def extra_repr(self) -> str:
        channels = "" if self.channels is None else f"channels={self.channels}, "
        given = self.initial_q is not None
        size = f"q={self.initial_q}" if given else f"growth={self.initial_growth}"
        offset = f", offset={self.offset}" if self.offset else ""
        start = "" if self.initial_combine == "random" else f", combine={self.initial_combine!r}"
        return (
            f"{channels}sign={self.sign!r}, shared={self.shared}, p={self.initial_p}, {size}"
            f"{offset}, negative={self.negative!r}{start}"
        )


def exponent_parameter_groups(
    model: torch.nn.Module, lr: float, exponent_lr: float | None = None, weight_decay: float = 0.0
) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer: exponents of pools apart from everything else.

    Args:
        model: Any module; every submodule with ``exponent_parameters()`` is found.
        lr: Learning rate of everything else.
        exponent_lr: Learning rate of the exponents; ten times ``lr`` if absent.
        weight_decay: For everything else. Exponents have none: it would pull them towards a value
            that has nothing to recommend it.

    Example:
        >>> from graphpool import aggr
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 4), aggr.GNP(4))
        >>> groups = aggr.exponent_parameter_groups(model, lr=0.01)
        >>> [(len(g["params"]), g["lr"]) for g in groups]
        [(3, 0.01), (2, 0.1)]
    """
    exponents = [
        parameter
        for module in model.modules()
        if hasattr(module, "exponent_parameters")
        for parameter in module.exponent_parameters()  # type: ignore[operator]
    ]
    known = {id(parameter) for parameter in exponents}
    others = [parameter for parameter in model.parameters() if id(parameter) not in known]
    groups: list[dict[str, Any]] = [{"params": others, "lr": lr, "weight_decay": weight_decay}]
    if exponents:
        rate = 10 * lr if exponent_lr is None else exponent_lr
        groups.append({"params": exponents, "lr": rate, "weight_decay": 0.0})
    return groups
