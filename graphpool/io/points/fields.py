"""What the columns of point files mean: coordinates, colours, normals, intensities, labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from graphpool._arguments import check_one_of

Array = NDArray[np.float64]
#: How columns are named by a caller: their names, in one string or several, or their number.
Columns = int | str | Sequence[str] | None

_VECTORS = {
    "color": (("red", "green", "blue"), ("r", "g", "b")),
    "normal": (("nx", "ny", "nz"), ("normal_x", "normal_y", "normal_z")),
}
_OTHER_NAMES = {
    "colors": "color", "colour": "color", "colours": "color", "normals": "normal",
    "i": "intensity", "reflectance": "intensity", "remission": "intensity",
    "scalar_intensity": "intensity", "labels": "label", "class": "label", "classification": "label",
    "scalar_label": "label", "scalar_classification": "label",
}  # fmt: skip


class CloudArrays(NamedTuple):
    """A point file as arrays.

    Attributes:
        points: ``[N, 3]`` float64.
        faces: ``[F, 3]`` where the file holds a mesh, or ``None``.
        fields: What else the file says of every point, by name: ``color`` ``[N, 3]`` in [0, 1],
            ``normal`` ``[N, 3]``, ``intensity`` and ``label`` ``[N]`` (labels as int64), and the rest
            as the file names it.
    """

    points: Array
    faces: NDArray[np.int64] | None
    fields: dict[str, np.ndarray]


def width_of(columns: int | str | Sequence[str]) -> int:
    """How many columns are meant."""
    return columns if isinstance(columns, int) else len(_split(columns))


def _split(columns: str | Sequence[str]) -> list[str]:
    words = columns.replace(",", " ").split() if isinstance(columns, str) else columns
    return [word.strip().lower() for word in words]


def check_agree(columns: Columns, said: Sequence[str], path: Path) -> None:
    """Refuses columns that are called otherwise than the file itself calls them, by the same names."""
    if isinstance(columns, int) or columns is None:
        return
    asked, there = _split(columns), _split(said)
    for i, name in enumerate(asked):
        if name in there and (i >= len(there) or there[i] != name):
            raise ValueError(
                f"{path} names its columns {' '.join(said)}, and `columns` says {' '.join(asked)}, with "
                f"{name!r} in another place. Give `columns` as the file has them, or none."
            )


def _names(columns: Columns, width: int, path: Path) -> list[str]:
    if columns is not None and width_of(columns) != width:
        raise ValueError(
            f"{path} has {width} columns, but `columns` = {columns!r} means {width_of(columns)}."
        )
    if columns is None or isinstance(columns, int):
        return ["x", "y", "z", *(f"column {i}" for i in range(3, width))][:width]
    names = _split(columns)
    # What begins with "_" is left out, however often.
    names = [f"{name}{i}" if name.startswith("_") else name for i, name in enumerate(names)]
    if len(set(names)) != len(names):
        raise ValueError(f"{path}: a column is named twice: {', '.join(names)}.")
    return names


def assemble(columns: Mapping[str, np.ndarray], path: Path) -> tuple[Array, dict[str, np.ndarray]]:
    """Points, and the other columns under common names; those that begin with ``_`` are left out.

    Raises:
        ValueError: A coordinate is missing, or a name stands for two columns.
    """
    rest = dict(columns)
    missing = [axis for axis in "xyz" if axis not in rest]
    if missing:
        raise ValueError(
            f"{path}: no column is named {missing[0]!r}, only {', '.join(rest)}; "
            f"say what they are with `columns`."
        )
    points = np.stack([rest.pop(axis) for axis in "xyz"], 1)
    fields: dict[str, np.ndarray] = {}
    for name, spellings in _VECTORS.items():
        for spelling in spellings:
            if all(part in rest for part in spelling):
                fields[name] = np.stack([rest.pop(part) for part in spelling], 1)
                break
    for name, values in rest.items():
        if name.startswith("_"):
            continue
        known = _OTHER_NAMES.get(name, name)
        if known in fields:
            raise ValueError(f"{path}: two columns stand for {known!r}.")
        fields[known] = values
    if "color" in fields:
        fields["color"] = unit_colors(fields["color"])
    label = fields.get("label")
    if label is not None and np.array_equal(label, np.rint(label)) and np.abs(label).max() < 2**53:
        fields["label"] = label.astype(np.int64)
    return points, fields


def unit_colors(values: np.ndarray) -> np.ndarray:
    """Colours in [0, 1]: bytes and 16-bit numbers by their type, others by the largest value.

    Numbers whose type does not tell count up to 1, 255 or 65535, whichever the largest does not exceed.
    """
    top = float(np.nanmax(values, initial=0.0))
    if values.dtype in (np.uint8, np.uint16):
        top = float(np.iinfo(values.dtype).max)
    scale = next((limit for limit in (1.0, 255.0, 65535.0) if top <= limit), top)
    return values / scale


def table_fields(
    table: np.ndarray, columns: Columns, path: Path
) -> tuple[Array, dict[str, np.ndarray]]:
    """Points and fields of an array ``[N, C]`` whose columns are called ``columns``.

    Without names the first three are x, y and z, and the others have numbers.

    Raises:
        ValueError: ``columns`` does not fit the array, names something twice, or lacks x, y or z.
    """
    if table.ndim != 2 or table.shape[1] < 3 or not len(table):
        raise ValueError(
            f"{path}: expected at least one point of 3 coordinates; got {table.shape}."
        )
    names = _names(columns, table.shape[1], path)
    return assemble(dict(zip(names, table.T, strict=True)), path)


def describe(fields: Mapping[str, np.ndarray]) -> str:
    """The names of fields, with the unnamed columns of a table as a range."""
    unnamed = [name for name in fields if name.startswith("column ")]
    named = [name for name in fields if name not in unnamed]
    if unnamed:
        last = unnamed[-1].split()[1]
        named.append(unnamed[0] if len(unnamed) == 1 else f"{unnamed[0]} to {last}")
    return ", ".join(named)


def features_of(
    fields: Mapping[str, np.ndarray], features: Sequence[str], where: str | Path
) -> np.ndarray:
    """The named fields side by side, ``[N, C]`` float32.

    Raises:
        ValueError: A field is not there, or not finite.
    """
    parts = []
    for name in features:
        if name not in fields:
            raise ValueError(
                f"{where} has no field {name!r} of the `features`; it has "
                f"{describe(fields) or 'coordinates only'}."
            )
        values = fields[name].reshape(len(fields[name]), -1).astype(np.float32)
        if not np.isfinite(values).all():
            bad = int((~np.isfinite(values).all(1)).argmax())
            raise ValueError(
                f"{where}: {name!r} of point {bad} is not finite in float32. Fill it, or leave the point out "
                f"of the file, or the field out of the `features`."
            )
        parts.append(values)
    return np.concatenate(parts, 1)


def without_offset(points: Array, offset: str) -> tuple[NDArray[np.float32], Array]:
    """Points in float32, and the vector ``[3]`` in float64 that was subtracted before.

    Args:
        points: ``[N, 3]``.
        offset: ``"auto"`` subtracts the centre of the bounding box where float32 could round by more than
            a millionth of the largest side, ``"always"`` in any case, ``"never"`` refuses such points.

    Raises:
        ValueError: The points are refused, or too large for float32.
    """
    check_one_of(offset, "offset", ("auto", "always", "never"))
    low, high = points.min(0), points.max(0)
    size = float((high - low).max())
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = np.abs(points - points.astype(np.float32)).max()
    # The bound, not the error itself: what comes afterwards rounds, too. Equal points have no size.
    error = 2.0**-24 * float(np.abs(points).max()) if size else float(rounded)
    if error > 1e-6 * size and offset == "never":
        raise ValueError(
            f"Rounding to float32 moves these points by up to {error:.2g}, and the cloud measures "
            f"{size:.2g}; offset='auto' subtracts an offset first."
        )
    moved = offset == "always" or (offset == "auto" and error > 1e-6 * size)
    origin = low + (high - low) / 2 if moved else np.zeros(3)
    with np.errstate(over="ignore"):
        local = (points - origin).astype(np.float32)
    if not np.isfinite(local).all():
        raise ValueError(f"Coordinates up to {np.abs(points).max():.2g} do not fit float32.")
    return local, origin
