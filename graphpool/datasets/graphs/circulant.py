"""Circulant graphs, and the CSL data set made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data, InMemoryDataset

from graphpool._arguments import check_at_least
from graphpool.datasets.graphs.undirected import undirected_data

#: Skip lengths of the ten classes of CSL on 41 nodes, in the order of the classes.
CSL_SKIPS: tuple[int, ...] = (2, 3, 4, 5, 6, 9, 11, 12, 13, 16)


def circulant_edges(num_nodes: int, offsets: Sequence[int]) -> NDArray[np.int64]:
    r"""Edges :math:`\{i, i + r \bmod n\}` of the circulant graph for every offset :math:`r`.

    Args:
        num_nodes: Number of nodes :math:`n`, at least 1.
        offsets: Offsets, each in ``1..n-1``; an offset :math:`r` and :math:`n - r` give the same edges.

    Returns:
        Node pairs ``[m, 2]``, each edge once, the smaller node first.

    Raises:
        ValueError: If an offset is out of range.

    Example:
        >>> circulant_edges(4, [1]).tolist()
        [[0, 1], [0, 3], [1, 2], [2, 3]]
    """
    check_at_least(num_nodes, "num_nodes", 1)
    nodes = np.arange(num_nodes, dtype=np.int64)
    pairs = [np.empty((0, 2), dtype=np.int64)]
    for offset in offsets:
        if not 1 <= offset < num_nodes:
            raise ValueError(f"`offsets` must be in 1..{num_nodes - 1}; got {offset}.")
        pairs.append(np.stack([nodes, (nodes + offset) % num_nodes], axis=1))
    edges = np.sort(np.concatenate(pairs), axis=1)
    return np.unique(edges, axis=0)


def circulant_graph(num_nodes: int, offsets: Sequence[int]) -> Data:
    """The circulant graph with the given offsets, as :class:`~torch_geometric.data.Data`."""
    return undirected_data(circulant_edges(num_nodes, offsets), num_nodes)


def relabel(data: Data, permutation: Tensor) -> Data:
    """An isomorphic copy in which node ``i`` is called ``permutation[i]``.

    Node features move with their nodes, edge features stay with their edges; the edges are listed in
    the order of their new names, so that the copy holds no trace of the old order.

    Args:
        data: A graph.
        permutation: A permutation of its nodes, ``[num_nodes]`` int64.

    Raises:
        ValueError: If ``permutation`` is no permutation of the nodes.
    """
    n = int(data.num_nodes or 0)
    if permutation.shape != (n,) or not torch.equal(permutation.sort().values, torch.arange(n)):
        raise ValueError(f"`permutation` must hold each of 0..{n - 1} once.")
    inverse = torch.argsort(permutation)
    copy = data.clone()
    edge_index = permutation[data.edge_index]
    order = torch.argsort(edge_index[0] * n + edge_index[1], stable=True)
    for name, value in data.to_dict().items():
        if name == "edge_index":
            copy.edge_index = edge_index[:, order]
        elif isinstance(value, Tensor) and data.is_edge_attr(name):
            copy[name] = value[order]
        elif isinstance(value, Tensor) and data.is_node_attr(name):
            copy[name] = value[inverse]
    return copy


class CSL(InMemoryDataset):
    r"""Circulant skip links: ten classes of 4-regular graphs that 1-WL cannot tell apart.

    Class :math:`c` is the graph on :math:`n = 41` nodes with the edges :math:`\{i, i + 1 \bmod n\}` and
    :math:`\{i, i + R_c \bmod n\}`, for :math:`R` = 2, 3, 4, 5, 6, 9, 11, 12, 13, 16: one representative of
    each isomorphism class that a skip length on 41 nodes can give. Every class holds ``copies`` graphs, the
    first in its natural order, the others randomly relabelled. Graphs are stored class by class. No file
    is read. From *Relational Pooling for Graph Representations* (Murphy et al., ICML 2019).

    Args:
        copies: Graphs per class, at least 1.
        seed: Seed of the relabellings.
        transform: Applied to each graph when it is read.

    Raises:
        ValueError: If ``copies`` is below 1.

    Example:
        >>> data = CSL()
        >>> len(data), data.num_classes, data[0].num_edges
        (150, 10, 164)
    """

    def __init__(
        self, copies: int = 15, seed: int = 0, transform: Callable[[Data], Data] | None = None
    ) -> None:
        check_at_least(copies, "copies", 1)
        super().__init__(None, transform)
        generator = torch.Generator().manual_seed(seed)
        graphs = []
        for label, skip in enumerate(CSL_SKIPS):
            first = circulant_graph(41, (1, skip))
            first.y = torch.tensor([label])
            graphs.append(first)
            for _ in range(copies - 1):
                graphs.append(relabel(first, torch.randperm(41, generator=generator)))
        self.copies = copies
        self.data, self.slices = self.collate(graphs)

    def folds(self, num_folds: int = 5, seed: int = 1) -> list[tuple[Tensor, Tensor]]:
        """Stratified folds: the copies of each class are shuffled and cut into equal parts.

        Args:
            num_folds: Number of folds, a divisor of ``copies``.
            seed: Seed of the shuffles.

        Returns:
            ``(train, test)`` indices of every fold.

        Raises:
            ValueError: If ``num_folds`` does not divide ``copies``.
        """
        if num_folds < 2 or self.copies % num_folds:
            raise ValueError(
                f"`num_folds` must be a divisor of `copies` = {self.copies} from 2 on; got {num_folds}."
            )
        generator = torch.Generator().manual_seed(seed)
        shuffled = torch.stack(
            [torch.randperm(self.copies, generator=generator) for _ in CSL_SKIPS]
        )
        shuffled += torch.arange(len(CSL_SKIPS))[:, None] * self.copies
        parts = shuffled.view(len(CSL_SKIPS), num_folds, -1)
        folds = []
        for fold in range(num_folds):
            rest = torch.cat([parts[:, :fold], parts[:, fold + 1 :]], dim=1)
            folds.append((rest.reshape(-1), parts[:, fold].reshape(-1)))
        return folds
