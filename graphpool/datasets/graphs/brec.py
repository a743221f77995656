"""BREC: 400 pairs of graphs that grade how expressive a graph network really is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch_geometric.data import Data, InMemoryDataset

from graphpool._arguments import check_one_of
from graphpool.datasets.graphs.undirected import graphs_from_graph6
from graphpool.datasets.on_disk import file_in
from graphpool.io.untrusted import load_array


class BRECBlock(NamedTuple):
    """One of the seven raw files: ``pairs`` pairs of graphs of one kind."""

    name: str
    file: str
    pairs: int


#: The raw files in the order of the pair numbers 0..399.
BREC_BLOCKS: tuple[BRECBlock, ...] = (
    BRECBlock("basic", "basic.npy", 60),
    BRECBlock("regular", "regular.npy", 50),
    BRECBlock("strongly_regular", "str.npy", 50),
    BRECBlock("extension", "extension.npy", 100),
    BRECBlock("cfi", "cfi.npy", 100),
    BRECBlock("four_vertex_condition", "4vtx.npy", 20),
    BRECBlock("distance_regular", "dr.npy", 20),
)

#: Copies of one pair in a block of ``brec_v3.npy`` (32 of each graph, interleaved).
BREC_BLOCK_SIZE = 64


def brec_ranges() -> dict[str, range]:
    """Pair numbers of each kind.

    Example:
        >>> brec_ranges()["cfi"]
        range(260, 360)
    """
    ranges, start = {}, 0
    for block in BREC_BLOCKS:
        ranges[block.name] = range(start, start + block.pairs)
        start += block.pairs
    return ranges


def _load_lines(file: Path) -> NDArray[np.str_] | NDArray[np.bytes_]:
    lines = load_array(file)
    if lines.dtype.kind not in "US":
        raise ValueError(f"{file} should hold graph6 strings; got dtype {lines.dtype}.")
    return lines.reshape(-1)


class BREC(InMemoryDataset):
    """The 400 pairs of BREC, read from its seven raw files.

    Graphs ``2 k`` and ``2 k + 1`` are pair ``k``. They carry no features (``x`` is ones). From *An Empirical
    Study of Realized GNN Expressiveness* (Wang and Zhang, ICML 2024).

    Args:
        root: Folder of the raw files ``basic.npy``, ``regular.npy``, ``str.npy``, ``extension.npy``,
            ``cfi.npy``, ``4vtx.npy`` and ``dr.npy``.
        kinds: The kinds to read, keys of :func:`brec_ranges`; ``None`` for all.
        transform: Applied to each graph when it is read.

    Attributes:
        pair_ids: Number of every pair in the whole of BREC.

    Raises:
        ValueError: If a kind is unknown or there is none, or a file does not hold the expected number of
            graph6 strings.
        FileNotFoundError: If a file is missing.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        kinds: tuple[str, ...] | None = None,
        transform: Callable[[Data], Data] | None = None,
    ) -> None:
        super().__init__(None, transform)
        ranges = brec_ranges()
        if isinstance(kinds, str) or (kinds is not None and not kinds):
            raise ValueError(f"`kinds` must be several names, or None for all; got {kinds!r}.")
        for kind in kinds or ():
            check_one_of(kind, "kinds", ranges)
        graphs: list[Data] = []
        self.pair_ids: list[int] = []
        for block in BREC_BLOCKS:
            if kinds is not None and block.name not in kinds:
                continue
            file = Path(root) / block.file
            lines = _load_lines(file)
            if lines.size != 2 * block.pairs:
                raise ValueError(f"{file} should hold {2 * block.pairs} graphs; got {lines.size}.")
            graphs += graphs_from_graph6(lines.tolist(), str(file))
            self.pair_ids += ranges[block.name]
        self.data, self.slices = self.collate(graphs)

    def pair(self, number: int) -> tuple[Data, Data]:
        """The two graphs of the pair at position ``number``."""
        return self[2 * number], self[2 * number + 1]


class BRECCopies:
    """Relabelled copies of the BREC pairs for the paired comparison procedure (``brec_v3.npy``).

    The file holds a block of 64 graphs per pair, 32 copies of each graph of the pair interleaved, and
    then as many reliability blocks, each of 64 copies of one graph of its pair. Blocks are parsed when
    they are asked for.

    Args:
        path: The file, or the folder that holds it as ``brec_v3.npy``.

    Raises:
        ValueError: If the number of graphs is not a multiple of 128, or they are no strings.
        FileNotFoundError: If there is no such file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.file = file_in(path, "brec_v3.npy")
        self._lines = _load_lines(self.file)
        if not self._lines.size or self._lines.size % (2 * BREC_BLOCK_SIZE):
            raise ValueError(
                f"{self.file} should hold a multiple of 128 graphs (64 of each pair and 64 of its "
                f"reliability block); got {self._lines.size}."
            )

    def __len__(self) -> int:
        return self._lines.size // (2 * BREC_BLOCK_SIZE)

    def block(self, number: int) -> list[Data]:
        """The 64 copies of pair ``number``: its first graph at even, its second at odd positions."""
        return self._read(number, 0)

    def reliability_block(self, number: int) -> list[Data]:
        """64 copies of one of the graphs of pair ``number``."""
        return self._read(number, len(self))

    def _read(self, number: int, offset: int) -> list[Data]:
        if not 0 <= number < len(self):
            raise IndexError(f"pair number must be in 0..{len(self) - 1}, got {number}")
        start = (number + offset) * BREC_BLOCK_SIZE
        return graphs_from_graph6(
            self._lines[start : start + BREC_BLOCK_SIZE].tolist(), f"{self.file}, block {number}"
        )
