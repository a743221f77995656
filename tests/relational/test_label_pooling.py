"""LabelPooling against a Python loop over labelings, each copy built by hand and run alone."""

from __future__ import annotations

from itertools import combinations, permutations, product

import networkx as nx
import pytest
import torch
from torch import nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GAT, GCN, GIN, GINEConv, MaxAggregation, MeanAggregation

from graphpool.datasets import relabel
from graphpool.relational import Distance, Embedding, LabelPolicy, LabelPooling

POOL = {
    "sum": lambda h: h.sum(0),
    "mean": lambda h: h.mean(0) if len(h) else h.new_zeros(h.shape[1:]),
    "max": lambda h: h.max(0).values if len(h) else h.new_zeros(h.shape[1:]),
    "std": lambda h: h.var(0, unbiased=False).sqrt() if len(h) else h.new_zeros(h.shape[1:]),
}


def make_graph(seed, n, p):
    graph = nx.gnp_random_graph(n, p, seed=seed)
    if graph.number_of_edges() == 0:
        graph.add_edge(0, 1)
    edges = torch.tensor([e for a, b in graph.edges for e in ((a, b), (b, a))]).t()
    generator = torch.Generator().manual_seed(seed)
    edges = edges[:, torch.randperm(edges.size(1), generator=generator)]
    x = torch.randn(n, 2, dtype=torch.double, generator=generator)
    weights = {frozenset((a, b)): i for i, (a, b) in enumerate(graph.edges)}
    table = torch.randn(len(weights), 3, dtype=torch.double, generator=generator)
    attr = table[[weights[frozenset(e)] for e in edges.t().tolist()]]
    cluster = torch.randint(0, 2, (n,), generator=generator)
    return Data(x=x, edge_index=edges, edge_attr=attr, cluster=cluster)


@pytest.fixture(scope="module")
def graphs():
    return [make_graph(s, n, p) for s, n, p in [(0, 5, 0.5), (1, 3, 0.9), (2, 6, 0.3), (3, 4, 0.4)]]


def as_nx(data):
    graph = nx.Graph()
    graph.add_nodes_from(range(data.num_nodes))
    graph.add_edges_from(data.edge_index.t().tolist())
    return graph


def labelings_of(data, policy):
    """Labelings in groups: the assignments of one subset belong together."""
    nodes, labels = range(data.num_nodes), policy.labels
    graph = as_nx(data)
    if policy.name in ("all", "ego"):
        found = [[s] for s in product(nodes, repeat=labels)]
    elif policy.name == "subsets":
        found = [list(permutations(s)) for s in combinations(nodes, labels)]
    elif policy.name == "adjacent":
        found = [[s] for s in sorted({tuple(e) for e in data.edge_index.t().tolist()})]
    elif policy.name == "node_deletion":
        found = [[s] for s in combinations(nodes, labels)]
    elif policy.name == "edge_deletion":
        found = [[tuple(sorted(e))] for e in graph.edges]
    else:
        found = [
            [s]
            for s in product(nodes, repeat=labels)
            if len({int(data.cluster[v]) for v in s}) == 1
        ]
    if policy.max_distance is not None:
        hops = dict(nx.all_pairs_shortest_path_length(graph))
        near = lambda a, b: hops[a].get(b, 99) <= policy.max_distance  # noqa: E731
        found = [g for g in found if all(near(a, b) for a in g[0] for b in g[0])]
    return found


def copy_of(data, labeling, policy):
    """Nodes and edge positions that a copy keeps."""
    keep, edges = set(range(data.num_nodes)), list(range(data.num_edges))
    if policy.hops is not None:
        graph = as_nx(data)
        keep = {
            v
            for s in labeling
            for v in nx.single_source_shortest_path_length(graph, s, cutoff=policy.hops)
        }
    if policy.name == "node_deletion":
        keep -= set(labeling)
    if policy.name == "edge_deletion":
        edges = [e for e in edges if set(data.edge_index[:, e].tolist()) != set(labeling)]
    edges = [e for e in edges if all(v in keep for v in data.edge_index[:, e].tolist())]
    return sorted(keep), edges


def run_alone(gnn, data, labeling, policy, encode, with_edges):
    nodes, edges = copy_of(data, labeling, policy)
    place = {v: i for i, v in enumerate(nodes)}
    pairs = [[place[v] for v in data.edge_index[:, e].tolist()] for e in edges]
    index = torch.tensor(pairs, dtype=torch.long).view(-1, 2).t()
    x = torch.stack([encode(data, v, labeling) for v in nodes]) if nodes else None
    if x is None:
        x = torch.zeros(0, encode(data, 0, labeling).numel(), dtype=torch.double)
    kwargs = {"edge_attr": data.edge_attr[edges]} if with_edges else {}
    return nodes, gnn(x, index, **kwargs)


def one_hot(data, v, labeling):
    return torch.cat([data.x[v], torch.tensor([float(v == s) for s in labeling]).double()])


def unmarked(data, v, labeling):
    return data.x[v]


def brute_force(gnn, graphs, policy, inner, outer, output, encode, with_edges=False, group=None):
    per_graph, per_node = [], []
    for data in graphs:
        values, of_node, of_root = [], {v: [] for v in range(data.num_nodes)}, {}
        by_root: dict[int, list] = {}
        for assignments in labelings_of(data, policy):
            pooled = []
            for labeling in assignments:
                nodes, h = run_alone(gnn, data, labeling, policy, encode, with_edges)
                for v, row in zip(nodes, h, strict=True):
                    of_node[v].append(row)
                if output != "node":
                    root = h[nodes.index(labeling[0])] if inner == "root" else POOL[inner](h)
                    pooled.append(root)
            if output != "node":
                # The assignments of a subset are averaged before the outer pool.
                values.append(torch.stack(pooled).mean(0))
                by_root.setdefault(assignments[0][0] if assignments[0] else -1, []).append(
                    values[-1]
                )
                of_root.setdefault(assignments[0][0] if assignments[0] else -1, []).append(
                    values[-1]
                )
        width = (values or of_node[0])[0].shape
        if output == "graph":
            if group == "root":
                values = [torch.stack(v).mean(0) for v in by_root.values()]
            per_graph.append(POOL[outer](torch.stack(values)))
        for v in range(data.num_nodes):
            rows = of_node[v] if output == "node" else of_root.get(v, [])
            per_node.append(POOL[outer](torch.stack(rows)) if rows else torch.zeros(width))
    return torch.stack(per_graph if output == "graph" else per_node)


POLICIES = [
    LabelPolicy("all", 0),
    LabelPolicy("all", 1),
    LabelPolicy("all", 2),
    LabelPolicy("all", 3),
    LabelPolicy("all", 2, max_distance=1),
    LabelPolicy("all", 3, max_distance=2),
    LabelPolicy("subsets", 1),
    LabelPolicy("subsets", 2),
    LabelPolicy("subsets", 3),
    LabelPolicy("subsets", 2, max_distance=2),
    LabelPolicy("adjacent", 2),
    LabelPolicy("adjacent", 2, hops=1),
    LabelPolicy("ego", 1, hops=0),
    LabelPolicy("ego", 1, hops=1),
    LabelPolicy("ego", 2, hops=1),
    LabelPolicy("ego", 1, hops=9),
    LabelPolicy("node_deletion", 1),
    LabelPolicy("node_deletion", 2),
    LabelPolicy("edge_deletion", 1),
    LabelPolicy("clusters", 2),
]


def name_of(policy):
    return f"{policy.name}-{policy.labels}-h{policy.hops}-d{policy.max_distance}"


# Copies taken one at a time, and all but a few at once, take three quarters of the time.
@pytest.mark.parametrize(
    "chunks", [(None, 7), pytest.param((1, 50), marks=pytest.mark.slow)], ids=str
)
@pytest.mark.parametrize("output", ["graph", "node", "root"])
@pytest.mark.parametrize("policy", POLICIES, ids=name_of)
def test_equals_brute_force(graphs, policy, output, chunks):
    if policy.name == "subsets" and policy.labels == 3:
        graphs = [g for g in graphs if g.num_nodes > 3]
    if policy.name == "all" and policy.labels == 3 and policy.max_distance is None:
        # It has as many copies as the others together.
        graphs = [g for g in graphs if g.num_nodes < 6]
    if output == "root" and (policy.labels == 0 or policy.deletes or policy.name == "subsets"):
        pytest.skip("this policy has no root")
    width = 2 if policy.deletes else 2 + policy.labels
    gnn = GIN(width, 5, 2).double().eval()
    batch = Batch.from_data_list(graphs)
    encode = unmarked if policy.deletes else one_hot
    wanted = brute_force(gnn, graphs, policy, "max", "sum", output, encode)
    forms = ["auto", "ragged"] + (["rectangular"] if policy.keeps_whole_graphs else [])
    chunks = [chunk for chunk in chunks if chunk != 1 or policy.labels < 3]
    for form in forms:
        # "auto" takes one of the others, so that it is asked once.
        for chunk in (None,) if form == "auto" else chunks:
            model = LabelPooling(
                gnn, policy=policy, inner="max", output=output, form=form, max_copies=chunk
            ).double()
            got = model(
                batch.x, batch.edge_index, batch.batch, batch.num_graphs, cluster=batch.cluster
            )
            torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("form", ["ragged", "rectangular"])
@pytest.mark.parametrize(
    ("inner", "outer"),
    [("sum", "mean"), ("mean", "max"), ("max", "std"), ("std", "sum"), ("root", "sum")],
)
def test_pools(graphs, inner, outer, form):
    policy = LabelPolicy("all", 2)
    gnn = GIN(4, 5, 2).double().eval()
    batch = Batch.from_data_list(graphs)
    wanted = brute_force(gnn, graphs, policy, inner, outer, "graph", one_hot)
    model = LabelPooling(gnn, 2, inner=inner, outer=outer, form=form, max_copies=9).double()
    got = model(batch.x, batch.edge_index, batch.batch, batch.num_graphs)
    # A variance of equal numbers is rounding under a square root.
    torch.testing.assert_close(
        got, wanted, rtol=1e-10, atol=1e-7 if "std" in (inner, outer) else 1e-10
    )


@pytest.mark.parametrize("form", ["ragged", "rectangular"])
def test_pools_of_pyg(graphs, form):
    gnn = GIN(4, 5, 2).double().eval()
    batch = Batch.from_data_list(graphs)
    wanted = brute_force(gnn, graphs, LabelPolicy("all", 2), "mean", "max", "graph", one_hot)
    pools = {"inner": MeanAggregation(), "outer": MaxAggregation()}
    model = LabelPooling(gnn, 2, form=form, max_copies=9, **pools).double()
    torch.testing.assert_close(
        model(batch.x, batch.edge_index, batch.batch, batch.num_graphs), wanted
    )


def test_group_by_root(graphs):
    policy = LabelPolicy("adjacent", 2, hops=1)
    gnn = GIN(4, 5, 2).double().eval()
    batch = Batch.from_data_list(graphs)
    wanted = brute_force(gnn, graphs, policy, "sum", "max", "graph", one_hot, group="root")
    model = LabelPooling(gnn, policy=policy, outer="max", group="root", max_copies=4)
    got = model(batch.x, batch.edge_index, batch.batch, batch.num_graphs)
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)


def test_group_by_cluster(graphs):
    policy = LabelPolicy("clusters", 1)
    gnn = GIN(3, 5, 2).double().eval()
    batch = Batch.from_data_list(graphs)
    model = LabelPooling(gnn, policy=policy, group="cluster", group_pool="max")
    got = model(batch.x, batch.edge_index, batch.batch, batch.num_graphs, cluster=batch.cluster)
    rows = []
    for data in graphs:
        pooled = {}
        for v in range(data.num_nodes):
            h = run_alone(gnn, data, (v,), policy, one_hot, False)[1].sum(0)
            pooled.setdefault(int(data.cluster[v]), []).append(h)
        rows.append(sum(torch.stack(v).max(0).values for v in pooled.values()))
    torch.testing.assert_close(got, torch.stack(rows), rtol=1e-10, atol=1e-10)


class EdgeNet(nn.Module):
    """A network with edge features, whose layers take an axis of copies."""

    supports_copy_axis = True

    def __init__(self, width):
        super().__init__()
        self.first = GINEConv(nn.Linear(width, 4), edge_dim=3)
        self.second = GINEConv(nn.Linear(4, 4), edge_dim=3)

    def forward(self, x, edge_index, edge_attr):
        return self.second(self.first(x, edge_index, edge_attr).relu(), edge_index, edge_attr)


@pytest.mark.parametrize("form", ["ragged", "rectangular", "auto"])
@pytest.mark.parametrize("chunk", [None, 5])
def test_edge_features(graphs, form, chunk):
    policy = LabelPolicy("all", 1)
    gnn = EdgeNet(3).double()
    batch = Batch.from_data_list(graphs)
    wanted = brute_force(gnn, graphs, policy, "sum", "sum", "graph", one_hot, True)
    model = LabelPooling(gnn, 1, form=form, max_copies=chunk)
    got = model(batch.x, batch.edge_index, batch.batch, batch.num_graphs, edge_attr=batch.edge_attr)
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["edge_deletion", "node_deletion", "ego"])
def test_edge_features_follow_their_edges(graphs, name):
    policy = LabelPolicy(name, 1, hops=1 if name == "ego" else None)
    gnn = EdgeNet(3 if name == "ego" else 2).double()
    batch = Batch.from_data_list(graphs)
    encode = one_hot if name == "ego" else unmarked
    wanted = brute_force(gnn, graphs, policy, "sum", "sum", "graph", encode, True)
    model = LabelPooling(gnn, policy=policy, max_copies=3)
    got = model(batch.x, batch.edge_index, batch.batch, batch.num_graphs, edge_attr=batch.edge_attr)
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)


def distance_encoding(limit):
    def encode(data, v, labeling):
        graph = as_nx(data)
        hot = torch.zeros(len(labeling), limit + 2, dtype=torch.double)
        for row, s in enumerate(labeling):
            hops = nx.single_source_shortest_path_length(graph, s).get(v, limit + 1)
            hot[row, min(hops, limit + 1)] = 1
        return torch.cat([data.x[v], hot.flatten()])

    return encode


@pytest.mark.parametrize("hops", [None, 1, 2])
@pytest.mark.parametrize("labels", [1, 2])
@pytest.mark.parametrize("form", ["ragged", "rectangular"])
def test_distance_encoding(graphs, hops, labels, form):
    if form == "rectangular" and hops is not None:
        pytest.skip("ego nets are ragged")
    limit = 2
    policy = LabelPolicy("all", labels, hops=hops)
    gnn = GIN(2 + labels * (limit + 2), 5, 2).double().eval()
    batch = Batch.from_data_list(graphs)
    wanted = brute_force(gnn, graphs, policy, "sum", "sum", "graph", distance_encoding(limit))
    for chunk in (None, 6):
        model = LabelPooling(
            gnn, policy=policy, encoding=Distance(limit), form=form, max_copies=chunk
        )
        got = model(batch.x, batch.edge_index, batch.batch, batch.num_graphs)
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("form", ["ragged", "rectangular"])
def test_embedding_encoding(graphs, form):
    encoding = Embedding(2, 2).double()

    def encode(data, v, labeling):
        rows = [encoding.weight[a] for a, s in enumerate(labeling) if s == v]
        factor = torch.stack(rows).prod(0) if rows else encoding.weight[2]
        return data.x[v] * factor

    policy = LabelPolicy("all", 2)
    gnn = GIN(2, 5, 2).double().eval()
    batch = Batch.from_data_list(graphs)
    wanted = brute_force(gnn, graphs, policy, "sum", "sum", "graph", encode)
    model = LabelPooling(gnn, 2, encoding=encoding, form=form)
    got = model(batch.x, batch.edge_index, batch.batch, batch.num_graphs)
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)


def test_between_is_applied_to_copies(graphs):
    policy = LabelPolicy("all", 1)
    gnn, between = GIN(3, 5, 2).double().eval(), nn.Sequential(nn.Linear(5, 7), nn.Tanh()).double()
    batch = Batch.from_data_list(graphs)
    model = LabelPooling(gnn, 1, between=between, max_copies=2)
    rows = [
        sum(
            between(run_alone(gnn, data, (v,), policy, one_hot, False)[1].sum(0))
            for v in range(data.num_nodes)
        )
        for data in graphs
    ]
    got = model(batch.x, batch.edge_index, batch.batch, batch.num_graphs)
    torch.testing.assert_close(got, torch.stack(rows), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("policy", POLICIES[1:], ids=name_of)
def test_invariance(graphs, policy):
    if policy.name == "subsets" and policy.labels == 3:
        graphs = [g for g in graphs if g.num_nodes > 3]
    gnn = GIN(2 if policy.deletes else 2 + policy.labels, 5, 3).double().eval()
    model = LabelPooling(gnn, policy=policy)
    batch = Batch.from_data_list(graphs)
    moved = Batch.from_data_list([relabel(g, torch.randperm(g.num_nodes)) for g in graphs])
    first = model(batch.x, batch.edge_index, batch.batch, batch.num_graphs, cluster=batch.cluster)
    second = model(moved.x, moved.edge_index, moved.batch, moved.num_graphs, cluster=moved.cluster)
    torch.testing.assert_close(first, second, rtol=1e-10, atol=1e-10)
    # A graph's result does not depend on the batch around it.
    alone = model(graphs[-1].x, graphs[-1].edge_index, cluster=graphs[-1].cluster)
    torch.testing.assert_close(first[-1:], alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("form", ["ragged", "rectangular"])
def test_gradients_do_not_depend_on_pieces(graphs, form):
    gnn = GIN(4, 5, 2).double()
    batch = Batch.from_data_list(graphs)
    found = []
    for chunk in (None, 3):
        x = batch.x.clone().requires_grad_()
        model = LabelPooling(gnn, 2, outer="mean", form=form, max_copies=chunk)
        out = model(x, batch.edge_index, batch.batch, batch.num_graphs)
        found.append(torch.autograd.grad(out.square().sum(), [x, *gnn.parameters()]))
    for first, second in zip(*found, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-9, atol=1e-9)


def test_gradcheck(graphs):
    data = graphs[1]
    gnn = GIN(3, 3, 1, act="tanh").double()
    model = LabelPooling(gnn, 1, form="ragged")
    x = data.x.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: model(x, data.edge_index), (x,))


def test_batches_with_room(graphs):
    # Graphs at the end without nodes are allowed where one copy without labels is.
    data = graphs[0]
    gnn = GIN(2, 4, 1).double()
    out = LabelPooling(gnn, 0)(data.x, data.edge_index, torch.zeros(5, dtype=torch.long), 3)
    assert out.shape == (3, 4) and not out[1:].any() and out[0].any()


def test_auto_takes_the_rectangle_where_it_is_known_to_be_right(graphs):
    same, mixed = Batch.from_data_list([graphs[0]] * 3), Batch.from_data_list(graphs)
    for gnn, batch, wanted in [
        (GIN(3, 4, 2), same, True),
        (GIN(3, 4, 2, norm="batch_norm"), same, False),
        (GIN(3, 4, 2), mixed, False),
    ]:
        model = LabelPooling(gnn.double(), 1)
        plan = model._plan(
            batch.num_nodes, batch.edge_index, batch.batch, batch.num_graphs, None, None, None
        )
        assert model._uses_rectangle(plan, {}) is wanted


@pytest.mark.parametrize("layer", ["GraphSAGE", "GIN"])
def test_listed_networks_take_the_copy_axis(graphs, layer):
    import torch_geometric.nn as pyg

    gnn = getattr(pyg, layer)(3, 6, 3, act="elu").double().eval()
    batch = Batch.from_data_list(graphs)
    ragged, wide = (
        LabelPooling(gnn, 1, form=form)(batch.x, batch.edge_index, batch.batch, batch.num_graphs)
        for form in ("ragged", "rectangular")
    )
    torch.testing.assert_close(ragged, wide, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("layer", ["GINEConv", "GraphConv", "SAGEConv", "GINConv"])
def test_listed_layers_take_the_copy_axis(graphs, layer):
    import torch_geometric.nn as pyg

    from graphpool.relational.rectangular import accepts_copy_axis, copy_axis

    batch = Batch.from_data_list(graphs)
    make = {
        "GINEConv": lambda: pyg.GINEConv(nn.Linear(2, 4), edge_dim=3),
        "GINConv": lambda: pyg.GINConv(nn.Linear(2, 4)),
    }.get(layer, lambda: getattr(pyg, layer)(2, 4))
    conv = make().double()
    assert accepts_copy_axis(conv)
    kwargs = {"edge_attr": batch.edge_attr} if layer == "GINEConv" else {}
    wide_kwargs = {name: value.unsqueeze(1) for name, value in kwargs.items()}
    x = torch.randn(batch.num_nodes, 3, 2, dtype=torch.double)
    with copy_axis(conv):
        wide = conv(x, batch.edge_index, **wide_kwargs)
    for s in range(3):
        alone = conv(x[:, s], batch.edge_index, **kwargs)
        torch.testing.assert_close(wide[:, s], alone, rtol=1e-12, atol=1e-12)
    assert conv.node_dim == -2


@pytest.mark.parametrize(
    ("policy", "compiled"),
    [
        ("ego", "network"),
        # Seconds, for the tables of copies are traced, too.
        pytest.param("ego", "whole", marks=pytest.mark.slow),
        pytest.param("all", "network", marks=pytest.mark.slow),
        pytest.param("all", "whole", marks=pytest.mark.slow),
    ],
)
def test_compiled_network_and_compiled_whole(graphs, policy, compiled):
    batch = Batch.from_data_list(graphs)
    gnn = GIN(3, 4, 2).double()
    settings = {"policy": policy, "hops": 1 if policy == "ego" else None}
    wanted = LabelPooling(gnn, 1, **settings)(
        batch.x, batch.edge_index, batch.batch, batch.num_graphs
    )
    how = {"backend": "aot_eager", "dynamic": True}
    if compiled == "network":
        model = LabelPooling(torch.compile(gnn, **how), 1, **settings)
    else:
        model = torch.compile(LabelPooling(gnn, 1, **settings), **how)
    got = model(batch.x, batch.edge_index, batch.batch, batch.num_graphs)
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("form", ["ragged", "rectangular"])
def test_a_network_without_room_for_the_labels(graphs, form):
    data = graphs[0]
    model = LabelPooling(GIN(2, 4, 2), 1, form=form)
    with pytest.raises(ValueError, match="takes 2 input channels, but the nodes of a copy have 3"):
        model(data.x.float(), data.edge_index)


@pytest.mark.parametrize("network", [GCN, GAT])
def test_a_network_that_takes_no_copy_axis_is_named(graphs, network):
    data = graphs[0]
    model = LabelPooling(network(3, 4, 2), 1, form="rectangular")
    with pytest.raises(ValueError, match=f"{network.__name__} does not take; use form='ragged'"):
        model(data.x.float(), data.edge_index)
