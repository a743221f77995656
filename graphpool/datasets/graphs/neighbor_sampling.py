"""Sampled neighbourhoods of one large graph."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.sampler import BaseSampler, NodeSamplerInput, SamplerOutput

from graphpool._arguments import as_edges
from graphpool.segments import Segments


class UniformNeighborSampler(BaseSampler):
    """Draws up to ``fanout`` in-neighbours of each node, without replacement, hop after hop.

    For :class:`torch_geometric.loader.NodeLoader`; it does what PyG's ``NeighborLoader`` does for graphs
    with one type of nodes, without pyg-lib or torch-sparse. Each edge comes at most once in a sample, and
    the neighbours of a node are drawn at the first hop that reaches it.

    Args:
        edge_index: ``[2, E]``, edges from ``edge_index[0]`` to ``edge_index[1]``, in any order. Copied.
        num_nodes: Number of nodes.
        fanouts: Largest number of neighbours drawn for a node, one entry per hop; -1 for all.
        generator: Source of randomness; PyTorch's own where absent. Each worker of a loader would repeat the
            numbers of a given one: leave it absent there.

    Raises:
        ValueError: If there is no hop, a fanout is below -1, or ``edge_index`` does not fit.

    Example:
        >>> from torch_geometric.data import Data
        >>> from torch_geometric.loader import NodeLoader
        >>> from graphpool.datasets import UniformNeighborSampler
        >>> star = torch.tensor([[1, 2, 3, 4], [0, 0, 0, 0]])
        >>> sampler = UniformNeighborSampler(star, num_nodes=5, fanouts=[2])
        >>> data = Data(x=torch.arange(5.0).view(5, 1), edge_index=star)
        >>> batch = next(iter(NodeLoader(data, sampler, input_nodes=torch.tensor([0]))))
        >>> batch.num_nodes, batch.edge_index.tolist()
        (3, [[1, 2], [0, 0]])
    """

    def __init__(
        self,
        edge_index: Tensor,
        num_nodes: int,
        fanouts: Sequence[int],
        generator: torch.Generator | None = None,
    ) -> None:
        if not fanouts or min(fanouts) < -1:
            raise ValueError(
                f"`fanouts` must be numbers >= 0, or -1 for all, one per hop; got {fanouts}."
            )
        edge_index = as_edges(edge_index)
        # Checks the senders, too.
        source = Segments(index=edge_index[0], num_segments=num_nodes).index
        receivers = Segments(index=edge_index[1], num_segments=num_nodes)
        self.ptr, self.edge = receivers.ptr, receivers.perm
        self.source = source if self.edge is None else source[self.edge]
        self.fanouts, self.generator = list(fanouts), generator
        # Where each node stands in the current sample; -1 if it is not part of it.
        self.place = torch.full((num_nodes,), -1)

    @property
    def edge_permutation(self) -> Tensor | None:
        return self.edge

    def sample_from_nodes(self, inputs: NodeSamplerInput, **kwargs: object) -> SamplerOutput:
        seeds = inputs.node
        nodes, rows, cols, edges = [seeds], [], [], []
        self.place[seeds] = torch.arange(seeds.numel())
        known, begin = seeds.numel(), 0
        for fanout in self.fanouts:
            frontier = nodes[-1]
            edge, owner = self._draw(frontier, fanout)
            neighbour = self.source[edge]
            fresh = neighbour[self.place[neighbour] < 0].unique()
            self.place[fresh] = torch.arange(known, known + fresh.numel())
            rows.append(self.place[neighbour])
            cols.append(owner + begin)
            edges.append(edge)
            nodes.append(fresh)
            begin, known = known, known + fresh.numel()
        node = torch.cat(nodes)
        self.place[node] = -1
        return SamplerOutput(
            node=node,
            row=torch.cat(rows),
            col=torch.cat(cols),
            edge=torch.cat(edges),
            num_sampled_nodes=[part.numel() for part in nodes],
            num_sampled_edges=[part.numel() for part in edges],
            metadata=(inputs.input_id, inputs.time),
        )

    def sample_from_edges(self, *args: object, **kwargs: object) -> SamplerOutput:
        raise TypeError("UniformNeighborSampler starts from nodes; use a NodeLoader.")

    def _draw(self, nodes: Tensor, fanout: int) -> tuple[Tensor, Tensor]:
        """Drawn edges (positions in receiver order), and which entry of ``nodes`` each belongs to."""
        count = self.ptr[nodes + 1] - self.ptr[nodes]
        bags = Segments.from_counts(count)
        owner = bags.index
        edge = torch.arange(owner.numel()) - bags.ptr[owner] + self.ptr[nodes][owner]
        if fanout < 0:
            return edge, owner
        # The smallest random keys of a bag are a uniform choice without replacement.
        keys = torch.rand(owner.numel(), dtype=torch.float64, generator=self.generator)
        order = (owner + keys).argsort()
        rank = torch.arange(owner.numel()) - bags.ptr[owner]
        kept = order[rank < fanout]
        return edge[kept], owner[kept]
