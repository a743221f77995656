"""As many points of a file as asked for."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from graphpool._arguments import check_one_of
from graphpool.datasets.surfaces import sample_surface
from graphpool.io.points.fields import Array, CloudArrays, Columns
from graphpool.io.points.formats import read_cloud
from graphpool.io.untrusted import naming


def load_cloud(
    path: str | os.PathLike[str],
    num_points: int | None,
    rng: np.random.Generator,
    short: str = "error",
    columns: Columns = None,
) -> Array:
    """Points of a file: a mesh is sampled by area, a cloud with too many points is thinned at random.

    Args:
        path: The file.
        num_points: Points to return; all of a cloud if ``None``, and 1024 of a mesh.
        rng: Source of randomness.
        short: What to do with a cloud of fewer points: ``"error"``, or ``"repeat"``, which takes every
            point equally often, up to one.
        columns: As in :func:`read_cloud`.

    Raises:
        ValueError: A cloud has fewer points than asked for, or an argument is out of range.
    """
    return draw_cloud(path, num_points, rng, short, columns).points


def draw_cloud(
    path: str | os.PathLike[str],
    num_points: int | None,
    rng: np.random.Generator,
    short: str = "error",
    columns: Columns = None,
) -> CloudArrays:
    """:func:`load_cloud` with the fields of the drawn points.

    A sampled mesh has none: its points lie between those that the file speaks of.
    """
    check_one_of(short, "short", ("error", "repeat"))
    if num_points is not None and num_points < 1:
        raise ValueError(f"`num_points` must be >= 1 or None; got {num_points}.")
    cloud = read_cloud(path, columns)
    if cloud.faces is not None:
        with naming(Path(path)):
            points, _ = sample_surface(cloud.points, cloud.faces, num_points or 1024, rng)
        return CloudArrays(points, None, {})
    count = len(cloud.points)
    if num_points is None or count == num_points:
        return cloud
    if count < num_points and short == "error":
        raise ValueError(
            f"{path} has {count} points, fewer than `num_points` = {num_points}; pass "
            f"short='repeat' to repeat some, or num_points=None to keep clouds of different sizes."
        )
    rounds = [rng.permutation(count) for _ in range(-(-num_points // count))]
    chosen = np.concatenate(rounds)[:num_points]
    fields = {name: values[chosen] for name, values in cloud.fields.items()}
    return CloudArrays(cloud.points[chosen], None, fields)
