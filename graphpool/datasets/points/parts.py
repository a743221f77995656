"""Generated objects whose points carry part labels: segmentation without a download."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch_geometric.data import Data

from graphpool._arguments import check_one_of
from graphpool.datasets.generated import SPLITS
from graphpool.datasets.points.clouds import PointClouds
from graphpool.datasets.points.shapes import random_tilt, unit_ball
from graphpool.datasets.surfaces import (
    Array,
    Surface,
    box,
    double_areas,
    prism,
    regular_polygon,
    revolve,
    rod,
    sample_surface,
    tube,
)

Rng = np.random.Generator
Parts = list[tuple[str, Surface]]


def _table(rng: Rng) -> Parts:
    x, y, h = rng.uniform(0.6, 1.0), rng.uniform(0.4, 1.0), rng.uniform(0.5, 1.0)
    thick, leg = rng.uniform(0.05, 0.15), rng.uniform(0.03, 0.08)
    parts: Parts = [("top", box(np.array([2 * x, 2 * y, thick]), np.array([0, 0, h])))]
    for sx in (-1, 1):
        for sy in (-1, 1):
            foot = np.array([sx * 0.85 * x, sy * 0.85 * y, 0])
            parts.append(("leg", rod(foot, foot + [0, 0, h], leg)))
    return parts


def _lamp(rng: Rng) -> Parts:
    h, r = rng.uniform(0.8, 1.4), rng.uniform(0.3, 0.5)
    low, high = r * rng.uniform(0.8, 1.3), r * rng.uniform(0.3, 0.7)
    return [
        ("base", revolve(np.array([[0, 0], [r, 0], [r, 0.08], [0, 0.1]]))),
        ("pole", rod(np.array([0, 0, 0.1]), np.array([0, 0, h]), rng.uniform(0.02, 0.06))),
        ("shade", revolve(np.array([[low, h - 0.1], [high, h + rng.uniform(0.3, 0.5)]]))),
    ]


def _mug(rng: Rng) -> Parts:
    r, h = rng.uniform(0.4, 0.6), rng.uniform(0.4, 0.8)
    t = np.linspace(-np.pi / 2, np.pi / 2, 20)
    reach = rng.uniform(0.25, 0.45)
    curve = np.stack([r + reach * np.cos(t), 0 * t, 0.6 * h * np.sin(t)], 1)
    return [
        ("body", revolve(np.array([[0, -h], [r, -h], [r, h]]))),
        ("handle", tube(curve, rng.uniform(0.04, 0.09))),
    ]


def _rocket(rng: Rng) -> Parts:
    r, h = rng.uniform(0.15, 0.3), rng.uniform(0.7, 1.1)
    fin, count = rng.uniform(0.25, 0.45), int(rng.integers(3, 5))
    parts: Parts = [
        ("hull", revolve(np.array([[0, -h], [r, -h], [r, h]]))),
        ("nose", revolve(np.array([[r, h], [0.7 * r, h + 0.25], [0, h + rng.uniform(0.4, 0.6)]]))),
    ]
    for i in range(count):
        angle = 2 * np.pi * i / count
        out = np.array([np.cos(angle), np.sin(angle), 0])
        corners = np.stack([
            r * out - [0, 0, h], (r + fin) * out - [0, 0, h + 0.1], r * out - [0, 0, h - 2 * fin]
        ])  # fmt: skip
        parts.append(("fin", (corners, np.array([[0, 1, 2]]))))
    return parts


def _hammer(rng: Rng) -> Parts:
    length, head = rng.uniform(1.0, 1.6), rng.uniform(0.3, 0.5)
    size = np.array([2 * head, rng.uniform(0.15, 0.3), rng.uniform(0.15, 0.3)])
    tip = np.array([0, 0, length])
    return [
        ("handle", rod(np.zeros(3), tip, rng.uniform(0.05, 0.1))),
        ("head", box(size, tip)),
    ]


def _tree(rng: Rng) -> Parts:
    h = rng.uniform(0.5, 0.9)
    crown = prism(regular_polygon(8, rng.uniform(0.4, 0.7)), h, h + rng.uniform(0.8, 1.2), 0.05)
    pot = rng.uniform(0.15, 0.3)
    return [
        ("pot", revolve(np.array([[0, -0.3], [0.7 * pot, -0.3], [pot, 0]]))),
        ("trunk", rod(np.array([0, 0, -0.1]), np.array([0, 0, h]), rng.uniform(0.04, 0.08))),
        ("crown", crown),
    ]


#: Category to the builder of a random object: its parts, in the order in which they get labels.
OBJECTS: dict[str, Callable[[Rng], Parts]] = {
    "table": _table,
    "lamp": _lamp,
    "mug": _mug,
    "rocket": _rocket,
    "hammer": _hammer,
    "tree": _tree,
}

#: Names of the parts of each category; labels count through all of them.
PARTS: dict[str, tuple[str, ...]] = {
    "table": ("top", "leg"),
    "lamp": ("base", "pole", "shade"),
    "mug": ("body", "handle"),
    "rocket": ("hull", "nose", "fin"),
    "hammer": ("handle", "head"),
    "tree": ("pot", "trunk", "crown"),
}


class GeneratedParts(PointClouds):
    """Objects of six categories with fifteen parts; ``y`` is the part of each point, ``category`` the object.

    Points are uniform by area on the union of the parts, except that no part gets less than ``least`` of
    them. Clouds are centred and scaled into the unit ball.

    Args:
        per_category: Clouds per category.
        num_points: Points per cloud.
        split: ``"train"``, ``"val"`` or ``"test"``.
        noise: Standard deviation of the noise on every coordinate, before scaling.
        tilt: Largest angle, in degrees, between the object's axis and z; the turn about z is arbitrary.
        least: Smallest fraction of the points on each part, in [0, 0.2].
        seed: Seed of the generator.
        transform: Applied to each cloud when it is read.

    Attributes:
        classes: Names of the categories.
        parts: Names of the parts, ``"category/part"``.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> objects = GeneratedParts(per_category=1, num_points=128)
        >>> objects[2], objects.classes[int(objects[2].category)], len(objects.parts)
        (Data(y=[128], pos=[128, 3], category=[1]), 'mug', 15)
    """

    def __init__(
        self,
        per_category: int = 40,
        num_points: int = 1024,
        split: str = "train",
        noise: float = 0.01,
        tilt: float = 10.0,
        least: float = 0.05,
        seed: int = 0,
        transform: Callable[[Data], Data] | None = None,
    ) -> None:
        check_one_of(split, "split", SPLITS)
        if per_category < 1 or num_points < 32:
            raise ValueError(
                f"`per_category` must be >= 1 and `num_points` >= 32; got {per_category} and "
                f"{num_points}."
            )
        if not noise >= 0 or not 0 <= least <= 0.2:
            raise ValueError(
                f"`noise` must be >= 0 and `least` in [0, 0.2]; got {noise} and {least}."
            )
        self.parts = [f"{name}/{part}" for name, parts in PARTS.items() for part in parts]
        rng = np.random.default_rng([seed, SPLITS.index(split), 1])
        clouds, labels = [], []
        for name, build in OBJECTS.items():
            for _ in range(per_category):
                points, part = _sample(build(rng), num_points, least, rng)
                points = points @ random_tilt(rng, tilt).T
                points = points + noise * rng.normal(size=points.shape)
                order = rng.permutation(num_points)
                clouds.append(torch.from_numpy(unit_ball(points[order])))
                label = [self.parts.index(f"{name}/{p}") for p in part[order]]
                labels.append(torch.tensor(label))
        category = torch.arange(len(OBJECTS)).repeat_interleave(per_category)
        super().__init__(clouds, labels, list(OBJECTS), transform, category=category)


def _sample(parts: Parts, count: int, least: float, rng: Rng) -> tuple[Array, np.ndarray]:
    names = sorted({name for name, _ in parts})
    points, _ = zip(
        *(sample_surface(*_merge(parts, name), count, rng) for name in names), strict=True
    )
    area = np.array([double_areas(_merge(parts, name)).sum() for name in names])
    share = np.maximum(area / area.sum(), least)
    number = np.floor(share / share.sum() * count).astype(int)
    number[number.argmax()] += count - number.sum()
    chosen = [p[:n] for p, n in zip(points, number, strict=True)]
    return np.concatenate(chosen), np.repeat(names, number)


def _merge(parts: Parts, name: str) -> Surface:
    vertices, faces, offset = [], [], 0
    for part, (v, f) in parts:
        if part == name:
            vertices.append(v)
            faces.append(f + offset)
            offset += len(v)
    return np.concatenate(vertices), np.concatenate(faces)
