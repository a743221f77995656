"""Generalised norm pooling."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from graphpool._arguments import check_at_least, check_one_of
from graphpool.aggr.base import Aggregation
from graphpool.aggr.norms.negative_elements import check_policy, norms, seen
from graphpool.aggr.norms.pieces import NormsAndSums, Sizes
from graphpool.aggr.registry import register
from graphpool.ops import Gather, net_sign, segment_mixed_means, segment_power
from graphpool.segments import Segments
from graphpool.states import Mergeable, Sums, Tensors, size_of

FORMS = ("mixed", "paper")
SIGNS = ("both", "plus", "minus")
P_MAX = 1000.0  # beyond it float32 no longer tells a power mean from the extremum
START, GROWTH = 8.0, 0.25  # exponents and growth where training starts
LARGE, GAIN = 1024, 6.0  # growth is learned at bags of one and of so many elements; and how fast


@register("gnp")
class GNP(Aggregation):
    r"""Generalised norm pooling: which elements count, and how the result grows with the bag, is learned.

    Three power means of the bag, mixed per channel, times a scale and a power of its size ``n``:

    .. math::
        y = c\, n^g \Big[ (1 - s) \, r \, \big( (1 - t)\, m_{p_1} + t\, m_{-p_2} \big) + s\, \bar{x} \Big],
        \qquad m_p = \Big( \frac{1}{n} \sum_e |x_e|^p \Big)^{1/p}, \quad
        r = \frac{\sum_e x_e}{\sum_e |x_e|}

    with the mean :math:`\bar{x}`. The exponents :math:`p_1, p_2 \ge 1`, the growth ``g`` and the scale ``c``
    are shared by all channels, ``s`` and ``t`` are weights of each: ``2 C + 4`` parameters. A bag ``k`` times
    as large, of like elements, gives :math:`k^g` times the result.

    With ``c = 1``, where it starts:

    =============== ========= ========================= ==================================
    pool            s and t   exponent and growth       of elements
    =============== ========= ========================= ==================================
    sum             1, any    g = 1                     of any sign
    mean            1, any    g = 0                     of any sign
    L2 norm         0, 0      p1 = 2, g = 1/2           not negative
    maximum         0, 0      p1 -> inf, g = 0          not negative
    minimum         0, 1      p2 -> inf, g = 0          not negative
    harmonic mean   0, 1      p2 = 1, g = 0             not negative
    =============== ========= ========================= ==================================

    Of elements that are not negative, such as outputs of a ReLU, ``r`` is 1, and :math:`n^g m_p` is the norm
    of the paper, :math:`n^{-q} (\sum_e x_e^p)^{1/p}` with :math:`q = 1/p - g`. Signs are kept, ``GNP(-x) =
    -GNP(x)``: of a bag with both signs the norms say how large its elements are, and ``r`` which sign
    outweighs the other. The maximum of such elements is not among these pools.

    It is meant to be one word in a network that is trained with ``Adam(model.parameters(), lr)`` and nothing
    else. The first norm starts near the maximum and the second near the minimum (p = 8). ``s`` starts
    between 0 and 1 and ``t`` between -1/2 and 1/2, spread over the channels in a fixed pattern: the layer
    behind finds all of it at once. Exponents move slowly near their start, and the faster the farther away:
    the first steps, while the scale of the output is wrong, do little, and what many steps agree on is much.

    Growth starts at 1/4 and scale at 1. They are learned as two numbers: how far the logs of :math:`c\, n^g`
    of bags of one and of 1024 elements have moved, over a gain of 6. Outputs that are too small or too large
    as a whole pull at both alike, which moves the scale and leaves the growth; errors that go with the size
    of the bag move them apart.

    No derivative to an element exceeds :math:`3 c\, n^{g - 1/p_1}`, :math:`3 c\, n^{g + 1/p_2}` and
    :math:`c\, n^{g - 1}`, of the three means, so there is nothing to clip. Weight decay pulls exponents,
    growth and scale towards their start.

    Ko, Kwon, Shin, Lee, "Learning to pool in graph neural networks for extrapolation", 2021, map two norms,
    of :math:`p > 0` and :math:`p < 0`, to ``C`` channels linearly, :math:`2 C^2` weights. ``form="paper"`` is
    that, see :class:`PaperGNP`, which takes further arguments. The state of one form does not fit the other.

    Args:
        channels: Number of channels.
        form: ``"mixed"`` or ``"paper"``.

    Attributes:
        p: The exponents as they are now, ``[3, 1]``: ``p1``, ``-p2`` and 1.
        q: Likewise, :math:`1/p - g`.
        g: The growth, ``[1]``.
        c: The scale, ``[1]``.
        shares: ``[3, C]``: the weights of the three means, which add up to 1.

    Raises:
        TypeError: An argument of ``form="paper"`` is given without it.
        ValueError: ``form`` is unknown, or ``channels`` is missing.

    Example:
        >>> from graphpool import aggr
        >>> pool, x = aggr.GNP(2), torch.tensor([[1.0, -2.0], [3.0, 4.0]])
        >>> torch.equal(pool(-x), -pool(x))
        True
        >>> with torch.no_grad():
        ...     _ = pool.s.fill_(1)
        ...     pool(x) / 2**pool.g
        tensor([[2., 1.]])
    """

    learnable = True
    multiplicity_aware = True
    supports_gather = True

    def __new__(cls, *args: Any, form: str = "mixed", **kwargs: Any) -> Any:
        # Copies and pickles name the class of the form themselves.
        return super().__new__(PaperGNP if cls is GNP and form == "paper" else cls)

    def __init__(self, channels: int | None = None, *, form: str = "mixed", **paper: Any) -> None:
        check_one_of(form, "form", FORMS)
        if paper:
            raise TypeError(
                f"GNP takes {', '.join(f'`{name}`' for name in sorted(paper))} in the form of the "
                f"paper only: say GNP(..., form='paper')."
            )
        if channels is None:
            raise ValueError("`channels` is needed for GNP; give -1 to infer it.")
        super().__init__(channels)

    def build(self, channels: int) -> None:
        self.exponents = torch.nn.Parameter(torch.empty(2))
        self.size = torch.nn.Parameter(torch.empty(2))
        self.s = torch.nn.Parameter(torch.empty(channels))
        self.t = torch.nn.Parameter(torch.empty(channels))

    def reset_parameters(self) -> None:
        # Multiples of two irrational numbers: even in both weights, however many channels there are.
        count = torch.arange(1, self.s.numel() + 1, dtype=torch.float64)
        with torch.no_grad():
            self.exponents.zero_()
            self.size.zero_()
            self.s.copy_((0.5 + 0.7548776662466927 * count) % 1)
            self.t.copy_((0.5 + 0.6180339887498949 * count) % 1 - 0.5)

    @property
    def p(self) -> Tensor:
        # cosh is 1 at its smallest, which the parameter can pass through, and grows as exp does.
        bound = math.acosh(P_MAX)
        start = math.acosh(START)
        moved = (start + _hesitant(self.exponents, 1.0, 5.0)).clamp(-bound, bound)
        large, small = moved.cosh().split(1)
        return torch.stack([large, -small, torch.ones_like(large)])

    @property
    def g(self) -> Tensor:
        one, large = self.size.split(1)
        return GROWTH + GAIN / math.log(LARGE) * (large - one)

    @property
    def c(self) -> Tensor:
        return (GAIN * self.size[:1]).exp()

    @property
    def q(self) -> Tensor:
        return 1 / self.p - self.g

    @property
    def shares(self) -> Tensor:
        return torch.stack([(1 - self.s) * (1 - self.t), (1 - self.s) * self.t, self.s])

    def pool(
        self,
        x: Tensor,
        segments: Segments,
        weight: Tensor | None = None,
        gather: Gather | None = None,
    ) -> Tensor:
        exponents, mix = self.p[:2].flatten(), self.c * self.shares
        return segment_mixed_means(x, segments, exponents, mix, self.g, weight, gather)

    def _mixed(self, powers: Tensor, mean: Tensor, whole: Tensor) -> Tensor:
        """The three means ``[S, ..., C]`` of a bag, the first two side by side; ``whole`` of sizes."""
        shares = self.shares
        sizes = shares[0] * powers[:, 0] + shares[1] * powers[:, 1]
        return net_sign(mean, whole) * sizes + shares[2] * mean

    def merging(self) -> Mergeable:
        def combine(parts: Tensors, sums: Tensors) -> Tensor:
            size = size_of(sums, parts["mean"])
            means = (
                parts["norms"].unflatten(1, (2, -1)),
                parts["mean"] / size,
                parts["whole"] / size,
            )
            return self._mixed(*means) * self.c * size**self.g

        parts = {
            "norms": norms("abs", lambda x: (self.p[:2], 1 / self.p[:2])),
            "mean": Sums(lambda sums: sums["x"]),
            "whole": Sizes(lambda sums: sums["x"]),
        }
        return NormsAndSums(parts, combine)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        if prefix + "a" in state_dict:
            raise ValueError(
                f"The state of {prefix.rstrip('.') or 'this pool'} is that of GNP in the form of the "
                f"paper, the only one there was before: load it into GNP(channels, form='paper')."
            )
        size = state_dict.get(prefix + "size")
        if size is not None and size.shape == (1,):
            # One number, 0.25 + 0.3 x + 2 x |x|, was the growth before it had a scale beside it.
            moved = _hesitant(size, 0.3, 2.0) * math.log(LARGE) / GAIN
            state_dict[prefix + "size"] = torch.cat([torch.zeros_like(moved), moved])
        super()._load_from_state_dict(state_dict, prefix, *args)


def _hesitant(x: Tensor, slow: float, fast: float) -> Tensor:
    """How far a parameter has moved: ``slow`` near 0, faster and faster beyond."""
    return slow * x + fast * x * x.abs()


class PaperGNP(GNP):
    r"""GNP in the form of its paper, made by ``GNP(..., form="paper")``, per channel:

    .. math:: f_{p,q}(s) = n_s^{-q} \left( \sum_{e \in s} |x_e|^p \right)^{1/p}

    It sees absolute values unless told otherwise, and wants care: the parameters ``a`` and ``growth`` in a
    group of their own, at about ten times the rate, without weight decay, and at rest in the first epochs;
    in long runs a clipped gradient.

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

    Ko, Kwon, Shin, Lee, "Learning to pool in graph neural networks for extrapolation", 2021. The paper's
    initial values are not known to us; these were chosen by experiment, with this parametrisation.

    Args:
        channels: Number of channels; needed for ``sign="both"`` or ``shared=False``.
        sign: ``"plus"``, ``"minus"``, or ``"both"``.
        shared: One ``p`` and ``q`` for all channels, or one for each.
        p: Size of the exponent at the start, in ``[p_min, p_max]``. At ``p = p_min`` exactly it is not
            learned (with ``q=0.0`` and ``sign="plus"`` it is the sum and stays so in ``p``).
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

    Attributes:
        p: The exponents as they are now, ``[signs, 1 or C]``: GNP+ first.
        q: Likewise, :math:`1/p - g`.
        growth: The parameter :math:`g`, likewise.

    Raises:
        ValueError: An argument is out of range, or ``channels`` is missing.

    Example:
        >>> from graphpool import aggr
        >>> pool = aggr.GNP(form="paper", sign="plus", p=2.0, q=0.0)
        >>> pool(torch.tensor([[3.0], [4.0]])).detach()
        tensor([[5.]])
        >>> pool.p.detach()
        tensor([[2.]])
    """

    def __init__(
        self,
        channels: int | None = None,
        *,
        form: str = "paper",
        sign: str = "both",
        shared: bool = True,
        p: float = 8.0,
        q: float | None = None,
        growth: float = 0.25,
        p_min: float = 1.0,
        p_max: float = P_MAX,
        offset: float = 0.0,
        negative: str = "abs",
    ) -> None:
        if form != "paper":
            raise ValueError(f"`form` of PaperGNP is 'paper'; got {form!r}.")
        Aggregation.__init__(self, channels)
        check_one_of(sign, "sign", SIGNS)
        if not p_min > 0:
            raise ValueError(f"`p_min` must be positive; got {p_min}.")
        if not p_min < p_max < math.inf:
            raise ValueError(f"`p_max` must be finite and above p_min={p_min}; got {p_max}.")
        if not p_min <= p <= p_max:
            raise ValueError(
                f"`p` is the size of the exponent at the start and must be finite, at most "
                f"p_max={p_max} and at least p_min={p_min}; got {p}."
            )
        check_at_least(offset, "offset", 0)
        if channels is None and (sign == "both" or not shared):
            what = "sign='both'" if sign == "both" else "shared=False"
            raise ValueError(f"`channels` is needed for {what}; give -1 to infer it.")
        self.sign, self.shared = sign, shared
        self.initial_p = float(p)
        self.initial_q = None if q is None else float(q)
        self.initial_growth = float(growth)
        self.p_min, self.p_max = float(p_min), float(p_max)
        self.offset = float(offset)
        self.negative = check_policy(negative)
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
            self.combine.reset_parameters()

    @property
    def p(self) -> Tensor:
        size = self.p_min + self.a.clamp(max=math.log(self.p_max - self.p_min)).exp()
        return size * torch.tensor(self.signs, dtype=size.dtype, device=size.device).unsqueeze(1)

    @property
    def q(self) -> Tensor:
        return 1 / self.p - self.growth

    def pool(
        self,
        x: Tensor,
        segments: Segments,
        weight: Tensor | None = None,
        gather: Gather | None = None,
    ) -> Tensor:
        def of(v: Tensor, negative: str) -> Tensor:
            found = segment_power(v, segments, self.p, self.q, weight, gather, negative)
            return found.movedim(1, -2).flatten(-2)

        negative = seen(self.negative, x)
        if self.offset:
            pooled = of((x.abs() if negative == "abs" else x.relu()) + self.offset, "abs")
            if negative == "split":
                pooled = pooled - of((-x).relu() + self.offset, "abs")
        else:
            pooled = of(x, negative)
        return self._combined(pooled).to(x.dtype)

    def _combined(self, pooled: Tensor) -> Tensor:
        if self.sign != "both":
            return pooled
        return self.combine(pooled.to(self.combine.weight.dtype))

    def merging(self) -> Mergeable:
        return norms(self.negative, lambda x: (self.p, self.q), self._combined, self.offset)

    def extra_repr(self) -> str:
        channels = "" if self.channels is None else f"channels={self.channels}, "
        given = self.initial_q is not None
        size = f"q={self.initial_q}" if given else f"growth={self.initial_growth}"
        offset = f", offset={self.offset}" if self.offset else ""
        return (
            f"{channels}form='paper', sign={self.sign!r}, shared={self.shared}, p={self.initial_p}, {size}"
            f"{offset}, negative={self.negative!r}"
        )

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        super(GNP, self)._load_from_state_dict(state_dict, prefix, *args)
