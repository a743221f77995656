"""Meshes as people have them: faces without height, doubled vertices; and what tells top from bottom."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import graphpool
from graphpool.__main__ import main
from graphpool.files import MeshFiles
from graphpool.mesh import icosphere, write_mesh


def spoilt(vertices, faces):
    """The same surface: six more faces that are none, and corners of its own for the first face."""
    count = len(vertices)
    a, b, c = faces[0]
    middle = (vertices[a] + vertices[b]) / 2
    vertices = np.concatenate([vertices, vertices[faces[0]], [middle], vertices[:1] + 1e-12])
    own = np.concatenate([[[count, count + 1, count + 2]], faces[1:]])
    more = [[a, a, b], [b, b, b], [a, count, c], [a, b, count + 3], [b, c, a], [0, count + 4, c]]
    return vertices, np.concatenate([own, more])


def lay(root, change=lambda *mesh: mesh, count=4):
    rng = np.random.default_rng(0)
    for i in range(count):
        vertices, faces = icosphere(1)
        vertices = vertices * [1, 1, 2] + 0.02 * rng.normal(size=vertices.shape)
        vertices, faces = change(vertices, faces)
        folder = root / ("even", "odd")[i % 2]
        write_mesh(folder / f"{i}.off", vertices, faces)
        top = vertices[faces].mean(1)[:, 2] > 0
        np.savetxt(folder / f"{i}.eseg", top, fmt="%d")
    return root


@pytest.mark.parametrize(
    "options",
    [{"labels": "files"}, {}, {"edges": True}, {"labels": "files", "features": ("normal",)}],
)
def test_faces_that_are_none_change_nothing(options, tmp_path):
    plain, dirty = lay(tmp_path / "plain"), lay(tmp_path / "dirty", spoilt)
    reader = MeshFiles(**options)
    for file in sorted(plain.rglob("*.off")):
        (one,), (other,) = reader.read(file), reader.read(dirty / file.relative_to(plain))
        held = {key: value for key, value in one.raw.to_dict().items() if torch.is_tensor(value)}
        assert {"x", "faces"} <= set(held)
        for key, value in held.items():
            assert torch.equal(other.raw[key], value), key
        if reader.labels:
            assert np.array_equal(one.found.values, other.found.values)
        assert len(other.back) == 86 and np.array_equal(other.back[:80], one.back)
        # The face that repeats another goes with it.
        assert other.back[84] == 0 and set(other.back[80:]) <= set(range(80))


def test_such_meshes_are_trained_on_and_labelled_whole(tmp_path, capsys):
    dirty, run = lay(tmp_path / "dirty", spoilt), tmp_path / "run"
    train = ["train", "meshes", str(dirty), "--labels", "files", "--epochs", "1", "--val", "0"]
    assert main([*train, "--out", str(run)]) == 0
    model = graphpool.load(run / "model.pt")
    (said,) = model.predict(dirty / "odd" / "1.off")
    assert said.probabilities.shape == (86, 2) and bool(said.probabilities.isfinite().all())
    nothing = tmp_path / "flat.obj"
    nothing.write_text("v 0 0 0\nv 1 1 1\nv 2 2 2\nf 1 2 3\nf 1 1 2\n")
    assert main(["predict", str(run / "model.pt"), str(nothing)]) == 2
    assert "flat.obj: No face is left of 2: 2 were degenerate" in capsys.readouterr().err


def test_many_faces_that_are_none_are_said(tmp_path, recwarn):
    vertices, faces = icosphere(1)
    for count, said in ((8, False), (9, True)):
        more = np.repeat(faces[:1, [0, 0, 1]], count, axis=0)
        write_mesh(tmp_path / f"{count}.ply", vertices, np.concatenate([faces, more]))
        recwarn.clear()
        MeshFiles().read(tmp_path / f"{count}.ply")
        text = "9.ply: the network does not see 9 of 89 faces: 9 degenerate faces."
        assert [text in str(w.message) for w in recwarn] == [True] * said


@pytest.mark.slow
@pytest.mark.parametrize("features, found", [("normal", True), (None, False)])
def test_top_and_bottom_can_be_learnt_from_normals_alone(features, found, tmp_path, capsys):
    data, run = lay(tmp_path / "data", count=6), tmp_path / "run"
    (data / "even").rename(data / "train")
    (data / "odd").rename(data / "test")
    options = [
        "--labels",
        "files",
        "--val",
        "0",
        "--epochs",
        "60",
        "--lr",
        "0.01",
        "--out",
        str(run),
    ]
    options += ["--features", features] if features else []
    assert main(["train", "meshes", str(data), *options]) == 0
    model = graphpool.load(run / "model.pt")
    right = [
        np.asarray(model.predict(file)[0].label) == np.loadtxt(file.with_suffix(".eseg"))
        for file in sorted((data / "test").glob("*.off"))
    ]
    low, high = (0.75, 1) if found else (0.35, 0.65)
    assert low <= np.mean(right) <= high
