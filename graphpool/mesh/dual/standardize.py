"""Zero mean and unit variance over all faces and dual nodes of the training meshes."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from graphpool.mesh.dual.graph import MeshGraph

__all__ = ["MeshStandardizer"]


def statistics(x: Tensor, channels: int, name: str) -> tuple[Tensor, Tensor]:
    """Mean and unbiased deviation of each column of ``x`` ``[N, channels]``; 1 where it is constant.

    Raises:
        ValueError: ``x`` has another number of columns.

    Warns:
        UserWarning: A column is constant, or a few outliers set its deviation; ``name`` is named.
    """
    if x.size(1) != channels:
        raise ValueError(f"{name} must have {channels} channels; got {x.size(1)}.")
    x = x.double()
    if not len(x):
        return x.new_zeros(channels), x.new_ones(channels)
    mean, std = x.mean(0), x.std(0) if len(x) > 1 else torch.zeros_like(x[0])
    # Rounding to float32 leaves that much of a constant, and rounding in float64 this much of a zero.
    constant = std <= (10 * torch.finfo(torch.float32).eps * mean.abs()).clamp(min=1e-9)
    if bool(constant.any()):
        warnings.warn(
            f"channels {constant.nonzero().flatten().tolist()} of {name} are constant over all "
            f"meshes; they are divided by 1 and become 0.",
            stacklevel=3,
        )
    low, high = (x.kthvalue(max(1, round(share * len(x))), dim=0).values for share in (0.01, 0.99))
    narrow = ~constant & (high - low < 0.1 * std)
    if bool(narrow.any()):
        warnings.warn(
            f"a few outliers set the scale of channels {narrow.nonzero().flatten().tolist()} of "
            f"{name}: 98 % of the values lie within a tenth of the standard deviation. Slivers make "
            f"such outliers; graphpool.mesh.clean drops them by `min_height`.",
            stacklevel=3,
        )
    return mean, std.masked_fill(constant, 1.0)


class MeshStandardizer(nn.Module):
    r"""Applies :math:`(x - \mu) / \sigma` per channel, to the primal and the dual features.

    :math:`\mu` and :math:`\sigma` (unbiased) run over all nodes of all training meshes. They are
    buffers, so they are stored with the model this module is part of.

    Args:
        channels: Numbers of channels, primal and dual.

    Example:
        >>> from graphpool.mesh import icosphere, primal_dual
        >>> graph = primal_dual(*icosphere(2))
        >>> primal, dual = MeshStandardizer((1, 8)).fit([graph])(graph)
        >>> bool((dual.mean(0).abs() < 1e-3).all())
        True
    """

    primal_mean: Tensor
    primal_std: Tensor
    dual_mean: Tensor
    dual_std: Tensor

    def __init__(self, channels: tuple[int, int]) -> None:
        super().__init__()
        for name, width in zip(("primal", "dual"), channels, strict=True):
            self.register_buffer(f"{name}_mean", torch.zeros(width))
            self.register_buffer(f"{name}_std", torch.ones(width))

    def fit(self, graphs: Iterable[MeshGraph]) -> MeshStandardizer:
        r"""Takes the statistics of ``graphs`` and returns the module.

        Raises:
            ValueError: There are no graphs, or they do not have the channels of this module.

        Warns:
            UserWarning: A channel is constant over all graphs, as all are on a regular solid; it gets
                a :math:`\sigma` of 1 and so becomes 0.
        """
        graphs = list(graphs)
        if not graphs:
            raise ValueError("`graphs` is empty: there is nothing to fit to.")
        for name, key in (("primal", "x"), ("dual", "x_dual")):
            mean, std = statistics(
                torch.cat([graph[key] for graph in graphs]),
                getattr(self, f"{name}_mean").numel(),
                f"the {name} features",
            )
            getattr(self, f"{name}_mean").copy_(mean)
            getattr(self, f"{name}_std").copy_(std)
        return self

    def forward(self, graph: MeshGraph) -> tuple[Tensor, Tensor]:
        """The standardised primal and dual features of ``graph``."""
        for name, x in (("primal", graph.x), ("dual", graph.x_dual)):
            width = getattr(self, f"{name}_mean").numel()
            if x.size(1) != width:
                raise ValueError(
                    f"The network was built for {width} {name} features, and the graph has "
                    f"{x.size(1)}; `in_channels` must be ({graph.x.size(1)}, {graph.x_dual.size(1)})."
                )
        return (
            (graph.x - self.primal_mean) / self.primal_std,
            (graph.x_dual - self.dual_mean) / self.dual_std,
        )

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *args: Any) -> None:
        for name in ("primal", "dual"):
            stored, own = state.get(f"{prefix}{name}_mean"), getattr(self, f"{name}_mean")
            if stored is not None and stored.shape != own.shape:
                raise ValueError(
                    f"The checkpoint was trained on {stored.numel()} {name} features, and this "
                    f"network takes {own.numel()}. Graphs have 8 dual features in configuration A "
                    f"and 5 in B and C; networks of the time when there were 7 and 4, with the "
                    f"dihedral angle as one number, must be trained again."
                )
        super()._load_from_state_dict(state, prefix, *args)
