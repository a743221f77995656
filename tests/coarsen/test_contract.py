"""Contracting a graph, against loops, quotient graphs of networkx and dense products of matrices."""

from __future__ import annotations

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric import EdgeIndex
from torch_geometric.nn import aggr as pyg_aggr

from graphpool import Segments, aggr
from graphpool.coarsen import Selection, connect, contract, lift, reduce, select

POOLS = [name for name in aggr.names() if not aggr.lookup(name).ragged]
LEARN_NOTHING = {"kmax", "max", "median", "min", "mul", "pyramid", "quantile"}


def make(name):
    torch.manual_seed(0)
    return aggr.resolve(name, channels=8, **aggr.lookup(name).example_arguments).double().eval()


def random_graph(nodes=9, edges=24, channels=8, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(nodes, channels, dtype=torch.float64, generator=g)
    edge_index = torch.randint(nodes, (2, edges), generator=g)
    return x, edge_index, torch.rand(edges, dtype=torch.float64, generator=g)


def adjacency(edge_index, weight, nodes):
    dense = torch.zeros(nodes, nodes, dtype=torch.float64)
    return dense.index_put(tuple(edge_index), weight, accumulate=True)


def as_dict(coarse):
    values = coarse.edge_attr.tolist()
    return dict(zip(map(tuple, coarse.edge_index.t().tolist()), values, strict=True))


CLUSTER = torch.tensor([3, 0, 3, 1, 0, 4, 4, 1, 3])  # unsorted; 2 is empty


# ------------------------------------------------------------------------------------------ hard


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_edges_are_those_of_the_quotient_graph(data):
    nodes = data.draw(st.integers(1, 12))
    number = st.integers(0, nodes - 1)
    pairs = data.draw(st.lists(st.tuples(number, number), max_size=30))
    labels = data.draw(st.lists(st.integers(0, 6), min_size=nodes, max_size=nodes))
    graph = nx.DiGraph()
    graph.add_nodes_from(range(nodes))
    graph.add_edges_from(pairs)

    def between(block, other):
        return {"weight": sum(pairs.count((u, v)) for u in block for v in other)}

    names = sorted(set(labels))
    blocks = [{i for i in range(nodes) if labels[i] == name} for name in names]
    quotient = nx.quotient_graph(graph, blocks, relabel=True, edge_data=between)
    edge_index = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).t()
    count = torch.ones(len(pairs))
    coarse = contract(torch.ones(nodes, 1), edge_index, torch.tensor(labels), edge_attr=count)
    expected = {(u, v): count for u, v, count in quotient.edges(data="weight")}
    assert as_dict(coarse) == expected
    assert coarse.edge_index.t().tolist() == sorted(map(list, expected))
    assert coarse.x.size(0) == quotient.number_of_nodes()


@pytest.mark.parametrize("directed", [True, False])
@pytest.mark.parametrize("self_loops", [True, False])
@pytest.mark.parametrize("edge_pool", ["sum", "mean", "max", "std"])
def test_parallel_edges_are_merged_as_in_a_loop(directed, self_loops, edge_pool):
    x, edge_index, _ = random_graph()
    attributes = torch.randn(24, 3, dtype=torch.float64)
    found = contract(
        x, edge_index, CLUSTER, edge_attr=attributes, edge_pool=edge_pool, num_clusters=5,
        directed=directed, self_loops=self_loops,
    )  # fmt: skip
    bags = {}
    for e, (u, v) in enumerate(edge_index.t().tolist()):
        k, m = int(CLUSTER[u]), int(CLUSTER[v])
        pair = (k, m) if directed or k < m else (m, k)
        if k != m or self_loops:
            bags.setdefault(pair, []).append(attributes[e])
    formula = {
        "sum": lambda a: a.sum(0),
        "mean": lambda a: a.mean(0),
        "max": lambda a: a.amax(0),
        "std": lambda a: a.std(0, correction=0),
    }[edge_pool]
    assert found.edge_index.t().tolist() == [list(pair) for pair in sorted(bags)]
    expected = torch.stack([formula(torch.stack(bags[pair])) for pair in sorted(bags)])
    assert torch.allclose(found.edge_attr, expected)


@pytest.mark.parametrize("name", POOLS)
def test_every_pool_reduces_clusters(name):
    x, edge_index, _ = random_graph()
    pool = make(name)
    coarse = contract(x, edge_index, CLUSTER, pool, num_clusters=5)
    for k in range(5):
        members = x[(k == CLUSTER).nonzero().squeeze(1)]
        assert torch.allclose(coarse.x[k], pool(members, dim_size=1)[0], atol=1e-10), k


@pytest.mark.parametrize("name", POOLS)
def test_every_pool_reads_members_in_place_and_counts_their_weights(name):
    """Weights 2 and 0 are a repetition and an absence."""
    x, _, _ = random_graph(nodes=4)
    pool = make(name)
    weight = torch.tensor([1.0, 2.0, 1.0, 0.0, 1.0], dtype=torch.float64)
    members = [torch.tensor(v) for v in ([0, 1, 1, 2, 3], [0, 0, 1, 1, 1])]
    selection = Selection.from_memberships(*members, 4, 2, weight)
    expected = [pool(x[[0, 1, 1]]), pool(x[[1, 3]])]
    assert torch.allclose(reduce(x, selection, pool), torch.cat(expected), atol=1e-9)


def test_gaps_close_unless_the_number_of_clusters_is_given():
    x, edge_index, _ = random_graph()
    closed = contract(x, edge_index, 100 * CLUSTER)
    kept = contract(x, edge_index, CLUSTER, num_clusters=5)
    occupied = torch.tensor([0, 1, 3, 4])
    assert torch.equal(closed.x, kept.x[occupied]) and not kept.x[2].any()
    assert torch.equal(occupied[closed.edge_index], kept.edge_index)
    huge = contract(x, edge_index, CLUSTER * (1 << 60))
    assert torch.equal(huge.x, closed.x)


@pytest.mark.parametrize("soft", [False, True])
def test_the_order_of_the_nodes_does_not_matter(soft):
    x, edge_index, weight = random_graph()
    cluster = torch.rand(9, 3, dtype=torch.float64) if soft else CLUSTER
    order = torch.randperm(9)
    place = order.argsort()
    one = contract(x, edge_index, cluster, edge_attr=weight)
    shuffle = torch.randperm(24)
    other = contract(
        x[order], place[edge_index][:, shuffle], cluster[order], edge_attr=weight[shuffle]
    )
    assert torch.equal(one.edge_index, other.edge_index)
    assert torch.allclose(one.x, other.x) and torch.allclose(one.edge_attr, other.edge_attr)
    assert torch.allclose(one.lift(one.x)[order], other.lift(other.x))


def test_int32_edge_index_objects_and_one_dimensional_features():
    x, edge_index, weight = random_graph(channels=1)
    expected = contract(x, edge_index, CLUSTER, edge_attr=weight)
    for given_edges in (edge_index.int(), EdgeIndex(edge_index)):
        found = contract(x[:, 0], given_edges, CLUSTER.to(torch.int16), edge_attr=weight)
        assert type(found.edge_index) is torch.Tensor and found.edge_index.dtype == torch.int64
        assert torch.equal(found.edge_index, expected.edge_index)
        assert torch.equal(found.x, expected.x[:, 0]) and found.lift(found.x).shape == (9,)


def test_no_nodes_and_no_edges():
    none = torch.zeros(2, 0, dtype=torch.long)
    assert contract(torch.zeros(0, 3), none, torch.zeros(0, dtype=torch.long)).x.shape == (0, 3)
    alone = contract(torch.ones(2, 3), none, torch.tensor([0, 0]), edge_attr=torch.ones(0, 2))
    assert alone.edge_index.shape == (2, 0) and alone.edge_attr.shape == (0, 2)
    soft = contract(torch.ones(2, 3), none, torch.ones(2, 2))
    assert soft.edge_index.shape == (2, 0) and soft.x.tolist() == [[1.0] * 3] * 2


# ------------------------------------------------------------------------------------------ soft


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize("form", ["dense", "sparse", "memberships"])
@pytest.mark.parametrize("edge_pool", ["sum", "mean"])
@pytest.mark.parametrize("self_loops", [True, False])
@pytest.mark.parametrize("directed", [True, False])
def test_soft_edges_are_the_product_of_matrices(form, edge_pool, self_loops, directed):
    x, edge_index, weight = random_graph()
    weight = weight - 0.5  # edges may weigh less than nothing
    soft = torch.rand(9, 4, dtype=torch.float64)
    soft[soft < 0.4] = 0
    soft[:, 3] = 0  # nobody's
    given_soft = soft
    if form == "sparse":
        given_soft = soft.to_sparse_csr()
    elif form == "memberships":
        fine, coarse = soft.nonzero().unbind(1)
        given_soft = Selection.from_memberships(fine, coarse, 9, 4, soft[fine, coarse])
    out = contract(
        x, edge_index, given_soft, "sum", edge_attr=weight, edge_pool=edge_pool,
        self_loops=self_loops, directed=directed,
    )  # fmt: skip
    exists = soft.T @ adjacency(edge_index, torch.ones(24).double(), 9) @ soft
    product = soft.T @ adjacency(edge_index, weight, 9) @ soft
    if not directed:
        exists, product = (m.triu() + m.T.triu(1) for m in (exists, product))
    if not self_loops:
        exists = exists - exists.diag().diag()
    pairs = (exists > 0).nonzero()
    assert torch.equal(out.edge_index, pairs.T)
    divisor = exists[tuple(pairs.T)] if edge_pool == "mean" else 1
    assert torch.allclose(out.edge_attr, product[tuple(pairs.T)] / divisor)
    assert torch.allclose(out.x, soft.T @ x)
    assert torch.allclose(out.lift(out.x, "sum"), soft @ soft.T @ x)
    assert torch.allclose(out.lift(out.x), soft @ out.x / soft.sum(1, keepdim=True))


@pytest.mark.parametrize("edge_pool", ["sum", "mean"])
@pytest.mark.parametrize("name", POOLS)
def test_a_one_hot_assignment_is_a_cluster_vector(name, edge_pool):
    x, edge_index, weight = random_graph()
    batch = Segments(index=torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 1]), num_segments=2)
    edge_index = edge_index[:, (edge_index[0] < 5) == (edge_index[1] < 5)]
    weight = weight[: edge_index.size(1)]
    local = torch.tensor([2, 0, 2, 1, 0, 1, 1, 2, 0])
    one_hot = torch.nn.functional.one_hot(local, 3).double()
    pool, options = make(name), {"edge_attr": weight, "edge_pool": edge_pool, "batch": batch}
    hard = contract(x, edge_index, local + 3 * batch.index, pool, num_clusters=6, **options)
    soft = contract(x, edge_index, one_hot, pool, **options)
    assert torch.allclose(hard.x, soft.x, atol=1e-9)
    assert torch.equal(hard.edge_index, soft.edge_index)
    assert torch.allclose(hard.edge_attr, soft.edge_attr)
    assert torch.equal(hard.batch.index, soft.batch.index) and len(soft.batch) == 2
    assert torch.allclose(hard.lift(hard.x), soft.lift(soft.x))


def test_derivatives_of_a_soft_contraction():
    x, edge_index, weight = random_graph(nodes=5, edges=9, channels=2)
    logits = torch.randn(5, 3, dtype=torch.float64)
    inputs = [v.requires_grad_() for v in (x, logits, weight)]

    def outputs(x, logits, weight, edge_pool):
        soft = logits.softmax(1)
        out = contract(x, edge_index, soft, "mean", edge_attr=weight, edge_pool=edge_pool)
        return out.x, out.edge_attr, out.lift(out.x, "sum")

    for edge_pool in ("sum", "mean"):
        assert torch.autograd.gradcheck(lambda *v, e=edge_pool: outputs(*v, e), inputs)
        assert torch.autograd.gradgradcheck(lambda *v, e=edge_pool: outputs(*v, e), inputs)


@pytest.mark.parametrize("layout", ["to_sparse_coo", "to_sparse_csr"])
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
def test_derivatives_reach_a_sparse_assignment(layout):
    x, edge_index, _ = random_graph()
    soft = torch.rand(9, 3, dtype=torch.float64).requires_grad_()
    contract(x, edge_index, getattr(soft, layout)()).edge_attr.square().sum().backward()
    found, soft.grad = soft.grad, None
    dense = soft.T @ adjacency(edge_index, torch.ones(24).double(), 9) @ soft
    (dense - dense.diag().diag()).square().sum().backward()
    assert torch.allclose(found, soft.grad)


@pytest.mark.parametrize("name", POOLS)
def test_a_pool_gives_the_assignment_a_gradient_or_is_refused(name):
    x, edge_index, _ = random_graph()
    soft = torch.rand(9, 3, dtype=torch.float64).requires_grad_()
    pool = make(name)
    if name in LEARN_NOTHING:
        with pytest.raises(ValueError, match="gives weights no gradient"):
            contract(x, edge_index, soft, pool)
        contract(x, edge_index, soft.detach(), pool)
        with torch.no_grad():
            contract(x, edge_index, soft, pool)
        return
    (slope,) = torch.autograd.grad(contract(x, edge_index, soft, pool).x.square().sum(), soft)
    step = 1e-6
    for i, k in ((0, 0), (4, 2)):
        moved = []
        for sign in (1, -1):
            other = soft.detach().clone()
            other[i, k] += sign * step
            moved.append(contract(x, edge_index, other, pool).x.square().sum())
        assert float(slope[i, k]) == pytest.approx(
            float((moved[0] - moved[1]).detach() / (2 * step)), rel=1e-3, abs=1e-5
        )


def test_edges_are_checked_for_a_gradient_too():
    x, edge_index, weight = random_graph()
    soft = torch.rand(9, 3, dtype=torch.float64).requires_grad_()
    with pytest.raises(ValueError, match="Max gives weights no gradient"):
        contract(x, edge_index, soft, edge_attr=weight, edge_pool="max")


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_an_edge_that_is_not_finite_stays_in_its_own_coarse_edges(bad):
    x, weight = torch.ones(4, 1), torch.tensor([1.0, bad, 3.0])
    edge_index = torch.tensor([[0, 1, 2], [1, 2, 3]])
    one_hot = torch.eye(4)[[0, 1, 2, 3]].requires_grad_()
    out = contract(x, edge_index, one_hot, edge_attr=weight)
    assert out.edge_index.tolist() == edge_index.tolist()
    assert torch.equal(out.edge_attr.isfinite(), torch.tensor([True, False, True]))


def test_half_precision_does_not_lose_edges():
    edge_index = torch.tensor([[0] * 70_000 + [1], [1] * 70_000 + [2]])
    soft = torch.eye(3, dtype=torch.float16)
    out = contract(torch.ones(3, 1), edge_index, soft, edge_attr=torch.full((70_001,), 1e-3))
    assert out.edge_index.tolist() == [[0, 1], [1, 2]]
    assert out.edge_attr[0] == pytest.approx(70, rel=1e-2)


# ---------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize("soft", [False, True])
def test_a_graph_of_a_batch_is_contracted_as_if_alone(soft):
    graphs = [random_graph(nodes=n, edges=12, seed=n) for n in (4, 6, 5)]
    clusters = [
        torch.rand(len(x), 2, dtype=torch.float64) if soft else torch.arange(len(x)) % 2
        for x, _, _ in graphs
    ]
    starts = [0, 4, 10]
    x, weight = (torch.cat([g[i] for g in graphs]) for i in (0, 2))
    edge_index = torch.cat([g[1] + s for g, s in zip(graphs, starts, strict=True)], 1)
    batch = torch.tensor([0, 1, 2]).repeat_interleave(torch.tensor([4, 6, 5]))
    cluster = torch.cat(clusters) if soft else torch.cat(clusters) + 2 * batch
    out = contract(x, edge_index, cluster, edge_attr=weight, batch=batch, batch_size=3)
    alone = [
        contract(x, edges, c, edge_attr=w)
        for (x, edges, w), c in zip(graphs, clusters, strict=True)
    ]
    assert torch.allclose(out.x, torch.cat([a.x for a in alone]))
    expected = torch.cat([a.edge_index + 2 * i for i, a in enumerate(alone)], 1)
    assert torch.equal(out.edge_index, expected)
    assert torch.allclose(out.edge_attr, torch.cat([a.edge_attr for a in alone]))
    assert out.batch.index.tolist() == [0, 0, 1, 1, 2, 2]


def test_a_graph_without_nodes_keeps_its_soft_clusters_and_its_place():
    batch = torch.tensor([0, 0, 2])
    soft = torch.ones(3, 2)
    out = contract(
        torch.ones(3, 1), torch.zeros(2, 0, dtype=torch.long), soft, batch=batch, batch_size=4
    )
    assert out.x.flatten().tolist() == [1, 1, 0, 0, 1, 1, 0, 0]
    assert out.batch.counts.tolist() == [2, 2, 2, 2]


# ------------------------------------------------------------------------------- select and lift


def test_elements_that_vanish():
    cluster = torch.tensor([1, -1, 0, 1])
    selection = Selection.from_cluster(cluster, 2, may_vanish=True)
    x = torch.tensor([[1.0], [50.0], [3.0], [5.0]])
    assert reduce(x, selection, "sum").flatten().tolist() == [3.0, 6.0]
    assert torch.equal(selection.cluster, cluster)
    assert lift(torch.tensor([7.0, 8.0]), selection).tolist() == [8.0, 0.0, 7.0, 8.0]
    joined = connect(torch.tensor([[0, 1, 0], [1, 2, 2]]), selection)
    assert joined.edge_index.tolist() == [[1], [0]] and joined.selection.rows.tolist() == [2]


def test_a_pool_of_pyg_and_a_list_of_pools():
    x, edge_index, _ = random_graph()
    out = contract(x, edge_index, CLUSTER, ["mean", "max"])
    assert out.x.shape == (4, 16)
    median = contract(x, edge_index, CLUSTER, pyg_aggr.MedianAggregation())
    assert torch.allclose(median.x, contract(x, edge_index, CLUSTER, make("median")).x)
    with pytest.raises(ValueError, match="takes no `weight`"):
        contract(x, edge_index, torch.rand(9, 2).double(), pyg_aggr.MeanAggregation())


def test_moving_and_printing():
    selection = select(torch.rand(4, 3))
    assert repr(selection.to("cpu")) == (
        "Selection(num_fine=4, num_coarse=3, num_memberships=12, weighted)"
    )
    with pytest.raises(ValueError, match="is no cluster vector"):
        _ = selection.cluster


# --------------------------------------------------------------------------------------- refusals

X, EDGES = torch.ones(4, 2), torch.tensor([[0, 1], [1, 2]])
HALVES = torch.tensor([0, 0, 1, 1])


@pytest.mark.parametrize(
    "error, message, call",
    [
        (ValueError, r"`cluster` must lie in \[0, 3\); got 3 at position 2",
         lambda: contract(X, EDGES, torch.tensor([0, 1, 3, 2]), num_clusters=3)),
        (ValueError, r"`cluster` must be at least 0; got -1 at position 1",
         lambda: contract(X, EDGES, torch.tensor([0, -1, 0, 0]))),
        (ValueError, r"got -2 at position 3",
         lambda: Selection.from_cluster(torch.tensor([0, -1, 0, -2]), may_vanish=True)),
        (ValueError, "`cluster` must have one entry per fine element, 4; got 3",
         lambda: contract(X, EDGES, HALVES[:3])),
        (ValueError, "`cluster` must have one entry per fine element, 4; got 3",
         lambda: contract(X, EDGES, torch.ones(3, 2))),
        (TypeError, "`cluster` must be an integer tensor", lambda: contract(X, EDGES, HALVES > 0)),
        (TypeError, "`cluster` must be integers", lambda: contract(X, EDGES, [0, 0, 1, 1])),
        (TypeError, "`cluster` must be integers", lambda: contract(X, EDGES, HALVES.float())),
        (ValueError, "floating point", lambda: contract(X, EDGES, torch.ones(4, 2).long())),
        (ValueError, r"`assignment` must be finite and >= 0; got -1.0 in row 1, column 0",
         lambda: contract(X, EDGES, torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, 1]]))),
        (ValueError, r"`assignment`.* got nan in row 0, column 1",
         lambda: contract(X, EDGES, torch.tensor([[1.0, torch.nan]] * 4))),
        (ValueError, r"`edge_index` must join nodes in \[0, 4\); edge 1 is \(1, 4\)",
         lambda: contract(X, torch.tensor([[0, 1], [1, 4]]), HALVES)),
        (TypeError, "`edge_index`", lambda: contract(X, EDGES.float(), HALVES)),
        (TypeError, "`x` must be a tensor", lambda: contract(None, EDGES, HALVES)),
        (ValueError, "`edge_attr` must have one row per edge, 2; got",
         lambda: contract(X, EDGES, HALVES, edge_attr=torch.ones(3))),
        (ValueError, "`batch_size`, the number of graphs, must be given with `batch`",
         lambda: contract(X, EDGES, HALVES, batch=torch.zeros(4, dtype=torch.long))),
        (ValueError, r"`batch` must lie in .* got 2 at position 3",
         lambda: contract(X, EDGES, HALVES, batch=torch.tensor([0, 0, 1, 2]), batch_size=2)),
        (ValueError, r"Coarse element 1 has members of graphs 0 and 1",
         lambda: contract(X, EDGES, HALVES, batch=torch.tensor([0, 0, 0, 1]), batch_size=2)),
        (ValueError, r"Coarse element 1 is empty, so it lies in no graph",
         lambda: contract(X, EDGES, 2 * HALVES, num_clusters=3, batch=HALVES, batch_size=2)),
        (ValueError, "has parameters", lambda: contract(X, EDGES, HALVES, "pma")),
        (ValueError, "not one vector", lambda: contract(X, EDGES, HALVES, "ward")),
        (ValueError, "`max_memberships`, 5",
         lambda: contract(X, EDGES, torch.ones(4, 2), edge_pool="mean", max_memberships=5)),
        (ValueError, "`num_coarse` goes with a cluster vector",
         lambda: contract(X, EDGES, torch.ones(4, 2), num_clusters=2)),
        (ValueError, "edge 1 joins two of them",
         lambda: contract(X, EDGES, torch.ones(4, 2), batch=HALVES, batch_size=2)),
        (TypeError, "`edge_attr` must be a tensor; got list",
         lambda: contract(X, EDGES, HALVES, edge_attr=[1, 2])),
        (ValueError, "`values` must have one row per coarse element, 2; got",
         lambda: contract(X, EDGES, HALVES).lift(X)),
        (ValueError, "`x` must have one row per fine element, 4",
         lambda: reduce(X[:3], select(HALVES))),
        (ValueError, "`fine` must lie in",
         lambda: Selection.from_memberships(torch.tensor([4]), torch.tensor([0]), 4, 1)),
        (ValueError, "`weight` must have one entry per membership",
         lambda: Selection.from_memberships(HALVES, HALVES, 2, 2, torch.ones(3))),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(error, message, call):
    with pytest.raises(error, match=message):
        call()
