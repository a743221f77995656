"""Which nodes are labelled, in which copies."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from graphpool._arguments import check_one_per
from graphpool.relational.graphs import GraphBatch


@dataclass
class Labelings:
    """The labelled copies of a batch of graphs, one row each, sorted by graph.

    Attributes:
        graph: Graph of every copy ``[M]``.
        nodes: Labelled nodes of every copy ``[M, l]``, numbered over the batch.
        weight: How many copies this one stands for ``[M]`` when they are a sample, else ``None``.
        unit: Copies with the same number ``[M]`` are the label assignments of one node subset;
            ``None`` when every copy stands alone.
    """

    graph: Tensor
    nodes: Tensor
    weight: Tensor | None = None
    unit: Tensor | None = None

    @property
    def num_copies(self) -> int:
        return self.graph.numel()

    @property
    def num_labels(self) -> int:
        return self.nodes.size(1)

    def __getitem__(self, rows: slice) -> Labelings:
        return replace(
            self,
            graph=self.graph[rows],
            nodes=self.nodes[rows],
            weight=None if self.weight is None else self.weight[rows],
            unit=None if self.unit is None else self.unit[rows],
        )

    def groups(self, by: str, graphs: GraphBatch, cluster: Tensor | None) -> tuple[Tensor, Tensor]:
        """A number per copy ``[M]``, equal within a group, and the first copy of every group ``[G]``.

        Args:
            by: ``"subset"``, ``"root"`` (same first labelled node) or ``"cluster"``.
            graphs: The batch.
            cluster: Cluster of every node, for ``"cluster"``.
        """
        if by == "subset":
            alone = torch.arange(self.num_copies, device=self.graph.device)
            key = alone if self.unit is None else self.unit
        elif by == "root":
            key = self.nodes[:, 0]
        elif cluster is None:
            raise ValueError(
                "`cluster`, the cluster of every node, must be given for group='cluster'."
            )
        else:
            key = cluster_keys(graphs, cluster)[self.nodes[:, 0]]
        _, number, count = torch.unique(key, return_inverse=True, return_counts=True)
        first = torch.full((count.numel(),), self.num_copies, device=number.device)
        first.scatter_reduce_(
            0, number, torch.arange(self.num_copies, device=number.device), "amin"
        )
        return number, first


def cluster_keys(graphs: GraphBatch, cluster: Tensor) -> Tensor:
    """Clusters numbered over the batch, sorted by graph: the same name in two graphs is two clusters.

    Raises:
        ValueError: If there is not one cluster per node.
    """
    check_one_per("node", graphs.num_nodes, "cluster", cluster.shape)
    names = torch.unique(graphs.sort_nodes(cluster), return_inverse=True)[1]
    size = int(names.max()) + 1 if names.numel() else 1
    return torch.unique(graphs.batch * size + names, return_inverse=True)[1]
