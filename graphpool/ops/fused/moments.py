"""Sum, mean, variance, deviation, minimum and maximum of each bag in one op."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from graphpool.ops import reference as composed
from graphpool.ops.fused.common import flat, of_bags, overflowed
from graphpool.ops.fused.cpu import moments as cpu_moments
from graphpool.ops.fused.cpu import moments_backward as cpu_backward
from graphpool.ops.fused.cpu import weight as cpu_weight
from graphpool.ops.fused.cpu.layout import Arrays
from graphpool.ops.fused.fused_op import FusedOp
from graphpool.ops.fused.layout import Layout
from graphpool.ops.inputs import Gather
from graphpool.segments import Segments

ORDER = ("sum", "mean", "var", "min", "max", "std")


def kept_of(names: Sequence[str]) -> list[str]:
    """What the backward pass needs besides values: of extrema the weight of the elements at them, of variance
    and deviation what their mean lacks."""
    spreads = "var" in names or "std" in names
    return [name for name in ("min", "max") if name in names] + ["mean"] * spreads


@functools.cache
def _rows(moments: str) -> np.ndarray:
    """The row of the result that holds each moment of :data:`ORDER`, or -1."""
    names = moments.split(",")
    return np.array([names.index(k) if k in names else -1 for k in ORDER], np.int64)


def _shapes(x: Tensor, moments: str, layout: Layout) -> tuple[tuple[int, ...], ...]:
    """The named moments ``[K, S, C]``, and what a backward pass needs of them besides."""
    names = moments.split(",")
    besides = 0 if layout.bag_of is None else len(kept_of(names))
    counts = (len(names), besides)
    out, kept = ((count, layout.bags, x.shape[1]) for count in counts)
    return out, kept


def _forward(x: np.ndarray, moments: str, at: Arrays, out: np.ndarray, kept: np.ndarray) -> None:
    cpu_moments.forward(x, at, _rows(moments), out, kept)


def _backward(
    grad: np.ndarray,
    x: np.ndarray,
    out: np.ndarray,
    kept: np.ndarray,
    moments: str,
    at: Arrays,
    grad_x: np.ndarray,
) -> None:
    cpu_backward.backward(x, at, _rows(moments), out, kept, grad, grad_x)


def _of_weight(
    grad: np.ndarray,
    x: np.ndarray,
    out: np.ndarray,
    kept: np.ndarray,
    moments: str,
    at: Arrays,
    grad_weight: np.ndarray,
) -> None:
    names = moments.split(",")
    of, value = (dict(zip(names, v, strict=True)) for v in (grad, out))
    # Weights do not move extrema.
    shift = kept[-1] if "mean" in kept_of(names) else np.zeros_like(out[0])
    cpu_weight.of_moments(of, x, value, shift, at, grad_weight)


def _composed(x: Tensor, moments: str, layout: Layout) -> Tensor:
    segments, weight = layout.segments(), layout.weight
    return torch.stack(
        [composed.segment_moment(name, x, segments, weight) for name in moments.split(",")]
    )


_moments = FusedOp(
    "segment_moments",
    "x[R,C]",
    "out kept",
    _shapes,
    _forward,
    _backward,
    _composed,
    options=("sum", "mean", "max", "sum,mean,var,min,max", "mean,var,std"),
    of_weight=_of_weight,
)


@_moments.serves("segment_moments")
def segment_moments(
    x: Tensor,
    segments: Segments,
    moments: Sequence[str],
    weight: Tensor | None = None,
    gather: Gather | None = None,
) -> tuple[Tensor, ...]:
    wanted = {*moments, *kept_of(moments)}
    if not wanted:
        return ()
    names = [name for name in ORDER if name in wanted]
    values = _moments((flat(x),), segments, weight, gather, ",".join(names))
    shape = (segments.num_segments, *x.shape[1:])
    found = dict(zip(names, values.view(len(names), *shape).unbind(), strict=True))
    if "std" in found and overflowed(found["std"]):
        std = segment_moments(x.double(), segments, ("std",), weight, gather)[0]
        found["std"] = std.to(found["std"].dtype)
    return tuple(found[name].to(x.dtype) for name in moments)


def _alone(name: str) -> None:
    @_moments.serves(f"segment_{name}")
    def moment(
        x: Tensor, segments: Segments, weight: Tensor | None = None, gather: Gather | None = None
    ) -> Tensor:
        if name in ("var", "std"):  # which need the mean
            return segment_moments(x, segments, (name,), weight, gather)[0]
        return of_bags(_moments((flat(x),), segments, weight, gather, name), segments, x)


for _name in ORDER:
    _alone(_name)
