import numpy as np
import pytest

from graphpool._optional import has
from graphpool.mesh import decimate, icosphere


def test_a_mesh_within_the_budget_is_kept():
    vertices, faces = icosphere(1)
    mesh = decimate(vertices, faces, 80, np.arange(80))
    assert np.array_equal(mesh.faces, faces) and mesh.labels.tolist() == list(range(80))
    with pytest.raises(ValueError, match="`num_faces`"):
        decimate(vertices, faces, 3)


@pytest.mark.skipif(not has("open3d"), reason="Open3D is not installed")
def test_labels_follow_the_surface():
    vertices, faces = icosphere(4)
    labels = (vertices[faces].mean(1)[:, 2] > 0).astype(int)
    mesh = decimate(vertices, faces, 500, labels)
    assert 400 <= len(mesh.faces) <= 500
    height = mesh.vertices[mesh.faces].mean(1)[:, 2]
    clear = np.abs(height) > 0.1
    assert np.array_equal(mesh.labels[clear], (height[clear] > 0).astype(int))


@pytest.mark.skipif(has("open3d"), reason="Open3D is installed")
def test_without_open3d_the_error_says_how_to_get_it():
    vertices, faces = icosphere(2)
    with pytest.raises(ImportError, match="mesh.decimate needs open3d"):
        decimate(vertices, faces, 100)
