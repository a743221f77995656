"""Closed triangle meshes from signed distances, by surface nets (Gibson, 1998), without a loop."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.sparse import coo_matrix

from graphpool.mesh.repair.orientation import components

_Distance = Callable[[np.ndarray], np.ndarray]
_UNIT = np.eye(3, dtype=int)
# The place of a cell around a grid edge: cells (0, 0), (-1, 0), (-1, -1), (0, -1) in the two other axes.
_AROUND = np.array([[0, 3], [1, 2]])


def surface_net(
    distance: _Distance,
    low: np.ndarray,
    high: np.ndarray,
    spacing: float,
    smoothing: int = 4,
) -> tuple[np.ndarray, np.ndarray]:
    """A mesh of the surface where ``distance`` is zero, oriented outwards.

    Every cell of a regular grid gets one vertex for each sheet of the surface in it (Nielson's dual
    marching cubes, 2004); every grid edge that the surface crosses gets a quadrilateral of the four
    cells around, cut along its shorter diagonal. Vertices are then moved towards the mean of their
    neighbours and back onto the surface, in turn.

    Args:
        distance: From points ``[N, 3]`` to signed distances ``[N]``, negative inside.
        low, high: Corners of a box that holds the surface.
        spacing: Width of the cells.
        smoothing: Number of rounds of smoothing.

    Returns:
        ``vertices`` ``[V, 3]`` and ``faces`` ``[F, 3]``. Where two sheets come closer than a cell the
        result may not be manifold: see :func:`is_closed_manifold`.

    Raises:
        ValueError: The surface leaves the box.
    """
    low = np.asarray(low, dtype=np.float64) - spacing
    counts = np.ceil((np.asarray(high) + spacing - low) / spacing).astype(int) + 1
    axes = [low[i] + spacing * np.arange(counts[i]) for i in range(3)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    value = distance(points.reshape(-1, 3)).reshape(points.shape[:3])
    inside = value < 0
    shell = np.ones_like(inside)
    shell[1:-1, 1:-1, 1:-1] = False
    if (inside & shell).any():
        raise ValueError("The surface leaves the box [low, high]; give it more room.")

    # Crossings are numbered axis by axis; crossing n lies in four cells: nodes 4 n, ..., 4 n + 3.
    number = np.full((3, *inside.shape), -1)
    where, quads, count = [], [], 0
    for axis in range(3):
        ahead = np.roll(inside, -1, axis=axis)
        grid = np.argwhere(inside != ahead)
        step = _UNIT[axis]
        a, b = value[tuple(grid.T)], value[tuple((grid + step).T)]
        where.append(low + spacing * (grid + (a / (a - b))[:, None] * step))
        number[axis][tuple(grid.T)] = count + np.arange(len(grid))
        nodes = 4 * (count + np.arange(len(grid)))[:, None] + np.arange(4)
        # The cells go around counterclockwise, as seen against the axis.
        quads.append(np.where(inside[tuple(grid.T)][:, None], nodes, nodes[:, ::-1]))
        count += len(grid)
    links = np.concatenate([_links(inside, number, axis) for axis in range(3)])
    vertex_of = components(links[:, 0], links[:, 1], 4 * count)
    size = int(vertex_of.max(initial=-1)) + 1
    owners = np.repeat(np.concatenate(where), 4, axis=0)
    members = np.bincount(vertex_of, minlength=size)
    vertices = np.stack(
        [np.bincount(vertex_of, owners[:, i], minlength=size) / members for i in range(3)], axis=1
    )
    quad = vertex_of[np.concatenate(quads)]

    p = vertices[quad]
    other = np.linalg.norm(p[:, 1] - p[:, 3], axis=1) < np.linalg.norm(p[:, 0] - p[:, 2], axis=1)
    quad = np.where(other[:, None], np.roll(quad, -1, axis=1), quad)
    faces = np.concatenate([quad[:, [0, 1, 2]], quad[:, [0, 2, 3]]])
    faces = faces[np.argsort(faces.min(1), kind="stable")]
    return _relax(distance, vertices, faces, spacing, smoothing), faces


def _links(inside: np.ndarray, number: np.ndarray, normal: int) -> np.ndarray:
    """Which nodes the surface joins across the squares of the grid with this normal.

    In a square with four crossings the two inside corners are cut off from each other, in both cells
    alike, so that every cell gets one vertex per sheet of the surface.
    """
    b, c = (normal + 1) % 3, (normal + 2) % 3
    corner = [
        inside,
        np.roll(inside, -1, axis=b),
        np.roll(inside, (-1, -1), axis=(b, c)),
        np.roll(inside, -1, axis=c),
    ]
    changes = sum((corner[i] != corner[(i + 1) % 4]).astype(int) for i in range(4))
    two, four = np.argwhere(changes == 2), np.argwhere(changes == 4)
    edges = [(b, 0 * _UNIT[b]), (c, _UNIT[b]), (b, _UNIT[c]), (c, 0 * _UNIT[c])]

    def node(square: np.ndarray, edge: int, side: int) -> np.ndarray:
        axis, shift = edges[edge]
        base = square + shift
        offset = shift + side * _UNIT[normal]
        place = _AROUND[offset[(axis + 1) % 3], offset[(axis + 2) % 3]]
        crossing = number[axis][tuple(base.T)]
        return np.where(crossing >= 0, 4 * crossing + place, -1)

    found = []
    for side in (0, 1):
        all_four = np.sort(np.stack([node(two, edge, side) for edge in range(4)], axis=1), axis=1)
        found.append(all_four[:, 2:])
        first = inside[tuple(four.T)]
        for pairs, chosen in (((3, 0, 1, 2), first), ((0, 1, 2, 3), ~first)):
            squares = four[chosen]
            ends = [node(squares, edge, side) for edge in pairs]
            found += [np.stack(ends[:2], axis=1), np.stack(ends[2:], axis=1)]
    return np.concatenate(found)


def _relax(
    distance: _Distance, vertices: np.ndarray, faces: np.ndarray, spacing: float, rounds: int
) -> np.ndarray:
    start, stop = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    size = len(vertices)
    adjacency = coo_matrix((np.ones(len(start)), (start, stop)), shape=(size, size)).tocsr()
    degree = np.bincount(start, minlength=size).clip(min=1)[:, None]
    for _ in range(rounds):
        moved = vertices + 0.5 * (adjacency @ vertices / degree - vertices)
        vertices = _project(distance, moved, spacing)
    return vertices


def _project(distance: _Distance, points: np.ndarray, spacing: float) -> np.ndarray:
    """One damped Newton step along the gradient onto the zero set."""
    step = 1e-3 * spacing
    offsets = step * np.eye(3)
    ends = np.concatenate([points[None] + s * offsets[:, None] for s in (1, -1)]).reshape(-1, 3)
    values = distance(np.concatenate([points, ends]))
    value, plus, minus = (
        values[: len(points)],
        values[len(points) : 4 * len(points)].reshape(3, -1),
        values[4 * len(points) :].reshape(3, -1),
    )
    gradient = ((plus - minus) / (2 * step)).T
    square = np.maximum((gradient**2).sum(1), 1e-2)
    move = (value / square)[:, None] * gradient
    length = np.linalg.norm(move, axis=1, keepdims=True)
    return points - move * np.minimum(1.0, 0.5 * spacing / np.maximum(length, 1e-12))


def is_closed_manifold(faces: np.ndarray, num_vertices: int, connected: bool = True) -> bool:
    """Whether every edge has two faces of opposite direction and every vertex a single fan of faces.

    Args:
        faces: ``[F, 3]``.
        num_vertices: Number of vertices; all of them must be in use.
        connected: Whether the mesh must also be in one piece.
    """
    start, stop = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    forward, backward = start * num_vertices + stop, stop * num_vertices + start
    order, back = np.argsort(forward), np.argsort(backward)
    if (np.diff(forward[order]) == 0).any() or not np.array_equal(forward[order], backward[back]):
        return False
    twin = np.empty_like(order)
    twin[order] = back
    # Corner c of a face is where half-edge c starts; its neighbour in the fan starts half-edge
    # next(twin(c)).
    following = twin - twin % 3 + (twin + 1) % 3
    fans = components(np.arange(len(start)), following, len(start))
    if fans.max(initial=-1) + 1 != num_vertices:
        return False
    return not connected or not components(start, stop, num_vertices).any()
