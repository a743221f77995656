"""The common part of all generated data sets: seeding, caching, storage."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data, InMemoryDataset

from graphpool._arguments import check_at_least, check_one_of
from graphpool.datasets.on_disk import check_cache
from graphpool.io.untrusted import load_tensors

SPLITS: tuple[str, ...] = ("train", "val", "test")

# Part of every cache key: raise it when a generator changes what it returns.
_FORMAT = 1


class GeneratedDataset(InMemoryDataset):
    """A data set that is computed, not downloaded.

    Subclasses draw all graphs in :meth:`generate`. The result depends on ``split``, ``seed`` and
    the other settings only, is stored once under ``root`` as plain tensors (read back with
    ``torch.load(weights_only=True)``), and is found again by every later call with the same
    settings.

    Args:
        root: Folder of the cache.
        split: ``"train"``, ``"val"`` or ``"test"``. Splits of equal settings are drawn
            independently.
        seed: Seed of the generator, at least 0.
        settings: Everything else that the result depends on.
        transform: Applied to each graph when it is read.
        force_reload: Draw again even if the cache holds the data.

    Raises:
        ValueError: If ``split`` is unknown or ``seed`` negative.
    """

    #: (range of sizes, number of graphs) of each split, where they have one.
    defaults: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str,
        seed: int,
        settings: Mapping[str, Any],
        transform: Callable[[Data], Data] | None = None,
        force_reload: bool = False,
    ) -> None:
        check_one_of(split, "split", SPLITS)
        check_at_least(seed, "seed", 0)
        self.split = split
        self.seed = seed
        self.settings = dict(settings)
        self.cache_root = Path(root)
        check_cache(Path(self.processed_dir), names=())
        super().__init__(str(root), transform, log=False, force_reload=force_reload)
        data, slices = self._stored(Path(self.processed_paths[0]))
        if "edge_index" in data:
            data["edge_index"] = data["edge_index"].long()
        self.data, self.slices = Data.from_dict(data), slices

    @classmethod
    def drawn(cls, split: str, sizes: tuple[int, int] | None, count: int | None) -> dict[str, Any]:
        """The settings ``sizes`` and ``num_graphs`` as given, or what ``defaults`` say of the split."""
        check_one_of(split, "split", SPLITS)
        default_sizes, default_count = cls.defaults.get(split, ((0, 0), 0))
        low, high = default_sizes if sizes is None else sizes
        return {
            "num_graphs": default_count if count is None else int(count),
            "sizes": (int(low), int(high)),
        }

    @staticmethod
    def _stored(path: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Tensors and slices in the cache.

        Raises:
            ValueError: The file is damaged.
        """
        stored = load_tensors(path)
        try:
            data, slices = stored["data"], stored["slices"]
            for name, value in data.items():
                ends = slices[name]
                edge = value.size(-1 if name == "edge_index" else 0)
                if ends[0] != 0 or ends[-1] != edge or bool((ends[1:] < ends[:-1]).any()):
                    raise ValueError(f"The slices of {name!r} do not fit.")
        except (KeyError, TypeError, IndexError, AttributeError, RuntimeError, ValueError) as error:
            raise ValueError(
                f"{path} is damaged; delete it, and it is made anew. The reason: {error}"
            ) from None
        return data, slices

    @property
    def processed_dir(self) -> str:
        return str(self.cache_root / "generated" / type(self).__name__)

    @property
    def processed_file_names(self) -> str:
        key = repr(
            (_FORMAT, type(self).__name__, self.split, self.seed, sorted(self.settings.items()))
        )
        return f"{self.split}-seed{self.seed}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.pt"

    def generate(self, rng: np.random.Generator) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Draws the concatenated tensors of all graphs, and the slices of each graph in them."""
        raise TypeError(f"{type(self).__name__} does not say how it is generated.")

    def process(self) -> None:
        rng = np.random.default_rng([self.seed, SPLITS.index(self.split)])
        data, slices = self.generate(rng)
        if "edge_index" in data:
            # Node numbers within one graph are small, and dense graphs have millions of edges.
            fits = data["edge_index"].numel() == 0 or int(data["edge_index"].max()) < 2**15
            data["edge_index"] = data["edge_index"].to(torch.int16 if fits else torch.int32)
        target = Path(self.processed_paths[0])
        # Two processes may draw the same data at once: the rename is atomic, and both write the
        # same.
        partial = target.with_suffix(f".{os.getpid()}.partial")
        torch.save({"data": data, "slices": slices}, partial)
        os.replace(partial, target)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.split}, {len(self)})"


def offsets(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """``[0, c0, c0 + c1, ...]``: where each graph begins among the concatenated rows."""
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts, dtype=np.int64)])


class GraphUnion:
    """Many undirected graphs side by side, each edge in both directions, sorted by receiving node.

    Args:
        graphs: One array ``[edges, 2]`` of node pairs per graph.
        num_nodes: Number of nodes of each graph.

    Attributes:
        node_ptr: First node of each graph in the union, ``[G + 1]``.
        edge_ptr: First directed edge of each graph, ``[G + 1]``.
        source: Sending node of each directed edge, numbered over the union.
        target: Receiving node of each directed edge, numbered over the union.
    """

    def __init__(self, graphs: list[NDArray[np.int64]], num_nodes: NDArray[np.int64]) -> None:
        self.num_nodes = np.asarray(num_nodes, dtype=np.int64)
        self.node_ptr = offsets(self.num_nodes)
        num_edges = np.array([2 * len(edges) for edges in graphs], dtype=np.int64)
        self.edge_ptr = offsets(num_edges)
        pairs = np.concatenate(graphs) + np.repeat(self.node_ptr[:-1], num_edges // 2)[:, None]
        source = np.concatenate([pairs[:, 0], pairs[:, 1]])
        target = np.concatenate([pairs[:, 1], pairs[:, 0]])
        order = np.lexsort((source, target))
        self.source, self.target = source[order], target[order]

    @property
    def total_nodes(self) -> int:
        return int(self.node_ptr[-1])

    def degrees(self) -> NDArray[np.int64]:
        """Degree of every node of the union."""
        return np.bincount(self.target, minlength=self.total_nodes)

    def graph_of_node(self) -> NDArray[np.int64]:
        """Graph of every node of the union."""
        return np.repeat(np.arange(len(self.num_nodes)), self.num_nodes)

    def edge_index(self) -> Tensor:
        """``[2, E]`` node numbers within each graph, as PyTorch Geometric stores them."""
        shift = np.repeat(self.node_ptr[:-1], np.diff(self.edge_ptr))
        return torch.from_numpy(np.stack([self.source - shift, self.target - shift]))

    def store(
        self, x: Tensor, y: Tensor, edge_attr: Tensor | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Tensors and slices of a data set with node features ``x`` and a row of ``y`` per graph."""
        node_ptr, edge_ptr = torch.from_numpy(self.node_ptr), torch.from_numpy(self.edge_ptr)
        data = {"x": x, "edge_index": self.edge_index(), "y": y}
        slices = {"x": node_ptr, "edge_index": edge_ptr, "y": torch.arange(len(y) + 1)}
        if edge_attr is not None:
            data["edge_attr"], slices["edge_attr"] = edge_attr, edge_ptr
        return data, slices
