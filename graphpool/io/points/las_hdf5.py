"""Point files that other packages read: HDF5, and airborne laser scans."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from graphpool import _optional
from graphpool.io.points.arrays import from_arrays
from graphpool.io.points.fields import Array, Columns, assemble
from graphpool.io.untrusted import check_unpacked


def _named(error: BaseException, path: Path, kind: str) -> BaseException:
    """What a package raises for a damaged file, as a ``ValueError`` that names the file.

    The decompressor of ``.laz`` is written in Rust: its panics are not even Exceptions.
    """
    passed = (ImportError, KeyboardInterrupt, SystemExit, TimeoutError)
    if isinstance(error, passed) or (isinstance(error, ValueError) and str(path) in str(error)):
        return error
    return ValueError(f"{path} cannot be read as {kind}: {error}")


def load_h5(path: Path) -> dict[str, np.ndarray]:
    """The arrays of numbers at the top of an HDF5 file; needs h5py.

    Raises:
        ValueError: The file is damaged, points to other files, or would unpack to more than 200 times
            its size (above 64 MiB).
        ImportError: h5py is not installed.
    """
    h5py = _optional.require("h5py", purpose=f"reading {path.name}")
    arrays: dict[str, np.ndarray] = {}
    try:
        with h5py.File(path, "r") as file:
            names = [name for name in file if _is_array(h5py, file, name, path)]
            check_unpacked(path, sum(file[name].size * file[name].dtype.itemsize for name in names))
            for name in names:
                arrays[name] = file[name][()]
    except BaseException as error:
        raise _named(error, path, "HDF5") from None
    return arrays


def _is_array(h5py: Any, file: Any, name: str, path: Path) -> bool:
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{path}: {name!r} is a link to something else, which is not followed.")
    item = file[name]
    if not isinstance(item, h5py.Dataset) or item.dtype.kind not in "fiu" or item.shape is None:
        return False
    if item.external or item.is_virtual:
        raise ValueError(f"{path}: {name!r} lies in other files, which are not opened.")
    return True


def read_h5(path: Path, columns: Columns) -> tuple[Array, dict[str, np.ndarray]]:
    """The array ``points``, ``pos`` or ``data``, or the only one; fields as in ``.npz``."""
    return from_arrays(load_h5(path), ("points", "pos", "data"), columns, path)


def _check_las_header(path: Path) -> None:
    """Counts that laspy believes: of records before and behind the points, 54 and 60 bytes at least."""
    with path.open("rb") as file:
        head = file.read(375)
    size = path.stat().st_size
    if len(head) < 227 or not head.startswith(b"LASF"):
        raise ValueError(f"{path} is not a laser scan: it does not begin with a header LASF.")
    header_size, points_at, records = struct.unpack_from("<HII", head, 94)
    behind_at, behind = (
        struct.unpack_from("<QI", head, 235) if head[25] >= 4 and len(head) == 375 else (0, 0)
    )
    if not header_size <= points_at <= size or records * 54 > points_at - header_size:
        raise ValueError(
            f"{path}: {records} records are declared between byte {header_size} and the points at byte "
            f"{points_at}, of {size}."
        )
    if behind and behind_at + behind * 60 > size:
        raise ValueError(f"{path}: {behind} records are declared at byte {behind_at} of {size}.")


def read_las(path: Path, columns: Columns) -> tuple[Array, dict[str, np.ndarray]]:
    """Points and fields of ``.las`` and ``.laz``; needs laspy, and lazrs for the latter.

    Counts in the header are checked, but what lazrs unpacks is not: some damaged ``.laz`` files end the
    process. Do not read those of strangers in a process that must live.

    Raises:
        ValueError: The file is damaged or declares more than it can hold, or columns are named.
        ImportError: laspy is not installed.
    """
    if columns is not None:
        raise ValueError(f"{path} says what its columns are; `columns` must be None.")
    laspy = _optional.require("laspy", purpose=f"reading {path.name}")
    _check_las_header(path)
    try:
        # The parallel decompressor takes the memory that a damaged table asks for, and aborts the process.
        with laspy.open(path, laz_backend=laspy.LazBackend.Lazrs) as reader:
            header = reader.header
            total = header.point_count * header.point_format.size
            size = path.stat().st_size
            if header.are_points_compressed:
                check_unpacked(path, total)
            elif total > size:
                raise ValueError(f"{path}: {total} bytes of points are declared; it has {size}.")
            las = reader.read()
        if len(las.points) != header.point_count:
            raise ValueError(
                f"{path}: {header.point_count} points are declared; it has {len(las.points)}."
            )
        # X, Y and Z are the integers that x, y and z are scaled from.
        names = [name for name in header.point_format.dimension_names if name not in "XYZ"]
        values = {name: np.asarray(las[name]) for name in names}
        values |= {axis: np.asarray(getattr(las, axis)) for axis in "xyz"}
    except BaseException as error:
        raise _named(error, path, "a laser scan") from None
    return assemble(values, path)
