"""Norms of several exponents and of both signs, and soft maxima with a temperature, by plain arithmetic."""

from __future__ import annotations

import pytest
import torch

from graphpool import Segments, ops, use_backend

INDEX = torch.tensor([0, 2, 0, 3, 3, 0, 2, 2, 0, 3])
BAGS = Segments(index=INDEX, num_segments=4)
LONG = Segments(ptr=torch.tensor([0, 40_000, 40_000, 40_010]))
P = torch.tensor([[3.0, 0.5], [-2.0, -1.0]], dtype=torch.float64)
Q = torch.tensor([[0.25], [-0.5]], dtype=torch.float64)


def elements(count=10):
    return torch.randn(count, 2, dtype=torch.float64)


def of_side(x, side):
    """One norm after the other, of a plain matrix: ``[K, C]``."""
    a = x.abs() if side == 0 else (side * x).clamp(min=0)
    # 0 is the limit of a small number.
    return len(x) ** -Q * (a.clamp(min=1e-300) ** P[:, None]).sum(1) ** (1 / P)


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("negative", ["abs", "clamp", "split"])
def test_norms_of_several_exponents_and_signs(backend, negative):
    x = elements()
    x[INDEX == 2] = x[INDEX == 2].abs()  # a bag with nothing below zero
    with use_backend(backend):
        y = ops.segment_power(x, BAGS, P, Q, negative=negative)
    for bag in (0, 2, 3):
        rows = x[bag == INDEX]
        expected = of_side(rows, 0 if negative == "abs" else 1)
        if negative == "split":
            expected = expected - of_side(rows, -1)
        torch.testing.assert_close(y[bag], expected)
    assert not y[1].any()


@pytest.mark.parametrize("segments", [BAGS, LONG])
def test_exponents_together_are_the_exponents_one_by_one(segments):
    x = elements(segments.num_elements).float().requires_grad_()
    p, q = P.float(), Q.float()
    together = ops.segment_power(x, segments, p, q)
    single = [ops.segment_power(x, segments, a, b.expand(2)) for a, b in zip(p, q, strict=True)]
    assert torch.equal(together, torch.stack(single, 1))
    direction = torch.randn_like(together)
    found = torch.autograd.grad(together, x, direction)
    expected = torch.autograd.grad(torch.stack(single, 1), x, direction)
    torch.testing.assert_close(found, expected)


def test_an_unknown_policy_is_refused():
    with pytest.raises(ValueError, match="`negative` must be one of"):
        ops.segment_power(elements(), BAGS, 2.0, negative="drop")


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("tau", [0.3, 2.0, -0.7])
@pytest.mark.parametrize("segments", [BAGS, LONG])
@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_logsumexp_with_a_temperature(backend, segments, tau, mean):
    x = elements(segments.num_elements)
    temperature = torch.tensor(tau, dtype=torch.float64, requires_grad=True)
    with use_backend(backend):
        y = ops.segment_logsumexp(x, segments, tau=temperature, mean=mean)
    expected = []
    for bag in range(segments.num_segments):
        rows = x[segments.index == bag]
        size = torch.tensor(len(rows), dtype=torch.float64).log() if mean else 0.0
        total = temperature * ((rows / temperature).logsumexp(0) - size)
        expected.append(total if len(rows) else torch.zeros(2, dtype=torch.float64))
    expected = torch.stack(expected)
    torch.testing.assert_close(y, expected)
    direction = torch.randn_like(y)
    found = torch.autograd.grad(y, temperature, direction)
    torch.testing.assert_close(found, torch.autograd.grad(expected, temperature, direction))


def test_the_derivative_by_the_temperature_far_from_the_origin_is_that_near_it():
    x = torch.tensor([[0.0], [1.0], [2.0]])
    bag, tau = Segments(ptr=torch.tensor([0, 3])), torch.tensor(1.5, requires_grad=True)
    near, far = (ops.segment_logsumexp(x + v, bag, tau=tau).sum() for v in (0.0, 2.0**22))
    (expected,) = torch.autograd.grad(near, tau)
    (found,) = torch.autograd.grad(far, tau)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("tau", [0.0, torch.inf, torch.nan])
def test_a_temperature_without_value_is_refused(tau):
    with pytest.raises(ValueError, match="`tau` must be finite and not 0"):
        ops.segment_logsumexp(elements(), BAGS, tau=tau)


def test_scores_that_overflow_still_tell_elements_apart():
    x = torch.tensor([[1e20], [2e20], [-1e20]])
    y = ops.segment_softpool(x, Segments(ptr=torch.tensor([0, 3])), 1e30)
    assert y.item() == x[1].item()
