"""Label policies: which labelings a graph gets, and what a copy keeps of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from graphpool._arguments import check_at_least, check_one_of
from graphpool.relational.copies import Copies, build_copies
from graphpool.relational.graphs import GraphBatch
from graphpool.relational.labelings import Labelings
from graphpool.relational.sampling import check_sample, draw_labelings
from graphpool.relational.supports import (
    Subsets,
    Support,
    Tuples,
    adjacent_pairs,
    close_tuples,
    cluster_tuples,
    single_edges,
)

#: What each policy admits, and what an empty graph can be helped by.
POLICIES: dict[str, str] = {
    "all": "all ordered l-tuples of nodes, repetition allowed",
    "subsets": "all subsets of l nodes, each with all l! ways to give it the labels",
    "adjacent": "ordered pairs of adjacent nodes (l = 2)",
    "ego": "as 'all', with `hops` required: the union of the balls around the labels",
    "node_deletion": "subsets of l nodes, which are removed",
    "edge_deletion": "edges, which are removed (l = 1, one edge)",
    "clusters": "ordered l-tuples of nodes of one cluster",
}


@dataclass(frozen=True)
class LabelPolicy:
    """A label policy.

    Args:
        name: One of

            =============== ==================================================================
            name            labelings of a graph
            =============== ==================================================================
            all             all ordered l-tuples of nodes, repetition allowed: n^l
            subsets         all subsets of l nodes, with all l! label assignments: C(n, l) l!
            adjacent        ordered pairs of adjacent nodes; l = 2
            ego             as ``all``, and ``hops`` must be given
            node_deletion   all subsets of l nodes; the copy is the graph without them
            edge_deletion   all edges; the copy is the graph without one; l = 1
            clusters        ordered l-tuples of nodes of one cluster, repetition allowed
            =============== ==================================================================

        labels: Number of labels l, at least 0.
        hops: Keep only nodes within so many hops of a label (the union of the balls), and the edges
            among them; ``None`` keeps the whole graph.
        max_distance: For ``all``, ``ego`` and ``subsets``: only labelings whose nodes are pairwise within so
            many hops.
        sample: Draw so many labelings of each graph (subsets of each graph, for ``subsets``), or, as a
            float in (0, 1], this fraction of them, rounded up. ``None`` takes all.
        replacement: Whether a labeling can be drawn twice.
        stratified: Draw ``sample`` labelings for every first label, so that every node comes first.

    Raises:
        ValueError: If an argument is out of range, or two do not go together.
        TypeError: If ``labels`` is not an int.
    """

    name: str = "all"
    labels: int = 1
    hops: int | None = None
    max_distance: int | None = None
    sample: int | float | None = None
    replacement: bool = False
    stratified: bool = False

    def __post_init__(self) -> None:
        check_one_of(self.name, "policy", POLICIES)
        if isinstance(self.labels, bool) or not isinstance(self.labels, int):
            raise TypeError(f"`labels` must be an int; got {self.labels!r}.")
        check_at_least(self.labels, "labels", 0)
        if self.name == "adjacent" and self.labels != 2:
            raise ValueError(
                f"`labels` must be 2 for policy='adjacent', which labels pairs; got {self.labels}."
            )
        if self.name == "edge_deletion" and self.labels != 1:
            raise ValueError(
                f"`labels` must be 1 for policy='edge_deletion', which removes one edge; got {self.labels}."
            )
        if self.labels == 0 and self.name not in ("all", "subsets"):
            raise ValueError(f"`labels` must be at least 1 for policy={self.name!r}; got 0.")
        if self.name == "ego" and self.hops is None:
            raise ValueError("`hops`, the radius of the ego nets, must be given for policy='ego'.")
        for name, value in (("hops", self.hops), ("max_distance", self.max_distance)):
            if value is not None and value < 0:
                raise ValueError(f"`{name}` must be at least 0; got {value}.")
        if self.hops is not None and (self.deletes or self.labels == 0):
            raise ValueError(
                f"`hops` needs labels that stay in the graph, not policy={self.name!r}."
            )
        if self.max_distance is not None and (
            self.name not in ("all", "ego", "subsets") or self.labels == 0
        ):
            raise ValueError(
                f"`max_distance` goes with policy 'all', 'ego' or 'subsets' and labels >= 1; "
                f"got policy={self.name!r} and labels={self.labels}."
            )
        check_sample(self.sample)
        if self.stratified and (self.labels == 0 or self.name in ("subsets", "node_deletion")):
            raise ValueError(
                "`stratified`=True needs labelings with a first label; got "
                f"policy={self.name!r} with labels={self.labels}."
            )

    @property
    def deletes(self) -> str | None:
        """``"nodes"`` or ``"edges"`` for the deletion policies, else ``None``."""
        return {"node_deletion": "nodes", "edge_deletion": "edges"}.get(self.name)

    @property
    def keeps_whole_graphs(self) -> bool:
        """Whether every copy has all nodes and edges."""
        return self.hops is None and self.deletes is None

    def support(self, graphs: GraphBatch, cluster: Tensor | None = None) -> Support:
        """The admissible labelings of a batch."""
        if self.hops is not None:
            graphs.require_undirected("`hops`")
        if self.name == "adjacent":
            return adjacent_pairs(graphs)
        if self.name == "edge_deletion":
            return single_edges(graphs)
        if self.name == "node_deletion":
            return Subsets(graphs, self.labels, assign=False)
        if self.name == "clusters":
            if cluster is None:
                raise ValueError(
                    "`cluster`, the cluster of every node, must be given for policy='clusters'."
                )
            return cluster_tuples(graphs, self.labels, cluster)
        subsets = self.name == "subsets"
        if self.max_distance is not None:
            return close_tuples(graphs, self.labels, self.max_distance, subsets)
        return Subsets(graphs, self.labels, True) if subsets else Tuples(graphs, self.labels)

    @torch.compiler.disable
    def labelings(
        self,
        graphs: GraphBatch,
        cluster: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Labelings:
        """The labelings of a batch, all or a fresh sample.

        Raises:
            ValueError: If a graph has no labeling, fewer than are to be drawn, or is directed where the
                policy needs undirected graphs.
        """
        support = self.support(graphs, cluster)
        empty = (support.counts == 0).nonzero()
        if empty.numel():
            raise ValueError(self._no_copy(graphs, int(empty[0])))
        return draw_labelings(
            graphs, support, self.sample, self.replacement, self.stratified, generator
        )

    def copies(
        self, graphs: GraphBatch, labelings: Labelings, max_distance: int | None = None
    ) -> Copies:
        """The union of the given labelings' copies, with distances to the labels up to ``max_distance``."""
        return build_copies(graphs, labelings, self.hops, self.deletes, max_distance)

    def _no_copy(self, graphs: GraphBatch, graph: int) -> str:
        nodes = int(graphs.counts[graph])
        edges = int(graphs.edge_ptr[graph + 1] - graphs.edge_ptr[graph])
        if nodes == 0:
            help_ = "remove graphs without nodes, or use labels=0"
        elif self.name in ("adjacent", "edge_deletion"):
            help_ = "add edges to it or remove it, or use a policy that needs none, such as 'all'"
        elif self.max_distance is not None:
            help_ = "raise max_distance, or lower labels"
        else:
            help_ = f"lower labels to at most {nodes}, or use policy='all', which repeats nodes"
        return (
            f"`policy`={self.name!r} with labels={self.labels} yields no copy for graph {graph} "
            f"({nodes} nodes, {edges} directed edges): {help_}."
        )
