"""Triangle surfaces built from profiles, curves and polygons, and points drawn from them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from graphpool.mesh.shapes import cross_of

Array = NDArray[np.float64]
Surface = tuple[Array, NDArray[np.int64]]


def sample_surface(
    vertices: Array, faces: NDArray[np.int64], count: int, rng: np.random.Generator
) -> tuple[Array, NDArray[np.int64]]:
    """Points uniform by area on a triangle mesh, and the face each lies on.

    Args:
        vertices: ``[V, 3]``.
        faces: ``[F, 3]``.
        count: Number of points.
        rng: Source of randomness.

    Raises:
        ValueError: The mesh has no area.

    Example:
        >>> corners = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
        >>> points, face = sample_surface(corners, np.array([[0, 1, 2]]), 5, np.random.default_rng(0))
        >>> bool((points[:, :2].sum(1) <= 1).all()), face.tolist()
        (True, [0, 0, 0, 0, 0])
    """
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    area = double_areas((vertices, faces))
    total = area.sum()
    if not (np.isfinite(total) and total > 0):
        raise ValueError(
            f"`faces`: the mesh of {len(faces)} faces has no finite positive area; got {total}."
        )
    face = rng.choice(len(faces), size=count, p=area / total)
    u, v = rng.random((2, count, 1))
    outside = u + v > 1
    u, v = np.where(outside, 1 - u, u), np.where(outside, 1 - v, v)
    return a[face] + u * (b - a)[face] + v * (c - a)[face], face


def double_areas(surface: Surface) -> Array:
    """Twice the area of each triangle ``[F]``."""
    vertices, faces = surface
    return np.linalg.norm(cross_of(vertices[faces]), axis=1)


def grid(f: Callable[[Array, Array], Array], nu: int = 32, nv: int = 16) -> Surface:
    """The surface ``f(u, v)`` over the unit square."""
    u, v = np.meshgrid(np.linspace(0, 1, nu + 1), np.linspace(0, 1, nv + 1), indexing="ij")
    corner = np.arange(nu)[:, None] * (nv + 1) + np.arange(nv)
    corner = corner.ravel()
    one = np.stack([corner, corner + nv + 1, corner + 1], 1)
    two = np.stack([corner + 1, corner + nv + 1, corner + nv + 2], 1)
    return f(u, v).reshape(-1, 3), np.concatenate([one, two])


def revolve(profile: Array, sides: int = 32) -> Surface:
    """A polyline of ``(radius, height)`` turned about the z axis."""
    steps = np.arange(len(profile)) / (len(profile) - 1)

    def point(u: Array, v: Array) -> Array:
        r, z = np.interp(v, steps, profile[:, 0]), np.interp(v, steps, profile[:, 1])
        return np.stack([r * np.cos(2 * np.pi * u), r * np.sin(2 * np.pi * u), z], -1)

    return grid(point, sides, len(profile) - 1)


def tube(curve: Array, radius: float, sides: int = 10) -> Surface:
    """A tube around a polyline ``[n, 3]``."""
    tangent = np.gradient(curve, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    # Any direction that is nowhere parallel to the curve gives a frame; the least aligned axis is.
    reference = np.eye(3)[np.abs(tangent).max(0).argmin()]
    normal = np.cross(tangent, reference)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    binormal = np.cross(tangent, normal)
    steps = np.arange(len(curve)) / (len(curve) - 1)

    def at(values: Array, u: Array) -> Array:
        return np.stack([np.interp(u, steps, values[:, i]) for i in range(3)], -1)

    def point(u: Array, v: Array) -> Array:
        angle = 2 * np.pi * v[..., None]
        ring = np.cos(angle) * at(normal, u) + np.sin(angle) * at(binormal, u)
        return at(curve, u) + radius * ring

    return grid(point, len(curve) - 1, sides)


def prism(polygon: Array, low: float, high: float, taper: float = 1.0) -> Surface:
    """A star-shaped polygon ``[n, 2]`` from height ``low`` to ``high``, scaled by ``taper`` on top."""
    n = len(polygon)
    bottom = np.column_stack([polygon, np.full(n, low)])
    top = np.column_stack([polygon * taper, np.full(n, high)])
    centres = np.array([[0.0, 0.0, low], [0.0, 0.0, high]])
    i = np.arange(n)
    j = (i + 1) % n
    walls = np.concatenate([np.stack([i, j, n + i], 1), np.stack([j, n + j, n + i], 1)])
    floor = np.stack([np.full(n, 2 * n), j, i], 1)
    roof = np.stack([np.full(n, 2 * n + 1), n + i, n + j], 1)
    return np.concatenate([bottom, top, centres]), np.concatenate([walls, floor, roof])


def regular_polygon(sides: int, radius: float = 1.0) -> Array:
    """Corners ``[sides, 2]`` on a circle."""
    angle = 2 * np.pi * (np.arange(sides) + 0.5) / sides
    return radius * np.stack([np.cos(angle), np.sin(angle)], 1)


def box(size: Array, centre: Array) -> Surface:
    """A box with these edge lengths around ``centre``."""
    half = np.asarray(size, dtype=float) / 2
    square = np.array([[1.0, 1], [-1, 1], [-1, -1], [1, -1]]) * half[:2]
    vertices, faces = prism(square, -half[2], half[2])
    return vertices + np.asarray(centre, dtype=float), faces


def rod(a: Array, b: Array, radius: float) -> Surface:
    """A cylinder without caps from ``a`` to ``b``."""
    return tube(np.linspace(a, b, 4), radius)
