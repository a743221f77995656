"""The fused ops on CUDA: the same arguments and results as their CPU kernels."""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from graphpool.ops.fused.common import working_dtype
from graphpool.ops.fused.cuda import bags as cuda_bags
from graphpool.ops.fused.cuda import rows as cuda_rows
from graphpool.ops.fused.cuda import share as cuda_share
from graphpool.ops.fused.cuda.launch import (
    Runs,
    accumulator,
    channel_block,
    reduce_bags,
    size_of_runs,
    walk_rows,
)
from graphpool.ops.fused.layout import Layout
from graphpool.ops.fused.moments import kept_of
from graphpool.ops.reference import SIDES, limits


def _softmax(
    x: Tensor, layout: Layout, score: Tensor | None, t: Tensor | None, sums: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted sum of the bags, what it lacks by rounding, and their tops and inverse sums; scores are
    ``t * x`` if there are none."""
    channels = x.shape[1]
    heads = channels if score is None else score.shape[1]
    runs = Runs.of(layout, layout.num_elements(x))
    dtype, count = working_dtype(x), runs.begin.shape[0]
    # Two tensors: the results of an operator may not share memory.
    out, lacks = (x.new_zeros((count if sums else 0, channels), dtype=dtype) for _ in range(2))
    kept = x.new_zeros((count, 2, heads), dtype=dtype)
    none = layout.ptr
    arrays = (none if score is None else score, x, none if t is None else t)
    results = (out, lacks, kept, channels, heads, channels // max(heads, 1))
    reduce_bags(
        cuda_bags.softmax_forward, arrays, x, layout, runs, results, SELF=t is not None, OUT=sums
    )
    top, z = kept[:, 0], kept[:, 1]
    if runs.pieces > 1:
        z = runs.by_bag(z).double()
        rate = top.new_ones(()) if t is None else t
        sign = torch.where(rate < 0, -1, 1)
        tops = torch.where(z == 0, -torch.inf, sign * runs.by_bag(top).double())
        top = tops.amax(1)
        spread = torch.where(tops == top[:, None], 0, rate.abs() * (tops - top[:, None]))
        top = sign * top
        share = torch.where(z == 0, 0, z * spread.exp())
        z = share.sum(1)
        if sums:
            share = (share / torch.where(z == 0, 1, z)[:, None]).repeat_interleave(
                channels // max(heads, 1), 2
            )
            parts = runs.by_bag(out).double()
            anchor = torch.where(share == share.amax(1, keepdim=True), parts, -torch.inf).amax(1)
            anchor = torch.where(anchor.isfinite(), anchor, 0)
            half = 0.5 * parts - 0.5 * anchor[:, None] + 0.5 * runs.by_bag(lacks)
            half = torch.where((share == 0) & ~parts.isnan(), 0, share * half).sum(1)
            out = (anchor + half + half).to(dtype)
            rest = anchor - out + 2 * half
            lacks = torch.where(rest.isfinite(), rest, 0).to(dtype)
    empty = z == 0
    inverse = torch.where(empty, 0, 1 / torch.where(empty, 1, z))
    return out, lacks, torch.stack([torch.where(empty, 0, top), inverse], 1).to(dtype)


def segment_softpool(x: Tensor, t: Tensor, *layout: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    return _softmax(x, Layout.from_args(layout), None, t, True)


def segment_softpool_backward(
    grad: Tensor,
    x: Tensor,
    t: Tensor,
    out: Tensor,
    lacks: Tensor,
    kept: Tensor,
    *layout: Tensor | None,
) -> tuple[Tensor, Tensor]:
    bags = (torch.stack([out, lacks], 1), kept, grad.contiguous())
    grad_x, grad_t = walk_rows(cuda_rows.SOFTPOOL, x, Layout.from_args(layout), bags, t)
    return grad_x.to(x.dtype), torch.empty_like(t) if grad_t is None else grad_t.to(t.dtype)


def segment_softmax_sum(
    score: Tensor, value: Tensor, *layout: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    return _softmax(value, Layout.from_args(layout), score, None, True)


def segment_softmax_sum_backward(
    grad: Tensor,
    score: Tensor,
    value: Tensor,
    out: Tensor,
    lacks: Tensor,
    kept: Tensor,
    *layout: Tensor | None,
) -> tuple[Tensor, Tensor]:
    at = Layout.from_args(layout)
    grad = grad.contiguous()
    grad_value, _ = walk_rows(cuda_rows.SHARE, value, at, (kept, kept, grad), score=score)
    elements, heads = score.shape
    grad_score = torch.zeros_like(score, dtype=working_dtype(value))
    if elements and heads:
        width = value.shape[1] // heads
        wide = min(32, triton.next_power_of_2(width))
        block = max(1, min(64 // wide, triton.next_power_of_2(heads)))
        none = at.ptr
        cuda_rows.score_backward[(triton.cdiv(elements, 16), triton.cdiv(heads, block))](
            score, value, at.bag_of, *(none if v is None else v for v in (at.gather, at.weight)),
            out, lacks, kept, grad, grad_score, elements, value.shape[1], heads, width,
            GATHER=at.gather is not None, WEIGHT=at.weight is not None, ACC=accumulator(value),
            BE=16, BH=block, BW=wide,
        )  # fmt: skip
    return grad_score.to(score.dtype), grad_value.to(value.dtype)


def segment_logsumexp(
    x: Tensor, tau: Tensor, over: str, *layout: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    at, tau = Layout.from_args(layout), tau.to(working_dtype(x))
    out, lacks, kept = _softmax(x, at, None, 1 / tau, True)
    size = size_of_runs(x, at, Runs(at.ptr[:-1].contiguous(), at.ptr[1:].contiguous(), 1))
    present = (size > 0)[:, None]
    rest = kept[:, 1].log()
    if over == "mean":
        rest = rest + torch.where(size > 0, size, 1).log()[:, None].to(rest.dtype)
    y = torch.where(kept[:, 1] == 0, -torch.inf * tau, kept[:, 0] - tau * rest)
    lse = torch.where(present, y, 0)
    slope = -rest - (out - kept[:, 0] + lacks) / tau
    return lse, torch.where(present & ~lse.isinf(), slope, 0), kept


def segment_logsumexp_backward(
    grad: Tensor,
    x: Tensor,
    tau: Tensor,
    lse: Tensor,
    slope: Tensor,
    kept: Tensor,
    over: str,
    *layout: Tensor | None,
) -> tuple[Tensor, Tensor]:
    bags = (kept, kept, grad.contiguous())
    rate = 1 / tau.to(kept.dtype)
    grad_x, _ = walk_rows(cuda_rows.SELF_SHARE, x, Layout.from_args(layout), bags, rate)
    return grad_x.to(x.dtype), (grad.to(slope.dtype) * slope).sum(0).to(tau.dtype)


def segment_softmax(score: Tensor, *layout: Tensor | None) -> Tensor:
    at = Layout.from_args(layout)
    elements, channels, dtype = at.num_elements(score), score.shape[1], working_dtype(score)
    *_, kept = _softmax(score, at, None, score.new_ones(channels, dtype=dtype), False)
    top, z = kept[:, 0].contiguous(), kept[:, 1].contiguous()
    out = score.new_empty((elements, channels), dtype=dtype)
    gather, weight = (at.ptr if v is None else v for v in (at.gather, at.weight))
    where = (_bag_of(at), gather, weight, top, z, out, elements, channels)
    flags = {"GATHER": at.gather is not None, "WEIGHT": at.weight is not None}
    _walk_elements(cuda_share.share_forward, out, score, *where, **flags)
    return out


def segment_softmax_backward(
    grad: Tensor, score: Tensor, share: Tensor, *layout: Tensor | None
) -> Tensor:
    at, grad = Layout.from_args(layout), grad.to(share.dtype).contiguous()
    bags = at._replace(gather=None, weight=None)
    total = segment_moments(share * grad, "sum", *bags)[0][0].contiguous()
    out = torch.empty_like(share)
    where = (_bag_of(at), total, out, *share.shape)
    _walk_elements(cuda_share.share_backward, out, share, grad, *where)
    if at.row_ptr is None:
        return out.to(score.dtype)
    rows = Layout(at.row_ptr, at.row_elements, None, None, None, None, None)
    return segment_moments(out, "sum", *rows)[0][0].to(score.dtype)


def _bag_of(layout: Layout) -> Tensor:
    return layout.segments().index if layout.bag_of is None else layout.bag_of


def _walk_elements(kernel: Any, out: Tensor, *args: Any, **flags: Any) -> None:
    """Launches a kernel of :mod:`cuda_share` over all elements and channels of ``out``."""
    elements, channels = out.shape
    if elements and channels:
        block = channel_block(channels)
        grid = (triton.cdiv(elements, 32), triton.cdiv(channels, block))
        kernel[grid](*args, ACC=accumulator(out), BE=32, BC=block, **flags)


def _sides(x: Tensor, norms: int, negative: str) -> list[tuple[int, Tensor]]:
    """The side of each norm, and what the elements have on it."""
    sides = [(side, torch.relu(side * x) if side else x) for side in SIDES[negative]]
    return [pair for pair in sides for _ in range(norms // len(sides))]


def segment_power(
    x: Tensor, p: Tensor, q: Tensor, negative: str, *layout: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    at = Layout.from_args(layout)
    sides = _sides(x, len(p), negative)
    found = [_power(a, u, v, at) for (_, a), u, v in zip(sides, p, q, strict=True)]
    out, norm, size = zip(*found, strict=True)
    return torch.stack(out, 1), torch.stack(norm, 1), size[0]


def _power(x: Tensor, p: Tensor, q: Tensor, at: Layout) -> tuple[Tensor, Tensor, Tensor]:
    """One norm of the absolute values, the log of it without the factor of the size, and the sizes."""
    runs = Runs.of(at, at.num_elements(x))
    dtype = working_dtype(x)
    least, most = limits(dtype)
    norm = x.new_zeros((runs.begin.shape[0], x.shape[1]), dtype=dtype)
    extreme = torch.full_like(norm, torch.inf)
    results = (norm, extreme, x.shape[1], least, most)
    reduce_bags(cuda_bags.power_forward, (x, p), x, at, runs, results)
    size = size_of_runs(x, at, runs).to(dtype)
    p, q = p.to(dtype), q.to(dtype)
    if runs.pieces > 1:
        present = runs.by_bag(size)[..., None] > 0
        scores = torch.where(present, p * runs.by_bag(norm), -torch.inf)
        top = scores.amax(1, keepdim=True)
        a = torch.where(scores == top, 0, scores - top).exp() * (scores != -torch.inf)
        z = a.sum(1)
        norm = (top[:, 0] + z.log()) / p
        sizes = torch.where(
            present, runs.by_bag(extreme), torch.where(p > 0, -torch.inf, torch.inf)
        )
        extreme = torch.where(p > 0, sizes.amax(1), sizes.amin(1))
        size = runs.by_bag(size).sum(1)
    found = (size > 0)[:, None]
    y = torch.exp(norm - q * torch.where(size > 0, size, 1).log()[:, None])
    limit = torch.where(extreme < least, 0, torch.where(extreme == torch.inf, torch.inf, y))
    y = torch.where(y.isnan(), y, limit)
    return torch.where(found, y, 0), torch.where(found, norm, 0), size


def segment_power_backward(
    grad: Tensor,
    x: Tensor,
    p: Tensor,
    q: Tensor,
    out: Tensor,
    norm: Tensor,
    size: Tensor,
    negative: str,
    *layout: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    at, grad_x = Layout.from_args(layout), torch.zeros_like(x, dtype=norm.dtype)
    of_exponents = []
    for k, (side, a) in enumerate(_sides(x, len(p), negative)):
        of_bags = grad[:, k], out[:, k], norm[:, k]
        of_x, *of_norm = _power_backward(a, p[k], q[k], *of_bags, size, at)
        grad_x += side * torch.where(side * x > 0, of_x, 0) if side else of_x
        of_exponents.append(of_norm)
    grad_p, grad_q = (torch.stack(v) for v in zip(*of_exponents, strict=True))
    return grad_x.to(x.dtype), grad_p, grad_q


def _power_backward(
    x: Tensor,
    p: Tensor,
    q: Tensor,
    grad: Tensor,
    out: Tensor,
    norm: Tensor,
    size: Tensor,
    at: Layout,
) -> tuple[Tensor, Tensor, Tensor]:
    log_size = torch.where(size > 0, size, 1).log()
    of_norm = grad.to(norm.dtype) * torch.exp(-q.to(norm.dtype) * log_size[:, None])
    of_p = torch.where(out.isinf(), 0, of_norm)
    bags = (norm.contiguous(), of_p.contiguous(), of_norm.contiguous())
    grad_x, total = walk_rows(cuda_rows.POWER, x, at, bags, p)
    grad_p = torch.empty_like(p) if total is None else (total / p).to(p.dtype)
    # Nothing moves an infinite result.
    moved = torch.where(out.isinf(), 0, grad.to(out.dtype) * out)
    return grad_x, grad_p, -(log_size @ moved).to(q.dtype)


def segment_moments(x: Tensor, moments: str, *layout: Tensor | None) -> tuple[Tensor, Tensor]:
    at, names = Layout.from_args(layout), moments.split(",")
    runs = Runs.of(at, at.num_elements(x))
    dtype, shape = working_dtype(x), (runs.begin.shape[0], x.shape[1])
    extrema, spread = "min" in names or "max" in names, "mean" in kept_of(names)
    total = x.new_zeros(shape, dtype=torch.float64)
    others = tuple(x.new_zeros(shape, dtype=dtype) for _ in range(4))
    results = (total, *others, x.shape[1])
    reduce_bags(cuda_bags.moments_forward, (x,), x, at, runs, results, EXTREMA=extrema)
    found: dict[str, Tensor] = {"sum": runs.by_bag(total).sum(1)}
    ties: dict[str, Tensor] = {}
    if "mean" in names or spread:
        size = runs.by_bag(size_of_runs(x, at, runs))[..., None].sum(1)
        size = torch.where(size == 0, 1, size)
        mean = (found["sum"] / size).to(dtype)
        if dtype == torch.float64:
            # Nothing wider to add in: the mean deviation from the rounded mean is what it lacks.
            lacks = _deviations(x, at, runs, mean)[0] / size
            mean = mean + torch.where(lacks.isfinite(), lacks, 0)
        found["mean"] = mean
    if spread:
        shift, square = (v / size for v in _deviations(x, at, runs, mean))
        variance = square - shift * shift
        found["var"], ties["mean"] = torch.where(variance < 0, 0, variance), shift
        found["std"] = found["var"].sqrt()
    if extrema:
        low, high, at_low, at_high = (runs.by_bag(v) for v in others)
        for name, values, tied, neutral in (
            ("min", low, at_low, torch.inf),
            ("max", high, at_high, -torch.inf),
        ):
            values = torch.where(tied == 0, neutral, values)
            best = values.amin(1) if name == "min" else values.amax(1)
            hit = (values == best[:, None]) | values.isnan()
            ties[name] = torch.where(hit, tied, 0).sum(1)
            found[name] = torch.where(ties[name] == 0, 0, best)
    out = torch.stack([found[name].to(dtype) for name in names])
    kept = [ties[name].to(dtype) for name in kept_of(names) if at.bag_of is not None]
    return out, torch.stack(kept) if kept else out.new_empty((0, *out.shape[1:]))


def _deviations(x: Tensor, layout: Layout, runs: Runs, center: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of deviations from the center of each bag, and of their squares."""
    shape = (runs.begin.shape[0], x.shape[1])
    sums = tuple(x.new_zeros(shape, dtype=torch.float64) for _ in range(2))
    results = (center.contiguous(), *sums, x.shape[1], runs.pieces)
    reduce_bags(cuda_bags.deviations, (x,), x, layout, runs, results)
    first, second = (runs.by_bag(v).sum(1) for v in sums)
    return first, second


def segment_moments_backward(
    grad: Tensor, x: Tensor, out: Tensor, kept: Tensor, moments: str, *layout: Tensor | None
) -> Tensor:
    at, names = Layout.from_args(layout), moments.split(",")
    of = dict(zip(names, grad, strict=True))
    values = dict(zip(names, out, strict=True))
    runs = Runs(at.ptr[:-1].contiguous(), at.ptr[1:].contiguous(), 1)
    total = torch.zeros_like(x, dtype=out.dtype)

    besides = dict(zip(kept_of(names), kept, strict=True))

    def add(mode: object, of_bag: Tensor, first: Tensor, second: Tensor) -> None:
        bags = (first.contiguous(), second.contiguous(), of_bag.contiguous())
        total.add_(walk_rows(mode, x, at, bags)[0])

    if "mean" in of:
        size = size_of_runs(x, at, runs)
        inverse = (1 / torch.where(size == 0, 1, size))[:, None].to(out.dtype)
    linear = of.get("sum")
    if "mean" in of:
        linear = of["mean"] * inverse + (0 if linear is None else linear)
    if linear is not None:
        add(cuda_rows.LINEAR, linear, linear, linear)
    twice = of["var"] * (2 * inverse) if "var" in of else None
    if "std" in of:
        std = values["std"]
        of_std = torch.where(std == 0, 0, of["std"] * inverse / torch.where(std == 0, 1, std))
        twice = of_std if twice is None else twice + of_std
    if twice is not None:
        add(cuda_rows.SPREAD, twice, values["mean"], besides["mean"])
    for name in ("min", "max"):
        if name in of:
            count = besides[name]
            share = torch.where(count > 0, of[name] / torch.where(count > 0, count, 1), 0)
            add(cuda_rows.EXTREMUM, share, values[name], values[name])
    return total.to(x.dtype)
