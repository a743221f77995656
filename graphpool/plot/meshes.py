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
from graphpool.plot.colors import GRAY, camera, label_colors


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


def cluster_colors(clusters: np.ndarray | Tensor, seed: int = 0) -> np.ndarray:
    """One random pale colour per cluster ``[F, 3]``, so that neighbours differ."""
    ids = _to_numpy(clusters)
    colors = require("matplotlib.colors", purpose="colouring meshes")
    rng = np.random.default_rng(seed)
    count = int(ids.max()) + 1 if ids.size else 0
    hsv = np.stack(
        [rng.random(count), rng.uniform(0.3, 0.75, count), rng.uniform(0.75, 1, count)], axis=1
    )
    return colors.hsv_to_rgb(hsv)[ids]


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
) -> Any:
    """Draws a mesh, seen from far away and lit from the camera's upper left.

    Args:
        vertices: ``[V, 3]``; the third coordinate points up.
        faces: ``[F, 3]``.
        colors: Values ``[F]`` for :func:`face_colors`, colours ``[F, 3]`` in ``[0, 1]``, or nothing.
        ax: Matplotlib axes to draw into; new ones by default.
        view: Elevation and azimuth of the camera in degrees.
        edges: Whether to draw the edges of the faces.
        title: Of the axes.
        cmap, num_classes: See :func:`face_colors`.

    Returns:
        The axes.
    """
    points, corners = _to_numpy(vertices).astype(float), _to_numpy(faces).astype(int)
    if points.ndim != 2 or points.shape[1] != 3 or corners.ndim != 2 or corners.shape[1] != 3:
        raise ValueError(
            f"Expected vertices [V, 3] and faces [F, 3]; got {points.shape} and {corners.shape}."
        )
    paint = _paint(colors, len(corners), cmap, num_classes)
    if paint.shape != (len(corners), 3):
        raise ValueError(
            f"`colors` must have one entry per face, {len(corners)}; got shape {paint.shape}."
        )
    collections = require("matplotlib.collections", purpose="drawing meshes")
    if ax is None:
        figure = require("matplotlib.figure", purpose="drawing meshes")
        ax = figure.Figure(figsize=(4, 4), layout="constrained").add_subplot()

    right, up, toward = camera(view)
    triangles = points[corners]
    normals = cross_of(triangles)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    light = toward + 0.5 * up - 0.4 * right
    # Both sides are lit, so that holes and flipped faces do not come out black.
    shade = 0.45 + 0.55 * np.abs(normals @ (light / np.linalg.norm(light)))
    order = np.argsort(triangles.mean(1) @ toward)
    flat = np.stack([triangles @ right, triangles @ up], axis=-1)
    painted = np.clip(paint * shade[:, None], 0, 1)[order]
    ax.add_collection(
        collections.PolyCollection(
            list(flat[order]),
            facecolors=painted,
            edgecolors=(0, 0, 0, 0.35) if edges else painted,
            linewidths=0.25,
        )
    )
    low, high = flat.reshape(-1, 2).min(0), flat.reshape(-1, 2).max(0)
    room = 0.03 * (high - low).max()
    ax.set_xlim(low[0] - room, high[0] + room)
    ax.set_ylim(low[1] - room, high[1] + room)
    ax.set_aspect("equal")
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
) -> Path:
    """A table of pictures in one PNG.

    Args:
        rows: Per row the pictures, each ``(vertices, faces, colors, caption)``.
        path: Where to; missing folders are made.
        view: See :func:`mesh`.
        title: Above the table.
        num_classes: See :func:`face_colors`; holds for all pictures whose colours are labels.
    """
    agg = require("matplotlib.backends.backend_agg", purpose="drawing meshes")
    figures = require("matplotlib.figure", purpose="drawing meshes")
    if not rows or not any(len(row) for row in rows):
        raise ValueError("`rows` is empty: there is nothing to draw.")
    width = max(len(row) for row in rows)
    figure = figures.Figure(figsize=(2.6 * width, 2.6 * len(rows)), dpi=110, layout="constrained")
    grid = figure.subplots(len(rows), width, squeeze=False)
    for axes, row in zip(grid, rows, strict=True):
        for ax in axes:
            ax.set_axis_off()
        for ax, (vertices, faces, colors, caption) in zip(axes, row, strict=False):
            mesh(vertices, faces, colors, ax=ax, view=view, title=caption, num_classes=num_classes)
    if title is not None:
        figure.suptitle(title, fontsize=11)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    agg.FigureCanvasAgg(figure).print_png(str(target))
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
