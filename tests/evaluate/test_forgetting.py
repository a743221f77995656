"""Every pair is put to the pool again, and FSW has none where it may have none."""

from __future__ import annotations

import itertools

import pytest
import torch

from graphpool import aggr
from graphpool.evaluate import counterexample, matching_distance

# Smaller bags, or several results, are no vector that could be compared.
RAGGED = {name for name in aggr.names() if aggr.lookup(name).ragged}


def make(name):
    torch.manual_seed(0)
    return aggr.resolve(name, channels=8, **aggr.lookup(name).example_arguments)


NAMES = [name for name in aggr.names() if name not in RAGGED | {"fsw", "gnp"}]


@pytest.mark.parametrize("name", [*NAMES, pytest.param("gnp", marks=pytest.mark.slow)])
def test_every_other_pool_has_a_pair(name):
    pool = make(name)
    found = counterexample(pool)
    assert found.same, (found.difference, found.how)
    assert found.distance > 0.03 and matching_distance(found.x, found.y) == found.distance
    y = pool.double().eval()(
        torch.cat([found.x, found.y]),
        ptr=torch.tensor([0, len(found.x), len(found.x) + len(found.y)]),
    )
    torch.testing.assert_close(y[0], y[1], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", ["sum", "max", "min", "median", "kmax", "mul"])
def test_pairs_by_construction_are_exact(name):
    found = counterexample(make(name))
    if not found.how.startswith("moved"):
        assert found.difference == 0


@pytest.mark.slow
@pytest.mark.parametrize(("size", "channels"), [(2, 1), (3, 2)])
def test_fsw_has_none_up_to_its_size(size, channels):
    torch.manual_seed(0)
    # 2 N d + 1 outputs, and the total.
    pool = aggr.FSW(channels, out_channels=2 * size * channels + 2, frequencies="random")
    found = counterexample(pool, size=size, steps=300)
    assert not found.same and found.how == "the worst of 20 starts of 300 steps"
    assert found.distortion > 1e-3


def test_fsw_has_one_beyond_its_size():
    found = counterexample(aggr.FSW(2, out_channels=5), size=4)
    assert found.same and found.how == "moved along a level of the pool"


def test_matching_distance_is_the_least_over_all_orders():
    x, y = torch.randn(4, 3, dtype=torch.double), torch.randn(3, 3, dtype=torch.double)
    filled = torch.cat([y, torch.zeros(1, 3, dtype=torch.double)])
    orders = itertools.permutations(range(4))
    least = min(float((x - filled[list(order)]).norm(dim=1).sum()) for order in orders)
    assert matching_distance(x, y) == pytest.approx(least)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="gives a smaller bag"):
        counterexample(aggr.DynamicKMax())
    with pytest.raises(ValueError, match="`size` must be an int of at least 1"):
        counterexample(aggr.Sum(), size=0)


def test_a_word_is_no_pool():
    with pytest.raises(TypeError, match="`pool` must be a module, such as"):
        counterexample("mean")
