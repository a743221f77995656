"""The graph6 format: a simple undirected graph as one line of printable characters."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graphpool.io.untrusted import read_text

_HEADER = ">>graph6<<"
_OFFSET = 63
_SMALL, _MEDIUM, _LARGE = 62, 258047, 68719476735


def _parse_size(codes: NDArray[np.int16]) -> tuple[int, int]:
    """Number of nodes, and how many characters it took to write it."""

    def number(first: int, last: int) -> int:
        if len(codes) < last:
            raise ValueError(f"The line ends inside the number of nodes ({len(codes)} characters).")
        value = 0
        for code in codes[first:last]:
            value = value * 64 + int(code)
        return value

    if codes[0] != 63:
        return int(codes[0]), 1
    if len(codes) > 1 and codes[1] == 63:
        return number(2, 8), 8
    return number(1, 4), 4


def parse_graph6(line: str | bytes) -> tuple[int, NDArray[np.int64]]:
    """Reads one graph6 line.

    Args:
        line: The line, with or without the header ``>>graph6<<`` and the line end.

    Returns:
        The number of nodes, and the edges ``[m, 2]`` with ``i < j``, ordered by ``j``, then ``i``.

    Raises:
        ValueError: If the line is empty, is sparse6 or digraph6, holds a character outside of the
            format, or has the wrong length for its number of nodes.

    Example:
        >>> n, edges = parse_graph6("Bw")
        >>> n, edges.tolist()
        (3, [[0, 1], [0, 2], [1, 2]])
    """
    text = line.decode("ascii", errors="replace") if isinstance(line, bytes) else line
    text = text.rstrip("\r\n").removeprefix(_HEADER)
    if not text:
        raise ValueError("Expected a graph6 line; got an empty one.")
    if text[0] in ":;&":
        kind = "digraph6" if text[0] == "&" else "sparse6"
        raise ValueError(f"Expected graph6; got a {kind} line (it begins with {text[0]!r}).")
    codes = np.frombuffer(text.encode("ascii", errors="replace"), np.uint8).astype(np.int16)
    codes -= _OFFSET
    bad = np.flatnonzero((codes < 0) | (codes > 63)) if text.isascii() else _foreign(text)
    if bad.size:
        raise ValueError(
            f"The format graph6 uses the characters '?' to '~' only; got {text[bad[0]]!r} at {bad[0]}."
        )
    n, start = _parse_size(codes)
    num_bits = n * (n - 1) // 2
    expected = start + (num_bits + 5) // 6
    if len(codes) != expected:
        raise ValueError(
            f"A graph6 line of {n} nodes has {expected} characters; got {len(codes)} characters."
        )
    bits = np.unpackbits(codes[start:, None].astype(np.uint8), axis=1)[:, 2:].reshape(-1)
    if bits[num_bits:].any():
        raise ValueError("The padding bits at the end of a graph6 line must be 0; got a 1.")
    # Bit number j (j - 1) / 2 + i is the pair (i, j): memory goes with the edges, not the pairs.
    chosen = np.flatnonzero(bits[:num_bits])
    j = np.floor((1 + np.sqrt(1 + 8 * chosen.astype(np.float64))) / 2).astype(np.int64)
    j -= j * (j - 1) // 2 > chosen
    j += j * (j + 1) // 2 <= chosen
    return n, np.stack([chosen - j * (j - 1) // 2, j], axis=1)


def _foreign(text: str) -> NDArray[np.intp]:
    return np.flatnonzero([not character.isascii() for character in text])


def format_graph6(num_nodes: int, edges: NDArray[np.int64]) -> str:
    """Writes one graph as a graph6 line (without header or line end).

    Args:
        num_nodes: Number of nodes, at most 68 719 476 735.
        edges: Node pairs ``[m, 2]`` without loops; either or both directions of an edge may occur.

    Raises:
        ValueError: If a node is out of range or an edge is a loop.

    Example:
        >>> format_graph6(3, np.array([[0, 1], [2, 0], [1, 2]]))
        'Bw'
    """
    if not 0 <= num_nodes <= _LARGE:
        raise ValueError(f"`num_nodes` must be in 0..{_LARGE}; got {num_nodes}.")
    pairs = np.asarray(edges, dtype=np.int64).reshape(-1, 2)
    if pairs.size and (pairs.min() < 0 or pairs.max() >= num_nodes):
        raise ValueError(f"`edges` must name nodes in 0..{num_nodes - 1}; got {pairs.max()}.")
    low, high = pairs.min(1), pairs.max(1)
    loops = np.flatnonzero(low == high)
    if loops.size:
        raise ValueError(f"The format graph6 has no loops; got one at node {low[loops[0]]}.")
    num_bits = num_nodes * (num_nodes - 1) // 2
    bits = np.zeros((num_bits + 5) // 6 * 6, dtype=np.int64)
    bits[high * (high - 1) // 2 + low] = 1
    body = bits.reshape(-1, 6) @ (1 << np.arange(5, -1, -1))
    if num_nodes <= _SMALL:
        head = [num_nodes]
    elif num_nodes <= _MEDIUM:
        head = [63, *(num_nodes >> s & 63 for s in (12, 6, 0))]
    else:
        head = [63, 63, *(num_nodes >> s & 63 for s in (30, 24, 18, 12, 6, 0))]
    return "".join(chr(int(c) + _OFFSET) for c in (*head, *body))


def read_graph6_edges(path: str | os.PathLike[str]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """The graphs of a file of graph6 lines, one after the other, as :func:`parse_graph6` gives them.

    Args:
        path: The file; blank lines at its end are ignored.

    Raises:
        ValueError: A line is malformed; the message names the file and the line.
        FileNotFoundError: There is no such file.
    """
    return parse_graph6_lines(read_text(Path(path)).rstrip().split("\n"), str(path))


def parse_graph6_lines(
    lines: Iterable[str | bytes], source: str
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """:func:`parse_graph6` of each line; ``source`` is what an error calls them."""
    for number, line in enumerate(lines, start=1):
        try:
            yield parse_graph6(line)
        except ValueError as error:
            raise ValueError(f"{source}, line {number}: {error}") from error
