"""Sorts, ranks and quantiles of bags against loops over them, a stable sort and finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpool import Segments, aggr, ops, use_backend

HOW = ops.INTERPOLATIONS
VALUES = [0.0, -0.0, 1.0, -1.0, 2.5, math.inf, -math.inf, math.nan, 1e-42, -1e-42, 3e38]


@st.composite
def problems(draw):
    """Elements, bags, weights and rows; few values, so that many are equal."""
    seed = draw(st.integers(0, 2**31))
    generator = torch.Generator().manual_seed(seed)
    bags, channels = draw(st.integers(1, 9)), draw(st.sampled_from([1, 2, 7, 33, 70]))
    elements = draw(st.sampled_from([0, 1, 5, 40, 300]))
    # Squared, so that some bags are much larger than others.
    index = (torch.rand(elements, generator=generator) ** 2 * bags).long()
    index = index.sort()[0] if draw(st.booleans()) else index
    rows = 11 if draw(st.booleans()) else None
    known = torch.tensor(VALUES, dtype=torch.float64)
    if not draw(st.booleans()):
        known = known[known.isfinite()]
    count = elements if rows is None else rows
    x = known[torch.randint(len(known), (count, channels), generator=generator)]
    weight = torch.randint(3, (elements,), generator=generator) if draw(st.booleans()) else None
    gather = None if rows is None else torch.randint(rows, (elements,), generator=generator)
    return x, Segments(index=index, num_segments=bags), weight, gather


def stable(v, descending=False):
    """NaN is the largest, both zeros are equal, and of equal elements the first comes first."""
    v = torch.where(v == 0, 0.0, v)
    return v.argsort(dim=0, stable=True, descending=descending)


def in_bags(segments):
    for s in range(segments.num_segments):
        yield s, (segments.index == s).nonzero().flatten()


def assert_same(found, expected):
    """The same numbers, the sign of zeros included."""
    assert found.shape == expected.shape
    assert torch.equal(found.isnan(), expected.isnan())
    assert torch.equal(found.nan_to_num(7.0), expected.nan_to_num(7.0))
    assert torch.equal(found.signbit() & ~found.isnan(), expected.signbit() & ~expected.isnan())


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@settings(max_examples=60, derandomize=True)
@given(problem=problems(), descending=st.booleans(), k=st.integers(1, 6))
def test_sort_and_topk_are_a_stable_sort_of_each_bag(dtype, backend, problem, descending, k):
    x, segments, weight, gather = problem
    x = x.to(dtype)
    with use_backend(backend):
        values, order = ops.segment_sort(x, segments, descending, gather)
        top, index = ops.segment_topk(x, segments, k, descending, -5.0, gather=gather)
        heavy, of = ops.segment_topk(x, segments, k, descending, -5.0, weight, gather)
    elements = x if gather is None else x[gather]
    for s, rows in in_bags(segments):
        mine = slice(int(segments.ptr[s]), int(segments.ptr[s + 1]))
        expected = rows[stable(elements[rows], descending)]
        assert torch.equal(order[mine], expected)
        assert_same(values[mine], elements.gather(0, expected))
        found = min(k, len(rows))
        assert torch.equal(index[s, :found], expected[:found]) and (index[s, found:] == -1).all()
        assert_same(top[s, :found], elements.gather(0, expected[:found]))
        assert (top[s, found:] == -5).all()
        if weight is not None:
            rows = rows.repeat_interleave(weight[rows])
            expected = rows[stable(elements[rows], descending)][:k]
            assert (
                torch.equal(of[s, : len(expected)], expected) and (of[s, len(expected) :] < 0).all()
            )
            assert_same(heavy[s, : len(expected)], elements.gather(0, expected))


def quantile(v, q, how):
    """Position q (n - 1), in plain Python."""
    v = sorted(v)
    position = q * (len(v) - 1)
    low = math.floor(position)
    f = position - low
    f = {"lower": 0, "higher": float(f > 0), "nearest": round(position) - low, "linear": f}.get(
        how, 0.5 * (f > 0)
    )
    high = v[min(low + 1, len(v) - 1)]
    if f in (0, 1) or v[low] == high:
        return high if f == 1 else v[low]
    return v[low] * (1 - f) + high * f


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("how", HOW)
@settings(max_examples=60, derandomize=True)
@given(
    problem=problems(),
    q=st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.7, 1.0]), min_size=1, max_size=4),
)
def test_quantiles_are_those_of_a_loop(how, backend, problem, q):
    x, segments, weight, gather = problem
    with use_backend(backend):
        found = ops.segment_quantile(x, segments, q, how, weight, gather)
    elements = x if gather is None else x[gather]
    assert found.shape == (segments.num_segments, len(q), x.shape[1])
    for s, rows in in_bags(segments):
        if weight is not None:
            rows = rows.repeat_interleave(weight[rows])
        for k, level in enumerate(q):
            expected = [
                0.0 if not len(v) else math.nan if np.isnan(v).any() else quantile(v, level, how)
                for v in elements[rows].T.tolist()
            ]
            torch.testing.assert_close(
                found[s, k],
                torch.tensor(expected, dtype=x.dtype),
                equal_nan=True,
                rtol=1e-12,
                atol=0,
            )


# Around the sizes from which other ways are taken.
SIZES = [(1, 1), (2, 3), (3, 64), (63, 1), (64, 1), (65, 1), (65, 7), (65, 8), (65, 65), (1536, 8)]
SIZES += [(1537, 8), (1537, 1), (4096, 3), (4097, 17), (100_000, 2)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.int8])
@pytest.mark.parametrize("size, channels", SIZES)
def test_every_size(size, channels, dtype):
    generator = torch.Generator().manual_seed(size)
    counts = torch.tensor([size, 0, 1, size, 3])
    x = torch.randn(int(counts.sum()), channels, generator=generator) * 40
    # Half of them are equal to others.
    x = torch.where(torch.rand(x.shape, generator=generator) < 0.5, x.round(), x).to(dtype)
    segments = Segments(ptr=torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)]))
    for descending in (False, True):
        values, order = ops.segment_sort(x, segments, descending)
        expected = torch.cat([rows[stable(x[rows], descending)] for _, rows in in_bags(segments)])
        assert torch.equal(order, expected) and torch.equal(values, x.gather(0, expected))
        top, index = ops.segment_topk(x, segments, 2, descending)
        assert torch.equal(index[0], expected[:2]) or size == 1
        assert torch.equal(index[:, 0][counts > 0], expected[segments.ptr[:-1][counts > 0]])
    if dtype.is_floating_point:
        q = [0.1, 0.5, 0.99]
        found = ops.segment_quantile(x, segments, q)
        for s, rows in in_bags(segments):
            if len(rows):
                expected = torch.quantile(x[rows].double(), torch.tensor(q).double(), dim=0)
                torch.testing.assert_close(found[s].double(), expected, rtol=1e-6, atol=1e-6)


def test_integers_are_sorted_exactly():
    """float64 cannot tell these apart."""
    ends = torch.iinfo(torch.int64)
    x = torch.tensor([2**60 + 1, 2**60, ends.min, ends.max, ends.max - 1, -1, 0, ends.min + 1])
    one = Segments(ptr=torch.tensor([0, 8]))
    assert torch.equal(ops.segment_sort(x, one)[0], x.sort()[0])
    assert torch.equal(ops.segment_topk(x, one, 8)[0][0], x.sort(descending=True)[0])


@pytest.mark.parametrize("gathered", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("size", [5, 70])
def test_derivatives_are_finite_differences(size, weighted, gathered):
    torch.manual_seed(size)
    elements = 4 * size
    segments = Segments(index=torch.randint(5, (elements,)), num_segments=6)
    weight = torch.rand(elements, dtype=torch.float64) + 0.2 if weighted else None
    # No two are equal, but for the same row read twice.
    x = torch.randperm(elements * 2).double().view(elements, 2) / 7
    gather = torch.randint(elements, (elements,)) if gathered else None
    calls = [
        lambda x, how=how: ops.segment_quantile(x, segments, [0.2, 0.5, 0.9], how, weight, gather)
        for how in HOW
    ]
    calls += [
        lambda x: ops.segment_topk(x, segments, 3, weight=weight, gather=gather)[0],
        lambda x: ops.segment_sort(x, segments, True, gather)[0],
    ]
    for call in calls:
        leaf = x.clone().requires_grad_()
        y = call(leaf)
        direction, weights = torch.randn_like(x), torch.randn_like(y)
        (grad,) = torch.autograd.grad(y, leaf, weights)
        # Piecewise linear: exact but for rounding.
        step = 1e-4
        slope = (call(x + step * direction) - call(x - step * direction)) / (2 * step)
        assert float((grad * direction).sum()) == pytest.approx(
            float((slope * weights).sum()), rel=1e-6
        )


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_one_of_equal_elements_gets_the_derivative(backend):
    x = torch.tensor([2.0, 1.0, 2.0, 2.0, 3.0], requires_grad=True)
    one = Segments(ptr=torch.tensor([0, 5]))
    with use_backend(backend):
        for y, owner in [
            (ops.segment_median(x, one), 2),  # third of five: the second of the twos
            (ops.segment_quantile(x, one, 0.3), 0),  # between two twos: the lower one
            (ops.segment_topk(x, one, 2)[0][:, 1], 0),  # the first of them
            (ops.segment_sort(x, one)[0][3], 3),
        ]:
            (grad,) = torch.autograd.grad(y.sum(), x)
            assert grad.tolist() == [float(i == owner) for i in range(5)]
        nan = torch.where(torch.arange(5) == 1, torch.nan, x)
        (grad,) = torch.autograd.grad(ops.segment_median(nan, one).sum(), x)
        assert not grad.any()


def test_two_threads_give_the_bits_of_one():
    torch.manual_seed(0)
    index = (torch.rand(40_000) ** 3 * 900).long()
    segments = Segments(index=index, num_segments=900)
    x = torch.randn(40_000, 19).round(decimals=1).requires_grad_()
    gather = torch.randint(40_000, (40_000,))
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            made = []
            for rows in (None, gather):
                values, order = ops.segment_sort(x, segments, gather=rows)
                y = ops.segment_quantile(x, segments, [0.3, 0.8], gather=rows)
                grads = torch.autograd.grad((values.sum() + y.cos().sum()), x)
                made += [values, order, y, *grads]
            found.append(made)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_what_q_may_be():
    x, two = torch.randn(9, 3), Segments(ptr=torch.tensor([0, 4, 9]))
    alone = ops.segment_quantile(x, two, 0.3)
    for q in (torch.tensor(0.3, dtype=torch.double), np.float32(0.3), np.array(0.3)):
        torch.testing.assert_close(ops.segment_quantile(x, two, q), alone)
    for q in ([0.3], (0.3,), torch.tensor([0.3], dtype=torch.double), np.array([0.3])):
        torch.testing.assert_close(ops.segment_quantile(x, two, q), alone[:, None])
    levels = torch.tensor([0.9, 0.1, 0.1])
    expected = torch.stack([torch.quantile(x[:4], levels, 0), torch.quantile(x[4:], levels, 0)])
    torch.testing.assert_close(ops.segment_quantile(x, two, levels), expected)
    assert aggr.Quantile(q=[0.1, 0.9])(x, two).shape == (2, 6)
    for q, error, words in [
        ([], ValueError, "one or several"),
        ([0.5, 1.5], ValueError, "must lie in"),
        (math.nan, ValueError, "must lie in"),
        ("high", TypeError, "must be a number"),
        (None, TypeError, "must be a number"),
        (torch.zeros(1, 1), ValueError, "on one dimension"),
    ]:
        with pytest.raises(error, match=f"`q` .*{words}"):
            ops.segment_quantile(x, two, q)
    with pytest.raises(ValueError, match="`q` must be a number"):
        torch.vmap(lambda q: ops.segment_quantile(x, two, q))(torch.rand(2))


def test_quantiles_are_traced_whatever_their_levels():
    torch.compiler.reset()
    x, index = torch.randn(9, 3, requires_grad=True), torch.tensor([0, 1, 0, 0, 1, 1, 1, 1, 0])

    def call(x, q):
        return ops.segment_quantile(x, Segments(index=index, num_segments=3), q)

    traced = torch.compile(call, fullgraph=True, backend="aot_eager")
    for q in (0.3, 0.4, [0.2, 0.6], [0.1, 0.6]):
        y = traced(x, q)
        torch.testing.assert_close(y, call(x, q))
        (found,) = torch.autograd.grad(y.cos().sum(), x)
        (expected,) = torch.autograd.grad(call(x, q).cos().sum(), x)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", ["median", "quantile", "kmax", "mul", "sum", "max"])
def test_bags_that_differ_under_vmap(name, weighted):
    torch.manual_seed(0)
    many = torch.randint(4, (3, 7))
    x, weight = torch.rand(7, 3, dtype=torch.double), torch.rand(7, dtype=torch.double)
    pool = aggr.resolve(name, channels=3, **aggr.lookup(name).example_arguments)
    more = {"weight": weight} if weighted else {}

    def call(index):
        return pool(x, index, dim_size=5, **more)

    torch.testing.assert_close(torch.vmap(call)(many), torch.stack([call(i) for i in many]))


def test_running_totals_of_bags_that_differ_under_vmap():
    many, x = torch.randint(4, (3, 7)), torch.rand(7, 2, dtype=torch.double)

    def call(index):
        return ops.segment_cumsum(x, Segments(index=index, num_segments=4))

    torch.testing.assert_close(torch.vmap(call)(many), torch.stack([call(i) for i in many]))


def test_a_ragged_pool_refuses_bags_that_differ_under_vmap():
    x, many = torch.rand(7, 3), torch.randint(4, (3, 7))
    with pytest.raises(ValueError, match="`index` is vectorised by torch.vmap.*in a loop"):
        torch.vmap(lambda i: aggr.DynamicKMax()(x, i, dim_size=4)[0])(many)


def test_a_row_that_many_bags_read_adds_up_its_derivatives_in_float64():
    """In float32 the small ones would be lost beside the large one."""
    bags = 3000
    x = torch.ones(1, 1, requires_grad=True)
    segments = Segments(ptr=torch.arange(bags + 1))
    y = ops.segment_topk(x, segments, 1, gather=torch.zeros(bags, dtype=torch.long))[0]
    grad = torch.full((bags, 1, 1), 1e-8)
    grad[0] = 1.0
    (found,) = torch.autograd.grad(y, x, grad)
    assert found.item() == pytest.approx(1 + (bags - 1) * 1e-8, rel=1e-7)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("channels", [1, 70])
def test_ranked_sums_of_bags_of_every_length(channels, weighted, dtype):
    """Sorted by a network and by digits, with and without a table of what ranks are worth."""
    counts = [1, 5000, 0, 600, 3, 600, 2, 511, 3]
    bags, total = Segments.from_counts(torch.tensor(counts)), sum(counts)
    x = torch.randn(total, channels, dtype=torch.float64).to(dtype).requires_grad_()
    weight = torch.rand(total).round(decimals=1).to(dtype) if weighted else None
    for op, parameter in (
        (ops.segment_trimmed_mean, 0.2),
        (ops.segment_trimmed_mean, torch.full((channels,), 0.5)),
        (ops.segment_cosine, torch.rand(channels) * 3),
    ):
        y = op(x, bags, parameter, weight)
        wide = x.detach().double().requires_grad_()
        with use_backend("torch"):
            exact = None if weight is None else weight.double()
            expected = op(wide, bags, parameter, exact)
        tolerance = 1e-12 if dtype == torch.float64 else 1e-6
        torch.testing.assert_close(y.double(), expected, rtol=0, atol=tolerance)
        found = torch.autograd.grad(y.square().sum(), x)[0]
        wanted = torch.autograd.grad(expected.square().sum(), wide)[0]
        torch.testing.assert_close(found.double(), wanted, rtol=0, atol=10 * tolerance)


@pytest.mark.parametrize("f", [0.0, 1e-9, 1e-4, 1.59e-3, 1.6e-3, 0.3])
def test_the_derivative_of_a_cosine_by_a_little_frequency(f):
    x, bags = torch.arange(5.0, dtype=torch.float64), Segments(ptr=torch.tensor([0, 5]))
    frequency = torch.tensor(f, dtype=torch.float64, requires_grad=True)
    y = ops.segment_cosine(x, bags, frequency)
    u = torch.arange(6, dtype=torch.float64) / 5
    # d/df int cos(2 pi f u) du, as a series of f and exactly.
    k = 2 * torch.pi * f
    series = sum(
        (-1) ** j * k ** (2 * j - 1) * 2 * j / math.factorial(2 * j + 1) * u ** (2 * j + 1)
        for j in range(1, 12)
    )
    expected = (2 * torch.pi * series.diff() * x).sum()
    (found,) = torch.autograd.grad(y, frequency, torch.ones_like(y))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


def test_a_share_of_more_than_half_cannot_be_trimmed():
    with pytest.raises(ValueError, match=r"`trim` must lie in \[0, 1/2\]; got 0.6"):
        ops.segment_trimmed_mean(torch.zeros(2), Segments(ptr=torch.tensor([0, 2])), 0.6)
