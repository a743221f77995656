"""What people with quads and n-gons need: triangles that cover the polygon once, and no more of them."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from graphpool.io.meshes.polygons import triangulate
from graphpool.mesh import read_mesh_file


def shoelace(points):
    x, y = np.asarray(points, float)[:, :2].T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def star(rng, n):
    """A simple polygon with a random number of dents, its corners in the order of the angle."""
    angle = 2 * np.pi * (np.arange(n) + rng.uniform(0, 0.9, n)) / n
    radius = rng.uniform(0.2, 1, n)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), 0 * angle], axis=1)


def comb(n):
    """Teeth: few corners see each other."""
    teeth = [p for i in range(n) for p in ((2 * i, 0), (2 * i + 1, 9))]
    return np.array([*teeth, (2 * n, 0), (2 * n, -1), (0, -1)], float)[::-1]


def covers_once(points, triangles, rng):
    """Random places lie in one triangle if they are in the polygon (crossings of a ray), else in none."""
    p = np.asarray(points)[:, :2]
    places = rng.uniform(p.min(0), p.max(0), (400, 2))
    q = np.roll(p, -1, axis=0)
    y = places[:, None, 1]
    spans = (p[:, 1] > y) != (q[:, 1] > y)
    with np.errstate(divide="ignore", invalid="ignore"):
        x = p[:, 0] + (y - p[:, 1]) / (q[:, 1] - p[:, 1]) * (q[:, 0] - p[:, 0])
    inside = (spans & (places[:, None, 0] < x)).sum(1) % 2
    found = np.zeros(len(places), int)
    for a, b, c in p[triangles]:
        signs = [
            (v[0] - u[0]) * (places[:, 1] - u[1]) - (v[1] - u[1]) * (places[:, 0] - u[0])
            for u, v in ((a, b), (b, c), (c, a))
        ]
        found += (np.array(signs) > 0).all(0)
    return np.array_equal(found, inside)


@pytest.mark.parametrize("start", range(4))
def test_a_quad_with_a_dent_keeps_its_area(tmp_path, start):
    corners = np.roll([[0, 0], [2, 1], [4, 0], [2, 4]], -start, axis=0)
    text = "".join(f"v {x} {y} 0\n" for x, y in corners) + "f 1 2 3 4\n"
    (tmp_path / "a.obj").write_text(text)
    mesh = read_mesh_file(tmp_path / "a.obj")
    a, b, c = mesh.vertices[mesh.faces].transpose(1, 0, 2)
    area = np.cross(b - a, c - a)[:, 2] / 2
    assert len(area) == 2 and (area > 0).all() and area.sum() == pytest.approx(6)


@pytest.mark.parametrize("seed", range(30))
def test_any_simple_polygon_is_covered_once_whichever_way_it_lies(seed):
    rng = np.random.default_rng(seed)
    polygon = star(rng, int(rng.integers(4, 40)))
    turned = polygon[::-1] if seed % 2 else polygon
    placed = Rotation.random(random_state=seed).apply(turned) * 10.0 ** rng.integers(-6, 7)
    triangles = triangulate(np.arange(len(turned)), np.array([len(turned)]), placed)
    assert len(triangles) == len(turned) - 2
    flat = turned[triangles][:, ::-1] if seed % 2 else turned[triangles]
    areas = np.array([shoelace(t) for t in flat])
    assert (areas > 0).all() and areas.sum() == pytest.approx(shoelace(polygon))
    wanted = triangles[:, ::-1] if seed % 2 else triangles
    assert covers_once(turned, wanted, rng)


def test_combs_holes_and_corners_in_a_line():
    rng = np.random.default_rng(0)
    hole = [(0, 0), (4, 0), (4, 4), (0, 4), (0, 0), (1, 1), (1, 3), (3, 3), (3, 1), (1, 1)]
    line = [(0, 0), (1, 0), (2, 0), (2, 1), (2, 2), (1, 2), (0, 2), (0, 1)]
    for polygon in (comb(20), np.array(hole, float), np.array(line, float)):
        points = np.column_stack([polygon, np.zeros(len(polygon))])
        triangles = triangulate(np.arange(len(points)), np.array([len(points)]), points)
        areas = np.array([shoelace(points[t]) for t in triangles])
        assert (areas > 0).all() and areas.sum() == pytest.approx(shoelace(points))
        assert covers_once(points, triangles, rng)


def test_convex_polygons_stay_fans_and_others_keep_their_place():
    t = np.linspace(0, 2 * np.pi, 7)[:-1]
    hexagon = np.stack([np.cos(t), np.sin(t), 0 * t], axis=1)
    dent = np.array([[0.0, 0, 0], [2, 1, 0], [4, 0, 0], [2, 4, 0]])
    points = np.concatenate([hexagon, dent, hexagon])
    triangles = triangulate(np.arange(16), np.array([6, 4, 6]), points)
    assert triangles[:4].tolist() == [[0, i, i + 1] for i in range(1, 5)]
    assert set(triangles[4:6].ravel().tolist()) == {6, 7, 8, 9}
    assert triangles[6:].tolist() == [[10, i, i + 1] for i in range(11, 15)]


def test_what_is_no_polygon_ends_soon_and_says_so():
    rng = np.random.default_rng(1)
    tangle = rng.normal(size=(2000, 3))
    triangulate(np.arange(5), np.array([5]), tangle[:5])  # compiles
    start = time.process_time()
    assert len(triangulate(np.arange(2000), np.array([2000]), tangle)) == 1998
    assert time.process_time() - start < 5
    with pytest.raises(ValueError, match="Face 1 is concave and has 2003 corners; at most 2000"):
        points = np.column_stack([comb(1000), np.zeros(2003)])
        triangulate(np.r_[0:3, 0:2003], np.array([3, 2003]), points)
    assert len(triangulate(np.arange(4), np.array([4]), np.zeros((4, 3)))) == 2
