"""Scenes and meshes beyond memory: every element labelled once, by what is nearest, within a bound."""

from __future__ import annotations

import csv
import subprocess
import sys

import numpy as np
import pytest
import torch

import graphpool
from graphpool.datasets import write_cloud
from graphpool.files import MeshFiles, PointFiles, Predictor, judge
from graphpool.mesh import icosphere, write_mesh
from graphpool.models import MeshSegmenter, PointNet2Segmenter


def to_triangle(point, corners):
    """Distance to a triangle: the nearest of the foot on its plane, on its three lines, and its corners."""
    found = [np.linalg.norm(point - corner) for corner in corners]
    for i in range(3):
        a, b = corners[i], corners[(i + 1) % 3]
        share = (point - a) @ (b - a) / ((b - a) @ (b - a))
        if 0 < share < 1:
            found.append(np.linalg.norm(point - a - share * (b - a)))
    sides = np.stack([corners[1] - corners[0], corners[2] - corners[0]], 1)
    u, v = np.linalg.lstsq(sides, point - corners[0], rcond=None)[0]
    if u > 0 and v > 0 and u + v < 1:
        found.append(np.linalg.norm(point - corners[0] - sides @ [u, v]))
    return min(found)


def mesh_model(num_faces):
    torch.manual_seed(0)
    files = MeshFiles(labels="files", num_faces=num_faces, features=("position",))
    model = MeshSegmenter(
        3, (4, 8), (8, 16), keep=(0.6,), head="linear", own_feature=True, norm="batch"
    )
    return model, files


@pytest.mark.needs("open3d")
def test_faces_of_a_decimated_mesh_get_what_the_nearest_one_got(tmp_path):
    vertices, faces = icosphere(2)
    vertices = vertices * (1 + 0.1 * np.random.default_rng(0).normal(size=(len(vertices), 1)))
    write_mesh(tmp_path / "fine.ply", vertices, np.concatenate([faces, faces[:1]]))
    model, files = mesh_model(100)
    graphpool.save(model, tmp_path / "m.pt", classes=["a", "b", "c"], preprocess=files)
    predictor = graphpool.load(tmp_path / "m.pt")
    (item,) = files.read(tmp_path / "fine.ply")
    assert 50 <= len(item.raw.faces) <= 100
    of_few = predictor.scores(item)
    assert len(of_few.unique(dim=0)) > 20
    coarse = item.raw.vertices[item.raw.faces].double().numpy()
    centres = vertices[faces].mean(1)
    apart = np.array([[to_triangle(p, c) for c in coarse] for p in centres])
    # Where two are as near within rounding, either may be meant.
    (said,) = predictor.predict(tmp_path / "fine.ply")
    assert said.probabilities.shape == (321, 3)
    for face, row in enumerate(said.probabilities[:320]):
        near = np.flatnonzero(apart[face] < apart[face].min() + 1e-6)
        assert any(torch.equal(row, of_few[j]) for j in near), face
    assert torch.equal(said.probabilities[320], said.probabilities[0])
    (whole,) = mesh_model(1000)[1].read(tmp_path / "fine.ply")
    assert len(whole.raw.faces) == 320


@pytest.mark.needs("open3d")
def test_labels_of_a_decimated_mesh_are_those_of_the_nearest_faces(tmp_path):
    vertices, faces = icosphere(3)
    write_mesh(tmp_path / "fine.obj", vertices, faces)
    top = vertices[faces].mean(1)[:, 2] > 0
    np.savetxt(tmp_path / "fine.eseg", top, fmt="%d")
    (item,) = MeshFiles(labels="files", num_faces=300).read(tmp_path / "fine.obj")
    height = item.raw.vertices[item.raw.faces].mean(1)[:, 2].numpy()
    clear = np.abs(height) > 0.1
    assert clear.sum() > 200 and len(item.found.values) == len(height) <= 300
    assert np.array_equal(item.found.values[clear] == 1, height[clear] > 0)
    # Reports count the faces of the file.
    assert np.array_equal(item.whole.values == 1, top) and len(item.back) == len(faces)
    model, files = mesh_model(300)
    (item,) = files.read(tmp_path / "fine.obj")
    predictor = Predictor(model, files, ["0", "1", "2"], {})
    report = judge(predictor, [item])
    assert int(report.counts.sum()) == len(faces)
    said = predictor.of_item(item).label
    assert int(report.counts.trace()) == int((said == torch.from_numpy(top).long()).sum())


#: Runs the command, then says how much memory the process had at most, in kB. ``ru_maxrss`` would count
#: what the process that started it held, too.
CHILD = """
import sys
from graphpool.__main__ import main
assert main(sys.argv[1:]) == 0
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def labelled_within(limit, model, file, out, count):
    graphpool.save(model[0], out / "m.pt", classes=["a", "b", "c"], preprocess=model[1])
    command = [sys.executable, "-c", CHILD, "predict", out / "m.pt", file, "--out", out / "p.csv"]
    done = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
    with (out / "p.csv").open() as table:
        rows = csv.reader(table)
        assert next(rows)[1:4] in (
            ["point", "class", "probability"],
            ["face", "class", "probability"],
        )
        assert [int(row[1]) for row in rows] == list(range(count))
    peak = int(done.stdout.split()[-1]) / 1e6
    print(f"{file.name}: {peak:.2f} GB")
    assert peak < limit, peak


@pytest.mark.slow
@linux
def test_a_cloud_of_a_million_points_is_labelled_in_bounded_memory(tmp_path):
    points = np.random.default_rng(0).random((1_000_000, 3)) * [100, 100, 5]
    write_cloud(tmp_path / "scene.ply", points, {})
    files = PointFiles(labels="label", block=20.0, num_points=16_384)
    torch.manual_seed(0)
    model = PointNet2Segmenter(3, 0, ratios=(0.05, 0.25), width=8, k=4, radii=(None, None)), files
    labelled_within(1.5, model, tmp_path / "scene.ply", tmp_path, len(points))


@pytest.mark.slow
@linux
@pytest.mark.needs("open3d")
def test_a_mesh_of_300_000_faces_is_labelled_in_bounded_memory(tmp_path):
    vertices, faces = icosphere(7)
    write_mesh(tmp_path / "large.ply", vertices * [1, 2, 3], faces)
    labelled_within(2.0, mesh_model(20_000), tmp_path / "large.ply", tmp_path, len(faces))
