"""The composed form of the ops: the reference that every kernel is tested against.

Written with :mod:`graphpool.ops.primitives` alone, so that it runs on any device and can be
differentiated twice. Elements are on dimension 0, tensors are float32 or float64 (sums, maxima and minima
also take integers), and ``weight`` is ``[E]`` or ``None``; the public functions see to that.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from graphpool import _debug
from graphpool.ops.inputs import align, wide
from graphpool.ops.primitives import extremum_of_segments, gather_segments, sum_segments, with_value
from graphpool.segments import Segments

_EXP_LIMIT = 80.0
"""exp(80) is still finite in float32."""


def weighted(x: Tensor, weight: Tensor | None) -> Tensor:
    """``weight * x``; an element of weight 0 is absent, whatever it holds."""
    if weight is None:
        return x
    w = align(weight, x)
    if not x.is_floating_point():
        return w * x
    return torch.where((w == 0) & ~x.isfinite(), 0, w * x)


def sizes(segments: Segments, weight: Tensor | None, dtype: torch.dtype) -> Tensor:
    """The size of each bag ``[S]``: its number of elements, or the sum of their weights."""
    return segments.counts.to(dtype) if weight is None else sum_segments(weight, segments)


def segment_sum(x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
    return sum_segments(weighted(x, weight), segments)


def segment_mean(x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
    """The mean, rounded once: that of equal numbers is that number."""
    elements, weight = wide(x), None if weight is None else wide(weight)
    n = align(sizes(segments, weight, elements.dtype), x)
    n = torch.where(n == 0, 1, n)
    mean = segment_sum(elements, segments, weight) / n
    if elements.dtype != x.dtype:
        return mean.to(x.dtype)
    # Nothing wider to add in: the mean deviation from the rounded mean is what it lacks.
    deviation = elements.detach() - gather_segments(mean.detach(), segments)
    lacks = (
        segment_sum(deviation, segments, None if weight is None else weight.detach()) / n.detach()
    )
    return with_value(mean, mean + torch.where(lacks.isfinite(), lacks, 0))


def segment_extremum(
    x: Tensor, segments: Segments, weight: Tensor | None = None, largest: bool = True
) -> Tensor:
    """Largest or smallest element; the derivative is shared equally by the elements that attain it."""
    values = x.detach() if weight is None else _hide_absent(x.detach(), weight, largest)
    value = extremum_of_segments(values, segments, largest)
    value = torch.where(align(_is_empty(segments, weight), x), value.new_zeros(()), value)
    # Under a transform a tensor does not know whether those it stands for want a derivative.
    if not _debug.inside_transform() and not (x.requires_grad and torch.is_grad_enabled()):
        return value
    hit = (values == gather_segments(value, segments)) | x.isnan()
    if weight is not None:
        hit = hit & align(weight > 0, x)
    share = hit.to(x.dtype) if weight is None else align(weight.detach(), x) * hit
    total = gather_segments(sum_segments(share, segments), segments)
    share = share / torch.where(total == 0, 1, total)
    return with_value(sum_segments(torch.where(hit, share * x, 0), segments), value)


def segment_var(x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
    """Biased variance in :func:`wide` precision, from deviations from the rounded mean, whose error is then
    removed."""
    rounded = segment_mean(x.detach(), segments, None if weight is None else weight.detach())
    deviation = wide(x - gather_segments(rounded, segments))
    weight = None if weight is None else wide(weight)
    n = align(sizes(segments, weight, deviation.dtype), x)
    n = torch.where(n == 0, 1, n)
    shift = segment_sum(deviation, segments, weight) / n
    deviation = deviation - gather_segments(shift, segments)
    return segment_sum(deviation * deviation, segments, weight) / n


def standard_deviation(variance: Tensor) -> Tensor:
    """Square root with derivative 0 at 0, where the true one is infinite."""
    positive = variance != 0
    return torch.where(positive, torch.where(positive, variance, 1).sqrt(), 0)


def segment_moment(name: str, x: Tensor, segments: Segments, weight: Tensor | None) -> Tensor:
    """The sum, mean, var, std, min or max of each bag."""
    if name == "sum":
        return segment_sum(x, segments, weight)
    if name == "mean":
        return segment_mean(x, segments, weight)
    if name in ("min", "max"):
        return segment_extremum(x, segments, weight, largest=name == "max")
    variance = segment_var(x, segments, weight)
    # The root of what is no float32 may well be one.
    return (variance if name == "var" else standard_deviation(variance)).to(x.dtype)


def segment_standardized_moments(
    x: Tensor, segments: Segments, order: int, eps: float, weight: Tensor | None = None
) -> Tensor:
    """The mean, the deviation, and the means of powers of what :func:`segment_var` squares, divided."""
    found = [segment_mean(x, segments, weight)]
    if order > 1:
        found.append(segment_moment("std", x, segments, weight))
    if order > 2:
        x = x - gather_segments(found[0], segments)
        # Far from 0 the mean is rounded by as much as small deviations are.
        x = x - gather_segments(segment_mean(x, segments, weight), segments)
        # Powers of what is divided already stay within the range of numbers.
        length = torch.hypot(found[1], found[1].new_tensor(eps**0.5))
        x = x / gather_segments(length, segments)
        power = x * x
        for _ in range(3, order + 1):
            power = power * x
            found.append(segment_mean(power, segments, weight))
    return torch.stack(found, 1)


def segment_softmax(score: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
    e, z, _ = _exponentials(score, segments, weight)
    return e / gather_segments(torch.where(z == 0, 1, z), segments)


def segment_logsumexp(
    x: Tensor,
    segments: Segments,
    weight: Tensor | None = None,
    tau: float | Tensor = 1.0,
    mean: bool = False,
) -> Tensor:
    """``tau log sum exp(x / tau)``; with ``mean``, of the mean of the exponentials."""
    # Temperatures move neither infinite elements nor infinite results.
    tau = torch.as_tensor(tau, dtype=x.dtype, device=x.device)
    score = x / torch.where(x.isinf(), tau.detach(), tau)
    _, z, top = _exponentials(score, segments, weight)
    empty = align(_is_empty(segments, weight), x)
    positive = z > 0
    # A bag of nothing but -inf has z = 0 and the value -inf; a NaN passes through.
    log = torch.where(positive | z.isnan(), torch.where(z == 0, 1, z).log(), -torch.inf)
    if mean:
        log = log - torch.where(empty, 1, align(sizes(segments, weight, x.dtype), x)).log()
    total = torch.where(empty, 0, top + log)
    return torch.where(total.isinf(), tau.detach(), tau) * total


def segment_softmax_sum(
    score: Tensor, value: Tensor, segments: Segments, weight: Tensor | None = None
) -> Tensor:
    """Softmax-weighted sum; ``score`` broadcasts against ``value`` on the trailing dimensions."""
    share = segment_softmax(score, segments, weight)
    best = gather_segments(extremum_of_segments(share, segments, largest=True), segments)
    at_best = torch.where((share == best) & (share > 0), value, -torch.inf)
    anchor = extremum_of_segments(at_best, segments, largest=True)
    return _shared(share, value, anchor, segments, weight)


def _shared(
    share: Tensor, value: Tensor, anchor: Tensor, segments: Segments, weight: Tensor | None
) -> Tensor:
    """``sum share value``; the value of an element with a large share is the ``anchor`` of its bag."""
    anchor = torch.where(anchor.isfinite(), anchor, 0)
    # The limit of exp(-t) * t is 0: an infinite element without weight must not turn into a NaN.
    excluded = (share == 0) & value.isinf()
    if weight is not None:
        excluded = excluded | (align(weight == 0, value) & value.isnan())
    # Moving the shares does not move an infinite result.
    infinite = sum_segments(((share != 0) & value.isinf()).long(), segments) > 0
    share = torch.where(gather_segments(infinite.long(), segments) > 0, share.detach(), share)
    # What moving the shares does depends on differences, which may be small against the values; halves
    # of them, for that of two large ones of opposite signs would be infinite.
    half = value / 2 - gather_segments(anchor, segments) / 2
    half = sum_segments(share * torch.where(excluded, 0, half), segments)
    return anchor + half + half


def segment_softpool(
    x: Tensor, t: Tensor, segments: Segments, weight: Tensor | None = None
) -> Tensor:
    with torch.no_grad():
        toward = torch.where(t < 0, -x, x)
        toward = toward if weight is None else _hide_absent(toward, weight, largest=True)
        anchor = extremum_of_segments(toward, segments, largest=True)
        anchor = torch.where(anchor.isfinite(), torch.where(t < 0, -anchor, anchor), 0)
    # Scores matter relative to each other. An infinite element has all of its bag or nothing, however t
    # moves.
    off = x - gather_segments(anchor, segments)
    score = with_value(t * torch.where(off.isinf(), 0, off), (t * x).detach())
    return _shared(segment_softmax(score, segments, weight), x, anchor, segments, weight)


SIDES = {"abs": (0,), "clamp": (1,), "split": (1, -1)}
"""What norms take of an element under each policy for negative ones: its absolute value (0), what it has
above zero (1), what it has below (-1)."""


def segment_powers(
    x: Tensor,
    p: Tensor,
    q: Tensor,
    negative: str,
    segments: Segments,
    weight: Tensor | None = None,
) -> Tensor:
    """:func:`segment_power` of each side of the elements, ``[S, sides K, ...]``; exponents
    ``[sides K, ...]``, those of one side after those of the other."""
    sides = SIDES[negative]
    seen = [
        x if side == 0 else torch.relu(side * x)
        for side in sides
        for _ in range(len(p) // len(sides))
    ]
    norms = [segment_power(a, u, v, segments, weight) for a, u, v in zip(seen, p, q, strict=True)]
    return torch.stack(norms, 1)


def segment_power(
    x: Tensor, p: Tensor, q: Tensor, segments: Segments, weight: Tensor | None = None
) -> Tensor:
    """``n^-q (sum |x|^p)^(1/p)`` in the log domain; ``p`` and ``q`` broadcast over the channels."""
    least, most = limits(x.dtype)
    dtype, x, p, q = x.dtype, wide(x), wide(p), wide(q)
    weight = None if weight is None else wide(weight)
    with torch.no_grad():
        a = x.abs() if weight is None else _hide_absent(x.abs(), weight, largest=True)
        extreme = torch.where(
            p > 0, extremum_of_segments(a, segments, True), _smallest(a, segments)
        )
        infinite = extreme == torch.inf
        of_element = gather_segments(infinite.to(x.dtype), segments) > 0
    # Zeros are the limit of a small positive number, infinities that of a large one.
    a = sizes_of(x)
    u = with_value(a, a.clamp(least, most)).log()
    # Exponents do not move an infinite result.
    total = segment_logsumexp(torch.where(of_element, p.detach(), p) * u, segments, weight)
    n = align(sizes(segments, weight, x.dtype), x)
    p, q = (torch.where(infinite, v.detach(), v) for v in (p, q))
    y = (total / p - q * torch.where(n == 0, 1, n).log()).exp()
    value = torch.where(
        extreme < least, 0, torch.where(infinite & ~y.isnan(), torch.inf, y.detach())
    )
    return with_value(torch.where(n == 0, 0, y), torch.where(n == 0, 0, value)).to(dtype)


def segment_mixed_means(
    x: Tensor,
    exponents: Tensor,
    mix: Tensor,
    growth: Tensor,
    segments: Segments,
    weight: Tensor | None = None,
) -> Tensor:
    norms = [segment_power(x, p, 1 / p, segments, weight) for p in exponents]
    mean, size = (segment_mean(v, segments, weight) for v in (x, sizes_of(x)))
    return mixed(norms, mean, size, mix, growth, sizes(segments, weight, x.dtype))


def sizes_of(x: Tensor) -> Tensor:
    """``|x|``, with the right-hand derivative at 0."""
    return torch.where(x < 0, -x, x)


def net_sign(mean: Tensor, whole: Tensor) -> Tensor:
    """``mean / whole``: 1 to the last bit where no element is negative, -1 where none is positive, if
    infinite too, and 1 where all are 0."""
    same = mean.abs() == whole
    return torch.where(same, torch.where(mean < 0, -1, 1), mean / torch.where(same, 1, whole))


def mixed(
    norms: Sequence[Tensor], mean: Tensor, whole: Tensor, mix: Tensor, growth: Tensor, n: Tensor
) -> Tensor:
    """``n^g (r (a m_1 + b m_2) + c mean)``: ``mix`` holds a, b and c, and ``r`` is the mean over ``whole``,
    that of the sizes."""
    y = net_sign(mean, whole) * (mix[0] * norms[0] + mix[1] * norms[1]) + mix[2] * mean
    return y * align(torch.where(n == 0, 1, n), y) ** growth


def _smallest(a: Tensor, segments: Segments) -> Tensor:
    # Hidden elements carry -inf here, which must not count as the smallest.
    return extremum_of_segments(torch.where(a == -torch.inf, torch.inf, a), segments, False)


def _exponentials(
    x: Tensor, segments: Segments, weight: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """``(e, z, top)``: weighted exponentials relative to each bag's top, their sums, and the tops."""
    seen = x.detach() if weight is None else _hide_absent(x.detach(), weight, largest=True)
    top = extremum_of_segments(seen, segments, largest=True)
    spread = gather_segments(top, segments)
    # A bag whose top is +inf is shared by its infinite elements; one of only -inf by none.
    finite = torch.where(spread.isfinite(), spread, 0)
    t = x - finite
    at_infinity = (spread == torch.inf) & ~x.isnan()
    t = torch.where(
        at_infinity, with_value(x, x.new_full((), -torch.inf).where(x != torch.inf, 0)), t
    )
    if weight is not None:
        # An absent element may lie far above the top of those present: 0 * inf.
        t = torch.where(align(weight == 0, x) & ~(t <= _EXP_LIMIT), -torch.inf, t)
    e = t.exp() if weight is None else align(weight, x) * t.exp()
    # A NaN reaches the sum by itself, so the offset may be anything there.
    offset = torch.where(top.isfinite() | (top == torch.inf), top, 0)
    return e, sum_segments(e, segments), offset


def _hide_absent(x: Tensor, weight: Tensor, largest: bool) -> Tensor:
    """``x`` with the elements of weight 0 replaced by the neutral element of the extremum."""
    if x.is_floating_point():
        neutral = -torch.inf if largest else torch.inf
    else:
        info = torch.iinfo(x.dtype)
        neutral = info.min if largest else info.max
    return torch.where(align(weight == 0, x), neutral, x)


def _is_empty(segments: Segments, weight: Tensor | None) -> Tensor:
    if weight is None:
        return segments.counts == 0
    return sum_segments((weight != 0).long(), segments) == 0


def limits(dtype: torch.dtype) -> tuple[float, float]:
    """The least and the largest magnitude that :func:`segment_power` tells from zero and infinity."""
    return (2.0**-1021 if dtype == torch.float64 else 2.0**-125), torch.finfo(dtype).max
