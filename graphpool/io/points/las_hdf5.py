"""Point files that other packages read: HDF5, and airborne laser scans."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from graphpool import _optional
from graphpool.io.points.arrays import from_arrays
from graphpool.io.points.fields import Array, Columns, assemble
from graphpool.io.untrusted import check_unpacked


def _named(error: Exception, path: Path, kind: str) -> Exception:
    """What a package raises for a damaged file, as a ``ValueError`` that names the file."""
    passed = (ImportError, TimeoutError)
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
    except Exception as error:
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


# A program of its own, because the decompressor ends the process where a damaged file makes it ask
# for memory that is not there. Its memory is bounded, where the system can.
_UNPACK = """
import sys, warnings
warnings.simplefilter("ignore")
import laspy
try:
    import resource
    most, limit = int(sys.argv[3]), resource.getrlimit(resource.RLIMIT_AS)
    most = most if limit[0] == resource.RLIM_INFINITY else min(most, limit[0])
    resource.setrlimit(resource.RLIMIT_AS, (most, limit[1]))
except ImportError:
    pass
with laspy.open(sys.argv[1], laz_backend=laspy.LazBackend.Lazrs) as reader:
    points = reader.read().points
if len(points) != reader.header.point_count:
    sys.exit(f"{reader.header.point_count} points are declared; it has {len(points)}")
points.array.tofile(sys.argv[2])
"""


def _unpacked(path: Path, total: int) -> np.ndarray:
    """The points of a ``.laz`` as bytes, from a process that may end without ending this one.

    Raises:
        ValueError: The process gave no points.
    """
    paths = os.pathsep.join(entry for entry in sys.path if entry)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "points"
        memory = 3 * total + 2 * path.stat().st_size + (1 << 30)
        done = subprocess.run(
            [sys.executable, "-c", _UNPACK, str(path.resolve()), str(target), str(memory)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env={**os.environ, "RUST_BACKTRACE": "0", "PYTHONPATH": paths},
        )
        if done.returncode == 0:
            return np.fromfile(target, np.uint8)
    lines = [line for line in done.stderr.splitlines() if line and not line.startswith("note:")]
    why = lines[-1] if lines else f"exit code {done.returncode}"
    raise ValueError(f"{path} cannot be read as a laser scan: unpacking it failed: {why}")


def read_las(path: Path, columns: Columns) -> tuple[Array, dict[str, np.ndarray]]:
    """Points and fields of ``.las`` and ``.laz``; needs laspy, and lazrs for the latter.

    A ``.laz`` is unpacked by a second process, which costs a quarter to half a second a file; damage
    that ends that process is an error here. Files that are read again and again are better kept as
    ``.npz``.

    Raises:
        ValueError: The file is damaged or declares more than it can hold, or columns are named.
        ImportError: laspy is not installed, or lazrs for a ``.laz``.
    """
    if columns is not None:
        raise ValueError(f"{path} says what its columns are; `columns` must be None.")
    laspy = _optional.require("laspy", purpose=f"reading {path.name}")
    _check_las_header(path)
    try:
        with laspy.open(path) as reader:
            header = reader.header
            total = header.point_count * header.point_format.size
            size = path.stat().st_size
            if header.point_count == 0:
                raise ValueError(f"{path}: no points are declared.")
            if header.are_points_compressed:
                if not laspy.LazBackend.Lazrs.is_available():
                    raise ImportError(
                        f"reading {path.name} needs lazrs: pip install 'laspy[lazrs]'"
                    )
                check_unpacked(path, total)
                table = _unpacked(path, total).view(header.point_format.dtype())
                points = laspy.ScaleAwarePointRecord(
                    table, header.point_format, header.scales, header.offsets
                )
                las = laspy.LasData(header, points)
            elif total > size:
                raise ValueError(f"{path}: {total} bytes of points are declared; it has {size}.")
            else:
                las = reader.read()
        if len(las.points) != header.point_count:
            raise ValueError(
                f"{path}: {header.point_count} points are declared; it has {len(las.points)}."
            )
        # X, Y and Z are the integers that x, y and z are scaled from.
        names = [name for name in header.point_format.dimension_names if name not in "XYZ"]
        values = {name: np.asarray(las[name]) for name in names}
        values |= {axis: np.asarray(getattr(las, axis)) for axis in "xyz"}
    except Exception as error:
        raise _named(error, path, "a laser scan") from None
    return assemble(values, path)
