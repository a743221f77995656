"""TU graph classification data."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch_geometric.data import Data
from torch_geometric.datasets import TUDataset
from torch_geometric.utils import degree, one_hot

from graphpool.datasets.graphs.tu_files import check_tu_files
from graphpool.datasets.on_disk import check_cache


class TUGraphs(TUDataset):
    """A TU data set, with node features in any case and a cache that may lie elsewhere than the raw
    files.

    Reads ``<root>/<name>/raw/*.txt`` if it is there, without a network, and downloads it otherwise.
    Data sets without node labels (the social networks) get one-hot degrees as features, as is usual
    (Xu et al., "How Powerful are Graph Neural Networks?", ICLR 2019).

    Args:
        root: Folder of the data sets, may be read-only.
        name: Name of the data set, such as ``"MUTAG"``.
        cache: Folder for what is computed from the raw files; default ``root``.
        max_degree: Degrees above it share one feature. Only used where there are no node labels.
        transform: Applied to each graph when it is read.
        use_node_attr: Whether to use real-valued node attributes besides the labels, where the data
            set has them.

    Raises:
        FileNotFoundError: If the raw files are absent and ``root`` cannot be written to.
        ValueError: If the raw files are damaged or do not fit together, or the cache is damaged.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] = "datasets",
        name: str = "MUTAG",
        cache: str | os.PathLike[str] | None = None,
        max_degree: int = 400,
        transform: Callable[[Data], Data] | None = None,
        use_node_attr: bool = False,
    ) -> None:
        self._cache = Path(root if cache is None else cache)
        raw = Path(root) / name / "raw" / f"{name}_A.txt"
        if not raw.exists() and Path(root).exists() and not os.access(root, os.W_OK):
            raise FileNotFoundError(f"{raw} does not exist, and root={str(root)!r} is read-only")
        check_cache(self._cache / name / "processed")
        super().__init__(str(root), name, transform=transform, use_node_attr=use_node_attr)
        if self._data.x is None or self._data.x.shape[1] == 0:
            self._add_degrees(max_degree)

    def process(self) -> None:
        check_tu_files(Path(self.raw_dir), self.name)
        try:
            super().process()
        except (ValueError, IndexError, RuntimeError) as error:
            raise ValueError(f"{self.raw_dir}: cannot read {self.name!r}: {error}") from error

    @property
    def processed_dir(self) -> str:
        return str(self._cache / self.name / "processed")

    def _add_degrees(self, max_degree: int) -> None:
        graphs = [self.get(i) for i in range(self.len())]
        degrees = torch.cat(
            [degree(g.edge_index[1], g.num_nodes, dtype=torch.long) for g in graphs]
        ).clamp(max=max_degree)
        self._data.x = one_hot(degrees, int(degrees.max()) + 1)
        sizes = torch.tensor([0] + [g.num_nodes for g in graphs])
        self.slices["x"] = sizes.cumsum(0)
        self._data_list = None  # What get() has kept has no features yet.
