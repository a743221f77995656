"""Zero mean and unit variance over all faces and dual nodes of the training meshes."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from .graph import MeshGraph

__all__ = ["MeshStandardizer"]


class MeshStandardizer(nn.Module):
    r"""Applies :math:`(x - \mu) / \sigma` per channel, to the primal and the dual features.

    :math:`\mu` and :math:`\sigma` (unbiased) run over all nodes of all training meshes. They are
    buffers, so they are stored with the model this module is part of.

    Args:
        channels: Numbers of channels, primal and dual.

    Example:
        >>> from graphpool.mesh import icosphere, primal_dual
        >>> graph = primal_dual(*icosphere(2))
        >>> primal, dual = MeshStandardizer((1, 7)).fit([graph])(graph)
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
        """Takes the statistics of ``graphs`` and returns the module.

        Raises:
            ValueError: There are no graphs, or a channel is constant over all of them.
        """
        graphs = list(graphs)
        if not graphs:
            raise ValueError("`graphs` is empty: there is nothing to fit to.")
        for name, key in (("primal", "x"), ("dual", "x_dual")):
            x = torch.cat([graph[key] for graph in graphs]).double()
            mean, std = x.mean(0), x.std(0)
            # Features are rounded to float32 once, which leaves this much of a constant.
            constant = ~(std > 10 * torch.finfo(torch.float32).eps * mean.abs().clamp(min=1e-30))
            if bool(constant.any()):
                raise ValueError(
                    f"channel {int(constant.nonzero()[0])} of the {name} features is constant "
                    f"over all {len(graphs)} meshes and cannot be standardised."
                )
            getattr(self, f"{name}_mean").copy_(mean)
            getattr(self, f"{name}_std").copy_(std)
        return self

    def forward(self, graph: MeshGraph) -> tuple[Tensor, Tensor]:
        """The standardised primal and dual features of ``graph``."""
        return (
            (graph.x - self.primal_mean) / self.primal_std,
            (graph.x_dual - self.dual_mean) / self.dual_std,
        )
