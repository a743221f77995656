"""The two primitives of every composed op: sum over the bags, and its transpose, gather from the bags.

Each is the other's derivative, so anything written with them can be differentiated any number of times.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphpool import _debug
from graphpool.ops import backends
from graphpool.ops.inputs import wide
from graphpool.segments import Segments


def sum_segments(x: Tensor, segments: Segments) -> Tensor:
    """Sum over each bag: ``[E, ...]`` to ``[S, ...]``, in the dtype of ``x`` and added in :func:`wide`."""
    if _is_plain(x):
        terms = wide(x)
        zeros = terms.new_zeros((segments.num_segments, *x.shape[1:]))
        return zeros.scatter_add(0, _expand(segments.index, x), terms).to(x.dtype)
    return _Sum.apply(x, segments)


def gather_segments(y: Tensor, segments: Segments) -> Tensor:
    """The row of each element's bag: ``[S, ...]`` to ``[E, ...]``."""
    if _is_plain(y):
        shape = (segments.index.numel(), *y.shape[1:])
        index = segments.index.view(-1, *[1] * (y.dim() - 1)).expand(shape)
        # Wide for the sake of the derivative, which is a sum.
        return wide(y).gather(0, index).to(y.dtype)
    return _Gather.apply(y, segments)


def extremum_of_segments(x: Tensor, segments: Segments, largest: bool) -> Tensor:
    """Largest or smallest value of each bag, without derivative; an empty bag gives the neutral element."""
    x = x.detach()
    neutral = _neutral(x.dtype, largest)
    out = x.new_full((segments.num_segments, *x.shape[1:]), neutral)
    reduce = "amax" if largest else "amin"
    return out.scatter_reduce(0, _expand(segments.index, x), x, reduce, include_self=True)


def cumsum_of_segments(x: Tensor, segments: Segments) -> Tensor:
    """Running total of each bag, for elements that lie in the order of their bags.

    Totals are doubled in reach step by step. The difference of two totals of the whole batch would carry
    the rounding of all bags before.
    """
    index = segments.index
    # A traced program may not depend on values: steps beyond the longest bag change nothing.
    traced = torch.compiler.is_compiling() or _debug.is_vectorized(index)
    longest = index.numel() if traced or not index.numel() else int(segments.counts.max())
    reach = 1
    while reach < longest:
        same = index[reach:] == index[:-reach]
        before = torch.where(same.view(-1, *[1] * (x.dim() - 1)), x[:-reach], 0)
        x = torch.cat([x[:reach], x[reach:] + before])
        reach *= 2
    return x


def with_value(y: Tensor, value: Tensor) -> Tensor:
    """``value``, with the derivative of ``y``, which is about the same where it is finite."""
    if _debug.inside_transform():
        # Exact, for the difference of two like numbers is. Infinities have none, and are right already.
        return y + torch.where(y.isfinite(), value - y, 0).detach()
    return _WithValue.apply(y, value)


def _is_plain(x: Tensor) -> bool:
    # Scatter-add on an accelerator adds in whatever order the atomics come: not reproducible.
    if not x.is_floating_point() or not x.numel():
        return True
    if torch.compiler.is_compiling() or _debug.inside_transform():
        return True
    return x.device.type == "cpu" and backends.composed_backend() == "torch"


def _expand(index: Tensor, x: Tensor) -> Tensor:
    return index.view(-1, *[1] * (x.dim() - 1)).expand_as(x)


def _neutral(dtype: torch.dtype, largest: bool) -> float | int:
    if dtype.is_floating_point:
        return -torch.inf if largest else torch.inf
    info = torch.iinfo(dtype)
    return info.min if largest else info.max


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, segments: Segments) -> Tensor:
        ctx.segments = segments
        terms = wide(segments.sort_elements(x))
        if backends.composed_backend() == "torch_scatter":
            out = backends.torch_scatter().segment_csr(terms, segments.ptr, reduce="sum")
            return out.to(x.dtype)
        flat = terms.reshape(x.size(0), -1)
        out = torch.segment_reduce(
            flat, "sum", offsets=segments.ptr, axis=0, unsafe=True, initial=0
        )
        return out.view(segments.num_segments, *x.shape[1:]).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return gather_segments(grads[0], ctx.segments), None


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, segments: Segments) -> Tensor:
        ctx.segments = segments
        if segments.is_sorted and backends.composed_backend() == "torch_scatter":
            return backends.torch_scatter().gather_csr(y.contiguous(), segments.ptr)
        return y.index_select(0, segments.index)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return sum_segments(grads[0].contiguous(), ctx.segments), None


class _WithValue(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None
