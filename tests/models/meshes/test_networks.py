import numpy as np
import pytest
import torch
from torch_geometric.data import Batch

from graphpool.mesh import edge_graph, icosphere, primal_dual
from graphpool.models import (
    FaceMLP,
    MeshClassifier,
    MeshCNNClassifier,
    MeshCNNSegmenter,
    MeshSegmenter,
    MeshSuperpixelSegmenter,
)
from graphpool.models.meshes.blocks import NodeGroupNorm


def bumpy(subdivisions, seed, config="A"):
    vertices, faces = icosphere(subdivisions)
    rng = np.random.default_rng(seed)
    return primal_dual(vertices + 0.1 * rng.normal(size=vertices.shape), faces, config)


@pytest.fixture(scope="module")
def graphs():
    return [bumpy(n, n) for n in (2, 1, 2)]


def size(model):
    return sum(p.numel() for p in model.parameters())


def test_numbers_of_parameters_are_the_published_ones():
    # With the dihedral angle as one number, not as sine and cosine.
    assert size(MeshClassifier(30, in_channels=(1, 7))) == 567_226
    assert size(MeshCNNClassifier(30)) == 1_323_386
    assert size(MeshCNNSegmenter(8)) == 2_279_720
    assert size(MeshCNNSegmenter(4)) == 2_278_100


@pytest.mark.parametrize(
    "model",
    [
        MeshSegmenter(4),
        MeshSegmenter(4, heads=2, head="linear", own_feature=True),
        MeshSuperpixelSegmenter(4),
        FaceMLP(4),
    ],
    ids=["unet", "unet-2-heads", "superpixel", "mlp"],
)
def test_segmenters_of_a_batch_are_those_of_its_meshes(model, graphs):
    model.standardizer.fit(graphs)
    model.eval()
    whole = model(Batch.from_data_list(graphs))
    assert whole.shape == (sum(g.num_nodes for g in graphs), 4)
    torch.testing.assert_close(whole, torch.cat([model(g) for g in graphs]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("read", ["dual", "primal", "both"])
def test_the_classifier_of_a_batch_is_that_of_its_meshes(read, graphs):
    model = MeshClassifier(5, heads=2, read=read).eval()
    model.standardizer.fit(graphs)
    whole = model(Batch.from_data_list(graphs))
    torch.testing.assert_close(whole, torch.cat([model(g) for g in graphs]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("reduce", ["mean", "attsets"])
@pytest.mark.parametrize("task", ["classify", "segment"])
def test_the_edge_network_of_a_batch_is_that_of_its_meshes_and_trains(task, reduce):
    rng = np.random.default_rng(0)
    vertices, faces = icosphere(2)
    meshes = [edge_graph(vertices + 0.1 * rng.normal(size=vertices.shape), faces) for _ in range(3)]
    if task == "classify":
        model = MeshCNNClassifier(
            5, channels=(8, 8), targets=(300, 200), reduce=reduce, hidden=8, groups=2
        )
        shape = (len(meshes), 5)
    else:
        model = MeshCNNSegmenter(
            6, channels=(8, 8, 16), targets=(400, 300), reduce=reduce, num_blocks=1
        )
        shape = (sum(len(m.x) for m in meshes), 6)
    model.eval()
    model.standardizer.fit(meshes)
    whole = model(Batch.from_data_list(meshes))
    assert whole.shape == shape
    torch.testing.assert_close(whole, torch.cat([model(m) for m in meshes]), rtol=1e-3, atol=1e-4)
    whole.square().sum().backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None]


def test_normalisation_over_the_batch_looks_at_all_meshes(graphs):
    torch.manual_seed(0)
    model = MeshSuperpixelSegmenter(4, norm="batch").eval()
    model.standardizer.fit(graphs)
    whole = model(Batch.from_data_list(graphs))
    assert not torch.allclose(whole[: graphs[0].num_nodes], model(graphs[0]), atol=1e-2)
    per_mesh = MeshSuperpixelSegmenter(4, norm="mesh").eval()
    per_mesh.load_state_dict(model.state_dict())
    # One mesh is a batch of its own.
    torch.testing.assert_close(per_mesh(graphs[0]), model(graphs[0]))
    levels = model.clusters(graphs[0])
    assert [len(level) for level in levels] == [graphs[0].num_nodes] * len(levels)
    assert all(a.max() > b.max() for a, b in zip(levels, levels[1:], strict=False))


@pytest.mark.parametrize("config, dual", [("A", 8), ("B", 5), ("C", 5)])
def test_all_configurations_run_and_train(config, dual):
    graph = bumpy(2, 0, config)
    for model in (MeshClassifier(3, (1, dual)), MeshSegmenter(3, (1, dual))):
        out = model(graph)
        out.square().sum().backward()
        assert out.isfinite().all()


def trained(model, graph):
    model.standardizer.fit([graph])
    model(graph).square().sum().backward()
    return {n for n, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}


def test_as_published_the_primal_stream_gets_no_gradient_and_the_options_change_that(graphs):
    primal = "blocks.0.conv.first.primal_weight.weight"
    score = "blocks.0.conv.convs.0.primal_score"
    assert not {primal, score} & trained(MeshClassifier(5), graphs[0])
    assert {primal, score} <= trained(MeshClassifier(5, read="both"), graphs[0])
    own = "blocks.0.conv.first.own_weight.weight"
    assert own in trained(MeshClassifier(5, read="both", own_feature=True), graphs[0])
    assert score in trained(MeshClassifier(5, score_gradient=True), graphs[0])


@pytest.mark.parametrize("reduce", ["mean", "max", "softmax", "gnp", "attsets"])
def test_any_reducer_works_in_the_networks(reduce, graphs):
    for model in (MeshClassifier(5, heads=1, reduce=reduce), MeshSegmenter(5, reduce=reduce)):
        names = trained(model, graphs[0])
        learnable = [n for n, _ in model.named_parameters() if "pool.dual_reduce" in n]
        assert not learnable or names & set(learnable)


def test_lists_of_aggregations_widen_the_next_block(graphs):
    model = MeshClassifier(5, heads=1, reduce=["mean", "max"], readout=["mean", "max"])
    assert model.blocks[1].conv.first.in_channels == (128, 128)
    assert model(Batch.from_data_list(graphs)).shape == (3, 5)


def test_clusters_are_maps_of_the_original_faces(graphs):
    batch = Batch.from_data_list(graphs)
    levels = MeshSegmenter(4).eval().clusters(batch)
    assert len(levels) == 2 and all(level.shape == batch.batch.shape for level in levels)
    coarse, fine = levels[1], levels[0]
    assert int(coarse.max()) < int(fine.max())
    for cluster in fine.unique()[:20]:
        assert coarse[fine == cluster].unique().numel() == 1


def test_the_standardizer_is_stored_with_the_model(graphs):
    model = MeshSegmenter(4)
    model.standardizer.fit(graphs)
    again = MeshSegmenter(4)
    again.load_state_dict(model.state_dict())
    primal, dual = again.standardizer(Batch.from_data_list(graphs))
    for x in (primal, dual):
        torch.testing.assert_close(x.mean(0), torch.zeros(x.size(1)), atol=1e-4, rtol=0)
        torch.testing.assert_close(x.std(0), torch.ones(x.size(1)), atol=1e-3, rtol=0)
    torch.testing.assert_close(again.eval()(graphs[0]), model.eval()(graphs[0]))


def test_a_single_face_passes_through_the_networks_in_evaluation():
    graph = primal_dual(np.eye(3), [[0, 1, 2]])
    assert MeshSegmenter(4).eval()(graph).shape == (1, 4)
    assert MeshClassifier(4).eval()(graph).shape == (1, 4)
    assert MeshSuperpixelSegmenter(4).eval()(graph).shape == (1, 4)


def test_training_survives_pooling_to_a_single_cluster(graphs):
    model = MeshSegmenter(4, channels=(32, 64, 128, 128), keep=(0.2, 0.2, 0.0))
    model.standardizer.fit(graphs)
    assert int(model.clusters(graphs[1])[-1].max()) == 0
    loss = model(graphs[1]).square().sum()
    loss.backward()
    assert loss.isfinite()


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="`keep`"):
        MeshClassifier(3, keep=(0.8,))
    with pytest.raises(ValueError, match="`read`"):
        MeshClassifier(3, read="all")
    with pytest.raises(ValueError, match="multiples of 16"):
        MeshClassifier(3, channels=(20,), keep=(0.8,), heads=1)
    with pytest.raises(ValueError, match="one entry more"):
        MeshSegmenter(3, keep=(0.5,))
    with pytest.raises(ValueError, match="`norm`"):
        MeshSuperpixelSegmenter(3, norm="face")
    with pytest.raises(ValueError, match="same length"):
        MeshSuperpixelSegmenter(3, keep=(0.5,))
    with pytest.raises(ValueError, match="keep the number of channels"):
        MeshCNNSegmenter(3, reduce=["mean", "max"])


def test_group_normalisation_of_nodes_is_that_of_torch():
    ours, theirs = NodeGroupNorm(4, 12), torch.nn.GroupNorm(4, 12)
    for norm in (ours, theirs):
        torch.nn.init.normal_(norm.weight, generator=torch.Generator().manual_seed(0))
        torch.nn.init.normal_(norm.bias, generator=torch.Generator().manual_seed(1))
    x = torch.randn(9, 12)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("kind", [MeshClassifier, MeshSegmenter, MeshSuperpixelSegmenter])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_checkpointed_network_has_the_same_bits(kind, dropout):
    graph = primal_dual(*icosphere(2))
    found = []
    for checkpoint in (False, True):
        torch.manual_seed(0)
        options = {"own_feature": True, "dual_messages": True, "dropout": dropout}
        model = kind(
            3,
            channels=(16, 32, 32)[: 3 if kind is MeshSegmenter else 2],
            checkpoint=checkpoint,
            **options,
        )
        held = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, held=held: held.append(t.numel()) or t, lambda t: t
        ):
            out = model(graph)
        out.square().mean().backward()
        found.append((out, sum(held), [p.grad for p in model.parameters()], list(model.buffers())))
    (one, much, grads, norms), (two, little, other_grads, other_norms) = found
    assert torch.equal(one, two) and little < much
    assert any(grad is not None and bool(grad.any()) for grad in grads)
    for a, b in zip([*grads, *norms], [*other_grads, *other_norms], strict=True):
        assert (a is None and b is None) or torch.equal(a, b)


def test_widths_that_groups_do_not_divide_are_refused_with_a_way_out():
    with pytest.raises(
        ValueError, match=r"`channels` must be multiples of 16.*got 24.*norm='batch'"
    ):
        MeshClassifier(3, (3, 4), channels=(8, 16))
    MeshClassifier(3, (3, 4), channels=(8, 16), norm="batch")
