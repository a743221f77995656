"""Reading files that nobody vouches for.

Nothing here unpickles. What a file declares is compared with what it holds before memory is taken for
it. Whatever is wrong ends in a ``ValueError`` that begins with the name of the file.
"""

from __future__ import annotations

import csv
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

_BOM = b"\xef\xbb\xbf"
#: Deflate can pack 1,000 bytes into one. Real coordinates never do; small files may hold what they like.
_MAX_RATIO, _ALWAYS_FINE = 200, 64 * 2**20


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Puts the name of a file in front of whatever goes wrong with its content.

    One bad file among hundreds is found by its name alone. Errors that name it already, and those of the
    system, pass as they are.

    Example:
        >>> with naming(Path("a.obj")):
        ...     raise ValueError("no face is left")
        Traceback (most recent call last):
        ValueError: a.obj: no face is left
    """
    try:
        yield
    except (OSError, ImportError, MemoryError):
        raise
    except Exception as error:
        if str(path) in str(error):
            raise
        kind = next(
            k for k in (ValueError, TypeError, RuntimeError, Exception) if isinstance(error, k)
        )
        raise (RuntimeError if kind is Exception else kind)(f"{path}: {error}") from error


def read_text(path: Path, encoding: str = "ascii", strict: bool = True) -> str:
    """The text of a file without a byte order mark, line ends as ``\\n``.

    Args:
        path: The file.
        encoding: Its encoding.
        strict: Raise where a byte does not belong to the encoding; otherwise put a replacement there,
            which no number contains.

    Raises:
        ValueError: A byte does not belong to the encoding.
    """
    data = path.read_bytes().removeprefix(_BOM)
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    try:
        text = data.decode(encoding, errors="strict" if strict else "replace")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is not {encoding}."
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def named_rows(
    lines: Iterable[str], path: Path, names: Sequence[str]
) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a table by the names in its first line, with the number of the line that each ends in.

    Raises:
        ValueError: A column is missing; a row has nothing there, or more fields than there are names, which
            shift what follows; quotes are left open.
    """
    rows, at = csv.DictReader(lines, strict=True), f"{path}, line"
    try:
        header = rows.fieldnames or []
        if missing := [name for name in names if name not in header]:
            there = ", ".join(header)[:200]
            raise ValueError(f"{path} has no column {', '.join(missing)}; there are {there}.")
        for row in rows:
            if None in row:
                more = len(header) + len(row[None])
                raise ValueError(f"{at} {rows.line_num}: {more} fields, but {len(header)} names.")
            if empty := [name for name in names if not row[name]]:
                raise ValueError(f"{at} {rows.line_num}: nothing in {', '.join(empty)}.")
            yield rows.line_num, row
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{at} {rows.reader.line_num}: {error}.") from error


def integers(words: Sequence[str]) -> list[int]:
    """The words as integers that fit 64 bits.

    Raises:
        ValueError: One does not; unlike ``int``, digits with ``_`` between them are refused.
    """
    values = [int(word) for word in words]
    for word, value in zip(words, values, strict=True):
        if "_" in word or not -(2**63) <= value < 2**63:
            raise ValueError(f"{word!r} is not an integer of 64 bits.")
    return values


def read_table(
    path: Path, what: str, comments: Sequence[str] = ("#",), delimiter: str | None = None
) -> np.ndarray:
    """A text file of numbers as ``[rows, columns]`` float64, ``[0, 0]`` if there is none.

    Raises:
        ValueError: A word is not a number, or rows differ in length; ``what`` says what was expected.
    """
    # Comments may be in any encoding; a replaced byte is in no number.
    lines = read_text(path, strict=False).split("\n")
    return parse_table(numbered_lines(lines, comments), path, what, delimiter)


def numbered_lines(lines: Sequence[str], comments: Sequence[str]) -> list[tuple[int, str]]:
    """What stands in front of comments, with the numbers of the lines; blank ones are left out."""
    used = []
    for number, line in enumerate(lines, start=1):
        for mark in comments:
            line = line.partition(mark)[0]
        if line := line.strip():
            used.append((number, line))
    return used


def parse_table(
    lines: Sequence[tuple[int, str]], path: Path, what: str, delimiter: str | None = None
) -> np.ndarray:
    """:func:`read_table` of :func:`numbered_lines` of ``path``."""
    if not lines:
        return np.zeros((0, 0))
    try:
        text = [line for _, line in lines]
        return np.loadtxt(text, dtype=np.float64, ndmin=2, comments=None, delimiter=delimiter)
    except ValueError as error:
        reason = _fault(lines, delimiter) or error
        raise ValueError(f"{path}: expected {what}: {reason}") from None


def is_number(word: str) -> bool:
    """Whether a word is a number as Python reads it."""
    try:
        float(word)
    except ValueError:
        return False
    return True


def _fault(lines: Sequence[tuple[int, str]], delimiter: str | None) -> str:
    """What is wrong with the first line that is no row of numbers as long as the others."""
    first, width = lines[0][0], len(lines[0][1].split(delimiter))
    for number, line in lines:
        words = line.split(delimiter)
        for column, word in enumerate(words, start=1):
            if not word.strip():
                return f"line {number} has nothing in column {column}. Fill it, or leave the column out."
            if not (is_number(word) and word.isascii() and "_" not in word):
                numerals = word.replace(",", " ").split()
                is_decimal = len(numerals) > 1 and all(map(is_number, numerals))
                hint = (
                    " Numbers take a point, not a comma, and one separator in all lines."
                    * is_decimal
                )
                return f"line {number} has {word.strip()[:40]!r} in column {column}.{hint}"
        if len(words) != width:
            return (
                f"line {number} has {len(words)} numbers, line {first} has {width}. All lines must have as "
                f"many; put '#' in front of those that are none."
            )
    return ""


def load_array(path: Path) -> np.ndarray:
    """The array of a ``.npy`` file.

    Raises:
        ValueError: The file is damaged, holds objects, or is not as long as its header says.
    """
    with path.open("rb") as file:
        return _array(file, path.stat().st_size, str(path))


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a ``.npz`` file.

    Raises:
        ValueError: The file is damaged or holds objects, or would unpack to more than 200 times its
            size (above 64 MiB).
    """
    arrays: dict[str, np.ndarray] = {}
    with _archive(path) as archive:
        members = archive.infolist()
        check_unpacked(path, sum(member.file_size for member in members))
        for member in members:
            name = member.filename.removesuffix(".npy")
            where = f"{path}, array {name!r}"
            if name in arrays:
                raise ValueError(f"{path} has two arrays {name!r}.")
            try:
                with archive.open(member) as file:
                    arrays[name] = _array(file, member.file_size, where)  # type: ignore[arg-type]
            except ValueError:
                raise
            # zipfile and its decompressors raise a dozen different classes.
            except Exception as error:
                raise ValueError(f"{where} cannot be unpacked: {error}") from None
    return arrays


def check_unpacked(path: Path, total: int) -> None:
    """Raises where a file would unpack to more than 200 times its size, and to more than 64 MiB.

    Raises:
        ValueError: It would.
    """
    size = path.stat().st_size
    if total > max(_ALWAYS_FINE, _MAX_RATIO * size):
        raise ValueError(f"{path}: its {size} bytes would unpack to {total}; refused.")


def load_tensors(path: str | Path) -> Any:
    """What :func:`torch.save` wrote: tensors in dictionaries and lists, and plain values.

    Raises:
        ValueError: The file is damaged, needs code to be run, or declares more than it holds.
    """
    path = Path(path)
    with _archive(path) as archive:
        # torch.save does not compress.
        total, size = sum(member.file_size for member in archive.infolist()), path.stat().st_size
        if total > size:
            raise ValueError(f"{path}: its {size} bytes would unpack to {total}; refused.")
        # The reader of PyTorch does not look at the checksums that its writer makes.
        try:
            changed = archive.testzip()
        except Exception as error:
            raise ValueError(f"{path} is damaged: {error}") from None
        if changed is not None:
            raise ValueError(f"{path} is damaged: {changed} in it is not what its checksum says.")
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    # The reader raises RuntimeError, UnpicklingError, EOFError, KeyError, AttributeError, ...
    except Exception as error:
        code = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = str(error).strip().split("\n")[0]
        if code is not None:
            reason = f"it holds Python objects ({code[1]}), and reading these would run code"
        raise ValueError(f"{path} is not a file of tensors: {reason}") from None
    _check_storage(stored, path)
    return stored


def _archive(path: Path) -> zipfile.ZipFile:
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError) as error:
        raise ValueError(f"{path} is damaged, or of another kind: {error}") from None


def _array(file: BinaryIO, size: int, where: str) -> np.ndarray:
    """An array in the npy format, if it is just as long as the rest of its file."""
    try:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"Version {version} of the format is not known.")
        first = version == (1, 0)
        read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    # Beside ValueError, its parser of Python literals raises what it pleases.
    except Exception as error:
        raise ValueError(f"{where} has no valid npy header: {error}") from None
    if dtype.hasobject:
        raise ValueError(f"{where} holds Python objects, which are not loaded from files.")
    if dtype.kind not in "biufcSU" or dtype.subdtype or not dtype.itemsize:
        raise ValueError(f"{where} holds {dtype}; expected numbers or strings.")
    count = 1
    for length in shape:
        count *= length
    if any(length < 0 for length in shape) or count * dtype.itemsize != size - file.tell():
        raise ValueError(
            f"{where} declares {list(shape)} of {dtype}, {count * dtype.itemsize} bytes, but has "
            f"{size - file.tell()}."
        )
    data = file.read()
    if len(data) != count * dtype.itemsize:
        raise ValueError(f"{where} ends after {len(data)} of {count * dtype.itemsize} bytes.")
    if not data:
        return np.zeros(shape, dtype)
    if dtype.kind == "U" and np.frombuffer(data, f"{dtype.byteorder}u4").max() >= 0x110000:
        raise ValueError(f"{where} holds strings with characters beyond Unicode.")
    flat = np.frombuffer(bytearray(data), dtype)
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)


def _check_storage(stored: Any, path: Path) -> None:
    """A view can repeat one number a billion times; whoever copies it pays."""
    if isinstance(stored, Tensor):
        if stored.is_sparse or stored.layout != torch.strided:
            raise ValueError(f"{path} holds a {stored.layout} tensor; only plain ones are loaded.")
        held = stored.untyped_storage().nbytes()
        if stored.numel() * stored.element_size() > held:
            raise ValueError(
                f"{path} holds a tensor of shape {list(stored.shape)} over {held} bytes; refused."
            )
    elif isinstance(stored, dict):
        for value in stored.values():
            _check_storage(value, path)
    elif isinstance(stored, (list, tuple)):
        for value in stored:
            _check_storage(value, path)
