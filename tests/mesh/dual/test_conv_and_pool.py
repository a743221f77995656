import numpy as np
import pytest
import torch
from torch_geometric.data import Batch
from torch_geometric.nn import aggr as pyg_aggr

from graphpool.mesh import (
    FaceClusterPool,
    FaceClusterUnpool,
    PrimalDualConv,
    PrimalDualResidual,
    clean,
    cluster_faces,
    icosphere,
    primal_dual,
    read_mesh,
    select_edges,
)


def as_dicts(loops, graph, primal, dual):
    pairs = [tuple(pair) for pair in graph.topology().pairs.t().tolist()]
    keys = loops.dual_keys(pairs, graph.config)
    return (
        pairs,
        keys,
        {f: primal[f].double().numpy() for f in range(len(primal))},
        {key: dual[k].double().numpy() for k, key in enumerate(keys)},
    )


def bumpy(subdivisions, seed=0):
    vertices, faces = icosphere(subdivisions)
    return vertices + 0.1 * np.random.default_rng(seed).normal(size=vertices.shape), faces


@pytest.mark.parametrize("config", "ABC")
@pytest.mark.parametrize("own", [False, True])
def test_convolution_is_that_of_the_loops(loops, config, own):
    vertices, faces = bumpy(1)
    graph = primal_dual(vertices, faces[:60], config)  # a boundary, and uneven degrees
    torch.manual_seed(0)
    layer = PrimalDualConv((3, 5), (4, 6), heads=2, own_feature=own, dual_messages=own).double()
    for bias in (layer.primal_bias, layer.dual_bias):
        torch.nn.init.normal_(bias)
    topology = graph.topology()
    primal = torch.randn(topology.num_faces, 3, dtype=torch.float64)
    dual = torch.randn(topology.num_dual_nodes, 5, dtype=torch.float64)
    out = layer(primal, dual, topology)
    pairs, keys, primal_rows, dual_rows = as_dicts(loops, graph, primal, dual)
    new_primal, new_dual, attention = loops.conv(layer, primal_rows, dual_rows, pairs, config)
    expected = np.stack([new_primal[f] for f in range(len(primal))])
    np.testing.assert_allclose(out.primal.detach().numpy(), expected, atol=1e-10)
    np.testing.assert_allclose(
        out.dual.detach().numpy(), np.stack([new_dual[k] for k in keys]), atol=1e-10
    )
    for row, (j, i) in zip(out.attention.detach(), topology.edge_index.t().tolist(), strict=True):
        np.testing.assert_allclose(row.numpy(), attention[j, i], atol=1e-10)


def test_attention_sums_to_one_per_face_and_head_and_lonely_faces_get_the_bias():
    graph = primal_dual(
        np.random.default_rng(0).normal(size=(9, 3)), [[0, 1, 2], [2, 1, 3], [4, 5, 6]]
    )
    layer = PrimalDualConv((1, 8), (4, 4), heads=3)
    torch.nn.init.normal_(layer.primal_bias)
    out = layer(graph.x, graph.x_dual, graph.topology())
    total = torch.zeros(3, 3).index_add(0, graph.edge_index[1], out.attention)
    torch.testing.assert_close(total, torch.tensor([[1.0] * 3, [1.0] * 3, [0.0] * 3]))
    torch.testing.assert_close(out.primal[2], layer.primal_bias.relu())


def test_dropout_changes_training_only_and_self_loops_change_the_dual_stream():
    graph = primal_dual(*icosphere(1))
    topology = graph.topology()
    layer = PrimalDualConv((1, 8), (4, 4), dropout=0.5)
    layer.eval()
    plain = layer(graph.x, graph.x_dual, topology)
    layer.train()
    dropped = layer(graph.x, graph.x_dual, topology)
    assert (dropped.attention == 0).any() and not (plain.attention == 0).any()
    loops = PrimalDualConv((1, 8), (4, 4), dual_self_loops=True)
    loops.load_state_dict(layer.state_dict())
    assert not torch.allclose(loops(graph.x, graph.x_dual, topology).dual, plain.dual)


def test_gradients_of_the_convolution():
    graph = primal_dual(*icosphere(0))
    layer = PrimalDualConv((2, 3), (2, 2), heads=2, own_feature=True, dual_messages=True).double()
    primal = torch.randn(20, 2, dtype=torch.float64, requires_grad=True)
    dual = torch.randn(30, 3, dtype=torch.float64, requires_grad=True)
    topology = graph.topology()
    assert torch.autograd.gradcheck(lambda p, d: tuple(layer(p, d, topology)), (primal, dual))


def test_residual_unit_is_its_formula():
    graph = primal_dual(*icosphere(1))
    topology = graph.topology()
    unit = PrimalDualResidual((1, 8), (4, 4), heads=2, num_skips=1, bias=False).eval()
    start = unit.first(graph.x, graph.x_dual, topology)
    again = unit.convs[0](
        unit.primal_norms[0](start.primal.relu()), unit.dual_norms[0](start.dual.relu()), topology
    )
    out = unit(graph.x, graph.x_dual, topology)
    torch.testing.assert_close(out.primal, (start.primal + again.primal).relu())
    torch.testing.assert_close(out.dual, (start.dual + again.dual).relu())
    assert torch.equal(out.attention, again.attention)


def assert_pool_matches_loops(loops, graph, keep, seed):
    generator = torch.Generator().manual_seed(seed)
    topology = graph.topology()
    primal = torch.randn(topology.num_faces, 3, generator=generator, dtype=torch.float64)
    dual = torch.randn(topology.num_dual_nodes, 4, generator=generator, dtype=torch.float64)
    attention = torch.rand(2 * topology.num_edges, 2, generator=generator, dtype=torch.float64)
    pooled = FaceClusterPool((3, 4), keep=keep)(primal, dual, topology, attention)

    pairs, _, primal_rows, dual_rows = as_dicts(loops, graph, primal, dual)
    score = attention.mean(1).reshape(-1, 2).mean(1).tolist()
    order = sorted(range(len(pairs)), key=lambda t: (-score[t], t))
    selected = [pairs[t] for t in order[: int((1 - keep) * len(pairs))]]
    cluster, new_primal, new_dual, new_pairs = loops.pool(
        primal_rows, dual_rows, pairs, selected, graph.config
    )
    assert pooled.clusters.cluster.tolist() == [cluster[f] for f in range(len(primal))]
    after = pooled.topology
    assert [tuple(pair) for pair in after.pairs.t().tolist()] == new_pairs
    keys = loops.dual_keys(new_pairs, graph.config)
    found = [(keys[s], keys[t]) for s, t in after.dual_edge_index.t().tolist()]
    assert len(set(found)) == len(found)
    assert set(found) == loops.dual_edges(new_pairs, sorted(new_primal), graph.config)
    expected = np.stack([new_primal[k] for k in sorted(new_primal)])
    np.testing.assert_allclose(pooled.primal.numpy(), expected, atol=1e-10)
    if keys:
        np.testing.assert_allclose(
            pooled.dual.numpy(), np.stack([new_dual[k] for k in keys]), atol=1e-10
        )


@pytest.mark.parametrize("config", "ABC")
@pytest.mark.parametrize("keep", [0.8, 0.7, 0.5, 0.3])
def test_pooling_is_that_of_the_loops(loops, config, keep):
    assert_pool_matches_loops(loops, primal_dual(*icosphere(2), config), keep, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("config", "ABC")
@pytest.mark.parametrize("keep", [0.8, 0.7, 0.5, 0.3])
def test_pooling_real_meshes_is_that_of_the_loops(loops, shrec_files, keep, config):
    files = shrec_files[:: len(shrec_files) // 50][:50]
    assert len(files) == 50
    for i, file in enumerate(files):
        mesh = clean(*read_mesh(file))
        graph = primal_dual(mesh.vertices, mesh.faces, config)
        assert_pool_matches_loops(loops, graph, keep, seed=i)


def random_attention(topology, seed=0):
    return torch.rand(2 * topology.num_edges, 1, generator=torch.Generator().manual_seed(seed))


def test_keeping_everything_changes_nothing():
    graph = primal_dual(*icosphere(1))
    topology = graph.topology()
    pool = FaceClusterPool((1, 8), keep=1.0)
    pooled = pool(graph.x, graph.x_dual, topology, random_attention(topology))
    torch.testing.assert_close(pooled.primal, graph.x)
    torch.testing.assert_close(pooled.dual, graph.x_dual)
    assert torch.equal(pooled.topology.edge_index, topology.edge_index)


def test_sums_are_conserved_and_clusterwise_constants_survive_the_way_back():
    graph = primal_dual(*icosphere(2))
    topology = graph.topology()
    pool = FaceClusterPool((1, 8), keep=0.6, reduce="sum")
    pooled = pool(graph.x, graph.x_dual, topology, random_attention(topology))
    torch.testing.assert_close(pooled.primal.sum(0), graph.x.sum(0))
    clusters = pooled.clusters
    constant = torch.randn(pooled.topology.num_faces, 3)[clusters.cluster]
    mean = FaceClusterPool((3, 8), keep=0.6)
    again = mean(constant, graph.x_dual, topology, random_attention(topology))
    back, dual = FaceClusterUnpool(8)(again.primal, again.dual, again.clusters)
    torch.testing.assert_close(back, constant)
    gone = clusters.dual_assignment < 0
    assert gone.any() and torch.equal(dual[gone], dual[gone][:1].expand(int(gone.sum()), -1))
    kept = clusters.dual_assignment[~gone]
    torch.testing.assert_close(dual[~gone], again.dual[kept])


def test_a_batch_pools_like_its_meshes():
    graphs = [primal_dual(*bumpy(n, n), "B") for n in (2, 0, 1)]
    batch = Batch.from_data_list(graphs)
    topology = batch.topology()
    attention = random_attention(topology)
    pooled = FaceClusterPool((1, 5), keep=0.7)(batch.x, batch.x_dual, topology, attention)
    starts = (0, *np.cumsum([g.edge_index.size(1) for g in graphs]))
    parts = [
        FaceClusterPool((1, 5), keep=0.7)(g.x, g.x_dual, g.topology(), attention[a:b])
        for g, a, b in zip(graphs, starts, starts[1:], strict=False)
    ]
    torch.testing.assert_close(pooled.primal, torch.cat([p.primal for p in parts]))
    torch.testing.assert_close(pooled.dual, torch.cat([p.dual for p in parts]))
    assert pooled.topology.mesh_faces.counts.tolist() == [p.topology.num_faces for p in parts]


@pytest.mark.parametrize("reduce", ["mean", "max", "softmax", "median", pyg_aggr.MaxAggregation()])
def test_any_aggregation_reduces(reduce):
    graph = primal_dual(*icosphere(1))
    topology = graph.topology()
    pool = FaceClusterPool((1, 8), keep=0.7, reduce=reduce)
    pooled = pool(graph.x, graph.x_dual, topology, random_attention(topology))
    assert pooled.primal.shape == (pooled.topology.num_faces, pool.out_channels[0])
    if not isinstance(reduce, str) or reduce == "max":
        members = pooled.clusters.cluster == 0
        torch.testing.assert_close(pooled.primal[0], graph.x[members].max(0).values)


@pytest.mark.parametrize("config, channels", [("A", 8), ("B", 5), ("C", 5)])
def test_score_gradient_changes_no_value_and_reaches_the_attention(config, channels):
    graph = primal_dual(*icosphere(1), config)
    topology = graph.topology()
    results = []
    for on in (False, True):
        attention = random_attention(topology).requires_grad_()
        pool = FaceClusterPool((1, channels), keep=0.7, score_gradient=on)
        pooled = pool(graph.x, graph.x_dual, topology, attention)
        results.append(pooled)
        if on:
            (pooled.primal.sum() + pooled.dual.sum()).backward()
            selected = pool_selection(attention, topology)
            touched = attention.grad.reshape(-1, 2).ne(0).all(1)
            assert torch.equal(touched, selected)
    assert torch.equal(results[0].primal, results[1].primal)
    assert torch.equal(results[0].dual, results[1].dual)


def pool_selection(attention, topology):
    return select_edges(attention.detach().reshape(-1, 2).mean(1), topology, keep=0.7)


def test_selection_by_count_and_threshold_and_lowest_first():
    topology = primal_dual(*icosphere(1)).topology()
    score = torch.rand(topology.num_edges)
    assert int(select_edges(score, topology, "count", 100).sum()) == 20
    assert int(select_edges(score, topology, "count", 500).sum()) == 0
    assert torch.equal(select_edges(score, topology, "threshold", 0.9), score > 0.9)
    lowest = select_edges(score, topology, "fraction", 0.75, largest=False)
    assert score[lowest].max() < score[~lowest].min()


@pytest.mark.parametrize("keep", [0.9, 0.5, 0.0])
def test_non_consecutive_selection_is_greedy(keep):
    topology = primal_dual(*icosphere(2)).topology()
    score = torch.rand(topology.num_edges, generator=torch.Generator().manual_seed(3))
    pairs, quota, taken, expected = topology.pairs.t().tolist(), int((1 - keep) * 480), set(), set()
    for t in sorted(range(480), key=lambda t: (-float(score[t]), t)):
        if len(expected) < quota and not taken & set(pairs[t]):
            taken |= set(pairs[t])
            expected.add(t)
    found = select_edges(score, topology, keep=keep, consecutive=False)
    assert set(found.nonzero().squeeze(1).tolist()) == expected


def test_a_blow_up_of_the_dual_graph_is_refused():
    topology = primal_dual(*icosphere(3)).topology()
    patch = (topology.pairs < 300).all(0)
    with pytest.raises(ValueError, match="max_dual_edges=1000: one face or cluster has"):
        cluster_faces(patch, topology, max_dual_edges=1000)


def test_wrong_arguments_are_named():
    topology = primal_dual(*icosphere(0)).topology()
    with pytest.raises(ValueError, match="`select`"):
        FaceClusterPool((1, 8), select="some")
    with pytest.raises(ValueError, match=r"\[0, 1\]; got 1.5"):
        FaceClusterPool((1, 8), keep=1.5)
    with pytest.raises(ValueError, match="`consecutive=False`"):
        select_edges(torch.rand(30), topology, "threshold", 0.5, consecutive=False)
    with pytest.raises(ValueError, match="`attention`"):
        FaceClusterPool((1, 8))(torch.rand(20, 1), torch.rand(30, 8), topology, torch.rand(30, 1))
    with pytest.raises(ValueError, match=r"`primal` must have shape \[20, 2\]"):
        PrimalDualConv((2, 8), (4, 4))(torch.rand(20, 1), torch.rand(30, 8), topology)
