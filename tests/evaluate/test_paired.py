"""The paired comparison: the statistic, both thresholds, the rule for zero covariance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch_geometric.nn import GIN

from graphpool.datasets import circulant_graph, connected_graphs
from graphpool.evaluate import (
    PairedResult,
    compare_pair,
    copies_block,
    hotelling,
    statistical_threshold,
)
from graphpool.relational import LabelPooling, RelationalPooling


def test_statistic_equals_numpy():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(3, 32, 16)), rng.normal(size=(3, 32, 16)) + 0.3
    found = hotelling(torch.from_numpy(x), torch.from_numpy(y))
    for k in range(3):
        difference = x[k] - y[k]
        mean = difference.mean(0)
        wanted = mean @ np.linalg.pinv(np.cov(difference.T)) @ mean
        assert found[k].item() == pytest.approx(wanted, rel=1e-9)
    with pytest.raises(ValueError, match="must exceed"):
        hotelling(torch.zeros(4, 4), torch.zeros(4, 4))
    with pytest.raises(ValueError, match="Both samples"):
        hotelling(torch.zeros(9, 4), torch.zeros(9, 3))
    with pytest.raises(TypeError, match="floating point"):
        hotelling(torch.ones(9, 4).long(), torch.ones(9, 4).long())
    for value in (torch.nan, torch.inf):
        with pytest.raises(ValueError, match="must be finite"):
            hotelling(torch.full((9, 4), value), torch.zeros(9, 4))


def test_the_published_threshold_is_32_times_stricter_than_its_level():
    # 4000 samples without a difference: 5 % of them exceed the statistical threshold (within 4.5
    # standard errors), none the published one, whose level is 5.5e-12.
    generator = torch.Generator().manual_seed(0)
    difference = torch.randn(4000, 32, 16, dtype=torch.double, generator=generator)
    statistic = hotelling(difference, torch.zeros_like(difference))
    share = (32 * statistic > statistical_threshold()).double().mean().item()
    assert abs(share - 0.05) < 4.5 * (0.05 * 0.95 / 4000) ** 0.5
    assert not bool((statistic > 72.34).any())
    with pytest.raises(ValueError, match="alpha"):
        statistical_threshold(alpha=0.0)
    with pytest.raises(ValueError, match="must exceed"):
        statistical_threshold(8, 8)
    with pytest.raises(ValueError, match="`d` must be"):
        statistical_threshold(8, 0)


def result(**changes):
    fields = {
        "statistic": 0.0,
        "reliability": 0.0,
        "constant": False,
        "gap": 0.0,
        "noise": 0.0,
        "q": 32,
        "d": 16,
    }
    return PairedResult(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "published", "statistical"),
    [
        ({"statistic": 100.0}, True, True),
        ({"statistic": 10.0}, False, True),
        ({"statistic": 1.0}, False, False),
        ({"statistic": 100.0, "reliability": 100.0}, False, True),
        ({"constant": True, "gap": 1e-3, "noise": 1e-15}, True, True),
        ({"constant": True, "gap": 1e-13, "noise": 1e-15}, False, False),
        ({"constant": True, "gap": 1e-9, "noise": 1e-10, "statistic": 1e9}, False, False),
    ],
)
def test_decisions(changes, published, statistical):
    found = result(**changes)
    assert found.distinguished() is published
    assert found.distinguished("statistical") is statistical


def test_reliability():
    assert result(reliability=1.0).reliable() and result(reliability=1.0).reliable("statistical")
    assert result(reliability=10.0).reliable() and not result(reliability=10.0).reliable(
        "statistical"
    )
    assert not result(reliability=100.0).reliable()
    assert result(constant=True, reliability=1e9).reliable()
    for method in ("distinguished", "reliable"):
        with pytest.raises(ValueError, match="threshold"):
            getattr(result(), method)("strict")


def labelled(labels):
    return lambda: LabelPooling(GIN(1 + labels, 16, 4, act="tanh", eps=0.37), labels)


@pytest.mark.parametrize("epochs", [0, 2])
def test_an_invariant_model_is_decided_by_the_gap(epochs):
    torch.manual_seed(0)
    first, second = circulant_graph(11, [1, 2]), circulant_graph(11, [1, 3])
    block, same = copies_block(first, second, seed=1), copies_block(first, first, seed=2)
    found = compare_pair(labelled(1), block, same, epochs=epochs)
    assert found.constant and found.reliable() and found.distinguished()
    found = compare_pair(labelled(0), block, same, epochs=epochs)
    assert found.constant and found.reliable() and not found.distinguished()


def test_copies_of_one_graph_are_never_distinguished():
    graph = connected_graphs(6)[50]
    for seed in range(5):
        torch.manual_seed(seed)
        block, same = (
            copies_block(graph, graph, seed=seed),
            copies_block(graph, graph, seed=-seed - 1),
        )
        assert not compare_pair(labelled(1), block, same, epochs=0).distinguished()


def test_a_random_model_is_decided_by_the_statistic():
    def make():
        return RelationalPooling(GIN(1 + 6, 16, 3, act="tanh"), 8, 6)

    sparse, dense = circulant_graph(6, [1]), circulant_graph(6, [1, 2, 3])
    torch.manual_seed(0)
    found = compare_pair(
        make, copies_block(sparse, dense), copies_block(sparse, sparse, seed=1), epochs=0
    )
    assert not found.constant and found.distinguished() and found.reliable()
    found = compare_pair(
        make, copies_block(sparse, sparse), copies_block(sparse, sparse, seed=1), epochs=0
    )
    assert not found.constant and not found.distinguished()


def test_training_pushes_the_pair_apart():
    first, second = circulant_graph(8, [1, 2]), circulant_graph(8, [1, 3])
    block, same = copies_block(first, second), copies_block(first, first, seed=1)

    def make():
        torch.manual_seed(3)
        return labelled(1)()

    before = compare_pair(make, block, same, epochs=0)
    after = compare_pair(make, block, same)
    assert after.gap > 1.1 * before.gap
    one, stopped = (
        compare_pair(make, block, same, epochs=epochs, stop_below=stop)
        for epochs, stop in ((1, 0.0), (20, 10.0))
    )
    assert one == stopped != before


def test_errors():
    graph = circulant_graph(5, [1])
    block = copies_block(graph, graph, q=20)
    assert len(block) == 40
    with pytest.raises(ValueError, match="same even number"):
        compare_pair(labelled(0), block, block[:-2])
    with pytest.raises(ValueError, match="`epochs` must be"):
        compare_pair(labelled(0), block, block, epochs=-1)
    with pytest.raises(ValueError, match="`q` must be"):
        copies_block(block[0], block[1], q=0)
    with pytest.raises(ValueError, match="`batch_size` must be even"):
        compare_pair(labelled(0), block, block, batch_size=3)

    class Wide(nn.Module):
        def forward(self, x, edge_index, batch, batch_size):
            return torch.zeros(batch_size, 30, dtype=torch.double)

    with pytest.raises(ValueError, match="must exceed"):
        compare_pair(Wide, block, block, epochs=0)
