"""Meshes whose faces do not agree which side is their front: what reaches a network must not tell."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from graphpool.mesh import clean, edge_graph, icosphere, primal_dual

WAYS = ([0, 2, 1], [2, 1, 0], [1, 0, 2])
FORMS = [(config, primal) for config in "ABC" for primal in ("area", "neighbors")]


def sphere():
    vertices, faces = icosphere(1)
    return vertices * [1.0, 1.3, 0.7] + 0.05 * np.sin(9 * vertices[:, [1, 2, 0]]), faces


def sheet(rows=5, columns=6):
    """A hilly grid with a boundary."""
    x, y = np.meshgrid(np.arange(columns), np.arange(rows))
    vertices = np.stack([x, y, np.sin(2.0 * x) * np.cos(3.0 * y)], 2).reshape(-1, 3).astype(float)
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    one = np.stack([corner, corner + 1, corner + columns + 1], 1)
    two = np.stack([corner, corner + columns + 1, corner + columns], 1)
    return vertices, np.stack([one, two], 1).reshape(-1, 3)


def moebius(length=12, turns=1):
    """A strip that closes after half a turn, or after none."""
    angle = 2 * np.pi * np.arange(length) / length
    half = turns * angle / 2
    points = []
    for side in (-0.4, 0.4):
        radius = 2 + side * np.cos(half)
        points.append([radius * np.cos(angle), radius * np.sin(angle), side * np.sin(half)])
    vertices = np.transpose(points, (2, 0, 1)).reshape(-1, 3)
    faces = []
    for i in range(length):
        a, b, c, d = 2 * i, 2 * i + 1, 2 * i + 2, 2 * i + 3
        if i == length - 1:
            c, d = (1, 0) if turns % 2 else (0, 1)
        faces += [[a, b, c], [b, d, c]]
    return vertices, np.array(faces)


def several(*meshes):
    vertices, faces, shift = [], [], 0
    for k, (v, f) in enumerate(meshes):
        vertices.append(v + [5.0 * k, 0, 0])
        faces.append(f + shift)
        shift += len(v)
    return np.concatenate(vertices), np.concatenate(faces)


def flipped(faces, which, rng):
    """The faces of the mask ``which`` turned over, each in one of the three ways; all begin anywhere."""
    ways = rng.integers(3, size=len(faces))
    result = np.array(
        [f[WAYS[w]] if turn else f for f, turn, w in zip(faces, which, ways, strict=True)]
    )
    start = rng.integers(3, size=(len(faces), 1))
    return np.take_along_axis(result, (start + np.arange(3)) % 3, axis=1)


def graph_of(mesh, faces, config="A", primal_features="area"):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        graph = primal_dual(mesh[0], faces, config, primal_features=primal_features)
    return graph, [str(w.message) for w in caught]


def assert_same_bits(one, two):
    for key in ("x", "x_dual", "edge_index", "dual_edge_index", "area"):
        assert torch.equal(one[key], two[key]), key


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.8, 0.98])
@pytest.mark.parametrize(("config", "primal"), FORMS)
def test_closed_parts_have_the_same_bits_under_any_flips(config, primal, share):
    mesh = several(sphere(), sphere())
    expected, said = graph_of(mesh, mesh[1], config, primal)
    assert not said
    rng = np.random.default_rng(int(100 * share))
    for _ in range(4):
        which = rng.random(len(mesh[1])) < share
        which[[0, 1, 80, 81]] = [True, False, False, True]  # neither part is flipped as a whole
        graph, said = graph_of(mesh, flipped(mesh[1], which, rng), config, primal)
        assert_same_bits(graph, expected)
        assert len(said) == 1 and said[0].startswith(
            f"{which.sum()} of 160 faces (face 0 is the first)"
        )
        assert "graphpool.mesh.clean" in said[0]


@pytest.mark.parametrize(("config", "primal"), FORMS)
@pytest.mark.parametrize(
    "make", [sheet, lambda: moebius(turns=2), lambda: several(sheet(), sphere())]
)
def test_a_minority_of_flips_changes_no_bit_where_there_is_a_boundary(make, config, primal):
    mesh = make()
    expected, said = graph_of(mesh, mesh[1], config, primal)
    assert not said
    rng = np.random.default_rng(0)
    for _ in range(4):
        which = rng.random(len(mesh[1])) < 0.3
        which[0] = True
        graph, said = graph_of(mesh, flipped(mesh[1], which, rng), config, primal)
        assert_same_bits(graph, expected)
        assert len(said) == 1 and f"{which.sum()} of {len(which)} faces" in said[0]


def test_the_features_are_those_after_cleaning():
    rng = np.random.default_rng(1)
    for mesh in (sphere(), sheet(), several(sheet(), sphere(), sheet(3, 4))):
        for share in (0.1, 0.5, 0.9):
            turned = flipped(mesh[1], rng.random(len(mesh[1])) < share, rng)
            cleaned = clean(mesh[0], turned)
            graph, _ = graph_of(mesh, turned, "B")
            # Cleaning leaves no vertex out here, so that faces and pairs are numbered alike.
            assert_same_bits(graph, primal_dual(cleaned.vertices, cleaned.faces, "B"))


def test_half_of_a_sheet_is_decided_by_its_largest_face_not_by_the_file():
    vertices, faces = sheet()
    turned = faces.copy()
    turned[::2] = turned[::2, ::-1]
    order = np.random.default_rng(0).permutation(len(faces))
    rows = []
    for numbers in (np.arange(len(faces)), order):
        graph, _ = graph_of((vertices, faces), turned[numbers])
        pairs = numbers[graph.edge_index[:, ::2].t()]
        rows.append(dict(zip(map(frozenset, pairs.tolist()), graph.x_dual, strict=True)))
    for pair, row in rows[0].items():
        torch.testing.assert_close(rows[1][pair], row)


def test_a_part_that_agrees_is_taken_as_it_is():
    """Ridges of a body inside out are valleys; one flip in another part does not turn it."""
    mesh = several(sphere(), sphere())
    inward = mesh[1].copy()
    inward[:80] = inward[:80, ::-1]
    graph, said = graph_of(mesh, inward)
    assert not said
    one_more = inward.copy()
    one_more[100] = one_more[100, ::-1]
    again, said = graph_of(mesh, one_more)
    assert_same_bits(graph, again)
    assert said[0].startswith("1 of 160 faces (face 100 is the first)")
    here = graph.edge_index[0, ::2] < 80
    torch.testing.assert_close(graph.x_dual[here, 0], -graph.x_dual[~here, 0], rtol=1e-4, atol=1e-4)


def test_the_corners_that_come_back_are_those_of_the_input():
    vertices, faces = sphere()
    turned = flipped(faces, np.arange(80) % 3 == 0, np.random.default_rng(0))
    graph, _ = graph_of((vertices, faces), turned)
    assert np.array_equal(graph.faces.numpy(), turned)


@pytest.mark.parametrize("turns", [1, 3])
def test_a_part_that_cannot_be_oriented_is_named(turns):
    strip, ball = moebius(turns=turns), sphere()
    mesh = several(ball, strip)
    graph, said = graph_of(mesh, mesh[1])
    assert len(said) == 1
    assert said[0].startswith(
        "24 of 104 faces (face 80 is the first) lie in a part that cannot be oriented"
    )
    # The other part is told apart, and is still put right.
    turned = mesh[1].copy()
    turned[7] = turned[7, ::-1]
    again, said = graph_of(mesh, turned)
    assert len(said) == 2 and said[0].startswith("1 of 104 faces (face 7 is the first)")
    here = graph.edge_index[0, ::2] < 80
    assert torch.equal(graph.x_dual[here], again.x_dual[here])
    # What the warning says helps.
    cleaned = clean(*mesh)
    assert not graph_of((cleaned.vertices, cleaned.faces), cleaned.faces)[1]


def test_a_closed_surface_without_an_inside_is_named():
    """Two discs and a Klein bottle made of a grid: closed, but not orientable, so that no volume counts."""
    n = 6
    at = np.arange(n * n).reshape(n, n)
    grid = np.pad(at, ((0, 1), (0, 1)), mode="wrap")
    grid[:, -1] = np.roll(grid[::-1, 0], 0)
    grid[-1, -1] = grid[0, 0]
    a, b, c, d = (
        grid[:-1, :-1].ravel(),
        grid[:-1, 1:].ravel(),
        grid[1:, :-1].ravel(),
        grid[1:, 1:].ravel(),
    )
    faces = np.concatenate([np.stack([a, b, d], 1), np.stack([a, d, c], 1)])
    vertices = np.random.default_rng(0).normal(size=(n * n, 3))
    _, said = graph_of((vertices, faces), faces)
    assert len(said) == 1 and said[0].startswith(f"{len(faces)} of {len(faces)} faces")


@pytest.mark.parametrize("config", ["A", "B", "C"])
def test_a_face_and_its_double_agree_whichever_way_they_lie(config):
    """Twice the same three corners: one pair, of the edge at the smallest vertex, and folded flat."""
    corners = np.array([[0.0, 0, 0], [2, 0, 0], [0, 1, 0]])
    graphs = [
        graph_of((corners, None), np.array([[0, 1, 2], other]), config)[0]
        for other in ([0, 2, 1], [2, 1, 0], [0, 1, 2], [1, 2, 0])
    ]
    for graph in graphs:
        assert_same_bits(graph, graphs[0])
    assert graphs[0].x_dual[:, :2].tolist() == [[0.0, 1.0]] * (1 if config == "A" else 2)


def test_edges_of_disagreeing_faces_are_counted_by_the_edge_graph():
    vertices, faces = sphere()
    turned = faces.copy()
    turned[7] = turned[7, ::-1]
    with pytest.raises(
        ValueError, match=r"`faces` must agree .*\(3 such edges in all\).*mesh\.clean"
    ):
        edge_graph(vertices, turned)
