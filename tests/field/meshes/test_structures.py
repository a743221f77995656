"""The graphs of faces and those of edges, each handed to what takes the other, or something else."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.data import Batch, Data

from graphpool.mesh import (
    EdgeCollapsePool,
    EdgeStandardizer,
    FaceClusterPool,
    FaceClusterUnpool,
    MeshConv,
    MeshStandardizer,
    PrimalDualConv,
    PrimalDualResidual,
    clean,
    cluster_faces,
    edge_graph,
    icosphere,
    primal_dual,
    select_edges,
    unpool_edges,
)
from graphpool.models import (
    FaceMLP,
    MeshClassifier,
    MeshCNNClassifier,
    MeshCNNSegmenter,
    MeshSegmenter,
    MeshSuperpixelSegmenter,
)

MESH = icosphere(1)
FACES, EDGES = primal_dual(*MESH), edge_graph(*MESH)
AT_FACES, AT_EDGES = FACES.topology(), EDGES.topology()
ATTENTION = torch.rand(AT_FACES.edge_index.size(1), 1)
CLUSTERS = cluster_faces(torch.arange(120) < 20, AT_FACES)
COLLAPSES = EdgeCollapsePool(5, 90)(EDGES.x, AT_EDGES).collapses

ON_FACES = {
    "MeshClassifier": MeshClassifier(3).eval(),
    "MeshSegmenter": MeshSegmenter(3).eval(),
    "MeshSuperpixelSegmenter": MeshSuperpixelSegmenter(3),
    "FaceMLP": FaceMLP(3).eval(),
    "clusters": MeshSegmenter(3).eval().clusters,
    "MeshStandardizer": MeshStandardizer((1, 8)),
    "fit": lambda graph: MeshStandardizer((1, 8)).fit([graph]),
}
ON_EDGES = {
    "MeshCNNClassifier": MeshCNNClassifier(3, targets=(110, 100, 95, 90)).eval(),
    "MeshCNNSegmenter": MeshCNNSegmenter(3, targets=(110, 100, 90)),
    "EdgeStandardizer": EdgeStandardizer(),
    "fit": lambda graph: EdgeStandardizer().fit([graph]),
}
WITH_FACES = {
    "PrimalDualConv": lambda at: PrimalDualConv((1, 8), (4, 4))(FACES.x, FACES.x_dual, at),
    "PrimalDualResidual": lambda at: PrimalDualResidual((1, 8), (4, 4))(FACES.x, FACES.x_dual, at),
    "FaceClusterPool": lambda at: FaceClusterPool((1, 8))(FACES.x, FACES.x_dual, at, ATTENTION),
    "select_edges": lambda at: select_edges(torch.rand(120), at),
    "cluster_faces": lambda at: cluster_faces(torch.arange(120) < 20, at),
}
WITH_EDGES = {
    "MeshConv": lambda at: MeshConv(5, 4)(EDGES.x, at),
    "EdgeCollapsePool": lambda at: EdgeCollapsePool(5, 90)(EDGES.x, at),
}
BACK = {
    "FaceClusterUnpool": lambda back: FaceClusterUnpool(8)(
        torch.ones(60, 1), torch.ones(1, 8), back
    )
}
BACK_EDGES = {"unpool_edges": lambda back: unpool_edges(torch.ones(90, 5), back)}

OTHERS = {
    "a raw mesh": Data(pos=torch.tensor(MESH.vertices), face=torch.tensor(MESH.faces).t()),
    "a batch of raw meshes": Batch.from_data_list([Data(pos=torch.eye(3), face=torch.zeros(3, 1))]),
    "arrays": MESH,
    "a clean mesh": clean(*MESH),
    "features": FACES.x,
    "nothing": None,
    "an empty list": [[]],
}
KINDS = {
    "MeshGraph": (ON_FACES, FACES, "graphpool.mesh.primal_dual makes"),
    "EdgeGraph": (ON_EDGES, EDGES, "graphpool.mesh.edge_graph makes"),
    "MeshTopology": (WITH_FACES, AT_FACES, r"topology\(\) of a MeshGraph gives"),
    "EdgeTopology": (WITH_EDGES, AT_EDGES, r"topology\(\) of an EdgeGraph gives"),
    "FaceClusters": (BACK, CLUSTERS, "FaceClusterPool gives"),
    "EdgeCollapses": (BACK_EDGES, COLLAPSES, "EdgeCollapsePool gives"),
}
CASES = [(kind, name) for kind, (takers, _, _) in KINDS.items() for name in takers]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_every_wrong_structure_is_refused_in_the_same_words(kind, name):
    takers, _, made = KINDS[kind]
    article = "an" if kind.startswith("E") else "a"
    expected = rf"`[\w\[\]]+` must be {article} {kind}, which .*{made}"
    for other, (_, value, _) in KINDS.items():
        if other != kind:
            with pytest.raises(
                TypeError, match=rf"{expected}.*; got {other}, which \w+.* takes?\.$"
            ):
                takers[name](value)
    for value in OTHERS.values():
        with pytest.raises(TypeError, match=rf"{expected}.*; got \w+.*\.$"):
            takers[name](value)


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_the_right_one_is_taken(kind, name):
    takers, right, _ = KINDS[kind]
    if kind == "FaceClusters":
        FaceClusterUnpool(8)(
            torch.ones(right.after.num_faces, 1), torch.ones(right.after.num_dual_nodes, 8), right
        )
    else:
        takers[name](right)


def test_the_networks_name_each_other():
    with pytest.raises(
        TypeError, match="got EdgeGraph, which MeshCNNClassifier and MeshCNNSegmenter take"
    ):
        MeshSegmenter(3)(Batch.from_data_list([EDGES, EDGES]))
    with pytest.raises(TypeError, match="got MeshGraph, which MeshClassifier, MeshSegmenter,"):
        MeshCNNSegmenter(3)(Batch.from_data_list([FACES, FACES]))


def test_the_way_from_what_came_is_named():
    with pytest.raises(TypeError, match=r"got Data, whose mesh is `pos` and `face\.t\(\)`\.$"):
        MeshSegmenter(3)(OTHERS["a raw mesh"])
    raw = OTHERS["a raw mesh"]
    assert torch.equal(primal_dual(raw.pos, raw.face.t()).x_dual, FACES.x_dual)
    for model, graph in ((ON_FACES["MeshSegmenter"], FACES), (ON_EDGES["MeshCNNSegmenter"], EDGES)):
        with pytest.raises(TypeError, match=r"got list; .*Batch\.from_data_list"):
            model([graph, graph])
        model(Batch.from_data_list([graph, graph]))


@pytest.mark.parametrize(
    "name", ["MeshClassifier", "MeshSegmenter", "FaceMLP", "MeshCNNClassifier", "MeshCNNSegmenter"]
)
def test_a_batch_of_batches_is_refused_and_its_graphs_are_not(name):
    model, graph = ({**ON_FACES, **ON_EDGES}[name], EDGES if name in ON_EDGES else FACES)
    batches = [Batch.from_data_list([graph, graph]), Batch.from_data_list([graph])]
    nested = Batch.from_data_list(batches)
    for moved in (nested, nested.clone(), nested.to("cpu")):
        with pytest.raises(TypeError, match=r"got a batch of batches.*`to_data_list\(\)`"):
            model(moved)
    flat = Batch.from_data_list([g for batch in batches for g in batch.to_data_list()])
    torch.testing.assert_close(
        model(flat), torch.cat([model(batch) for batch in batches]), rtol=1e-4, atol=1e-4
    )


def test_graphs_of_another_width_are_refused_by_both_standardizers():
    """A single channel would be broadcast over all means."""
    wide = edge_graph(*MESH)
    wide.x = wide.x[:, :1]
    with pytest.raises(
        ValueError, match=r"built for 5 features; got 1 in `graph`\. .* must be 1\."
    ):
        EdgeStandardizer()(wide)
    with pytest.raises(ValueError, match=r"got 1 in `graphs\[1\]`"):
        EdgeStandardizer().fit([EDGES, wide])
    with pytest.raises(
        ValueError, match=r"built for 5 dual features; got 8 in .* must be \(1, 8\)"
    ):
        MeshStandardizer((1, 5))(FACES)


def test_one_graph_is_fitted_like_a_list_of_one():
    for make, graph in ((lambda: MeshStandardizer((1, 8)), FACES), (EdgeStandardizer, EDGES)):
        one, many = make().fit(graph).state_dict(), make().fit([graph]).state_dict()
        assert all(torch.equal(one[key], many[key]) for key in one)
        for wrong in (
            AT_FACES,
            None,
            OTHERS["a raw mesh"],
            FACES if make is EdgeStandardizer else EDGES,
        ):
            with pytest.raises(TypeError, match=r"`graphs\[0\]` must be an? \w+Graph, which"):
                make().fit(wrong)
    assert set(EdgeStandardizer().state_dict()) == {"mean", "std"}
