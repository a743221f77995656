"""The rows of a .ply file behind its header: scalars, and lists of any length, in bounded time."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from graphpool._compiled import kernel

_FINE, _END, _NO_LENGTH, _SHORT = range(4)


class Property(NamedTuple):
    """One property: its name, NumPy's code of its numbers, and that of its length if it is a list."""

    name: str
    kind: str
    length: str


class Rows(NamedTuple):
    """What the rows of an element hold.

    Attributes:
        values: The scalar properties, each ``[N]``.
        entries: The entries of the list that was asked for, row after row.
        sizes: How many each row has ``[N]``.
    """

    values: dict[str, np.ndarray]
    entries: np.ndarray
    sizes: np.ndarray


class Body:
    """What follows the header, and how far it has been read: words of a text, or bytes.

    Args:
        data: The file.
        offset: Where its header ends.
        order: ``"<"`` or ``">"`` for binary files, empty for ASCII.
        path: Its name, for errors.
    """

    def __init__(self, data: bytes, offset: int, order: str, path: Path) -> None:
        self.order, self.path = order, path
        self.units: bytes | list[bytes] = data if order else data[offset:].split()
        self.position = offset if order else 0

    def left(self) -> tuple[int, str]:
        """How much has not been read, white space aside, and the unit of that number."""
        if isinstance(self.units, bytes):
            return len(self.units[self.position :].strip(b"\0\r\n\t ")), "bytes"
        return len(self.units) - self.position, "numbers"

    def numbers(self, count: int) -> np.ndarray:
        """The next ``count`` words (fewer at the end) as float64."""
        words = self.units[self.position : self.position + count]
        for word in words:
            if b"_" in word or not word.isascii():  # type: ignore[operator,union-attr]
                raise ValueError(f"{word!r} is not a number.")
        return np.fromiter(map(float, words), np.float64, len(words))


def read_rows(
    body: Body, name: str, count: int, properties: list[Property], key: str | None, least: int = 0
) -> Rows:
    """Reads the rows of one element and moves on behind them.

    Args:
        body: What is read from.
        name: Of the element, for errors.
        count: How many rows the header announces.
        properties: What a row holds.
        key: The list whose entries are wanted; others are passed over.
        least: How many entries each of its rows must have.

    Raises:
        ValueError: The file ends too soon, or a number is not one.
    """
    where = f"{body.path}, elements {name!r}"
    try:
        if body.order:
            return _read_binary(body, count, properties, key, least)
        return _read_ascii(body, count, properties, key, least)
    except EOFError:
        raise ValueError(
            f"{body.path}: the file ends inside its {count} elements {name!r}."
        ) from None
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{where}: {error}") from None


def _read_ascii(
    body: Body, count: int, properties: list[Property], key: str | None, least: int
) -> Rows:
    width = len(properties)
    if not any(p.length for p in properties):
        numbers = body.numbers(count * width)
        if len(numbers) < count * width:
            raise EOFError
        body.position += count * width
        columns = numbers.reshape(count, width).T
        values = {p.name: _typed(c, p) for p, c in zip(properties, columns, strict=True)}
        return Rows(values, np.zeros(0, np.int64), np.zeros(0, np.int64))
    numbers = body.numbers(len(body.units))
    layout = [(bool(p.length), 1, 1, False) for p in properties]
    starts, sizes, stop = _walk(numbers, 0, count, layout, False, properties, key, least)
    body.position += stop
    values, entries, lengths = {}, np.zeros(0), np.zeros(0, np.int64)
    for i, p in enumerate(properties):
        if not p.length:
            values[p.name] = _typed(numbers[starts[:, i]], p)
        elif p.name == key:
            lengths = sizes[:, i]
            entries = _typed(numbers[_spread(starts[:, i], lengths)], p)
    return Rows(values, entries.astype(np.int64), lengths)


def _read_binary(
    body: Body, count: int, properties: list[Property], key: str | None, least: int
) -> Rows:
    order, data = body.order, np.frombuffer(body.units, np.uint8)  # type: ignore[arg-type]
    # Lists of three are the rule; only other lengths need to be walked through.
    fields: list = []
    for p in properties:
        fields += [(p.name + "#", order + p.length)] if p.length else []
        fields += [(p.name, order + p.kind, (3,) if p.length else ())]
    layout = np.dtype(fields)
    lists = [p for p in properties if p.length]
    if body.position + count * layout.itemsize <= len(data):
        table = np.frombuffer(data, layout, count, body.position)
        if all((table[p.name + "#"] == 3).all() for p in lists):
            body.position += count * layout.itemsize
            values = {p.name: _native(table[p.name]) for p in properties if not p.length}
            if key is None:
                return Rows(values, np.zeros(0, np.int64), np.zeros(0, np.int64))
            corners = table[key].astype(np.int64).reshape(-1)
            return Rows(values, corners, np.full(count, 3, dtype=np.int64))
    if not lists:
        raise EOFError
    widths = [np.dtype(p.kind).itemsize for p in properties]
    rows = [
        (bool(p.length), np.dtype(p.length or "u1").itemsize, width, p.length[:1] == "i")
        for p, width in zip(properties, widths, strict=True)
    ]
    starts, sizes, body.position = _walk(
        data, body.position, count, rows, order == ">", properties, key, least
    )
    values, entries, lengths = {}, np.zeros(0, np.int64), np.zeros(0, np.int64)
    for i, (p, width) in enumerate(zip(properties, widths, strict=True)):
        if p.length and p.name != key:
            continue
        taken = _copy(data, starts[:, i], sizes[:, i] * width).view(order + p.kind)
        if p.length:
            entries, lengths = taken.astype(np.int64), sizes[:, i]
        else:
            values[p.name] = _native(taken)
    return Rows(values, entries, lengths)


def _native(column: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(column).astype(column.dtype.newbyteorder("="))


def _typed(column: np.ndarray, p: Property) -> np.ndarray:
    """Numbers of a text as the type that the header gives them."""
    if p.kind[0] == "f":
        return column
    limits = np.iinfo(p.kind)
    fits = (column == np.rint(column)) & (column >= limits.min) & (column <= limits.max)
    if not fits.all():
        raise ValueError(
            f"{column[~fits][0]:.17g} is not an integer from {limits.min} to {limits.max}, as "
            f"{p.name!r} must be."
        )
    return column.astype(p.kind)


def _spread(starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Positions starts, starts + 1, ... of every row, one row after the other."""
    shift = starts - (np.cumsum(sizes) - sizes)
    return np.arange(sizes.sum()) + np.repeat(shift, sizes)


def _walk(
    data: np.ndarray,
    position: int,
    count: int,
    layout: list[tuple[bool, int, int, bool]],
    big: bool,
    properties: list[Property],
    key: str | None,
    least: int,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Where each property of each row starts, its number of entries, and where the rows end.

    ``layout`` says per property whether it is a list, the width of its length and of an entry, and
    whether the length has a sign.
    """
    smallest = sum(length if is_list else entry for is_list, length, entry, _ in layout)
    # A header may announce more than the file can hold: the walk ends where the file does.
    rows = min(count, (len(data) - position) // smallest + 1)
    minimum = np.array([least if p.name == key else 0 for p in properties])
    starts = np.zeros((rows, len(properties)), dtype=np.int64)
    sizes = np.ones((rows, len(properties)), dtype=np.int64)
    position, row, fault, size = _walk_rows(
        data, position, count, np.array(layout, dtype=np.int64), minimum, big, starts, sizes
    )
    if fault == _END:
        raise EOFError
    if fault == _NO_LENGTH:
        raise ValueError(f"Row {row} has a list of length {size:g}.")
    if fault == _SHORT:
        raise ValueError(f"Face {row} has {size:g} corners; at least {least} are needed.")
    return starts, sizes, position


@kernel
def _walk_rows(data, position, count, layout, minimum, big, starts, sizes):  # type: ignore[no-untyped-def]
    for row in range(count):
        for i in range(layout.shape[0]):
            size = 1.0
            if layout[i, 0]:
                width = layout[i, 1]
                if position + width > len(data):
                    return position, row, _END, size
                size = 0.0
                for b in range(width):
                    size = size * 256.0 + data[position + (b if big else width - 1 - b)]
                if layout[i, 3] and size >= 2.0 ** (8 * width - 1):
                    size -= 2.0 ** (8 * width)
                position += width
                if not size >= 0 or size != np.floor(size):
                    return position, row, _NO_LENGTH, size
                if size < minimum[i]:
                    return position, row, _SHORT, size
            if size * layout[i, 2] > len(data) - position:
                return position, row, _END, size
            starts[row, i], sizes[row, i] = position, int(size)
            position += int(size) * layout[i, 2]
    return position, -1, _FINE, 0.0


@kernel
def _copy(data, starts, lengths):  # type: ignore[no-untyped-def]
    """The bytes of all rows, one row after the other."""
    result = np.empty(lengths.sum(), dtype=np.uint8)
    at = 0
    for row in range(len(starts)):
        for b in range(lengths[row]):
            result[at] = data[starts[row] + b]
            at += 1
    return result
