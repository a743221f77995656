"""What people who label meshes of their own need: every label at the face it was given to."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch

from graphpool.datasets import (
    MeshClassificationFolder,
    MeshFolder,
    MeshSegmentationFolder,
    PointCloudFolder,
)
from graphpool.datasets.meshes.labels import edge_to_face_labels
from graphpool.mesh import MeshFile, clean, icosphere, read_mesh
from graphpool.train import accuracy, cross_entropy


def grid(n=4):
    """The surface of a cube in n x n quads per side: 6 n^2 polygons, twice as many edges, as strings."""
    points: dict[tuple, int] = {}
    quads = []
    for axis in range(3):
        for end in (0, n):
            for i in range(n):
                for j in range(n):
                    corners = []
                    for di, dj in ((0, 0), (1, 0), (1, 1), (0, 1)):
                        place = [i + di, j + dj]
                        place.insert(axis, end)
                        corners.append(points.setdefault(tuple(place), len(points)))
                    quads.append(corners if (end > 0) == (axis != 1) else corners[::-1])
    return np.array(list(points), float), quads


def write_obj(path, points, polygons, names=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f"v {x!r} {y!r} {z!r}\n" for x, y, z in np.asarray(points).tolist())
    for i, polygon in enumerate(polygons):
        text += f"g {names[i]}\nusemtl {names[i]}\n" if names is not None else ""
        text += "f " + " ".join(str(c + 1) for c in polygon) + "\n"
    path.write_text(text)


def write_lines(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{v}\n" for v in values))


def edges_in_order(polygons):
    """The edges as a loop over the file meets them."""
    found: dict[tuple, int] = {}
    for polygon in polygons:
        for a, b in zip(polygon, [*polygon[1:], polygon[0]], strict=True):
            found.setdefault((min(a, b), max(a, b)), len(found))
    return found


def folder(tmp_path, points, polygons, values, suffix=".eseg"):
    write_obj(tmp_path / "train/a.obj", points, polygons)
    write_lines(tmp_path / f"seg/a{suffix}", values)
    return tmp_path


# --- polygons --------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["face", "edge", "vertex"])
def test_labels_of_a_quad_mesh_reach_its_triangles(tmp_path, what):
    points, quads = grid()
    assert len(edges_in_order(quads)) == 2 * len(quads) == 192
    truth = [int(np.mean(points[q], axis=0)[2] > 2) for q in quads]
    values = truth
    if what == "edge":
        values = [int((points[a] + points[b])[2] / 2 > 2) for a, b in edges_in_order(quads)]
    elif what == "vertex":
        values = [int(z > 2) for z in points[:, 2]]
    root = folder(tmp_path, points, quads, values)
    if what == "edge":
        with pytest.warns(
            UserWarning, match=r"a\.eseg: 192 labels fit each edge and each triangle"
        ):
            data = MeshSegmentationFolder(root)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            data = MeshSegmentationFolder(root, per="edge")
    else:
        data = MeshSegmentationFolder(root)
    clear = [q for q, quad in enumerate(quads) if len({z > 2 for z in points[quad][:, 2]}) == 1]
    triangles = [truth[i // 2] for i in range(192)]
    assert len(data[0].y) == 192
    for q in clear:
        assert data[0].y[2 * q : 2 * q + 2].tolist() == triangles[2 * q : 2 * q + 2]
    if what == "face":
        assert data[0].y.tolist() == triangles


def test_labels_per_triangle_of_a_quad_mesh_can_be_said(tmp_path):
    points, quads = grid()
    values = np.random.default_rng(0).integers(0, 3, 192)
    data = MeshSegmentationFolder(folder(tmp_path, points, quads, values), per="triangle")
    assert data[0].y.tolist() == values.tolist()
    with pytest.raises(ValueError, match="has 192 lines, but its mesh has 96 faces and 192 edges"):
        MeshSegmentationFolder(tmp_path, per="face")
    with pytest.raises(ValueError, match="`per` must be one of"):
        MeshSegmentationFolder(tmp_path, per="corner")


@pytest.mark.parametrize("what", ["face", "edge"])
def test_edge_graphs_of_a_quad_mesh_have_the_labels_of_its_edges(tmp_path, what):
    points, quads = grid()
    rng = np.random.default_rng(1)
    number = edges_in_order(quads)
    values = rng.integers(0, 4, len(quads) if what == "face" else len(number))
    values[:4] = range(4)
    data = MeshSegmentationFolder(folder(tmp_path, points, quads, values), kind="edges", per=what)
    graph = data[0]
    at = {tuple(p): i for i, p in enumerate(points.tolist())}
    first = {}
    for q, quad in enumerate(quads):
        for a, b in zip(quad, [*quad[1:], quad[0]], strict=True):
            first.setdefault((min(a, b), max(a, b)), q)
    checked = 0
    for (a, b), label in zip(graph.ends.tolist(), graph.y.tolist(), strict=True):
        key = tuple(
            sorted((at[tuple(graph.vertices[a].tolist())], at[tuple(graph.vertices[b].tolist())]))
        )
        if key in number:
            expected = values[number[key]] if what == "edge" else values[first[key]]
            assert label == expected
            checked += 1
    assert checked == 192


def test_labels_of_edges_stay_with_them_when_faces_are_turned_over(tmp_path):
    vertices, faces = icosphere(2)
    rng = np.random.default_rng(2)
    turned = faces.copy()
    flip = rng.random(len(faces)) < 0.4
    turned[flip] = turned[flip][:, [0, 2, 1]]
    number = edges_in_order(turned.tolist())
    values = rng.integers(0, 5, len(number))
    values[:5] = range(5)
    graph = MeshSegmentationFolder(
        folder(tmp_path, vertices, turned.tolist(), values), kind="edges"
    )[0]
    at = {tuple(np.float32(p)): i for i, p in enumerate(vertices)}
    for (a, b), label in zip(graph.ends.tolist(), graph.y.tolist(), strict=True):
        i, j = at[tuple(graph.vertices[a].numpy())], at[tuple(graph.vertices[b].numpy())]
        assert label == values[number[min(i, j), max(i, j)]]


# --- MeshCNN ---------------------------------------------------------------------------------------


def test_labels_that_meshcnn_numbered_after_dropping_faces(tmp_path):
    vertices, faces = icosphere(1)
    # A face without area in front, and a third face at an edge in the middle.
    points = np.concatenate([vertices, [[2.0, 0, 0]]])
    a, b = faces[10][:2]
    polygons = [
        [0, 1, 1],
        *faces[:20].tolist(),
        [int(a), int(b), len(vertices)],
        *faces[20:].tolist(),
    ]
    kept, seen = [], set()
    for face, (i, j, k) in enumerate(polygons):  # the loop of the released code
        u, v = points[j] - points[i], points[k] - points[i]
        if np.linalg.norm(np.cross(u, v)) == 0 or {(i, j), (j, k), (k, i)} & seen:
            continue
        seen |= {(i, j), (j, k), (k, i)}
        kept.append(face)
    assert len(kept) == 80
    number = edges_in_order([polygons[f] for f in kept])
    values = [int((points[i] + points[j])[2] > 0) for i, j in number]
    data = MeshSegmentationFolder(folder(tmp_path, points, polygons, values))
    graph, wrong = data[0], 0
    for face, label in zip(data.kept_faces[0].tolist(), graph.y.tolist(), strict=True):
        votes = [
            values[number[min(i, j), max(i, j)]]
            for i, j in zip(polygons[face], np.roll(polygons[face], -1).tolist(), strict=True)
        ]
        wrong += label != int(sum(votes) >= 2)
    assert graph.num_nodes == 80 and wrong == 0
    write_lines(tmp_path / "seg/a.eseg", values[:-1])
    with pytest.raises(
        ValueError, match=r"a\.eseg has 119 lines, but its mesh has 82 faces and 12. edges"
    ):
        MeshSegmentationFolder(tmp_path)


# --- unlabelled ------------------------------------------------------------------------------------


@pytest.mark.parametrize("void", [-1, 255, -100])
@pytest.mark.parametrize("kind", ["faces", "edges"])
def test_unlabelled_never_becomes_a_class(tmp_path, void, kind):
    vertices, faces = icosphere(1)
    values = np.arange(80) % 3 - 1
    root = folder(tmp_path, vertices, faces.tolist(), np.where(values < 0, void, values))
    data = MeshSegmentationFolder(root, kind=kind)
    assert data.num_classes == 2 and data.classes == [0, 1]
    assert set(data[0].y.tolist()) <= {-1, 0, 1}
    if kind == "faces":
        assert data[0].y.tolist() == values.tolist()
        logits = torch.randn(80, 2)
        used = torch.from_numpy(values) >= 0
        picked = logits.log_softmax(1)[torch.arange(80), data[0].y.clamp(min=0)]
        torch.testing.assert_close(cross_entropy(logits, data[0].y), -picked[used].mean())
        right = (logits.argmax(1) == data[0].y)[used].double().mean()
        assert accuracy(logits, data[0].y) == pytest.approx(float(right))
    other = MeshSegmentationFolder(root, kind=kind, ignore_index=-100)
    assert torch.equal(other[0].y == -100, data[0].y == -1)
    with pytest.raises(ValueError, match="`ignore_index` must be negative"):
        MeshSegmentationFolder(root, ignore_index=255)


def test_unlabelled_edges_do_not_vote(tmp_path):
    faces = np.array([[0, 1, 2], [2, 1, 3], [3, 1, 4], [5, 6, 7]])
    # edges: 01 12 20 | 13 32 | 14 43 | 56 67 75
    labels = np.array([-1, 4, -1, 7, -1, 7, -1, -1, -1, -1])
    # One vote decides; a tie of 4 and 7 waits for the neighbours, who say both; no vote, no label.
    assert edge_to_face_labels(faces, labels).tolist() == [4, 4, 7, -1]


def test_256_classes_are_possible_where_it_is_said(tmp_path):
    points, quads = grid(8)
    values = np.arange(384) % 256
    root = folder(tmp_path, points, quads, values)
    assert MeshSegmentationFolder(root).num_classes == 255
    for said in ({"unlabelled": ()}, {"classes": range(256)}):
        data = MeshSegmentationFolder(root, **said)
        assert data.num_classes == 256 and data[0].y[::2].tolist() == values.tolist()


def test_a_stray_label_file_changes_nothing(tmp_path):
    vertices, faces = icosphere(1)
    root = folder(tmp_path, vertices, faces.tolist(), np.arange(80) % 2 + 1)
    before = MeshSegmentationFolder(root)
    write_lines(root / "seg/old.eseg", [17] * 80)
    with pytest.warns(UserWarning, match=r"1 label files .* belong to no mesh.*old\.eseg"):
        after = MeshSegmentationFolder(root)
    assert after.num_classes == before.num_classes == 2
    assert torch.equal(after[0].y, before[0].y)


def test_meshes_of_one_name_do_not_share_their_labels(tmp_path):
    vertices, faces = icosphere(1)
    root = folder(tmp_path, vertices, faces.tolist(), np.arange(80) % 2 + 1)
    write_obj(root / "test/a.obj", vertices, faces.tolist())
    with pytest.raises(ValueError, match=r"a\.obj and .*a\.obj have one file of labels, .*a\.eseg"):
        MeshSegmentationFolder(root)
    (root / "seg/a.eseg").unlink()
    for split, values in (("train", [1, 2]), ("test", [3, 4])):
        write_lines(root / split / "a.eseg", values * 40)
    assert MeshSegmentationFolder(root, "test")[0].y.tolist() == [2, 3] * 40


def test_a_class_that_a_split_lacks_shifts_nothing(tmp_path):
    vertices, faces = icosphere(1)
    root = folder(tmp_path, vertices, faces.tolist(), np.arange(80) % 3 + 1)
    write_obj(root / "test/b.obj", vertices, faces.tolist())
    write_lines(root / "seg/b.eseg", np.arange(80) % 2 + 2)
    data = MeshSegmentationFolder(root, "test")
    assert data.num_classes == 3 and data[0].y.tolist() == (np.arange(80) % 2 + 1).tolist()
    alone = MeshSegmentationFolder(root, "test", classes=[7, 3, 2])
    assert alone.num_classes == 3 and alone[0].y.tolist() == [2, 1] * 40
    with pytest.raises(ValueError, match=r"b\.eseg: label 2 is none of the 2 classes \[1, 3\]"):
        MeshSegmentationFolder(root, "test", classes=[1, 3])


# --- labels in the file of the mesh ----------------------------------------------------------------


def write_ply(path, vertices, faces, per_face=None, per_vertex=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = f"ply\nformat ascii 1.0\nelement vertex {len(vertices)}\n"
    text += "property double x\nproperty double y\nproperty double z\n"
    text += "".join(f"property {kind}\n" for kind, _ in per_vertex or [])
    text += f"element face {len(faces)}\nproperty list uchar int vertex_indices\n"
    text += "".join(f"property {kind}\n" for kind, _ in per_face or []) + "end_header\n"
    for rows, further, head in ((vertices, per_vertex, ""), (faces, per_face, "3 ")):
        for i, row in enumerate(np.asarray(rows).tolist()):
            more = [str(values[i]) for _, values in further or []]
            text += head + " ".join([*map(repr, row), *more]) + "\n"
    path.write_text(text)


@pytest.mark.parametrize("name", ["label", "object_id"])
def test_labels_in_the_properties_of_a_ply(tmp_path, name):
    vertices, faces = icosphere(1)
    values = np.arange(80) % 4 - 1
    write_ply(tmp_path / "train/a.ply", vertices, faces, [(f"int {name}", values)])
    write_ply(tmp_path / "test/b.ply", vertices, faces, [(f"int {name}", [5] * 80)])
    data = MeshSegmentationFolder(tmp_path, labels=name)
    assert data.num_classes == 6 and data[0].y.tolist() == values.tolist()
    with pytest.raises(ValueError, match=rf"b\.ply has no value 'part'.*face value '{name}'"):
        MeshSegmentationFolder(tmp_path, labels="part")
    with pytest.raises(FileNotFoundError, match=r"no label file .*a\.eseg"):
        MeshSegmentationFolder(tmp_path)


def test_labels_of_vertices_in_a_ply(tmp_path):
    vertices, faces = icosphere(2)
    values = (vertices[:, 2] > 0.1).astype(int) + 3
    write_ply(tmp_path / "train/a.ply", vertices, faces, None, [("uchar label", values)])
    data = MeshSegmentationFolder(tmp_path, labels="label")
    expected = [int(sum(values[face] == 4) >= 2) for face in faces]
    assert data.num_classes == 2 and data[0].y.tolist() == expected


def test_colours_of_faces_as_labels(tmp_path):
    vertices, faces = icosphere(1)
    values = np.arange(80) % 3
    paint = np.array([[0, 0, 255], [255, 0, 0], [255, 0, 1]])[values]
    channels = [(f"uchar {n}", paint[:, i]) for i, n in enumerate(("red", "green", "blue"))]
    write_ply(tmp_path / "train/a.ply", vertices, faces, channels)
    data = MeshSegmentationFolder(tmp_path, labels="color")
    assert data.classes == ["#0000ff", "#ff0000", "#ff0001"]
    assert data[0].y.tolist() == values.tolist()


@pytest.mark.parametrize("name", ["group", "material"])
def test_groups_and_materials_of_an_obj_as_labels(tmp_path, name):
    points, quads = grid(2)
    words = [("roof", "wall", "floor")[i % 3] if i else "" for i in range(24)]
    write_obj(tmp_path / "train/a.obj", points, quads, words)
    write_obj(tmp_path / "test/b.obj", points, quads, ["door"] * 24)
    data = MeshSegmentationFolder(tmp_path, labels=name)
    assert data.classes == ["door", "floor", "roof", "wall"]
    expected = [-1 if w == "" else data.classes.index(w) for w in words for _ in range(2)]
    assert data[0].y.tolist() == expected


def test_the_json_files_of_subdivnet(tmp_path):
    vertices, faces = icosphere(1)
    write_obj(tmp_path / "train/body/a-0.obj", vertices, faces.tolist())
    sub, raw = np.arange(80) % 3 + 1, [1, 2, 3]
    text = {"raw_labels": raw, "sub_labels": sub.tolist(), "raw_to_sub": [0, 1, 2]}
    (tmp_path / "train/body/a-0.json").write_text(json.dumps(text))
    data = MeshSegmentationFolder(tmp_path)
    assert data.num_classes == 3 and data[0].y.tolist() == (sub - 1).tolist()
    text["raw_labels"], text["sub_labels"] = text["sub_labels"], raw
    (tmp_path / "train/body/a-0.json").write_text(json.dumps(text))
    assert MeshSegmentationFolder(tmp_path)[0].y.tolist() == (sub - 1).tolist()
    for bad in (
        "[1, 2",
        '{"labels": []}',
        '{"sub_labels": [[1], 2]}',
        '{"sub_labels": [1.5]}',
        "[1]",
    ):
        (tmp_path / "train/body/a-0.json").write_text(bad)
        with pytest.raises(ValueError, match=r"a-0\.json"):
            MeshSegmentationFolder(tmp_path)


def test_meshes_without_labels_and_the_way_back_to_their_files(tmp_path):
    vertices, faces = icosphere(1)
    write_obj(tmp_path / "new/deep/a.obj", vertices, [[0, 1, 1], *faces.tolist()])
    write_obj(tmp_path / "new/b.obj", *grid(2))
    (tmp_path / "new/._b.obj").write_bytes(b"\0\1")
    data = MeshFolder(tmp_path / "new")
    assert [f.name for f in data.files] == ["b.obj", "a.obj"] and "y" not in data[1]
    assert data.kept_faces[1].tolist() == list(range(1, 81))
    back = data.to_file(1, torch.arange(80))
    assert back[1:].tolist() == list(range(80)) and {0, 1} & set(faces[back[0]].tolist())
    with pytest.raises(ValueError, match="one entry per face of graph 1, 80; got"):
        data.to_file(1, torch.arange(81))
    assert len(MeshFolder([tmp_path / "new/b.obj"], kind="edges")) == 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"No mesh \(\.obj.*lies in .*empty"):
        MeshFolder(tmp_path / "empty")


# --- messages --------------------------------------------------------------------------------------

FAN = "".join(
    f"v {x} {y} {z}\n" for x, y, z in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, -1, 0)]
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n", "No face is left"),
        ("v 0 0 0\nv 1 0 0\nv 2 0 0\n", "no face"),
        ("v 0 0 0\nf 1 2 3\n", "1 vertices"),
        ("", "no vertex"),
    ],
)
@pytest.mark.parametrize("kind", ["faces", "edges"])
def test_one_bad_mesh_among_many_is_named(tmp_path, text, message, kind):
    vertices, faces = icosphere(1)
    for name in ("a", "b", "c"):
        write_obj(tmp_path / f"classes/class/train/{name}.obj", vertices, faces.tolist())
        write_obj(tmp_path / f"labels/train/{name}.obj", vertices, faces.tolist())
        write_lines(tmp_path / f"labels/seg/{name}.eseg", [0] * 80)
    (tmp_path / "classes/class/train/b.obj").write_text(text)
    (tmp_path / "labels/train/b.obj").write_text(text)
    write_lines(tmp_path / "labels/seg/b.eseg", [0])
    for make in (
        lambda: MeshClassificationFolder(tmp_path / "classes", kind=kind),
        lambda: MeshSegmentationFolder(tmp_path / "labels", kind=kind),
        lambda: MeshFolder(tmp_path / "labels/train", kind=kind),
    ):
        with pytest.raises(ValueError, match=rf"b\.obj.*{message}"):
            make()


def test_one_bad_mesh_in_a_folder_of_clouds_is_named(tmp_path):
    write_obj(tmp_path / "a/good.obj", *icosphere(1))
    write_obj(tmp_path / "a/flat.obj", [[0.0, 0, 0], [1, 0, 0], [2, 0, 0]], [[0, 1, 2]])
    with pytest.raises(ValueError, match=r"flat\.obj.*area"):
        PointCloudFolder(tmp_path, 16)


def test_a_fan_in_a_labelled_mesh_is_cleaned_and_not_refused(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train/a.obj").write_text(FAN + "f 1 2 3\nf 1 2 4\nf 2 1 5\n")
    write_lines(tmp_path / "seg/a.eseg", [3, 4, 4, 3, 3, 4, 4])
    data = MeshSegmentationFolder(tmp_path)
    assert len(data[0].y) == len(clean(*read_mesh(tmp_path / "train/a.obj")).faces)


def test_edges_of_polygons_are_numbered_as_a_loop_would():
    rng = np.random.default_rng(3)
    polygons = [rng.permutation(12)[: rng.integers(3, 8)].tolist() for _ in range(30)]
    mesh = MeshFile(
        np.zeros((12, 3)), np.concatenate(polygons), np.array([len(p) for p in polygons])
    )
    assert list(map(tuple, mesh.edges.tolist())) == list(edges_in_order(polygons))
