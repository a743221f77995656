"""The Triton kernels, run by Triton's interpreter on the CPU, against the CPU kernels."""

from __future__ import annotations

import os

import pytest
import torch

pytest.importorskip("triton", reason="not tried: triton is not installed: pip install triton")

from graphpool import Segments  # noqa: E402
from graphpool.ops.fused import table as fused  # noqa: E402
from graphpool.ops.fused.cuda import launch as cuda_launch  # noqa: E402
from graphpool.ops.fused.cuda import ops as cuda_ops  # noqa: E402
from graphpool.ops.fused.layout import Layout  # noqa: E402

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CAN_RUN = DEVICE == "cuda" or os.environ.get("TRITON_INTERPRET") == "1"
runs = pytest.mark.skipif(not CAN_RUN, reason="runs in a process of its own, below")
CASES = ["plain", "unsorted weighted", "gathered", "gathered unsorted weighted", "pieces", "empty"]


@pytest.fixture(params=CASES)
def case(request, monkeypatch):
    name = request.param
    elements, bags = (0, 3) if name == "empty" else (70, 6)
    if name == "pieces":
        monkeypatch.setattr(cuda_launch, "_PIECE", 4)
        bags = 2
    index = torch.randint(bags, (elements,))
    index = index if "unsorted" in name else index.sort()[0]
    # One bag stays empty.
    index = torch.where(index == 1, 0, index)
    gathered = "gathered" in name
    rows = 13 if gathered else elements
    weight = (
        torch.randint(0, 3, (elements,)).float() if "weighted" in name or name == "pieces" else None
    )
    gather = torch.randint(rows, (elements,)) if gathered else None
    segments = Segments(index=index, num_segments=bags)
    layout = Layout.of(segments, weight, gather, rows, True)
    return rows, elements, layout


def check(name: str, *inputs) -> tuple:
    """The op on both kinds of kernel; returns what the CPU kernels give."""
    cpu = getattr(torch.ops.graphpool, name)(*inputs)
    on_device = [v.to(DEVICE) if isinstance(v, torch.Tensor) else v for v in inputs]
    found = getattr(cuda_ops, name)(*on_device)
    cpu, found = ((v,) if isinstance(v, torch.Tensor) else tuple(v) for v in (cpu, found))
    for a, b in zip(found, cpu, strict=True):
        torch.testing.assert_close(a.cpu(), b, atol=2e-5, rtol=2e-4, equal_nan=True)
    return cpu


@runs
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_softpool(case, dtype):
    rows, _, layout = case
    x, t = torch.randn(rows, 5, dtype=dtype), torch.randn(5, dtype=dtype)
    layout = layout._replace(weight=None if layout.weight is None else layout.weight.to(dtype))
    found = check("segment_softpool", x, t, *layout)
    check("segment_softpool_backward", torch.randn_like(found[0]), x, t, *found, *layout)


@runs
@pytest.mark.parametrize("heads", [1, 2, 6])
def test_softmax_sum(case, heads):
    rows, elements, layout = case
    score, value = torch.randn(elements, heads), torch.randn(rows, 6)
    found = check("segment_softmax_sum", score, value, *layout)
    grad = torch.randn_like(found[0])
    check("segment_softmax_sum_backward", grad, score, value, *found, *layout)


@runs
def test_logsumexp(case):
    rows, _, layout = case
    x = torch.randn(rows, 5)
    lse, kept = check("segment_logsumexp", x, *layout)
    check("segment_logsumexp_backward", torch.randn_like(lse), x, lse, kept, *layout)


@runs
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_softmax(case, dtype):
    rows, _, layout = case
    layout = layout._replace(weight=None if layout.weight is None else layout.weight.to(dtype))
    score = torch.randn(rows, 5, dtype=dtype) * 3 + 1e3
    (share,) = check("segment_softmax", score, *layout)
    check("segment_softmax_backward", torch.randn_like(share), share, *layout)
    check("segment_softmax", score, *layout._replace(bag_of=None))


@runs
def test_power(case):
    rows, _, layout = case
    x = torch.randn(rows, 5)
    p, q = torch.tensor([2.0, -1.5, 1.0, 7.0, -3.0]), torch.rand(5)
    out, norm, size = check("segment_power", x, p, q, *layout)
    grad = torch.randn_like(out)
    check("segment_power_backward", grad, x, p, q, out, norm, size, *layout)


@runs
@pytest.mark.parametrize("moments", ["sum", "mean", "max", "sum,mean,var,min,max"])
def test_moments(case, moments):
    rows, _, layout = case
    x = (torch.randn(rows, 5) * 3).round()
    out, tied = check("segment_moments", x, moments, *layout)
    check("segment_moments_backward", torch.randn_like(out), x, out, tied, moments, *layout)


@runs
def test_no_channels():
    layout = Layout.of(Segments(ptr=torch.tensor([0, 2, 2])), None, None, 2, True)
    check("segment_moments", torch.ones(2, 0), "sum,max", *layout)
    check("segment_logsumexp", torch.ones(2, 0), *layout)
    check("segment_softmax", torch.ones(2, 0), *layout)


@runs
def test_nan_and_infinities():
    x = torch.tensor([[1.0, torch.nan], [torch.inf, 2.0], [-torch.inf, 3.0], [4.0, torch.inf]])
    layout = Layout.of(Segments(ptr=torch.tensor([0, 1, 2, 4])), None, None, 4, True)
    check("segment_softpool", x, torch.ones(2), *layout)
    check("segment_logsumexp", x, *layout)
    check("segment_softmax", x, *layout)
    check("segment_power", x, torch.tensor([2.0, -1.0]), torch.zeros(2), *layout)
    check("segment_moments", x, "min,max", *layout)


@runs
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_accumulated_in_float32(dtype):
    x = torch.ones(3000, 1, dtype=dtype)
    layout = Layout.of(Segments(ptr=torch.tensor([0, 3000])), None, None, 3000, True)
    (total,), _ = check("segment_moments", x, "sum", *layout)
    assert total.item() == 3000


def test_every_fused_op_is_registered_for_cuda():
    assert fused.OPS
    for name in fused.CUDA:
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"graphpool::{name}", "CUDA")
        assert callable(getattr(cuda_ops, name))


@pytest.mark.skipif(CAN_RUN, reason="runs above")
def test_in_the_interpreter(passes_interpreted):
    passes_interpreted(__file__, timeout=600)
