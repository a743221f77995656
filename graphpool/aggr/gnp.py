"""Generalised norm pooling."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from graphpool.aggr.base import Aggregation
from graphpool.aggr.negative import apply_policy, check_policy
from graphpool.aggr.registry import register
from graphpool.ops.inputs import Gather
from graphpool.ops.power import segment_power
from graphpool.segments import Segments

SIGNS = ("both", "plus", "minus")


@register("gnp")
class GNP(Aggregation):
    r"""Generalised norm-based pooling with learnable exponents, per channel:

    .. math:: f_{p,q}(s) = n_s^{-q} \left( \sum_{e \in s} |x_e|^p \right)^{1/p}

    On non-negative elements sum is ``p = 1, q = 0``, mean ``p = 1, q = 1``, the L2 norm ``p = 2, q = 0``,
    a power mean ``q = 1/p``, the harmonic mean ``p = q = -1``; ``q = 0`` with ``p -> inf`` is the maximum and
    with ``p -> -inf`` the minimum. Because it also learns how the result depends on the size of the bag,
    a network that pools with it can extrapolate to larger bags.

    The formula is singular at ``p = 0``, so that no gradient step leads from positive to negative ``p``.
    GNP+ keeps :math:`p = p_{min} + \mathrm{softplus}(a)`, GNP- :math:`p = -(p_{min} +
    \mathrm{softplus}(a))`; ``sign="both"`` pools with both and combines them by a linear map from ``2 C`` to
    ``C`` channels, without bias, so that an empty bag gives 0.

    Ko, Kwon, Shin, Lee, "Learning to pool in graph neural networks for extrapolation", 2021. The paper's
    initial values are not published; these were chosen by experiment.

    Args:
        channels: Number of channels; needed for ``sign="both"`` or ``shared=False``.
        sign: ``"plus"``, ``"minus"``, or ``"both"``.
        shared: One ``p`` and ``q`` for all channels, or one for each.
        p: Size of the exponent at the start, at least ``p_min``. At ``p = p_min`` exactly it is not
            learned (``GNP(p=1.0, q=0.0, sign="plus")`` is the sum and stays so in ``p``).
        q: Exponent of the size at the start.
        p_min: Lower bound of ``|p|``. For positive ``p`` below 1 the derivative is unbounded near 0.
        offset: Added to ``|x|``; with ReLU outputs a small one keeps GNP- from being 0 wherever one
            element is.
        negative: What becomes of negative elements: ``"abs"`` (as the formula says), ``"split"`` (an odd
            function, which is the signed sum or mean in those limits), ``"clamp"`` or ``"raise"``, see
            :func:`graphpool.aggr.negative.apply_policy`.

    Attributes:
        p: The exponents as they are now, ``[sites, 1 or C]``: GNP+ first.
        q: Likewise.

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
        sign: str = "both",
        shared: bool = True,
        p: float = 1.5,
        q: float = 0.5,
        p_min: float = 1.0,
        offset: float = 0.0,
        negative: str = "abs",
    ) -> None:
        super().__init__(channels)
        if sign not in SIGNS:
            raise ValueError(f"`sign` must be one of {SIGNS}; got {sign!r}.")
        if not p_min > 0:
            raise ValueError(f"`p_min` must be positive; got {p_min}.")
        if not p_min <= p < math.inf:
            raise ValueError(
                f"`p` is the size of the exponent at the start and must be finite and at least "
                f"p_min={p_min}; got {p}."
            )
        if offset < 0:
            raise ValueError(f"`offset` must not be negative; got {offset}.")
        if channels is None and (sign == "both" or not shared):
            what = "sign='both'" if sign == "both" else "shared=False"
            raise ValueError(f"`channels` is needed for {what}; give -1 to infer it.")
        self.sign = sign
        self.shared = shared
        self.initial_p, self.initial_q = float(p), float(q)
        self.p_min = float(p_min)
        self.offset = float(offset)
        self.negative = check_policy(negative)
        if channels is None:
            self.build(1)
            self.reset_parameters()
        else:
            self.finish_init()

    @property
    def signs(self) -> tuple[int, ...]:
        """Sign of ``p`` at each site."""
        return {"both": (1, -1), "plus": (1,), "minus": (-1,)}[self.sign]

    def build(self, channels: int) -> None:
        width = 1 if self.shared else channels
        self.a = torch.nn.Parameter(torch.empty(len(self.signs), width))
        self.q = torch.nn.Parameter(torch.empty(len(self.signs), width))
        if self.sign == "both":
            self.combine = torch.nn.Linear(2 * channels, channels, bias=False)

    def reset_parameters(self) -> None:
        # The inverse of softplus; minus infinity, where softplus is 0, for p = p_min.
        excess = torch.tensor(self.initial_p - self.p_min, dtype=torch.float64)
        torch.nn.init.constant_(
            self.a, float(excess.expm1().log()) if excess < 30 else float(excess)
        )
        torch.nn.init.constant_(self.q, self.initial_q)
        if self.sign == "both":
            self.combine.reset_parameters()

    @property
    def p(self) -> Tensor:
        size = self.p_min + softplus(self.a)
        return size * size.new_tensor(self.signs).unsqueeze(1)

    def exponent_parameters(self) -> Iterator[torch.nn.Parameter]:
        """The parameters behind ``p`` and ``q``, which want a larger learning rate and no weight decay."""
        yield self.a
        yield self.q

    def pool(
        self,
        x: Tensor,
        segments: Segments,
        weight: Tensor | None = None,
        gather: Gather | None = None,
    ) -> Tensor:
        def norm(v: Tensor, p: Tensor, q: Tensor) -> Tensor:
            if self.offset:
                v = v.abs() + self.offset
            return segment_power(v, segments, p, q, weight, gather)

        pooled = [
            apply_policy(self.negative, x, lambda v, p=p, q=q: norm(v, p, q))  # type: ignore[misc]
            for p, q in zip(self.p, self.q, strict=True)
        ]
        if self.sign != "both":
            return pooled[0]
        return self.combine(torch.cat(pooled, dim=-1).to(self.combine.weight.dtype)).to(x.dtype)

    def extra_repr(self) -> str:
        channels = "" if self.channels is None else f"channels={self.channels}, "
        offset = f", offset={self.offset}" if self.offset else ""
        return (
            f"{channels}sign={self.sign!r}, shared={self.shared}, p={self.initial_p}, "
            f"q={self.initial_q}{offset}, negative={self.negative!r}"
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
