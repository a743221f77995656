"""Pooling a network over copies of a graph with labelled nodes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from graphpool import _debug
from graphpool._arguments import check_one_of
from graphpool.aggr import resolve
from graphpool.relational.copies import Copies
from graphpool.relational.copy_pooling import (
    CopyPooling,
    CopyUnion,
    Plan,
    check_node_features,
    weighted_pool,
)
from graphpool.relational.encodings import LabelEncoding, resolve_encoding
from graphpool.relational.graphs import GraphBatch
from graphpool.relational.labelings import Labelings
from graphpool.relational.policies import LabelPolicy
from graphpool.relational.rectangular import Slices
from graphpool.segments import Segments

OUTPUTS = ("graph", "node", "root")
GROUPS = ("subset", "root", "cluster")


class LabelPlan(Plan):
    """Labelled copies of a batch."""

    def __init__(
        self,
        graphs: GraphBatch,
        policy: LabelPolicy,
        labelings: Labelings,
        encoding: nn.Module,
        copies: Copies | None,
    ) -> None:
        self.graphs, self.policy, self.labelings = graphs, policy, labelings
        self.graph, self.encoding, self.copies = labelings.graph, encoding, copies
        self.max_distance = getattr(encoding, "max_distance", None)

    @property
    def fits_rectangle(self) -> bool:
        return self.policy.keeps_whole_graphs and self.copies is None

    def root_of_copies(self) -> Tensor:
        return self.labelings.nodes[:, 0]

    @torch.compiler.disable(recursive=False)
    def union(self, x: Tensor, rows: slice, roots: bool) -> CopyUnion:
        copies = self._consecutive_copies(rows)
        labels = copies.marks() if self.max_distance is None else copies.distance
        return CopyUnion(
            self.encoding(x.index_select(0, copies.node), labels),
            copies.node,
            copies.copy,
            copies.edge_index,
            copies.edge_id,
            copies.num_copies,
            copies.roots() if roots else None,
        )

    @_debug.on_values
    def _consecutive_copies(self, rows: slice) -> Copies:
        if self.copies is not None:
            return self.copies[rows]
        return self.policy.copies(self.graphs, self.labelings[rows], self.max_distance)

    @torch.compiler.disable(recursive=False)
    def rectangle(self, x: Tensor, slices: Slices, first: int, last: int) -> Tensor:
        if self.max_distance is None:
            labels = slices.marks(self.labelings, first, last)
        else:
            labels = slices.distances(self.labelings, self.max_distance, first, last)
        return self.encoding(x.unsqueeze(1).expand(-1, last - first, -1), labels)


class LabelPooling(CopyPooling):
    r"""Runs a network on copies of a graph with ``l`` labelled nodes, and pools over the copies.

    .. math::
        h(G) = \mathrm{outer}_{s \in \mathcal{S}(G)}\;
        \mathrm{inner}_{v \in G^s}\; \mathrm{GNN}\bigl(A^s, [X^s \mid z(s)]\bigr)_v,
        \qquad z_v(s) = (\mathbb{1}[v = s_1], \ldots, \mathbb{1}[v = s_l])

    for the labelings :math:`\mathcal{S}(G)` of a policy. With all l-tuples this has the power of the
    1,l-WL test, which grows with l and never exceeds that of (l+2)-WL; l = 0 is the network itself
    (Zhou, Wang and Zhang, *From Relational Pooling to Subgraph GNNs*, ICML 2023). Cost grows like n^l;
    samples, hops and distance limits keep it down.

    Args:
        gnn: Any network ``gnn(x, edge_index) -> [num_nodes, d]``. Its input has l more channels than
            ``x`` unless another encoding is chosen. Called with ``edge_attr=`` or ``edge_weight=`` if
            they are given.
        labels: Number of labelled nodes l, at least 0. (For the deletion policies: of what is removed.)
        policy: ``"all"``, ``"subsets"``, ``"adjacent"``, ``"ego"``, ``"node_deletion"``,
            ``"edge_deletion"`` or ``"clusters"``: see :class:`LabelPolicy`; or a :class:`LabelPolicy`,
            which then holds ``labels``, ``hops``, ``max_distance`` and how to sample.
        inner: Pool over the nodes of a copy: anything :func:`graphpool.aggr.resolve` takes, or
            ``"root"``, the first labelled node.
        outer: Pool over the copies of a graph (for node outputs, of a node): anything
            :func:`graphpool.aggr.resolve` takes.
        encoding: ``"one_hot"`` (one channel per label; the default where labelled nodes stay),
            ``"none"`` (the default for deletions), ``"distance"`` (one-hot distances to each label,
            l (hops + 2) more channels), or a module such as :class:`Embedding` or :class:`Distance`.
        hops: Keep only nodes within so many hops of a label.
        max_distance: Only labelings whose nodes are pairwise within so many hops.
        sample: Draw so many labelings per graph (int), or this fraction of them (float), in every
            forward. Each counts with the number of labelings it stands for, so that sums and means over
            copies are unbiased (Horvitz-Thompson); maxima and what follows a nonlinearity are not.
        replacement: Draw with replacement.
        stratified: Draw ``sample`` labelings for each first label instead of each graph.
        group: Pool in two steps: over the copies with the same ``"root"`` (first label), ``"subset"``
            (the label assignments of one subset) or ``"cluster"``, then over these groups. ``None``:
            ``"subset"`` for the policy ``"subsets"``, else one step.
        group_pool: Pool within a group.
        between: A network applied to what ``inner`` returns, before anything is pooled over copies, such as
            an MLP. Without a nonlinearity there, two sums in a row are one sum over all nodes of all copies.
        output: ``"graph"`` ``[B, d]``; ``"node"`` ``[N, d]``, where ``outer`` pools each node over the
            copies that hold it; or ``"root"`` ``[N, d]``, where it pools the copies whose first label
            is that node. Nodes without a copy get 0.
        form: ``"rectangular"`` (copies are an axis of the features; whole graphs only, and the network
            must treat axes between the first and the last as a batch), ``"ragged"`` (a disjoint union),
            or ``"auto"``: the cheaper one that is known to be correct.
        max_copies: The most copies the network sees at once, to bound memory (in the rectangular form,
            rounded to whole slices of one copy per graph). Backward computes each part again. The
            result is the same, but for layers that mix copies, such as batch normalisation in training.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range or two do not go together; in ``forward``, if a graph has
            no admissible labeling or fewer than ``sample``, or is directed where that has no meaning.

    Example:
        >>> from torch_geometric.nn import GIN
        >>> from graphpool.datasets import circulant_graph
        >>> from graphpool.relational import LabelPooling
        >>> model = LabelPooling(GIN(1 + 1, 8, 3), labels=1)
        >>> data = circulant_graph(7, [1, 2])
        >>> model(data.x, data.edge_index).shape
        torch.Size([1, 8])
    """

    def __init__(
        self,
        gnn: nn.Module,
        labels: int = 1,
        policy: str | LabelPolicy = "all",
        inner: Any = "sum",
        outer: Any = "sum",
        *,
        encoding: str | nn.Module | None = None,
        hops: int | None = None,
        max_distance: int | None = None,
        sample: int | float | None = None,
        replacement: bool = False,
        stratified: bool = False,
        group: str | None = None,
        group_pool: Any = "mean",
        between: nn.Module | None = None,
        output: str = "graph",
        form: str = "auto",
        max_copies: int | None = None,
    ) -> None:
        settings = (hops, max_distance, sample, replacement, stratified)
        if isinstance(policy, str):
            policy = LabelPolicy(policy, labels, *settings)
        elif labels not in (1, policy.labels) or settings != (None, None, None, False, False):
            raise ValueError(
                "A LabelPolicy holds labels, hops, max_distance, sample, replacement and stratified; "
                "give them there only."
            )
        check_one_of(output, "output", OUTPUTS)
        super().__init__(gnn, inner, outer, form, max_copies, output == "node", between)
        self.policy, self.output = policy, output
        rooted = policy.labels > 0 and not policy.deletes
        if not rooted and (output == "root" or inner == "root" or group == "root"):
            raise ValueError(
                "`output`, `inner` or `group` 'root' needs labelled nodes that stay in the graph; got "
                f"policy={policy.name!r} with labels={policy.labels}."
            )
        self.encoding = resolve_encoding(encoding, policy.deletes is None, policy.hops)
        if group is None and policy.name == "subsets" and policy.labels > 1 and output != "node":
            group = "subset"
        if group is not None and group not in GROUPS:
            raise ValueError(f"`group` must be one of {', '.join(GROUPS)} or None; got {group!r}.")
        if group is not None and output == "node":
            raise ValueError("`group` has no meaning with output='node', which pools per node.")
        self.group = group
        if group is not None:
            self.group_pool = resolve(group_pool, channels=self.channels_between)

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        batch: Tensor | Segments | None = None,
        batch_size: int | None = None,
        *,
        edge_attr: Tensor | None = None,
        edge_weight: Tensor | None = None,
        cluster: Tensor | None = None,
        copies: Copies | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Pools a mini-batch of graphs.

        Args:
            x: Node features ``[N, d]``.
            edge_index: ``[2, E]``.
            batch: Graph of every node ``[N]``, in any order (sorted where ``copies`` are given), or
                :class:`~graphpool.Segments`; ``None`` for one graph.
            batch_size: Number of graphs B, required with a tensor ``batch``.
            edge_attr: Edge features ``[E, d_e]``, passed on to the network.
            edge_weight: Edge weights ``[E]``, passed on to the network.
            cluster: Cluster of every node ``[N]``, for the policy and the group of that name.
            copies: Copies computed beforehand (:class:`LabelledCopies`), in place of drawing them.
            generator: Source of randomness of the sample.

        Returns:
            ``[B, d]``, or ``[N, d]`` for node and root outputs.
        """
        check_node_features(x)
        if self.policy.sample is not None and copies is None:
            _debug.refuse_draws_apart()
        plan = self._plan(x.size(0), edge_index, batch, batch_size, cluster, copies, generator)
        values, node, copy = self._embed(plan, x, edge_attr, edge_weight)
        graphs, labelings = plan.graphs, plan.labelings
        weight = labelings.weight
        if self.output == "node":
            at = None if weight is None else weight[copy]
            pooled = weighted_pool(self.outer, values, node, graphs.num_nodes, at)
            return graphs.as_given(pooled)
        index = labelings.nodes[:, 0] if self.output == "root" else labelings.graph
        if self.group is not None:
            number, first = labelings.groups(self.group, graphs, cluster)
            # Subsets are drawn whole; other groups are drawn from.
            within = None if self.group == "subset" else weight
            values = weighted_pool(self.group_pool, values, number, first.numel(), within)
            index = index[first]
            weight = weight[first] if weight is not None and self.group == "subset" else None
        if self.output == "root":
            pooled = weighted_pool(self.outer, values, index, graphs.num_nodes, weight)
            return graphs.as_given(pooled)
        return weighted_pool(self.outer, values, index, graphs.num_graphs, weight)

    @torch.compiler.disable
    @_debug.on_values
    def _plan(
        self,
        num_nodes: int,
        edge_index: Tensor,
        batch: Tensor | Segments | None,
        batch_size: int | None,
        cluster: Tensor | None,
        copies: Copies | None,
        generator: torch.Generator | None,
    ) -> LabelPlan:
        graphs = GraphBatch(edge_index, num_nodes, batch, batch_size)
        if copies is not None:
            if graphs.order is not None:
                raise ValueError(
                    "`batch` must be sorted where `copies` are given, which number the nodes."
                )
            labelings = copies.labelings
            if isinstance(self.encoding, LabelEncoding) and self.encoding.max_distance is not None:
                _check_distances(copies, self.encoding.max_distance)
        else:
            labelings = self.policy.labelings(graphs, cluster, generator)
        return LabelPlan(graphs, self.policy, labelings, self.encoding, copies)

    def extra_repr(self) -> str:
        group = "" if self.group is None else f", group={self.group!r}"
        return f"{self.policy}, output={self.output!r}{group}, form={self.form!r}"


def _check_distances(copies: Copies, max_distance: int) -> None:
    found = None if copies.distance is None else copies.max_distance
    if found != max_distance:
        raise ValueError(
            f"The encoding needs distances up to {max_distance}, but `copies` holds "
            f"{'none' if found is None else f'them as far as {found}'}; compute them with "
            f"max_distance={max_distance}."
        )
