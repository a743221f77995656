"""Voxels, face clusters and edge collapses give what a contracted graph gives."""

from __future__ import annotations

import pytest
import torch

from graphpool import Segments
from graphpool.coarsen import Coarsened, connect, lift, reduce
from graphpool.mesh import (
    EdgeCollapsePool,
    FaceClusterPool,
    edge_graph,
    icosphere,
    primal_dual,
    unpool_edges,
)
from graphpool.points import VoxelPool


def members_of(selection, k):
    return selection.rows[(selection.coarse.index == k).nonzero().squeeze(1)]


def check(coarsened, fine, formula=lambda rows: rows.mean(0)):
    assert isinstance(coarsened, Coarsened)
    selection = coarsened.selection
    expected = [formula(fine[members_of(selection, k)]) for k in range(selection.num_coarse)]
    assert torch.allclose(coarsened.x, torch.stack(expected), atol=1e-6)
    back = coarsened.lift(coarsened.x)
    for i in range(0, selection.num_fine, 7):
        owners = selection.coarse.index[(selection.rows == i).nonzero().squeeze(1)]
        assert torch.allclose(back[i], coarsened.x[owners].mean(0), atol=1e-6)


def test_voxels():
    x, pos = torch.randn(50, 3), torch.rand(50, 3)
    clouds = Segments(index=torch.arange(50) % 2, num_segments=3)
    out = VoxelPool(3, 0.5, "max")(x, pos, clouds)
    check(out.coarsened, x, lambda rows: rows.amax(0))
    assert torch.equal(out.coarsened.batch.index, out.voxels.cloud)
    assert len(out.coarsened.batch) == 3 and out.coarsened.edge_index is None


@pytest.mark.parametrize("config", ["A", "B", "C"])
def test_face_clusters(config):
    graph = primal_dual(*icosphere(1), config=config)
    topology = graph.topology()
    primal, dual = torch.randn(80, 3), torch.randn(topology.num_dual_nodes, 2)
    attention = torch.rand(2 * topology.num_edges, 1)
    out = FaceClusterPool((3, 2), keep=0.6)(primal, dual, topology, attention)
    check(out.coarsened, primal)
    # A dual node is an edge of the graph of faces, so that contracting that graph gives the dual nodes.
    edges = topology.pairs if config == "A" else topology.edge_index
    joined = connect(edges, out.clusters.faces, directed=config != "A")
    order = (out.coarsened.edge_index[0] * 80 + out.coarsened.edge_index[1]).argsort()
    assert torch.equal(out.coarsened.edge_index[:, order], joined.edge_index)
    expected = reduce(dual, joined.selection)
    assert torch.allclose(out.coarsened.edge_attr[order], expected, atol=1e-6)
    assert torch.equal(lift(out.dual, out.clusters.dual_nodes), lift(out.dual, out.coarsened.edges))
    assert torch.equal(out.clusters.faces.cluster, out.clusters.cluster)
    assert torch.equal(out.clusters.dual_nodes.cluster, out.clusters.dual_assignment)


def test_edge_collapses():
    graph = edge_graph(*icosphere(2))
    x = torch.randn(480, 4)
    out = EdgeCollapsePool(4, 250)(x, graph.topology())
    check(out.coarsened, x)
    assert torch.equal(unpool_edges(out.x, out.collapses), out.coarsened.lift(out.x))
    assert out.coarsened.batch is out.topology.mesh_edges
