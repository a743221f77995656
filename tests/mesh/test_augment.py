import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from graphpool.mesh import (
    FlipEdges,
    JitterVertices,
    Remake,
    clean,
    edge_graph,
    icosphere,
    primal_dual,
)
from graphpool.points.transforms import Rotate, Scale


def ball(level=2, noise=0.02):
    vertices, faces = icosphere(level)
    rng = np.random.default_rng(0)
    vertices = vertices + noise * rng.normal(size=vertices.shape)
    return Data(pos=torch.from_numpy(vertices), face=torch.from_numpy(faces).t())


def test_flips_keep_a_closed_surface_and_what_it_encloses():
    mesh = ball(3)
    before = mesh.face.clone()
    after = FlipEdges(0.5, torch.Generator().manual_seed(0))(mesh).face
    changed = (before != after).any(0)
    assert 0.1 < float(changed.double().mean()) < 0.9
    result = clean(mesh.pos.numpy(), after.t().numpy())
    # Nothing to drop, to turn over or to join; every edge has two faces.
    assert str(result.report) == "nothing to clean"
    assert primal_dual(result.vertices, result.faces).edge_index.size(1) == 3 * len(result.faces)

    def volume(face):
        return float(torch.linalg.det(mesh.pos[face.t()]).sum()) / 6

    assert volume(after) == pytest.approx(volume(before), rel=2e-3)
    # A flip changes two faces, and the corners of both together stay.
    assert torch.equal(before.flatten().bincount().sum(), after.flatten().bincount().sum())


def test_flips_leave_ridges_borders_between_labels_and_other_diagonals():
    cube = torch.tensor([[x, y, z] for x in (0.0, 1) for y in (0.0, 1) for z in (0.0, 1)])
    faces = torch.tensor(
        [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
         [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]
    )  # fmt: skip
    flipped = FlipEdges(1.0)(Data(pos=cube, face=faces.t())).face.t()
    # Each side keeps its four corners, and has the other diagonal.
    for side in range(6):
        rows = flipped[2 * side : 2 * side + 2]
        assert set(rows.flatten().tolist()) == set(
            faces[2 * side : 2 * side + 2].flatten().tolist()
        )
        assert not torch.equal(rows, faces[2 * side : 2 * side + 2])
    labels = torch.arange(12)
    assert torch.equal(FlipEdges(1.0)(Data(pos=cube, face=faces.t(), y=labels)).face.t(), faces)
    tetrahedron = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    flat = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0.3, 0.3, 1e-3]])
    assert torch.equal(FlipEdges(1.0)(Data(pos=flat, face=tetrahedron.t())).face.t(), tetrahedron)


def test_flips_do_not_fold_over():
    # A dart: its other diagonal lies outside.
    pos = torch.tensor([[0.0, 0, 0], [2, 1, 0], [0.5, 0, 0], [2, -1, 0]])
    face = torch.tensor([[0, 2, 1], [0, 3, 2]]).t()
    assert torch.equal(FlipEdges(1.0)(Data(pos=pos, face=face)).face, face)


def test_jitter_is_measured_in_edges():
    mesh = ball(3, 0)
    before, corners = mesh.pos.clone(), mesh.pos[mesh.face.t()]
    length = (corners - corners.roll(1, dims=1)).norm(dim=2).mean()
    moved = JitterVertices(0.1, torch.Generator().manual_seed(0))(mesh).pos - before
    assert float(moved.std() / length) == pytest.approx(0.1, rel=0.1)


def test_a_graph_is_made_again_from_the_changed_mesh():
    mesh = ball()
    options = {"primal_features": ["area", "normal", "position"]}
    vertices = mesh.pos * 7 + 30
    graph = primal_dual(vertices, mesh.face.t(), labels=torch.arange(mesh.face.size(1)), **options)

    def turn(data):
        data.pos = data.pos[:, [1, 2, 0]]
        return data

    made = Remake([turn], lambda v, f: primal_dual(v, f, **options))(graph.clone())
    torch.testing.assert_close(made.x[:, 0], graph.x[:, 0])
    torch.testing.assert_close(made.x[:, 1:4], graph.x[:, [2, 3, 1]], atol=1e-5, rtol=0)
    torch.testing.assert_close(made.x[:, 4:], graph.x[:, [5, 6, 4]], atol=1e-5, rtol=0)
    torch.testing.assert_close(made.x_dual, graph.x_dual, atol=1e-4, rtol=0)
    assert torch.equal(made.y, graph.y)
    stretched = Remake([Scale((0.5, 2.0), generator=torch.Generator().manual_seed(0))], primal_dual)
    assert float((stretched(graph.clone()).x_dual - graph.x_dual).abs().max()) > 0.1
    whole = Remake([Rotate("z"), JitterVertices(), FlipEdges()], edge_graph)
    edges = edge_graph(vertices, mesh.face.t(), 2)
    assert whole(edges).y.tolist() == [2] and whole(edges).x.shape == edges.x.shape
    edges.y = torch.zeros(len(edges.x), dtype=torch.long)
    with pytest.raises(ValueError, match="labels of the mesh or of its 320 faces"):
        whole(edges)


@pytest.mark.parametrize("make, argument", [(FlipEdges, "share"), (JitterVertices, "sigma")])
def test_amounts_out_of_range(make, argument):
    with pytest.raises(ValueError, match=f"`{argument}` must"):
        make(-0.1)


def test_normals_and_positions_turn_with_the_mesh():
    vertices, faces = icosphere(1)
    vertices = vertices * [1, 2, 3]
    both = ["position", "normal"]
    graph = primal_dual(vertices * 5 + 9, faces, primal_features=both)
    corners = vertices[faces]
    area = np.linalg.norm(
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
    )
    middle = (area[:, None] * corners.mean(1)).sum(0) / area.sum()
    centre = (corners.mean(1) - middle) / np.linalg.norm(vertices - middle, axis=1).max()
    np.testing.assert_allclose(graph.x[:, :3], centre, atol=1e-6)
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    np.testing.assert_allclose(graph.x[:, 3:], cross / area[:, None], atol=1e-6)
    # Upside down is something else now.
    over = primal_dual(vertices * [1, -1, -1], faces, primal_features=both)
    np.testing.assert_allclose(over.x, graph.x * torch.tensor([1.0, -1, -1] * 2), atol=1e-6)
    edges = edge_graph(vertices, faces, more_features=both)
    ends = (vertices[edges.ends.numpy()].mean(1) - middle) / np.linalg.norm(vertices, axis=1).max()
    np.testing.assert_allclose(edges.x[:, 8:], ends, atol=1e-6)
    np.testing.assert_allclose(edges.x[:, 5:8].norm(dim=1), 1, atol=1e-6)
    assert torch.equal(edges.x[:, :5], edge_graph(vertices, faces).x)
    for name in ("colour", ["area", "area"]):
        with pytest.raises(
            ValueError, match="`primal_features` must be of area, neighbors, normal"
        ):
            primal_dual(vertices, faces, primal_features=name)
