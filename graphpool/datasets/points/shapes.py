"""Generated point clouds of surfaces in many classes: classification without a download."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch_geometric.data import Data

from graphpool._arguments import check_one_of
from graphpool.datasets.generated import SPLITS
from graphpool.datasets.points.clouds import PointClouds
from graphpool.datasets.surfaces import (
    Array,
    Surface,
    box,
    grid,
    prism,
    regular_polygon,
    revolve,
    sample_surface,
    tube,
)

Rng = np.random.Generator


def _arc(first: float, last: float, count: int = 13) -> Array:
    return np.linspace(first, last, count)


def _ellipsoid(rng: Rng) -> Surface:
    t = _arc(-np.pi / 2, np.pi / 2)
    vertices, faces = revolve(np.stack([np.cos(t), np.sin(t)], 1))
    return vertices * rng.uniform(0.5, 1.0, 3), faces


def _box(rng: Rng) -> Surface:
    return box(rng.uniform(0.5, 2.0, 3), np.zeros(3))


def _cylinder(rng: Rng) -> Surface:
    r, h = rng.uniform(0.3, 0.9), rng.uniform(0.6, 1.4)
    return revolve(np.array([[0, -h], [r, -h], [r, h], [0, h]]))


def _cone(rng: Rng) -> Surface:
    r, h = rng.uniform(0.4, 1.0), rng.uniform(0.7, 1.3)
    return revolve(np.array([[0, -h], [r, -h], [0, h]]))


def _torus(rng: Rng) -> Surface:
    r, flat = rng.uniform(0.15, 0.45), rng.uniform(0.6, 1.4)
    t = _arc(0, 2 * np.pi, 17)
    return revolve(np.stack([1 + r * np.cos(t), flat * r * np.sin(t)], 1))


def _capsule(rng: Rng) -> Surface:
    r, h = rng.uniform(0.25, 0.5), rng.uniform(0.5, 1.0)
    t = _arc(-np.pi / 2, 0, 7)
    low = np.stack([r * np.cos(t), r * np.sin(t) - h], 1)
    return revolve(np.concatenate([low, (low * [1, -1])[::-1]]))


def _bowl(rng: Rng) -> Surface:
    t = _arc(-np.pi / 2, rng.uniform(-0.6, 0.1))
    vertices, faces = revolve(np.stack([np.cos(t), np.sin(t)], 1))
    return vertices * [1, 1, rng.uniform(0.6, 1.1)], faces


def _pipe(rng: Rng) -> Surface:
    r, h, wall = rng.uniform(0.4, 0.8), rng.uniform(0.4, 1.2), rng.uniform(0.6, 0.85)
    return revolve(np.array([[wall * r, -h], [r, -h], [r, h], [wall * r, h], [wall * r, -h]]))


def _spring(rng: Rng) -> Surface:
    turns, height = rng.uniform(2.0, 4.0), rng.uniform(0.7, 1.3)
    t = np.linspace(0, 2 * np.pi * turns, 100)
    curve = np.stack([np.cos(t), np.sin(t), height * (t / t[-1] * 2 - 1)], 1)
    return tube(curve * [0.7, 0.7, 1], rng.uniform(0.06, 0.14))


def _knot(rng: Rng) -> Surface:
    t = np.linspace(0, 2 * np.pi, 120)
    curve = np.stack(
        [np.sin(t) + 2 * np.sin(2 * t), np.cos(t) - 2 * np.cos(2 * t), -np.sin(3 * t)], 1
    )
    return tube(curve / 3 * [1, 1, rng.uniform(0.8, 1.8)], rng.uniform(0.07, 0.16))


def _moebius(rng: Rng) -> Surface:
    width, turns = rng.uniform(0.25, 0.5), rng.choice([0.5, 1.5])

    def point(u: Array, v: Array) -> Array:
        angle, s = 2 * np.pi * u, width * (2 * v - 1)
        r = 1 + s * np.cos(turns * angle)
        return np.stack([r * np.cos(angle), r * np.sin(angle), s * np.sin(turns * angle)], -1)

    return grid(point, 48, 6)


def _saddle(rng: Rng) -> Surface:
    bend = rng.uniform(0.5, 1.0, 2)

    def point(u: Array, v: Array) -> Array:
        x, y = 2 * u - 1, 2 * v - 1
        return np.stack([x, y, bend[0] * x * x - bend[1] * y * y], -1)

    return grid(point, 16, 16)


def _wave(rng: Rng) -> Surface:
    depth, waves = rng.uniform(0.15, 0.35), rng.uniform(1.5, 3.0)

    def point(u: Array, v: Array) -> Array:
        x, y = 2 * u - 1, (2 * v - 1) * 0.8
        return np.stack([x, y, depth * np.sin(np.pi * waves * x)], -1)

    return grid(point, 40, 8)


def _pyramid(rng: Rng) -> Surface:
    return prism(regular_polygon(4) * rng.uniform(0.6, 1.0, 2), -0.6, rng.uniform(0.4, 1.2), 0.0)


def _star(rng: Rng) -> Surface:
    points = int(rng.integers(5, 8))
    corners = regular_polygon(2 * points)
    corners[::2] *= rng.uniform(0.35, 0.6)
    return prism(corners, -0.25, rng.uniform(0.0, 0.4))


def _cross(rng: Rng) -> Surface:
    arm, thick = rng.uniform(0.2, 0.4), rng.uniform(0.2, 0.5)
    a = arm
    corners = [(1, a), (a, a), (a, 1), (-a, 1), (-a, a), (-1, a),
               (-1, -a), (-a, -a), (-a, -1), (a, -1), (a, -a), (1, -a)]  # fmt: skip
    return prism(np.array(corners, dtype=float), -thick / 2, thick / 2)


def _hourglass(rng: Rng) -> Surface:
    z = np.linspace(-1, 1, 15)
    waist = rng.uniform(0.1, 0.3)
    return revolve(np.stack([waist + (rng.uniform(0.6, 0.9) - waist) * z * z, z], 1))


#: Class name to the builder of a random surface of that class.
SHAPES: dict[str, Callable[[Rng], Surface]] = {
    "ellipsoid": _ellipsoid,
    "box": _box,
    "cylinder": _cylinder,
    "cone": _cone,
    "torus": _torus,
    "capsule": _capsule,
    "bowl": _bowl,
    "pipe": _pipe,
    "spring": _spring,
    "knot": _knot,
    "moebius": _moebius,
    "saddle": _saddle,
    "wave": _wave,
    "pyramid": _pyramid,
    "star": _star,
    "cross": _cross,
    "hourglass": _hourglass,
}


class GeneratedShapes(PointClouds):
    """Points on surfaces of 17 classes, with random proportions, tilt, noise and missing parts.

    Every cloud is centred and scaled into the unit ball. Clouds of different splits are drawn
    independently. The shape itself varies, not only the points on it, so that a classifier cannot
    succeed by remembering one instance.

    Args:
        per_class: Clouds per class.
        num_points: Points per cloud.
        split: ``"train"``, ``"val"`` or ``"test"``.
        classes: Names of the classes to draw, from ``SHAPES``; all if ``None``.
        noise: Standard deviation of the noise on every coordinate, before scaling (shapes have about unit
            radius).
        tilt: Largest angle, in degrees, between the shape's axis and z; the turn about z is arbitrary.
        partial: Largest fraction of the surface that is missing beyond a random plane, in [0, 1).
        seed: Seed of the generator.
        transform: Applied to each cloud when it is read.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> shapes = GeneratedShapes(per_class=2, num_points=64)
        >>> len(shapes), shapes[0], shapes.classes[int(shapes[5].y)]
        (34, Data(y=[1], pos=[64, 3]), 'cylinder')
    """

    def __init__(
        self,
        per_class: int = 40,
        num_points: int = 1024,
        split: str = "train",
        classes: list[str] | None = None,
        noise: float = 0.02,
        tilt: float = 30.0,
        partial: float = 0.3,
        seed: int = 0,
        transform: Callable[[Data], Data] | None = None,
    ) -> None:
        check_one_of(split, "split", SPLITS)
        if per_class < 1 or num_points < 1:
            raise ValueError(
                f"`per_class` and `num_points` must be >= 1; got {per_class} and {num_points}."
            )
        if not noise >= 0 or not 0 <= partial < 1:
            raise ValueError(
                f"`noise` must be >= 0 and `partial` in [0, 1); got {noise} and {partial}."
            )
        names = list(SHAPES) if classes is None else list(classes)
        unknown = sorted(set(names) - set(SHAPES))
        if unknown or not names:
            raise ValueError(f"`classes` must be from {', '.join(SHAPES)}; got {names}.")
        rng = np.random.default_rng([seed, SPLITS.index(split)])
        clouds = []
        for name in names:
            for _ in range(per_class):
                vertices, faces = SHAPES[name](rng)
                points, _ = sample_surface(vertices, faces, 2 * num_points, rng)
                points = points @ random_tilt(rng, tilt).T
                points = cut(points, rng.uniform(0, partial), num_points, rng)
                clouds.append(
                    torch.from_numpy(unit_ball(points + noise * rng.normal(size=points.shape)))
                )
        labels = torch.arange(len(names)).repeat_interleave(per_class)
        super().__init__(clouds, labels, names, transform)


def random_tilt(rng: Rng, degrees: float) -> Array:
    """A rotation by any angle about z, then by up to ``degrees`` about a horizontal axis."""
    turn, axis = rng.uniform(0, 2 * np.pi, 2)
    tilt = np.radians(rng.uniform(0, degrees))
    return _about_z(axis) @ _about_x(tilt) @ _about_z(turn - axis)


def _about_z(t: float) -> Array:
    return np.array([[np.cos(t), -np.sin(t), 0], [np.sin(t), np.cos(t), 0], [0, 0, 1.0]])


def _about_x(t: float) -> Array:
    return np.array([[1.0, 0, 0], [0, np.cos(t), -np.sin(t)], [0, np.sin(t), np.cos(t)]])


def cut(points: Array, fraction: float, count: int, rng: Rng) -> Array:
    """``count`` of the points on one side of a random plane that leaves out ``fraction`` of them."""
    direction = rng.normal(size=3)
    kept = np.argsort(points @ direction)[: max(int(len(points) * (1 - fraction)), count)]
    return points[rng.permutation(kept)[:count]]


def unit_ball(points: Array) -> NDArray[np.float32]:
    """Centred, with the farthest point at distance 1, in float32."""
    points = points - points.mean(0)
    radius = np.linalg.norm(points, axis=1).max()
    return (points / (radius or 1.0)).astype(np.float32)
