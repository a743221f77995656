"""Several pools at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from graphpool.aggr.base import Aggregation
from graphpool.aggr.basic import Moment
from graphpool.aggr.foreign import pool
from graphpool.aggr.registry import register, resolve
from graphpool.ops.reduce import segment_moments
from graphpool.segments import Segments

MODES = ("cat", "mixture")


@register("multi")
class Multi(Aggregation):
    r"""Several pools of the same bag, concatenated, or mixed with learned weights.

    ``mode="mixture"`` gives :math:`y = \sum_k \pi_k f_k(s)` with :math:`\pi = \mathrm{softmax}(\theta)`,
    equal at the start; read :attr:`mixture` to see what was learned. A member may come twice. Sum, mean,
    variance, standard deviation, minimum and maximum among the members are computed in one pass.

    Corso et al., "Principal neighbourhood aggregation for graph nets", 2020, for the concatenation.

    ``aggr.resolve(["mean", "max"])`` makes one of a list.

    Args:
        channels: See :class:`Aggregation`; handed to every member.
        members: Names, modules or classes, as :func:`~graphpool.aggr.resolve` takes them.
        mode: ``"cat"`` or ``"mixture"``.

    Raises:
        ValueError: There is no member, the mode is unknown, or widths differ in a mixture.

    Example:
        >>> from graphpool import aggr
        >>> aggr.Multi(members=["mean", "max", "mean"])(torch.tensor([[1.0], [3.0]]))
        tensor([[2., 3., 2.]])
        >>> aggr.Multi(members=["mean", "max"], mode="mixture").mixture
        {'mean': 0.5, 'max': 0.5}
    """

    learnable = True
    multiplicity_aware = True
    complexity = "sum of its members"
    example_arguments = {"members": ["sum", "mean", "max"]}

    def __init__(
        self,
        channels: int | None = None,
        *,
        members: Sequence[Any] = ("sum", "mean", "max"),
        mode: str = "cat",
    ) -> None:
        super().__init__(None if channels == -1 else channels)
        if isinstance(members, str) or not members:
            raise ValueError(f"`members` must be a list of at least one pool; got {members!r}.")
        if mode not in MODES:
            raise ValueError(f"`mode` must be one of {MODES}; got {mode!r}.")
        self.mode = mode
        self.labels = [_label(member) for member in members]
        self.members = torch.nn.ModuleList(resolve(member, channels=channels) for member in members)
        if mode == "mixture":
            self.logits = torch.nn.Parameter(torch.empty(len(self.members)))
        self._reset_mixture()

    def _reset_mixture(self) -> None:
        if self.mode == "mixture":
            torch.nn.init.zeros_(self.logits)

    def reset_parameters(self) -> None:
        for member in self.members:
            member.reset_parameters()  # type: ignore[operator]
        self._reset_mixture()

    @property
    def out_channels(self) -> int | None:
        widths: list[int] = []
        for member in self.members:
            width = getattr(member, "out_channels", self.channels)
            if width in (None, -1):
                return None
            widths.append(width)
        return sum(widths) if self.mode == "cat" else widths[0]

    @property
    def mixture(self) -> dict[str, float]:
        """The learned weight of each member; of equal ones the sum. Only for ``mode="mixture"``."""
        if self.mode != "mixture":
            raise ValueError("Only mode='mixture' has mixture weights.")
        total: dict[str, float] = {}
        for label, share in zip(self.labels, self.logits.softmax(0).tolist(), strict=True):
            total[label] = total.get(label, 0.0) + share
        return total

    def pool(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        pooled = self._pool_members(x, segments, weight)
        if self.mode == "cat":
            return torch.cat(pooled, dim=-1)
        if len({y.size(-1) for y in pooled}) > 1:
            widths = dict(zip(self.labels, (y.size(-1) for y in pooled), strict=True))
            raise ValueError(f"A mixture needs members of equal width; got {widths}.")
        shares = self.logits.softmax(0)
        return torch.stack([s * y for s, y in zip(shares, pooled, strict=True)]).sum(0).to(x.dtype)

    def _pool_members(self, x: Tensor, segments: Segments, weight: Tensor | None) -> list[Tensor]:
        moments = [m.moment if isinstance(m, Moment) else None for m in self.members]
        names = [name for name in moments if name is not None]
        together: list[Tensor] = []
        if len(names) > 1 and x.is_floating_point():
            together = list(segment_moments(x, segments, names, weight))
        pooled = []
        for member, name in zip(self.members, moments, strict=True):
            if name is not None and together:
                pooled.append(together.pop(0))
            else:
                pooled.append(pool(member, x, segments, weight))
        return pooled

    def extra_repr(self) -> str:
        return f"mode={self.mode!r}"


def _label(member: Any) -> str:
    if isinstance(member, str):
        return member
    return (member if isinstance(member, type) else type(member)).__name__
