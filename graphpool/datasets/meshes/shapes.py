"""Random creatures, vases and lamps as unions of simple parts, each with a label."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from graphpool._arguments import check_one_of

FAMILIES: dict[str, tuple[str, ...]] = {
    "creature": ("body", "head", "leg", "tail", "ear"),
    "vase": ("belly", "neck", "foot", "handle"),
    "lamp": ("base", "arm", "shade", "bulb"),
}


@dataclass
class Shape:
    """A smooth union of rounded cones, each of which belongs to a labelled part.

    Attributes:
        ends: Ends of the axes ``[N, 2, 3]``.
        radii: Radii at both ends ``[N, 2]``.
        flat: ``[N]``: 1 for round sections; other values scale the distance along ``up``.
        labels: ``[N]``.
        blend: Width over which parts melt into one another.
    """

    blend: float
    _ends: list = field(default_factory=list)
    _radii: list = field(default_factory=list)
    _labels: list = field(default_factory=list)

    def add(self, label: int, a: np.ndarray, b: np.ndarray, ra: float, rb: float) -> None:
        """A cone with round ends from ``a`` (radius ``ra``) to ``b`` (radius ``rb``)."""
        self._ends.append((np.asarray(a, dtype=float), np.asarray(b, dtype=float)))
        self._radii.append((ra, rb))
        self._labels.append(label)

    def add_chain(self, label: int, points: np.ndarray, radii: np.ndarray) -> None:
        """Cones along a polyline ``[N, 3]`` with radii ``[N]``."""
        for i in range(len(points) - 1):
            self.add(label, points[i], points[i + 1], radii[i], radii[i + 1])

    def part_distances(self, points: np.ndarray) -> np.ndarray:
        """Distances ``[N_points, N_parts]`` to the surface of every cone, negative inside."""
        ends, radii = np.array(self._ends), np.array(self._radii)
        a, axis = ends[:, 0], ends[:, 1] - ends[:, 0]
        square = np.maximum((axis**2).sum(1), 1e-12)
        # |p - a - t axis|^2 expanded, so that no [N_points, N_parts, 3] array is needed.
        along = points @ axis.T - (a * axis).sum(1)
        t = np.clip(along / square, 0, 1)
        to_a = (points**2).sum(1)[:, None] - 2 * points @ a.T + (a**2).sum(1)
        distance = np.sqrt(np.maximum(to_a - 2 * t * along + t**2 * square, 0))
        return distance - (radii[:, 0] + t * (radii[:, 1] - radii[:, 0]))

    def distance(self, points: np.ndarray) -> np.ndarray:
        """The smooth minimum of the distances to all parts."""
        parts = self.part_distances(points)
        low = parts.min(1)
        return low - self.blend * np.log(np.exp((low[:, None] - parts) / self.blend).sum(1))

    def label(self, points: np.ndarray) -> np.ndarray:
        """The label of the nearest part."""
        return np.array(self._labels)[self.part_distances(points).argmin(1)]

    def box(self) -> tuple[np.ndarray, np.ndarray]:
        """Corners of a box around the shape."""
        ends, radii = np.array(self._ends), np.array(self._radii)
        room = radii[:, :, None] + self.blend * np.log(len(ends))
        return (ends - room).min((0, 1)), (ends + room).max((0, 1))


def random_shape(family: str, rng: np.random.Generator) -> Shape:
    """A shape with random proportions and pose; label ``i`` is ``FAMILIES[family][i]``."""
    check_one_of(family, "family", _MAKERS)
    return _MAKERS[family](rng)


def _direction(azimuth: float, elevation: float) -> np.ndarray:
    cos = np.cos(elevation)
    return np.array([cos * np.cos(azimuth), cos * np.sin(azimuth), np.sin(elevation)])


def _curve(
    rng: np.random.Generator, start: np.ndarray, azimuth: float, elevation: float, length: float
) -> np.ndarray:
    """Four points of a bent limb."""
    points = [start]
    bend = rng.uniform(-0.7, 0.7, 2)
    for _ in range(3):
        points.append(points[-1] + length / 3 * _direction(azimuth, elevation))
        azimuth, elevation = azimuth + bend[0], elevation + bend[1]
    return np.array(points)


def _creature(rng: np.random.Generator) -> Shape:
    shape = Shape(blend=0.035)
    length, girth = rng.uniform(0.9, 1.5), rng.uniform(0.24, 0.36)
    arch = rng.uniform(-0.15, 0.15)
    spine = np.array([[-length / 2, 0, 0], [0, rng.uniform(-0.1, 0.1), arch], [length / 2, 0, 0]])
    shape.add_chain(0, spine, girth * rng.uniform(0.85, 1.1, 3))

    neck = _direction(rng.uniform(-0.6, 0.6), rng.uniform(-0.1, 1.2))
    skull = spine[2] + neck * (girth + rng.uniform(0.2, 0.6))
    size = rng.uniform(0.17, 0.26)
    shape.add(1, spine[2] + neck * girth, skull, 0.6 * size, 0.75 * size)
    snout = _direction(rng.uniform(-0.5, 0.5), rng.uniform(-0.6, 0.3))
    shape.add(1, skull, skull + snout * rng.uniform(0.1, 0.3), size, 0.6 * size)
    ear, spread = rng.uniform(0.2, 0.45), rng.uniform(0.4, 0.9)
    for side in (-1, 1):
        out = _direction(side * spread + np.pi / 2 * side, rng.uniform(0.5, 1.2))
        root = skull + 0.7 * size * out
        shape.add(4, root, root + ear * out, 0.125, 0.1)

    leg, thick = rng.uniform(0.55, 0.95), rng.uniform(0.125, 0.165)
    for x in (-0.42, 0.42):
        for side in (-1, 1):
            hip = np.array([x * length, 0.75 * side * girth, -0.5 * girth])
            swing, splay = rng.uniform(-0.6, 0.6), rng.uniform(0, 0.4)
            thigh = np.array([np.sin(swing), side * np.sin(splay), -np.cos(swing)])
            bend = swing + rng.uniform(-0.8, 0.8)
            shin = np.array([np.sin(bend), 0.2 * side, -np.cos(bend)])
            knee = hip + leg / 2 * thigh
            foot = knee + leg / 2 * shin
            shape.add_chain(2, np.array([hip, knee, foot]), thick * np.array([1.2, 1.0, 0.95]))

    back = spine[0] - 0.8 * girth * np.array([1, 0, -0.2])
    tail = _curve(
        rng, back, np.pi + rng.uniform(-0.6, 0.6), rng.uniform(-0.6, 0.9), rng.uniform(0.5, 1.1)
    )
    shape.add_chain(3, tail, rng.uniform(0.12, 0.15) * np.linspace(1.1, 0.85, 4))
    return shape


def _ring(
    rng: np.random.Generator, low: np.ndarray, high: np.ndarray, bulge: float, azimuth: float
) -> np.ndarray:
    t = np.linspace(0, np.pi, 6)[:, None]
    middle = (low + high) / 2
    out = np.array([np.cos(azimuth), np.sin(azimuth), 0])
    return middle - np.cos(t) * (high - low) / 2 + np.sin(t) * bulge * out


def _vase(rng: np.random.Generator) -> Shape:
    shape = Shape(blend=0.03)
    up = np.array([0.0, 0.0, 1.0])
    belly, height = rng.uniform(0.38, 0.6), rng.uniform(0.2, 0.8)
    slope = rng.uniform(0.7, 1.25)
    shape.add(0, 0 * up, height * up, belly, belly * slope)
    top = height + belly * slope
    neck, stem = rng.uniform(0.14, 0.24), rng.uniform(0.35, 0.8)
    end = top + stem
    shape.add(1, (top - 0.1) * up, end * up, neck, neck * rng.uniform(0.9, 1.2))
    lip = neck * rng.uniform(1.3, 1.9)
    shape.add(1, end * up, (end + 0.1) * up, neck, lip)
    leg, foot = rng.uniform(0.15, 0.5), rng.uniform(0.2, 0.38)
    shape.add(2, (-belly + 0.05) * up, (-belly - leg) * up, rng.uniform(0.12, 0.2), foot)
    azimuth, thick = rng.uniform(0, 2 * np.pi), rng.uniform(0.11, 0.14)
    for turn in range(int(rng.integers(1, 4))):
        angle = azimuth + turn * 2 * np.pi / 3 + rng.uniform(-0.3, 0.3)
        out = np.array([np.cos(angle), np.sin(angle), 0])
        start = rng.uniform(0.2, 0.8) * height * up + 0.95 * belly * min(slope, 1) * out
        if rng.random() < 0.5:
            goal = (top + rng.uniform(0.5, 0.9) * stem) * up + neck * out
        else:
            goal = (height + 0.5 * belly * slope) * up + 0.8 * belly * slope * out
        points = _ring(rng, start, goal, rng.uniform(0.3, 0.5), angle)
        shape.add_chain(3, points, np.full(6, thick))
    return shape


def _lamp(rng: np.random.Generator) -> Shape:
    shape = Shape(blend=0.025)
    azimuth = rng.uniform(0, 2 * np.pi)
    wide = rng.uniform(0.3, 0.55)
    if rng.random() < 0.5:
        ring = np.linspace(0, 2 * np.pi, 9)
        circle = wide * np.stack([np.cos(ring), np.sin(ring), 0 * ring], axis=1)
        shape.add_chain(0, circle, np.full(9, 0.12))
        shape.add(0, -0.6 * circle[0], 0.6 * circle[0], 0.14, 0.14)
        shape.add(0, -0.6 * circle[2], 0.6 * circle[2], 0.14, 0.14)
    else:
        for turn in range(3):
            foot = 1.2 * wide * _direction(azimuth + turn * 2 * np.pi / 3, -0.3)
            shape.add(0, np.zeros(3), foot, 0.14, 0.1)
    thick = rng.uniform(0.09, 0.13)
    joints, elevation = [np.array([0, 0, 0.1])], rng.uniform(1.0, 1.9)
    for _ in range(int(rng.integers(2, 4))):
        joints.append(joints[-1] + rng.uniform(0.45, 0.8) * _direction(azimuth, elevation))
        elevation -= rng.uniform(0.2, 1.1)
    shape.add_chain(1, np.array(joints), np.full(len(joints), thick))
    tilt = _direction(azimuth + rng.uniform(-0.4, 0.4), elevation - rng.uniform(0, 0.5))
    tip, depth = joints[-1], rng.uniform(0.35, 0.6)
    shape.add(2, tip + 0.05 * tilt, tip + depth * tilt, rng.uniform(0.13, 0.2), depth * 0.85)
    glow = tip + (depth * 1.85 + rng.uniform(0.0, 0.1)) * tilt
    shape.add(3, glow, glow + rng.uniform(0.02, 0.2) * tilt, 0.15, rng.uniform(0.12, 0.2))
    return shape


_MAKERS: dict[str, Callable[[np.random.Generator], Shape]] = {
    "creature": _creature,
    "vase": _vase,
    "lamp": _lamp,
}
