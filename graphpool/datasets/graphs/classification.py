"""A graph classification task that needs no file."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from graphpool.datasets.generated import GeneratedDataset, GraphUnion
from graphpool.datasets.graphs.families import FAMILIES, draw_graphs


class GraphFamilies(GeneratedDataset):
    """Which family does a graph come from?

    One class per family, equally many graphs of each, all node features 1. Families whose degrees
    differ are told apart by almost any network; ``cycle`` against two cycles this is not.

    Args:
        root: Folder of the cache.
        split: ``"train"``, ``"val"`` or ``"test"``, drawn independently.
        families: The classes, names out of :data:`graphpool.datasets.graphs.families.FAMILIES`, at least two.
        num_graphs: Graphs per class (``general`` keeps a multiple of nine of them).
        sizes: ``(low, high)``, size argument uniform in low, ..., high - 1.
        seed: Seed of the generator.
        transform: Applied to each graph when it is read.
        force_reload: Draw again even if the cache holds the data.

    Raises:
        ValueError: If a family is unknown, there are fewer than two, or no graph is left to draw.

    Example:
        >>> import tempfile
        >>> graphs = GraphFamilies(tempfile.mkdtemp(), families=("tree", "cycle"), num_graphs=5)
        >>> len(graphs), graphs.num_classes, graphs[0].y
        (10, 2, tensor([0]))
    """

    def __init__(
        self,
        root: str | os.PathLike[str] = "datasets",
        split: str = "train",
        families: tuple[str, ...] = ("tree", "ladder", "4regular", "expander"),
        num_graphs: int = 50,
        sizes: tuple[int, int] = (10, 20),
        seed: int = 0,
        transform: Callable[[Data], Data] | None = None,
        force_reload: bool = False,
    ) -> None:
        unknown = [name for name in families if name not in FAMILIES]
        if unknown or len(families) < 2:
            raise ValueError(
                f"`families` must be two or more of {', '.join(FAMILIES)}; got {families!r}."
            )
        settings = {
            "families": tuple(families),
            "num_graphs": int(num_graphs),
            "sizes": (int(sizes[0]), int(sizes[1])),
        }
        super().__init__(root, split, seed, settings, transform, force_reload)

    def generate(self, rng: np.random.Generator) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        s = self.settings
        drawn = [draw_graphs(name, s["sizes"], s["num_graphs"], rng) for name in s["families"]]
        union = GraphUnion(
            [edges for graphs, _ in drawn for edges in graphs],
            np.concatenate([sizes for _, sizes in drawn]),
        )
        counts = torch.tensor([len(graphs) for graphs, _ in drawn])
        labels = torch.arange(len(drawn)).repeat_interleave(counts)
        return union.store(torch.ones(union.total_nodes, 1), labels)
