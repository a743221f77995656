"""Random models: the statistic, its level, and what relational pooling is credited with."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import f as f_distribution
from torch import nn
from torch_geometric.nn import GIN

from graphpool.datasets import CSL, circulant_graph, connected_graphs
from graphpool.evaluate import separate_pairs_by_sampling
from graphpool.relational import LabelPooling, RelationalPooling


def all_pairs(count):
    return torch.combinations(torch.arange(count))


class Noise(nn.Module):
    """Edges per graph times ``signal``, and noise that depends on nothing."""

    def __init__(self, width=4, signal=0.0, noise=1.0):
        super().__init__()
        self.width, self.signal, self.noise = width, signal, noise

    def forward(self, x, edge_index, batch, batch_size):
        edges = torch.bincount(batch[edge_index[0]], minlength=batch_size).double()
        draw = torch.rand(batch_size, self.width, dtype=torch.double).square()
        return self.signal * edges[:, None] + self.noise * draw * torch.arange(1, self.width + 1)


class Unshared(Noise):
    """Noise that differs from call to call, whatever the seed."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.calls, self.start = 0, int(torch.randint(2**31, ()))

    def forward(self, *args):
        self.calls += 1
        torch.manual_seed(self.start + self.calls)
        return super().forward(*args)


def test_the_statistic_is_hotellings_over_its_critical_value():
    graphs = [circulant_graph(6, [1]), circulant_graph(6, [1, 2])]
    seen = []

    class Keep(Unshared):
        def forward(self, *args):
            out = super().forward(*args)
            seen.append(out)
            return out

    (found,) = separate_pairs_by_sampling(
        Keep, graphs, torch.tensor([[0, 1]]), looks=(40,), level=0.01, controls=0, block=16
    )
    difference = torch.cat([a - b for a, b in zip(seen[::2], seen[1::2], strict=True)])
    assert [len(s) for s in seen] == [16, 16, 16, 16, 8, 8]
    mean = difference.mean(0)
    wanted = 40 * mean @ torch.linalg.inv(torch.cov(difference.t())) @ mean
    critical = 39 * 4 / 36 * f_distribution.isf(0.01, 4, 36)
    assert float(found.evidence) == pytest.approx(float(wanted) / critical, rel=1e-4)
    assert found.draws.tolist() == [40] and found.controls.numel() == 0


def test_the_level_holds_without_a_difference():
    """200 pairs without a difference, each at level 0.1: 20 are expected, outside of 6..38 with probability
    2e-4."""
    graphs = [circulant_graph(5, [1])] * 2
    count = 0
    for seed in range(200):
        (found,) = separate_pairs_by_sampling(
            Unshared,
            graphs,
            torch.tensor([[0, 1]]),
            looks=(48,),
            level=0.1,
            controls=0,
            seed=seed,
        )
        count += found.count
    assert 6 <= count <= 38


def test_noise_is_never_credited():
    graphs = [g for g in connected_graphs(5) if g.num_edges == 12]
    pairs = all_pairs(len(graphs))
    for make in (Noise, Unshared):
        (found,) = separate_pairs_by_sampling(make, graphs, pairs, looks=(32, 64, 128))
        assert found.count == 0 and found.reliable
        assert found.draws.eq(128).all()


def test_a_difference_is_found_and_not_drawn_again():
    graphs = [circulant_graph(7, [1]), circulant_graph(7, [1, 2]), circulant_graph(7, [1, 3])]
    pairs = all_pairs(3)
    # Noise is shared among graphs and drops out; what is left does not vary at all.
    (found,) = separate_pairs_by_sampling(
        lambda: Noise(signal=1.0), graphs, pairs, looks=(32, 64), controls=3
    )
    assert found.separated.tolist() == [True, True, False]
    assert found.draws.tolist() == [32, 32, 64] and found.reliable


def test_parts_are_judged_alone():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.members = nn.ModuleList([Noise(), Noise(signal=1.0)])

        def forward(self, *args):
            return torch.cat([member(*args) for member in self.members], 1)

    graphs = [circulant_graph(7, [1]), circulant_graph(7, [1, 2])]
    found = separate_pairs_by_sampling(Two, graphs, torch.tensor([[0, 1]]), 2, looks=(32, 64))
    assert [part.count for part in found] == [0, 1]
    assert [part.draws.item() for part in found] == [64, 32]


def test_an_invariant_model_is_judged_by_what_exceeds_rounding():
    graphs = [circulant_graph(11, [1, 2]), circulant_graph(11, [1, 3]), circulant_graph(11, [1, 5])]
    # C11(1, 5) is C11(1, 2) with nodes multiplied by 2.
    for labels, wanted in ((0, [False] * 3), (1, [True, False, True])):
        (found,) = separate_pairs_by_sampling(
            lambda labels=labels: LabelPooling(GIN(1 + labels, 8, 4, act="tanh", eps=0.37), labels),
            graphs,
            all_pairs(3),
            looks=(32,),
        )
        assert found.separated.tolist() == wanted and found.reliable


@pytest.mark.slow
def test_relational_pooling_on_circulants():
    """Nearly all pairs of classes, no pair of copies of one class."""
    data = CSL(copies=2)
    graphs = [data[i] for i in range(0, 20, 2)] + [data[i] for i in range(1, 20, 2)]
    same = torch.stack([torch.arange(10), torch.arange(10, 20)], 1)
    pairs = torch.cat([all_pairs(10), same])
    (found,) = separate_pairs_by_sampling(
        lambda: RelationalPooling(GIN(3, 16, 5, act="tanh", eps=0.37), 8, 2),
        graphs,
        pairs,
        looks=(128,),
    )
    assert int(found.separated[:45].sum()) >= 35
    assert int(found.separated[45:].sum()) == 0 and found.reliable


def test_random_state_is_left_alone():
    graphs = [circulant_graph(5, [1]), circulant_graph(5, [1, 2])]
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = separate_pairs_by_sampling(Noise, graphs, torch.tensor([[0, 1]]), looks=(32,))[0]
    assert torch.equal(before, torch.get_rng_state())
    again = separate_pairs_by_sampling(Noise, graphs, torch.tensor([[0, 1]]), looks=(32,))[0]
    assert torch.equal(first.evidence, again.evidence)
    assert torch.equal(first.controls, again.controls)


def test_errors():
    graphs = [circulant_graph(5, [1]), circulant_graph(5, [1, 2])]
    pairs = torch.tensor([[0, 1]])
    for arguments, text in (
        ({"looks": (64, 32)}, "`looks` must be increasing"),
        ({"looks": ()}, "`looks` must be increasing"),
        ({"looks": (4,)}, "more draws than the width 4"),
        ({"level": 0.0}, "`level` must be in"),
        ({"block": 0}, "`block` must be at least 1"),
        ({"parts": 3}, "`parts` must divide the width 4"),
    ):
        with pytest.raises(ValueError, match=text):
            separate_pairs_by_sampling(Noise, graphs, pairs, **arguments)
    with pytest.raises(ValueError, match="infinities or NaN"):
        separate_pairs_by_sampling(lambda: Noise(signal=torch.inf), graphs, pairs)

    class Nodes(nn.Module):
        def forward(self, x, edge_index, batch, batch_size):
            return x

    with pytest.raises(ValueError, match=r"must return \[64, d\]"):
        separate_pairs_by_sampling(Nodes, graphs, pairs)
