"""What people need whose meshes come from scanners, modelling programs and repair tools.

Their meshes have folded and thin parts, slivers, several bodies of very different size, faces in any
order and orientation; and they need the way back from what a network saw to the mesh they had.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch

from graphpool.mesh import (
    EdgeStandardizer,
    MeshStandardizer,
    clean,
    decimate,
    edge_graph,
    icosphere,
    nearest_faces,
    primal_dual,
    project_labels,
    read_mesh,
)
from graphpool.models import (
    FaceMLP,
    MeshClassifier,
    MeshCNNClassifier,
    MeshCNNSegmenter,
    MeshSegmenter,
    MeshSuperpixelSegmenter,
)


def sphere_soup(subdivisions, noise, seed=0):
    vertices, faces = icosphere(subdivisions)
    corners = vertices[faces].reshape(-1, 3)
    corners = corners + noise * np.random.default_rng(seed).uniform(-1, 1, corners.shape)
    return corners, np.arange(len(corners)).reshape(-1, 3)


def volume(vertices, faces):
    a, b, c = (vertices[faces[:, k]] - vertices.mean(0) for k in range(3))
    return float(sum(x @ np.cross(y, z) for x, y, z in zip(a, b, c, strict=True))) / 6


# ---- which faces are degenerate


def test_a_small_part_beside_a_huge_one_survives_cleaning():
    vertices, faces = icosphere(4, radius=0.01)
    giant = np.array([[0, 0, 1.0], [1e4, 0, 1], [0, 1e4, 1]])
    every = np.concatenate([faces, [[0, 1, 2]] + np.int64(len(vertices))])
    mesh = clean(np.concatenate([vertices, giant]), every)
    assert not mesh.report.changed and len(mesh.faces) == len(faces) + 1


def test_a_vertex_that_no_face_uses_costs_no_face():
    vertices, faces = icosphere(3)
    mesh = clean(np.concatenate([vertices, [[1e9, 0, 0]]]), faces)
    assert len(mesh.faces) == len(faces)
    assert mesh.report.isolated_vertices.tolist() == [len(vertices)]


@pytest.mark.parametrize("scale", [1e-200, 1e-6, 1.0, 1e9, 1e200])
@pytest.mark.parametrize("height, kept", [(1e-9, False), (1e-7, True)])
def test_a_sliver_is_judged_by_its_height_over_its_longest_edge(scale, height, kept):
    points = scale * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0.3, -height, 0]])
    mesh = clean(points, [[0, 1, 2], [1, 0, 3]])
    assert mesh.report.degenerate_faces.tolist() == ([] if kept else [1])


def test_a_mesh_far_from_the_origin_keeps_its_faces():
    vertices, faces = icosphere(3)
    mesh = clean(vertices + 1e9, faces)
    assert len(mesh.faces) == len(faces) and not len(mesh.report.degenerate_faces)


# ---- vertices that nearly coincide


def test_a_soup_with_noise_becomes_a_mesh_by_tolerance():
    soup, faces = sphere_soup(2, 1e-7)
    assert not clean(soup, faces).report.merged_vertices.size
    mesh = clean(soup, faces, tolerance=1e-6)
    assert len(mesh.vertices) == 162 and len(mesh.faces) == 320
    edges = np.sort(np.stack([mesh.faces, np.roll(mesh.faces, -1, 1)], 2).reshape(-1, 2), axis=1)
    assert set(np.unique(edges, axis=0, return_counts=True)[1]) == {2}
    assert np.abs(mesh.vertices[mesh.faces] - soup[faces]).max() < 1e-6


def test_a_tolerance_of_the_size_of_the_mesh_is_refused():
    with pytest.raises(ValueError, match="`tolerance`=1.0 joins .* vertices on average"):
        clean(*icosphere(4), tolerance=1.0)
    with pytest.raises(ValueError, match="`tolerance` is a length"):
        clean(*icosphere(1), tolerance=-1.0)
    with pytest.raises(ValueError, match="needs `merge=True`"):
        clean(*icosphere(1), tolerance=0.1, merge=False)


# ---- which face stays, and which way it faces


@pytest.mark.parametrize("seed", range(20))
def test_which_non_manifold_faces_stay_does_not_depend_on_the_order_of_the_file(seed):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(25, 3))
    if seed % 2:  # many faces of equal area
        points = np.rint(2 * points)
        points = np.unique(points, axis=0)
    faces = np.array([rng.choice(len(points), 3, replace=False) for _ in range(120)])
    faces = faces[np.unique(np.sort(faces, axis=1), axis=0, return_index=True)[1]]
    expected = None
    for _ in range(5):
        order, names = rng.permutation(len(faces)), rng.permutation(len(points))
        shuffled = np.empty_like(points)
        shuffled[names] = points
        turns = rng.integers(0, 3, len(faces))
        rolled = np.array([np.roll(names[f], t) for f, t in zip(faces[order], turns, strict=True)])
        mesh = clean(shuffled, rolled)
        kept = set(order[mesh.kept_faces])
        assert expected in (None, kept)
        expected = kept
        degenerate = mesh.report.degenerate_faces.size
    assert 0 < len(expected) < len(faces) - degenerate


def test_a_fin_goes_and_the_surface_stays():
    vertices, faces = icosphere(2)
    tip = 4 * vertices[faces[7, 0]]
    fin = [[faces[7, 0], faces[7, 1], len(vertices)]]
    for every, lost in (
        (np.concatenate([faces, fin]), len(faces)),
        (np.concatenate([fin, faces]), 0),
    ):
        # The fin is larger than any face of the sphere, but smaller than all together.
        mesh = clean(np.concatenate([vertices, [tip]]), every)
        assert mesh.report.non_manifold_faces.tolist() == [lost]


def test_closed_parts_face_outwards_each_by_itself():
    rng = np.random.default_rng(0)
    vertices, faces = icosphere(2)
    places = [np.zeros(3), np.full(3, 1e6), [3.0, 0, 0], [3.0, 0, 0]]
    sizes = [1.0, 2.0, 1.0, 0.3]  # the last lies inside the third
    points = np.concatenate([s * vertices + p for s, p in zip(sizes, places, strict=True)])
    parts = []
    for k in range(4):
        part = faces + k * len(vertices)
        turn = rng.random(len(part)) < rng.random()
        parts.append(np.where(turn[:, None], part[:, ::-1], part))
    mesh = clean(points, np.concatenate(parts))
    for k in range(4):
        mine = mesh.faces[(mesh.kept_faces // len(faces)) == k] - k * len(vertices)
        assert volume(vertices, mine) > 4
    again = clean(points, mesh.faces)
    assert not again.report.changed
    before = np.concatenate(parts)
    same = [set(zip(a, np.roll(a, -1), strict=True)) == set(zip(b, np.roll(b, -1), strict=True))
            for a, b in zip(before, mesh.faces, strict=True)]  # fmt: skip
    assert np.flatnonzero(~np.array(same)).tolist() == mesh.report.flipped_faces.tolist()


def test_an_open_part_keeps_its_side_and_a_hollow_body_may():
    vertices, faces = icosphere(2)
    inward = faces[:, ::-1]
    assert not clean(vertices, inward[:-1]).report.flipped_faces.size
    hollow = np.concatenate([faces, inward + len(vertices)])
    both = np.concatenate([2 * vertices, vertices])
    assert not clean(both, hollow, orientation="consistent").report.changed
    assert clean(both, hollow).report.flipped_faces.tolist() == list(range(320, 640))


def test_a_closed_part_without_volume_is_left_as_it_is():
    rng = np.random.default_rng(0)
    pillow = np.array([[0.0, 0, 0], [1, 0, 0], [0.3, 1, 0], [0.4, 0.4, 0]])
    faces = np.array([[0, 1, 3], [1, 2, 3], [2, 0, 3], [0, 2, 1]])
    for _ in range(50):
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        assert not clean(pillow @ turn, faces).report.flipped_faces.size


def test_every_face_of_the_input_has_one_that_stands_for_it():
    vertices, faces = icosphere(2)
    fin = [[faces[7, 0], faces[7, 1], len(vertices)]]
    lost = [faces[3][[1, 2, 0]], [5, 5, 6], *fin]
    tip = 1.01 * vertices[faces[7]].mean(0)
    mesh = clean(np.concatenate([vertices, [tip]]), np.concatenate([lost, faces]))
    assert np.array_equal(mesh.new_face[mesh.kept_faces], np.arange(320))
    assert mesh.report.duplicate_faces.tolist() == [6] and mesh.new_face[6] == mesh.new_face[0]
    edge = mesh.kept_faces[mesh.new_face[1]] - 3  # of faces[5] and faces[6]
    assert 5 in faces[edge] and mesh.report.degenerate_faces.tolist() == [1]
    assert mesh.kept_faces[mesh.new_face[2]] == 7 + 3


# ---- features that rounding cannot move


def rotations(count, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        yield turn * np.sign(np.linalg.det(turn))


def cube(cuts, sizes=(1, 1, 1)):
    """A box of squares, each cut in two: every ratio and every angle occurs many times."""
    grid = np.stack(np.meshgrid(*[np.arange(cuts + 1)] * 3, indexing="ij"), -1).reshape(-1, 3)
    number = {tuple(p): k for k, p in enumerate(grid.tolist())}
    faces = []
    for axis in range(3):
        for side in (0, cuts):
            for i in range(cuts):
                for j in range(cuts):
                    square = []
                    for u, v in ((i, j), (i + 1, j), (i + 1, j + 1), (i, j + 1)):
                        place = [u, v]
                        place.insert(axis, side)
                        square.append(number[tuple(place)])
                    faces += [square[:3], [square[0], square[2], square[3]]]
    mesh = clean(grid * np.asarray(sizes) / cuts, np.array(faces))
    return mesh.vertices, mesh.faces


def with_a_fold(vertices, faces):
    """The first face lies on its neighbour, as a flap that was folded back."""
    a, b, c = faces[0]
    beside = next(f for f in faces[1:] if a in f and b in f)
    d = beside[(beside != a) & (beside != b)][0]
    tip = (vertices[a] + vertices[b] + 3 * vertices[d]) / 5
    flap = [[a, b, len(vertices)]]
    return np.concatenate([vertices, [tip]]), np.concatenate([flap, faces[1:]])


FOLDED = (
    np.array([[0, 0, 0], [1, 0, 0], [0.5, 1, 0], [0.5, 0.9, 0]]),
    np.array([[0, 1, 2], [1, 0, 3]]),
)


def features(vertices, faces):
    graphs = [primal_dual(vertices, faces, config) for config in "AB"]
    graphs.append(primal_dual(vertices, faces, "C", primal_features="neighbors"))
    return [x for graph in graphs for x in (graph.x, graph.x_dual)] + [
        edge_graph(vertices, faces).x
    ]


@pytest.mark.parametrize(
    "mesh, count",
    [
        (FOLDED, 200),
        (with_a_fold(*cube(1)), 100),
        (with_a_fold(*cube(3, (1, 2, 0.5))), 40),
        (icosphere(1), 40),
    ],
    ids=["folded", "cube", "box", "sphere"],
)
@pytest.mark.parametrize("precision", [np.float64, np.float32])
def test_features_do_not_move_under_rotation(mesh, count, precision):
    vertices, faces = mesh
    tolerance = 2e-6 if precision is np.float64 else 1e-3
    expected = features(vertices, faces)
    for turn in rotations(count if precision is np.float64 else count // 10):
        found = features((vertices @ turn.T).astype(precision), faces)
        for one, two in zip(expected, found, strict=True):
            torch.testing.assert_close(one, two, rtol=0, atol=tolerance)


def test_the_angle_of_a_pair_is_that_of_its_normals():
    for angle in np.linspace(0, 2 * math.pi, 41):
        tip = [0.5, math.cos(angle), math.sin(angle)]
        points = np.array([[0, 0, 0], [1, 0, 0], [0.5, 1, 0], tip])
        x = primal_dual(points, [[0, 1, 2], [1, 0, 3]]).x_dual[0]
        expected = torch.tensor([math.sin(angle), math.cos(angle)])
        torch.testing.assert_close(x[:2], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["cubes", "real"])
def test_logits_and_clusters_do_not_move_under_rotation(kind, request):
    if kind == "cubes":
        meshes = [cube(n, s) for n in (1, 2) for s in ((1, 1, 1), (1, 2, 3))]
        meshes += [with_a_fold(*mesh) for mesh in meshes]
    else:
        files = sorted((request.getfixturevalue("shared_data") / "shrec16").glob("*/test/*.obj"))
        meshes = [clean(*read_mesh(file))[:2] for file in files[::40]]
    torch.manual_seed(0)
    models = [
        MeshClassifier(5, channels=(16, 16), heads=1),
        MeshSegmenter(5, channels=(16, 16, 16), head="linear", dual_messages=True),
    ]
    graphs = [primal_dual(*mesh) for mesh in meshes]
    for model in models:
        model.standardizer.fit(graphs)
        model.eval().requires_grad_(False)
    for (vertices, faces), graph, turn in zip(meshes, graphs, rotations(len(meshes)), strict=True):
        turned = primal_dual(vertices @ turn.T, faces)
        for model in models:
            one, two = model(graph), model(turned)
            assert (one - two).abs().max() < 1e-3 * (one.max() - one.min())
            for a, b in zip(model.clusters(graph), model.clusters(turned), strict=True):
                assert torch.equal(a, b)


def test_a_checkpoint_of_other_features_is_refused_in_words():
    old = MeshClassifier(4, in_channels=(1, 7))
    with pytest.raises(ValueError, match="trained on 7 dual features.*must be trained again"):
        MeshClassifier(4).load_state_dict(old.state_dict())
    with pytest.raises(ValueError, match=r"built for 7 dual features; got 8.*must be \(1, 8\)"):
        old(primal_dual(*icosphere(1)))


def test_slivers_do_not_set_the_scale_of_all_other_faces():
    vertices, faces = icosphere(2)
    rng = np.random.default_rng(0)
    graphs = []
    for height in (None, None, None, 1e-7):
        points, corners = vertices + 0.05 * rng.normal(size=vertices.shape), faces
        if height is not None:
            a, b, c = corners[0]
            tip = (1 - height) * (points[a] + points[b]) / 2 + height * points[c]
            m = len(points)
            points = np.concatenate([points, [tip]])
            corners = np.concatenate([[[a, b, m], [b, c, m], [c, a, m]], corners[1:]])
        graphs.append(primal_dual(points, corners))
    _, dual = MeshStandardizer((1, 8)).fit(graphs)(graphs[0])
    assert (dual.std(0) > 0.3).all()


# ---- what is refused, and what is no longer


def test_an_edge_graph_refuses_faces_without_area_by_name():
    points = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 0, 0], [2, 0, 0]])
    for bad in ([0, 0, 1], [0, 1, 3], [0, 1, 4]):
        for make in (primal_dual, edge_graph):
            with pytest.raises(ValueError, match=r"[fF]ace 1 with corners .* has no area"):
                make(points, [[0, 1, 2], bad])
    for turn in rotations(200):
        with pytest.raises(ValueError, match="no area"):
            edge_graph(points @ turn.T, [[0, 1, 2], [0, 4, 1]])


def test_arrays_of_any_layout_are_read():
    vertices, faces = icosphere(1)
    labels = np.arange(80)
    expected = primal_dual(vertices, faces, labels=labels)
    backwards = np.ascontiguousarray(vertices[:, ::-1])[:, ::-1]
    readonly = faces.copy()
    readonly.setflags(write=False)
    for v, f, y in (
        (backwards, np.ascontiguousarray(faces[::-1])[::-1], labels[::-1].copy()[::-1]),
        (vertices.astype(">f8"), faces.astype(">i4"), labels.astype(">i2")),
        (np.asfortranarray(vertices), readonly, labels.astype(np.uint16)),
        (vertices.tolist(), faces.astype(np.uint32), labels.tolist()),
    ):
        found = primal_dual(v, f, labels=y)
        for key in ("x", "x_dual", "edge_index", "y"):
            assert torch.equal(getattr(found, key), getattr(expected, key))
        assert torch.equal(edge_graph(v, f).x, edge_graph(vertices, faces).x)
        assert np.array_equal(clean(v, f, y).labels, labels)
    with pytest.raises(TypeError, match="`faces` must be integers; got float64"):
        primal_dual(vertices, faces.astype(float))
    with pytest.raises(TypeError, match="`labels` must be integers"):
        edge_graph(vertices, faces, labels=["a"])


def test_regular_solids_can_be_standardised():
    with pytest.warns(UserWarning, match=r"channels \[.*\] of the (primal|dual) features are"):
        model = MeshSegmenter(4)
        model.standardizer.fit([primal_dual(*icosphere(0))])
    assert (model.standardizer(primal_dual(*icosphere(0)))[0].abs() < 1e-6).all()
    assert model(primal_dual(*icosphere(0))).isfinite().all()
    with pytest.warns(UserWarning, match="constant"):
        scale = EdgeStandardizer().fit([edge_graph(*icosphere(0))])
    assert (scale(edge_graph(*icosphere(0))).abs() < 1e-5).all()


def test_a_channel_that_is_small_but_varies_is_not_constant():
    vertices, faces = icosphere(5)  # 20,480 shares of the area, all near 5e-5
    graph = primal_dual(vertices, faces)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        primal, _ = MeshStandardizer((1, 8)).fit([graph])(graph)
    assert abs(float(primal.std()) - 1) < 1e-2


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_one_triangle_can_be_trained_on(norm):
    graph = primal_dual(np.eye(3), [[0, 1, 2]])
    with pytest.warns(UserWarning, match="constant"):
        standardizer = MeshStandardizer((1, 8)).fit([graph])
    assert all(x.isfinite().all() for x in standardizer(graph))
    for model in (
        MeshClassifier(4, norm=norm, read="both"),
        MeshSegmenter(4, norm=norm),
        MeshSegmenter(4, norm=norm, head="linear"),
        MeshSuperpixelSegmenter(4),
        FaceMLP(4),
    ):
        out = model.train()(graph)
        assert out.shape == (1, 4)
        out.sum().backward()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        assert grads and all(g.isfinite().all() for g in grads)
    edges = edge_graph(np.eye(3), [[0, 1, 2]])
    assert MeshCNNClassifier(4, strict=False).train()(edges).isfinite().all()
    assert MeshCNNSegmenter(4, strict=False).train()(edges).isfinite().all()


def test_a_graph_of_lonely_faces_comes_with_a_warning():
    soup = sphere_soup(2, 1e-7)
    for make in (primal_dual, edge_graph):
        with pytest.warns(UserWarning, match="320 of 320 faces share no edge.*`tolerance`"):
            make(*soup)
    mesh = clean(*soup, tolerance=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        primal_dual(mesh.vertices, mesh.faces)
        primal_dual(np.eye(3), [[0, 1, 2]])
        edge_graph(*icosphere(1))


# ---- labels from one mesh to another


def distance_to_triangle(point, corners):
    """By the regions of the plane around a triangle (Ericson, Real-Time Collision Detection, 5.1.5)."""
    a, b, c = corners
    ab, ac, ap = b - a, c - a, point - a
    d1, d2 = ab @ ap, ac @ ap
    if d1 <= 0 and d2 <= 0:
        return np.linalg.norm(ap)
    d3, d4 = ab @ (point - b), ac @ (point - b)
    if d3 >= 0 and d4 <= d3:
        return np.linalg.norm(point - b)
    vc = d1 * d4 - d3 * d2
    if vc <= 0 and d1 >= 0 and d3 <= 0:
        return np.linalg.norm(a + d1 / (d1 - d3) * ab - point)
    d5, d6 = ab @ (point - c), ac @ (point - c)
    if d6 >= 0 and d5 <= d6:
        return np.linalg.norm(point - c)
    vb = d5 * d2 - d1 * d6
    if vb <= 0 and d2 >= 0 and d6 <= 0:
        return np.linalg.norm(a + d2 / (d2 - d6) * ac - point)
    va = d3 * d6 - d5 * d4
    if va <= 0 and d4 - d3 >= 0 and d5 - d6 >= 0:
        return np.linalg.norm(b + (d4 - d3) / (d4 - d3 + d5 - d6) * (c - b) - point)
    v, w = vb / (va + vb + vc), vc / (va + vb + vc)
    return np.linalg.norm(a + v * ab + w * ac - point)


@pytest.mark.parametrize("spread", [0.0, 3.0])
def test_the_nearest_face_is_that_of_a_loop(spread):
    rng = np.random.default_rng(0)

    def triangles(n):
        size = np.exp(spread * rng.normal(size=(n, 1, 1)))
        corners = rng.normal(size=(n, 1, 3)) + 0.3 * size * rng.normal(size=(n, 3, 3))
        return corners.reshape(-1, 3), np.arange(3 * n).reshape(-1, 3)

    def normals(mesh):
        a, b, c = mesh[0][mesh[1]].transpose(1, 0, 2)
        n = np.cross(b - a, c - a)
        return n / np.linalg.norm(n, axis=1, keepdims=True)

    source, target = triangles(60), triangles(150)
    found = nearest_faces(source, target)
    away = 0
    for k, face in enumerate(target[1]):
        corners = target[0][face]
        longest = np.linalg.norm(np.roll(corners, -1, 0) - corners, axis=1).max()
        distance = np.array(
            [distance_to_triangle(corners.mean(0), source[0][f]) for f in source[1]]
        )
        facing = normals(source) @ normals(target)[k] > 0
        expected = int(distance.argmin())
        if not facing[expected]:
            other = int(np.where(facing, distance, np.inf).argmin())
            if distance[other] <= distance[expected] + longest:
                expected, away = other, away + 1
        assert found[k] == expected
    assert away > 10


def plate(cuts, thickness, lift=0.0, seed=0):
    """A plate of unit size; labels: 1 above, 0 below, as the normals tell."""
    from scipy.spatial import Delaunay

    rng = np.random.default_rng(seed)
    rim = np.linspace(0, 1, cuts, endpoint=False)
    none, one = np.zeros(cuts), np.ones(cuts)
    sides = ((rim, none), (one, rim), (1 - rim, one), (none, 1 - rim))
    rim = np.concatenate([np.stack(side, 1) for side in sides])
    n = len(rim)
    points, faces, labels = [], [], []
    for label, sign in ((1, 1.0), (0, -1.0)):
        flat = np.concatenate([rim, rng.uniform(0.05, 0.95, (cuts * cuts, 2))])
        face = Delaunay(flat).simplices
        turn = np.linalg.det(flat[face[:, 1:]] - flat[face[:, :1]]) * sign < 0
        faces.append(np.where(turn[:, None], face[:, ::-1], face) + len(flat) * len(points))
        points.append(np.column_stack([flat, np.full(len(flat), sign * (thickness / 2 + lift))]))
        labels += [label] * len(face)
    below = len(points[0])
    ring = [[i, i + below, (i + 1) % n + below] for i in range(n)]
    ring += [[i, (i + 1) % n + below, (i + 1) % n] for i in range(n)]
    mesh = clean(np.concatenate(points), np.concatenate([*faces, ring]), labels + [2] * len(ring))
    return mesh.vertices, mesh.faces, mesh.labels


@pytest.mark.parametrize("lift", [0.0, -0.4, 0.4])
def test_labels_find_the_right_side_of_a_thin_part(lift):
    from scipy.spatial import cKDTree

    thickness = 0.3 / 12
    v, f, y = plate(12, thickness)
    w, g, expected = plate(7, thickness, lift * thickness, seed=1)
    broad = expected < 2  # the rims of both plates differ
    by_center = y[cKDTree(v[f].mean(1)).query(w[g].mean(1))[1]]
    assert (by_center != expected)[broad].sum() > 10
    assert np.array_equal(project_labels((v, f), (w, g), y)[broad], expected[broad])


def test_labels_go_to_a_coarser_mesh_and_back():
    fine, coarse = icosphere(3), icosphere(1)
    part = (coarse.vertices[coarse.faces].mean(1) > 0) @ [1, 2, 4]
    down = project_labels(coarse, fine, part)
    assert np.array_equal(project_labels(fine, coarse, down), part)
    probabilities = np.random.default_rng(0).random((80, 3))
    assert project_labels(coarse, primal_dual(*fine), probabilities).shape == (1280, 3)
    with pytest.raises(ValueError, match=r"one entry per face of `source`, 80; got shape \(3,\)"):
        project_labels(coarse, fine, [1, 2, 3])
    with pytest.raises(ValueError, match="`source` has no face"):
        nearest_faces((np.eye(3), np.zeros((0, 3), int)), fine)


@pytest.mark.needs("open3d")
def test_decimation_keeps_labels_of_thin_parts_and_leads_back():
    v, f, y = plate(14, 0.3 / 14)
    doubled = np.concatenate([f[:5], f])  # five faces that cleaning drops
    labels = np.concatenate([y[:5], y])
    mesh = decimate(v, doubled, 300, labels)
    a, b, c = mesh.vertices[mesh.faces].transpose(1, 0, 2)
    up = np.cross(b - a, c - a)
    up = up[:, 2] / np.linalg.norm(up, axis=1)
    broad = np.abs(up) > 0.9
    assert np.array_equal(mesh.labels[broad], (up[broad] > 0).astype(int)) and broad.sum() > 100
    assert np.array_equal(mesh.labels, labels[mesh.old_face])
    back = mesh.labels[mesh.new_face]
    assert back.shape == labels.shape
    inner = (np.abs(v[doubled][:, :, :2] - 0.5) < 0.4).all((1, 2))
    assert np.array_equal(back[inner], labels[inner])


def test_a_mesh_within_the_budget_leads_back_too():
    vertices, faces = icosphere(1)
    mesh = decimate(vertices, np.concatenate([faces[:2], faces]), 80, np.arange(82) % 7)
    assert len(mesh.faces) == 80
    assert np.array_equal(mesh.new_face[mesh.old_face], np.arange(80))
    assert mesh.new_face[2:4].tolist() == mesh.new_face[:2].tolist()
