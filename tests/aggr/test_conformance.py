"""Every registered pool against every point, on every backend."""

from __future__ import annotations

import pytest
import torch

import graphpool
from graphpool import aggr, testing

CHANNELS = 8


def make(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return aggr.resolve(name, channels=CHANNELS, **aggr.lookup(name).example_arguments)


# Second derivatives of these by finite differences take seconds.
SLOW = {(name, "gradients") for name in ("isab", "slot_mixture", "slots", "isqrt_cov")}
# Tracing takes up to seconds: among the fast ones are one of each kind of computation, the slow ones hold
# the others. That each op is traced is tested in tests/ops/fused/test_contract.py.
TRACED = ("mean", "std", "softmax", "quantile", "powermean", "gnp", "trimmed_mean", "kmax")
TRACED += ("gated_attention", "pma", "deepsets", "set2set", "bilinear", "soft_median", "fsw")
SLOW |= {(name, "compile") for name in aggr.names() if name not in TRACED}
# Finite differences of plain PyTorch are those of its own derivatives: these are what is composed by hand.
DIFFERENTIATED = ("max", "std", "softmax", "powermean", "logsumexp", "quantile", "gnp", "pma")


def cases(points, slow=SLOW):
    """Every pool with every point."""
    return [
        pytest.param(
            name, point, marks=[pytest.mark.slow] * ((name, point) in slow), id=f"{name}-{point}"
        )
        for name in aggr.names()
        for point in points
    ]


@pytest.mark.parametrize("name, point", cases(testing.POINTS))
def test_point(name, point):
    testing.check(point, make(name), CHANNELS)


COMPOSED = ["permutation", "forms", "unsorted", "empty", "gradients", "weights", "ties", "half"]


COMPOSED_SLOW = {(name, "gradients") for name in aggr.names() if name not in DIFFERENTIATED}


@pytest.mark.parametrize("name, point", cases(COMPOSED, COMPOSED_SLOW))
def test_point_on_plain_torch(name, point):
    with graphpool.use_backend("torch"):
        testing.check(point, make(name), CHANNELS)


@pytest.mark.needs("torch_scatter")
@pytest.mark.parametrize("point", COMPOSED)
@pytest.mark.parametrize("name", ["sum", "max", "std", "softmax", "gnp", "median", "bilinear"])
def test_point_on_torch_scatter(name, point):
    """Both composed backends differ in two primitives only, which these pools use."""
    with graphpool.use_backend("torch_scatter"):
        testing.check(point, make(name), CHANNELS)


@pytest.mark.parametrize("name", aggr.names())
def test_exemptions_name_a_point_and_a_reason(name):
    for point, reason in aggr.lookup(name).exempt.items():
        assert point in testing.POINTS
        assert len(reason) > 10
