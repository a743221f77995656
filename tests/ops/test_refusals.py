"""What the ops refuse, and that they say so: every check of arguments, on its own side of the limit."""

from __future__ import annotations

import pytest
import torch

import graphpool
from graphpool import Segments, ops
from graphpool.ops.inputs import channel_parameter, check_elements, working, working_weight
from graphpool.ops.second_moment import segment_matmul, segment_outer, segment_second_moment

X = torch.arange(6.0).view(3, 2)
BAGS = Segments(index=torch.tensor([0, 0, 1]), num_segments=2)
WHOLE = torch.ones(3, dtype=torch.long)


def meta(x: torch.Tensor) -> torch.Tensor:
    return x.to("meta")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([1.0, 2.0, 3.0], BAGS), TypeError, "`x` must be a tensor; got list"),
        ((X, BAGS.index), TypeError, "must be graphpool.Segments; got Tensor"),
        ((X.bool(), BAGS), TypeError, "floating point tensor; got torch.bool"),
        ((X.long(), BAGS), TypeError, "must be a floating point tensor; got torch.int64"),
        ((X.to(torch.complex64), BAGS), TypeError, "got torch.complex64"),
        ((torch.tensor(1.0), BAGS), ValueError, "got a scalar"),
        ((meta(X), BAGS), ValueError, "`x` is on meta, but `segments` on cpu"),
        ((X[:2], BAGS), ValueError, "one row per element, 3"),
        ((X, BAGS, [1, 1, 1]), TypeError, "real tensor"),
        ((X, BAGS, WHOLE.to(torch.complex64)), TypeError, "real tensor"),
        ((X, BAGS, torch.ones(3, 1)), ValueError, r"shape \(3,\).*got \(3, 1\)"),
        ((X, BAGS, torch.ones(2)), ValueError, "one weight per element"),
        ((X, BAGS, meta(WHOLE)), ValueError, "`weight` is on meta"),
        ((X, BAGS, torch.tensor([1, -1, 1])), ValueError, "got -1.0 at position 1"),
        ((X, BAGS, torch.tensor([1, 1, torch.inf])), ValueError, "got inf at position 2"),
        ((X, BAGS, torch.tensor([torch.nan, 1, 1])), ValueError, "got nan at position 0"),
        ((X, BAGS, None, torch.tensor([0, 1])), ValueError, "has 2 entries, expected 3"),
        ((X, BAGS, None, torch.tensor([0, 1, 3])), ValueError, r"\[0, 3\); got values from 0 to 3"),
        ((X, BAGS, None, torch.tensor([0, -1, 1])), ValueError, "got values from -1 to 1"),
        ((X, BAGS, None, torch.tensor([0.0, 1, 1])), TypeError, "int64 tensor"),
        ((X, BAGS, None, torch.zeros(3, 1, dtype=torch.long)), TypeError, "int64 tensor"),
        ((X, BAGS, None, [0, 1, 2]), TypeError, "int64 tensor"),
        ((X[:2], BAGS, None, BAGS), None, ""),
        ((X, BAGS, None, BAGS), ValueError, "over 2 rows, but `x` has 3"),
        (
            (X[:2], BAGS, None, Segments(index=torch.tensor([0, 1]), num_segments=2)),
            ValueError,
            "has 2 entries, expected 3",
        ),
        ((X, BAGS, torch.zeros(3)), None, ""),
        ((X, BAGS, None, torch.tensor([0, 2, 2])), None, ""),
        ((torch.ones(3), BAGS), None, ""),
        ((X.half(), BAGS, WHOLE), None, ""),
    ],
)
def test_elements(arguments, error, message):
    for check in (check_elements, ops.segment_mean):
        if error is None:
            check(*arguments)
        else:
            with pytest.raises(error, match=message):
                check(*arguments)


def test_what_only_some_ops_take():
    signed = torch.tensor([1.0, -1.0, 2.0])
    assert ops.segment_sum(X, BAGS, signed).tolist() == [[-2, -2], [8, 10]]
    for op in (ops.segment_max, ops.segment_mean, ops.segment_logsumexp, ops.segment_median):
        with pytest.raises(ValueError, match=">= 0"):
            op(X, BAGS, signed)
    whole = X.long()
    assert ops.segment_sum(whole, BAGS).dtype == torch.int64
    assert ops.segment_sort(whole, BAGS)[0].dtype == torch.int64
    assert ops.segment_topk(whole, BAGS, 1)[0].dtype == torch.int64
    for op in (ops.segment_mean, ops.segment_softmax, ops.segment_softpool, ops.segment_median):
        with pytest.raises(TypeError, match="must be a floating point tensor"):
            op(whole, BAGS)
    with pytest.raises(TypeError, match="floating point or integer"):
        ops.segment_max(X.bool(), BAGS)
    for op in (ops.segment_sum, ops.segment_max):
        with pytest.raises(TypeError, match="must be integers where `x` is torch.int64"):
            op(whole, BAGS, torch.ones(3))
        op(whole, BAGS, WHOLE)


def test_weights_elsewhere_are_not_looked_at():
    bags = BAGS.to("meta")
    check_elements(meta(X), bags, meta(torch.tensor([1.0, -1.0, 1.0])))
    check_elements(meta(X), bags, None, meta(torch.tensor([0, 9, 9])))


@pytest.mark.parametrize("name", ["segment_softpool", "segment_power"])
@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (True, TypeError, "got True"),
        ("2", TypeError, "got '2'"),
        (torch.tensor(2), TypeError, "floating point"),
        (torch.ones(3), ValueError, r"\(2,\); got shape \(3,\)"),
        (torch.ones(2, 3), ValueError, r"got shape \(2, 3\)"),
    ],
)
def test_parameters_per_channel(name, value, error, message):
    with pytest.raises(error, match=message):
        getattr(ops, name)(X, BAGS, value)


def test_parameters_take_the_working_precision():
    assert channel_parameter(3, X.half(), "t").dtype == torch.float32
    assert channel_parameter(3, X.double(), "t").dtype == torch.float64
    assert channel_parameter(torch.ones(1, 1), X, "t").shape == ()
    assert channel_parameter(torch.ones(2), X.bfloat16(), "t").dtype == torch.float32
    with pytest.raises(ValueError, match=r"\(1,\)"):  # one dimension: one channel
        channel_parameter(torch.ones(3), torch.ones(3), "t")
    assert working(X.half()).dtype == working(X.bfloat16()).dtype == torch.float32
    assert working(X.double()).dtype == torch.float64
    assert working_weight(None, X) is None
    assert working_weight(WHOLE, X.half()).dtype == torch.float32
    assert working_weight(WHOLE, X.double()).dtype == torch.float64


@pytest.mark.parametrize("p", [0.0, torch.inf, -torch.inf, torch.nan])
def test_exponents(p):
    with pytest.raises(ValueError, match="finite and not 0; got"):
        ops.segment_power(X, BAGS, p)
    with pytest.raises(ValueError, match="finite and not 0; got"):
        ops.segment_power(X, BAGS, torch.tensor([1.0, p]))


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_order(backend):
    with graphpool.use_backend(backend):
        with pytest.raises(ValueError, match="one row per element"):
            ops.segment_sort(X[:2], BAGS)
        with pytest.raises(ValueError, match=r"`gather` must lie in \[0, 3\)"):
            ops.segment_sort(X, BAGS, gather=torch.tensor([0, 3, 1]))
        for k, error in ((0, ValueError), (-1, ValueError), (1.0, TypeError), (True, TypeError)):
            with pytest.raises(error, match="`k` must be"):
                ops.segment_topk(X, BAGS, k)
        for q in (-0.01, 1.01, torch.nan):
            with pytest.raises(ValueError, match=r"`q` must lie in \[0, 1\]"):
                ops.segment_quantile(X, BAGS, q)
        with pytest.raises(ValueError, match="got 'middle'"):
            ops.segment_quantile(X, BAGS, 0.5, "middle")
        for moments in ("mean", ("mean", "median"), ["sum", 3]):
            with pytest.raises(ValueError, match="sequence of names"):
                ops.segment_moments(X, BAGS, moments)


@pytest.mark.parametrize(
    ("score", "value"),
    [
        (torch.ones(3, 4), torch.ones(3, 6)),
        (torch.ones(3, 0), torch.ones(3, 6)),
        (torch.ones(3, 2, 2), torch.ones(3, 4)),
        (torch.ones(3, 3, 2), torch.ones(3, 2, 2)),
        (torch.ones(3, 12), torch.ones(3, 6)),
    ],
)
def test_heads_that_do_not_fit(score, value):
    with pytest.raises(ValueError, match="`score` must be"):
        ops.segment_softmax_sum(score, value, BAGS)


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize(
    ("score", "value"),
    [((3,), (3, 4)), ((3, 1), (3, 4)), ((3, 2), (3, 4)), ((3, 4), (3, 4)), ((3,), (3,))]
    + [((3, 1, 2), (3, 5, 4)), ((3, 5, 2), (3, 5, 4)), ((3, 5, 1), (3, 5, 4)), ((3,), (3, 5, 4))],
)
def test_heads_that_fit(score, value, backend):
    torch.manual_seed(0)
    s, v = torch.randn(score), torch.randn(value)
    wide = s.view(3, *[1] * (v.dim() - 1)) if s.dim() == 1 else s
    if v.dim() > 1:
        wide = wide.repeat_interleave(v.size(-1) // wide.size(-1), -1)
    wide = wide.expand_as(v)
    expected = torch.stack([(wide[b].softmax(0) * v[b]).sum(0) for b in (slice(0, 2), slice(2, 3))])
    with graphpool.use_backend(backend):
        torch.testing.assert_close(ops.segment_softmax_sum(s, v, BAGS), expected)
    with pytest.raises(TypeError, match="`score` must be a floating point tensor"):
        ops.segment_softmax_sum(s.long(), v, BAGS)
    with pytest.raises(TypeError, match="`value` must be a floating point tensor"):
        ops.segment_softmax_sum(s, v.long(), BAGS)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (segment_outer, (X, X[:, :1, None], BAGS), "two dimensions"),
        (segment_outer, (X[:, :1, None], X, BAGS), "two dimensions"),
        (segment_outer, (X, X[:2], BAGS), "`y` must have one row per element"),
        (segment_outer, (X[:2], X, BAGS), "`x` must have one row per element"),
        (segment_outer, (X, X, BAGS, torch.ones(2)), "one weight per element"),
        (segment_matmul, (X[:2], torch.ones(2, 2, 3), BAGS), "one row per element"),
        (segment_matmul, (X, torch.ones(3, 2, 3), BAGS), "`matrices` must have shape"),
        (segment_matmul, (X, torch.ones(2, 3, 3), BAGS), "`matrices` must have shape"),
        (segment_matmul, (X, torch.ones(2, 2), BAGS), "`matrices` must have shape"),
        (segment_second_moment, (X, BAGS, -torch.ones(3)), ">= 0"),
        (segment_second_moment, (X[:2], BAGS), "one row per element"),
    ],
)
def test_second_moments(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments)
