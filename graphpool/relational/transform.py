"""Labelled copies computed beforehand, in the workers of a data loader."""

from __future__ import annotations

from typing import Any

import torch
from torch_geometric.data import Data
from torch_geometric.transforms import BaseTransform

from graphpool.relational.copies import Copies
from graphpool.relational.graphs import GraphBatch
from graphpool.relational.labelings import Labelings
from graphpool.relational.policies import LabelPolicy

_OPTIONAL = ("copies_distance", "copies_weight", "copies_unit")


class DataWithCopies(Data):
    """A graph that carries its labelled copies, and renumbers them when it is put into a mini-batch."""

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        steps = {
            "copies_node": "num_nodes",
            "copies_labels": "num_nodes",
            "copies_edge_id": "num_edges",
        }
        if key in steps:
            return getattr(self, steps[key])
        if key == "copies_of":
            return self.copies_labels.size(0)
        if key == "copies_edge_index":
            return self.copies_node.numel()
        if key == "copies_unit":
            return int(value[-1]) + 1 if value.numel() else 0
        if key.startswith("copies_"):
            return 0
        return super().__inc__(key, value, *args, **kwargs)

    def __cat_dim__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        if key.startswith("copies_"):
            return -1 if key == "copies_edge_index" else 0
        return super().__cat_dim__(key, value, *args, **kwargs)

    # PyG tells node from edge attributes by their length, which may be that of something else here.
    def is_node_attr(self, key: str) -> bool:
        return not key.startswith("copies_") and super().is_node_attr(key)

    def is_edge_attr(self, key: str) -> bool:
        return not key.startswith("copies_") and super().is_edge_attr(key)


class LabelledCopies(BaseTransform):
    """Adds the labelled copies of a policy to a graph, for ``LabelPooling(...)(..., copies=...)``.

    Building them costs index work only; as a ``transform`` it is done by the workers of a data loader
    (and a sample is drawn afresh each time), as a ``pre_transform`` once. :func:`copies_of` reads them
    from a batch.

    Args:
        policy: The policy.
        max_distance: Also store distances to the labels, as far as this, for a distance encoding.

    Raises:
        ValueError: If a graph has no admissible labeling.

    Example:
        >>> from torch_geometric.loader import DataLoader
        >>> from torch_geometric.nn import GIN
        >>> from graphpool.datasets import CSL
        >>> from graphpool.relational import LabelPolicy, LabelPooling, LabelledCopies, copies_of
        >>> policy = LabelPolicy("ego", labels=1, hops=1)
        >>> model = LabelPooling(GIN(2, 8, 2), policy=policy)
        >>> batch = next(iter(DataLoader(CSL(transform=LabelledCopies(policy)), batch_size=4)))
        >>> model(batch.x, batch.edge_index, batch.batch, batch.num_graphs, copies=copies_of(batch)).shape
        torch.Size([4, 8])
    """

    def __init__(self, policy: LabelPolicy, max_distance: int | None = None) -> None:
        self.policy, self.max_distance = policy, max_distance

    def forward(self, data: Data) -> Data:
        graphs = GraphBatch(data.edge_index, int(data.num_nodes or 0))
        cluster = data.cluster if self.policy.name == "clusters" else None
        labelings = self.policy.labelings(graphs, cluster)
        copies = self.policy.copies(graphs, labelings, self.max_distance)
        out = DataWithCopies.from_dict(data.to_dict())
        out.num_nodes = data.num_nodes
        out.copies_node, out.copies_of = copies.node, copies.copy
        out.copies_edge_index, out.copies_edge_id = copies.edge_index, copies.edge_id
        out.copies_labels = labelings.nodes
        out.copies_count = torch.tensor([copies.num_copies])
        values = (copies.distance, labelings.weight, labelings.unit)
        for name, value in zip(_OPTIONAL, values, strict=True):
            if value is not None:
                out[name] = value
        if self.max_distance is not None:
            out.copies_reach = torch.tensor([self.max_distance])
        return out

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.policy})"


def copies_of(data: Data) -> Copies:
    """The copies that :class:`LabelledCopies` stored in a graph or a mini-batch of graphs.

    Raises:
        ValueError: If there are none.
    """
    if "copies_node" not in data:
        raise ValueError("`data` holds no copies; apply LabelledCopies to its graphs.")
    distance, weight, unit = (data.get(name) for name in _OPTIONAL)
    graph = torch.repeat_interleave(data.copies_count)
    return Copies(
        data.copies_node,
        data.copies_of,
        data.copies_edge_index,
        data.copies_edge_id,
        Labelings(graph, data.copies_labels, weight, unit),
        distance,
        None if distance is None else int(data.copies_reach[0]),
    )
