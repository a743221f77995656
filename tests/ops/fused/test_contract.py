"""What PyTorch asks of a custom op: derivatives of both orders, tracing, and honest registration."""

from __future__ import annotations

import pytest
import torch

from graphpool import Segments, ops, use_backend
from graphpool.ops.fused import table as fused  # noqa: F401  registers the ops
from graphpool.ops.fused.layout import Layout

E, S, C = 14, 4, 4
OPS = {
    "sum": lambda x, s, **k: ops.segment_sum(x, s, **k),
    "mean": lambda x, s, **k: ops.segment_mean(x, s, **k),
    "max": lambda x, s, **k: ops.segment_max(x, s, **k),
    "var": lambda x, s, **k: ops.segment_var(x, s, **k),
    "moments": lambda x, s, **k: torch.cat(ops.segment_moments(x, s, ("sum", "std", "min"), **k)),
    "softpool": lambda x, s, **k: ops.segment_softpool(x, s, x.new_tensor([0.5, 1, 2, -1]), **k),
    "logsumexp": lambda x, s, **k: ops.segment_logsumexp(x, s, **k),
    "power": lambda x, s, **k: ops.segment_power(
        x + 3 * torch.where(x < 0, -1, 1), s, x.new_tensor([2.0, -1.5, 1.0, 3.0]), 0.5, **k
    ),
}


def problem(gathered: bool, weighted: bool):
    index = torch.tensor([0, 2, 0, 3, 3, 0, 2, 2, 0, 3, 3, 3, 0, 2])
    rows = 9 if gathered else E
    x = torch.randn(rows, C, dtype=torch.float64, requires_grad=True)
    options = {}
    if gathered:
        options["gather"] = torch.randint(rows, (E,))
    if weighted:
        options["weight"] = torch.randint(0, 3, (E,)).double()
    return x, Segments(index=index, num_segments=S), options


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("gathered", [False, True])
@pytest.mark.parametrize("name", OPS)
def test_derivatives_of_both_orders(name, gathered, weighted):
    x, segments, options = problem(gathered, weighted)
    assert torch.autograd.gradcheck(lambda x: OPS[name](x, segments, **options), (x,))
    assert torch.autograd.gradgradcheck(lambda x: OPS[name](x, segments, **options), (x,))


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_derivatives_of_attention(heads):
    x, segments, options = problem(gathered=True, weighted=True)
    score = torch.randn(E, heads, dtype=torch.float64, requires_grad=True)

    def fn(score, x):
        return ops.segment_softmax_sum(score, x, segments, **options)

    assert torch.autograd.gradcheck(fn, (score, x))
    assert torch.autograd.gradgradcheck(fn, (score, x))


def test_derivatives_of_parameters():
    x, segments, _ = problem(gathered=False, weighted=False)
    p = torch.tensor([2.0, -1.5, 1.0, 3.0], dtype=torch.float64, requires_grad=True)
    q = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    t = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    score = torch.randn(E, C, dtype=torch.float64, requires_grad=True)
    x = (x.detach().abs() + 0.5).requires_grad_()
    for fn, inputs in (
        (lambda x, p, q: ops.segment_power(x, segments, p, q), (x, p, q)),
        (lambda x, t: ops.segment_softpool(x, segments, t), (x, t)),
        (lambda s: ops.segment_softmax(s, segments), (score,)),
        (lambda s: ops.segment_softmax(s, segments, gather=torch.arange(E) % 3), (score[:3],)),
    ):
        assert torch.autograd.gradcheck(fn, inputs)
        assert torch.autograd.gradgradcheck(fn, inputs)


class Swallow(torch.autograd.Function):
    """Hands on its input, and no gradient to it."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return None


@pytest.mark.parametrize("name", OPS)
def test_a_result_that_gets_no_gradient_passes_none_on(name):
    x, segments, _ = problem(gathered=False, weighted=False)
    Swallow.apply(OPS[name](x, segments)).sum().backward()
    assert x.grad is None or not x.grad.any()


def samples(dtype):
    """Arguments of every op of the library, by its name; several for some."""
    torch.manual_seed(0)
    kernels = torch.ops.graphpool
    segments = Segments(index=torch.tensor([2, 0, 2, 1, 0]), num_segments=4)
    x = torch.rand(5, 4, dtype=dtype, requires_grad=True)
    rows = torch.rand(3, 4, dtype=dtype, requires_grad=True)
    score = torch.rand(5, 2, dtype=dtype, requires_grad=True)
    p = torch.full((4,), 2.0, requires_grad=True)
    plain = Layout.of(segments, None, None, 5, True)
    full = Layout.of(segments, torch.rand(5), torch.tensor([0, 2, 2, 1, 0]), 3, True)
    forward = [
        ("segment_moments", (x, "sum,mean,var,min,max"), plain),
        ("segment_moments", (rows, "max"), full),
        ("segment_softpool", (rows, p), full),
        ("segment_softmax_sum", (score, rows), full),
        ("segment_softmax_sum", (x, x), plain),
        ("segment_logsumexp", (rows,), full),
        ("segment_softmax", (x,), plain),
        ("segment_softmax", (rows,), full),
        ("segment_power", (rows, p, p), full),
    ]
    for name, inputs, layout in forward:
        yield name, (*inputs, *layout)
        constants = [v.detach() if isinstance(v, torch.Tensor) else v for v in inputs]
        results = getattr(kernels, name)(*constants, *layout)
        results = (results,) if isinstance(results, torch.Tensor) else tuple(results)
        grad = torch.rand_like(results[0])
        tensors = [v for v in constants if isinstance(v, torch.Tensor)]
        names = [v for v in constants if isinstance(v, str)]
        # The softmax is its own derivative's only input.
        saved = results if name == "segment_softmax" else (*tensors, *results, *names)
        yield f"{name}_backward", (grad, *saved, *layout)
    yield "sort_index", (segments.index, 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", range(19))
def test_opcheck(case, dtype):
    name, args = list(samples(dtype))[case]
    torch.library.opcheck(getattr(torch.ops.graphpool, name).default, args)


def test_opcheck_covers_every_op():
    known = {
        name.removeprefix("graphpool::")
        for name in torch._C._dispatch_get_all_op_names()
        if name.startswith("graphpool::")
    }
    assert known == {name for name, _ in samples(torch.float32)}


@pytest.mark.parametrize("name", OPS)
def test_compiles_in_one_graph(name):
    x, segments, _ = problem(gathered=False, weighted=False)
    index = segments.index

    def fn(x, index):
        return OPS[name](x, Segments(index=index, num_segments=S))

    compiled = torch.compile(fn, fullgraph=True, backend="aot_eager")
    direction = torch.randn_like(fn(x, index))
    (expected,) = torch.autograd.grad(fn(x, index), x, direction)
    (found,) = torch.autograd.grad(compiled(x, index), x, direction)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_accumulated_in_float32(dtype):
    x = torch.ones(70_000, 1, dtype=dtype)
    segments = Segments(ptr=torch.tensor([0, 70_000]))
    assert ops.segment_mean(x, segments).item() == 1
    assert ops.segment_softpool(x, segments, 1.0).item() == 1
    assert ops.segment_sum(x[:4096], Segments(ptr=torch.tensor([0, 4096]))).item() == 4096


def test_nan_and_infinities_stay_in_their_bag_and_channel():
    x = torch.rand(9, 3) + 0.5
    x[1, 0], x[4, 1], x[8, 2] = torch.nan, torch.inf, -torch.inf
    segments = Segments(ptr=torch.tensor([0, 3, 6, 9]))
    clean = torch.ones(3, 3, dtype=torch.bool)
    clean[0, 0] = clean[1, 1] = clean[2, 2] = False
    for name, op in OPS.items():
        values = x[:, [0, 1, 2, 2]]
        y = op(values, segments).reshape(-1, 3, 4)[..., :3]
        assert y[:, clean].isfinite().all(), name
        assert y[:, 0, 0].isnan().all(), name
        with use_backend("torch"):
            reference = op(values, segments).reshape(-1, 3, 4)[..., :3]
        if name not in ("var", "moments"):
            torch.testing.assert_close(y, reference, equal_nan=True)


@pytest.mark.parametrize("name", OPS)
def test_weight_repeats_elements(name):
    x, segments, options = problem(gathered=False, weighted=True)
    times = options["weight"].long()
    index = segments.index.repeat_interleave(times)
    direction = torch.randn_like(OPS[name](x, segments))
    repeated = OPS[name](x.repeat_interleave(times, 0), Segments(index=index, num_segments=S))
    weighted = OPS[name](x, segments, weight=times)
    torch.testing.assert_close(weighted, repeated)
    (found,) = torch.autograd.grad(weighted, x, direction)
    (expected,) = torch.autograd.grad(repeated, x, direction)
    torch.testing.assert_close(found, expected)
