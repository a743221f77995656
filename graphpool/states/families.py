"""The families of pools that merge: sums, moments, extrema, exponentials."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from graphpool.ops import (
    align,
    segment_logsumexp,
    segment_max,
    segment_mean,
    segment_min,
    segment_moments,
    segment_outer,
    segment_topk,
    with_value,
)
from graphpool.segments import Segments
from graphpool.states.mergeable import Encoder, Mergeable, Tensors, as_is, size_of, spread
from graphpool.states.numbers import shares, sizes

_LOG2 = math.log(2.0)
_FAR = 80.0


class Sums(Mergeable):
    """Plain sums: no reference.

    Args:
        finish: Makes the results of the sums, which go by the names of what ``encode`` gives.
        encode: What is summed, of elements ``[E, C]``.
        integers: Whether integers may be summed.
        of_weight: Whether there is a derivative by the weights.
    """

    def __init__(
        self,
        finish: Callable[[Tensors], Tensor],
        encode: Encoder = as_is,
        integers: bool = False,
        of_weight: bool = True,
    ) -> None:
        self._finish, self._encode = finish, encode
        self.integers, self.of_weight = integers, of_weight
        if encode is as_is and type(self) is Sums:
            self.shares = (Sums, of_weight)

    def terms(self, seen: Tensors, at: Tensors) -> Tensors:
        return seen

    def finish(self, sums: Tensors, reference: Tensors) -> Tensor:
        return self._finish(sums)


class Central(Mergeable):
    r"""First and second moments about a centre ``c`` near the mean: :math:`d = \sum w (x - c)` and
    :math:`q = \sum w (x - c)^2`, or :math:`\sum w (x - c)(x - c)^\top`.

    That is the merge of Chan, Golub and LeVeque, with ``d`` for what the rounded centre lacks.

    Args:
        finish: Makes the results of mean ``[S, C]``, second moment about it (a sum, not divided), and sums.
        outer: Whole matrices of products instead of squares.
        centred: Second moment about the mean; otherwise about 0.
        encode: What is pooled, named ``x``.
    """

    def __init__(
        self,
        finish: Callable[[Tensor, Tensor, Tensors], Tensor],
        outer: bool = False,
        centred: bool = True,
        encode: Encoder = as_is,
    ) -> None:
        self._finish, self._encode = finish, encode
        self.outer, self.centred = outer, centred
        if encode is as_is and type(self) is Central:
            self.shares = (Central, outer, centred)

    def reference(self, seen: Tensors, segments: Segments, weight: Tensor | None) -> Tensors:
        x = seen["x"].detach()
        if not self.centred:
            return {"centre": x.new_zeros(segments.num_segments, *x.shape[1:])}
        mean = segment_mean(x, segments, None if weight is None else weight.detach())
        return {"centre": _finite(mean)}

    def join(self, a: Tensors, b: Tensors, size_a: Tensor, size_b: Tensor) -> Tensors:
        p, q = a["centre"], b["centre"]
        m, n = (align(size.to(p.dtype), p) for size in (size_a, size_b))
        mean = (m * p + n * q) / torch.where(m + n == 0, 1, m + n)
        # Equal centres stay what they are to the last bit, and an empty bag has none.
        mean = torch.where((n == 0) | (p == q), p, torch.where(m == 0, q, mean))
        return {"centre": mean}

    def terms(self, seen: Tensors, at: Tensors) -> Tensors:
        d = seen["x"] - at["centre"]
        return {"d": d, "q": d.unsqueeze(-1) * d.unsqueeze(-2) if self.outer else d * d}

    def sums(
        self, seen: Tensors, segments: Segments, weight: Tensor | None, reference: Tensors
    ) -> Tensors:
        if not self.outer:
            return super().sums(seen, segments, weight, reference)
        d = seen["x"] - spread(reference, segments)["centre"]
        linear = Sums(lambda sums: sums["d"]).sums({"d": d}, segments, weight, {})
        return {**linear, "q": segment_outer(d, d, segments, weight)}

    def piece(
        self, seen: Tensors, segments: Segments, weight: Tensor | None
    ) -> tuple[Tensors, Tensors]:
        if self.outer or not self.centred:
            return super().piece(seen, segments, weight)
        mean, var = segment_moments(seen["x"], segments, ("mean", "var"), weight)
        n = align(sizes(segments, weight).to(mean.dtype), mean)
        # A centre is finite, and what is infinite one of the sums.
        infinite = torch.where(mean.isfinite(), 0, mean)
        return {"centre": _finite(mean)}, {"d": infinite, "q": var * n}

    def shift(self, sums: Tensors, old: Tensors, new: Tensors) -> Tensors:
        if not self.centred:
            return {}
        d, by = sums["d"], old["centre"] - new["centre"]
        moved = align(sums["n"].to(d.dtype), d) * by
        if not self.outer:
            return {"d": moved, "q": 2 * by * d + moved * by}
        cross = d.unsqueeze(-1) * by.unsqueeze(-2)
        return {"d": moved, "q": cross + cross.mT + moved.unsqueeze(-1) * by.unsqueeze(-2)}

    def settle(self, reference: Tensors, sums: Tensors) -> Tensors:
        # A sixteenth of the deviation, or of the centre itself, is near enough, and has few digits.
        centre, q = reference["centre"], sums["q"].diagonal(0, 1, 2) if self.outer else sums["q"]
        width = torch.where(q > 0, (q.clamp(min=0) / size_of(sums, q)).sqrt(), centre.abs())
        grid = torch.exp2(torch.where(width > 0, width, 1).log2().floor() - 4)
        return {"centre": (centre / grid).round() * grid}

    def finish(self, sums: Tensors, reference: Tensors) -> Tensor:
        d, q = sums["d"], sums["q"]
        lacks = d / size_of(sums, d)
        if self.centred:
            about = lacks.unsqueeze(-1) * d.unsqueeze(-2) if self.outer else lacks * d
            q = q - about if self.outer else (q - about).clamp(min=0)
        return self._finish(reference["centre"] + lacks, q, sums)


class Extremum(Mergeable):
    """The largest or smallest element of each channel, and how many attain it.

    Args:
        largest: The largest, or the smallest.
    """

    removable = False
    integers = True
    of_weight = False

    def __init__(self, largest: bool = True) -> None:
        self.largest = largest

    def _worst(self, like: Tensor) -> float | int:
        if like.is_floating_point():
            return -math.inf if self.largest else math.inf
        limits = torch.iinfo(like.dtype)
        return limits.min if self.largest else limits.max

    def reference(self, seen: Tensors, segments: Segments, weight: Tensor | None) -> Tensors:
        x = seen["x"].detach()
        top = (segment_max if self.largest else segment_min)(x, segments, weight)
        return {"top": torch.where(align(_empty(segments, weight), top), self._worst(top), top)}

    def join(self, a: Tensors, b: Tensors, size_a: Tensor, size_b: Tensor) -> Tensors:
        better = torch.maximum if self.largest else torch.minimum
        return {"top": better(a["top"], b["top"])}

    def covers(self, reference: Tensors, own: Tensors) -> bool:
        none = own["top"][:, 0]  # sizes do not matter here
        return torch.equal(self.join(reference, own, none, none)["top"], reference["top"])

    def terms(self, seen: Tensors, at: Tensors) -> Tensors:
        return _attained(seen["x"], at["top"])

    def rebase(self, sums: Tensors, old: Tensors, new: Tensors) -> Tensors:
        kept = old["top"] == new["top"]
        return {**sums, **{key: torch.where(kept, sums[key], 0) for key in ("ties", "rest")}}

    def finish(self, sums: Tensors, reference: Tensors) -> Tensor:
        top, ties = reference["top"], sums["ties"]
        top = torch.where(align(sums["n"] == 0, top), 0, top)
        if not top.is_floating_point():
            return top
        return top + sums["rest"] / torch.where(ties == 0, 1, ties)


class Largest(Extremum):
    """The ``k`` largest elements of each channel; equal ones share the derivative.

    Args:
        k: How many.
    """

    integers = False

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def reference(self, seen: Tensors, segments: Segments, weight: Tensor | None) -> Tensors:
        x = seen["x"].detach()
        return {"values": segment_topk(x, segments, self.k, weight=weight, fill=-math.inf)[0]}

    def join(self, a: Tensors, b: Tensors, size_a: Tensor, size_b: Tensor) -> Tensors:
        both = torch.cat([a["values"], b["values"]], dim=1)
        return {"values": both.topk(self.k, dim=1).values}

    def covers(self, reference: Tensors, own: Tensors) -> bool:
        values, last = own["values"], reference["values"][:, -1:]
        known = (values.unsqueeze(2) == reference["values"].unsqueeze(1)).any(2)
        return bool((known | (values <= last)).all())

    def terms(self, seen: Tensors, at: Tensors) -> Tensors:
        return _attained(seen["x"].unsqueeze(1), at["values"])

    def rebase(self, sums: Tensors, old: Tensors, new: Tensors) -> Tensors:
        # What is among the largest of all was among those of its piece, with all that equal it.
        same = new["values"].unsqueeze(2) == old["values"].unsqueeze(1)
        ties = torch.where(same, sums["ties"].unsqueeze(1), 0).amax(2)
        rest = torch.where(same, sums["rest"].unsqueeze(1), 0).amax(2)
        return {**sums, "ties": ties, "rest": rest}

    def finish(self, sums: Tensors, reference: Tensors) -> Tensor:
        values, ties = reference["values"], sums["ties"]
        free = values == -math.inf
        y = torch.where(free, 0, values) + sums["rest"] / torch.where(ties == 0, 1, ties)
        return y.flatten(1)


class Exponential(Mergeable):
    r"""Exponentials of scores, :math:`u = \sum w e^{t - M}`, and values weighted by them,
    :math:`v = \sum w e^{t - M} x`.

    ``M`` is the largest score, rounded up to a multiple of :math:`\log 2`: sums move from one to another
    without rounding. Where a score is ``inf``, only those that are count.

    Args:
        finish: Makes the results of :math:`v / u` (1 without values), :math:`\log \sum w e^t`, and sums.
        score: Scores ``[E, ...]`` of what is seen of the elements.
        value: Values ``[E, ...]``, shaped to be multiplied by the scores.
        encode: What is seen of elements ``[E, C]``, from layers in a precision of their own say.
    """

    def __init__(
        self,
        finish: Callable[[Tensor, Tensor, Tensors], Tensor],
        score: Callable[[Tensors], Tensor],
        value: Callable[[Tensors], Tensor] | None = None,
        encode: Encoder = as_is,
    ) -> None:
        self._finish, self._encode = finish, encode
        self.score, self.value = score, value

    def reference(self, seen: Tensors, segments: Segments, weight: Tensor | None) -> Tensors:
        score = self.score({name: value.detach() for name, value in seen.items()}).detach()
        top = (segment_max(score, segments, weight) / _LOG2).ceil()
        return {"top": torch.where(align(_empty(segments, weight), top), -math.inf, top)}

    join, covers, largest = Extremum.join, Extremum.covers, True

    def terms(self, seen: Tensors, at: Tensors) -> Tensors:
        score, top = self.score(seen), at["top"]
        t = score - _LOG2 * _finite(top)
        # Only what is absent, of weight 0, lies far above the largest: 0 * inf.
        e = torch.where((t > _FAR) | (top == math.inf), -math.inf, t).exp()
        if bool((top == math.inf).any()):
            ones = with_value(score, torch.ones_like(score))
            e = torch.where(top < math.inf, e, torch.where(score == math.inf, ones, 0))
        return {"u": e} if self.value is None else {"u": e, "v": shares(e, self.value(seen))}

    def piece(
        self, seen: Tensors, segments: Segments, weight: Tensor | None
    ) -> tuple[Tensors, Tensors]:
        # Small weights may leave the logarithm of the sum far below the largest score.
        known = self.value is None and weight is None
        log = self._log_sum(seen, segments) if known else None
        # One that is infinite does not tell how many scores are.
        if log is None or bool((log == math.inf).any()):
            return super().piece(seen, segments, weight)
        return self.of_log(log, segments)

    def _log_sum(self, seen: Tensors, segments: Segments) -> Tensor | None:
        return segment_logsumexp(self.score(seen), segments)

    def of_log(self, log: Tensor, segments: Segments) -> tuple[Tensors, Tensors]:
        """Reference and sum of a piece of which the logarithm of the sum is known."""
        top, empty = (log / _LOG2).ceil(), align(segments.counts == 0, log)
        u = torch.where(empty, 0, (log - _LOG2 * _finite(top)).exp())
        return {"top": torch.where(empty, -math.inf, top)}, {"u": u}

    def rebase(self, sums: Tensors, old: Tensors, new: Tensors) -> Tensors:
        # What an empty bag has is 0 at any reference.
        move = (old["top"] != new["top"]) & old["top"].isfinite()
        factor = torch.exp2(torch.where(move, old["top"] - new["top"], 0))
        return {
            name: v if name == "n" else torch.where(factor == 0, 0, v * factor)
            for name, v in sums.items()
        }

    def finish(self, sums: Tensors, reference: Tensors) -> Tensor:
        u = sums["u"]
        u = torch.where(align(sums["n"] == 0, u), 1, u)
        # A bag of scores -inf has no share to give, and the logarithm that it should have.
        top, v = reference["top"], sums.get("v", u)
        # An infinite mean is not moved by shares.
        mean = v / torch.where(v.isinf(), u.detach(), torch.where(u == 0, 1, u))
        return self._finish(mean, _LOG2 * torch.where(top == -math.inf, 0, top) + u.log(), sums)


def _attained(x: Tensor, top: Tensor) -> Tensors:
    """How many attain the extremum, and 0 with the derivative of those elements."""
    hit = x == top
    rest = torch.where(hit, with_value(x, torch.zeros_like(x)), 0)
    return {"ties": hit.to(x.dtype), "rest": rest}


def _finite(top: Tensor) -> Tensor:
    return torch.where(top.isfinite(), top, 0)


def _empty(segments: Segments, weight: Tensor | None) -> Tensor:
    """Which bags have no element, or none whose weight is not 0."""
    if weight is None:
        return segments.counts == 0
    here = weight.new_zeros(segments.num_segments, dtype=torch.long)
    return here.index_add(0, segments.index, (weight != 0).long()) == 0
