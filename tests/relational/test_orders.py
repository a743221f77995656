"""Orders and relational pooling against loops over permutations."""

from __future__ import annotations

from itertools import permutations

import networkx as nx
import pytest
import torch
from scipy.stats import chisquare
from torch_geometric.data import Batch
from torch_geometric.nn import GIN
from torch_geometric.utils import subgraph, to_networkx

from graphpool.datasets import circulant_graph, connected_graphs, relabel
from graphpool.relational import GraphBatch, RelationalPooling, draw_orders
from graphpool.relational.orders import refine


@pytest.fixture(scope="module")
def batch():
    graphs = [connected_graphs(4)[2], connected_graphs(5)[11], connected_graphs(3)[1]]
    for graph in graphs:
        graph.x = torch.randn(graph.num_nodes, 1, dtype=torch.double)
    return Batch.from_data_list(graphs)


def ids(place, width):
    return torch.nn.functional.one_hot(torch.as_tensor(place) % width, width).double()


def brute_force(gnn, batch, width, arity, output):
    rows, nodes = [], []
    for data in batch.to_data_list():
        n, values = data.num_nodes, []
        per_node = [[] for _ in range(n)]
        for order in permutations(range(n)):
            place = torch.tensor(order)
            keep = (place < (arity or n)).nonzero().squeeze(1)
            edges = subgraph(keep, data.edge_index, relabel_nodes=True, num_nodes=n)[0]
            h = gnn(torch.cat([data.x[keep], ids(place[keep], width)], 1), edges)
            values.append(h.sum(0))
            for v, row in zip(keep.tolist(), h, strict=True):
                per_node[v].append(row)
        rows.append(torch.stack(values).mean(0))
        nodes += [torch.stack(r).mean(0) for r in per_node]
    return torch.stack(nodes if output == "node" else rows)


@pytest.mark.parametrize("output", ["graph", "node"])
@pytest.mark.parametrize("arity", [None, 1, 2, 3])
@pytest.mark.parametrize("width", [2, 5])
def test_all_orders_equal_brute_force(batch, width, arity, output):
    gnn = GIN(1 + width, 4, 2).double().eval()
    wanted = brute_force(gnn, batch, width, arity, output)
    for form in ("ragged", "auto") if arity else ("ragged", "rectangular"):
        for chunk in (None, 11):
            model = RelationalPooling(
                gnn, "all", width, arity=arity, output=output, form=form, max_copies=chunk
            )
            got = model(batch.x, batch.edge_index, batch.batch, batch.num_graphs)
            torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)


def test_all_orders_are_invariant_and_separate(batch):
    gnn = GIN(7, 8, 4, act="tanh").double()
    model = RelationalPooling(gnn, "all", 6)
    hexagon = circulant_graph(6, [1])
    two_triangles = circulant_graph(6, [2])
    a, b = (model(g.x.double(), g.edge_index) for g in (hexagon, two_triangles))
    moved = relabel(hexagon, torch.randperm(6))
    again = model(moved.x.double(), moved.edge_index)
    torch.testing.assert_close(a, again, rtol=1e-10, atol=1e-10)
    assert float((a - b).abs().max()) > 1e-6


def test_one_order_in_training_several_in_evaluation(batch):
    seen = []

    class Count(torch.nn.Module):
        def forward(self, x, edge_index):
            seen.append(x.size(0))
            return x

    model = RelationalPooling(Count(), 7, 3)
    model.train()(batch.x, batch.edge_index, batch.batch, batch.num_graphs)
    model.eval()(batch.x, batch.edge_index, batch.batch, batch.num_graphs)
    assert seen == [12, 7 * 12]


@pytest.mark.parametrize("order", ["random", "bfs", "dfs", "canonical"])
@pytest.mark.parametrize("arity", [None, 2])
def test_pieces_and_forms_agree_on_the_same_draw(batch, order, arity):
    gnn = GIN(4, 4, 2).double().eval()
    found = []
    for form in ("ragged",) if arity else ("ragged", "rectangular"):
        for chunk in (None, 1, 4):
            model = RelationalPooling(
                gnn, 5, 3, order=order, arity=arity, form=form, max_copies=chunk
            ).eval()
            generator = torch.Generator().manual_seed(3)
            found.append(
                model(batch.x, batch.edge_index, batch.batch, batch.num_graphs, generator=generator)
            )
    for other in found[1:]:
        torch.testing.assert_close(found[0], other, rtol=1e-10, atol=1e-10)


def test_estimates_are_unbiased(batch):
    """4096 single orders average to the exact value within 4.9 standard errors in all 16 entries (fails
    with probability 1.6e-5); the triangle is left out, whose three ids always add up to the same."""
    gnn = GIN(4, 8, 2, act="tanh").double()
    graphs = batch.to_data_list()[:2]
    few, many = Batch.from_data_list(graphs), Batch.from_data_list(graphs * 64)
    model = RelationalPooling(gnn, 1, 3).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        exact = RelationalPooling(gnn, "all", 3)(few.x, few.edge_index, few.batch, few.num_graphs)
        draws = torch.cat(
            [
                model(
                    many.x, many.edge_index, many.batch, many.num_graphs, generator=generator
                ).view(64, 2, 8)
                for _ in range(64)
            ]
        )
    error = draws.std(0) / len(draws) ** 0.5
    assert float(((draws.mean(0) - exact).abs() / error).max()) < 4.9
    # What the test can see: the first order of every graph, in place of a random one.
    assert float(((draws[0] - exact).abs() / error).max()) > 30


def graph_of(data):
    return GraphBatch(data.edge_index, data.num_nodes)


def test_random_orders_are_uniform():
    data = circulant_graph(4, [1])
    place = draw_orders(
        graph_of(data), "random", 24 * 200, generator=torch.Generator().manual_seed(0)
    )
    numbers = [tuple(column) for column in place.t().tolist()]
    counts = [numbers.count(p) for p in permutations(range(4))]
    assert sum(counts) == 24 * 200 and chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize("kind", ["random", "bfs", "dfs", "canonical"])
def test_orders_are_permutations_of_every_graph(batch, kind):
    place = draw_orders(GraphBatch(batch.edge_index, 12, batch.batch, batch.num_graphs), kind, 6)
    for graph in range(3):
        rows = place[batch.batch == graph]
        wanted = torch.arange(len(rows)).unsqueeze(1).expand(-1, 6)
        assert torch.equal(rows.sort(0).values, wanted)


def is_search_order(graph, order, depth_first):
    """Whether a search can visit the nodes in this order, by its definition with a stack or a queue."""
    seen_at = {}
    visited = set()
    for step, node in enumerate(order):
        waiting = {v: t for v, t in seen_at.items() if v not in visited}
        if waiting:
            best = max(waiting.values()) if depth_first else min(waiting.values())
            if waiting.get(node) != best:
                return False
        visited.add(node)
        for other in graph[node]:
            if depth_first or other not in seen_at:
                seen_at[other] = step
    return True


@pytest.mark.parametrize("kind", ["bfs", "dfs"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_searches_are_searches(kind, seed):
    graph = nx.gnp_random_graph(9, 0.25, seed=seed)
    edges = torch.tensor([e for a, b in graph.edges for e in ((a, b), (b, a))]).t()
    place = draw_orders(GraphBatch(edges, 9), kind, 40)
    roots = set()
    for column in place.t():
        order = torch.argsort(column).tolist()
        roots.add(order[0])
        assert is_search_order(graph, order, kind == "dfs")
    assert len(roots) > 4
    other = draw_orders(GraphBatch(edges, 9), "random", 40)
    assert not all(
        is_search_order(graph, torch.argsort(c).tolist(), kind == "dfs") for c in other.t()
    )


def test_depth_first_orders_of_a_path_go_to_its_ends():
    path = torch.tensor([[0, 1, 1, 2, 2, 3], [1, 0, 2, 1, 3, 2]])
    found = {
        tuple(torch.argsort(c).tolist()) for c in draw_orders(GraphBatch(path, 4), "dfs", 300).t()
    }
    ends = {(0, 1, 2, 3), (3, 2, 1, 0)}
    inner = {(1, 0, 2, 3), (1, 2, 3, 0), (2, 1, 0, 3), (2, 3, 1, 0)}
    assert found == ends | inner


def test_refinement_gives_isomorphic_graphs_the_same_colours():
    for data in connected_graphs(6)[::10]:
        permutation = torch.randperm(6)
        moved = relabel(data, permutation)
        assert torch.equal(refine(graph_of(data)), refine(graph_of(moved))[permutation])


def test_refinement_is_colour_refinement():
    for data in connected_graphs(7)[::50]:
        graph = to_networkx(data, to_undirected=True)
        colour = dict.fromkeys(graph, 0)
        for _ in range(7):
            signature = {v: (colour[v], sorted(colour[u] for u in graph[v])) for v in graph}
            names = sorted(set(map(repr, signature.values())))
            colour = {v: names.index(repr(signature[v])) for v in graph}
        found = refine(graph_of(data)).tolist()
        for a in graph:
            for b in graph:
                assert (colour[a] == colour[b]) == (found[a] == found[b])


def test_canonical_orders_keep_classes_together_and_use_features():
    star = torch.tensor([[0, 1, 0, 2, 0, 3], [1, 0, 2, 0, 3, 0]])
    place = draw_orders(GraphBatch(star, 4), "canonical", 30)
    assert len(set(place[0].tolist())) == 1 and len({tuple(c) for c in place.t().tolist()}) == 6
    x = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    fixed = draw_orders(GraphBatch(star, 4), "canonical", 30, x)
    assert len({tuple(c) for c in fixed.t().tolist()}) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_permutations": 0}, "`num_permutations` must be"),
        ({"num_permutations": "some"}, "`num_permutations` must be"),
        ({"id_dim": 0}, "`id_dim` must be"),
        ({"arity": 0}, "`arity` must be"),
        ({"order": "sorted"}, "`order` must be"),
        ({"order": "dfs", "num_permutations": "all"}, "lists all orders"),
        ({"output": "root"}, "`output` must be"),
        ({"inner": "root"}, "use LabelPooling"),
        ({"train_permutations": 0}, "`train_permutations` must be"),
    ],
)
def test_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        RelationalPooling(GIN(4, 4, 1), **{"num_permutations": 3, "id_dim": 3, **arguments})


def test_too_many_orders_are_refused():
    data = circulant_graph(9, [1])
    model = RelationalPooling(GIN(4, 4, 1), "all", 3)
    with pytest.raises(ValueError, match="at most 8 nodes, but graph 0 has 9"):
        model(data.x, data.edge_index)
    with pytest.raises(ValueError, match="`order` must be"):
        draw_orders(graph_of(data), "sorted", 1)


@pytest.mark.parametrize("outer", ["sum", "mean", "std", "max"])
@pytest.mark.parametrize("output", ["graph", "node"])
def test_orders_with_the_same_ids_are_run_once(batch, outer, output):
    """With two ids, C(5, 2) of the 5! orders differ; weights make up for the others."""
    seen = []

    class Count(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.gnn = GIN(3, 4, 2).double()

        def forward(self, x, edge_index):
            seen.append(x.size(0))
            return self.gnn(x, edge_index)

    gnn = Count()
    model = RelationalPooling(gnn, "all", 2, outer=outer, output=output, form="ragged")
    got = model(batch.x, batch.edge_index, batch.batch, batch.num_graphs)
    assert seen == [4 * 6 + 5 * 10 + 3 * 3]
    rows = []
    for data in batch.to_data_list():
        values = []
        for order in permutations(range(data.num_nodes)):
            h = gnn(torch.cat([data.x, ids(order, 2)], 1), data.edge_index)
            values.append(h if output == "node" else h.sum(0, keepdim=True))
        stacked = torch.stack(values)
        pooled = {
            "sum": stacked.sum(0),
            "mean": stacked.mean(0),
            "std": stacked.var(0, unbiased=False).sqrt(),
            "max": stacked.amax(0),
        }
        rows.append(pooled[outer])
    torch.testing.assert_close(
        got, torch.cat(rows), rtol=1e-10, atol=1e-7 if outer == "std" else 1e-10
    )


def test_k_ary_orders_and_foreign_pools_are_listed_in_full(batch):
    class Mean(torch.nn.Module):
        def forward(self, x, index, dim_size):
            total = x.new_zeros(dim_size, x.size(1)).index_add_(0, index, x)
            return total / torch.bincount(index, minlength=dim_size).unsqueeze(1)

    gnn = GIN(3, 4, 2).double()
    wanted = brute_force(gnn, batch, 2, None, "graph")
    got = RelationalPooling(gnn, "all", 2, outer=Mean())(
        batch.x, batch.edge_index, batch.batch, batch.num_graphs
    )
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)
