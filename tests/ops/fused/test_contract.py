"""What PyTorch asks of a custom op: derivatives of both orders, tracing, and honest registration."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from graphpool import Segments, ops, use_backend
from graphpool.ops import dispatch
from graphpool.testing.ops import segment_functions

dispatch.load()
FUNCTIONS = {name: f for name, f in segment_functions().items() if name in dispatch.FUSED}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("gathered", [False, True])
def test_derivatives_of_both_orders(call, problem, gathered, weighted):
    x, segments, weight, gather = problem(gathered, weighted)
    inputs = call.inputs(x, segments.num_elements)

    def fn(*inputs):
        return call.fused(inputs, segments, weight, gather)

    assert torch.autograd.gradcheck(fn, inputs)
    # Fast: along random directions, which see an error of any entry.
    assert torch.autograd.gradgradcheck(fn, inputs, fast_mode=True)


@pytest.mark.parametrize("gathered", [False, True])
def test_derivatives_with_respect_to_the_weight(learner, problem, gathered):
    x, segments, weight, gather = problem(gathered, True)
    inputs = learner.inputs(x, segments.num_elements)
    # Where weights are 0 an extremum jumps.
    weight = (weight + 0.5).requires_grad_()

    def fn(weight, *inputs):
        return learner.fused(inputs, segments, weight, gather)

    assert torch.autograd.gradcheck(fn, (weight, *inputs))
    assert torch.autograd.gradgradcheck(fn, (weight, *inputs), fast_mode=True)


def test_absent_elements_have_the_derivative_of_the_composed_form(learner, problem):
    x, segments, weight, _ = problem(weighted=True)
    # One that is absent lies far above, or below, all others of its bag.
    x[weight == 0] *= 1e6
    inputs = learner.inputs(x, segments.num_elements)
    weight.requires_grad_()
    y = learner.fused(inputs, segments, weight, None)
    reference = learner.composed(inputs, segments, weight, None)
    direction = torch.randn_like(y)
    found = torch.autograd.grad(y, weight, direction, allow_unused=True)
    expected = torch.autograd.grad(reference, weight, direction, allow_unused=True)
    if expected[0] is None:
        assert not found[0].any()
    else:
        torch.testing.assert_close(found, expected)


class Swallow(torch.autograd.Function):
    """Hands on its input, and no gradient to it."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return None


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_result_that_gets_no_gradient_passes_none_on(name, problem):
    x, segments, *_ = problem()
    x.requires_grad_()
    Swallow.apply(FUNCTIONS[name](x, segments)).sum().backward()
    assert x.grad is None or not x.grad.any()


lies = pytest.mark.parametrize("gathered, dtype", [(False, torch.float32), (True, torch.bfloat16)])
TRACED = "test_aot_dispatch_dynamic"
"""The part of opcheck that takes nine tenths of the time. See, too, ``test_compiles_in_one_graph``."""


def opcheck(call, made, device, parts):
    if device != "cpu" and not dispatch._launched_on_cuda(call.op.name):
        pytest.skip("composed on CUDA, where it has no kernel")
    x, segments, weight, gather = made
    inputs = call.inputs(x, segments.num_elements)
    for name, args in call.operators(inputs, segments, weight, gather):
        args = [moved(v, device) for v in args]
        torch.library.opcheck(getattr(torch.ops.graphpool, name).default, args, test_utils=parts)


@lies
def test_opcheck(call, problem, gathered, dtype, device):
    rest = ("test_schema", "test_autograd_registration", "test_faketensor")
    opcheck(call, problem(gathered, gathered, dtype), device, rest)


@pytest.mark.slow
@lies
def test_opcheck_with_tracing(call, problem, gathered, dtype, device):
    opcheck(call, problem(gathered, gathered, dtype), device, TRACED)


def test_opcheck_with_tracing_of_one_of_each_shape(shape, problem, device):
    opcheck(shape, problem(True, True, torch.bfloat16), device, TRACED)


def moved(value, device):
    """An argument of an operator on the device: still a leaf, if it is one that has a derivative."""
    if not isinstance(value, torch.Tensor):
        return value
    return value.detach().to(device).requires_grad_(value.requires_grad)


def test_opcheck_of_the_sort(device):
    index = torch.tensor([2, 0, 2, 1, 0], device=device)
    torch.library.opcheck(torch.ops.graphpool.sort_index.default, (index, 4))


def test_opcheck_covers_every_op():
    known = {
        name.removeprefix("graphpool::")
        for name in torch._C._dispatch_get_all_op_names()
        if name.startswith("graphpool::")
    }
    declared = {name for op in dispatch.OPERATORS.values() for name in op.operators}
    assert known == declared | {"sort_index"}


def test_every_fused_form_has_the_arguments_of_its_public_function():
    assert FUNCTIONS.keys() == dispatch.FUSED.keys() - {n for n in dispatch.FUSED if "toy" in n}
    for name, fused in dispatch.FUSED.items():
        if name in FUNCTIONS:
            public = inspect.signature(getattr(ops, name)).parameters
            assert list(inspect.signature(fused.form).parameters) == list(public)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_compiles_in_one_graph(name, problem):
    torch.compiler.reset()  # one function below is compiled for many names
    x, segments, *_ = problem()
    x.requires_grad_()
    index = segments.index

    def fn(x, index):
        return FUNCTIONS[name](x, Segments(index=index, num_segments=4))

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


def by_bag(y):
    """Results of three bags, one or ``K`` of each, or of four elements in each, as ``[K, 3, C]``."""
    y = y.view(3, 4, 4) if len(y) == 12 else y
    y = y.transpose(0, 1) if y.dim() == 3 else y.reshape(-1, 3, 4)
    return y[..., :3]


RANKED = ("segment_sort", "segment_topk")
"""To these a NaN is the largest element; the others come as they are."""


def test_nan_and_infinities_stay_in_their_bag_and_channel():
    x = torch.rand(12, 3) + 0.5
    x[1, 0], x[5, 1], x[11, 2] = torch.nan, torch.inf, -torch.inf
    segments = Segments(ptr=torch.tensor([0, 4, 8, 12]))
    clean = torch.ones(3, 3, dtype=torch.bool)
    clean[0, 0] = clean[1, 1] = clean[2, 2] = False
    for name, op in FUNCTIONS.items():
        values = x[:, [0, 1, 2, 2]]
        y = op(values, segments)
        with use_backend("torch"):
            reference = op(values, segments)
        if name in RANKED:
            torch.testing.assert_close(y, reference, equal_nan=True)
            assert y.isnan().sum() == 1
            continue
        y, reference = by_bag(y), by_bag(reference)
        assert y[:, clean].isfinite().all(), name
        assert y[:, 0, 0].isnan().all(), name
        if name not in (
            "segment_var",
            "segment_std",
            "segment_moments",
            "segment_standardized_moments",
        ):
            torch.testing.assert_close(y, reference, equal_nan=True)


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if n != "segment_sort"])
def test_weight_repeats_elements(name, problem):
    x, segments, weight, _ = problem(weighted=True)
    x.requires_grad_()
    times = weight.long()
    index = segments.index.repeat_interleave(times)
    direction = torch.randn_like(FUNCTIONS[name](x, segments))
    repeated = FUNCTIONS[name](x.repeat_interleave(times, 0), Segments(index=index, num_segments=4))
    if len(direction) == len(x):
        # What each of its copies gets is the element's together.
        origin = torch.arange(len(x)).repeat_interleave(times)
        repeated = torch.zeros_like(direction).index_add(0, origin, repeated)
    weighted = FUNCTIONS[name](x, segments, weight=times)
    torch.testing.assert_close(weighted, repeated)
    (found,) = torch.autograd.grad(weighted, x, direction)
    (expected,) = torch.autograd.grad(repeated, x, direction)
    torch.testing.assert_close(found, expected)


class _Listener(TorchDispatchMode):
    """Notes the operators that the dispatcher of PyTorch is told of."""

    def __init__(self):
        super().__init__()
        self.heard = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.heard.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("weighted", [False, True])
def test_the_dispatcher_is_told_where_somebody_listens(call, problem, weighted):
    x, segments, weight, _ = problem(False, weighted)
    inputs = call.inputs(x, segments.num_elements)

    def run():
        y = call.fused(inputs, segments, weight, None)
        return y, *torch.autograd.grad(y, inputs, torch.ones_like(y))

    plain = run()
    with _Listener() as listener:
        told = run()
    ours = [name for name in listener.heard if name.startswith("graphpool.segment")]
    assert [name.endswith("_backward.default") for name in ours] == [False, True]
    with torch.profiler.profile() as profile:
        run()
    names = {event.key for event in profile.key_averages()}
    assert all(name.removesuffix(".default").replace(".", "::") in names for name in ours)
    for value, expected in zip(plain, told, strict=True):
        assert torch.equal(value, expected) and value.requires_grad == expected.requires_grad
