"""What people who look at labels need: a label has one colour, in every picture and every file."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphpool import plot
from graphpool.mesh import icosphere, read_mesh_file

pytestmark = pytest.mark.needs("matplotlib")


def tab20():
    """The usual map for many labels."""
    import matplotlib

    return matplotlib.colormaps["tab20"].colors


def lab(colors):
    """CIE 1976 L*a*b*, by the book."""
    c = np.asarray(colors, float)
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.cbrt(linear @ np.transpose(to_xyz) / [0.9505, 1, 1.089]).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


@pytest.mark.parametrize("count", [2, 8, 9, 20, 33])
def test_truth_and_prediction_have_the_same_colours(count):
    truth = np.arange(count)
    guess = np.minimum(truth, count // 2)
    one, two = plot.face_colors(truth), plot.face_colors(guess)
    assert np.array_equal(one[: count // 2], two[: count // 2])
    assert np.array_equal(one, plot.face_colors(torch.from_numpy(truth), num_classes=count))
    assert np.array_equal(plot.face_colors(np.array([1])), one[1:2])


def test_more_than_thirty_labels_can_be_told_apart():
    def least(colors):
        apart = np.linalg.norm(lab(colors)[:, None] - lab(colors)[None], axis=2)
        return apart[~np.eye(len(apart), dtype=bool)].min()

    # It has 20 colours, of which two are 16.6 apart.
    assert least(plot.label_colors(np.arange(-1, 32))) > least(tab20())
    assert len(np.unique(plot.label_colors(np.arange(256)), axis=0)) == 256


def test_no_label_is_gray():
    gray = plot.label_colors([-1])[0]
    assert np.ptp(gray) < 0.1
    assert np.array_equal(plot.face_colors(np.array([-100, 3]))[0], gray)
    void = plot.face_colors(np.array([255, 3], dtype=np.uint8), num_classes=5)
    assert np.array_equal(void[0], gray) and not np.array_equal(void[1], gray)
    assert not np.array_equal(plot.label_colors([255], num_classes=300)[0], gray)
    assert not (np.abs(plot.label_colors(np.arange(256)) - gray).max(1) < 0.05).any()


def test_a_label_beyond_the_classes_is_refused():
    vertices, faces = icosphere(0)
    with pytest.raises(ValueError, match="below `num_classes` = 4; got 19"):
        plot.mesh(vertices, faces, np.arange(20), num_classes=4)
    with pytest.raises(ValueError, match="num_classes"):
        plot.export_ply("unused.ply", vertices, faces, np.arange(20), num_classes=4)
    with pytest.raises(ValueError, match="num_classes"):
        plot.mesh_sheet([[(vertices, faces, np.arange(20), "")]], "unused.png", num_classes=4)


def test_a_map_of_ones_own_does_not_depend_on_the_largest_label():
    for cmap in ("viridis", "tab10", "tab20"):
        one = plot.face_colors(np.array([0, 1, 2]), cmap, num_classes=9)
        two = plot.face_colors(np.arange(9), cmap, num_classes=9)
        assert np.array_equal(one, two[:3]) and len(np.unique(two, axis=0)) == 9
    np.testing.assert_allclose(plot.label_colors(np.arange(3), 3, "tab20"), tab20()[:3])


def test_two_exported_meshes_agree_with_each_other_and_with_the_picture(tmp_path):
    vertices, faces = icosphere(1)
    few, many = np.arange(80) % 3, np.arange(80) % 12
    seen = []
    for name, labels in (("few", few), ("many", many)):
        path = plot.export_ply(tmp_path / f"{name}.ply", vertices, faces, labels, num_classes=12)
        held = read_mesh_file(path).face_values
        seen.append(np.stack([held[c] for c in ("red", "green", "blue")], 1))
    expected = np.rint(255 * plot.label_colors(np.arange(12)))
    assert np.array_equal(seen[0], expected[few]) and np.array_equal(seen[1], expected[many])


@pytest.mark.parametrize("given", ["labels", "colours"])
def test_points_without_faces_are_written_as_a_coloured_cloud(tmp_path, given):
    points = torch.randn(50, 3)
    labels = torch.arange(50) % 4 - 1
    colors = labels if given == "labels" else torch.from_numpy(plot.label_colors(labels))
    path = plot.export_ply(tmp_path / "a.ply", points, None, colors)
    # Read by its own header: binary rows of three doubles and three bytes.
    data = path.read_bytes()
    head, body = data.split(b"end_header\n", 1)
    assert b"element vertex 50" in head and b"element face 0" in head
    table = np.frombuffer(body, np.dtype([("at", "<f8", 3), ("rgb", "u1", 3)]))
    assert np.array_equal(table["at"], points.double().numpy())
    assert np.array_equal(table["rgb"], np.rint(255 * plot.label_colors(labels)))
    with pytest.raises(ValueError, match=r"`vertex_colors` must have shape \[50, 3\]"):
        plot.export_ply(path, points, None, labels[:7])


def test_colours_out_of_range_are_not_wrapped(tmp_path):
    vertices, faces = icosphere(0)
    for wrong in (np.full((20, 3), 256), np.full((20, 3), -1), np.full((20, 3), 1.5)):
        with pytest.raises(ValueError, match=r"`face_colors` of .* must lie in"):
            plot.export_ply(tmp_path / "a.ply", vertices, faces, wrong)


def test_a_confusion_matrix_leaves_out_what_has_no_label(tmp_path):
    truth, guess = torch.tensor([0, -1, 1, 1, -1]), torch.tensor([0, 0, 1, 0, 1])
    counts = plot.confusion_matrix(guess, truth, ["a", "b"], tmp_path / "c.png")
    assert counts.tolist() == [[1, 0], [1, 1]]
    with pytest.raises(ValueError, match=r"\[0, 2\)"):
        plot.confusion_matrix(guess, truth - 1, ["a", "b"], tmp_path / "c.png")


def test_points_and_meshes_share_their_colours():
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    labels = torch.tensor([11, -1, 0, 255])
    plot.cloud(ax, torch.eye(4, 3), labels)
    (drawn,) = ax.collections
    drawn = np.unique(drawn.to_rgba(drawn.get_array())[:, :3].round(6), axis=0)
    expected = np.unique(plot.face_colors(labels).round(6), axis=0)
    np.testing.assert_allclose(drawn, expected, atol=1e-6)
