"""EXP and CEXP: planar SAT instances in pairs that 1-WL cannot tell apart."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data, InMemoryDataset

from graphpool.datasets.graphs.undirected import undirected_data
from graphpool.datasets.on_disk import file_in
from graphpool.io.untrusted import integers, read_text


class _Lines:
    """The lines of a file as lists of integers, with errors that name the line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = read_text(path).rstrip().split("\n")
        self.at = 0

    def next(self, what: str) -> list[int]:
        if self.at >= len(self.lines):
            raise ValueError(f"{self.path} ends after line {self.at}, where {what} was expected.")
        self.at += 1
        try:
            return integers(self.lines[self.at - 1].split())
        except ValueError as error:
            raise self.error(f"expected integers ({what})") from error

    def error(self, message: str) -> ValueError:
        return ValueError(f"{self.path}, line {self.at}: {message}")


def read_graph_sat(path: str | os.PathLike[str]) -> list[Data]:
    """Reads the text format of EXP and CEXP.

    The first line holds the number of graphs. A graph is a line ``n label``, and for each of its nodes
    a line ``type degree neighbours...``.

    Args:
        path: The file.

    Returns:
        Graphs with ``x`` ``[n, 2]`` (one-hot: clause, literal) and ``y`` ``[1]`` (1 = satisfiable).

    Raises:
        ValueError: If the file is malformed or an edge is listed at one end only; the message names
            the line.
        FileNotFoundError: If there is no such file.
    """
    lines = _Lines(Path(path))
    head = lines.next("the number of graphs")
    if len(head) != 1 or head[0] < 1:
        raise lines.error(f"expected the number of graphs, at least 1, got {head}")
    graphs = [_read_one(lines) for _ in range(head[0])]
    if lines.at != len(lines.lines):
        raise ValueError(
            f"{path} announces {head[0]} graphs, which end at line {lines.at} of {len(lines.lines)}."
        )
    return graphs


def _read_one(lines: _Lines) -> Data:
    head = lines.next("`n label`")
    if len(head) != 2 or head[0] < 1 or head[1] not in (0, 1):
        raise lines.error(f"expected `n label` with n >= 1 and label 0 or 1, got {head}")
    n, label = head
    types: list[int] = []
    pairs: list[tuple[int, int]] = []
    for node in range(n):
        row = lines.next("`type degree neighbours...`")
        if len(row) < 2 or len(row) != row[1] + 2:
            raise lines.error(f"expected `type degree neighbours...`, got {row}")
        if row[0] not in (0, 1):
            raise lines.error(f"expected type 0 or 1, got {row[0]}")
        if any(not 0 <= other < n for other in row[2:]):
            raise lines.error(f"neighbours must be in 0..{n - 1}, got {row[2:]}")
        if node in row[2:] or len(set(row[2:])) != row[1]:
            raise lines.error(f"node {node} is its own neighbour or has one twice: {row[2:]}")
        types.append(row[0])
        pairs.extend((node, other) for other in row[2:])
    directed = set(pairs)
    for a, b in pairs:
        if (b, a) not in directed:
            raise lines.error(f"the graph that ends here lists edge ({a}, {b}) at node {a} only")
    once = np.array([(a, b) for a, b in directed if a < b], dtype=np.int64)
    x = torch.eye(2)[torch.tensor(types, dtype=torch.long)]
    return undirected_data(once, n, x=x, y=torch.tensor([label]))


class EXP(InMemoryDataset):
    """EXP: 600 pairs of planar SAT graphs, satisfiable and not, that 1-WL cannot tell apart.

    Graphs ``2 k`` and ``2 k + 1`` are a pair. One marked node separates all pairs. From *The Surprising
    Power of Graph Neural Networks with Random Node Initialization* (Abboud et al., IJCAI 2021).

    Args:
        path: The text file, or the folder that holds it under its usual name.
        transform: Applied to each graph when it is read.

    Raises:
        ValueError: If the file is malformed, or a pair does not hold one graph of each label.
        FileNotFoundError: If there is no such file.
    """

    file_name = "EXP_GRAPHSAT.txt"

    def __init__(
        self,
        path: str | os.PathLike[str],
        transform: Callable[[Data], Data] | None = None,
    ) -> None:
        super().__init__(None, transform)
        file = file_in(path, self.file_name)
        graphs = read_graph_sat(file)
        labels = torch.cat([graph.y for graph in graphs]) if graphs else torch.empty(0)
        if len(graphs) % 2 or not torch.equal(
            labels[::2] + labels[1::2], torch.ones(len(graphs) // 2)
        ):
            raise ValueError(
                f"{file} should hold pairs of a satisfiable and an unsatisfiable graph."
            )
        self.data, self.slices = self.collate(graphs)

    def pairs(self) -> Tensor:
        """Indices of the two graphs of every pair, ``[len / 2, 2]``."""
        return torch.arange(len(self)).view(-1, 2)

    def folds(self, num_folds: int = 10) -> list[tuple[Tensor, Tensor]]:
        """Contiguous folds, as in the protocol of the paper: ``(train, test)`` indices of each.

        Raises:
            ValueError: If ``num_folds`` is not in ``2..len``.
        """
        if not 2 <= num_folds <= len(self):
            raise ValueError(f"`num_folds` must be in 2..{len(self)}; got {num_folds}.")
        everything = torch.arange(len(self))
        parts = everything.tensor_split(num_folds)
        return [(everything[~torch.isin(everything, part)], part) for part in parts]


class CEXP(EXP):
    """CEXP: as :class:`EXP`, with every other pair made separable by 1-WL through added edges.

    Pairs with an even number (graphs with index mod 4 in ``{0, 1}``) are separable by 1-WL, the others
    are not: 300 of 600.
    """

    file_name = "CEXP_GRAPHSAT.txt"
