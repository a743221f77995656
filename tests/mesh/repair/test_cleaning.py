import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpool.mesh import (
    FaceClusterPool,
    FaceClusterUnpool,
    PrimalDualConv,
    clean,
    icosphere,
    primal_dual,
)
from graphpool.mesh.repair.orientation import orient_faces


def through_everything(vertices, faces, labels=None, **kwargs):
    """clean, graphs, convolution, pool and unpool; returns the graph and the cleaned mesh."""
    mesh = clean(vertices, faces, labels, **kwargs)
    for config in "ABC":
        graph = primal_dual(mesh.vertices, mesh.faces, config, mesh.labels)
        topology = graph.topology()
        conv = PrimalDualConv((graph.x.size(1), graph.x_dual.size(1)), (8, 8))
        out = conv(graph.x, graph.x_dual, topology)
        pooled = FaceClusterPool((8, 8), keep=0.7)(out.primal, out.dual, topology, out.attention)
        primal, dual = FaceClusterUnpool(8)(pooled.primal, pooled.dual, pooled.clusters)
        assert primal.shape == out.primal.shape and dual.shape == out.dual.shape
        assert primal.isfinite().all() and dual.isfinite().all()
    return graph, mesh


def test_a_clean_mesh_is_left_alone():
    vertices, faces = icosphere(2)
    graph, mesh = through_everything(vertices, faces, np.arange(320))
    assert not mesh.report.changed and str(mesh.report) == "nothing to clean"
    assert np.array_equal(mesh.faces, faces) and np.array_equal(mesh.vertices, vertices)
    assert graph.y.tolist() == list(range(320))


def test_holes():
    vertices, faces = icosphere(2)
    keep = np.ones(320, dtype=bool)
    keep[[5, 6, 7, 100, 200]] = False
    graph, mesh = through_everything(vertices, faces[keep], np.arange(320)[keep])
    assert graph.y.tolist() == np.arange(320)[keep].tolist()
    assert graph.topology().num_edges < 480


def test_a_non_manifold_fan_loses_its_smallest_face():
    points = np.array([[0, 0, 0], [0, 0, 1], [1, 0, 0], [0, 2, 0], [-3, 0, 0.0]])
    graph, mesh = through_everything(points, [[0, 1, 2], [1, 0, 3], [0, 1, 4]], [7, 8, 9])
    assert mesh.report.non_manifold_faces.tolist() == [0]
    assert mesh.report.isolated_vertices.tolist() == [2]
    assert graph.y.tolist() == [8, 9]


def test_flipped_faces_are_turned_back_or_dropped():
    vertices, faces = icosphere(2)
    flipped = faces.copy()
    some = np.array([3, 50, 51, 200])
    flipped[some] = flipped[some][:, [0, 2, 1]]
    graph, mesh = through_everything(vertices, flipped, np.arange(320))
    assert mesh.report.flipped_faces.tolist() == some.tolist()
    assert graph.y.tolist() == list(range(320))
    assert np.array_equal(mesh.faces, faces)
    _, fewer = through_everything(vertices, flipped, np.arange(320), orientation="discard")
    assert len(fewer.report.non_manifold_faces) > 0 and len(fewer.faces) < 320
    assert fewer.labels.tolist() == fewer.kept_faces.tolist()


def test_the_directed_edge_rule_is_that_of_a_loop():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(30, 3))
    faces = np.array([rng.choice(30, 3, replace=False) for _ in range(300)])
    faces = faces[np.unique(np.sort(faces, axis=1), axis=0, return_index=True)[1]]
    used, expected = set(), []
    for number, (a, b, c) in enumerate(faces.tolist()):
        three = {(a, b), (b, c), (c, a)}
        if not used & three:
            used |= three
            expected.append(number)
    assert clean(points, faces, orientation="discard").kept_faces.tolist() == expected


def test_zero_area_faces_duplicates_and_repeated_vertices():
    vertices, faces = icosphere(1)
    vertices = np.concatenate([vertices, vertices[:1], [[9, 9, 9]]])
    faces = np.concatenate([faces, [[0, 0, 5], faces[3][[1, 2, 0]], [42, *faces[0][1:]]]])
    graph, mesh = through_everything(vertices, faces, np.arange(83))
    report = mesh.report
    assert report.merged_vertices.tolist() == [42] and report.isolated_vertices.tolist() == [43]
    assert report.degenerate_faces.tolist() == [80]
    assert report.duplicate_faces.tolist() == [81, 82]
    assert graph.y.tolist() == list(range(80))


def test_one_face_and_two_parts():
    graph, _ = through_everything(np.eye(3), [[0, 1, 2]])
    assert graph.x.tolist() == [[1.0]]
    vertices, faces = icosphere(1)
    graph, mesh = through_everything(
        np.concatenate([vertices, vertices + 5]), np.concatenate([faces, faces + 42])
    )
    assert graph.topology().num_faces == 160 and not mesh.report.changed


@pytest.mark.slow
def test_two_hundred_thousand_faces():
    side = 320
    x, y = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    points = (
        np.stack([x, y, 3 * np.sin(x / 9) * np.cos(y / 7)], axis=-1).reshape(-1, 3).astype(float)
    )
    corner = (x * side + y)[:-1, :-1].ravel()
    faces = np.concatenate(
        [
            np.stack([corner, corner + side, corner + side + 1], axis=1),
            np.stack([corner, corner + side + 1, corner + 1], axis=1),
        ]
    )
    assert len(faces) > 200_000
    graph, _ = through_everything(points, faces, np.arange(len(faces)))
    assert torch.equal(graph.y, torch.arange(len(faces)))


def test_a_moebius_strip_cannot_be_oriented_and_loses_faces():
    n = 12
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    rows = []
    for w in (-0.3, 0.3):
        r = 1 + w * np.cos(angle / 2)
        rows.append(np.stack([r * np.cos(angle), r * np.sin(angle), w * np.sin(angle / 2)], axis=1))
    points = np.concatenate(rows)
    faces = []
    for i in range(n):
        a, b = i, i + n
        c, d = ((i + 1) % n, (i + 1) % n + n) if i + 1 < n else (n, 0)
        faces += [[a, c, b], [b, c, d]]
    _, mesh = through_everything(points, faces)
    assert len(mesh.report.flipped_faces) == 0
    assert len(mesh.report.non_manifold_faces) >= 1


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 79), unique=True, max_size=39))
def test_any_minority_of_flipped_faces_is_turned_back(some):
    _, faces = icosphere(1)
    flipped = faces.copy()
    flipped[some] = flipped[some][:, [0, 2, 1]]
    restored, turned = orient_faces(flipped)
    assert np.flatnonzero(turned).tolist() == sorted(some)
    assert np.array_equal(restored, faces)


@pytest.mark.parametrize(
    "vertices, faces, kwargs, message",
    [
        (np.eye(3), [[0, 1, 2]], {"labels": [1, 2]}, r"one entry per face, 1; got shape \(2,\)"),
        (np.eye(3), [[0, 1, 5]], {}, r"face 0 is \[0, 1, 5\]"),
        (np.array([[0, 0, np.inf]] * 3), [[0, 1, 2]], {}, "vertex 0"),
        (np.zeros((3, 3)), [[0, 1, 2]], {}, "No face is left of 1: 1 were degenerate"),
        (np.eye(3), [[0, 1, 2]], {"orientation": "guess"}, "`orientation`"),
    ],
)
def test_errors_say_what_and_where(vertices, faces, kwargs, message):
    with pytest.raises(ValueError, match=message):
        clean(vertices, faces, **kwargs)


def test_floating_point_corners_are_refused():
    with pytest.raises(TypeError, match="`faces` must be integers"):
        clean(np.eye(3), np.array([[0.0, 1, 2]]))
