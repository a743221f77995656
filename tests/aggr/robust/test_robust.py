"""Means that a minority cannot carry off, against loops and SciPy, and at their breakdown points."""

from __future__ import annotations

import pytest
import scipy.optimize
import scipy.stats
import torch

from graphpool import Segments, aggr
from graphpool.ops import segment_trimmed_mean

DOUBLE = torch.float64


@pytest.mark.parametrize("n", [1, 2, 5, 20])
@pytest.mark.parametrize("trim", [0.0, 0.1, 0.25, 0.49])
def test_trimmed_mean_cuts_elements(n, trim):
    x = torch.randn(n, 3, dtype=DOUBLE)
    fine = 100 * n  # so many equal parts of the bag, of which whole ones are left out
    cut = round(trim * fine)
    parts = x.sort(0).values.repeat_interleave(100, 0)[cut : fine - cut]
    torch.testing.assert_close(aggr.TrimmedMean(trim=trim)(x)[0], parts.mean(0))


def test_trimmed_mean_is_scipys_where_it_cuts_none():
    x = torch.randn(20, 1, dtype=DOUBLE)
    for trim in (0.05, 0.1, 0.25):
        expected = scipy.stats.trim_mean(x.flatten().numpy(), trim)
        assert float(aggr.TrimmedMean(trim=trim)(x)) == pytest.approx(expected, rel=1e-13)


def test_trimmed_mean_of_infinities_and_nan():
    pool, inf = aggr.TrimmedMean(trim=0.25), torch.inf
    assert pool(torch.tensor([-inf, 1.0, 3.0, inf])).tolist() == [2.0]
    assert pool(torch.tensor([1.0, 2.0, 3.0, torch.nan])).isnan().all()


def test_weighted_median_is_that_of_copies():
    x, weight = torch.randn(30, 2, dtype=DOUBLE), torch.randint(0, 6, (30,))
    bags = Segments(index=torch.arange(30) % 4, num_segments=5)
    found = segment_trimmed_mean(x, bags, 0.5, weight)
    for s in range(4):
        copies = x.repeat_interleave(weight * (bags.index == s), 0)
        torch.testing.assert_close(found[s], copies.quantile(0.5, 0))
    assert not found[4].any()
    # Shares say as much as counts do.
    torch.testing.assert_close(segment_trimmed_mean(x, bags, 0.5, weight / 7.0), found)


def test_soft_median_is_its_formula(against_oracle):
    def oracle(x):
        middle = x.quantile(0.5, 0)
        far = (x - middle).norm(dim=1) / 8**0.5
        return (-far / 0.7).softmax(0) @ x

    against_oracle(aggr.SoftMedian(temperature=0.7), oracle)


def test_soft_median_between_its_limits():
    x = torch.randn(7, 4, dtype=DOUBLE)
    torch.testing.assert_close(aggr.SoftMedian(temperature=1e9)(x)[0], x.mean(0))
    middle = x.median(0).values
    nearest = x[(x - middle).norm(dim=1).argmin()]
    torch.testing.assert_close(aggr.SoftMedian(temperature=1e-4)(x)[0], nearest)
    shares = aggr.attention(aggr.SoftMedian(temperature=0.5), x)
    torch.testing.assert_close(shares.mT @ x, aggr.SoftMedian(temperature=0.5)(x))


@pytest.mark.parametrize("weighted", [False, True])
def test_geometric_median_has_the_least_sum_of_distances(weighted):
    x = torch.randn(15, 3, dtype=DOUBLE)
    weight = torch.rand(15, dtype=DOUBLE) + 0.5 if weighted else torch.ones(15, dtype=DOUBLE)

    def total(y):
        return float(((x - torch.tensor(y)).norm(dim=1) * weight).sum())

    best = scipy.optimize.minimize(total, x.mean(0).numpy(), method="Nelder-Mead", tol=1e-12)
    y = aggr.GeometricMedian(steps=60)(x, weight=weight if weighted else None)[0]
    assert torch.allclose(y, torch.tensor(best.x), atol=1e-5)
    # The derivative of the steps is that of what they lead to: moving all moves the result alike.
    x.requires_grad_()
    found = aggr.GeometricMedian(steps=60)(x)[0]
    (slope,) = torch.autograd.grad(found[0], x)
    torch.testing.assert_close(
        slope.sum(0), torch.tensor([1.0, 0, 0], dtype=DOUBLE), atol=1e-6, rtol=0
    )


def test_geometric_median_turns_with_the_elements():
    x = torch.randn(30, 3, dtype=DOUBLE)
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=DOUBLE)).Q
    pool = aggr.GeometricMedian(steps=60)
    torch.testing.assert_close(pool(x @ turn), pool(x) @ turn, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("pool", "share"),
    [
        (aggr.TrimmedMean(trim=0.3), 0.3),
        (aggr.SoftMedian(), 0.5),
        (aggr.GeometricMedian(), 0.5),
    ],
    ids=["trimmed_mean", "soft_median", "geometric_median"],
)
def test_breakdown(pool, share):
    """Below its share the far elements cannot carry the result off; above it they do."""
    good = torch.randn(50, 4)
    for number in (1, int(share * 50) - 1):
        x = good.clone()
        x[:number] = 1e6
        assert pool(x).norm() < 8
    x[: int(share * 50) + 5] = 1e6
    assert pool(x).max() > 1e3


@pytest.mark.parametrize("name", ["soft_median", "geometric_median", "trimmed_mean"])
@pytest.mark.parametrize("value", [float("inf"), -float("inf"), 1e30])
def test_an_element_infinitely_far_away_has_a_derivative_and_leaves_that_of_others(name, value):
    torch.manual_seed(0)
    x, pool = torch.randn(12, 3), aggr.resolve(name, channels=3)
    x[3, 1] = value
    y = pool(x.requires_grad_())
    (found,) = torch.autograd.grad(y.square().sum(), x)
    assert y.isfinite().all() and found.isfinite().all() and found[4].abs().sum() > 0
