"""Every op against a Python loop in float64, on every backend, with and without weights."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch

import graphpool
from graphpool import Segments, ops
from graphpool.testing.ops import segment_functions

SCATTER = pytest.param("torch_scatter", marks=pytest.mark.needs("torch_scatter"))
BACKENDS = ["auto", "torch", SCATTER]
COUNTS = [3, 0, 1, 5, 0, 2, 0]


@pytest.fixture(params=BACKENDS)
def backend(request):
    with graphpool.use_backend(request.param):
        yield request.param


def make(order: str, dtype=torch.float64, shape=(4,), generator_seed=0):
    g = torch.Generator().manual_seed(generator_seed)
    index = torch.repeat_interleave(torch.arange(len(COUNTS)), torch.tensor(COUNTS))
    if order == "unsorted":
        index = index[torch.randperm(len(index), generator=g)]
    x = torch.randn(len(index), *shape, generator=g, dtype=torch.float64).to(dtype)
    weight = torch.randint(0, 4, (len(index),), generator=g)
    return x, Segments(index=index, num_segments=len(COUNTS)), weight


def loop(f, x, segments, weight=None):
    """f(list of floats) for each bag and channel, elements repeated as often as their weight says."""
    flat = x.double().reshape(x.size(0), -1)
    out = torch.zeros(segments.num_segments, flat.size(1), dtype=torch.float64)
    for s in range(segments.num_segments):
        rows = (segments.index == s).nonzero().flatten().tolist()
        if weight is not None:
            rows = [r for r in rows for _ in range(int(weight[r]))]
        for c in range(flat.size(1)):
            values = [float(flat[r, c]) for r in rows]
            out[s, c] = f(values) if values else 0.0
    return out.view(segments.num_segments, *x.shape[1:])


def variance(v):
    mean = math.fsum(v) / len(v)
    return math.fsum((a - mean) ** 2 for a in v) / len(v)


def logsumexp(v):
    return math.log(math.fsum(math.exp(a) for a in v))


def softpool(v, t=0.7):
    e = [math.exp(t * a) for a in v]
    return sum(a * b for a, b in zip(v, e, strict=True)) / sum(e)


def power(v, p, q):
    if p < 0 and 0.0 in v:
        return 0.0
    return len(v) ** -q * math.fsum(abs(a) ** p for a in v) ** (1 / p)


MIXED = (
    torch.tensor([3.0, -2.0], dtype=torch.float64),
    torch.tensor([[0.5], [-0.4], [0.9]], dtype=torch.float64),
    torch.tensor(0.3, dtype=torch.float64),
)


def mixed(v):
    first, second = (power(v, p, 1 / p) for p in (3.0, -2.0))
    size = math.fsum(map(abs, v))
    sign = math.fsum(v) / size if size else 1.0
    return len(v) ** 0.3 * (sign * (0.5 * first - 0.4 * second) + 0.9 * math.fsum(v) / len(v))


def quantile(v, q, how):
    return float(torch.quantile(torch.tensor(v, dtype=torch.float64), q, interpolation=how))


def parts(v, upto):
    """Elements in order, times what the function gains over the part of [0, 1] that each takes up."""
    n = len(v)
    return math.fsum(a * (upto((r + 1) / n) - upto(r / n)) for r, a in enumerate(sorted(v)))


def trimmed(v, a):
    return parts(v, lambda u: min(max(u, a), 1 - a) / (1 - 2 * a))


def cosine(v, f):
    return parts(v, lambda u: math.sin(2 * math.pi * f * u) / (2 * math.pi * f))


def how(interpolation):
    return {
        f"{q} {interpolation}": ((q, interpolation), lambda v, q=q: quantile(v, q, interpolation))
        for q in (0.0, 0.3, 1.0)
    }


#: For every op from a bag to one number per channel: its further arguments and what they do to a list.
ORACLES = {
    "segment_sum": {"": ((), math.fsum)},
    "segment_product": {"": ((), math.prod)},
    "segment_mean": {"": ((), lambda v: math.fsum(v) / len(v))},
    "segment_max": {"": ((), max)},
    "segment_min": {"": ((), min)},
    "segment_var": {"": ((), variance)},
    "segment_std": {"": ((), lambda v: math.sqrt(variance(v)))},
    "segment_logsumexp": {"": ((), logsumexp)},
    "segment_softpool": {"": ((0.7,), softpool)},
    "segment_power": {
        "2.5": ((2.5, 0.3), lambda v: power(v, 2.5, 0.3)),
        "1": ((1.0, 0.0), lambda v: power(v, 1, 0)),
        "-2": ((-2.0, -0.5), lambda v: power(v, -2, -0.5)),
    },
    "segment_mixed_means": {"": (MIXED, mixed)},
    "segment_trimmed_mean": {
        "0.2": ((0.2,), lambda v: trimmed(v, 0.2)),
        "0.5": ((0.5,), lambda v: quantile(v, 0.5, "midpoint")),
    },
    "segment_cosine": {
        "0.7": ((0.7,), lambda v: cosine(v, 0.7)),
        "0": ((0.0,), lambda v: math.fsum(v) / len(v)),
    },
    "segment_median": {"": ((), lambda v: quantile(v, 0.5, "lower"))},
    "segment_quantile": {k: v for kind in ops.INTERPOLATIONS for k, v in how(kind).items()},
}
#: Those that give something else have a test of their own here, and this one elsewhere.
OTHERS = ("cumsum", "moments", "softmax", "softmax_sum", "sort", "topk")
ELSEWHERE = {
    "segment_second_moment": "test_second_moment.py",
    "segment_standardized_moments": "test_standardized.py",
}
OPS = {
    f"{name.removeprefix('segment_')} {case}".strip(): (
        lambda x, s, name=name, more=more, **k: getattr(ops, name)(x, s, *more, **k),
        oracle,
    )
    for name in segment_functions()
    for case, (more, oracle) in ORACLES.get(name, {}).items()
}


def test_every_op_has_a_loop():
    others = {f"segment_{name}": Path(__file__).name for name in OTHERS} | ELSEWHERE
    assert sorted([*ORACLES, *others]) == sorted(segment_functions())
    for name, file in others.items():
        text = (Path(__file__).parent / file).read_text("utf-8")
        assert re.search(rf"\b{name}\(", text), f"{file} does not call {name}"


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("order", ["sorted", "unsorted"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(), (4,), (2, 3)])
def test_value(name, order, weighted, shape, backend):
    op, oracle = OPS[name]
    x, segments, weight = make(order, shape=shape)
    weight = weight if weighted else None
    expected = loop(oracle, x, segments, weight)
    torch.testing.assert_close(op(x, segments, weight=weight), expected, rtol=1e-9, atol=1e-12)
    single = op(x.float(), segments, weight=weight)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), expected, rtol=3e-5, atol=3e-5)
    if name not in ("power -2", "std"):  # ill-conditioned in the rounding of the input
        half = op(x.bfloat16(), segments, weight=weight)
        assert half.dtype == torch.bfloat16
        torch.testing.assert_close(
            half.double(), loop(oracle, x.bfloat16(), segments, weight), rtol=1e-2, atol=1e-2
        )


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("order", ["sorted", "unsorted"])
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients(name, order, weighted, backend):
    op, _ = OPS[name]
    x, segments, weight = make(order, shape=(2,))
    weight = weight.double() if weighted else None
    x.requires_grad_()
    # Fast: along random directions, which see an error of any entry.
    fast = order == "sorted" or not weighted
    assert torch.autograd.gradcheck(lambda x: op(x, segments, weight=weight), x, fast_mode=fast)
    assert torch.autograd.gradgradcheck(lambda x: op(x, segments, weight=weight), x, fast_mode=True)


@pytest.mark.parametrize("name", ["sum", "mean", "var", "logsumexp", "softpool", "power 2.5"])
def test_gradient_with_respect_to_the_weight(name, backend):
    op, _ = OPS[name]
    x, segments, weight = make("unsorted", shape=(2,))
    weight = (weight.double() + 0.5).requires_grad_()
    assert torch.autograd.gradcheck(lambda w: op(x, segments, weight=w), weight)


@pytest.mark.parametrize("name", OPS)
def test_gather_is_the_same_as_making_the_elements(name, backend):
    op, _ = OPS[name]
    _, segments, weight = make("unsorted")
    rows = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    gather = torch.randint(0, 4, (segments.num_elements,))
    expected = op(rows[gather], segments, weight=weight)
    grad = torch.randn_like(expected)
    (expected_grad,) = torch.autograd.grad(expected, rows, grad)
    for form in (gather, Segments(index=gather, num_segments=4)):
        y = op(rows, segments, weight=weight, gather=form)
        torch.testing.assert_close(y, expected)
        torch.testing.assert_close(torch.autograd.grad(y, rows, grad)[0], expected_grad)


@pytest.mark.parametrize("p", [1.0, 2.0, -1.5, 40.0, -40.0])
def test_power_exponents_are_learnable(p, backend):
    x, segments, _ = make("unsorted", shape=(2,))
    x = x.abs() + 0.1
    p = torch.tensor([p, 1.5], dtype=torch.float64, requires_grad=True)
    q = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    f = lambda x, p, q: ops.segment_power(x, segments, p, q)  # noqa: E731
    assert torch.autograd.gradcheck(f, (x.requires_grad_(), p, q))
    assert torch.autograd.gradgradcheck(f, (x, p, q), fast_mode=True)


@pytest.mark.parametrize(
    ("p", "q", "reference"),
    [(1, 0, "sum"), (1, 1, "mean"), (-1, -1, "harmonic"), (2, 0, "norm")],
)
def test_power_reproduces_known_pools(p, q, reference, backend):
    x, segments, _ = make("unsorted")
    x = x.abs() + 0.1
    expected = loop(
        {
            "sum": math.fsum,
            "mean": lambda v: math.fsum(v) / len(v),
            "harmonic": lambda v: len(v) / math.fsum(1 / a for a in v),
            "norm": lambda v: math.sqrt(math.fsum(a * a for a in v)),
        }[reference],
        x,
        segments,
    )
    torch.testing.assert_close(ops.segment_power(x, segments, p, q), expected)


def test_power_approaches_the_extrema(backend):
    x = torch.rand(100, 3) + 0.5
    segments = Segments(ptr=torch.tensor([0, 100]))
    assert (ops.segment_power(x, segments, 200.0) / x.max(0).values - 1).abs().max() < 0.03
    assert (ops.segment_power(x, segments, -200.0) / x.min(0).values - 1).abs().max() < 0.03


def test_power_at_zero(backend):
    """Zeros are the limit of a small positive number."""
    segments = Segments(ptr=torch.tensor([0, 3, 5]))
    x = torch.tensor([0.0, 0.0, 2.0, 0.0, 0.0], requires_grad=True)
    for p in (-50.0, -1.0, 1.0, 50.0):
        y = ops.segment_power(x, segments, p)
        (grad,) = torch.autograd.grad(y.sum(), x)
        assert y[1] == 0 and (y[0] == 0) == (p < 0)
        assert grad.isfinite().all()
        k = torch.tensor(2.0)
        # (k v^p)^(1/p) = k^(1/p) v, shared by k elements
        torch.testing.assert_close(grad[3], k ** (1 / p - 1), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(
        torch.autograd.grad(ops.segment_power(x, segments, 1.0).sum(), x)[0], torch.ones(5)
    )


@pytest.mark.parametrize("p", [1.0, -1.0, 50.0, -50.0])
def test_power_at_the_ends_of_the_range(p, backend):
    segments = Segments(ptr=torch.tensor([0, 2]))
    x = torch.tensor([1e6, 1e6], requires_grad=True)
    y = ops.segment_power(x, segments, p, 1 / p)
    torch.testing.assert_close(y, torch.tensor([1e6]), rtol=1e-4, atol=0.0)
    assert torch.autograd.grad(y.sum(), x)[0].isfinite().all()
    inf = torch.tensor([math.inf, 1.0])
    assert ops.segment_power(inf, segments, p).isinf().item() == (p > 0)


def heads_oracle(score, value, segments):
    out = torch.zeros(segments.num_segments, value.size(1), dtype=torch.float64)
    per = value.size(1) // score.size(1)
    for s in range(segments.num_segments):
        rows = (segments.index == s).nonzero().flatten().tolist()
        for c in range(value.size(1)):
            e = [math.exp(score[r, c // per]) for r in rows]
            out[s, c] = sum(a * float(value[r, c]) for a, r in zip(e, rows, strict=True)) / (
                sum(e) or 1
            )
    return out


@pytest.mark.parametrize("heads", [1, 2, 6])
@pytest.mark.parametrize("order", ["sorted", "unsorted"])
def test_softmax_sum_per_head(heads, order, backend):
    value, segments, _ = make(order, shape=(6,))
    score = torch.randn(value.size(0), heads, dtype=torch.float64)
    expected = heads_oracle(score, value, segments)
    torch.testing.assert_close(ops.segment_softmax_sum(score, value, segments), expected)
    if heads == 1:
        torch.testing.assert_close(ops.segment_softmax_sum(score[:, 0], value, segments), expected)
    f = lambda s, v: ops.segment_softmax_sum(s, v, segments)  # noqa: E731
    inputs = (score.requires_grad_(), value.requires_grad_())
    assert torch.autograd.gradcheck(f, inputs)
    assert torch.autograd.gradgradcheck(f, inputs, fast_mode=True)


@pytest.mark.parametrize("order", ["sorted", "unsorted"])
def test_softmax(order, backend):
    score, segments, weight = make(order)
    e = score.exp() * weight[:, None]
    total = torch.zeros(segments.num_segments, 4, dtype=torch.float64).index_add(
        0, segments.index, e
    )
    expected = e / total[segments.index].clamp_min(1e-300)
    torch.testing.assert_close(ops.segment_softmax(score, segments, weight), expected)
    f = lambda s: ops.segment_softmax(s, segments)  # noqa: E731
    assert torch.autograd.gradcheck(f, score.requires_grad_())
    assert torch.autograd.gradgradcheck(f, score, fast_mode=True)


def test_softmax_of_infinities(backend):
    inf = math.inf
    segments = Segments(ptr=torch.tensor([0, 2, 4, 6]))
    score = torch.tensor([-inf, -inf, inf, 1.0, 1.0, -inf])
    expected = torch.tensor([0, 0, 1.0, 0, 1.0, 0])
    torch.testing.assert_close(ops.segment_softmax(score, segments), expected)
    value = torch.tensor([1.0, 2.0, 3.0, inf, 5.0, -inf])
    torch.testing.assert_close(
        ops.segment_softmax_sum(score, value, segments), torch.tensor([0.0, 3.0, 5.0])
    )
    torch.testing.assert_close(
        ops.segment_logsumexp(score, segments), torch.tensor([-inf, inf, 1.0])
    )


def test_one_bags_extremes_do_not_touch_another(backend):
    segments = Segments(ptr=torch.tensor([0, 1, 3]))
    score = torch.tensor([1e4, -1e4, -1e4])
    torch.testing.assert_close(ops.segment_softmax(score, segments), torch.tensor([1.0, 0.5, 0.5]))


@pytest.mark.parametrize("offset", [1e4, 4096.0, 1e6])
def test_variance_survives_an_offset(offset, backend):
    base = torch.tensor([0.0, 0.25, 0.5, 8.0])
    x = (base + offset).repeat(1000)
    segments = Segments(index=torch.arange(4).repeat(1000) // 3, num_segments=2)
    expected = torch.stack([(x.double()[segments.index == s]).var(unbiased=False) for s in (0, 1)])
    torch.testing.assert_close(
        ops.segment_var(x, segments).double(), expected, rtol=1e-4, atol=1e-6
    )


def test_half_precision_counts_and_sums_in_float32(backend):
    x = torch.ones(70_000, 1, dtype=torch.float16)
    segments = Segments(ptr=torch.tensor([0, 70_000]))
    assert ops.segment_mean(x, segments).item() == 1
    assert ops.segment_sum(x.bfloat16(), segments).item() == pytest.approx(70_000, rel=4e-3)


@pytest.mark.parametrize("order", ["sorted", "unsorted"])
def test_running_totals(order, backend):
    x, segments, _ = make(order, shape=(2,))
    expected = torch.empty_like(x)
    total = torch.zeros(segments.num_segments, 2, dtype=torch.float64)
    for e, bag in enumerate(segments.index.tolist()):
        total[bag] += x[e]
        expected[e] = total[bag]
    torch.testing.assert_close(ops.segment_cumsum(x, segments), expected)
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ops.segment_cumsum(x, segments), x)
    assert torch.autograd.gradgradcheck(lambda x: ops.segment_cumsum(x, segments), x)


def test_running_totals_of_a_long_bag_are_not_rounded_at_every_step():
    x, segments = torch.full((100_000, 1), 0.1), Segments(ptr=torch.tensor([0, 100_000]))
    expected = x.double().cumsum(0)
    torch.testing.assert_close(
        ops.segment_cumsum(x, segments).double(), expected, rtol=1e-7, atol=0
    )


@pytest.mark.parametrize("name", ["sum", "max", "min", "product"])
def test_integers(name, backend):
    op, oracle = OPS[name]
    _, segments, weight = make("unsorted")
    x = torch.randint(-9, 9, (segments.num_elements, 3))
    y = op(x, segments, weight=weight)
    assert y.dtype == torch.int64
    torch.testing.assert_close(y.double(), loop(oracle, x, segments, weight))


@pytest.mark.parametrize("name", OPS)
def test_a_nan_stays_in_its_bag_and_channel(name, backend):
    op, _ = OPS[name]
    x, segments, _ = make("unsorted")
    clean = op(x, segments)
    at = int((segments.index == 3).nonzero()[1])
    x[at, 2] = math.nan
    y = op(x, segments)
    assert y[3, 2].isnan()
    y[3, 2] = clean[3, 2]
    torch.testing.assert_close(y, clean, rtol=0, atol=0)


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("shape", [(0, 4), (0, 0), (3, 0)])
def test_nothing_in_nothing_out(name, shape, backend):
    op, _ = OPS[name]
    x = torch.zeros(shape, requires_grad=True)
    segments = Segments(index=torch.zeros(shape[0], dtype=torch.long), num_segments=3)
    y = op(x, segments)
    assert y.shape == (3, shape[1]) and (y == 0).all()
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert grad.shape == x.shape


@pytest.mark.parametrize("largest", [True, False])
def test_ties_share_the_gradient(largest, backend):
    x = torch.tensor([2.0, 2.0, 2.0, 1.0], requires_grad=True)
    sign = 1 if largest else -1
    op = ops.segment_max if largest else ops.segment_min
    y = op(sign * x, Segments(ptr=torch.tensor([0, 4])))
    (grad,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(grad, sign * torch.tensor([1 / 3, 1 / 3, 1 / 3, 0.0]))
    assert y.item() == sign * 2


def test_topk_and_sort_against_a_loop(backend):
    x, segments, _ = make("unsorted")
    values, index = ops.segment_topk(x, segments, k=3, fill=-7.0)
    ordered, argsort = ops.segment_sort(x, segments)
    torch.testing.assert_close(ordered, x.gather(0, argsort))
    for s in range(segments.num_segments):
        for c in range(4):
            rows = (segments.index == s).nonzero().flatten().tolist()
            best = sorted(rows, key=lambda r: -float(x[r, c]))[:3]
            free = 3 - len(best)
            assert index[s, :, c].tolist() == best + [-1] * free
            assert values[s, :, c].tolist() == [float(x[r, c]) for r in best] + [-7.0] * free
            inside = ordered[segments.ptr[s] : segments.ptr[s + 1], c].tolist()
            assert inside == sorted(float(x[r, c]) for r in rows)


@pytest.mark.parametrize("form", [lambda index: index, lambda index: Segments(index, None, 4)])
def test_softmax_sort_and_topk_gather(form, backend):
    _, segments, weight = make("unsorted")
    rows = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    index = torch.randint(0, 4, (segments.num_elements,))
    for op in (
        lambda x, **kwargs: ops.segment_softmax(x, segments, weight, **kwargs),
        lambda x, **kwargs: ops.segment_sort(x, segments, **kwargs)[0],
        lambda x, **kwargs: ops.segment_topk(x, segments, 2, **kwargs)[0],
    ):
        ours, theirs = op(rows, gather=form(index)), op(rows[index])
        torch.testing.assert_close(ours, theirs)
        grad = torch.randn_like(theirs)
        (found,) = torch.autograd.grad(ours, rows, grad)
        (expected,) = torch.autograd.grad(theirs, rows, grad)
        torch.testing.assert_close(found, expected)
    assert torch.equal(
        ops.segment_sort(rows, segments, gather=form(index))[1],
        ops.segment_sort(rows[index], segments)[1],
    )


@pytest.mark.parametrize("shape", [(0, 4), (0,), (3, 0)])
def test_nothing_can_be_sorted(shape, backend):
    segments = Segments(index=torch.zeros(shape[0], dtype=torch.long), num_segments=2)
    values, order = ops.segment_sort(torch.zeros(shape), segments)
    assert values.shape == order.shape == shape
    top, index = ops.segment_topk(torch.zeros(shape), segments, k=2)
    assert top.shape == index.shape == (2, 2, *shape[1:])


def test_moments_at_once(backend):
    x, segments, weight = make("unsorted")
    names = ("mean", "var", "min", "max", "sum", "std", "mean")
    single = {
        "mean": ops.segment_mean, "var": ops.segment_var, "min": ops.segment_min,
        "max": ops.segment_max, "sum": ops.segment_sum, "std": ops.segment_std,
    }  # fmt: skip
    for w in (None, weight):
        for name, y in zip(names, ops.segment_moments(x, segments, names, weight=w), strict=True):
            torch.testing.assert_close(y, single[name](x, segments, weight=w))
