from __future__ import annotations

import pytest
import torch

from graphpool import aggr


def test_against_the_formula(against_oracle):
    pool = aggr.GGeM(6, groups=3, p=2.5)
    with torch.no_grad():
        pool.p.copy_(torch.tensor([1.0, 2.5, 4.0]))
    x = torch.rand(12, 6) + 0.1

    def oracle(bag):
        p = pool.p.repeat_interleave(2)
        return (bag**p).mean(0) ** (1 / p)

    against_oracle(pool, oracle, x=x)


def test_one_group_is_gem_and_p_1_is_the_mean():
    x = torch.rand(9, 6)
    torch.testing.assert_close(aggr.GGeM(6)(x), aggr.GeM(6)(x))
    torch.testing.assert_close(aggr.GGeM(6, groups=6, p=1.0)(x)[0], x.mean(0))
    torch.testing.assert_close(aggr.GGeM(6, p=500.0)(x)[0], x.amax(0), rtol=1e-2, atol=1e-2)


def test_derivative_by_p_is_never_negative_and_zero_for_singletons():
    """dy/dp = y / p^2 (log n - H(w)), with H the entropy of the shares x^p."""
    pool, x = aggr.GGeM(4, groups=4).double(), torch.rand(7, 4, dtype=torch.float64)
    y = pool(x)[0]
    (slope,) = torch.autograd.grad(y.sum(), pool.p)
    share = x**3 / (x**3).sum(0)
    entropy = -(share * share.log()).sum(0)
    torch.testing.assert_close(slope, y.detach() / 9 * (torch.tensor(7.0).log() - entropy))
    (slope,) = torch.autograd.grad(pool(x[:1]).sum(), pool.p)
    assert slope.abs().max() < 1e-12


def test_bad_groups():
    with pytest.raises(ValueError, match="Choose a divisor of 6"):
        aggr.GGeM(6, groups=4)
    with pytest.raises(ValueError, match="`groups` must be an int of at least 1"):
        aggr.GGeM(6, groups=0)
