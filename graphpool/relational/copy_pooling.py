"""Running a network on many copies of each graph, and pooling what comes out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from graphpool import _debug
from graphpool._arguments import check_one_of, what_came
from graphpool.aggr import Aggregation, resolve
from graphpool.nn import reset
from graphpool.relational.explain import masks_of_copies
from graphpool.relational.graphs import GraphBatch
from graphpool.relational.rectangular import (
    Slices,
    accepts_copy_axis,
    copy_axis,
    rectangular_is_cheaper,
)

FORMS = ("auto", "rectangular", "ragged")


@dataclass
class CopyUnion:
    """A disjoint union of copies with their features: what a network runs on.

    Attributes:
        x: Features ``[V, d]``.
        node: Node of the batch that each row is a copy of ``[V]``.
        copy: Copy that each row belongs to ``[V]``, sorted.
        edge_index: Edges ``[2, E']``.
        edge_id: Edge of the batch that each of them is a copy of ``[E']``.
        num_copies: Number of copies.
        roots: Row of the first labelled node of each copy ``[num_copies]``, where it is asked for.
    """

    x: Tensor
    node: Tensor
    copy: Tensor
    edge_index: Tensor
    edge_id: Tensor
    num_copies: int
    roots: Tensor | None = None


class Plan(ABC):
    """The copies of a batch, in either form, made part by part."""

    graphs: GraphBatch
    graph: Tensor
    """Graph of every copy ``[M]``, sorted."""

    @abstractmethod
    def union(self, x: Tensor, rows: slice, roots: bool) -> CopyUnion:
        """Consecutive copies in the ragged form."""

    @abstractmethod
    def rectangle(self, x: Tensor, slices: Slices, first: int, last: int) -> Tensor:
        """Features ``[N, last - first, d]`` of consecutive slices in the rectangular form."""

    def root_of_copies(self) -> Tensor:
        """First labelled node of every copy ``[M]``, where nodes have labels."""
        raise NotImplementedError

    @property
    def fits_rectangle(self) -> bool:
        """Whether every copy has all nodes and edges of its graph."""
        return True


class CopyPooling(nn.Module):
    """The common part of all poolings over copies: forms, parts, and the inner pool.

    Args:
        gnn: The network, ``gnn(x, edge_index) -> [num_nodes, d]``; with edge features it is called with
            ``edge_attr=`` or ``edge_weight=``.
        inner: Pool over the nodes of a copy; ``"root"`` takes the first labelled node.
        outer: Pool over the copies of a graph (or of a node).
        form: ``"rectangular"``, ``"ragged"`` or ``"auto"``.
        max_copies: The most copies the network sees at once; ``None`` for all.
        node_output: Whether copies are pooled per node, without ``inner``.
        between: Applied to what ``outer`` is to pool.
    """

    def __init__(
        self,
        gnn: nn.Module,
        inner: Any,
        outer: Any,
        form: str,
        max_copies: int | None,
        node_output: bool,
        between: nn.Module | None = None,
    ) -> None:
        super().__init__()
        check_one_of(form, "form", FORMS)
        if max_copies is not None and max_copies < 1:
            raise ValueError(f"`max_copies` must be at least 1; got {max_copies}.")
        self.gnn, self.form, self.max_copies = gnn, form, max_copies
        self.node_output = node_output
        width = getattr(gnn, "out_channels", None)
        channels = width if isinstance(width, int) and width > 0 else -1
        self.inner: nn.Module | None = None
        if not node_output and inner != "root":
            self.inner = resolve(inner, channels=channels)
            channels = _width_after(self.inner, channels)
        self.between = between
        if between is not None:
            channels = -1
        self.channels_between = channels
        self.outer = resolve(outer, channels=channels)

    def reset_parameters(self) -> None:
        """Restores the initial parameters of the network and of the pools, where they can."""
        reset(*self.children())

    def _call(self, x: Tensor, edge_index: Tensor, edges: dict[str, Tensor]) -> Tensor:
        # Of most networks of PyG; -1 where it is inferred.
        wanted = getattr(self.gnn, "in_channels", None)
        if isinstance(wanted, int) and wanted >= 0 and wanted != x.size(-1):
            raise ValueError(
                f"`gnn` takes {wanted} input channels, but the nodes of a copy have {x.size(-1)}: those of "
                "`x` and those of the labels or ids."
            )
        h = self.gnn(x, edge_index, **edges)
        if not isinstance(h, Tensor) or h.dim() != x.dim() or h.shape[:-1] != x.shape[:-1]:
            got = list(h.shape) if isinstance(h, Tensor) else type(h).__name__
            raise ValueError(
                f"`gnn` must give one row per node, [num_nodes, d], here {[*x.shape[:-1], 'd']}; "
                f"{type(self.gnn).__name__} gave {got}. A network with a readout has pooled the nodes of a "
                "copy already: leave its readout out, `inner` is the one."
            )
        return h

    def _call_with_copy_axis(
        self, x: Tensor, edge_index: Tensor, edges: dict[str, Tensor]
    ) -> Tensor:
        try:
            with copy_axis(self.gnn):
                return self._call(x, edge_index, edges)
        # PyG asserts where a layer takes no such axis.
        except (AssertionError, RuntimeError) as error:
            if accepts_copy_axis(self.gnn):
                raise
            raise ValueError(
                f"`form`='rectangular' runs the network on features {list(x.shape)}, which "
                f"{type(self.gnn).__name__} does not take; use form='ragged'."
            ) from error

    def _uses_rectangle(self, plan: Plan, edges: dict[str, Tensor]) -> bool:
        if self.form == "ragged":
            return False
        # PyG multiplies messages by weights [E, 1], which would be taken for an axis of copies.
        weighted = "edge_weight" in edges
        if self.form == "rectangular":
            if not plan.fits_rectangle:
                raise ValueError(
                    "`form`='rectangular' needs copies with all nodes and edges of their graph; "
                    "use form='ragged'."
                )
            if weighted:
                raise ValueError("`edge_weight` has no rectangular form; use form='ragged'.")
            return True
        return (
            plan.fits_rectangle
            and not weighted
            and accepts_copy_axis(self.gnn)
            and rectangular_is_cheaper(plan.graphs, plan.graph)
        )

    def _embed(
        self,
        plan: Plan,
        x: Tensor,
        edge_attr: Tensor | None,
        edge_weight: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What is pooled over copies: values, and the node (for node outputs) and the copy of each.

        With node outputs there is a value for each node of each copy, else one for each copy.
        """
        given = {"edge_attr": edge_attr, "edge_weight": edge_weight}
        edges = {name: value for name, value in given.items() if value is not None}
        count = plan.graphs.edge_index.size(1)
        for name, value in edges.items():
            if value.shape[:1] != (count,):
                raise ValueError(
                    f"`{name}` must have one row per edge, {count}; got shape {tuple(value.shape)}."
                )
        x = plan.graphs.sort_nodes(x)
        if self._uses_rectangle(plan, edges):
            values, node, copy = self._embed_rectangle(plan, x, edges)
        else:
            values, node, copy = self._embed_union(plan, x, edges)
        return values if self.between is None else self.between(values), node, copy

    def _embed_union(
        self, plan: Plan, x: Tensor, edges: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        total = plan.graph.numel()
        step = self.max_copies or max(total, 1)
        parts = []
        for first in range(0, max(total, 1), step):
            rows = slice(first, min(first + step, total))

            def run(x: Tensor, edges: dict[str, Tensor], rows: slice = rows) -> tuple[Tensor, ...]:
                union = plan.union(x, rows, self.inner is None and not self.node_output)
                of_edges = {
                    name: value.index_select(0, union.edge_id) for name, value in edges.items()
                }
                with masks_of_copies(self.gnn, union.edge_id):
                    h = self._call(union.x, union.edge_index, of_edges)
                if self.node_output:
                    return h, union.node, union.copy + rows.start
                copies = torch.arange(rows.start, rows.stop, device=h.device)
                if self.inner is None:
                    return h[union.roots], copies, copies
                return self.inner(h, union.copy, dim_size=union.num_copies), copies, copies

            parts.append(_one_part(run, x, edges, total > step))
        values, node, copy = (torch.cat(part) for part in zip(*parts, strict=True))
        return values, node, copy

    def _embed_rectangle(
        self, plan: Plan, x: Tensor, edges: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        graphs, edge_index = plan.graphs, plan.graphs.edge_index
        slices = Slices(graphs, plan.graph)
        total = slices.num_slices
        step = max(total, 1)
        if self.max_copies is not None:
            step = max(1, self.max_copies // max(graphs.num_graphs, 1))
        edges = {name: value.unsqueeze(1) for name, value in edges.items()}
        parts = []
        for first in range(0, max(total, 1), step):
            last = min(first + step, total)

            def run(
                x: Tensor, edges: dict[str, Tensor], first: int = first, last: int = last
            ) -> tuple[Tensor, ...]:
                wide = plan.rectangle(x, slices, first, last)
                h = self._call_with_copy_axis(wide, edge_index, edges)
                if self.node_output or self.inner is None:
                    return (h,)
                return (self._inner_rectangle(h, graphs),)

            parts.append(_one_part(run, x, edges, total > step)[0])
        h = torch.cat(parts, dim=1)
        if self.node_output:
            valid = slices.valid(0, total)
            return h[valid], valid.nonzero()[:, 0], slices.copy(0, total)[valid]
        copies = torch.arange(plan.graph.numel(), device=h.device)
        row = plan.graph if self.inner is not None else plan.root_of_copies()
        return h[row, slices.slice_of], copies, copies

    def _inner_rectangle(self, h: Tensor, graphs: GraphBatch) -> Tensor:
        """``[N, W, d]`` to ``[B, W, d']``."""
        if isinstance(self.inner, Aggregation):
            return self.inner(h, graphs.batch, dim_size=graphs.num_graphs, dim=0)
        width = h.size(1)
        place = torch.arange(width, device=h.device).unsqueeze(1)
        index = (place * graphs.num_graphs + graphs.batch).flatten()
        flat = h.transpose(0, 1).flatten(0, 1)
        pooled = self.inner(flat, index, dim_size=width * graphs.num_graphs)  # type: ignore[misc]
        return pooled.unflatten(0, (width, graphs.num_graphs)).transpose(0, 1)


def check_node_features(x: Tensor) -> None:
    """Raises unless there is a row of features for each node."""
    if not isinstance(x, Tensor) or x.dim() != 2:
        raise ValueError(f"`x` must be a tensor [N, d]; got {what_came(x)}.")


def weighted_pool(
    pool: nn.Module, values: Tensor, index: Tensor, size: int, weight: Tensor | None
) -> Tensor:
    """``pool`` over ``size`` bags, with weights if there are any.

    Raises:
        ValueError: If there are weights and the pool takes none.
    """
    if weight is None:
        return pool(values, index, dim_size=size)
    if not isinstance(pool, Aggregation):
        raise ValueError(
            f"A sample of the copies needs a pool that takes weights; {type(pool).__name__} takes none, "
            "pools of graphpool.aggr do."
        )
    return pool(values, index, dim_size=size, weight=weight.to(values.dtype))


def _one_part(
    run: Callable[..., tuple[Tensor, ...]], x: Tensor, edges: dict[str, Tensor], several: bool
) -> tuple[Tensor, ...]:
    # Only one part is held at a time if backward computes each again, which torch.func cannot.
    if several and torch.is_grad_enabled() and not _debug.inside_transform():
        return checkpoint(run, x, edges, use_reentrant=False)
    return run(x, edges)


def _width_after(pool: nn.Module, channels: int) -> int:
    """Channels of what a pool returns, -1 where it does not say."""
    if not isinstance(pool, Aggregation):
        return -1
    return pool.out_channels or channels
