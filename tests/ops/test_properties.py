"""Generated inputs: sizes, dtypes, layouts, infinities, huge offsets, zeros, weights.

The number of examples over this file, each a case that an op is asked, is above 10,000 (``EXAMPLES``). All
ops are asked the same cases, which are drawn once: that takes longer than the ops.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphpool import Segments, ops

EXAMPLES = 330
relaxed = settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
)

NICE = st.one_of(
    st.just(0.0),
    st.sampled_from([1.0, -1.0, 2.0]),  # ties
    st.floats(-100, 100, allow_nan=False, width=32).map(lambda v: 0.0 if abs(v) < 1e-6 else v),
)
WILD = st.one_of(NICE, st.sampled_from([math.inf, -math.inf, math.nan, 1e30, -1e30, 1e-30]))


@st.composite
def bags(draw, values=NICE, max_elements=24):
    """(x [E, C], Segments, weight or None, offset)"""
    size = draw(st.integers(0, 6))
    elements = draw(st.integers(0, max_elements)) if size else 0
    channels = draw(st.integers(1, 3))
    index = draw(st.lists(st.integers(0, max(size - 1, 0)), min_size=elements, max_size=elements))
    flat = draw(st.lists(values, min_size=elements * channels, max_size=elements * channels))
    x = torch.tensor(flat, dtype=torch.float64).view(elements, channels)
    form = draw(st.sampled_from(["index", "sorted", "ptr"]))
    if form != "index":
        index = sorted(index)
    segments = Segments(index=torch.tensor(index, dtype=torch.long), num_segments=size)
    if form == "ptr":
        segments = Segments(ptr=segments.ptr)
    weighted = draw(st.booleans())
    weight = (
        draw(st.lists(st.integers(0, 3), min_size=elements, max_size=elements))
        if weighted
        else None
    )
    return x, segments, None if weight is None else torch.tensor(weight, dtype=torch.long)


def per_bag(f, x, segments, weight):
    x = x.double().numpy()
    out = np.zeros((segments.num_segments, x.shape[1]))
    for s in range(segments.num_segments):
        rows = np.flatnonzero(segments.index.numpy() == s)
        if weight is not None:
            rows = np.repeat(rows, weight.numpy()[rows])
        if len(rows):
            with np.errstate(all="ignore"):
                out[s] = f(x[rows])
    return torch.from_numpy(out)


def logsumexp(v):
    top = v.max(0)
    top = np.where(np.isfinite(top), top, 0)
    return top + np.log(np.exp(v - top).sum(0))


def softpool(v):
    e = np.exp(v - v.max(0))
    return (e * v).sum(0) / e.sum(0)


def power(v, p, q):
    a = np.abs(v)
    if p < 0:
        zero = (a == 0).any(0)
        norm = (np.where(a == 0, 1, a) ** p).sum(0) ** (1 / p)
        return np.where(zero, 0, norm) * len(v) ** -q
    return (a**p).sum(0) ** (1 / p) * len(v) ** -q


FINITE = {
    "sum": (ops.segment_sum, lambda v: v.sum(0)),
    "mean": (ops.segment_mean, lambda v: v.mean(0)),
    "var": (ops.segment_var, lambda v: v.var(0)),
    "std": (ops.segment_std, lambda v: v.std(0)),
    "max": (ops.segment_max, lambda v: v.max(0)),
    "min": (ops.segment_min, lambda v: v.min(0)),
    "logsumexp": (ops.segment_logsumexp, logsumexp),
    "softpool": (ops.segment_softpool, softpool),
    "power 1.5": (
        lambda x, s, **k: ops.segment_power(x, s, 1.5, 0.5, **k),
        lambda v: power(v, 1.5, 0.5),
    ),
    "power 3": (lambda x, s, **k: ops.segment_power(x, s, 3.0, 0.0, **k), lambda v: power(v, 3, 0)),
    "power -1": (
        lambda x, s, **k: ops.segment_power(x, s, -1.0, -1.0, **k),
        lambda v: power(v, -1, -1),
    ),
    "median": (ops.segment_median, lambda v: np.sort(v, 0)[(len(v) - 1) // 2]),
    "quantile": (
        lambda x, s, **k: ops.segment_quantile(x, s, 0.3, **k),
        lambda v: np.quantile(v, 0.3, 0),
    ),
}


def close(name, actual, expected, **tolerances):
    """What ``assert_close`` asks, and which op it was asked of."""
    torch.testing.assert_close(actual, expected, msg=lambda m: f"{name}: {m}", **tolerances)


@relaxed
@given(case=bags())
def test_values_of_finite_elements(case):
    x, segments, weight = case
    for name, (op, oracle) in FINITE.items():
        expected = per_bag(oracle, x, segments, weight)
        close(name, op(x, segments, weight=weight), expected, rtol=1e-7, atol=1e-7)
        single = op(x.float(), segments, weight=weight)
        assert single.dtype == torch.float32, name
        exact = per_bag(oracle, x.float(), segments, weight)
        # The deviation of equal elements is at the mercy of the last bit of their mean.
        tolerance = 2e-3 if name == "std" else 1e-3
        close(name, single.double(), exact, rtol=1e-4, atol=tolerance)


def finite_part(x, segments, weight):
    """Whether every element of a bag (that counts) is finite, per bag and channel."""
    bad = ~x.isfinite()
    if weight is not None:
        bad = bad & (weight > 0)[:, None]
    return ops.segment_sum(bad.long(), segments) == 0


@relaxed
@given(case=bags(values=WILD))
def test_what_is_not_finite_stays_where_it_is(case):
    """Bags and channels without a NaN or an infinity come out as if there were none anywhere."""
    x, segments, weight = case
    fine = finite_part(x, segments, weight)
    clean = torch.where(x.isfinite(), x, 0.0)
    nan = x.isnan() if weight is None else x.isnan() & (weight > 0)[:, None]
    has_nan = ops.segment_sum(nan.long(), segments) > 0
    for name, (op, oracle) in FINITE.items():
        y, reference = op(x, segments, weight=weight), op(clean, segments, weight=weight)
        assert y.shape == fine.shape, name
        close(name, y[fine], reference[fine], rtol=1e-9, atol=0, equal_nan=True)
        assert y[has_nan].isnan().all(), name
        if name in ("max", "min"):  # which infinities do not spoil
            expected = per_bag(oracle, x, segments, weight)
            close(name, y, expected, equal_nan=True, rtol=0, atol=0)


@settings(relaxed, max_examples=100)
@given(case=bags())
def test_gradients_are_finite_and_agree_with_the_repeated_elements(case):
    x, segments, weight = case
    x = x.clone().requires_grad_()
    for name, (op, _) in FINITE.items():
        (grad,) = torch.autograd.grad(op(x, segments, weight=weight).sum(), x)
        assert grad.isfinite().all(), name
        if weight is None:
            continue
        copies = torch.arange(x.size(0)).repeat_interleave(weight)
        repeated = Segments(index=segments.index[copies], num_segments=segments.num_segments)
        (expected,) = torch.autograd.grad(op(x[copies], repeated).sum(), x)
        if name in ("quantile", "median"):  # which of several equal elements gets it is convention
            grad, expected = (ops.segment_sum(g, segments) for g in (grad, expected))
        close(name, grad, expected, rtol=1e-6, atol=1e-6)


@relaxed
@given(case=bags(), offset=st.sampled_from([1e3, 1e4, -1e5]))
def test_variance_is_indifferent_to_an_offset(case, offset):
    x, segments, weight = case
    moved = (x / 8 + offset).float()
    expected = per_bag(lambda v: v.var(0), moved, segments, weight)
    torch.testing.assert_close(
        ops.segment_var(moved, segments, weight).double(), expected, rtol=1e-3, atol=1e-4
    )


@relaxed
@given(case=bags(values=WILD))
def test_shares_sum_to_one_or_nothing(case):
    x, segments, weight = case
    share = ops.segment_softmax(x, segments, weight)
    total = ops.segment_sum(share, segments)
    assert ((share >= 0) | share.isnan()).all()
    near = (total - 1).abs() < 1e-9
    assert (near | (total == 0) | total.isnan()).all()
    nan = x.isnan() if weight is None else x.isnan() & (weight > 0)[:, None]
    assert torch.equal(total.isnan(), ops.segment_sum(nan.long(), segments) > 0)
