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


@pytest.mark.parametrize("point", testing.POINTS)
@pytest.mark.parametrize("name", aggr.names())
def test_point(name, point):
    testing.check(point, make(name), CHANNELS)


@pytest.mark.parametrize(
    "backend",
    ["torch", pytest.param("torch_scatter", marks=pytest.mark.needs("torch_scatter"))],
)
@pytest.mark.parametrize(
    "point", ["permutation", "forms", "unsorted", "empty", "gradients", "weights", "ties", "half"]
)
@pytest.mark.parametrize("name", aggr.names())
def test_point_on_the_composed_backends(name, point, backend):
    with graphpool.use_backend(backend):
        testing.check(point, make(name), CHANNELS)


@pytest.mark.parametrize("name", aggr.names())
def test_exemptions_name_a_point_and_a_reason(name):
    for point, reason in aggr.lookup(name).exempt.items():
        assert point in testing.POINTS
        assert len(reason) > 10


class Broken(aggr.Aggregation):
    """Wrong in a way that the named point must notice."""

    def __init__(self, how):
        super().__init__()
        self.how = how

    def pool(self, x, segments, weight=None):
        y = graphpool.ops.segment_mean(x, segments, weight)
        return self.how(y, x, segments, weight)


BROKEN = {
    "permutation": lambda y, x, s, w: y + x[:1] * (s.counts > 0)[:, None],
    "independence": lambda y, x, s, w: y - y.mean(0, keepdim=True) * (s.counts > 0)[:, None],
    "empty": lambda y, x, s, w: y + 1,
    "weights": lambda y, x, s, w: graphpool.ops.segment_mean(x, s),
    "gradients": lambda y, x, s, w: y + (y - y.detach()),
    "half": lambda y, x, s, w: y.float(),
    "compile": lambda y, x, s, w: y * (1.0 if float(y.sum().detach()) > -1e30 else 0.0),
    "ties": lambda y, x, s, w: y + 0 * y if x.size(0) == 0 else y + (x[1:2] - x[1:2].detach()),
    "integers": lambda y, x, s, w: y,
}


@pytest.mark.parametrize("point", [p for p in BROKEN if p != "integers"])
def test_each_assertion_can_fail(point):
    with pytest.raises(Exception):  # noqa: B017
        testing.check(point, Broken(BROKEN[point]), CHANNELS)
