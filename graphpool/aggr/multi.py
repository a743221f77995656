"""Several pools at once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import UninitializedParameter

from graphpool._arguments import as_count, check_one_of
from graphpool.aggr.base import Aggregation
from graphpool.aggr.pyg import merging_of, pool
from graphpool.aggr.registry import one_vector_per_segment, register, resolve
from graphpool.aggr.statistics.moments import Moment
from graphpool.ops import segment_moments, standard_deviation, working
from graphpool.segments import Segments
from graphpool.states import Mergeable, Several, Tensors

_REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda y: y.mean(0),
    "max": lambda y: y.amax(0),
    "min": lambda y: y.amin(0),
    "std": lambda y: standard_deviation((y - y.mean(0)).square().mean(0)),
}
MODES = ("cat", "mixture", "proj", "sum", *_REDUCTIONS)


@register("multi")
class Multi(Aggregation):
    r"""Several pools of the same bag: concatenated, added, mixed with learned weights, ...

    ============================================= =====================================================
    ``mode``                                      result
    ============================================= =====================================================
    ``"cat"``                                     all side by side
    ``"proj"``                                    the same, times a learned matrix to ``out_channels``
    ``"mixture"``                                 a mean with learned weights
    ``"sum"``, ``"mean"``, ``"max"``, ``"min"``,  of the members, channel by channel
    ``"std"``
    ============================================= =====================================================

    All but the first two need members of equal width. ``mode="mixture"`` gives
    :math:`y = \sum_k \pi_k f_k(s)` with :math:`\pi = \mathrm{softmax}(\theta)`, equal at the start; read
    :attr:`mixture` to see what was learned. A member may come twice. Sum, mean, variance, standard
    deviation, minimum and maximum among the members are computed in one pass. Integers are taken where
    every member takes them, in the modes cat, sum, max and min.

    Corso et al., "Principal neighbourhood aggregation for graph nets", 2020, for the concatenation.

    ``aggr.resolve(["mean", "max"])`` makes one of a list.

    Args:
        channels: See :class:`Aggregation`; handed to every member.
        members: Names, modules or classes, as :func:`~graphpool.aggr.resolve` takes them.
        mode: One of the above.
        out_channels: Width of the projection, for ``mode="proj"`` only.

    Raises:
        ValueError: There is no member, a member does not give one vector per bag, the mode is unknown,
            or widths differ where they must not.

    Example:
        >>> from graphpool import aggr
        >>> aggr.Multi(members=["mean", "max", "mean"])(torch.tensor([[1.0], [3.0]]))
        tensor([[2., 3., 2.]])
        >>> aggr.Multi(members=["mean", "max"], mode="mixture").mixture
        {'mean': 0.5, 'max': 0.5}
        >>> aggr.resolve("max+mean")(torch.tensor([[1.0], [3.0]]))
        tensor([[5.]])
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
        out_channels: int | None = None,
    ) -> None:
        super().__init__(channels)
        if isinstance(members, str) or not members:
            raise ValueError(f"`members` must be a list of at least one pool; got {members!r}.")
        check_one_of(mode, "mode", MODES)
        self.mode = mode
        self.labels = [_label(member) for member in members]
        self.members = torch.nn.ModuleList(
            one_vector_per_segment(resolve(member, channels=channels)) for member in members
        )
        # Exact where all members are, and nothing is done with their results that integers cannot hold.
        self.accepts_integers = mode in ("cat", "sum", "max", "min") and all(  # type: ignore[misc]
            getattr(member, "accepts_integers", False) for member in self.members
        )
        if (out_channels is None) == (mode == "proj"):
            raise ValueError(
                f"`out_channels` goes with mode='proj' and no other; got {out_channels} with {mode!r}."
            )
        self.width = None if out_channels is None else as_count(out_channels, "out_channels")
        if mode == "mixture":
            self.logits = torch.nn.Parameter(torch.empty(len(self.members)))
        elif self.width is not None:
            widths = self._widths()
            # Without bias, so that an empty bag gives 0.
            self.proj = (
                torch.nn.LazyLinear(self.width, bias=False)
                if widths is None
                else torch.nn.Linear(sum(widths), self.width, bias=False)
            )
        self._reset_own()

    @property
    def needs_channels(self) -> bool:
        return False

    def build(self, channels: int) -> None:
        # Not left to their own first input: those that are computed in one pass have none.
        for member in self.members:
            if isinstance(member, Aggregation) and member.channels == -1:
                member._build_now(channels)

    def _reset_own(self) -> None:
        if self.mode == "mixture":
            torch.nn.init.zeros_(self.logits)
        elif self.mode == "proj":
            self.proj.reset_parameters()

    def reset_parameters(self) -> None:
        for member in self.members:
            member.reset_parameters()  # type: ignore[operator]
        self._reset_own()

    @property
    def out_channels(self) -> int | None:
        widths = self._widths()
        if self.width is not None or widths is None:
            return self.width
        return sum(widths) if self.mode == "cat" else widths[0]

    def _widths(self) -> list[int] | None:
        widths = [getattr(member, "out_channels", self.channels) for member in self.members]
        if any(width in (None, -1) for width in widths):
            return None
        return [int(width) for width in widths if width is not None]

    @property
    def mixture(self) -> dict[str, float]:
        """The learned weight of each member; of equal ones the sum. Only for ``mode="mixture"``."""
        if self.mode != "mixture":
            # hasattr() must answer, not raise.
            raise AttributeError("Only mode='mixture' has mixture weights.")
        total: dict[str, float] = {}
        for label, share in zip(self.labels, self.logits.softmax(0).tolist(), strict=True):
            total[label] = total.get(label, 0.0) + share
        return total

    def pool(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        return self._together(self._pool_members(x, segments, weight)).to(x.dtype)

    def merging(self) -> Mergeable:
        def combine(parts: Tensors, sums: Tensors) -> Tensor:
            return self._together(list(parts.values()))

        return Several({str(i): merging_of(m) for i, m in enumerate(self.members)}, combine)

    def _together(self, pooled: list[Tensor]) -> Tensor:
        if self.mode in ("cat", "proj"):
            y = torch.cat(pooled, dim=-1)
            return y if self.mode == "cat" else self._project(y)
        if len({y.size(-1) for y in pooled}) > 1:
            widths = dict(zip(self.labels, (y.size(-1) for y in pooled), strict=True))
            raise ValueError(f"`mode`={self.mode!r} needs members of equal width; got {widths}.")
        if self.mode == "sum":
            return functools.reduce(torch.add, map(working, pooled))
        if self.mode in _REDUCTIONS:
            stacked = torch.stack(pooled)
            return _REDUCTIONS[self.mode](working(stacked))
        shares = self.logits.softmax(0)
        return torch.stack([s * y for s, y in zip(shares, pooled, strict=True)]).sum(0)

    def _project(self, y: Tensor) -> Tensor:
        weight = self.proj.weight
        unbuilt = isinstance(weight, UninitializedParameter)
        return self.proj(y if unbuilt else y.to(weight.dtype))

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
        width = "" if self.width is None else f", out_channels={self.width}"
        return f"mode={self.mode!r}{width}"


def _label(member: Any) -> str:
    if isinstance(member, str):
        return member
    return (member if isinstance(member, type) else type(member)).__name__
