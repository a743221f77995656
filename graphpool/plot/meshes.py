"""Pictures of meshes: matplotlib, without a display."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphpool._optional import require
from graphpool.io import write_mesh
from graphpool.mesh.shapes import cross_of
from graphpool.plot.colors import GRAY, camera, label_colors, upright
from graphpool.plot.legends import legend, scale_bar, shown_labels


def face_colors(
    values: np.ndarray | Tensor | Sequence[Any],
    cmap: str | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    num_classes: int | None = None,
) -> np.ndarray:
    """Colours ``[F, 3]`` in ``[0, 1]`` for one value per face, or per point.

    Args:
        values: Integers (labels, predictions, cluster ids) have the colours of
            :func:`graphpool.plot.label_colors`: a label always has the same one, and negative ones are
            gray; booleans (errors) are red where true and gray elsewhere; floats (attention) take a
            continuous map.
        cmap: A matplotlib map instead; for floats it is ``"viridis"`` by default.
        vmin, vmax: Ends of the continuous map; the smallest and largest value by default.
        num_classes: The number of labels; others are an error.

    Raises:
        ValueError: The shape is wrong, or a label is not below ``num_classes``.
    """
    data = _to_numpy(values)
    if data.ndim != 1:
        raise ValueError(f"`values` must have one value per face; got shape {data.shape}.")
    if data.dtype == bool:
        return np.where(data[:, None], (0.84, 0.15, 0.16), GRAY)
    if np.issubdtype(data.dtype, np.integer):
        return label_colors(data, num_classes, cmap)
    maps = require("matplotlib", purpose="colouring meshes").colormaps
    finite = data[np.isfinite(data)]
    low = vmin if vmin is not None else (finite.min() if finite.size else 0.0)
    high = vmax if vmax is not None else (finite.max() if finite.size else 1.0)
    return np.asarray(maps[cmap or "viridis"]((data - low) / max(high - low, 1e-12)))[:, :3]


def cluster_colors(
    clusters: np.ndarray | Tensor, faces: np.ndarray | Tensor | None = None
) -> np.ndarray:
    """A pale colour for each cluster ``[F, 3]``; with ``faces``, another one than that of its neighbours.

    Few tints that come again: an outline tells clusters apart, ``mesh(..., clusters=)``.

    Args:
        clusters: The cluster of each face ``[F]``.
        faces: ``[F, 3]``, where neighbouring clusters shall differ.

    Example:
        >>> colors = cluster_colors([0, 0, 1], [[0, 1, 2], [1, 2, 3], [2, 3, 4]])
        >>> bool((colors[0] == colors[1]).all()), bool((colors[1] == colors[2]).all())
        (True, False)
    """
    ids = np.unique(_to_numpy(clusters), return_inverse=True)[1].reshape(-1)
    tint = np.arange(int(ids.max()) + 1 if ids.size else 0)
    if faces is not None:
        _, sides = _borders(_to_numpy(faces).astype(int), ids)
        pairs = np.unique(np.sort(ids[sides], axis=1), axis=0)
        both = np.concatenate([pairs, pairs[:, ::-1]])
        both = both[both[:, 0].argsort(kind="stable")]
        ends = np.searchsorted(both[:, 0], np.arange(len(tint) + 1))
        tint = np.full(len(tint), -1)
        for cluster in range(len(tint)):
            taken = set(tint[both[ends[cluster] : ends[cluster + 1], 1]])
            tint[cluster] = next(i for i in range(len(tint)) if i not in taken)
    pale = label_colors(np.arange(8))
    return (0.45 + 0.55 * pale)[tint % len(pale)][ids]


def _borders(corners: np.ndarray, clusters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges between two faces of different clusters: their ends ``[B, 2]`` and these faces ``[B, 2]``."""
    ends = np.sort(corners[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    face = np.repeat(np.arange(len(corners)), 3)
    order = np.lexsort((ends[:, 1], ends[:, 0]))
    ends, face = ends[order], face[order]
    met = (ends[1:] == ends[:-1]).all(1) & (clusters[face[1:]] != clusters[face[:-1]])
    return ends[1:][met], np.stack([face[:-1][met], face[1:][met]], 1)


def mesh(
    vertices: np.ndarray | Tensor,
    faces: np.ndarray | Tensor,
    colors: np.ndarray | Tensor | Sequence[Any] | None = None,
    *,
    ax: Any = None,
    view: tuple[float, float] = (20.0, -60.0),
    edges: bool = False,
    title: str | None = None,
    cmap: str | None = None,
    num_classes: int | None = None,
    clusters: np.ndarray | Tensor | None = None,
    up: str = "z",
) -> Any:
    """Draws a mesh, seen from far away and lit from the camera's upper left.

    Args:
        vertices: ``[V, 3]``.
        faces: ``[F, 3]``.
        colors: Values ``[F]`` for :func:`face_colors`, colours ``[F, 3]`` in ``[0, 1]``, or nothing.
        ax: Matplotlib axes to draw into; new ones by default.
        view: Elevation and azimuth of the camera in degrees.
        edges: Whether to draw the edges of the faces.
        title: Of the axes.
        cmap, num_classes: See :func:`face_colors`.
        clusters: The cluster of each face ``[F]``: a line runs between faces of different ones. Without
            ``colors`` the clusters have those of :func:`cluster_colors`.
        up: The axis that points up, ``"x"``, ``"y"`` or ``"z"``.

    Returns:
        The axes.
    """
    points, corners = _to_numpy(vertices).astype(float), _to_numpy(faces).astype(int)
    if points.ndim != 2 or points.shape[1] != 3 or corners.ndim != 2 or corners.shape[1] != 3:
        raise ValueError(
            f"Expected vertices [V, 3] and faces [F, 3]; got {points.shape} and {corners.shape}."
        )
    groups = None if clusters is None else _to_numpy(clusters)
    if groups is not None and groups.shape != (len(corners),):
        raise ValueError(
            f"`clusters` must have one entry per face, {len(corners)}; got shape {groups.shape}."
        )
    if colors is None and groups is not None:
        colors = cluster_colors(groups, corners)
    paint = _paint(colors, len(corners), cmap, num_classes)
    if paint.shape != (len(corners), 3):
        raise ValueError(
            f"`colors` must have one entry per face, {len(corners)}; got shape {paint.shape}."
        )
    collections = require("matplotlib.collections", purpose="drawing meshes")
    if ax is None:
        figure = require("matplotlib.figure", purpose="drawing meshes")
        ax = figure.Figure(figsize=(4, 4), layout="constrained").add_subplot()

    right, above, toward = camera(view)
    points = upright(points, up)
    triangles = points[corners]
    normals = cross_of(triangles)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    light = toward + 0.5 * above - 0.4 * right
    # Both sides are lit, so that holes and flipped faces do not come out black.
    shade = 0.45 + 0.55 * np.abs(normals @ (light / np.linalg.norm(light)))
    depth = triangles.mean(1) @ toward
    flat = np.stack([points @ right, points @ above], axis=-1)
    painted = np.clip(paint * shade[:, None], 0, 1)
    ink = np.concatenate([painted, np.ones((len(painted), 1))], 1)
    rim = np.tile((0, 0, 0, 0.35), (len(ink), 1)) if edges else ink
    shapes, width = list(flat[corners]), np.full(len(corners), 0.25)
    if groups is not None:
        # A border is a face of two corners, drawn after the two that it parts; what is in front hides it.
        ends, sides = _borders(corners, groups)
        shapes += list(flat[ends])
        depth = np.concatenate([depth, depth[sides].max(1)])
        black = np.tile((0.1, 0.1, 0.1, 1.0), (len(ends), 1))
        ink, rim = np.concatenate([ink, black]), np.concatenate([rim, black])
        width = np.concatenate([width, np.full(len(ends), 0.7)])
    order = np.argsort(depth, kind="stable")
    ax.add_collection(
        collections.PolyCollection(
            [shapes[i] for i in order], facecolors=ink[order], edgecolors=rim[order],
            linewidths=width[order], capstyle="round",
        )
    )  # fmt: skip
    ax.margins(0.03)
    ax.autoscale_view()
    # The box keeps its size, so that titles of a row of pictures stand at one height.
    ax.set_aspect("equal", adjustable="datalim")
    ax.set_axis_off()
    if title is not None:
        ax.set_title(title, fontsize=9)
    return ax


def mesh_sheet(
    rows: Sequence[Sequence[tuple]],
    path: str | Path,
    *,
    view: tuple[float, float] = (20.0, -60.0),
    title: str | None = None,
    num_classes: int | None = None,
    classes: Sequence[str] | None = None,
    up: str = "z",
    unit: str | None = None,
    cell: float = 2.6,
    dpi: float = 110,
) -> Path:
    """A table of pictures in one PNG.

    Args:
        rows: Per row the pictures, each ``(vertices, faces, colors, caption)``, or with the clusters of the
            faces, which get an outline, ``(vertices, faces, colors, caption, clusters)``.
        path: Where to; missing folders are made.
        view: See :func:`mesh`.
        title: Above the table.
        num_classes: See :func:`face_colors`; holds for all pictures whose colours are labels.
        classes: Names of the labels, for a legend of those that occur.
        up: The axis that points up.
        unit: Of the coordinates: each picture gets a bar of a round length.
        cell: Width of a picture in inches.
        dpi: Pixels per inch.
    """
    figures = require("matplotlib.figure", purpose="drawing meshes")
    if not rows or not any(len(row) for row in rows):
        raise ValueError("`rows` is empty: there is nothing to draw.")
    width = max(len(row) for row in rows)
    size = (cell * width, cell * len(rows))
    figure = figures.Figure(figsize=size, dpi=dpi, layout="constrained")
    grid = figure.subplots(len(rows), width, squeeze=False)
    for axes, row in zip(grid, rows, strict=True):
        for ax in axes:
            ax.set_axis_off()
        for ax, (vertices, faces, colors, caption, *clusters) in zip(axes, row, strict=False):
            mesh(
                vertices, faces, colors, ax=ax, view=view, title=caption, up=up,
                num_classes=num_classes, clusters=clusters[0] if clusters else None,
            )  # fmt: skip
    painted = [_to_numpy(picture[2]) for row in rows for picture in row if picture[2] is not None]
    if classes is not None and len(shown := shown_labels(painted)):
        legend(figure, classes, shown)
    if title is not None:
        figure.suptitle(title, fontsize=11)
    if unit is not None:
        figure.draw_without_rendering()  # settles how much of the plane each box shows
        for axes, row in zip(grid, rows, strict=True):
            for ax in axes[: len(row)]:
                scale_bar(ax, unit)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, format="png")
    return target


def export_ply(
    path: str | Path,
    vertices: np.ndarray | Tensor,
    faces: np.ndarray | Tensor | None,
    colors: np.ndarray | Tensor | Sequence[Any] | None = None,
    cmap: str | None = None,
    num_classes: int | None = None,
) -> Path:
    """Writes a mesh with coloured faces, or a cloud of coloured points, for any mesh viewer.

    Args:
        path: Where to; missing folders are made.
        vertices: ``[V, 3]``.
        faces: ``[F, 3]``, or ``None`` for a cloud.
        colors: Values for :func:`face_colors` or colours ``[N, 3]``, one per face, or per point of a
            cloud; gray if ``None``.
        cmap, num_classes: See :func:`face_colors`.

    Raises:
        ValueError: A shape or a value is wrong; the message names it.
    """
    points = _to_numpy(vertices)
    corners = np.zeros((0, 3), dtype=np.int64) if faces is None else _to_numpy(faces)
    paint = _paint(colors, len(points if faces is None else corners), cmap, num_classes)
    which = "vertex_colors" if faces is None else "face_colors"
    write_mesh(path, points, corners, **{which: paint})
    return Path(path)


def show_mesh(
    vertices: np.ndarray | Tensor,
    faces: np.ndarray | Tensor,
    colors: np.ndarray | Tensor | Sequence[Any] | None = None,
    num_classes: int | None = None,
) -> None:
    """Opens an Open3D window; needs Open3D and a display. Arguments as in :func:`mesh`.

    Faces get vertices of their own there, so that colours stay sharp at their borders.
    """
    open3d = require("open3d", purpose="the mesh viewer")
    points, corners = _to_numpy(vertices).astype(float), _to_numpy(faces).astype(int)
    paint = _paint(colors, len(corners), None, num_classes)
    shape = open3d.geometry.TriangleMesh(
        open3d.utility.Vector3dVector(points[corners].reshape(-1, 3)),
        open3d.utility.Vector3iVector(np.arange(3 * len(corners)).reshape(-1, 3)),
    )
    shape.vertex_colors = open3d.utility.Vector3dVector(np.repeat(paint, 3, axis=0))
    shape.compute_triangle_normals()
    open3d.visualization.draw_geometries([shape])


def _paint(colors: Any, count: int, cmap: str | None, num_classes: int | None) -> np.ndarray:
    """Colours as they are, or those of values; gray without either."""
    if colors is None:
        return np.tile(GRAY, (count, 1))
    paint = _to_numpy(colors)
    return face_colors(paint, cmap, num_classes=num_classes) if paint.ndim == 1 else paint


def _to_numpy(values: Any) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
