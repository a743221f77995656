import numpy as np
import pytest
import torch

from graphpool import plot
from graphpool.mesh import icosphere, read_mesh

pytestmark = pytest.mark.needs("matplotlib")


def pixels(path):
    from matplotlib.image import imread

    return imread(path)[..., :3]


def test_a_sheet_shows_the_colors_it_was_given(tmp_path):
    vertices, faces = icosphere(2)
    red = np.tile([1.0, 0, 0], (len(faces), 1))
    labels = (vertices[faces].mean(1)[:, 2] > 0).astype(int)
    path = plot.mesh_sheet(
        [[(vertices, faces, red, "red"), (vertices, faces, labels, "two labels")]],
        tmp_path / "new" / "sheet.png",
    )
    image = pixels(path)
    left, right = image[:, : image.shape[1] // 2], image[:, image.shape[1] // 2 :]
    reddish = (left[..., 0] > 0.4) & (left[..., 1] < 0.05)
    assert reddish.mean() > 0.3
    blue, orange = plot.face_colors(np.array([0, 1]))
    for color in (blue, orange):
        direction = color / np.linalg.norm(color)
        length = np.linalg.norm(right, axis=2)
        along = (right @ direction) / np.maximum(length, 1e-9)
        assert ((along > 0.995) & (length > 0.3)).mean() > 0.1


def test_nearer_faces_hide_farther_ones(tmp_path):
    triangle = np.array([[0, 0, 0], [0, 1, 0], [0, 0.5, 1.0]])
    points = np.concatenate([triangle, triangle + [1, 0, 0]])  # the second is nearer to azimuth 0
    colors = np.array([[1.0, 0, 0], [0, 1.0, 0]])
    path = plot.mesh_sheet(
        [[(points, [[0, 1, 2], [3, 4, 5]], colors, "")]], tmp_path / "a.png", view=(0, 0)
    )
    image = pixels(path)
    green = (image[..., 1] > 0.4) & (image[..., 0] < 0.3)
    red = (image[..., 0] > 0.4) & (image[..., 1] < 0.3)
    assert green.sum() > 1000 and red.sum() < 0.05 * green.sum()


def test_colors_of_errors_attention_and_clusters():
    errors = plot.face_colors(torch.tensor([True, False]))
    assert errors[0][0] > 0.8 > errors[0][1] and np.ptp(errors[1]) < 0.1
    attention = plot.face_colors(np.array([0.0, 0.5, 1.0]))
    assert attention.shape == (3, 3) and not np.allclose(attention[0], attention[2])
    clusters = plot.cluster_colors(torch.tensor([0, 1, 0, 2]))
    assert np.array_equal(clusters[0], clusters[2]) and not np.allclose(clusters[0], clusters[1])


def test_a_line_runs_between_clusters_and_nowhere_else():
    from matplotlib.figure import Figure

    vertices, faces = icosphere(2)
    clusters = (vertices[faces].mean(1)[:, 2] > 0).astype(int) * 7
    ax = plot.mesh(vertices, faces, clusters=clusters, ax=Figure().add_subplot(), view=(0, 0))
    drawn = ax.collections[0]
    dark = (np.abs(drawn.get_edgecolor()[:, :3] - 0.1) < 1e-9).all(1)
    ends = {tuple(sorted(e)) for f in faces.tolist() for e in zip(f, [*f[1:], f[0]], strict=True)}
    sides = {e: [] for e in ends}
    for number, face in enumerate(faces.tolist()):
        for edge in zip(face, [*face[1:], face[0]], strict=True):
            sides[tuple(sorted(edge))].append(clusters[number])
    assert dark.sum() == sum(len(set(own)) == 2 for own in sides.values()) > 10
    tints = np.unique(np.round(plot.cluster_colors(clusters, faces), 6), axis=0)
    assert len(tints) == 2
    assert len(drawn.get_paths()) == len(faces) + dark.sum()
    with pytest.raises(ValueError, match="`clusters` must have one entry per face, 320"):
        plot.mesh(vertices, faces, clusters=clusters[:5])


def test_neighbouring_clusters_differ_in_colour():
    vertices, faces = icosphere(3)
    clusters = np.unique(
        np.floor(vertices[faces].mean(1) * 3).astype(int), axis=0, return_inverse=True
    )[1].reshape(-1)
    colors = plot.cluster_colors(clusters, faces)
    by_edge = {}
    for number, face in enumerate(faces.tolist()):
        for edge in zip(face, [*face[1:], face[0]], strict=True):
            by_edge.setdefault(tuple(sorted(edge)), []).append(number)
    assert clusters.max() > 20
    for a, b in by_edge.values():
        assert (clusters[a] == clusters[b]) == np.allclose(colors[a], colors[b])


def test_a_sheet_has_one_legend_and_a_scale(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: drawn.append(self))
    vertices, faces = icosphere(1)
    labels = np.where(np.arange(len(faces)) < 9, -1, 1)
    wrong = labels > 0
    row = [(vertices, faces, labels, "truth"), (vertices, faces, wrong, "error"),
           (vertices, faces, None, "clusters", labels)]  # fmt: skip
    plot.mesh_sheet([row], tmp_path / "s.png", classes=["a", "b"], unit="mm", dpi=60, cell=2)
    (figure,) = drawn
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["no label", "b"]
    assert [ax.texts[0].get_text() for ax in figure.axes] == ["0.5 mm"] * 3
    assert figure.dpi == 60 and figure.get_size_inches().tolist() == [6, 2]


def test_colored_ply_is_written(tmp_path):
    vertices, faces = icosphere(1)
    path = plot.export_ply(tmp_path / "a.ply", vertices, faces, np.arange(80) % 4)
    assert b"property uchar red" in path.read_bytes()
    assert np.array_equal(read_mesh(path).faces, faces)


def test_wrong_arguments_are_named():
    vertices, faces = icosphere(0)
    with pytest.raises(ValueError, match="one entry per face, 20"):
        plot.mesh(vertices, faces, np.zeros(7, dtype=int))
    with pytest.raises(ValueError, match=r"\[V, 3\]"):
        plot.mesh(vertices[:, :2], faces)
    with pytest.raises(ValueError, match="`rows` is empty"):
        plot.mesh_sheet([], "unused.png")
