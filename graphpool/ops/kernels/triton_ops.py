"""The fused ops on CUDA: the same arguments and results as their CPU kernels."""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from graphpool.ops.kernels import triton_bags, triton_rows, triton_share
from graphpool.ops.kernels.fused_common import working_dtype
from graphpool.ops.kernels.layout import Layout
from graphpool.ops.kernels.triton_launch import (
    Runs,
    accumulator,
    channel_block,
    reduce_bags,
    size_of_runs,
    walk_rows,
)


def _softmax(
    x: Tensor, layout: Layout, score: Tensor | None, t: Tensor | None, sums: bool
) -> tuple[Tensor, Tensor]:  # noqa: E501
    """Weighted sum and log-sum-exp of the bags; scores are ``t * x`` if there are none."""
    channels = x.shape[1]
    heads = channels if score is None else score.shape[1]
    runs = Runs.of(layout, layout.num_elements(x))
    dtype, count = working_dtype(x), runs.begin.shape[0]
    out = x.new_zeros((count if sums else 0, channels), dtype=dtype)
    lse = x.new_zeros((count, heads), dtype=dtype)
    none = layout.ptr
    arrays = (none if score is None else score, x, none if t is None else t)
    results = (out, lse, channels, heads, channels // max(heads, 1))
    kernel = triton_bags.softmax_forward
    flags = {"SELF": t is not None, "OUT": sums, "SPLIT": False}
    reduce_bags(kernel, arrays, x, layout, runs, results, **flags)
    if runs.pieces == 1:
        return out, lse
    scores = runs.by_bag(lse)
    top = scores.amax(1, keepdim=True)
    a = torch.where(scores == top, 0, scores - top).exp() * (scores != -torch.inf)
    z = a.sum(1)
    lse = torch.where(z == 0, -torch.inf, top[:, 0] + torch.where(z == 0, 1, z).log())
    if sums:
        share = (a / torch.where(z == 0, 1, z)[:, None]).repeat_interleave(channels // heads, 2)
        parts = runs.by_bag(out)
        out = torch.where((share == 0) & ~parts.isnan(), 0, share * parts).sum(1)
    return out, lse


def _absent_as_inf(lse: Tensor) -> Tensor:
    """In a bag without any share, ``exp(score - lse)`` is 0 in the backward pass."""
    return torch.where(lse == -torch.inf, torch.inf, lse)


def segment_softpool(x: Tensor, t: Tensor, *layout: Tensor | None) -> tuple[Tensor, Tensor]:
    out, lse = _softmax(x, Layout.from_args(layout), None, t, True)
    return out, _absent_as_inf(lse)


def segment_softpool_backward(
    grad: Tensor, x: Tensor, t: Tensor, out: Tensor, lse: Tensor, *layout: Tensor | None
) -> tuple[Tensor, Tensor]:
    bags = (out, lse, grad.contiguous())
    grad_x, grad_t = walk_rows(triton_rows.SOFTPOOL, x, Layout.from_args(layout), bags, t)
    return grad_x.to(x.dtype), torch.empty_like(t) if grad_t is None else grad_t.to(t.dtype)


def segment_softmax_sum(
    score: Tensor, value: Tensor, *layout: Tensor | None
) -> tuple[Tensor, Tensor]:
    out, lse = _softmax(value, Layout.from_args(layout), score, None, True)
    return out, _absent_as_inf(lse)


def segment_softmax_sum_backward(
    grad: Tensor, score: Tensor, value: Tensor, out: Tensor, lse: Tensor, *layout: Tensor | None
) -> tuple[Tensor, Tensor]:
    at = Layout.from_args(layout)
    grad = grad.contiguous()
    grad_value, _ = walk_rows(triton_rows.SHARE, value, at, (lse, lse, grad), score=score)
    elements, heads = score.shape
    grad_score = torch.zeros_like(score, dtype=working_dtype(value))
    if elements and heads:
        width = value.shape[1] // heads
        wide = min(32, triton.next_power_of_2(width))
        block = max(1, min(64 // wide, triton.next_power_of_2(heads)))
        none = at.ptr
        triton_rows.score_backward[(triton.cdiv(elements, 16), triton.cdiv(heads, block))](
            score,
            value,
            at.bag_of,
            none if at.gather is None else at.gather,
            none if at.weight is None else at.weight,
            out,
            lse,
            grad,
            grad_score,
            elements,
            value.shape[1],
            heads,
            width,
            GATHER=at.gather is not None,
            WEIGHT=at.weight is not None,
            ACC=accumulator(value),
            BE=16,
            BH=block,
            BW=wide,
        )
    return grad_score.to(score.dtype), grad_value.to(value.dtype)


def segment_logsumexp(x: Tensor, *layout: Tensor | None) -> Tensor:
    at = Layout.from_args(layout)
    _, lse = _softmax(x, at, None, x.new_ones(x.shape[1], dtype=working_dtype(x)), False)
    runs = Runs(at.ptr[:-1].contiguous(), at.ptr[1:].contiguous(), 1)
    present = size_of_runs(x, at, runs) > 0
    return torch.where(present[:, None], lse, 0)


def segment_logsumexp_backward(
    grad: Tensor, x: Tensor, lse: Tensor, *layout: Tensor | None
) -> Tensor:
    at, lse = Layout.from_args(layout), _absent_as_inf(lse)
    grad_x, _ = walk_rows(triton_rows.SELF_SHARE, x, at, (lse, lse, grad.contiguous()))
    return grad_x.to(x.dtype)


def segment_softmax(score: Tensor, *layout: Tensor | None) -> Tensor:
    at = Layout.from_args(layout)
    elements, channels = at.num_elements(score), score.shape[1]
    runs, dtype = Runs.of(at, elements), working_dtype(score)
    z, top = score.new_zeros((2, runs.begin.shape[0], channels), dtype=dtype)
    arrays = (score, score, score.new_ones(channels, dtype=dtype))
    results, flags = (z, top, channels, channels, 1), {"SELF": True, "OUT": False, "SPLIT": True}
    reduce_bags(triton_bags.softmax_forward, arrays, score, at, runs, results, **flags)
    if runs.pieces > 1:
        tops = runs.by_bag(top)
        top = tops.amax(1)
        shift = torch.where(tops == top[:, None], 0, tops - top[:, None])
        z = (runs.by_bag(z) * shift.exp()).sum(1)
    out = score.new_empty((elements, channels), dtype=dtype)
    gather, weight = (at.ptr if v is None else v for v in (at.gather, at.weight))
    where = (_bag_of(at), gather, weight, top, z, out, elements, channels)
    flags = {"GATHER": at.gather is not None, "WEIGHT": at.weight is not None}
    _walk_elements(triton_share.share_forward, out, score, *where, **flags)
    return out


def segment_softmax_backward(grad: Tensor, share: Tensor, *layout: Tensor | None) -> Tensor:
    at, grad = Layout.from_args(layout), grad.to(share.dtype).contiguous()
    bags = at._replace(gather=None, weight=None)
    total = segment_moments(share * grad, "sum", *bags)[0][0].contiguous()
    out = torch.empty_like(share)
    where = (_bag_of(at), total, out, *share.shape)
    _walk_elements(triton_share.share_backward, out, share, grad, *where)
    if at.row_ptr is None:
        return out
    rows = Layout(at.row_ptr, at.row_elements, None, None, None, None, None)
    return segment_moments(out, "sum", *rows)[0][0]


def _bag_of(layout: Layout) -> Tensor:
    return layout.segments().index if layout.bag_of is None else layout.bag_of


def _walk_elements(kernel: Any, out: Tensor, *args: Any, **flags: Any) -> None:
    """Launches a kernel of :mod:`triton_share` over all elements and channels of ``out``."""
    elements, channels = out.shape
    if elements and channels:
        block = channel_block(channels)
        grid = (triton.cdiv(elements, 32), triton.cdiv(channels, block))
        kernel[grid](*args, ACC=accumulator(out), BE=32, BC=block, **flags)


def segment_power(
    x: Tensor, p: Tensor, q: Tensor, *layout: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    at = Layout.from_args(layout)
    runs = Runs.of(at, at.num_elements(x))
    dtype = working_dtype(x)
    least, most = (1e-290, 1.7976931348623157e308)
    if dtype == torch.float32:
        least, most = (1e-30, 3.4028234663852886e38)
    norm = x.new_zeros((runs.begin.shape[0], x.shape[1]), dtype=dtype)
    extreme = torch.full_like(norm, torch.inf)
    results = (norm, extreme, x.shape[1], least, most)
    reduce_bags(triton_bags.power_forward, (x, p), x, at, runs, results)
    size = size_of_runs(x, at, runs)
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
    vanishes = (extreme < least) & ~y.isnan()
    return torch.where(found & ~vanishes, y, 0), torch.where(found, norm, 0), size


def segment_power_backward(
    grad: Tensor,
    x: Tensor,
    p: Tensor,
    q: Tensor,
    out: Tensor,
    norm: Tensor,
    size: Tensor,
    *layout: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    log_size = torch.where(size > 0, size, 1).log()
    of_norm = grad.to(norm.dtype) * torch.exp(-q.to(norm.dtype) * log_size[:, None])
    bags = (norm, norm, of_norm.contiguous())
    grad_x, total = walk_rows(triton_rows.POWER, x, Layout.from_args(layout), bags, p)
    grad_p = torch.empty_like(p) if total is None else (total / p).to(p.dtype)
    return grad_x.to(x.dtype), grad_p, -(log_size @ (grad.to(out.dtype) * out)).to(q.dtype)


def segment_moments(x: Tensor, moments: str, *layout: Tensor | None) -> tuple[Tensor, Tensor]:
    at, names = Layout.from_args(layout), moments.split(",")
    runs = Runs.of(at, at.num_elements(x))
    dtype, shape = working_dtype(x), (runs.begin.shape[0], x.shape[1])
    extrema, spread = "min" in names or "max" in names, "var" in names
    total, *others = (x.new_zeros(shape, dtype=dtype) for _ in range(6))
    results = (total, *others, x.shape[1])
    kernel = triton_bags.moments_forward
    reduce_bags(kernel, (x,), x, at, runs, results, EXTREMA=extrema, SPREAD=spread)
    found: dict[str, Tensor] = {"sum": runs.by_bag(total).sum(1)}
    ties: dict[str, Tensor] = {}
    if "mean" in names or spread:
        weights = runs.by_bag(size_of_runs(x, at, runs))[..., None]
        size = weights.sum(1)
        size = torch.where(size == 0, 1, size)
        found["mean"] = found["sum"] / size
        between = (
            runs.by_bag(total) / torch.where(weights == 0, 1, weights) - found["mean"][:, None]
        )
        within = runs.by_bag(others[4]) + weights * between * between
        found["var"] = within.sum(1) / size
    if extrema:
        low, high, at_low, at_high = (runs.by_bag(v) for v in others[:4])
        for name, values, tied, neutral in (
            ("min", low, at_low, torch.inf),
            ("max", high, at_high, -torch.inf),
        ):
            values = torch.where(tied == 0, neutral, values)
            best = values.amin(1) if name == "min" else values.amax(1)
            hit = (values == best[:, None]) | values.isnan()
            ties[name] = torch.where(hit, tied, 0).sum(1)
            found[name] = torch.where(ties[name] == 0, 0, best)
    out = torch.stack([found[name] for name in names])
    kept = [ties[name] for name in ("min", "max") if name in names]
    return out, torch.stack(kept) if kept else out.new_empty((0, *out.shape[1:]))


def segment_moments_backward(
    grad: Tensor, x: Tensor, out: Tensor, tied: Tensor, moments: str, *layout: Tensor | None
) -> Tensor:
    at, names = Layout.from_args(layout), moments.split(",")
    of = dict(zip(names, grad, strict=True))
    values = dict(zip(names, out, strict=True))
    runs = Runs(at.ptr[:-1].contiguous(), at.ptr[1:].contiguous(), 1)
    total = torch.zeros_like(x, dtype=out.dtype)

    def add(mode: object, of_bag: Tensor, kept: Tensor) -> None:
        bags = (kept.contiguous(), of_bag, of_bag.contiguous())
        total.add_(walk_rows(mode, x, at, bags)[0])

    if "mean" in of or "var" in of:
        size = size_of_runs(x, at, runs)
        inverse = (1 / torch.where(size == 0, 1, size))[:, None]
    linear = of.get("sum")
    if "mean" in of:
        linear = of["mean"] * inverse + (0 if linear is None else linear)
    if linear is not None:
        add(triton_rows.LINEAR, linear, linear)
    if "var" in of:
        add(triton_rows.SPREAD, of["var"] * (2 * inverse), values["mean"])
    sides = [name for name in ("min", "max") if name in of]
    for name, count in zip(sides, tied, strict=True):
        share = torch.where(count > 0, of[name] / torch.where(count > 0, count, 1), 0)
        add(triton_rows.EXTREMUM, share, values[name])
    return total.to(x.dtype)
