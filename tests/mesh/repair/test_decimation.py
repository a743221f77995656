import numpy as np
import pytest

from graphpool import _optional
from graphpool.mesh import decimate, icosphere


def test_a_mesh_within_the_budget_is_kept():
    vertices, faces = icosphere(1)
    mesh = decimate(vertices, faces, 80, np.arange(80))
    assert np.array_equal(mesh.faces, faces) and mesh.labels.tolist() == list(range(80))
    with pytest.raises(ValueError, match="`num_faces`"):
        decimate(vertices, faces, 3)


@pytest.mark.needs("open3d")
def test_labels_follow_the_surface():
    vertices, faces = icosphere(4)
    labels = (vertices[faces].mean(1)[:, 2] > 0).astype(int)
    mesh = decimate(vertices, faces, 500, labels)
    assert 400 <= len(mesh.faces) <= 500
    height = mesh.vertices[mesh.faces].mean(1)[:, 2]
    clear = np.abs(height) > 0.1
    assert np.array_equal(mesh.labels[clear], (height[clear] > 0).astype(int))


@pytest.mark.parametrize(
    ("error", "way_out"),
    [
        (ModuleNotFoundError("No module named 'open3d'", name="open3d"), r"graphpool\[open3d\]"),
        (ImportError("libusb-1.0.so.0: cannot open shared object file"), "apt-get install libusb"),
    ],
    ids=["absent", "without its system libraries"],
)
def test_without_open3d_the_error_says_how_to_get_it(monkeypatch, error, way_out):
    monkeypatch.setattr(_optional, "_loaded", {"open3d": error})
    vertices, faces = icosphere(2)
    with pytest.raises(ImportError, match=way_out):
        decimate(vertices, faces, 100)
