"""Point files of plain numbers: NumPy arrays, and records of float32."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from graphpool.io.points.fields import Array, Columns, assemble, table_fields, width_of
from graphpool.io.untrusted import load_array, load_arrays

#: No coordinate in metres or degrees, and no intensity, is as large.
_ABSURD = 1e9


def read_npy(path: Path, columns: Columns) -> tuple[Array, dict[str, np.ndarray]]:
    """Points and fields of an array ``[N, C]``."""
    return _from_table(load_array(path), columns, path)


def read_npz(path: Path, columns: Columns) -> tuple[Array, dict[str, np.ndarray]]:
    """The array ``points`` or ``pos``, or the only one; fields are its columns and arrays as long."""
    return from_arrays(load_arrays(path), ("points", "pos"), columns, path)


def from_arrays(
    arrays: dict[str, np.ndarray], names: tuple[str, ...], columns: Columns, path: Path
) -> tuple[Array, dict[str, np.ndarray]]:
    """The array with one of the ``names``, or the only one; fields are its columns and arrays as long.

    Raises:
        ValueError: There is no such array, or it is not ``[N, C]``.
    """
    found = list(arrays) if len(arrays) == 1 else [name for name in names if name in arrays]
    if not found:
        known = "' or '".join(names)
        raise ValueError(f"{path}: expected an array '{known}', or only one; got {list(arrays)}.")
    table = arrays[found[0]]
    if table.ndim == 3:
        raise ValueError(
            f"{path}: {found[0]!r} holds {len(table)} clouds, {list(table.shape)}; "
            f"PackedPointClouds and HDF5PointClouds read sets of clouds."
        )
    points, fields = _from_table(table, columns, path)
    beside = {
        name.lower(): values[:, 0] if values.shape[1:] == (1,) else values
        for name, values in arrays.items()
        if name != found[0] and values.ndim in (1, 2) and len(values) == len(points)
    }
    numbers = {name: values for name, values in beside.items() if values.dtype.kind in "fiub"}
    coordinates = dict(zip("xyz", points.T, strict=True))
    return points, fields | assemble({**numbers, **coordinates}, path)[1]


def _from_table(
    table: np.ndarray, columns: Columns, path: Path
) -> tuple[Array, dict[str, np.ndarray]]:
    table = np.atleast_2d(table)
    rows, width = table.shape if table.ndim == 2 else (0, 0)
    if columns is None and rows < width and (rows == 3 or width > 32):
        raise ValueError(
            f"{path}: [{rows}, {width}] looks like one row per coordinate; expected one per point. "
            f"Transpose it, or say `columns` = {width} if these are {rows} points."
        )
    return table_fields(table, columns, path)


def read_bin(path: Path, columns: Columns) -> tuple[Array, dict[str, np.ndarray]]:
    """Records of float32; x, y, z and intensity (KITTI's) unless ``columns`` says otherwise.

    Raises:
        ValueError: The size fits no whole number of points, or fits other records, too, and the values
            do not look like these.
    """
    size = path.stat().st_size
    values = np.fromfile(path, dtype="<f4")
    if columns is None:
        columns = ["x", "y", "z", "intensity"]
        _check_guess(values, size, path)
    width = width_of(columns)
    if width < 3 or size % (4 * width) or not size:
        raise ValueError(
            f"{path}: {size} bytes are not a whole number of points of {width} float32 numbers."
        )
    return table_fields(values.reshape(-1, width), columns, path)


def _check_guess(values: np.ndarray, size: int, path: Path) -> None:
    """Whether records of 4 numbers may be taken for granted; nothing in the file says so."""
    if size % 16:
        fitting = [width for width in (3, 5, 6, 7, 8) if size and size % (4 * width) == 0]
        hint = f"; {', '.join(map(str, fitting))} columns would fit" if fitting else ""
        raise ValueError(
            f"{path}: {size} bytes are not a whole number of points of 4 float32 numbers, "
            f"x, y, z and intensity{hint}. Say what they are with `columns`."
        )
    table = values.reshape(-1, 4)
    other = [width for width in (3, 5, 6, 7) if size % (4 * width) == 0]
    last = table[:, 3]
    with np.errstate(invalid="ignore"):
        sound = bool((np.abs(table) < _ABSURD).all())
        is_intensity = bool((last >= 0).all()) and bool((last <= 255).all())
    fits = f"{', '.join(map(str, other))} would fit, too"
    if not sound or (other and not is_intensity):
        raise ValueError(
            f"{path}: read as x, y, z and intensity its values make no sense"
            f"{f', and {fits}' if other else ''}. Say what its float32 columns are with `columns`."
        )
    # If records of another length were cut up, as many signs would fall into the last column.
    if other and int((table[:, 1] < 0).sum()) < 50:
        warnings.warn(
            f"{path} is read as x, y, z and intensity, but nothing tells: {fits}. "
            f"Say which with `columns`.",
            stacklevel=5,
        )
