"""TU graph classification data."""

from __future__ import annotations

import json
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

    What was read is kept, and read anew where the raw files are others than before.

    Args:
        root: Folder of the data sets, may be read-only.
        name: Name of the data set, such as ``"MUTAG"``.
        cache: Folder for what is computed from the raw files; default ``root``.
        max_degree: Degrees above it share one feature. Only used where there are no node labels.
        transform: Applied to each graph when it is read.
        use_node_attr: Whether to use real-valued node attributes besides the labels, where the data
            set has them.

    Raises:
        FileNotFoundError: If the raw files are absent, and ``root`` cannot be written to or they cannot be
            downloaded.
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
        self._raw_files, self.name = raw.parent, name
        check_cache(self._cache / name / "processed")
        super().__init__(
            str(root),
            name,
            transform=transform,
            use_node_attr=use_node_attr,
            force_reload=self._is_of_other_files(),
        )
        self._count_all_graphs()
        if self._data.x is None or self._data.x.shape[1] == 0:
            self._add_degrees(max_degree)

    def process(self) -> None:
        check_tu_files(Path(self.raw_dir), self.name)
        try:
            super().process()
        except (ValueError, IndexError, RuntimeError) as error:
            raise ValueError(f"{self.raw_dir}: cannot read {self.name!r}: {error}") from error
        self._stamp.write_text(json.dumps(self._files()), "utf-8")

    @property
    def _stamp(self) -> Path:
        return Path(self.processed_dir) / "source.json"

    def _files(self) -> dict[str, list[int]]:
        """Size and time of each raw file."""
        found = ((path.name, path.stat()) for path in sorted(self._raw_files.glob("*.txt")))
        return {name: [s.st_size, s.st_mtime_ns] for name, s in found}

    def _is_of_other_files(self) -> bool:
        """Whether the cache was made from other files than those that are there now."""
        files = self._files()
        if not files or not self._stamp.exists():
            return False  # nothing to read anew, or a cache that PyTorch Geometric has made
        return self._stamp.read_text("utf-8", "replace") != json.dumps(files)

    def _count_all_graphs(self) -> None:
        """The last graphs may have no edges: PyTorch Geometric counts edges up to the last graph with any."""
        graphs = max(map(len, self.slices.values())) - 1
        if self._data.x is None:
            graphs = len(self._data._num_nodes)
        for name in ("edge_index", "edge_attr"):
            if name in self.slices:
                ends = self.slices[name]
                self.slices[name] = torch.cat([ends, ends[-1:].expand(graphs + 1 - len(ends))])

    def download(self) -> None:
        try:
            super().download()
        except OSError as error:
            raise FileNotFoundError(
                f"{self._raw_files / self.name}_A.txt does not exist, and {self.name!r} cannot be "
                f"downloaded: {error}"
            ) from error

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
