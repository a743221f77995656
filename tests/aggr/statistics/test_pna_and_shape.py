"""Scaled statistics against PyTorch Geometric, moments against SciPy, and a spread that stays."""

from __future__ import annotations

import math

import pytest
import scipy.stats
import torch
from torch_geometric.nn import aggr as pyg

from graphpool import aggr


def test_pna_is_pygs_degree_scaler():
    x, index = torch.randn(12, 5, dtype=torch.float64), torch.tensor([0] * 5 + [1] * 2 + [3] * 5)
    histogram = torch.tensor([0, 3, 4, 1, 0, 2])
    theirs = pyg.DegreeScalerAggregation(
        ["mean", "max", "min", "sum"], ["identity", "amplification", "attenuation"], histogram
    )
    sizes = torch.arange(6).repeat_interleave(histogram)
    ours = aggr.PNA(5, statistics=["mean", "max", "min", "sum"], delta=sizes)
    assert float(ours.delta) == pytest.approx(float(theirs.avg_deg_log))
    y, expected = ours(x, index, dim_size=4), theirs(x, index, dim_size=4)
    torch.testing.assert_close(y, expected, rtol=1e-6, atol=1e-6)


def test_pna_of_bags_of_one_size():
    pool = aggr.PNA(3, delta=[18, 18])
    assert float(pool.delta) == pytest.approx(2.9444, abs=1e-4)
    y = pool(torch.randn(18, 3))
    torch.testing.assert_close(y[:, :12], y[:, 12:24])
    torch.testing.assert_close(y[:, :12], y[:, 24:])
    assert pool.out_channels == y.size(1) == 36


def test_pna_keeps_delta_in_its_state():
    pool, other = aggr.PNA(2, delta=2.5), aggr.PNA(2)
    other.load_state_dict(pool.state_dict())
    assert float(other.delta) == 2.5


@pytest.mark.parametrize(
    "arguments", [{"statistics": "mean"}, {"statistics": ["median"]}, {"scalers": []}]
)
def test_pna_refuses_names(arguments):
    with pytest.raises(ValueError, match="must be a list of some of"):
        aggr.PNA(2, **arguments)
    with pytest.raises(ValueError, match="`delta` must be positive"):
        aggr.PNA(2, delta=0.0)


@pytest.mark.parametrize("offset", [0, 1e4])
def test_moments_are_scipys(offset):
    x = torch.randn(40, 3, dtype=torch.float64).exp() + offset
    y = aggr.Moments(order=5, eps=1e-12)(x).view(5, 3)
    a = x.numpy()
    rows = [
        a.mean(0),
        a.std(0),
        scipy.stats.skew(a),
        scipy.stats.kurtosis(a, fisher=False),
        scipy.stats.moment(a, 5) / a.std(0) ** 5,
    ]
    for found, expected in zip(y, rows, strict=True):
        torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-6, atol=1e-9)


def test_moments_of_equal_elements_are_no_nan():
    x = torch.full((5, 2), 3.0, requires_grad=True)
    y = aggr.Moments()(x)
    assert y.tolist() == [[3.0, 3.0, 0, 0, 0, 0, 0, 0]]
    assert torch.autograd.grad(y.sum(), x)[0].isfinite().all()


def test_variance_is_preserved():
    x, index = torch.randn(60_000, 1), torch.arange(60_000) % 600
    for size in (1, 10, 100):
        y = aggr.VariancePreserving()(x[: 600 * size], index[: 600 * size], dim_size=600)
        assert float(y.var()) == pytest.approx(1, abs=5 * math.sqrt(2 / 600))
    y = aggr.VariancePreserving()(torch.tensor([3.0]), weight=torch.tensor([4]))
    assert y.tolist() == [6.0]


@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e12, 1e17])
def test_skewness_and_kurtosis_do_not_overflow(scale):
    torch.manual_seed(0)
    pool, found = aggr.Moments(eps=1e-30), []
    wide = torch.randn(50, 2).double() * scale
    for x in (wide.float(), wide):
        y = pool(x.requires_grad_())[0, 4:]
        found.append((y.double(), scale * torch.autograd.grad(y.sum(), x)[0].double()))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
