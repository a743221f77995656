"""Graph regression tasks that are trained on small graphs and tested on larger ones.

A network extrapolates on them only if its aggregations and its readout fit the task: the maximum
degree needs sums over neighbours and a maximum over nodes, a shortest path needs minima. They are
the usual yardstick for learned pooling (Xu et al., "How Neural Networks Extrapolate: From
Feedforward to Graph Neural Networks", ICLR 2021; Ko et al., "Learning to Pool in Graph Neural
Networks for Extrapolation", 2021).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra
from torch import Tensor
from torch_geometric.data import Data

from graphpool._arguments import check_at_least, check_one_of
from graphpool.datasets.generated import GeneratedDataset, GraphUnion
from graphpool.datasets.graphs.families import EXPANDER_PROBABILITY, FAMILIES, draw_graphs

FEATURES: tuple[str, ...] = ("identical", "uniform")


class _SizeExtrapolation(GeneratedDataset):
    """Graphs of one family whose label is a function of the degrees or of the number of nodes."""

    defaults = {
        "train": ((20, 30), 5000),
        "val": ((20, 30), 1000),
        "test": ((50, 100), 2500),
    }

    def __init__(
        self,
        root: str | os.PathLike[str] = "datasets",
        split: str = "train",
        family: str = "general",
        features: str = "identical",
        num_graphs: int | None = None,
        sizes: tuple[int, int] | None = None,
        feature_range: float = 5.0,
        seed: int = 0,
        transform: Callable[[Data], Data] | None = None,
        force_reload: bool = False,
        **extra: Any,
    ) -> None:
        check_one_of(features, "features", FEATURES)
        check_one_of(family, "family", FAMILIES)
        settings = {
            "family": family,
            "features": features,
            "feature_range": float(feature_range) if features == "uniform" else None,
            **self.drawn(split, sizes, num_graphs),
            **extra,
        }
        super().__init__(root, split, seed, settings, transform, force_reload)

    def label(self, union: GraphUnion) -> NDArray[np.float64]:
        """The label of every graph, ``[G]``."""
        raise TypeError(f"{type(self).__name__} does not say what its label is.")

    def generate(self, rng: np.random.Generator) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        s = self.settings
        union = GraphUnion(*draw_graphs(s["family"], s["sizes"], s["num_graphs"], rng))
        if s["features"] == "identical":
            x = torch.ones(union.total_nodes, 1)
        else:
            bound = s["feature_range"]
            x = torch.from_numpy(rng.uniform(-bound, bound, (union.total_nodes, 3))).float()
        return union.store(x, torch.from_numpy(self.label(union)).float().unsqueeze(1))


_COMMON_ARGS = """
    Args:
        root: Folder of the cache.
        split: ``"train"`` and ``"val"`` (n in 20, ..., 29; 5,000 and 1,000 graphs) or ``"test"`` (n
            in 50, ..., 99; 2,500 graphs asked for, of which the ``general`` family keeps 2,493).
        family: Graph family, one of :data:`graphpool.datasets.graphs.families.FAMILIES`. The published
            protocol always tests on ``general``.
        features: ``"identical"`` (one feature, all ones) or ``"uniform"`` (three features, uniform
            in ``[-feature_range, feature_range]``).
        num_graphs: Number of graphs; default as under ``split``.
        sizes: ``(low, high)``, n uniform in low, ..., high - 1; default as under ``split``.
        feature_range: Half-width of the ``"uniform"`` features (published: 5 in training, 5 or 10
            in the test).
        seed: Seed of the generator.
        transform: Applied to each graph when it is read.
        force_reload: Draw again even if the cache holds the data.

    Raises:
        ValueError: If a setting is unknown or leaves no graph to draw.
"""


class MaxDegree(_SizeExtrapolation):
    __doc__ = f"""Maximum degree: ``y = max_v deg(v)``.

    The best fixed pools are sum over neighbours and max over nodes.
    {_COMMON_ARGS}
    Example:
        >>> import tempfile
        >>> from graphpool.datasets import MaxDegree
        >>> graphs = MaxDegree(tempfile.mkdtemp(), split="train", num_graphs=90)
        >>> len(graphs), graphs[0].x.shape[1], int(graphs[0].y) < graphs[0].num_nodes
        (90, 1, True)
    """

    def label(self, union: GraphUnion) -> NDArray[np.float64]:
        return np.maximum.reduceat(union.degrees(), union.node_ptr[:-1]).astype(np.float64)


class HarmonicDegree(_SizeExtrapolation):
    __doc__ = f"""Harmonic mean of the degrees: ``y = n / sum_v 1 / deg(v)``.

    The best pools are sum over neighbours and the power mean of order -1 over nodes, which no usual
    readout is.
    {_COMMON_ARGS}
    """

    def label(self, union: GraphUnion) -> NDArray[np.float64]:
        return union.num_nodes / np.add.reduceat(1.0 / union.degrees(), union.node_ptr[:-1])


class InverseSize(_SizeExtrapolation):
    __doc__ = f"""Inverse number of nodes: ``y = scale / n``.

    The readout has to depend on the number of elements, in a way that neither sum nor mean does.
    ``scale`` (a keyword, 100 by default) brings the labels to the order of one.
    {_COMMON_ARGS}
    """

    def __init__(self, *args: Any, scale: float = 100.0, **kwargs: Any) -> None:
        super().__init__(*args, scale=float(scale), **kwargs)

    def label(self, union: GraphUnion) -> NDArray[np.float64]:
        return self.settings["scale"] / union.num_nodes.astype(np.float64)


class ShortestPath(GeneratedDataset):
    """Length of the shortest path between two marked nodes of a weighted graph.

    Node features are ``[noise, is source, is target]`` with noise uniform in [-5, 5]; ``edge_attr``
    ``[E, 1]`` holds the edge weight, equal in both directions. The source is uniform over nodes,
    the target uniform over the nodes within ``max_hops`` unweighted hops of it; both are drawn
    again until they differ and the weighted shortest path is unique and has at most ``max_hops``
    edges. Best fixed pools: min over neighbours, min over nodes.

    Args:
        root: Folder of the cache.
        split: ``"train"`` and ``"val"`` (n in 20, ..., 39; 10,000 and 1,000 graphs) or ``"test"``
            (n in 50, ..., 69; 2,500 graphs asked for).
        family: Graph family; ``expander`` uses edge probability 0.6 here.
        num_graphs: Number of graphs; default as under ``split``.
        sizes: ``(low, high)``, n uniform in low, ..., high - 1; default as under ``split``.
        max_weight: Edge weights are uniform in [1, max_weight] (published: 5 in training, 5 or 10
            in the test).
        max_hops: Largest number of edges on the path, at least 1.
        seed: Seed of the generator.
        transform: Applied to each graph when it is read.
        force_reload: Draw again even if the cache holds the data.

    Raises:
        ValueError: If a setting is unknown or leaves no graph to draw.
    """

    defaults = {
        "train": ((20, 40), 10_000),
        "val": ((20, 40), 1000),
        "test": ((50, 70), 2500),
    }

    def __init__(
        self,
        root: str | os.PathLike[str] = "datasets",
        split: str = "train",
        family: str = "general",
        num_graphs: int | None = None,
        sizes: tuple[int, int] | None = None,
        max_weight: float = 5.0,
        max_hops: int = 3,
        seed: int = 0,
        transform: Callable[[Data], Data] | None = None,
        force_reload: bool = False,
    ) -> None:
        check_one_of(family, "family", FAMILIES)
        check_at_least(max_hops, "max_hops", 1)
        if max_weight <= 1:
            raise ValueError(f"`max_weight` must be greater than 1; got {max_weight}.")
        settings = {
            "family": family,
            **self.drawn(split, sizes, num_graphs),
            "max_weight": float(max_weight),
            "max_hops": int(max_hops),
        }
        super().__init__(root, split, seed, settings, transform, force_reload)

    def generate(self, rng: np.random.Generator) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        s = self.settings
        probability = 0.6 if s["family"] == "expander" else EXPANDER_PROBABILITY
        graphs, num_nodes = draw_graphs(
            s["family"], s["sizes"], s["num_graphs"], rng, expander_probability=probability
        )
        union = GraphUnion(graphs, num_nodes)
        weight = _symmetric_weights(union, s["max_weight"], rng)
        source, target, length = draw_endpoints(union, weight, s["max_hops"], rng)

        x = np.zeros((union.total_nodes, 3))
        x[:, 0] = rng.uniform(-5.0, 5.0, union.total_nodes)
        x[source, 1] = 1.0
        x[target, 2] = 1.0
        return union.store(
            torch.from_numpy(x).float(),
            torch.from_numpy(length).float().unsqueeze(1),
            torch.from_numpy(weight).float().unsqueeze(1),
        )


def _symmetric_weights(
    union: GraphUnion, max_weight: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """One weight per undirected edge, at both of its directions, representable in float32."""
    low = np.minimum(union.source, union.target)
    high = np.maximum(union.source, union.target)
    _, edge = np.unique(low * union.total_nodes + high, return_inverse=True)
    drawn = rng.uniform(1.0, max_weight, edge.max() + 1).astype(np.float32)
    return drawn[edge].astype(np.float64)


def draw_endpoints(
    union: GraphUnion, weight: NDArray[np.float64], max_hops: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Draws source and target of every graph, and the length of the shortest path between them.

    All graphs are searched by one call, since their union has one source per component. Graphs
    whose pair is rejected are drawn again together.

    Args:
        union: The graphs.
        weight: Weight of every directed edge, equal in both directions, positive.
        max_hops: Largest number of edges, both of the unweighted and of the weighted shortest path.
        rng: Source of randomness.

    Returns:
        Source node, target node (numbered over the union) and length, one per graph.
    """
    total, num_graphs = union.total_nodes, len(union.num_nodes)
    graph = union.graph_of_node()
    weighted = csr_matrix((weight, (union.source, union.target)), shape=(total, total))
    source = np.zeros(num_graphs, dtype=np.int64)
    target = np.zeros(num_graphs, dtype=np.int64)
    length = np.zeros(num_graphs)
    open_graphs = np.arange(num_graphs)
    while open_graphs.size:
        s = union.node_ptr[open_graphs] + rng.integers(0, union.num_nodes[open_graphs])
        # Sources of settled graphs are left out, so the search does not enter them.
        hops = dijkstra(weighted, indices=s, unweighted=True, limit=max_hops, min_only=True)
        key = np.where(np.isfinite(hops), rng.random(total), -1.0)
        t = np.lexsort((key, graph))[union.node_ptr[open_graphs + 1] - 1]

        distance, before, _ = dijkstra(weighted, indices=s, min_only=True, return_predecessors=True)
        tight = distance[union.source] + weight == distance[union.target]
        tight &= np.isfinite(distance[union.target])
        choices = np.bincount(union.target[tight], minlength=total)
        accepted = _path_is_unique_and_short(s, t, before, choices, max_hops)
        done = open_graphs[accepted]
        source[done], target[done] = s[accepted], t[accepted]
        length[done] = distance[t[accepted]]
        open_graphs = open_graphs[~accepted]
    return source, target, length


def _path_is_unique_and_short(
    source: NDArray[np.int64],
    target: NDArray[np.int64],
    before: NDArray[np.int32],
    choices: NDArray[np.int64],
    max_hops: int,
) -> NDArray[np.bool_]:
    """Walks back from each target, at most ``max_hops`` edges, checking for a second predecessor."""
    node = target.copy()
    unique = np.ones(len(target), dtype=bool)
    for _ in range(max_hops):
        walking = node != source
        unique[walking] &= choices[node[walking]] == 1
        node[walking] = before[node[walking]]
    return (node == source) & unique & (source != target)
