"""What a graph network does between levels: coarsening on the way down, lifting on the way back."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from graphpool.coarsen import Coarsened, Coarsening, Selection
from graphpool.conv import Neighborhoods
from graphpool.models.parts import norm_of
from graphpool.nn import reset
from graphpool.segments import Segments

#: A convolution and its norm.
Layer = tuple[nn.Module, nn.Module]


class Hierarchy(nn.Module):
    """The levels of a :class:`graphpool.models.GraphModel`; none where ``coarsen`` is ``None``.

    Args:
        coarsen: One selector, or a tuple with one or ``None`` for each place between two of the layers.
        num_layers: Number of convolutions.
        reduce: Pool over the nodes of a cluster.
        edge_reduce: Pool over the features of edges that become one.
        select_kwargs: Arguments of the selectors, where they are named.

    Attributes:
        steps: The coarsening before a convolution, by the number of that convolution from 0.
        skips: Width of the nodes before each coarsening.
    """

    def __init__(
        self,
        coarsen: Any,
        num_layers: int,
        reduce: Any,
        edge_reduce: Any,
        select_kwargs: dict[str, Any] | None,
    ) -> None:
        super().__init__()
        places = num_layers - 1
        self._asked = coarsen if isinstance(coarsen, tuple) else (coarsen,) * places
        if len(self._asked) != places or (coarsen is not None and not places):
            raise ValueError(
                f"`coarsen`, as a tuple, must have one entry for each of the {places} places between two "
                f"of the {num_layers} convolutions; got {len(self._asked) if places else repr(coarsen)}."
            )
        self._pools = (reduce, edge_reduce, select_kwargs)
        self.steps = nn.ModuleDict()
        self.skips: list[int] = []
        self.ups, self.up_norms = nn.ModuleList(), nn.ModuleList()

    def reset_parameters(self) -> None:
        reset(*self.children())

    def step_before(self, layer: int, width: int, edge_dim: int | None) -> int:
        """Makes the coarsening before a convolution, if there is one; the width that comes out."""
        asked = self._asked[layer - 1] if layer else None
        if asked is None:
            return width
        reduce, edge_reduce, kwargs = copy.deepcopy(self._pools)
        step = Coarsening(width, copy.deepcopy(asked), reduce, edge_reduce, edge_dim, kwargs)
        self.skips.append(width)
        self.steps[str(layer)] = step
        return step.out_channels

    def make_way_back(
        self, width: int, make: Callable[[int, int], nn.Module], norm: str | None
    ) -> int:
        """Makes one convolution for each level, of what it held and what is lifted to it.

        Args:
            width: Width of the coarsest level.
            make: Makes a convolution with the pool of a layer, given that layer and the width.
            norm: Norm after each.
        """
        for layer, skip in zip(list(self.steps)[::-1], self.skips[::-1], strict=True):
            up = make(int(layer) - 1, skip + width)
            width = up.out_channels  # type: ignore[assignment]
            self.ups.append(up)
            self.up_norms.append(norm_of(norm, width))
        return width

    def run(
        self,
        h: Tensor,
        graph: Neighborhoods,
        batch: Segments,
        edge_attr: Tensor | None,
        edge_weight: Tensor | None,
        layers: Sequence[Layer],
        convolve: Callable[..., Tensor],
    ) -> tuple[list[Coarsened], Tensor]:
        """All levels on the way down, and the nodes of the first after the way back."""
        if graph.values is not None:
            # Of a sparse adjacency.
            flat = graph.values.dim() == 1
            edge_weight, edge_attr = (
                (graph.values, edge_attr) if flat else (edge_weight, graph.values)
            )
        itself = torch.arange(h.size(0), device=h.device)
        first = Selection(
            Segments(index=itself, num_segments=h.size(0), is_sorted=True), batch=batch
        )
        level = Coarsened(h, first, graph.edge_index, edge_attr, edge_weight=edge_weight)
        levels, graphs = [level], [Neighborhoods(graph.edge_index, h.size(0))]
        for i, layer in enumerate(layers):
            if str(i) in self.steps:
                level = self.steps[str(i)](
                    level.x, level.edge_index, level.batch, None, level.edge_attr, level.edge_weight
                )
                levels.append(level)
                graphs.append(Neighborhoods(level.edge_index, level.x.size(0)))
            level = level._replace(
                x=convolve(*layer, level.x, graphs[-1], level.edge_attr, level.edge_weight)
            )
            levels[-1] = level
        h = level.x
        down = zip(levels[:0:-1], levels[-2::-1], graphs[-2::-1], strict=True)
        for (coarse, fine, edges), *up in zip(down, self.ups, self.up_norms, strict=False):
            h = torch.cat([fine.x, coarse.lift(h)], dim=1)
            h = convolve(*up, h, edges, fine.edge_attr, fine.edge_weight)
        return levels, h

    def loss(self, levels: Sequence[Coarsened], like: Tensor, asked: bool | None) -> Tensor:
        """The sum of the losses of all selectors; whether they were asked for is said in training."""
        losses = {name: value for level in levels for name, value in (level.loss or {}).items()}
        if losses and asked is None and self.training and torch.is_grad_enabled():
            warnings.warn(
                f"The selectors have losses of their own, {', '.join(losses)}, which are left out: call the "
                "model with return_loss=True and add them, or with return_loss=False.",
                stacklevel=4,
            )
        found = [value for level in levels for value in (level.loss or {}).values()]
        return torch.stack(found).sum() if found else like.new_zeros(())
