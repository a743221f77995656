"""Selectors beside loops over nodes and edges, PyTorch Geometric's own and torch-geometric-pool's."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch
import torch_geometric.nn as pyg
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from graphpool import Segments, aggr, ops
from graphpool.coarsen import Coarsening, Selected, Selection, reduce, resolve_selector
from graphpool.coarsen.matching import descending, greedy_matching, independent_set

NAMES = ["topk", "sag", "edge_contraction", "matching", "kmis"]
C = 6


def batch_of_graphs(sizes=(7, 1, 0, 12, 5), seed=0, dtype=torch.float64):
    """Double edges and loops among them, a graph of one node, and one of none."""
    generator = torch.Generator().manual_seed(seed)
    edges, first = [], 0
    for n in sizes:
        if n:
            edges.append(first + torch.randint(n, (2, 2 * n), generator=generator))
        first += n
    x = torch.randn(first, C, generator=generator, dtype=dtype)
    batch = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return x, torch.cat(edges, 1), Segments(index=batch, num_segments=len(sizes))


def make(name, **kwargs):
    torch.manual_seed(1)
    return resolve_selector(name, C, **kwargs).double()


# --- the greedy choices ------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_matching_is_that_of_the_loop(data):
    n = data.draw(st.integers(1, 14))
    number = st.integers(0, n - 1)
    pairs = data.draw(
        st.lists(st.tuples(number, number).filter(lambda p: p[0] != p[1]), max_size=30)
    )
    order = data.draw(st.permutations(range(len(pairs))))
    taken, accepted = set(), [False] * len(pairs)
    for e in order:
        if not taken & set(pairs[e]):
            taken |= set(pairs[e])
            accepted[e] = True
    edges = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).t()
    assert greedy_matching(edges, torch.tensor(order, dtype=torch.long), n).tolist() == accepted


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_independent_set_is_that_of_the_loop(data):
    n, k = data.draw(st.integers(1, 14)), data.draw(st.integers(1, 3))
    number = st.integers(0, n - 1)
    pairs = data.draw(st.lists(st.tuples(number, number), max_size=24))
    order = data.draw(st.permutations(range(n)))
    graph = nx.Graph()
    graph.add_nodes_from(range(n))
    graph.add_edges_from(pairs)
    steps = dict(nx.all_pairs_shortest_path_length(graph))
    chosen = []
    for v in order:
        if all(steps[v].get(c, 99) > k for c in chosen):
            chosen.append(v)
    nearest = [min(chosen, key=lambda c: (steps[v].get(c, 99), order.index(c))) for v in range(n)]
    edges = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).t()
    centres, place = independent_set(edges, torch.tensor(order), n, k)
    assert centres.tolist() == sorted(chosen)
    assert centres[place].tolist() == nearest
    assert all(steps[v][c] <= k for v, c in enumerate(nearest))


def test_ties_do_not_depend_on_the_batch_and_do_not_make_chains():
    bags = Segments(index=torch.tensor([0] * 50 + [1] * 20), num_segments=2)
    order = descending(torch.zeros(70), bags)
    for g, (low, high) in enumerate([(0, 50), (50, 70)]):
        alone = Segments(index=torch.zeros(high - low, dtype=torch.long), num_segments=1)
        inside = order[(order >= low) & (order < high)] - low
        assert torch.equal(inside, descending(torch.zeros(high - low), alone)), g
    shuffled = torch.randperm(70)
    rank = order.argsort()
    mixed = descending(torch.zeros(70), Segments(index=bags.index[shuffled], num_segments=2))
    assert sorted(mixed.tolist()) == list(range(70)) and rank.numel() == 70
    place = descending(
        torch.zeros(10_000), Segments(index=torch.zeros(10_000).long(), num_segments=1)
    )
    rank = place.argsort()
    run = longest = 0
    for up in (rank.diff() > 0).tolist():
        run = run + 1 if up else 0
        longest = max(longest, run)
    assert longest <= 3


# --- PyTorch Geometric -------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [0.5, 0.3, 3])
@pytest.mark.parametrize("name", ["topk", "sag"])
def test_top_nodes_are_those_of_pyg(name, ratio):
    x, edges, batch = batch_of_graphs()
    layer = Coarsening(C, name, "sum", select_kwargs={"ratio": ratio}).double()
    theirs = {"topk": pyg.TopKPooling, "sag": pyg.SAGPooling}[name](C, ratio).double()
    theirs.load_state_dict(layer.select.state_dict(), strict=True)
    h, joined, _, graph, kept, score = theirs(x, edges, batch=batch.index)
    found = layer(x, edges, batch)
    order = kept.argsort()
    torch.testing.assert_close(found.x, h[order])
    assert torch.equal(found.batch.index, graph[order]) and len(found.batch) == 5
    renumbered = {(int(order.argsort()[u]), int(order.argsort()[v])) for u, v in joined.t()}
    assert {tuple(e) for e in found.edge_index.t().tolist()} == {
        p for p in renumbered if p[0] != p[1]
    }
    assert found.edge_weight is None


@pytest.mark.parametrize("seed", range(3))
def test_contracted_edges_are_those_of_pyg(seed):
    # Whoever receives one edge gives it the score 1.5: complete graphs have no such ties.
    x, _, batch = batch_of_graphs((7, 1, 0, 5), seed=seed)
    edges = (batch.index[:, None] == batch.index).fill_diagonal_(False).nonzero().t()
    layer = Coarsening(C, "edge_contraction", "sum").double()
    theirs = pyg.EdgePooling(C).double()
    theirs.load_state_dict(layer.select.state_dict())
    h, joined, graph, info = theirs(x, edges, batch.index)
    found = layer(x, edges, batch)
    # Their clusters by ours.
    mine = found.selection.cluster
    place = torch.full((len(h),), -1).index_copy(0, info.cluster, mine)
    assert torch.equal(place[info.cluster], mine) and len(h) == len(found.x)
    torch.testing.assert_close(found.x[place], h)
    assert torch.equal(found.batch.index[place], graph)
    theirs_joined = {tuple(e) for e in place[joined].t().tolist() if e[0] != e[1]}
    assert {tuple(e) for e in found.edge_index.t().tolist()} == theirs_joined


# --- our own -----------------------------------------------------------------------------------------


def test_the_heaviest_edges_are_matched():
    x, edges, batch = batch_of_graphs()
    weight = torch.rand(edges.size(1), dtype=torch.float64)
    between = {}
    for (u, v), w in zip(edges.t().tolist(), weight.tolist(), strict=True):
        if u != v:
            between[min(u, v), max(u, v)] = between.get((min(u, v), max(u, v)), 0) + w
    degree = {v: sum(w for pair, w in between.items() if v in pair) for v in range(len(x))}
    by_score = sorted(between, key=lambda p: -between[p] * sum(1 / degree[v] for v in p))
    cluster = list(range(len(x)))
    free = set(cluster)
    for u, v in by_score:
        if {u, v} <= free:
            free -= {u, v}
            cluster[v] = u
    found = make("matching")(x, edges, batch, weight)
    expected = Selection.from_cluster(torch.tensor(cluster)).cluster
    assert torch.equal(found.selection.cluster, expected) and found.score is None


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("score", ["linear", "degree"])
def test_nodes_go_to_centres_within_k_steps(k, score):
    x, edges, batch = batch_of_graphs((20, 1, 15))
    selector = make("kmis", k=k, score=score)
    found = selector(x, edges, batch)
    if score == "linear":
        by = (x @ selector.lin.weight[0] + selector.lin.bias).sigmoid()
        torch.testing.assert_close(found.score, by)
        centres, place = independent_set(edges, by.argsort(descending=True), len(x), k)
        assert torch.equal(found.selection.cluster, place)
    graph = nx.Graph(edges.t().tolist())
    graph.add_nodes_from(range(len(x)))
    for members in [
        (found.selection.cluster == c).nonzero().squeeze(1).tolist()
        for c in range(found.selection.num_coarse)
    ]:
        inside = nx.single_source_shortest_path_length
        assert any(max(inside(graph, c, k).get(v, 99) for v in members) <= k for c in members)


# --- as a layer --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("pool", ["mean", "max", "gnp"])
def test_features_edges_and_weights_are_those_of_loops(name, pool):
    x, edges, batch = batch_of_graphs()
    attr = torch.randn(edges.size(1), 3, dtype=torch.float64)
    weight = torch.rand(edges.size(1), dtype=torch.float64)
    torch.manual_seed(2)
    layer = Coarsening(C, name, pool, edge_dim=3).double()
    found = layer(x, edges, batch, edge_attr=attr, edge_weight=weight)
    chosen = layer.select(x, edges, batch, weight)
    fine, coarse = chosen.selection.rows.tolist(), chosen.selection.coarse.index.tolist()
    score = torch.ones(len(fine)).double() if chosen.score is None else chosen.score
    place = dict(zip(fine, coarse, strict=True))
    for k in range(len(found.x)):
        mine = [m for m in range(len(fine)) if coarse[m] == k]
        members = torch.stack([score[m] * x[fine[m]] for m in mine])
        torch.testing.assert_close(found.x[k], layer.pool(members, dim_size=1)[0])
        assert {int(batch.index[fine[m]]) for m in mine} == {int(found.batch.index[k])}
    bags = {}
    for e, (u, v) in enumerate(edges.t().tolist()):
        if u in place and v in place and place[u] != place[v]:
            bags.setdefault((place[u], place[v]), []).append(e)
    assert [tuple(e) for e in found.edge_index.t().tolist()] == sorted(bags)
    for row, pair in enumerate(sorted(bags)):
        w, a = weight[bags[pair]], attr[bags[pair]]
        torch.testing.assert_close(found.edge_weight[row], w.sum())
        torch.testing.assert_close(found.edge_attr[row], (w[:, None] * a).sum(0) / w.sum())


@pytest.mark.parametrize("name", NAMES)
def test_graphs_do_not_see_each_other(name):
    x, edges, batch = batch_of_graphs()
    layer = Coarsening(C, name, "softmax").double()
    together = layer(x, edges, batch)
    first = 0
    for g, n in enumerate(batch.counts.tolist()):
        mine = (edges[0] >= first) & (edges[0] < first + n)
        alone = layer(x[first : first + n], edges[:, mine] - first)
        rows = (together.batch.index == g).nonzero().squeeze(1)
        torch.testing.assert_close(together.x[rows], alone.x)
        shift = int(rows[0]) if len(rows) else 0
        ours = torch.isin(together.edge_index[0], rows)
        assert torch.equal(together.edge_index[:, ours] - shift, alone.edge_index)
        first += n
    assert len(together.batch) == 5 and int(together.batch.counts[2]) == 0
    assert int(together.batch.counts[1]) == 1


class Soft(nn.Module):
    def __init__(self, k=3):
        super().__init__()
        self.lin = nn.Linear(C, k)

    def forward(self, x, edge_index, batch, edge_weight):
        return self.lin(x).softmax(1)


@pytest.mark.parametrize("name", [*NAMES, "soft"])
def test_gradients_reach_scores_and_reducers(name):
    x, edges, batch = batch_of_graphs((5, 4))
    torch.manual_seed(3)
    select = Soft() if name == "soft" else name
    layer = Coarsening(C, select, "gnp").double()
    x.requires_grad_()
    out = layer(x, edges, batch)
    (
        out.x.sin().sum() + (0 if out.edge_weight is None else out.edge_weight.square().sum())
    ).backward()
    for parameter, value in [("x", x), *layer.named_parameters()]:
        # Of one element there is nothing to learn, and a softmax does not see a shift.
        if (name in ("topk", "sag") and parameter.startswith("pool")) or (
            name == "edge_contraction" and parameter == "select.lin.bias"
        ):
            continue
        assert value.grad is not None and bool((value.grad != 0).any()), parameter

    def scored(*parameters):
        named = dict(zip(dict(layer.named_parameters()), parameters, strict=True))
        out = torch.func.functional_call(layer, named, (x.detach(), edges, batch))
        return out.x

    assert torch.autograd.gradcheck(
        scored, [p.detach().requires_grad_() for p in layer.parameters()]
    )


def test_a_soft_assignment_weights_features_and_edges():
    x, edges, batch = batch_of_graphs((5, 4))
    layer = Coarsening(C, Soft(), "mean").double()
    out = layer(x, edges, batch)
    S = layer.select(x, edges, batch, None)
    block = torch.zeros(9, 6).double()
    block[:5, :3], block[5:, 3:] = S[:5], S[5:]
    torch.testing.assert_close(out.x, (block.T @ x) / block.sum(0)[:, None])
    A = (
        torch.zeros(9, 9)
        .double()
        .index_put((edges[0], edges[1]), torch.ones(1).double(), accumulate=True)
    )
    expected = block.T @ A @ block
    expected.fill_diagonal_(0)
    dense = torch.zeros(6, 6).double().index_put(tuple(out.edge_index), out.edge_weight)
    torch.testing.assert_close(dense, expected)
    attr = torch.randn(edges.size(1), 2).double()
    torch.manual_seed(0)
    other = Coarsening(C, layer.select, "mean", edge_dim=2).double()
    both = other(x, edges, batch, edge_attr=attr)
    dense = torch.zeros(6, 6).double().index_put(tuple(both.edge_index), both.edge_weight)
    torch.testing.assert_close(dense, expected)
    with pytest.raises(ValueError, match="gives weights no gradient"):
        Coarsening(C, Soft(), "max").double()(x, edges, batch)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_and_one_node(name):
    layer = Coarsening(C, name)
    none = torch.zeros(2, 0, dtype=torch.long)
    out = layer(torch.zeros(0, C), none, torch.zeros(0, dtype=torch.long), 3)
    assert out.x.shape == (0, C) and out.edge_index.shape == (2, 0) and len(out.batch) == 3
    out = layer(torch.ones(1, C), torch.tensor([[0], [0]]))
    assert out.x.shape == (1, C) and out.edge_index.shape == (2, 0)
    assert out.lift(out.x).shape == (1, C)


# --- torch-geometric-pool ----------------------------------------------------------------------------

SPARSE = ["topk", "sag", "kmis", "ec", "graclus", "ndp", "lap", "maxcut", "asap", "nopool", "sep"]
DENSE = ["mincut", "diff", "dmon", "hosc", "jb", "acc", "bnpool", "nmf", "eigen"]


def pooler(name, **kwargs):
    from tgp.poolers import get_pooler

    torch.manual_seed(4)
    more = {"in_channels": C, "k": 3, "batched": False, "sparse_output": True, "ratio": 0.5}
    return get_pooler(name, **{**more, **kwargs})


def seeded():
    torch.manual_seed(5)
    np.random.seed(5)


@pytest.mark.needs("tgp.poolers")
@pytest.mark.parametrize("name", SPARSE + DENSE)
def test_poolers_select_and_connect(name):
    from tgp.reduce import AggrReduce

    x, edges, batch = batch_of_graphs((8, 6, 9), dtype=torch.float32)
    edges = torch.cat([edges, edges.flip(0)], 1)
    edges = torch.unique(edges[:, edges[0] != edges[1]], dim=1)
    theirs = pooler(name).eval()
    layer = Coarsening(C, theirs, "sum").eval()
    seeded()
    out = layer(x, edges, batch)
    seeded()
    raw = theirs(x=x, adj=edges, batch=batch.index)
    assert len(out.batch) == 3 and sorted(out.batch.index.tolist()) == out.batch.index.tolist()
    assert out.lift(out.x).shape == x.shape
    if raw.so.s.is_sparse and name != "nopool":
        pooled, graphs = AggrReduce(aggr.resolve("sum"))(x, raw.so, batch=batch.index)
        order = graphs.argsort(stable=True)
        torch.testing.assert_close(out.x, pooled[order])
        assert torch.equal(graphs[order], out.batch.index)
    elif not raw.so.s.is_sparse:
        s = raw.so.s.reshape(len(x), -1)
        block = torch.zeros(len(x), 3 * s.size(1))
        for g in range(3):
            block[batch.index == g, g * s.size(1) : (g + 1) * s.size(1)] = s[batch.index == g]
        torch.testing.assert_close(out.x, block.T @ x)
    assert out.edge_index.size(1) == raw.edge_index.size(1)
    assert (out.loss or {}).keys() == (raw.loss or {}).keys()


@pytest.mark.needs("tgp.poolers")
def test_a_pooler_by_name_learns_by_its_losses():
    x, edges, batch = batch_of_graphs((8, 6), dtype=torch.float32)
    layer = Coarsening(C, "mincut", "gnp", select_kwargs={"k": 3})
    out = layer(x, edges, batch)
    assert set(out.loss) == {"cut_loss", "ortho_loss"} and len(out.x) == 6
    sum(out.loss.values()).backward()
    learned = [p for n, p in layer.named_parameters() if n.startswith("select")]
    assert learned and all(p.grad is not None for p in learned)
    with pytest.raises(ValueError, match="batched=False, sparse_output=True"):
        Coarsening(C, pooler("mincut", batched=True))
    with pytest.raises(
        ValueError, match="`coarsen` must be one of edge_contraction, .*mincut.*'mincat'"
    ):
        Coarsening(C, "mincat")
    with pytest.raises(TypeError, match="'mincut' does not take q. It takes: in_channels, k"):
        Coarsening(C, "mincut", select_kwargs={"q": 3})
    with pytest.raises(ValueError, match="`batch` must be ascending"):
        layer(x, edges, 1 - batch.index, 2)


def test_what_is_refused():
    with pytest.raises(TypeError, match="'topk' cannot be made with {'k': 3}"):
        resolve_selector("topk", C, k=3)
    with pytest.raises(ValueError, match="`ratio` must be a share"):
        resolve_selector("topk", C, ratio=1.5)
    with pytest.raises(ValueError, match="`score` must be 'linear' or 'degree'"):
        resolve_selector("kmis", C, score="random")
    with pytest.raises(ValueError, match="is a module already; it cannot take ratio"):
        resolve_selector(Soft(), C, ratio=0.5)
    with pytest.raises(TypeError, match="`coarsen` must be one of.*got int"):
        resolve_selector(3, C)
    with pytest.raises(ValueError, match="`edge_pool` must keep the 2 channels"):
        Coarsening(C, "topk", edge_pool=["mean", "max"], edge_dim=2)
    x, edges, batch = batch_of_graphs()
    with pytest.raises(ValueError, match="`edge_attr` must be given exactly"):
        Coarsening(C, "topk", edge_dim=2).double()(x, edges, batch)


def test_a_selector_of_ones_own():
    x, edges, batch = batch_of_graphs((6, 4))

    class Halves(nn.Module):
        def forward(self, x, edge_index, batch, edge_weight):
            score = ops.segment_sum(x, batch)[batch.index, 0]
            return Selected(Selection.from_cluster(torch.arange(len(x)) // 2), score)

    found = Coarsening(C, Halves(), "sum")(x, edges, batch)
    factor = ops.segment_sum(x, batch)[batch.index, :1]
    expected = reduce(x * factor, Selection.from_cluster(torch.arange(10) // 2), "sum")
    torch.testing.assert_close(found.x, expected)
