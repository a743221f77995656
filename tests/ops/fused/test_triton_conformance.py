"""Every pool that reaches a Triton kernel passes the conformance points on those kernels, interpreted.

The pools are given CPU tensors, and the Triton kernels take the place of the CPU kernels in the ops.
"""

from __future__ import annotations

import os

import pytest
import torch

pytest.importorskip("triton", reason="not tried: triton is not installed: pip install triton")

from graphpool import Segments, aggr, ops, testing  # noqa: E402
from graphpool.ops import dispatch  # noqa: E402
from graphpool.ops.fused import fused_op  # noqa: E402

CHANNELS = 8
CAN_RUN = os.environ.get("TRITON_INTERPRET") == "1"
POINTS = ("forms", "unsorted", "empty", "weights", "ties", "half")
# Derivatives of both orders take thousands of launches: one pool for each family of kernels.
DIFFERENTIATED = ("sum", "var", "max", "softmax", "attsets", "logsumexp", "gnp")
runs = pytest.mark.skipif(not CAN_RUN, reason="runs in a process of its own, below")


@pytest.fixture
def reached(monkeypatch):
    """The names of the ops that ran on Triton, with the CPU kernels put aside.

    What has no Triton kernel is composed of what has one, as on CUDA.
    """
    from graphpool.ops.fused.cuda import ops as cuda_ops

    dispatch.load()
    # On the CPU its own kernels are called without the dispatcher, which the others are put into here.
    monkeypatch.setattr(fused_op, "is_plain", lambda args: False)
    names: set[str] = set()

    def on_triton(name):
        def run(*args):
            names.add(name)
            return getattr(cuda_ops, name)(*args)

        return run

    for public, served in list(dispatch.FUSED.items()):
        if not hasattr(cuda_ops, served.operator):
            monkeypatch.delitem(dispatch.FUSED, public)
            continue
        for name, operator in dispatch.OPERATORS[served.operator].operators.items():
            monkeypatch.setitem(operator._backend_fns, "cpu", on_triton(name))
    return names


def make(name):
    torch.manual_seed(0)
    return aggr.resolve(name, channels=CHANNELS, **aggr.lookup(name).example_arguments)


@runs
@pytest.mark.parametrize("name", aggr.names())
def test_points(name, reached):
    for point in POINTS:
        testing.check(point, make(name), CHANNELS)
    if not reached:
        pytest.skip("a pool of no op that has a Triton kernel")


@runs
@pytest.mark.parametrize("name", DIFFERENTIATED)
def test_derivatives(name, reached):
    testing.check("gradients", make(name), CHANNELS)
    assert any(op.endswith("_backward") for op in reached)


@runs
def test_softmax_of_each_element(reached):
    """The shares that ``SoftPool.attention`` gives, which no pool asks for."""
    x = torch.randn(9, 4, dtype=torch.float64, requires_grad=True)
    segments = Segments(index=torch.tensor([2, 0, 2, 2, 4, 0, 4, 4, 2]), num_segments=6)
    share = ops.segment_softmax(x, segments)
    for bag in range(6):
        rows = segments.index == bag
        torch.testing.assert_close(share[rows], x[rows].softmax(0))
    assert torch.autograd.gradcheck(lambda x: ops.segment_softmax(x, segments), (x,))
    assert reached == {"segment_softmax", "segment_softmax_backward"}


@pytest.mark.slow
@pytest.mark.skipif(CAN_RUN, reason="runs above")
def test_in_the_interpreter(passes_interpreted):
    passes_interpreted(__file__, timeout=1800)
