"""What someone who means to break the numbers tries: long bags, large values, neighbours in the batch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import graphpool
from graphpool import Segments, aggr, ops
from graphpool.ops.components import connected_components, contract_edges

SCATTER = pytest.param("torch_scatter", marks=pytest.mark.needs("torch_scatter"))
BACKENDS = ["auto", "torch", SCATTER]


@pytest.fixture(params=BACKENDS)
def backend(request):
    with graphpool.use_backend(request.param):
        yield request.param


# ------------------------------------------------------------------------- neighbours in the batch


def _quantile_by_hand(values, weights, q):
    """Position ``q (n - 1)`` among the elements laid end to end, each as long as its weight; linear."""
    pairs = sorted(zip(values, weights, strict=True))
    position = q * max(math.fsum(weights) - 1, 0)

    def at(place):
        return next(
            (
                v
                for k, (v, _) in enumerate(pairs)
                if math.fsum(w for _, w in pairs[: k + 1]) > place
            ),
            pairs[-1][0],
        )

    low = math.floor(position)
    return at(low) + (position - low) * (at(low + 1) - at(low))


def test_a_median_does_not_see_the_weight_of_another_bag():
    segments = Segments(ptr=torch.tensor([0, 1, 4]))
    x = torch.tensor([7.0, 1.0, 2.0, 3.0])
    weight = torch.tensor([1e20, 1.0, 1.0, 1.0])
    assert ops.segment_median(x, segments, weight).tolist() == [7.0, 2.0]
    picked = aggr.resolve("kmax", channels=1, k=2)(x[:, None], ptr=segments.ptr, weight=weight)
    assert picked.tolist() == [[7.0, 7.0], [3.0, 2.0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weighted_quantiles_are_the_same_alone_and_in_a_batch(dtype):
    rng = torch.Generator().manual_seed(1)
    counts = torch.randint(1, 9, (300,), generator=rng)
    segments = Segments.from_counts(counts)
    x = torch.randn(int(counts.sum()), 2, generator=rng, dtype=dtype)
    weight = torch.randint(1, 6, (len(x),), generator=rng).to(torch.float64) / 10
    weight[::97] = 1e20
    for q in (0.25, 0.5, 1.0):
        together = ops.segment_quantile(x, segments, q, weight=weight)
        for s, (a, b) in enumerate(zip(segments.ptr[:-1], segments.ptr[1:], strict=True)):
            one = Segments(ptr=torch.tensor([0, int(b - a)]))
            alone = ops.segment_quantile(x[a:b], one, q, weight=weight[a:b])
            assert torch.equal(alone[0], together[s])


def test_weighted_quantiles_by_hand():
    rng = torch.Generator().manual_seed(2)
    for n in (1, 2, 5, 9):
        x = torch.randn(n, generator=rng, dtype=torch.float64)
        weight = torch.randint(1, 5, (n,), generator=rng).double()
        for q in (0.0, 0.3, 0.5, 1.0):
            y = ops.segment_quantile(x, Segments(ptr=torch.tensor([0, n])), q, weight=weight)
            expected = _quantile_by_hand(x.tolist(), weight.tolist(), q)
            assert y.item() == pytest.approx(expected, abs=1e-12)


def test_weighted_quantiles_compile_in_one_graph():
    x, index = torch.randn(12, 2), torch.arange(12) % 3
    weight = torch.arange(1.0, 13.0)

    def median(x, index, weight):
        return ops.segment_median(x, Segments(index=index, num_segments=4), weight)

    compiled = torch.compile(median, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x, index, weight), median(x, index, weight))


def test_clusters_of_int32_that_are_many():
    """The square of 50,000 does not fit into int32."""
    cluster = torch.arange(50_000, dtype=torch.int32)
    edges = torch.tensor([[0, 49_999], [49_999, 49_998]])
    assert contract_edges(edges, cluster).edges.tolist() == [[0, 49_998], [49_999, 49_999]]
    with pytest.raises(ValueError, match="`cluster` must be >= 0; got -1 at position 1"):
        contract_edges(torch.tensor([[0], [1]]), torch.tensor([0, -1]))


# --------------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize("two", [np.int64(2), np.uint8(2), torch.tensor(2), torch.tensor([2])])
def test_sizes_are_integers_of_any_type(two):
    x = torch.tensor([1.0, 3.0, 2.0])
    values, index = ops.segment_topk(x, Segments(ptr=torch.tensor([0, 3])), two)
    assert values.tolist() == [[3.0, 2.0]] and index.tolist() == [[1, 2]]
    assert connected_components(torch.tensor([[0], [1]]), two).tolist() == [0, 0]


@pytest.mark.parametrize("bad", [2.0, True, torch.tensor(True), np.bool_(True), None, "2"])
def test_sizes_that_are_no_integers_are_refused(bad):
    segments = Segments(ptr=torch.tensor([0, 3]))
    with pytest.raises(TypeError, match="`k` must be an int of at least [01]; got"):
        ops.segment_topk(torch.ones(3), segments, bad)
    with pytest.raises(TypeError, match="`num_nodes` must be an int of at least [01]; got"):
        connected_components(torch.tensor([[0], [1]]), bad)


# ------------------------------------------------------------------------------ equal elements, long bags

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def _one_bag(x):
    return Segments(ptr=torch.tensor([0, len(x)]))


def _weights(kind, n):
    if kind == "none":
        return None
    return torch.full((n,), 3.0) if kind == "three" else torch.rand(n, dtype=torch.float64) + 0.1


@pytest.mark.parametrize("kind", ["none", "three", "real"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 3, 7, 100, 3001])
def test_equal_elements_do_not_spread_and_have_no_gradient(n, dtype, kind, backend):
    constants = torch.randn(200, dtype=torch.float64) * 10 ** torch.empty(200).uniform_(-3, 3)
    x = constants.to(dtype).expand(n, -1).clone().requires_grad_()
    weight = _weights(kind, n)
    weight = weight.to(dtype) if weight is not None else None
    mean, var, std = ops.segment_moments(x, _one_bag(x), ("mean", "var", "std"), weight)
    assert torch.equal(mean[0], x[0]), "the mean of equal numbers is that number"
    assert not var.any() and not std.any()
    for y in (var, std):
        (grad,) = torch.autograd.grad(y.sum(), x, retain_graph=True)
        assert not grad.any()


def test_the_deviation_of_a_constant_channel_learns_nothing():
    x = torch.full((7, 1), 0.1, requires_grad=True)
    aggr.resolve("std", channels=1)(x, ptr=torch.tensor([0, 7])).sum().backward()
    assert torch.equal(x.grad, torch.zeros(7, 1))


@pytest.mark.parametrize("n", [50, 100_000])
@pytest.mark.parametrize("kind", ["none", "real"])
def test_the_derivative_of_the_variance_takes_the_mean_of_its_value(n, kind, backend):
    x = (1e4 + torch.randn(n, 3)).requires_grad_()
    weight = _weights(kind, n)
    weight = None if weight is None else weight.float()
    y = ops.segment_var(x, _one_bag(x), weight)
    (found,) = torch.autograd.grad(y.sum(), x)
    w = torch.ones(n, 1, dtype=torch.float64) if weight is None else weight.double()[:, None]
    exact = x.detach().double()
    mean = (w * exact).sum(0) / w.sum()
    variance = (w * (exact - mean) ** 2).sum(0) / w.sum()
    expected = 2 * w * (exact - mean) / w.sum()
    torch.testing.assert_close(y[0].double(), variance, rtol=1e-6, atol=0)
    assert ((found - expected).abs() / expected.abs().amax()).amax() < 1e-6


LONG = {
    "sum": (ops.segment_sum, lambda x: x.sum(0)),
    "mean": (ops.segment_mean, lambda x: x.mean(0)),
    "var": (ops.segment_var, lambda x: x.var(0, correction=0)),
    "logsumexp": (ops.segment_logsumexp, lambda x: x.logsumexp(0)),
    "softpool": (ops.segment_softpool, lambda x: (x.softmax(0) * x).sum(0)),
    "attention": (
        lambda x, s: ops.segment_softmax_sum(x, x, s),
        lambda x: (x.softmax(0) * x).sum(0),
    ),
    "attention of one head": (
        lambda x, s: ops.segment_softmax_sum(x[:, 0], x, s),
        lambda x: (x[:, :1].softmax(0) * x).sum(0),
    ),
    "softmax": (
        lambda x, s: ops.segment_sum(ops.segment_softmax(x, s), s),
        lambda x: torch.ones(x.size(1), dtype=x.dtype),
    ),
    "power": (
        lambda x, s: ops.segment_power(x, s, 3.0),
        lambda x: (x.abs() ** 3).sum(0) ** (1 / 3),
    ),
}


@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("name", LONG)
def test_long_bags_keep_their_digits(name, channels, backend):
    op, oracle = LONG[name]
    x = torch.full((400_001, channels), 0.1)
    x += torch.linspace(0, 1e-3, len(x))[:, None]
    expected = oracle(x.double())
    found = op(x, _one_bag(x))[0]
    # Powers raise their own rounding (of log2, 1e-7) to the exponent.
    torch.testing.assert_close(
        found.double(), expected, rtol=2e-6 if name == "var" else 1e-6, atol=1e-6
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["sum", "mean", "var", "logsumexp", "softpool", "power"])
def test_a_row_that_many_elements_read_adds_up_all_their_derivatives(name, dtype, backend):
    """Each reader in a bag of its own, with the derivative 0.1."""
    if name == "var":
        pytest.skip("a bag of one element has none")
    readers = 300_000
    x = torch.full((1, 1), 0.5, dtype=dtype, requires_grad=True)
    segments = Segments(index=torch.arange(readers), num_segments=readers)
    op = {"power": lambda x, s, **k: ops.segment_power(x, s, 3.0, **k)}.get(name, LONG[name][0])
    y = op(x, segments, gather=torch.zeros(readers, dtype=torch.long))
    y.backward(torch.full_like(y, 0.1))
    each = torch.tensor(0.1, dtype=dtype).item()
    assert x.grad.item() == pytest.approx(
        readers * each, rel=1e-2 if dtype != torch.float32 else 2e-6
    )


def test_means_of_coordinates_far_from_the_origin(backend):
    x = torch.full((1000, 1), 206494.75)
    assert ops.segment_mean(x, _one_bag(x)).item() == 206494.75
    assert ops.segment_sum(
        torch.full((2_000_000, 1), 0.1), Segments(ptr=torch.tensor([0, 2_000_000]))
    ).item() == (pytest.approx(2_000_000 * float(np.float32(0.1)), rel=1e-7))


@pytest.mark.parametrize("name", [n for n in LONG if n != "softmax"])
def test_bits_depend_neither_on_threads_nor_on_other_bags(name):
    op = LONG[name][0]
    counts = torch.tensor([3, 70, 0, 150_000, 1, 500])
    x = torch.randn(int(counts.sum()), 2)
    segments = Segments.from_counts(counts)
    together, threads = op(x, segments), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert torch.equal(op(x, segments), together)
    finally:
        torch.set_num_threads(threads)
    for s, (a, b) in enumerate(zip(segments.ptr[:-1], segments.ptr[1:], strict=True)):
        assert torch.equal(op(x[a:b], Segments(ptr=torch.tensor([0, int(b - a)])))[0], together[s])


# ------------------------------------------------------------------------------------- large scores


@pytest.mark.parametrize("height", [1e5, 1e7, 1e8, -1e8, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [4, 3000])
def test_shares_of_large_scores_add_up_to_one(n, dtype, height, backend):
    score = torch.full((n, 4), height, dtype=dtype)
    x = score.clone().requires_grad_()
    segments = _one_bag(x)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-14
    (grad,) = torch.autograd.grad(ops.segment_logsumexp(x, segments).sum(), x)
    torch.testing.assert_close(grad, torch.full_like(x, 1 / n), rtol=tolerance, atol=0)
    t = torch.ones(4, dtype=dtype, requires_grad=True)
    y = ops.segment_softpool(x, segments, t)
    of_x, of_t = torch.autograd.grad(y.sum(), (x, t))
    assert torch.equal(y[0], score[0]) and not of_t.any()
    torch.testing.assert_close(of_x, torch.full_like(x, 1 / n), rtol=tolerance, atol=0)
    for heads in (1, 2, 4):
        for gather in (None, torch.arange(n)):
            value = torch.randn(n, 4, dtype=dtype, requires_grad=True)
            scores = score[:, :heads].clone().requires_grad_()
            y = ops.segment_softmax_sum(scores, value, segments, gather=gather)
            of_score, of_value = torch.autograd.grad(y.sum(), (scores, value))
            torch.testing.assert_close(
                of_value, torch.full_like(value, 1 / n), rtol=tolerance, atol=0
            )
            spread = (value - value.mean(0)).unflatten(1, (heads, 4 // heads)).sum(-1) / n
            torch.testing.assert_close(of_score, spread.detach(), rtol=1e-4, atol=tolerance)


@pytest.mark.parametrize("kind", ["none", "real"])
@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("n", [5, 3001, 200_001])
def test_scores_of_equal_values_learn_nothing(n, heads, kind, backend):
    for size, dtype in ((0.1, torch.float32), (1e30, torch.float32), (1e300, torch.float64)):
        score = torch.randn(n, heads, dtype=dtype, requires_grad=True)
        value, weight = torch.full((n, 4), size, dtype=dtype), _weights(kind, n)
        weight = None if weight is None else weight.to(dtype)
        y = ops.segment_softmax_sum(score, value, _one_bag(value), weight)
        assert torch.equal(y[0], value[0]), "a mean of equal numbers is that number"
        assert not torch.autograd.grad(y.sum(), score)[0].any()


@pytest.mark.parametrize("n", [7, 5000, 150_000])
@pytest.mark.parametrize("height", [0.0, 1e5, -3e6, 1e7])
def test_derivatives_of_means_far_from_the_origin(height, n, backend):
    """As in float64, in which these numbers are small: neighbours in float32 differ by up to 1."""
    x = (height + 3 * torch.randn(n, 2)).requires_grad_()
    t = torch.ones(2, requires_grad=True)
    score = torch.randn(n, 1, requires_grad=True)
    segments = _one_bag(x)
    exact, s, u = (v.detach().double().requires_grad_() for v in (x, score, t))
    off = exact - exact.detach().amax(0)  # as before, with no large numbers in between
    pooled = (off.mul(u).softmax(0) * off).sum()
    attended = (s.softmax(0) * off).sum()
    found = torch.autograd.grad(ops.segment_softpool(x, segments, t).sum(), (x, t))
    found += torch.autograd.grad(ops.segment_softmax_sum(score, x, segments).sum(), (score, x))
    expected = torch.autograd.grad(pooled, (exact, u))
    expected += torch.autograd.grad(attended, (s, exact))
    for a, b in zip(found, expected, strict=True):
        assert (a - b).abs().max() <= 2e-5 * b.abs().max()


# ---------------------------------------------------------------------------------- infinities and ends

INFINITE = [
    [[math.inf, 1.0, 2.0], [1 / 1, 0, 0]],
    [[math.inf, math.inf, 2.0], [1 / 2, 1 / 2, 0]],
    [[-math.inf, 0.0, 0.0], [0, 1 / 2, 1 / 2]],
    [[-math.inf, math.inf, 0.0], [0, 1, 0]],
    [[-math.inf, -math.inf], [0, 0]],
]


@pytest.mark.parametrize("values, shares", INFINITE)
@pytest.mark.parametrize("copies", [1, 700])
def test_derivatives_at_infinity_are_shares(values, shares, copies, backend):
    """As the limit of large elements: those at the top divide the bag, those without share get nothing."""
    x = torch.tensor(values).repeat(copies)[:, None].expand(-1, 300).clone().requires_grad_()
    expected = (torch.tensor(shares) / copies).repeat(copies)[:, None].expand(-1, 300)
    segments = _one_bag(x)
    (grad,) = torch.autograd.grad(ops.segment_logsumexp(x, segments).sum(), x)
    torch.testing.assert_close(grad, expected)
    y = ops.segment_softmax(x, segments)
    torch.testing.assert_close(y, expected)
    (grad,) = torch.autograd.grad((y * torch.arange(1.0, len(x) + 1)[:, None]).sum(), x)
    g = torch.arange(1.0, len(x) + 1)[:, None]
    torch.testing.assert_close(grad, expected * (g - (expected * g).sum(0)))
    t = torch.ones(300, requires_grad=True)
    of_x, of_t = torch.autograd.grad(ops.segment_softpool(x, segments, t).sum(), (x, t))
    if math.inf in values:
        torch.testing.assert_close(of_x, expected)
        assert not of_t.any()
    assert of_x.isfinite().all() and of_t.isfinite().all()


def test_moving_shares_does_not_move_an_infinite_result(backend):
    score = torch.zeros(3, 2, requires_grad=True)
    value = torch.tensor([[math.inf, 1.0], [1.0, 2.0], [2.0, 6.0]], requires_grad=True)
    for heads in (2, 1):
        y = ops.segment_softmax_sum(score[:, :heads], value, _one_bag(value))
        assert y.tolist() == [[math.inf, 3.0]]
        of_score, of_value = torch.autograd.grad(y.sum(), (score, value))
        expected = torch.tensor([-2.0, -1.0, 3.0]) / 3
        torch.testing.assert_close(of_score[:, heads - 1], expected)
        torch.testing.assert_close(of_value, torch.full((3, 2), 1 / 3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("p", [1.0, 3.0, -1.0, 0.5])
@pytest.mark.parametrize("copies", [1, 900])
def test_norms_at_the_ends_of_the_range(copies, p, dtype, backend):
    """In float64 by scaling, so that nothing is out of range there."""
    info = torch.finfo(dtype)
    channels = 300
    for size in (4 * info.tiny, info.max / 8):
        x = torch.tensor([1.0, 2.0, 1.5], dtype=dtype).repeat(copies)[:, None] * size
        x = x.expand(-1, channels).clone().requires_grad_()
        y = ops.segment_power(x, _one_bag(x), p, 1 / p)
        a = torch.tensor([1.0, 2.0, 1.5], dtype=torch.float64).repeat(copies)
        mean = (a**p).mean() ** (1 / p)
        torch.testing.assert_close(y / size, mean.to(dtype).expand(1, channels), rtol=3e-5, atol=0)
        (grad,) = torch.autograd.grad(y.sum(), x)
        expected = (a / mean) ** (p - 1) / len(a)
        torch.testing.assert_close(
            grad, expected.to(dtype)[:, None].expand_as(x), rtol=3e-4, atol=0
        )


@pytest.mark.parametrize("p, q", [(1.0, 0.0), (2.0, 0.5), (-1.0, -1.0), (0.5, 0.0)])
@pytest.mark.parametrize("copies", [1, 700])
def test_norms_of_infinite_elements(copies, p, q, backend):
    """``k`` of them are the limit of ``k`` large ones: ``k^(1/p)`` times one, of which each has a part."""
    x = torch.full((2 * copies, 200), math.inf, requires_grad=True)
    exponents = [torch.full((200,), v, requires_grad=True) for v in (p, q)]
    y = ops.segment_power(x, _one_bag(x), *exponents)
    assert (y == math.inf).all()
    of_x, of_p, of_q = torch.autograd.grad(y.sum(), (x, *exponents))
    k = 2.0 * copies
    torch.testing.assert_close(of_x, torch.full_like(x, k ** (1 / p - 1 - q)), rtol=3e-4, atol=0)
    assert not of_p.any() and not of_q.any()
    mixed = torch.tensor([math.inf, 1.0], requires_grad=True)
    exponent = torch.tensor(p, requires_grad=True)
    y = ops.segment_power(mixed, _one_bag(mixed), exponent)
    of_x, of_p = torch.autograd.grad(y, (mixed, exponent))
    # The limit of large numbers: (y / x)^(1 - p) at the largest number that there is.
    limit = torch.finfo(torch.float32).max ** (1 - p) if p > 0 else 1.0
    assert of_x.tolist() == pytest.approx([float(p > 0), limit], rel=1e-3)
    assert of_p.item() == pytest.approx(0.0)
    assert y.item() == (math.inf if p > 0 else pytest.approx(1.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [3, 5000])
def test_softpool_at_the_end_of_the_range(n, dtype, backend):
    """A mean cannot be larger than its elements, though their sum is infinite."""
    top = torch.finfo(dtype).max
    x = torch.full((n, 40), top, dtype=dtype)
    torch.testing.assert_close(
        ops.segment_softpool(x, _one_bag(x))[0] / top, torch.ones(40, dtype=dtype)
    )
    score = torch.zeros(n, 1, dtype=dtype)
    y = ops.segment_softmax_sum(score, x, _one_bag(x))
    torch.testing.assert_close(y[0] / top, torch.ones(40, dtype=dtype))


@pytest.mark.parametrize("heads", [1, 4])
def test_an_absent_element_of_enormous_score_leaves_no_gradient(heads, backend):
    score = torch.zeros(3, heads)
    score[1] = 1e30
    score.requires_grad_()
    value = torch.randn(3, 4, requires_grad=True)
    weight = torch.tensor([1.0, 0.0, 1.0])
    for gather in (None, torch.arange(3)):
        y = ops.segment_softmax_sum(score, value, _one_bag(value), weight, gather)
        of_score, of_value = torch.autograd.grad(y.sum(), (score, value))
        assert of_score.isfinite().all() and not of_score[1].any() and not of_value[1].any()
