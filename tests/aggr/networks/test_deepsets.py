from __future__ import annotations

import pytest
import torch

from graphpool import aggr


@pytest.mark.parametrize("pool", ["sum", "mean", "max"])
def test_against_the_formula(against_oracle, pool):
    deep = aggr.DeepSets(8, hidden=16, out_channels=3, pool=pool)
    reduce = {"sum": torch.sum, "mean": torch.mean, "max": torch.amax}[pool]
    against_oracle(deep, lambda bag: deep.rho(reduce(deep.phi(bag), 0)))


def test_networks_can_be_given():
    phi, rho = torch.nn.Linear(4, 6), torch.nn.Linear(6, 2)
    deep = aggr.DeepSets(4, hidden=6, out_channels=2, phi=phi, rho=rho)
    x = torch.randn(5, 4)
    torch.testing.assert_close(deep(x)[0], rho(phi(x).sum(0)))


def test_bad_arguments():
    with pytest.raises(ValueError, match="`hidden`"):
        aggr.DeepSets(3, hidden=-2)
