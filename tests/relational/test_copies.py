"""Copies: both ways to find nodes, slices, distances; labelings: unranking, sampling, errors."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from math import comb

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch_geometric.data import Batch
from torch_geometric.nn import GIN

from graphpool.datasets import circulant_graph, connected_graphs
from graphpool.ragged import ragged_arange
from graphpool.relational import GraphBatch, LabelPolicy, LabelPooling
from graphpool.relational import copies as copies_module
from graphpool.relational import sampling as sampling_module
from graphpool.relational.sampling import draw_labelings, draw_ranks
from graphpool.relational.supports import Subsets, Tuples


@pytest.fixture(scope="module")
def batch():
    small = connected_graphs(6)
    return Batch.from_data_list([small[i] for i in (3, 40, 90)] + [circulant_graph(9, [1])])


def graph_batch(batch):
    return GraphBatch(batch.edge_index, batch.num_nodes, batch.batch, batch.num_graphs)


@given(st.lists(st.integers(0, 9), max_size=12))
@settings(deadline=None)
def test_ragged_arange(counts):
    owner, position = ragged_arange(torch.tensor(counts, dtype=torch.long))
    wanted = [(i, j) for i, c in enumerate(counts) for j in range(c)]
    assert list(zip(owner.tolist(), position.tolist(), strict=True)) == wanted


@pytest.mark.parametrize("labels", [1, 2])
@pytest.mark.parametrize("hops", [0, 1, 2])
def test_table_and_sorted_keys_agree(batch, labels, hops, monkeypatch):
    graphs, policy = graph_batch(batch), LabelPolicy("ego", labels, hops=hops)
    labelings = policy.labelings(graphs)
    table = policy.copies(graphs, labelings, max_distance=hops)
    monkeypatch.setattr(copies_module, "_TABLE_LIMIT", 0)
    keys = policy.copies(graphs, labelings, max_distance=hops)
    for name in ("node", "copy", "edge_index", "edge_id", "distance"):
        assert torch.equal(getattr(table, name), getattr(keys, name)), name


@pytest.mark.parametrize("policy", [LabelPolicy("ego", 2, hops=1), LabelPolicy("node_deletion", 2)])
def test_a_slice_of_copies_is_the_copies_of_a_slice(batch, policy):
    graphs = graph_batch(batch)
    labelings = policy.labelings(graphs)
    everything = policy.copies(graphs, labelings, max_distance=2)
    for rows in (slice(0, 5), slice(7, 30), slice(100, None)):
        part, made = everything[rows], policy.copies(graphs, labelings[rows], max_distance=2)
        for name in ("node", "copy", "edge_index", "edge_id", "distance"):
            assert torch.equal(getattr(part, name), getattr(made, name)), name
    with pytest.raises(ValueError, match="steps of 1"):
        everything[::2]


@pytest.mark.parametrize("piece", [1, 1 << 16])
def test_both_ways_to_copy_whole_graphs_agree(batch, piece, monkeypatch):
    monkeypatch.setattr(copies_module, "_LEAST_CHUNK", piece)
    graphs = graph_batch(batch)
    for graph in ([0, 0, 1, 3, 3, 3], [2], []):
        graph = torch.tensor(graph, dtype=torch.long)
        found = copies_module.whole_copies(graphs, graph)
        wanted = copies_module.whole_copies_composed(graphs, graph)
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_marks_and_roots(batch):
    graphs, policy = graph_batch(batch), LabelPolicy("ego", 2, hops=1)
    copies = policy.copies(graphs, policy.labelings(graphs))
    assert torch.equal(copies.node[copies.roots()], copies.labelings.nodes[:, 0])
    assert torch.equal(copies.copy[copies.roots()], torch.arange(copies.num_copies))
    assert copies.marks().sum(0).tolist() == [copies.num_copies] * 2


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=4), st.integers(0, 4))
def test_unranking_lists_every_subset_once(sizes, labels):
    batch = torch.repeat_interleave(torch.tensor(sizes))
    graphs = GraphBatch(torch.empty(2, 0, dtype=torch.long), sum(sizes), batch, len(sizes))
    support = Subsets(graphs, labels, assign=False)
    assert support.counts.tolist() == [comb(n, labels) for n in sizes]
    graph, rank = ragged_arange(support.counts)
    found = support.nodes(graph, rank)[:, 0].tolist()
    first = 0
    wanted = set()
    for n in sizes:
        wanted |= (
            {tuple(c) for c in combinations(range(first, first + n), labels)} if labels else set()
        )
        first += n
    if labels:
        assert {tuple(row) for row in found} == wanted and len(found) == len(wanted)


def test_unranking_of_tuples_is_lexicographic():
    graphs = GraphBatch(torch.empty(2, 0, dtype=torch.long), 5, torch.tensor([0, 0, 0, 1, 1]), 2)
    support = Tuples(graphs, 2)
    nodes = support.nodes(*ragged_arange(support.counts))[:, 0].tolist()
    wanted = [[a, b] for a in range(3) for b in range(3)] + [[a, b] for a in (3, 4) for b in (3, 4)]
    assert nodes == wanted


@pytest.mark.parametrize("listable", [1 << 20, 0])
def test_draws_without_replacement_are_uniform_sets(listable, monkeypatch):
    # The 15 sets of two out of six, 200 times each on average: one set with 1.5 times its share would
    # give a p-value below 1e-8.
    monkeypatch.setattr(sampling_module, "_LISTABLE", listable)
    times = 3000
    counts, sizes = torch.full((times,), 6), torch.full((times,), 2)
    if listable == 0:
        counts = torch.cat([counts, torch.tensor([10**9])])
        sizes = torch.cat([sizes, torch.tensor([0])])
    owner, rank = draw_ranks(counts, sizes, False, torch.Generator().manual_seed(0))
    assert owner.tolist() == [i for i in range(times) for _ in range(2)]
    found = Counter(tuple(pair) for pair in rank.view(-1, 2).tolist())
    assert set(found) == set(combinations(range(6), 2))
    assert chisquare(list(found.values())).pvalue > 1e-4


def test_draws_with_replacement_are_uniform():
    owner, rank = draw_ranks(
        torch.tensor([3, 5]), torch.tensor([3000, 5000]), True, torch.Generator().manual_seed(0)
    )
    assert torch.bincount(owner).tolist() == [3000, 5000]
    for population in (0, 1):
        assert chisquare(torch.bincount(rank[owner == population]).numpy()).pvalue > 1e-4


def test_large_supports_are_sampled_without_being_listed():
    graph = circulant_graph(400, [1])
    graphs = GraphBatch(graph.edge_index, 400)
    labelings = LabelPolicy("all", 6, sample=50).labelings(graphs)
    assert labelings.nodes.shape == (50, 6)
    assert torch.allclose(labelings.weight, torch.tensor(400.0**6 / 50, dtype=torch.double))
    subsets = LabelPolicy("subsets", 4, sample=3).labelings(graphs)
    assert subsets.nodes.shape == (3 * 24, 4)
    assert all(len(set(row)) == 4 for row in subsets.nodes.tolist())
    with pytest.raises(ValueError, match=r"more than 2\*\*62"):
        LabelPolicy("all", 8, sample=1).labelings(graphs)


def test_weights_add_up_to_the_number_of_labelings(batch):
    graphs = graph_batch(batch)
    for policy in (
        LabelPolicy("all", 2, sample=5),
        LabelPolicy("all", 2, sample=0.3),
        LabelPolicy("all", 2, sample=2, stratified=True),
        LabelPolicy("adjacent", 2, sample=3, stratified=True, replacement=True),
        LabelPolicy("subsets", 2, sample=4),
        LabelPolicy("node_deletion", 2, sample=4),
    ):
        labelings = policy.labelings(graphs)
        support = policy.support(graphs)
        total = torch.zeros(graphs.num_graphs, dtype=torch.double)
        total.index_add_(0, labelings.graph, labelings.weight)
        assignments = 2 if policy.name == "subsets" else 1
        torch.testing.assert_close(total, support.counts.double() * assignments)
        if policy.stratified:
            assert set(labelings.nodes[:, 0].tolist()) == set(range(graphs.num_nodes))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"labels": -1}, ValueError, "`labels` must be at least 0; got -1"),
        ({"labels": 1.5}, TypeError, "`labels` must be an int"),
        ({"name": "pairs"}, ValueError, "`policy` must be one of 'all'"),
        ({"name": "adjacent", "labels": 1}, ValueError, "`labels` must be 2"),
        ({"name": "edge_deletion", "labels": 2}, ValueError, "`labels` must be 1"),
        ({"name": "ego"}, ValueError, "`hops`, the radius"),
        ({"name": "ego", "hops": -1}, ValueError, "`hops` must be at least 0"),
        ({"name": "node_deletion", "hops": 2}, ValueError, "`hops` needs labels that stay"),
        ({"name": "adjacent", "labels": 2, "max_distance": 1}, ValueError, "`max_distance` goes"),
        ({"sample": 0}, ValueError, "`sample` must be at least 1"),
        ({"sample": 1.5}, ValueError, r"\(0, 1\]"),
        ({"sample": "all"}, TypeError, "`sample` must be an int"),
        ({"name": "subsets", "stratified": True}, ValueError, "first label"),
        ({"name": "clusters", "labels": 0}, ValueError, "`labels` must be at least 1"),
    ],
)
def test_policy_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        LabelPolicy(**arguments)


def edge_graphs(sizes, edges):
    batch = torch.repeat_interleave(torch.tensor(sizes))
    return GraphBatch(
        torch.tensor(edges, dtype=torch.long).view(-1, 2).t(), sum(sizes), batch, len(sizes)
    )


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (
            LabelPolicy("adjacent", 2),
            r"no copy for graph 1 \(2 nodes, 0 directed edges\): add edges",
        ),
        (LabelPolicy("edge_deletion", 1), "no copy for graph 1"),
        (LabelPolicy("subsets", 3), r"graph 0 \(2 nodes, .*lower labels to at most 2"),
        (LabelPolicy("subsets", 2, max_distance=1), "graph 1 .*raise max_distance"),
        (LabelPolicy("all", 2, sample=5), "`sample` is 5, but graph 0 has only 4 labelings"),
        (LabelPolicy("all", 2, sample=3, stratified=True), "only 2 labelings that begin"),
    ],
)
def test_a_graph_without_copies_is_named(policy, message):
    graphs = edge_graphs([2, 2], [(0, 1), (1, 0)])
    with pytest.raises(ValueError, match=message):
        policy.labelings(graphs)


def test_an_empty_graph_is_named():
    with pytest.raises(ValueError, match="graph 1 .0 nodes.*remove graphs without nodes"):
        LabelPolicy("all", 1).labelings(edge_graphs([2, 0, 1], []))


@pytest.mark.parametrize(
    "policy",
    [
        LabelPolicy("adjacent", 2),
        LabelPolicy("edge_deletion", 1),
        LabelPolicy("ego", 1, hops=1),
        LabelPolicy("all", 2, max_distance=1),
    ],
)
def test_directed_graphs_are_refused_where_it_matters(policy):
    with pytest.raises(ValueError, match=r"undirected graph, but edge \(1, 2\) has no reverse"):
        policy.labelings(edge_graphs([3], [(0, 1), (1, 0), (1, 2)]))
    LabelPolicy("all", 2).labelings(edge_graphs([3], [(0, 1), (1, 2)]))


@pytest.mark.parametrize(
    ("edge_index", "nodes", "batch", "size", "error", "message"),
    [
        (torch.zeros(3, 2).long(), 2, None, None, ValueError, r"\[2, E\]"),
        (torch.zeros(2, 2), 2, None, None, TypeError, "`edge_index` must be an integer tensor"),
        (torch.tensor([[0], [5]]), 2, None, None, ValueError, r"`edge_index` must lie in \[0, 2\)"),
        (
            torch.zeros(2, 0).long(),
            3,
            torch.tensor([0, 1, 0]),
            None,
            ValueError,
            "must be given with",
        ),
        (
            torch.zeros(2, 0).long(),
            2,
            torch.tensor([0]),
            1,
            ValueError,
            "one entry per node, 2",
        ),
        (
            torch.zeros(2, 0).long(),
            2,
            torch.tensor([0, 1]),
            1,
            ValueError,
            r"`batch` must lie in \[0, 1\)",
        ),
        (torch.zeros(2, 0).long(), 2, torch.tensor([-1, 1]), 2, ValueError, "`batch` .* got -1"),
        (torch.tensor([[0], [1]]), 2, torch.tensor([0, 1]), 2, ValueError, "stay within graphs"),
    ],
)
def test_malformed_batches(edge_index, nodes, batch, size, error, message):
    with pytest.raises(error, match=message):
        GraphBatch(edge_index, nodes, batch, size)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"form": "dense"}, "`form` must be one of"),
        ({"max_copies": 0}, "`max_copies` must be at least 1"),
        ({"output": "edge"}, "`output` must be one of"),
        ({"labels": 0, "output": "root"}, "'root' needs labelled nodes"),
        ({"policy": "node_deletion", "inner": "root"}, "'root' needs labelled nodes"),
        ({"encoding": "onehot"}, "`encoding` must be"),
        ({"encoding": "distance"}, "needs `hops`"),
        ({"group": "pair"}, "`group` must be one of"),
        ({"group": "root", "output": "node"}, "`group` has no meaning"),
        ({"policy": LabelPolicy("all", 2), "hops": 1}, "give them there only"),
    ],
)
def test_wrapper_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        LabelPooling(GIN(2, 4, 1), **arguments)


def test_wrapper_calls(batch):
    model = LabelPooling(GIN(2, 4, 1), policy="ego", hops=1, form="rectangular")
    with pytest.raises(ValueError, match="use form='ragged'"):
        model(batch.x, batch.edge_index, batch.batch, batch.num_graphs)
    model = LabelPooling(GIN(2, 4, 1), policy="clusters")
    with pytest.raises(ValueError, match="`cluster`, the cluster of every node, must be given"):
        model(batch.x, batch.edge_index, batch.batch, batch.num_graphs)
    with pytest.raises(ValueError, match="`cluster` must have one entry per node"):
        model(batch.x, batch.edge_index, batch.batch, batch.num_graphs, cluster=torch.zeros(2))
    with pytest.raises(ValueError, match=r"`x` must be a tensor \[N, d\]"):
        model(batch.x[:, 0], batch.edge_index, batch.batch, batch.num_graphs)
    model = LabelPooling(GIN(2, 4, 1), form="rectangular")
    with pytest.raises(ValueError, match="`edge_weight` has no rectangular form"):
        model(
            batch.x,
            batch.edge_index,
            batch.batch,
            batch.num_graphs,
            edge_weight=torch.ones(batch.num_edges),
        )
    pyg_pool = __import__("torch_geometric").nn.aggr.SumAggregation()
    model = LabelPooling(GIN(2, 4, 1), outer=pyg_pool, sample=2)
    with pytest.raises(ValueError, match="takes none"):
        model(batch.x, batch.edge_index, batch.batch, batch.num_graphs)


@pytest.mark.parametrize(
    "settings",
    [
        {"labels": 2, "sample": 6},
        {"labels": 2, "sample": 6, "replacement": True},
        {"labels": 2, "sample": 1, "stratified": True},
        {"labels": 2, "sample": 2, "stratified": True, "replacement": True, "policy": "adjacent"},
        {"labels": 2, "sample": 4, "policy": "subsets"},
        {"labels": 2, "sample": 3, "policy": "node_deletion"},
        {"labels": 2, "sample": 0.2, "policy": "ego", "hops": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("outer", ["sum", "mean"])
def test_samples_are_unbiased(settings, outer):
    """The mean of 4096 estimates lies within 4.9 standard errors of the exact value, in every entry (a
    correct estimator fails with probability 1.6e-5 over 16 entries); estimates without weights, or
    with the weights of another sample size, are off by more than 30."""
    torch.manual_seed(1)
    graphs = [connected_graphs(6)[i] for i in (20, 70)]
    for data in graphs:
        data.x = torch.randn(6, 1, dtype=torch.double)
    width = 1 if settings.get("policy") == "node_deletion" else 3
    gnn = GIN(width, 8, 2, act="tanh").double()
    sampled = LabelPooling(gnn, outer=outer, **settings)
    rest = {k: v for k, v in settings.items() if k not in ("sample", "replacement", "stratified")}
    exact_model = LabelPooling(gnn, outer=outer, **rest)
    single, repeats = Batch.from_data_list(graphs), 64
    many = Batch.from_data_list(graphs * repeats)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        exact = exact_model(single.x, single.edge_index, single.batch, single.num_graphs)
        draws = torch.cat(
            [
                sampled(
                    many.x, many.edge_index, many.batch, many.num_graphs, generator=generator
                ).view(repeats, 2, 8)
                for _ in range(64)
            ]
        )
    error = draws.std(0) / len(draws) ** 0.5
    z = (draws.mean(0) - exact) / error.clamp(min=1e-12)
    assert float(z.abs().max()) < 4.9
    if outer == "sum":
        # What a missing weight would look like: the estimate shrinks by the share that is drawn.
        assert float((0.8 * draws.mean(0) - exact).abs().div(error.clamp(min=1e-12)).max()) > 30


def test_draws_of_everything_are_exact():
    data = connected_graphs(5)[7]
    gnn = GIN(3, 4, 2).double()
    exact = LabelPooling(gnn, 2)(data.x.double(), data.edge_index)
    for how in ({"sample": 25}, {"sample": 1.0}, {"sample": 5, "stratified": True}):
        drawn = LabelPooling(gnn, 2, **how)(data.x.double(), data.edge_index)
        torch.testing.assert_close(drawn, exact, rtol=1e-12, atol=1e-12)


def test_draws_without_labelings_twice():
    graphs = edge_graphs([4], [(0, 1), (1, 0)])
    labelings = draw_labelings(graphs, Tuples(graphs, 2), 16, False, False, None)
    assert len({tuple(row) for row in labelings.nodes.tolist()}) == 16
