"""The .pcd format: ASCII, binary, and compressed."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from graphpool.io.points.fields import Array, assemble
from graphpool.io.untrusted import integers

_KINDS = {"F": "f", "I": "i", "U": "u"}


def read_pcd(path: Path) -> tuple[Array, dict[str, np.ndarray]]:
    """Points and fields; points with a coordinate NaN, which PCD writes for none, are left out.

    Raises:
        ValueError: The file is damaged, or its header makes no sense.
    """
    data = path.read_bytes()
    header, offset = _header(data, path)
    try:
        names, kinds = header["FIELDS"], header["TYPE"]
        encoding = header["DATA"][0].lower()
        sizes = integers(header["SIZE"])
        repeats = integers(header.get("COUNT", ["1"] * len(names)))
        (count,) = integers(header["POINTS"])
        if count < 0 or min(repeats) < 1:
            raise ValueError(f"It announces {count} points of {repeats} numbers.")
        # Padding is called "_", and may stand in several places.
        keys = [f"_{i}" if name == "_" else name.lower() for i, name in enumerate(names)]
        layout = np.dtype([
            (key, f"<{_KINDS[kind]}{size}", (repeat,))
            for key, kind, size, repeat in zip(keys, kinds, sizes, repeats, strict=True)
        ])  # fmt: skip
        if any(layout[axis].shape != (1,) for axis in "xyz"):
            raise ValueError("The fields x, y and z must be one number each.")
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise ValueError(f"{path}: cannot make sense of the PCD header: {error}") from None
    body = data[offset:]
    if encoding == "ascii":
        table = _text(body, path, layout, count)
    elif encoding == "binary":
        table = _binary(body, path, layout, count)
    elif encoding == "binary_compressed":
        table = _compressed(body, path, layout, count)
    else:
        raise ValueError(f"{path}: unknown PCD encoding {encoding!r}.")
    columns = {
        name: values[:, 0] if values.shape[1] == 1 else values for name, values in table.items()
    }
    for packed in ("rgb", "rgba"):
        if packed in columns and columns[packed].ndim == 1:
            columns.update(_unpacked(columns.pop(packed), layout[packed].base))
    points, fields = assemble(columns, path)
    present = ~np.isnan(points.astype(np.float64)).any(1)
    return points[present], {name: values[present] for name, values in fields.items()}


def _header(data: bytes, path: Path) -> tuple[dict[str, list[str]], int]:
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
    return header, offset


def _text(data: bytes, path: Path, layout: np.dtype, count: int) -> dict[str, np.ndarray]:
    starts = np.cumsum([0, *(layout[name].shape[0] for name in layout.names or ())])
    values, width = data.split(), int(starts[-1])
    if len(values) != width * count:
        raise ValueError(f"{path}: expected {width * count} numbers; got {len(values)}.")
    for value in values:
        try:
            if b"_" not in value and value.isascii():
                float(value)
                continue
        except ValueError:
            pass
        raise ValueError(f"{path}: {value!r} is not a number.")
    table = np.array(values, dtype=np.float64).reshape(count, width)
    return {
        name: table[:, start:stop]
        for name, start, stop in zip(layout.names or (), starts, starts[1:], strict=False)
    }


def _binary(data: bytes, path: Path, layout: np.dtype, count: int) -> dict[str, np.ndarray]:
    size = count * layout.itemsize
    if len(data) < size:
        raise ValueError(f"{path}: the file ends before its {count} points do.")
    if surplus := data[size:].strip(b"\0\r\n\t "):
        raise ValueError(f"{path}: {len(surplus)} bytes follow its {count} points.")
    table = np.frombuffer(data, layout, count)
    return {name: table[name] for name in layout.names or ()}


def _compressed(data: bytes, path: Path, layout: np.dtype, count: int) -> dict[str, np.ndarray]:
    """One column after the other, packed by LZF."""
    if len(data) < 8:
        raise ValueError(f"{path}: the file ends before its {count} points do.")
    packed, size = struct.unpack("<II", data[:8])
    if size != count * layout.itemsize or packed > len(data) - 8:
        raise ValueError(
            f"{path}: {count} points of {layout.itemsize} bytes are announced, {size} bytes packed "
            f"into {packed}, and {len(data) - 8} follow."
        )
    plain, offset, columns = _unpack_lzf(data[8 : 8 + packed], size, path), 0, {}
    for name in layout.names or ():
        base, width = layout[name].base, layout[name].shape[0]
        columns[name] = np.frombuffer(plain, base, count * width, offset).reshape(count, width)
        offset += columns[name].nbytes
    return columns


def _unpack_lzf(data: bytes, size: int, path: Path) -> bytes:
    out = bytearray()
    at = 0
    try:
        while at < len(data) and len(out) <= size:
            control = data[at]
            at += 1
            if control < 32:
                out += data[at : at + control + 1]
                at += control + 1
                continue
            length = (control >> 5) + 2
            if length == 9:
                length += data[at]
                at += 1
            distance = ((control & 31) << 8) + data[at] + 1
            at += 1
            if distance > len(out):
                raise IndexError
            # A run may reach into what it is writing.
            chunk = out[len(out) - distance :][:length]
            out += (chunk * (length // len(chunk) + 1))[:length]
    except IndexError:
        raise ValueError(f"{path}: its packed bytes are damaged.") from None
    if len(out) != size:
        raise ValueError(f"{path}: its packed bytes are not the {size} announced.")
    return bytes(out)


def _unpacked(values: np.ndarray, base: np.dtype) -> dict[str, np.ndarray]:
    """Red, green and blue of colours in the bytes of one number each, ``0x..RRGGBB``."""
    if base.kind == "f":
        bits = np.ascontiguousarray(values, dtype="<f4").view("<u4")
    else:
        bits = values.astype(np.int64).astype(np.uint32)
    return {
        name: (bits >> shift & 255).astype(np.uint8)
        for name, shift in (("red", 16), ("green", 8), ("blue", 0))
    }
