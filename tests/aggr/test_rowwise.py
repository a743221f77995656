from __future__ import annotations

import pytest
import torch

from graphpool.aggr.rowwise import rowwise


def function(x, y):
    return (x * y).sum(-1, keepdim=True).tanh() * x


@pytest.fixture(params=[1, 10, 1 << 17])
def inputs(monkeypatch, request):
    monkeypatch.setattr("graphpool.aggr.rowwise._CHUNK", request.param)
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 7, 3, generator=generator, dtype=torch.float64)
    return x.requires_grad_(), y.requires_grad_()


def test_values_and_two_derivatives(inputs):
    torch.testing.assert_close(rowwise(function, *inputs), function(*inputs))
    assert torch.autograd.gradcheck(lambda *v: rowwise(function, *v), inputs)
    assert torch.autograd.gradgradcheck(lambda *v: rowwise(function, *v), inputs)


def test_inputs_without_derivative_get_none(inputs):
    x, y = inputs[0], inputs[1].detach()
    actual, expected = (
        torch.autograd.grad(f.square().sum(), x) for f in (rowwise(function, x, y), function(x, y))
    )
    torch.testing.assert_close(actual, expected)


def test_no_rows():
    x = torch.zeros(0, 3, requires_grad=True)
    y = rowwise(function, x, x)
    assert y.shape == (0, 3)
    assert torch.autograd.grad(y.sum(), x)[0].shape == (0, 3)


def test_nothing_but_the_inputs_is_kept_for_the_backward_pass():
    x, kept = torch.randn(100, 5, requires_grad=True), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        rowwise(lambda v: v.exp().sin().cos(), x)
    assert [t.data_ptr() for t in kept] == [x.data_ptr()]
