import math
import pickle

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch

from graphpool.mesh import MeshGraph, clean, icosphere, primal_dual, read_mesh

CUBE = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=float)
CUBE_FACES = np.array(
    [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
     [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]
)  # fmt: skip


def assert_matches_loops(loops, vertices, faces, config):
    graph = primal_dual(vertices, faces, config)
    primal, dual = loops.features(np.asarray(vertices), faces, config)
    pairs = list(loops.adjacency(faces))
    assert graph.topology().pairs.t().tolist() == [list(pair) for pair in pairs]
    keys = loops.dual_keys(pairs, config)
    torch.testing.assert_close(graph.x, torch.tensor([primal[f] for f in range(len(faces))]))
    expected = torch.tensor([dual[key] for key in keys], dtype=torch.float64).float()
    torch.testing.assert_close(graph.x_dual, expected, rtol=1e-5, atol=1e-6)
    found = [(keys[s], keys[t]) for s, t in graph.dual_edge_index.t().tolist()]
    assert len(found) == len(set(found))
    assert set(found) == loops.dual_edges(pairs, range(len(faces)), config)


@pytest.mark.parametrize("config", "ABC")
def test_graphs_of_an_icosphere_are_those_of_the_loops(loops, config):
    vertices, faces = icosphere(2)
    rng = np.random.default_rng(0)
    assert_matches_loops(loops, vertices + 0.05 * rng.normal(size=vertices.shape), faces, config)
    assert_matches_loops(loops, vertices, faces[:200], config)  # with a boundary


@pytest.mark.slow
@pytest.mark.parametrize("config", "ABC")
def test_graphs_of_real_meshes_are_those_of_the_loops(loops, shrec_files, config):
    for file in shrec_files[:: len(shrec_files) // 50][:50]:
        mesh = clean(*read_mesh(file))
        assert_matches_loops(loops, mesh.vertices, mesh.faces, config)


def test_a_cube_has_convex_edges_and_flat_diagonals():
    graph = primal_dual(CUBE, CUBE_FACES)
    sine, cosine, low, high = graph.x_dual[:, :4].t()
    flat = (cosine + 1).abs() < 1e-6
    assert int(flat.sum()) == 6
    torch.testing.assert_close(sine, torch.where(flat, 0.0, -1.0))  # 3 pi / 2
    torch.testing.assert_close(cosine, torch.where(flat, -1.0, 0.0))
    for ratio in (low, high):
        torch.testing.assert_close(ratio, torch.where(flat, math.log(2), 0.0))
    inward = primal_dual(CUBE, CUBE_FACES[:, ::-1].copy()).x_dual
    torch.testing.assert_close(inward[:, 0], -sine)
    torch.testing.assert_close(inward[:, 1], cosine)


@pytest.mark.parametrize("config, per_edge", [("A", 4), ("B", 8), ("C", 4)])
def test_dual_degrees_of_a_watertight_mesh(config, per_edge):
    graph = primal_dual(*icosphere(2), config)
    topology = graph.topology()
    edges = 3 * topology.num_faces // 2
    assert topology.num_edges == edges
    assert graph.dual_edge_index.size(1) == per_edge * edges
    source, target = graph.dual_edge_index
    for end in (source, target):
        degree = torch.bincount(end, minlength=topology.num_dual_nodes)
        assert set(degree.tolist()) == {2 if config == "C" else 4}


@pytest.mark.parametrize("config", "ABC")
def test_features_ignore_rotation_translation_and_scale(config):
    rng = np.random.default_rng(1)
    vertices, faces = icosphere(2)
    vertices = vertices + 0.1 * rng.normal(size=vertices.shape)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turn[:, 0] *= np.linalg.det(turn)
    moved = 37.0 * vertices @ turn.T + rng.normal(size=3)
    one, two = primal_dual(vertices, faces, config), primal_dual(moved, faces, config)
    torch.testing.assert_close(one.x, two.x)
    torch.testing.assert_close(one.x_dual, two.x_dual, rtol=1e-4, atol=1e-5)


def test_features_of_a_do_not_depend_on_the_order_of_faces():
    rng = np.random.default_rng(2)
    vertices, faces = icosphere(1)
    vertices = vertices + 0.1 * rng.normal(size=vertices.shape)
    order = rng.permutation(len(faces))
    one, two = primal_dual(vertices, faces), primal_dual(vertices, faces[order])
    place = {
        frozenset(order[list(pair)]): k for k, pair in enumerate(two.topology().pairs.t().tolist())
    }
    rows = [place[frozenset(pair)] for pair in one.topology().pairs.t().tolist()]
    torch.testing.assert_close(one.x_dual, two.x_dual[rows])


def test_orientation_flips_exchange_before_and_after():
    vertices, faces = icosphere(1)
    vertices = vertices * [1.0, 1.3, 0.7]
    one, two = (primal_dual(vertices, f, "B").x_dual for f in (faces, faces[:, ::-1].copy()))
    torch.testing.assert_close(one[:, 0], -two[:, 0])
    torch.testing.assert_close(one[:, 1:3], two[:, 1:3])
    torch.testing.assert_close(one[:, 3:], two[:, [4, 3]])


def test_one_flipped_face_has_the_features_of_an_unflipped_one():
    vertices, faces = icosphere(1)
    vertices = vertices * [1.0, 1.3, 0.7]
    flipped = faces.copy()
    flipped[-1] = flipped[-1, ::-1]  # the last face is always the second of a pair
    one, two = primal_dual(vertices, faces), primal_dual(vertices, flipped)
    torch.testing.assert_close(one.x_dual, two.x_dual)


def test_neighbor_features_are_means_over_the_pairs_of_a_face():
    vertices, faces = icosphere(1)
    graph = primal_dual(vertices * [1.0, 1.3, 0.7], faces, "B", primal_features="neighbors")
    for face in (0, 17, 79):
        mine = graph.edge_index[0] == face
        torch.testing.assert_close(graph.x[face], graph.x_dual[mine].mean(0))


def test_batching_gives_the_graphs_side_by_side():
    graphs = [primal_dual(*icosphere(n), "B", labels=n) for n in (1, 0)]
    batch = Batch.from_data_list(graphs)
    topology = batch.topology()
    assert (topology.num_meshes, topology.num_faces) == (2, 100)
    assert batch.y.tolist() == [1, 0]
    assert topology.mesh_dual_nodes.counts.tolist() == [240, 60]
    second = batch[1]
    assert torch.equal(second.edge_index, graphs[1].edge_index)
    assert torch.equal(second.dual_edge_index, graphs[1].dual_edge_index)
    assert torch.equal(second.faces, graphs[1].faces)
    assert torch.equal(second.vertices, graphs[1].vertices)


def test_pickling_and_moving_keep_everything():
    graph = primal_dual(*icosphere(0), labels=np.arange(20))
    again = pickle.loads(pickle.dumps(graph)).to("cpu")
    assert isinstance(again, MeshGraph)
    assert all(torch.equal(again[k], v) for k, v in graph if k != "config")


def test_mixed_configurations_do_not_batch():
    batch = Batch.from_data_list([primal_dual(*icosphere(0), c) for c in "BC"])
    with pytest.raises(ValueError, match="one config"):
        batch.topology()


def test_a_single_triangle_and_two_faces_with_two_common_edges():
    triangle = primal_dual(np.eye(3), [[0, 1, 2]])
    assert triangle.edge_index.shape == (2, 0) and triangle.x_dual.shape == (0, 8)
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0.0], [1, 1, 1]])
    pillow = primal_dual(points, [[0, 1, 2], [0, 2, 1], [1, 2, 3]][:2])
    assert pillow.topology().num_edges == 1


@pytest.mark.parametrize(
    "vertices, faces, labels, message",
    [
        (np.eye(3), [[0, 1, 3]], None, r"face 0 is \[0, 1, 3\]"),
        (np.eye(3)[:, :2], [[0, 1, 2]], None, r"\[V, 3\]"),
        (np.array([[0, 0, 0], [1, 1, 1], [2, 2, 2.0]]), [[0, 1, 2]], None, "face 0 .* no area"),
        (np.array([[0, 0, np.nan], [1, 1, 1], [2, 0, 2.0]]), [[0, 1, 2]], None, "vertex 0"),
        (np.eye(3), np.zeros((0, 3), dtype=int), None, "F >= 1"),
        (np.eye(3), [[0, 1, 2]], [0, 1], r"one per face \[1\]"),
    ],
)
def test_errors_say_what_and_where(vertices, faces, labels, message):
    with pytest.raises(ValueError, match=message):
        primal_dual(vertices, faces, labels=labels)


def test_a_fan_is_refused_with_its_faces():
    points = np.random.default_rng(0).normal(size=(5, 3))
    with pytest.raises(ValueError, match=r"3 faces meet at the edge \(0, 1\): \[0, 1, 2\]"):
        primal_dual(points, [[0, 1, 2], [1, 0, 3], [0, 1, 4]])


def test_an_unknown_configuration_is_refused():
    with pytest.raises(ValueError, match="`config`"):
        primal_dual(*icosphere(0), "D")
