"""What people need who compare two runs: the same seed gives the same bits, on several threads too.

The backward pass of ``x[index]`` adds rows that were read several times in the order in which threads come
by; that of ``index_select`` and of the library's own operations does not.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_geometric.nn import GIN

from graphpool import Segments, aggr, relational
from graphpool.mesh import edge_graph, icosphere, primal_dual
from graphpool.models import (
    EdgeConvClassifier,
    FaceMLP,
    GraphModel,
    MeshClassifier,
    MeshCNNClassifier,
    MeshCNNSegmenter,
    MeshSegmenter,
    MeshSuperpixelSegmenter,
    PointNet2Classifier,
    PointNet2Segmenter,
)
from graphpool.models.graph import CONVOLUTIONS

OPTIONS = {"own_feature": True, "dual_messages": True, "score_gradient": True, "dropout": 0.3}
MESH_NETWORKS = {
    "MeshClassifier": lambda: MeshClassifier(4, channels=(16, 16), heads=1, read="both", **OPTIONS),
    "MeshSegmenter": lambda: MeshSegmenter(4, channels=(16, 16, 16), **OPTIONS),
    "MeshSegmenter, linear": lambda: MeshSegmenter(4, channels=(16, 16, 16), head="linear"),
    "MeshSuperpixelSegmenter": lambda: MeshSuperpixelSegmenter(4, channels=(16, 16), **OPTIONS),
    "FaceMLP": lambda: FaceMLP(4),
}
EDGE_NETWORKS = {
    "MeshCNNClassifier": lambda n: MeshCNNClassifier(
        4, channels=(16, 32), targets=(n // 2, n // 3), strict=False
    ),
    "MeshCNNSegmenter": lambda n: MeshCNNSegmenter(
        4, channels=(16, 16, 16), targets=(n // 2, n // 3), strict=False
    ),
}
POINT_NETWORKS = {
    "PointNet2Classifier": lambda: PointNet2Classifier(4, pool="softmax", width=16),
    "PointNet2Segmenter": lambda: PointNet2Segmenter(6, num_categories=3, width=16),
    "EdgeConvClassifier": lambda: EdgeConvClassifier(4, pool="max", widths=(16, 16), k=5),
}
COPIES = {
    "LabelPooling": lambda: relational.LabelPooling(GIN(17, 16, 2), 1, max_distance=2),
    "LabelPooling, nodes": lambda: relational.LabelPooling(GIN(17, 16, 2), 1, output="node"),
    "RelationalPooling": lambda: relational.RelationalPooling(GIN(16 + 5, 16, 2), 3, id_dim=5),
    "nested": lambda: relational.nested_gnn(GIN(16, 16, 2), hops=2),
    "i2": lambda: relational.i2_gnn(GIN(18, 16, 2), hops=2),
}


def mesh(size):
    vertices, faces = icosphere(size)
    return vertices * [1.0, 1.3, 0.7] + 0.01 * np.random.default_rng(0).normal(
        size=vertices.shape
    ), faces


def random_graph(num_graphs, nodes, degree):
    generator = torch.Generator().manual_seed(0)
    n = num_graphs * nodes
    source = torch.arange(n).repeat_interleave(degree)
    target = torch.randint(nodes, source.shape, generator=generator) + source // nodes * nodes
    edges = torch.stack([source, target])[:, source != target]
    edges = torch.unique(torch.cat([edges, edges.flip(0)], 1), dim=1)
    return edges, torch.arange(num_graphs).repeat_interleave(nodes)


def run(kind, name, small):
    """Builds the network, and gives its output."""
    torch.manual_seed(0)
    if kind == "mesh":
        return MESH_NETWORKS[name](), (primal_dual(*mesh(2 if small else 3)),), {}
    if kind == "edge":
        graph = edge_graph(*mesh(2 if small else 3))
        return EDGE_NETWORKS[name](graph.x.size(0)), (graph,), {}
    if kind == "points":
        points = torch.rand(4 * (60 if small else 1024), 3)
        extra = {"category": torch.tensor([0, 1, 2, 0])} if "Segmenter" in name else {}
        ptr = torch.arange(0, len(points) + 1, len(points) // 4)
        return POINT_NETWORKS[name](), (points,), {"ptr": ptr, **extra}
    edges, batch = random_graph(*((3, 8, 3) if small else (30, 40, 4)))
    x = torch.rand(len(batch), 16, requires_grad=True)
    if kind == "graph":
        conv, pool = name
        model = GraphModel(16, 16, 3, conv=conv, aggr=pool, readout=pool)
        return model, (x, edges, batch), {"batch_size": int(batch[-1]) + 1}
    return COPIES[name](), (x, edges, batch), {"batch_size": int(batch[-1]) + 1}


NETWORKS = (
    [("mesh", name) for name in MESH_NETWORKS]
    + [("edge", name) for name in EDGE_NETWORKS]
    + [("copies", name) for name in COPIES]
    + [("graph", (conv, pool)) for conv in CONVOLUTIONS for pool in ("softmax", "max")]
    + [("graph", ("gin", pool)) for pool in ("gnp", "attsets", "median", "mean", "std")]
)
POINTS = [("points", name) for name in POINT_NETWORKS]


def colliding_reads(output):
    """How many ``x[index]`` in the graph of ``output`` read a row more than once."""
    seen, stack, found = set(), [output.grad_fn], 0
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        stack += [parent for parent, _ in node.next_functions]
        if type(node).__name__ == "IndexBackward0":
            index = [i for i in node._saved_indices if i is not None]
            if all(i.dtype == torch.bool for i in index):
                continue
            rows = torch.stack([i.reshape(-1) for i in torch.broadcast_tensors(*index)])
            found += torch.unique(rows, dim=1).size(1) < rows.size(1)
    return found


@pytest.mark.parametrize("kind, name", NETWORKS + POINTS, ids=str)
def test_no_network_reads_rows_with_a_backward_pass_that_races(kind, name):
    model, args, kwargs = run(kind, name, small=True)
    assert colliding_reads(model(*args, **kwargs).sum()) == 0


@pytest.mark.parametrize("name", aggr.names())
def test_no_pool_reads_rows_with_a_backward_pass_that_races(name):
    x = torch.rand(12, 8, requires_grad=True)
    bags = Segments(index=torch.tensor([0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 3]), num_segments=5)
    pool = aggr.resolve(name, channels=8)
    weight = torch.tensor([1.0, 2, 1, 1, 3, 1, 1, 1, 2, 1, 1, 1])
    for extra in ({}, {"weight": weight}):
        out = pool(x, bags, **extra)
        assert colliding_reads((out[0] if isinstance(out, tuple) else out).sum()) == 0


def test_a_race_would_be_found():
    x = torch.rand(4, 3, requires_grad=True)
    assert colliding_reads(x[torch.tensor([0, 1, 0])].sum()) == 1
    assert colliding_reads(x[torch.tensor([0, 2])].sum() + x[x[:, 0] > 0.5].sum()) == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind, name", NETWORKS + POINTS, ids=str)
def test_two_runs_on_two_threads_give_the_same_bits(kind, name):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        results = []
        for _ in range(2):
            model, args, kwargs = run(kind, name, small=False)
            out = model(*args, **kwargs)
            (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
            grads = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
            if isinstance(args[0], torch.Tensor) and args[0].requires_grad:
                grads["input"] = args[0].grad
            results.append((out.detach(), grads))
    finally:
        torch.set_num_threads(threads)
    (one, first), (two, second) = results
    assert torch.equal(one, two) and first.keys() == second.keys() and first
    different = [key for key in first if not torch.equal(first[key], second[key])]
    assert not different
