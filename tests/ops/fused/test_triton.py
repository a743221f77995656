"""The Triton kernels, run by Triton's interpreter on the CPU, against the CPU kernels."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton", reason="not tried: triton is not installed: pip install triton")

from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402

from graphpool import Segments, explain  # noqa: E402
from graphpool.ops import dispatch  # noqa: E402
from graphpool.ops.fused.cuda import launch as cuda_launch  # noqa: E402
from graphpool.ops.fused.cuda import ops as cuda_ops  # noqa: E402
from graphpool.ops.fused.layout import Layout  # noqa: E402

CASES = ["plain", "unsorted weighted", "gathered", "gathered unsorted weighted", "pieces", "empty"]


@pytest.fixture(params=CASES)
def case(request, monkeypatch):
    name = request.param
    # Of four bags one is empty and one has more than a block, 16 elements. The interpreter takes its time.
    elements, bags = (0, 3) if name == "empty" else (46, 4)
    if name == "pieces":
        monkeypatch.setattr(cuda_launch, "_PIECE", 4)
        bags = 2
    index = torch.randint(bags, (elements,))
    index = torch.where(index == 1, 0, index)
    index = index if "unsorted" in name else index.sort()[0]
    gathered = "gathered" in name
    rows = 9 if gathered else elements
    weight = (
        torch.randint(0, 3, (elements,)).float() if "weighted" in name or name == "pieces" else None
    )
    gather = torch.randint(rows, (elements,)) if gathered else None
    segments = Segments(index=index, num_segments=bags)
    layout = Layout.of(segments, weight, gather, rows, True)
    return rows, elements, layout


@pytest.fixture
def launch(triton_device):
    """Calls an op on the Triton kernels, with results on the CPU."""

    def run(name: str, *inputs) -> tuple:
        inputs = [v.to(triton_device) if isinstance(v, torch.Tensor) else v for v in inputs]
        found = getattr(cuda_ops, name)(*inputs)
        return tuple(v.cpu() for v in ((found,) if isinstance(found, torch.Tensor) else found))

    return run


@pytest.fixture
def launched(call):
    """An op that has Triton kernels."""
    if not hasattr(cuda_ops, call.op.name):
        pytest.skip("composed on CUDA, where it has no kernel")
    return call


@pytest.fixture
def check(launch):
    """Compares an op on both kinds of kernel, and returns what the CPU kernels give."""

    def run(name: str, *inputs) -> tuple:
        cpu = getattr(torch.ops.graphpool, name)(*inputs)
        cpu = (cpu,) if isinstance(cpu, torch.Tensor) else tuple(cpu)
        for a, b in zip(launch(name, *inputs), cpu, strict=True):
            torch.testing.assert_close(a, b, atol=2e-5, rtol=2e-4, equal_nan=True)
        return cpu

    return run


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_op(launched, case, dtype, check):
    call = launched
    rows, elements, layout = case
    layout = layout._replace(weight=None if layout.weight is None else layout.weight.to(dtype))
    # Elements tie, and scores are far from 0.
    x = (torch.randn(rows, 6, dtype=dtype) * 3).round() + 0.25
    inputs = [v.detach() for v in call.inputs(x, elements)]
    forward, backward, *_ = call.op.operators
    outputs = check(forward, *inputs, *call.option, *layout)
    grad = torch.randn_like(outputs[0])
    check(backward, grad, *inputs, *outputs, *call.option, *layout)


def test_softmax_of_large_scores_without_the_bags_of_elements(case, check):
    rows, _, layout = case
    score = torch.randn(rows, 5) * 3 + 1e3
    check("segment_softmax", score, *layout)
    check("segment_softmax", score, *layout._replace(bag_of=None))


def test_no_channels(launched, launch):
    call = launched
    layout = Layout.of(Segments(ptr=torch.tensor([0, 2, 2])), None, None, 2, True)
    inputs = [v.detach() for v in call.inputs(torch.ones(2, 0), 2)]
    found = launch(call.op.name, *inputs, *call.option, *layout)[0]
    expected = getattr(torch.ops.graphpool, call.op.name)(*inputs, *call.option, *layout)
    expected = expected if isinstance(expected, torch.Tensor) else expected[0]
    assert found.shape == expected.shape and not expected.numel()


def test_nan_and_infinities(check):
    x = torch.tensor([[1.0, torch.nan], [torch.inf, 2.0], [-torch.inf, 3.0], [4.0, torch.inf]])
    layout = Layout.of(Segments(ptr=torch.tensor([0, 1, 2, 4])), None, None, 4, True)
    check("segment_softpool", x, torch.ones(2), *layout)
    check("segment_logsumexp", x, torch.ones(2), "sum", *layout)
    check("segment_softmax", x, *layout)
    check("segment_power", x, torch.tensor([[2.0, -1.0]]), torch.zeros(1, 2), "abs", *layout)
    check("segment_moments", x, "min,max", *layout)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_accumulated_in_float32(dtype, check):
    x = torch.ones(3000, 1, dtype=dtype)
    layout = Layout.of(Segments(ptr=torch.tensor([0, 3000])), None, None, 3000, True)
    (total,), _ = check("segment_moments", x, "sum", *layout)
    assert total.item() == 3000


def test_tensors_on_cuda_go_to_these_kernels():
    dispatch.load()
    with FakeTensorMode():
        x = torch.empty(20, 3, device="cuda")
    for name in dispatch.FUSED:
        has_kernel = hasattr(cuda_ops, dispatch.FUSED[name].operator)
        told = "fused CUDA kernel (Triton)" if has_kernel else f"{name} has no CUDA kernel"
        assert told in explain(name, x)


def test_every_fused_op_is_registered_for_cuda():
    dispatch.load()
    for op in dispatch.OPERATORS.values():
        for name in list(op.operators)[:2]:
            assert torch._C._dispatch_has_kernel_for_dispatch_key(f"graphpool::{name}", "CUDA")
            kinds = ("pick", "sort", "mixed", "ranked", "standardized")
            composed = name.startswith(("toy", *(f"segment_{kind}" for kind in kinds)))
            assert composed != callable(getattr(cuda_ops, name, None))


@pytest.mark.slow
def test_in_the_interpreter(passes_interpreted):
    passes_interpreted(__file__, timeout=600)
