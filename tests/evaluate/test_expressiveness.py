"""Random models against exact colour refinement, written from the definition with multisets."""

from __future__ import annotations

from itertools import product

import networkx as nx
import pytest
import torch
from torch import nn
from torch_geometric.nn import GIN
from torch_geometric.utils import to_networkx

from graphpool.datasets import CEXP, CSL, EXP, SR25, cfi_pair, connected_graphs
from graphpool.evaluate import (
    embed,
    relabelled,
    relative_distance,
    separate_pairs,
    separate_pairs_by_part,
    similar_pairs,
    undistinguished_pairs,
    undistinguished_pairs_by_part,
)
from graphpool.relational import LabelPooling


class Colours:
    """Colours as nested tuples, each seen one given a number: equal numbers mean equal colours."""

    def __init__(self):
        self.numbers = {}

    def __call__(self, colour):
        return self.numbers.setdefault(colour, len(self.numbers))


def refine(graph, start, colours, rounds):
    """Colour refinement: c'(v) = (c(v), multiset of c(u) over the neighbours u)."""
    colour = {v: colours(("start", start(v))) for v in graph}
    for _ in range(rounds):
        colour = {
            v: colours((colour[v], tuple(sorted(colour[u] for u in graph[v])))) for v in graph
        }
    return tuple(sorted(colour.values()))


def exact_colour(data, labels, policy, colours, rounds, hops=None):
    """Colour of a graph: the multiset, over labelings, of the multisets of refined colours."""
    graph = to_networkx(data, to_undirected=True)
    feature = [tuple(row) for row in data.x.tolist()]
    if policy == "adjacent":
        labelings = [pair for a, b in graph.edges for pair in ((a, b), (b, a))]
    else:
        labelings = product(graph, repeat=labels)
    found = []
    for s in labelings:
        part = graph
        if hops is not None:
            near = nx.single_source_shortest_path_length(graph, s[0], cutoff=hops)
            part = graph.subgraph(near)
        start = lambda v, s=s: (feature[v], tuple(v == t for t in s))  # noqa: E731
        found.append(colours(refine(part, start, colours, rounds)))
    return colours(("graph", tuple(sorted(found))))


def granted(graphs, pairs, labels, policy="all", rounds=12, hops=None):
    """Which pairs exact refinement separates; ``rounds`` is enough for it to be stable."""
    colours = Colours()
    exact = {
        i: exact_colour(graphs[i], labels, policy, colours, rounds, hops)
        for i in set(pairs.flatten().tolist())
    }
    return torch.tensor([exact[a] != exact[b] for a, b in pairs.tolist()])


def model(labels, layers=6, features=1, inner="sum", outer="sum", **settings):
    # An analytic activation and eps != 0: random weights then separate what can be separated.
    return lambda: LabelPooling(
        GIN(features + labels, 16, layers, act="tanh", eps=0.37),
        labels=labels,
        inner=inner,
        outer=outer,
        **settings,
    )


POLICIES = {
    "none": (0, {}),
    "one": (1, {}),
    "ego": (1, {"policy": "ego", "hops": 2}),
    "adjacent": (2, {"policy": "adjacent"}),
    "two": (2, {}),
}


def compare(graphs, pairs, name, layers=6, rounds=12, **settings):
    """The model separates what exact refinement grants, no more and no less."""
    labels, policy = POLICIES[name]
    features = graphs[0].x.size(1)
    result = separate_pairs(
        model(labels, layers, features, **policy, **settings), graphs, pairs, batch_size=8
    )
    wanted = granted(graphs, pairs, labels, policy.get("policy", "all"), rounds, policy.get("hops"))
    assert torch.equal(result.separated, wanted)
    assert result.undecided == 0
    return result.count


def all_pairs(count):
    return torch.combinations(torch.arange(count))


@pytest.mark.parametrize(("name", "count"), [("none", 0), ("one", 45), ("ego", 44)])
def test_csl(name, count):
    data = CSL(copies=1)
    found = compare([data[i] for i in range(10)], all_pairs(10), name, layers=8, rounds=8)
    assert found == count or name == "ego"


@pytest.mark.parametrize("name", POLICIES)
def test_graphs_of_five_nodes_and_of_six(name):
    graphs = connected_graphs(5) + connected_graphs(6)[::4]
    compare(graphs, all_pairs(len(graphs)), name)


@pytest.mark.parametrize(("name", "count"), [("none", 0), ("one", 1), ("adjacent", 2)])
def test_cfi(name, count):
    bases = [[(0, 1), (1, 2), (2, 0)], [(a, b) for a in range(4) for b in range(a)]]
    graphs = [graph for base in bases for graph in cfi_pair(base)]
    assert compare(graphs, torch.arange(4).view(2, 2), name, layers=6) == count


@pytest.mark.parametrize(("name", "count"), [("none", 0), ("one", 0)])
def test_sr25(shared_data, name, count):
    data = SR25(shared_data / "expressive")
    found = compare([data[i] for i in range(15)], all_pairs(15), name, layers=4, rounds=4)
    assert found == count


def test_sr25_with_adjacent_pairs(shared_data):
    data = SR25(shared_data / "expressive")
    graphs = [data[i] for i in range(4)]
    assert compare(graphs, all_pairs(4), "adjacent", layers=4, rounds=4) == 6


@pytest.mark.slow
def test_sr25_with_all_pairs_of_labels(shared_data):
    data = SR25(shared_data / "expressive")
    graphs = [data[i] for i in range(15)]
    make = model(2, 4, max_copies=1024)
    assert separate_pairs(make, graphs, all_pairs(15), batch_size=2).count == 105
    assert bool(granted(graphs, all_pairs(15)[:3], 2, rounds=3).all())


@pytest.mark.slow
@pytest.mark.parametrize(("cls", "plain"), [(EXP, 0), (CEXP, 300)])
def test_exp_without_labels_and_a_part_with(shared_data, cls, plain):
    data = cls(shared_data / "expressive")
    graphs, pairs = [data[i] for i in range(len(data))], data.pairs()
    assert compare(graphs, pairs, "none", layers=4, rounds=6) == plain
    assert compare(graphs, pairs[1::100], "one", layers=4, rounds=6) == 6


@pytest.mark.slow
@pytest.mark.parametrize("cls", [EXP, CEXP])
def test_exp_with_one_label(shared_data, cls):
    data = cls(shared_data / "expressive")
    graphs = [data[i] for i in range(len(data))]
    result = separate_pairs(model(1, 4, 2), graphs, data.pairs(), calibration=100)
    assert result.count == 600


@pytest.mark.slow
def test_graph8c_counts():
    graphs = connected_graphs(8)
    colours = Colours()
    classes = {}
    for number, data in enumerate(graphs):
        classes.setdefault(exact_colour(data, 0, "all", colours, 8), []).append(number)
    wanted = sum(len(c) * (len(c) - 1) // 2 for c in classes.values())
    left = undistinguished_pairs(model(0), graphs)
    assert wanted == len(left) == 312
    of = {number: key for key, members in enumerate(classes.values()) for number in members}
    assert all(of[a] == of[b] for a, b in left.tolist())
    assert len(undistinguished_pairs(model(1), graphs, seeds=(0,))) == 0


def test_other_pools_are_never_credited_with_more():
    graphs = connected_graphs(6)[::3]
    pairs = all_pairs(len(graphs))
    wanted = granted(graphs, pairs, 0)
    for inner in ("mean", "max", "std"):
        result = separate_pairs(model(0, inner=inner), graphs, pairs)
        assert not bool((result.separated & ~wanted).any())


def test_a_random_model_is_refused():
    class Noise(nn.Module):
        def forward(self, x, edge_index, batch, batch_size):
            return torch.randn(batch_size, 3, dtype=torch.double)

    graphs = connected_graphs(4)
    with pytest.raises(ValueError, match="separate_pairs_by_sampling"):
        separate_pairs(Noise, graphs, all_pairs(6))
    with pytest.raises(ValueError, match="separate_pairs_by_sampling"):
        undistinguished_pairs(Noise, graphs)


class Rounding(nn.Module):
    """Counts edges, with an error as rounding might make that depends on the order of the nodes."""

    def __init__(self, size):
        super().__init__()
        self.size = size

    def forward(self, x, edge_index, batch, batch_size):
        first = torch.arange(len(batch)).double() - torch.searchsorted(batch, batch)
        degree = torch.bincount(edge_index[0], minlength=len(batch)).double()
        rows = torch.stack([degree, degree * first * self.size], 1).sum(1)
        return torch.zeros(batch_size, 1, dtype=torch.double).index_add_(0, batch, rows[:, None])


@pytest.mark.parametrize("size", [1e-15, 1e-12, 1e-9])
def test_rounding_noise_is_no_difference(size):
    # All with 7 edges: nothing but noise tells them apart.
    graphs = [g for g in connected_graphs(6) if g.num_edges == 14]
    result = separate_pairs(lambda: Rounding(size), graphs, all_pairs(len(graphs)))
    assert result.count == 0 and result.tolerance >= 1000 * result.noise
    mixed = connected_graphs(6)[::9]
    counts = torch.tensor([g.num_edges for g in mixed])
    pairs = all_pairs(len(mixed))
    result = separate_pairs(lambda: Rounding(size), mixed, pairs)
    assert torch.equal(result.separated, counts[pairs[:, 0]] != counts[pairs[:, 1]])


def test_similar_pairs_equal_a_loop():
    rows = torch.randn(60, 4, dtype=torch.double)
    rows[20:40] = rows[:20] * (1 + 1e-6 * torch.randn(20, 1, dtype=torch.double))
    rows[40:45] *= 1e-4
    for tolerance in (1e-7, 1e-6, 1e-2, 0.5):
        wanted = [
            [a, b]
            for a in range(60)
            for b in range(a + 1, 60)
            if float((rows[a] - rows[b]).abs().max())
            <= tolerance * max(float(rows[a].abs().max()), float(rows[b].abs().max()))
        ]
        assert similar_pairs(rows, tolerance).tolist() == wanted


def test_relative_distance():
    zero, one = torch.zeros(2), torch.tensor([1.0, -4.0])
    assert relative_distance(zero, zero) == 0
    assert relative_distance(zero, one) == 1
    assert relative_distance(one, torch.tensor([2.0, -4.0])) == 0.25


def test_embedding_errors():
    class Fixed(nn.Module):
        def __init__(self, out):
            super().__init__()
            self.out = out

        def forward(self, *args):
            return self.out

    graphs = connected_graphs(3)
    with pytest.raises(ValueError, match=r"\[2, d\]; got \[3, 1\]"):
        embed(Fixed(torch.zeros(3, 1)), graphs)
    with pytest.raises(ValueError, match="infinities or NaN"):
        embed(Fixed(torch.full((2, 1), torch.nan)), graphs)
    for function in (separate_pairs, undistinguished_pairs):
        arguments = (all_pairs(2),) if function is separate_pairs else ()
        with pytest.raises(ValueError, match="factor"):
            function(model(0), graphs, *arguments, factor=2)


def test_relabelled_copies_are_isomorphic_and_seeded():
    graphs = connected_graphs(5)
    first, again, other = relabelled(graphs, 1), relabelled(graphs, 1), relabelled(graphs, 2)
    assert all(torch.equal(a.edge_index, b.edge_index) for a, b in zip(first, again, strict=True))
    assert any(
        not torch.equal(a.edge_index, b.edge_index) for a, b in zip(first, other, strict=True)
    )
    for a, b in zip(graphs, first, strict=True):
        assert nx.is_isomorphic(
            to_networkx(a, to_undirected=True), to_networkx(b, to_undirected=True)
        )


def test_parts_are_judged_as_if_alone():
    graphs = connected_graphs(6)[::3]
    pairs = all_pairs(len(graphs))

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.members = nn.ModuleList([model(0)(), model(1)(), model(0, inner="mean")()])

        def forward(self, *args):
            return torch.cat([member(*args) for member in self.members], 1)

    parts = separate_pairs_by_part(Both, graphs, pairs, 3)
    left = undistinguished_pairs_by_part(Both, graphs, 3)
    for labels, part, close in zip((0, 1, 0), parts, left, strict=True):
        wanted = granted(graphs, pairs, labels)
        assert torch.equal(part.separated, wanted)
        assert torch.equal(close, pairs[~wanted])
        assert part.gap[wanted].min() > part.tolerance >= 1000 * part.noise
    for function in (separate_pairs_by_part, undistinguished_pairs_by_part):
        arguments = (pairs,) if function is separate_pairs_by_part else ()
        with pytest.raises(ValueError, match="`parts` must divide the width 48"):
            function(Both, graphs, *arguments, 5)
