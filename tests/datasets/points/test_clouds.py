from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from graphpool.datasets import (
    GeneratedParts,
    GeneratedShapes,
    PackedPointClouds,
    PointCloudFolder,
    PointClouds,
    load_cloud,
    model_net,
)
from graphpool.datasets.points.parts import PARTS
from graphpool.datasets.points.shapes import SHAPES
from graphpool.datasets.surfaces import box, sample_surface

POINTS = np.array([[0.0, 1.0, 2.0], [3.5, -4.0, 5.25], [6.0, 7.0, -8.5]])


def test_generated_shapes_are_reproducible_and_splits_differ():
    one, two = (GeneratedShapes(2, 64, seed=3) for _ in range(2))
    assert len(one.classes) == len(SHAPES) >= 12
    assert len(one) == 2 * len(SHAPES)
    assert torch.equal(one._data.pos, two._data.pos)
    assert not torch.equal(one._data.pos, GeneratedShapes(2, 64, seed=4)._data.pos)
    assert not torch.equal(one._data.pos, GeneratedShapes(2, 64, "test", seed=3)._data.pos)
    for data in one:
        assert data.pos.shape == (64, 3)
        assert data.pos.dtype == torch.float32
        assert torch.allclose(data.pos.mean(0), torch.zeros(3), atol=1e-5)
        assert torch.isclose(data.pos.norm(dim=1).max(), torch.tensor(1.0), atol=1e-5)


@pytest.mark.parametrize("name", list(SHAPES))
def test_every_surface_is_sound(name):
    vertices, faces = SHAPES[name](np.random.default_rng(0))
    assert np.isfinite(vertices).all()
    assert faces.min() >= 0
    assert faces.max() < len(vertices)
    points, _ = sample_surface(vertices, faces, 200, np.random.default_rng(1))
    assert np.abs(points).max() < 3
    assert points.std(0).min() > 0.02


def test_a_part_of_the_surface_is_missing():
    whole = GeneratedShapes(1, 400, classes=["ellipsoid"], noise=0.0, partial=0.0)[0].pos
    cut = torch.stack([d.pos for d in GeneratedShapes(20, 400, classes=["ellipsoid"], partial=0.9)])
    # What is left of a centred shape lies on one side, so its extent is smaller along that side.
    assert cut.std(1).min() < 0.6 * whole.std(0).min()


def test_points_are_uniform_by_area():
    corners = np.array([[0.0, 0, 0], [3, 0, 0], [0, 1, 0], [0, 0, 5], [1, 0, 5], [0, 2, 5]])
    faces = np.array([[0, 1, 2], [3, 4, 5], [0, 0, 1]])
    points, face = sample_surface(corners, faces, 20_000, np.random.default_rng(0))
    share = np.bincount(face, minlength=3) / 20_000
    # Areas 1.5, 1 and 0; the standard deviation of a share is 0.0035.
    assert np.allclose(share, [0.6, 0.4, 0.0], atol=0.015)
    first = points[face == 0]
    assert np.allclose(first.mean(0), [1, 1 / 3, 0], atol=0.03)
    with pytest.raises(ValueError, match="no finite positive area"):
        sample_surface(corners, faces[2:], 5, np.random.default_rng(0))


def test_generated_parts_label_every_point():
    objects = GeneratedParts(3, 256)
    assert len(objects.parts) == sum(len(parts) for parts in PARTS.values())
    for data in objects:
        name = objects.classes[int(data.category)]
        found = {objects.parts[i] for i in data.y.unique().tolist()}
        assert found == {f"{name}/{part}" for part in PARTS[name]}
        assert data.y.bincount()[data.y.unique()].min() >= 0.03 * 256
    batch = next(iter(DataLoader(objects, 4)))
    assert batch.y.shape == (4 * 256,)
    assert batch.category.shape == (4,)


def test_parts_lie_where_they_belong():
    objects = GeneratedParts(5, 512, noise=0.0, tilt=0.0)
    for data in objects[:5]:
        legs = data.y == objects.parts.index("table/leg")
        top = data.y == objects.parts.index("table/top")
        assert data.pos[legs, 2].mean() < data.pos[top, 2].min()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GeneratedShapes(0), "per_class"),
        (lambda: GeneratedShapes(1, split="dev"), "split"),
        (lambda: GeneratedShapes(1, classes=["cube"]), "classes"),
        (lambda: GeneratedShapes(1, partial=1.0), "partial"),
        (lambda: GeneratedParts(1, 8), "num_points"),
        (lambda: GeneratedParts(1, least=0.5), "least"),
        (lambda: PointClouds([], torch.empty(0), []), "same length"),
    ],
)
def test_wrong_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_meshes_are_sampled_and_clouds_thinned(tmp_path):
    vertices, faces = box(np.array([2.0, 2.0, 2.0]), np.zeros(3))
    rows = [f"{len(vertices)} {len(faces)} 0", *(" ".join(map(str, v)) for v in vertices)]
    rows += [f"3 {a} {b} {c}" for a, b, c in faces]
    mesh = tmp_path / "box.off"
    mesh.write_text("OFF\n" + "\n".join(rows) + "\n")
    points = load_cloud(mesh, 500, np.random.default_rng(0))
    assert points.shape == (500, 3)
    assert np.allclose(np.abs(points).max(1), 1)
    cloud = tmp_path / "cloud.npy"
    np.save(cloud, np.random.default_rng(0).normal(size=(50, 3)))
    assert load_cloud(cloud, None, np.random.default_rng(0)).shape == (50, 3)
    thin = load_cloud(cloud, 20, np.random.default_rng(0))
    assert len(np.unique(thin, axis=0)) == 20
    with pytest.raises(ValueError, match="50 points, fewer"):
        load_cloud(cloud, 51, np.random.default_rng(0))


def test_folders_become_classes(tmp_path):
    for name, count in (("b", 2), ("a", 1)):
        (tmp_path / name).mkdir()
        for i in range(count):
            np.save(tmp_path / name / f"{i}.npy", np.random.default_rng(i).normal(size=(40, 3)))
    (tmp_path / "a" / "notes.md").write_text("not a cloud")
    folder = PointCloudFolder(tmp_path, num_points=30)
    assert folder.classes == ["a", "b"]
    assert [int(d.y) for d in folder] == [0, 1, 1]
    before = folder[2].pos
    np.save(tmp_path / "a" / "9.npy", np.zeros((30, 3)))
    assert torch.equal(PointCloudFolder(tmp_path, num_points=30)[3].pos, before)
    (tmp_path / "c").mkdir()
    with pytest.raises(ValueError, match="no file with a suffix"):
        PointCloudFolder(tmp_path, num_points=None)
    with pytest.raises(FileNotFoundError, match="no folder"):
        PointCloudFolder(tmp_path / "nowhere")


def test_packed_clouds(tmp_path):
    points = np.random.default_rng(0).integers(-32767, 32767, (4, 10, 3)).astype(np.int16)
    np.savez(tmp_path / "p.npz", points_train=points, labels_train=np.array([0, 1, 1, 0]),
             classes=np.array(["x", "y"]))  # fmt: skip
    packed = PackedPointClouds(tmp_path / "p.npz", num_points=6)
    assert packed.classes == ["x", "y"]
    assert torch.allclose(packed[2].pos, torch.from_numpy(points[2, :6] / 32767).float())
    assert packed._data.y.tolist() == [0, 1, 1, 0]
    with pytest.raises(ValueError, match="lacks points_test"):
        PackedPointClouds(tmp_path / "p.npz", "test")
    with pytest.raises(ValueError, match="num_points"):
        PackedPointClouds(tmp_path / "p.npz", num_points=11)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("points_train", np.zeros((2, 5, 2), np.float32), r"points must be \[n, N, 3\]"),
        ("labels_train", np.zeros(3, np.int64), r"labels \[n\]"),
        ("points_train", np.zeros((2, 5, 3), np.int32), "floating or int16"),
        (
            "points_train",
            np.full((2, 5, 3), np.nan),
            "point 0 of cloud 0 is not finite. .*put another point",
        ),
        ("labels_train", np.zeros(2), "labels must be integers"),
        ("classes", np.zeros((1, 2)), "classes names"),
        ("labels_train", np.array([0, 1]), r"labels must lie in \[0, 1\); got 0 to 1"),
    ],
)
def test_packed_clouds_that_make_no_sense(tmp_path, name, value, message):
    arrays = {
        "points_train": np.zeros((2, 5, 3), np.float32),
        "labels_train": np.zeros(2, np.int64),
        "classes": np.array(["x"]),
    }
    file = tmp_path / "p.npz"
    np.savez(file, **arrays)
    assert len(PackedPointClouds(file)) == 2
    np.savez(file, **{**arrays, name: value})
    with pytest.raises(ValueError, match=message):
        PackedPointClouds(file)


def test_modelnet10_in_one_file(shared_data):
    file = shared_data / "modelnet10" / "modelnet10_1024_int16.npz"
    test = PackedPointClouds(file, "test")
    assert len(test) == 908
    assert len(test.classes) == 10
    assert test[0].pos.norm(dim=1).max() <= 1.001


def test_modelnet_comes_through_pyg(tmp_path):
    names = ["bathtub", "bed", "chair", "desk", "dresser", "monitor", "night_stand", "sofa"]
    names += ["table", "toilet"]
    for name in names:
        for split in ("train", "test"):
            folder = tmp_path / "ModelNet10" / "raw" / name / split
            folder.mkdir(parents=True)
            (folder / f"{name}_0001.off").write_text(
                "OFF\n4 2 0\n0 0 0\n2 0 0\n0 2 0\n2 2 0\n3 0 1 2\n3 1 3 2\n"
            )
    dataset = model_net(tmp_path, "10", "test", num_points=32)
    assert dataset.classes == names
    assert isinstance(dataset[1], Data)
    assert dataset[1].pos.shape == (32, 3)
    assert int(dataset[1].y) == 1
    with pytest.raises(ValueError, match="'10' or '40'"):
        model_net(tmp_path, "20")
