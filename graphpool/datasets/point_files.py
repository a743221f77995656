"""Readers of point clouds."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graphpool import _optional
from graphpool._files import integers, load_array, load_arrays, read_table
from graphpool.datasets.surfaces import sample_surface
from graphpool.mesh.io import read_mesh_file

Array = NDArray[np.float64]

_PCD_KINDS = {"F": "f", "I": "i", "U": "u"}


def read_points(path: str | os.PathLike[str]) -> tuple[Array, NDArray[np.int64] | None]:
    """Coordinates, and the triangles where the file holds a mesh.

    Formats: ``.off``, ``.obj``, ``.ply`` (ASCII and binary), ``.pcd`` (ASCII and binary), ``.xyz``,
    ``.txt`` and ``.pts`` (one point per line, further columns are ignored), ``.npy`` and ``.npz`` (the
    array ``points`` or ``pos``, or the only one; first three columns), ``.bin`` (float32 x, y, z and
    reflectance, as KITTI's lidar sweeps). Compressed ``.pcd`` and every other suffix is left to Open3D.

    Args:
        path: The file.

    Returns:
        ``points [N, 3]`` in float64, and ``faces [F, 3]`` or ``None``.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is not what its suffix says; the message names it.
        ImportError: Open3D is needed, and is not installed or cannot load; the message says what to do.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}.")
    suffix = path.suffix.lower()
    if suffix in (".off", ".obj", ".ply"):
        mesh = read_mesh_file(path)
        return _checked(mesh.vertices, path), mesh.faces if len(mesh.faces) else None
    reader = _READERS.get(suffix, _read_with_open3d)
    return _checked(reader(path), path), None


def load_cloud(
    path: str | os.PathLike[str], num_points: int | None, rng: np.random.Generator
) -> Array:
    """Points of a file: a mesh is sampled by area, a cloud with too many points is thinned at random.

    Args:
        path: The file.
        num_points: Points to return; all of a cloud if ``None``, and 1024 of a mesh.
        rng: Source of randomness.

    Raises:
        ValueError: A cloud has fewer points than asked for.
    """
    points, faces = read_points(path)
    if faces is not None:
        return sample_surface(points, faces, num_points or 1024, rng)[0]
    if num_points is None or len(points) == num_points:
        return points
    if len(points) < num_points:
        raise ValueError(
            f"{path} has {len(points)} points, fewer than `num_points` = {num_points}; "
            f"pass num_points=None to keep clouds of different sizes."
        )
    return points[rng.permutation(len(points))[:num_points]]


def _checked(points: np.ndarray, path: Path) -> Array:
    if points.ndim != 2 or points.shape[1] < 3 or len(points) == 0:
        raise ValueError(
            f"{path}: expected at least one point of 3 coordinates; got {points.shape}."
        )
    if points.dtype.kind not in "fiu":
        raise ValueError(f"{path}: coordinates must be real numbers; got {points.dtype}.")
    points = points[:, :3].astype(np.float64)
    bad = ~np.isfinite(points).all(1)
    if bad.any():
        raise ValueError(f"{path}: point {int(bad.argmax())} is not finite.")
    return points


def _read_text(path: Path) -> np.ndarray:
    return read_table(path, "one point per line", comments=("#", "//"))


def _read_npy(path: Path) -> np.ndarray:
    return np.atleast_2d(load_array(path))


def _read_npz(path: Path) -> np.ndarray:
    arrays = load_arrays(path)
    names = list(arrays)
    if len(names) > 1:
        names = [name for name in ("points", "pos") if name in arrays]
    if not names:
        raise ValueError(
            f"{path}: expected an array 'points' or 'pos', or only one; got {list(arrays)}."
        )
    return np.atleast_2d(arrays[names[0]])


def _read_bin(path: Path) -> np.ndarray:
    size = path.stat().st_size
    if size % 16:
        raise ValueError(f"{path}: {size} bytes are not a whole number of points of 16 bytes.")
    return np.fromfile(path, dtype="<f4").reshape(-1, 4)


def _read_pcd(path: Path) -> np.ndarray:
    data = path.read_bytes()
    header: dict[str, list[str]] = {}
    offset = 0
    while "DATA" not in header:
        end = data.find(b"\n", offset)
        if end < 0:
            raise ValueError(f"{path}: not a PCD file: its header has no DATA line.")
        words = data[offset:end].decode("ascii", errors="replace").split()
        offset = end + 1
        if words and not words[0].startswith("#"):
            if words[0].upper() in header:
                raise ValueError(f"{path}: the PCD header has two lines {words[0]!r}.")
            header[words[0].upper()] = words[1:]
    try:
        fields, kinds = header["FIELDS"], header["TYPE"]
        encoding = header["DATA"][0].lower()
        sizes = integers(header["SIZE"])
        repeats = integers(header.get("COUNT", ["1"] * len(fields)))
        (count,) = integers(header["POINTS"])
        if count < 0 or min(repeats) < 1:
            raise ValueError(f"{count} points of {repeats} numbers")
        layout = np.dtype({
            "names": [f"{name}.{i}" for i, name in enumerate(fields)],
            "formats": [
                (f"<{_PCD_KINDS[kind]}{size}", (repeat,))
                for kind, size, repeat in zip(kinds, sizes, repeats, strict=True)
            ],
        })  # fmt: skip
        columns = [f"{axis}.{fields.index(axis)}" for axis in "xyz"]
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise ValueError(f"{path}: cannot make sense of the PCD header: {error}.") from None
    if encoding == "binary_compressed":
        return _read_with_open3d(path)
    if encoding == "ascii":
        table = _pcd_text(data[offset:], path, sum(repeats), count)
        starts = np.cumsum([0, *repeats])
        points = np.stack([table[:, starts[fields.index(axis)]] for axis in "xyz"], 1)
    elif encoding == "binary":
        if len(data) - offset < count * layout.itemsize:
            raise ValueError(f"{path}: the file ends before its {count} points do.")
        surplus = data[offset + count * layout.itemsize :].strip(b"\0\r\n\t ")
        if surplus:
            raise ValueError(f"{path}: {len(surplus)} bytes follow its {count} points.")
        table = np.frombuffer(data, layout, count, offset)
        points = np.stack([table[column][:, 0] for column in columns], 1).astype(np.float64)
    else:
        raise ValueError(f"{path}: unknown PCD encoding {encoding!r}.")
    # PCD marks points without a measurement by NaN.
    return points[~np.isnan(points).any(1)]


def _pcd_text(data: bytes, path: Path, width: int, count: int) -> np.ndarray:
    values = data.split()
    if len(values) != width * count:
        raise ValueError(f"{path}: expected {width * count} numbers, got {len(values)}.")
    for value in values:
        try:
            if b"_" not in value and value.isascii():
                float(value)
                continue
        except ValueError:
            pass
        raise ValueError(f"{path}: {value!r} is not a number.")
    return np.array(values, dtype=np.float64).reshape(count, width)


def _read_with_open3d(path: Path) -> np.ndarray:
    open3d = _optional.require("open3d", purpose=f"reading {path.name}")
    points = np.asarray(open3d.io.read_point_cloud(str(path)).points)
    if len(points) == 0:
        raise ValueError(f"{path}: Open3D reads no points from it.")
    return points


_READERS: dict[str, Callable[[Path], np.ndarray]] = {
    ".xyz": _read_text,
    ".txt": _read_text,
    ".pts": _read_text,
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".bin": _read_bin,
    ".pcd": _read_pcd,
}

#: Suffixes that need no optional package.
SUFFIXES: tuple[str, ...] = (".off", ".obj", ".ply", *_READERS)
