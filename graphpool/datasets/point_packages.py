"""Point files that other packages read: HDF5, and airborne laser scans."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from graphpool import _optional
from graphpool._files import check_unpacked
from graphpool.datasets.point_arrays import from_arrays
from graphpool.datasets.point_fields import Array, Columns, assemble


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
    except ValueError:
        raise
    # HDF5 raises what it pleases.
    except Exception as error:
        raise ValueError(f"{path} cannot be read as HDF5: {error}") from None
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


def read_las(path: Path, columns: Columns) -> tuple[Array, dict[str, np.ndarray]]:
    """Points and fields of ``.las`` and ``.laz``; needs laspy, and lazrs for the latter.

    Raises:
        ValueError: The file is damaged or declares more than it can hold, or columns are named.
        ImportError: laspy is not installed.
    """
    if columns is not None:
        raise ValueError(f"{path} says what its columns are; `columns` must be None.")
    laspy = _optional.require("laspy", purpose=f"reading {path.name}")
    try:
        with laspy.open(path) as reader:
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
    except (ValueError, ImportError):
        raise
    # The decompressor is written in Rust, and its panics are no Exceptions.
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        raise ValueError(f"{path} cannot be read: {error}") from None
    return assemble(values, path)
