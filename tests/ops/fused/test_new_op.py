"""A new fused op is four functions and one declaration; everything else comes with them."""

from __future__ import annotations

import pytest
import torch

from graphpool import Segments, explain, use_backend
from graphpool.ops import dispatch, reference
from graphpool.ops.fused.fused_op import FusedOp

DECLARED = "toy_weighted_squares"


def shapes(x, a, layout):
    return ((layout.bags, x.shape[1]),)


def forward(x, a, at, out):
    for bag in range(len(out)):
        out[bag] = (a * x[at.ptr[bag] : at.ptr[bag + 1]] ** 2).sum(0)


def backward(grad, x, a, at, grad_x, grad_a):
    grad_x[:] = 2 * a * x * grad[at.bag_of]
    grad_a[:] = (x**2 * grad[at.bag_of]).sum(0)


def composed(x, a, layout):
    return reference.segment_sum(a * x * x, layout.segments())


@pytest.fixture(scope="module")
def op():
    toy = FusedOp(DECLARED, "x[R,C] a[C]", "out", shapes, forward, backward, composed, reads="x a")
    toy.serves(DECLARED)(lambda x, segments, a: toy((x, a), segments, None, None))
    yield toy
    del dispatch.FUSED[DECLARED]


SEGMENTS = Segments(ptr=torch.tensor([0, 2, 2, 5]))


def inputs(dtype=torch.float64):
    made = torch.rand(5, 3, dtype=dtype), torch.rand(3, dtype=dtype)
    return tuple(v.requires_grad_() for v in made)


def test_it_is_an_operator_with_two_derivatives(op):
    def call(*inputs):
        return op(inputs, SEGMENTS, None, None)

    x, a = inputs()
    expected = torch.stack([(a * x[i:j] ** 2).sum(0) for i, j in ((0, 2), (2, 2), (2, 5))])
    torch.testing.assert_close(call(x, a), expected)
    assert torch.autograd.gradcheck(call, (x, a))
    assert torch.autograd.gradgradcheck(call, (x, a))


def test_it_is_traced(op):
    x, a = inputs()
    compiled = torch.compile(
        lambda *v: op(v, SEGMENTS, None, None), fullgraph=True, backend="aot_eager"
    )
    (expected,) = torch.autograd.grad(op((x, a), SEGMENTS, None, None).cos().sum(), a)
    (found,) = torch.autograd.grad(compiled(x, a).cos().sum(), a)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_pytorch_finds_nothing_wrong(op, dtype):
    x, a = inputs(dtype)
    layout = (SEGMENTS.ptr, None, SEGMENTS.index, None, None, None, None)
    operators = torch.ops.graphpool
    torch.library.opcheck(operators.toy_weighted_squares.default, (x, a, *layout))
    x, a = x.detach(), a.detach()
    out = operators.toy_weighted_squares(x, a, *layout)
    args = (torch.rand_like(out), x, a, out, *layout)
    torch.library.opcheck(operators.toy_weighted_squares_backward.default, args)


def test_it_is_chosen_and_explained(op):
    x, a = inputs()
    assert "fused CPU kernel" in explain(DECLARED, x)
    kernel = dispatch.fused(DECLARED, x)
    torch.testing.assert_close(kernel(x, SEGMENTS, a), op((x, a), SEGMENTS, None, None))
    with use_backend("torch"):
        assert dispatch.fused(DECLARED, x) is None
