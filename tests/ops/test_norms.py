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


class TestMixedMeans:
    """Two power means and the mean in one pass, against three calls of the ops that they are."""

    P = torch.tensor([3.5, -2.5], dtype=torch.float64)
    MIX = torch.tensor([[0.6], [-0.3], [0.8]], dtype=torch.float64)

    @staticmethod
    def formula(x, segments, p, mix, g, weight=None):
        norms = [ops.segment_power(x, segments, v, 1 / v, weight) for v in p]
        mean = ops.segment_mean(x, segments, weight)
        n = ops.segment_sum(
            torch.ones_like(x[:, :1]) if weight is None else weight[:, None], segments
        )
        whole = ops.segment_mean(x.abs(), segments, weight)
        sign = mean / torch.where(n == 0, 1, whole)
        y = sign * (mix[0] * norms[0] + mix[1] * norms[1]) + mix[2] * mean
        return torch.where(n == 0, 1, n) ** g * y

    @pytest.mark.parametrize("channels", [1, 8, 19])
    @pytest.mark.parametrize("positive", [True, False])
    @pytest.mark.parametrize("weighted", [True, False])
    def test_are_the_formula_with_all_derivatives(self, channels, positive, weighted):
        torch.manual_seed(0)
        # A long bag, which is taken in pieces, some short ones and an empty one.
        counts = torch.tensor([140_000 // channels, 3, 0, 70, 129, 1])
        segments = Segments.from_counts(counts)
        x = torch.randn(segments.num_elements, channels, dtype=torch.float64)
        x = x.abs() if positive else x
        weight = torch.randint(0, 3, (len(x),)).double() if weighted else None
        weight = None if weight is None else weight.index_fill(0, torch.tensor([len(x) - 1]), 2.0)
        g = torch.tensor(0.3, dtype=torch.float64)
        inputs = [v.clone().requires_grad_() for v in (x, self.P, self.MIX, g)]
        y = ops.segment_mixed_means(inputs[0], segments, *inputs[1:], weight)
        expected = self.formula(inputs[0], segments, *inputs[1:], weight)
        torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-12)
        grad = torch.randn_like(y)
        found = torch.autograd.grad(y, inputs, grad)
        torch.testing.assert_close(
            found, torch.autograd.grad(expected, inputs, grad), rtol=1e-8, atol=1e-12
        )

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("order", ["sorted", "unsorted", "gathered"])
    def test_in_other_precisions_and_orders(self, dtype, order):
        torch.manual_seed(0)
        index = torch.randint(0, 30, (800,))
        segments = Segments(index if order == "unsorted" else index.sort()[0], num_segments=32)
        gather = torch.randint(0, 300, (800,)) if order == "gathered" else None
        x = torch.randn(300 if order == "gathered" else 800, 20).to(dtype).requires_grad_()
        exact = x.detach().double().requires_grad_()
        p, mix, g = self.P.float(), self.MIX.float(), torch.tensor(0.3)
        y = ops.segment_mixed_means(x, segments, p, mix, g, gather=gather)
        rows = exact if gather is None else exact[gather]
        expected = self.formula(rows, segments, p.double(), mix.double(), g.double())
        tolerance = (
            {"rtol": 2e-5, "atol": 2e-6} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 2e-2}
        )
        torch.testing.assert_close(y.double(), expected, **tolerance)
        grad = torch.randn_like(y)
        (found,) = torch.autograd.grad(y, x, grad)
        (reference,) = torch.autograd.grad(expected, exact, grad.double())
        torch.testing.assert_close(found.double(), reference, **tolerance)

    @pytest.mark.parametrize("backend", ["fused", "torch"])
    def test_are_odd_with_their_derivatives_where_elements_are_infinite(self, backend):
        torch.manual_seed(0)
        # The last bag is long, and taken in pieces.
        counts = torch.tensor([3, 3, 2, 2, 140_000])
        segments, first = Segments.from_counts(counts), counts.cumsum(0) - counts
        x = torch.randn(segments.num_elements, 1, dtype=torch.float64)
        x[first] = torch.tensor([torch.inf, -torch.inf, -1, 0.0, -torch.inf]).double()[:, None]
        x[first[2] + 1], x[first[3] + 1] = -2, 0
        g = torch.tensor(0.3, dtype=torch.float64)
        found = []
        for sign in (1, -1):
            signed = (sign * x).requires_grad_()
            with ops.use_backend(backend):
                y = ops.segment_mixed_means(signed, segments, self.P, self.MIX, g)
                (grad,) = torch.autograd.grad(y[:3].sum(), signed)
            found.append((y.detach() * sign, grad))
        y, grad = found[0]
        expected = torch.tensor([torch.inf, -torch.inf, y[2, 0], 0, -torch.inf]).double()
        assert torch.equal(y[:, 0], expected)
        assert torch.equal(y, found[1][0]) and torch.equal(grad, found[1][1])
        assert y[2] < 0 and bool(grad[first[2] : first[2] + 2].isfinite().all())

    @pytest.mark.parametrize("p", [torch.tensor([-1.0, 1.0]), torch.tensor([torch.inf, -1.0])])
    def test_exponents_out_of_range(self, p):
        with pytest.raises(ValueError, match="the first above 0"):
            ops.segment_mixed_means(elements(), BAGS, p, self.MIX, torch.tensor(0.0))

    def test_shapes_and_types_are_checked(self):
        with pytest.raises(ValueError, match=r"`mix` must have shape \(3, \d+\) or \(3, 1\)"):
            ops.segment_mixed_means(elements(), BAGS, self.P, self.MIX[:2], torch.tensor(0.0))
        with pytest.raises(TypeError, match="`growth`"):
            ops.segment_mixed_means(elements(), BAGS, self.P, self.MIX, 0.0)
