"""What people need whose meshes come from scanners, modelling programs and repair tools.

Their meshes have folded and thin parts, slivers, several bodies of very different size, faces in any
order and orientation; and they need the way back from what a network saw to the mesh they had.
"""

from __future__ import annotations

import numpy as np
import pytest

from graphpool.mesh import clean, icosphere


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
