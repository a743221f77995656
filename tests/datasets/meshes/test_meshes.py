import numpy as np
import pytest
import torch

from graphpool.datasets import (
    GeneratedMeshes,
    MeshClassificationFolder,
    MeshSegmentationFolder,
    generate_mesh,
)
from graphpool.datasets.meshes.implicit import is_closed_manifold, surface_net
from graphpool.datasets.meshes.labels import (
    edge_to_face_labels,
    face_to_edge_labels,
    read_soft_labels,
)
from graphpool.datasets.meshes.shapes import FAMILIES
from graphpool.mesh import clean, icosphere, write_mesh


def volume(vertices, faces):
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    return float((a * np.cross(b, c)).sum() / 6)


@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_generated_meshes_are_closed_oriented_and_labelled(family, seed):
    mesh = generate_mesh(family, seed)
    assert 500 <= len(mesh.faces) <= 3000
    assert is_closed_manifold(mesh.faces, len(mesh.vertices))
    assert volume(mesh.vertices, mesh.faces) > 0
    assert not clean(mesh.vertices, mesh.faces).report.changed
    assert np.bincount(mesh.labels, minlength=len(mesh.label_names)).min() >= 4
    again = generate_mesh(family, seed)
    assert np.array_equal(mesh.vertices, again.vertices)
    assert not np.array_equal(mesh.labels, generate_mesh(family, seed + 10).labels)


def test_a_sphere_from_its_distance():
    def distance(p):
        return np.linalg.norm(p, axis=1) - 1

    vertices, faces = surface_net(distance, -np.ones(3), np.ones(3), 0.2)
    np.testing.assert_allclose(np.linalg.norm(vertices, axis=1), 1, atol=1e-3)
    assert is_closed_manifold(faces, len(vertices))
    assert volume(vertices, faces) == pytest.approx(4 / 3 * np.pi, rel=0.03)
    with pytest.raises(ValueError, match="leaves the box"):
        surface_net(distance, -0.5 * np.ones(3), 0.5 * np.ones(3), 0.2)


def test_random_fields_give_two_faces_at_every_edge():
    # Ambiguous cells everywhere: what one vertex per cell gets wrong.
    rng = np.random.default_rng(0)
    for _ in range(5):
        waves = rng.normal(size=(6, 3)) * 6
        phase = rng.uniform(0, 6, 6)

        def distance(p, waves=waves, phase=phase):
            inner = np.cos(p @ waves.T + phase).sum(1) / 3
            return np.maximum(inner, np.abs(p).max(1) - 0.95)

        vertices, faces = surface_net(distance, -np.ones(3), np.ones(3), 0.1, smoothing=0)
        start, stop = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
        forward = np.sort(start * len(vertices) + stop)
        backward = np.sort(stop * len(vertices) + start)
        assert np.array_equal(forward, backward)


def test_closed_manifolds_are_told_from_others():
    vertices, faces = icosphere(1)
    assert is_closed_manifold(faces, len(vertices))
    assert not is_closed_manifold(faces[1:], len(vertices))
    two = np.concatenate([faces, faces + 42])
    assert not is_closed_manifold(two, 84) and is_closed_manifold(two, 84, connected=False)
    touching = np.where(two == 42, 0, two)
    touching = np.unique(touching, return_inverse=True)[1].reshape(touching.shape)
    assert not is_closed_manifold(touching, 83, connected=False)


def test_generated_data_set_counts_labels_over_families():
    data = GeneratedMeshes(4, ("vase", "lamp"), num_faces=(500, 1500))
    assert (len(data), data.num_classes) == (4, 8)
    assert data.label_names[4] == "lamp/base"
    assert set(data[1].y.tolist()) == {4, 5, 6, 7}
    assert [int(g.family) for g in data] == [0, 1, 0, 1]
    with pytest.raises(ValueError, match="`families`"):
        GeneratedMeshes(1, "car")
    with pytest.raises(ValueError, match="`num_faces`"):
        generate_mesh("vase", num_faces=(900, 500))
    with pytest.raises(ValueError, match="No creature with 100 to 110 faces"):
        generate_mesh("creature", num_faces=(100, 110))


def test_classification_folder(tmp_path):
    for name, radius in (("b", 1.0), ("a", 2.0)):
        for split, count in (("train", 2), ("test", 1)):
            for i in range(count):
                write_mesh(tmp_path / name / split / f"{i}.obj", *icosphere(1, radius))
    (tmp_path / "notes").mkdir()
    data = MeshClassificationFolder(tmp_path, "train")
    assert data.classes == ["a", "b"]
    assert [int(graph.y) for graph in data] == [0, 0, 1, 1]
    assert float(data[0].vertices.norm(dim=1).mean()) == pytest.approx(2)
    assert len(MeshClassificationFolder(tmp_path, "test", max_per_class=1)) == 2
    edges = MeshClassificationFolder(tmp_path, "test", kind="edges")
    assert edges[1].x.shape == (120, 5) and int(edges[1].y) == 1
    with pytest.raises(
        FileNotFoundError,
        match="<class>/validation has no file .* folders a, b, notes",
    ):
        MeshClassificationFolder(tmp_path, "validation")
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        MeshClassificationFolder(tmp_path / "missing")


def test_real_classification_folder(shared_data):
    data = MeshClassificationFolder(shared_data / "shrec16", "test", max_per_class=1)
    assert len(data) == 30 and data.num_classes == 30 and data.classes[0] == "alien"
    assert all(graph.num_nodes == 500 and graph.edge_index.size(1) == 1500 for graph in data)


def write_segmentation(root, per_edge):
    vertices, faces = icosphere(1)
    labels = (vertices[faces].mean(1)[:, 2] > 0).astype(int)
    for split, name in (("train", "x"), ("test", "y")):
        write_mesh(root / split / f"{name}.ply", vertices, faces)
        (root / "seg").mkdir(exist_ok=True)
        values = face_to_edge_labels(faces, labels) if per_edge else labels
        np.savetxt(root / "seg" / f"{name}.eseg", values + 1, fmt="%d")
    return faces, labels


@pytest.mark.parametrize("per_edge", [False, True])
def test_segmentation_folder_tells_face_from_edge_labels(tmp_path, per_edge):
    _, labels = write_segmentation(tmp_path, per_edge)
    data = MeshSegmentationFolder(tmp_path, "train")
    assert data.num_classes == 2
    agree = float((data[0].y.numpy() == labels).mean())
    assert agree == 1 if not per_edge else agree > 0.9
    (tmp_path / "seg" / "x.eseg").write_text("1\n2\n")
    with pytest.raises(ValueError, match=r"has 2 lines, but its mesh has 80 faces and 120 edges"):
        MeshSegmentationFolder(tmp_path, "train")
    (tmp_path / "seg" / "x.eseg").unlink()
    with pytest.raises(FileNotFoundError, match=r"no label file .*x.eseg"):
        MeshSegmentationFolder(tmp_path, "train")


@pytest.mark.parametrize("per_edge", [False, True])
def test_edge_graphs_come_with_labels_per_edge(tmp_path, per_edge):
    faces, labels = write_segmentation(tmp_path, per_edge)
    graph = MeshSegmentationFolder(tmp_path, "test", kind="edges")[0]
    assert graph.x.shape == (120, 5)
    assert graph.y.tolist() == face_to_edge_labels(faces, labels).tolist()
    with pytest.raises(ValueError, match="`kind`"):
        MeshSegmentationFolder(tmp_path, "test", kind="corners")


def test_labels_stay_with_their_faces_when_cleaning_drops_some(tmp_path):
    faces, labels = write_segmentation(tmp_path, per_edge=False)
    vertices = icosphere(1).vertices
    broken = np.concatenate([[[0, 0, 1]], faces])
    write_mesh(tmp_path / "train" / "x.ply", vertices, broken)
    np.savetxt(tmp_path / "seg" / "x.eseg", np.concatenate([[1], labels + 1]), fmt="%d")
    data = MeshSegmentationFolder(tmp_path, "train")
    assert data[0].y.tolist() == labels.tolist()
    assert data.cleaned[data.files[0]].degenerate_faces.tolist() == [0]


def test_majority_of_edges_decides_and_ties_wait_for_neighbors():
    faces = np.array([[0, 1, 2], [2, 1, 3], [3, 1, 4]])
    # edges in order: 01 12 20 | 13 32 | 14 43
    labels = np.array([2, 2, 0, 1, 5, 1, 1])
    # face 0: 2 2 0 -> 2; face 1: 2 1 5 -> tie between neighbours 2 and 1 -> 1; face 2: 1 1 1.
    assert edge_to_face_labels(faces, labels).tolist() == [2, 1, 1]
    alone = edge_to_face_labels(faces[:1], np.array([7, 3, 5]))
    assert alone.tolist() == [3]
    with pytest.raises(ValueError, match="one entry per edge, 7; got 3"):
        edge_to_face_labels(faces, labels[:3])


def test_soft_labels_are_checked(tmp_path):
    path = tmp_path / "x.seseg"
    np.savetxt(path, np.eye(3))
    assert torch.from_numpy(read_soft_labels(path, 3, 3)).trace() == 3
    with pytest.raises(ValueError, match="expected 4 lines of 3 numbers"):
        read_soft_labels(path, 4, 3)
