"""Copies made by a transform, and published models as settings."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.data import Batch
from torch_geometric.loader import DataLoader
from torch_geometric.nn import GIN

from graphpool.datasets import connected_graphs
from graphpool.relational import (
    Distance,
    LabelledCopies,
    LabelPolicy,
    LabelPooling,
    RelationalPooling,
    copies_of,
    distance_encoding_gnn,
    esan,
    i2_gnn,
    identity_aware_gnn,
    kl_gnn,
    nested_gnn,
    rp_gin,
)


@pytest.fixture(scope="module")
def graphs():
    chosen = [connected_graphs(n)[i] for n, i in ((4, 2), (6, 30), (5, 7), (6, 100))]
    for graph in chosen:
        graph.x = torch.randn(graph.num_nodes, 1)
        graph.edge_attr = torch.randn(graph.num_edges, 2)
        graph.cluster = torch.arange(graph.num_nodes) % 2
    return chosen


@pytest.mark.parametrize(
    "policy",
    [
        LabelPolicy("all", 0),
        LabelPolicy("all", 2),
        LabelPolicy("subsets", 2),
        LabelPolicy("adjacent", 2, hops=1),
        LabelPolicy("ego", 1, hops=1),
        LabelPolicy("node_deletion", 1),
        LabelPolicy("edge_deletion", 1),
        LabelPolicy("clusters", 2),
    ],
    ids=lambda p: p.name + str(p.labels),
)
@pytest.mark.parametrize("chunk", [None, 4])
def test_precomputed_copies_give_the_same(graphs, policy, chunk):
    gnn = GIN(1 if policy.deletes else 1 + policy.labels, 4, 2).double()
    model = LabelPooling(gnn, policy=policy, max_copies=chunk)
    transform = LabelledCopies(policy)
    loader = DataLoader([transform(g) for g in graphs], batch_size=3)
    plain = DataLoader(graphs, batch_size=3)
    for with_copies, without in zip(loader, plain, strict=True):
        got = model(
            with_copies.x.double(),
            with_copies.edge_index,
            with_copies.batch,
            with_copies.num_graphs,
            copies=copies_of(with_copies),
            cluster=with_copies.cluster,
        )
        wanted = model(
            without.x.double(),
            without.edge_index,
            without.batch,
            without.num_graphs,
            cluster=without.cluster,
        )
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


def test_the_union_is_the_same_in_every_part(graphs):
    policy = LabelPolicy("ego", 2, hops=1)
    batch = Batch.from_data_list([LabelledCopies(policy, 2)(g) for g in graphs])
    found = copies_of(batch)
    model = LabelPooling(GIN(3, 4, 1), policy=policy)
    plan = model._plan(
        batch.num_nodes, batch.edge_index, batch.batch, batch.num_graphs, None, None, None
    )
    wanted = policy.copies(plan.graphs, plan.labelings, 2)
    for name in ("node", "copy", "edge_index", "distance"):
        assert torch.equal(getattr(found, name), getattr(wanted, name)), name
    assert torch.equal(batch.edge_attr[found.edge_id], batch.edge_attr[wanted.edge_id])
    assert torch.equal(found.labelings.graph, wanted.labelings.graph)


def test_a_sample_keeps_its_weights(graphs):
    policy = LabelPolicy("subsets", 2, sample=3)
    batch = Batch.from_data_list([LabelledCopies(policy)(g) for g in graphs])
    labelings = copies_of(batch).labelings
    total = torch.zeros(4, dtype=torch.double).index_add_(0, labelings.graph, labelings.weight)
    assert total.tolist() == [n * (n - 1) for n in (4, 6, 5, 6)]
    assert labelings.unit.unique().numel() == 12
    out = LabelPooling(GIN(3, 4, 1), policy=policy)(
        batch.x, batch.edge_index, batch.batch, batch.num_graphs, copies=copies_of(batch)
    )
    assert out.shape == (4, 4)


def test_missing_parts_are_named(graphs):
    with pytest.raises(ValueError, match="apply LabelledCopies"):
        copies_of(graphs[0])
    policy = LabelPolicy("ego", 1, hops=1)
    data = LabelledCopies(policy)(graphs[0])
    model = LabelPooling(GIN(4, 4, 1), policy=policy, encoding="distance")
    with pytest.raises(ValueError, match="max_distance=1"):
        model(data.x, data.edge_index, copies=copies_of(data))
    data = LabelledCopies(policy, max_distance=3)(graphs[0])
    with pytest.raises(ValueError, match="as far as 3"):
        model(data.x, data.edge_index, copies=copies_of(data))


def test_published_models_are_their_settings(graphs):
    batch = Batch.from_data_list(graphs)

    def run(model):
        return model(batch.x, batch.edge_index, batch.batch, batch.num_graphs)

    gnn1, gnn2, gnn3 = GIN(1, 4, 2), GIN(2, 4, 2), GIN(3, 4, 2)
    wide = GIN(1 + 4, 4, 2)
    cases = [
        (nested_gnn(gnn1, 2), LabelPooling(gnn1, 1, "ego", hops=2, encoding="none")),
        (nested_gnn(wide, 2, True), LabelPooling(wide, 1, "ego", hops=2, encoding=Distance(2))),
        (identity_aware_gnn(gnn2), LabelPooling(gnn2, 1, inner="root")),
        (identity_aware_gnn(gnn2, 1), LabelPooling(gnn2, 1, "ego", "root", hops=1)),
        (distance_encoding_gnn(wide, 2), LabelPooling(wide, 1, inner="root", encoding=Distance(2))),
        (i2_gnn(gnn3, 1), LabelPooling(gnn3, 2, "adjacent", hops=1, group="root")),
        (esan(gnn1, "node_deletion"), LabelPooling(gnn1, 1, "node_deletion")),
        (esan(gnn1, "edge_deletion"), LabelPooling(gnn1, 1, "edge_deletion")),
        (esan(gnn1, "ego", 1), LabelPooling(gnn1, 1, "ego", hops=1, encoding="none")),
        (esan(gnn2, "ego+", 1), LabelPooling(gnn2, 1, "ego", hops=1)),
        (esan(gnn2, "node_marking"), LabelPooling(gnn2, 1)),
        (kl_gnn(gnn3, 2), LabelPooling(gnn3, 2, "subsets", outer="max", max_distance=3)),
    ]
    for model, wanted in cases:
        torch.testing.assert_close(run(model), run(wanted))
    model = rp_gin(GIN(11, 4, 2))
    assert isinstance(model, RelationalPooling) and model.num_permutations == 5
    with pytest.raises(ValueError, match="`policy` must be one of"):
        esan(gnn1, "node")


def test_node_embeddings_of_identity_aware_networks(graphs):
    batch = Batch.from_data_list(graphs)
    gnn = GIN(2, 4, 2)
    out = identity_aware_gnn(gnn, output="root")(
        batch.x, batch.edge_index, batch.batch, batch.num_graphs
    )
    assert out.shape == (batch.num_nodes, 4)
    data = graphs[1]
    for v in range(data.num_nodes):
        mark = torch.zeros(data.num_nodes, 1)
        mark[v] = 1
        alone = gnn(torch.cat([data.x, mark], 1), data.edge_index)[v]
        torch.testing.assert_close(out[4 + v], alone)
