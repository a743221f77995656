"""Linear layers whose results lie on large pages: the same bits, and nobody is passed over."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import graphpool.nn
from graphpool import Segments, _memory, aggr
from graphpool.nn import affine, through


@pytest.fixture
def used(monkeypatch):
    """Every result counts as large; how many were made."""
    calls, apply = [], graphpool.nn._Affine.apply
    monkeypatch.setattr(_memory, "_LARGE", 0)

    def counted(*args):
        calls.append(args)
        return apply(*args)

    monkeypatch.setattr(graphpool.nn._Affine, "apply", counted)
    return calls


def with_gradients(function, x, layer):
    x = x.clone().requires_grad_()
    y = function(x)
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)
    return [y.detach(), *torch.autograd.grad(y, [x, *layer.parameters()], grad)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_same_bits_as_the_layer(used, bias, relu, dtype):
    torch.manual_seed(0)
    layer, x = nn.Linear(7, 5, bias=bias, dtype=dtype), torch.randn(40, 7, dtype=dtype)
    x[3] = torch.nan
    expected = with_gradients(lambda v: layer(v).relu() if relu else layer(v), x, layer)
    found = with_gradients(lambda v: affine(layer, v, relu), x, layer)
    assert len(used) == 1
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("relu", [True, False])
def test_both_derivatives_are_those_of_finite_differences(used, relu):
    torch.manual_seed(0)
    layer = nn.Linear(4, 3).double()
    x = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    inputs = (x, layer.weight, layer.bias)

    def function(x, weight, bias):
        return graphpool.nn._Affine.apply(x, weight, bias, relu)

    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


def test_only_what_is_asked_for_is_differentiated(used):
    layer, x = nn.Linear(4, 3), torch.randn(6, 4)
    layer.bias.requires_grad_(False)
    affine(layer, x).sum().backward()
    assert x.grad is None and layer.bias.grad is None and layer.weight.grad is not None


def test_layers_in_a_row(used):
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3))
    x = torch.randn(20, 4)
    expected = with_gradients(layers, x, layers)
    found = with_gradients(lambda v: through(layers, v), x, layers)
    assert [call[3] for call in used] == [True, False, False]
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("watched", [0, 1])
def test_hooks_fire(used, watched):
    layers, x = nn.Sequential(nn.Linear(4, 6), nn.ReLU()), torch.randn(20, 4)
    seen = []
    layers[watched].register_forward_hook(lambda *_: seen.append(_))
    assert torch.equal(through(layers, x), layers(x)) and len(seen) == 2


def test_who_else_must_hear_of_the_layer(used):
    class Twice(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    class Marked(torch.Tensor):
        pass

    x = torch.randn(8, 4)
    other, layer = Twice(4, 3), nn.Linear(4, 3)
    assert torch.equal(affine(other, x), other(x))
    assert type(affine(layer, x.as_subclass(Marked))) is Marked
    with torch.autocast("cpu", torch.bfloat16):
        assert affine(layer, x).dtype == torch.bfloat16
    assert affine(layer.bfloat16(), x.bfloat16()).dtype == torch.bfloat16
    layer.float()
    tangent = torch.func.jvp(lambda v: affine(layer, v), (x,), (torch.ones_like(x),))[1]
    torch.testing.assert_close(tangent, layer.weight.sum(1).expand(8, 3))
    compiled = torch.compile(lambda v: affine(layer, v), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), layer(x))
    assert not used


@pytest.mark.parametrize("name, products", [("attsets", 1), ("deepsets", 1), ("isab", 15)])
def test_pools_train_by_it(used, name, products):
    torch.manual_seed(0)
    pool, x = aggr.resolve(name, channels=8).double(), torch.randn(50, 8, dtype=torch.float64)
    segments = Segments(index=torch.arange(50) // 7, num_segments=9)
    found = with_gradients(lambda v: pool(v, segments), x, pool)
    assert len(used) == products
    handle = pool.register_forward_hook(lambda *_: None)
    for module in pool.modules():
        module.register_forward_hook(lambda *_: None)
    expected = with_gradients(lambda v: pool(v, segments), x, pool)
    handle.remove()
    assert len(used) == products
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_small_results_are_those_of_the_layer(monkeypatch):
    monkeypatch.setattr(graphpool.nn._Affine, "apply", lambda *_: pytest.fail("not large"))
    affine(nn.Linear(4, 3), torch.randn(8, 4))
