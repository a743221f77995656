"""Zero mean and unit variance over all nodes of the training meshes."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from graphpool.mesh.dual.graph import MeshGraph
from graphpool.mesh.edges.graph import EdgeGraph
from graphpool.mesh.structures import expect


def _statistics(x: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Mean and unbiased deviation of each column of ``x`` ``[N, C]``; 1 where it is constant.

    Warns:
        UserWarning: A column is constant, or a few outliers set its deviation; ``name`` is named.
    """
    x = x.double()
    if not len(x):
        return x.new_zeros(x.size(1)), x.new_ones(x.size(1))
    mean, std = x.mean(0), x.std(0) if len(x) > 1 else torch.zeros_like(x[0])
    # Rounding to float32 leaves that much of a constant, and rounding in float64 this much of a zero.
    constant = std <= (10 * torch.finfo(torch.float32).eps * mean.abs()).clamp(min=1e-9)
    if bool(constant.any()):
        warnings.warn(
            f"channels {constant.nonzero().flatten().tolist()} of the {name} are constant over all "
            f"meshes; they are divided by 1 and become 0.",
            stacklevel=4,
        )
    low, high = (x.kthvalue(max(1, round(share * len(x))), dim=0).values for share in (0.01, 0.99))
    narrow = ~constant & (high - low < 0.1 * std)
    if bool(narrow.any()):
        warnings.warn(
            f"a few outliers set the scale of channels {narrow.nonzero().flatten().tolist()} of "
            f"the {name}: 98 % of the values lie within a tenth of the standard deviation. Slivers make "
            f"such outliers; graphpool.mesh.clean drops them by `min_height`.",
            stacklevel=4,
        )
    return mean, std.masked_fill(constant, 1.0)


class _Stream(NamedTuple):
    """Features of a graph: what they are called, the key they lie under, what their buffers begin with."""

    name: str
    key: str
    prefix: str


Self = TypeVar("Self", bound="_Standardizer")


class _Standardizer(nn.Module):
    """What all standardisers do, for the ``streams`` of features of graphs of one ``structure``."""

    structure: type[Data]
    streams: tuple[_Stream, ...]

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        for stream, width in zip(self.streams, channels, strict=True):
            self.register_buffer(f"{stream.prefix}mean", torch.zeros(width))
            self.register_buffer(f"{stream.prefix}std", torch.ones(width))

    def _moments(self, stream: _Stream) -> tuple[Tensor, Tensor]:
        return getattr(self, f"{stream.prefix}mean"), getattr(self, f"{stream.prefix}std")

    def _features(self, graph: Any, argument: str) -> list[Tensor]:
        """The features of a graph, if it is one and has as many channels as there are here."""
        graph = expect(graph, self.structure, argument)
        found = [graph[stream.key] for stream in self.streams]
        for stream, x in zip(self.streams, found, strict=True):
            width = self._moments(stream)[0].numel()
            if x.size(1) != width:
                came = [held.size(1) for held in found]
                raise ValueError(
                    f"The network was built for {width} {stream.name}; got {x.size(1)} in `{argument}`. "
                    f"`in_channels` must be {tuple(came) if came[1:] else came[0]}."
                )
        return found

    def fit(self: Self, graphs: Iterable[Any]) -> Self:
        r"""Takes the statistics of ``graphs``, of one or of several, and returns the module.

        Raises:
            TypeError: They are of another structure.
            ValueError: There are no graphs, or they do not have the channels of this module.

        Warns:
            UserWarning: A channel is constant over all graphs, as all are on a regular solid; it gets
                a :math:`\sigma` of 1 and so becomes 0.
        """
        one = isinstance(graphs, Data) or not isinstance(graphs, Iterable)
        every = enumerate([graphs] if one else graphs)
        rows = [self._features(graph, f"graphs[{i}]") for i, graph in every]
        if not rows:
            raise ValueError("`graphs` is empty: there is nothing to fit to.")
        for stream, held in zip(self.streams, zip(*rows, strict=True), strict=True):
            mean, std = self._moments(stream)
            new_mean, new_std = _statistics(torch.cat(held), stream.name)
            mean.copy_(new_mean)
            std.copy_(new_std)
        return self

    def forward(self, graph: Any) -> Any:
        """The standardised features of ``graph``."""
        found = []
        for stream, x in zip(self.streams, self._features(graph, "graph"), strict=True):
            mean, std = self._moments(stream)
            found.append((x - mean) / std)
        return tuple(found) if found[1:] else found[0]

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *args: Any) -> None:
        for stream in self.streams:
            stored, own = state.get(f"{prefix}{stream.prefix}mean"), self._moments(stream)[0]
            if stored is not None and stored.shape != own.shape:
                raise ValueError(
                    f"The checkpoint was trained on {stored.numel()} {stream.name}, and this "
                    f"network takes {own.numel()}. Graphs have 8 dual features in configuration A "
                    f"and 5 in B and C; networks of the time when there were 7 and 4, with the "
                    f"dihedral angle as one number, must be trained again."
                )
        super()._load_from_state_dict(state, prefix, *args)


class MeshStandardizer(_Standardizer):
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

    structure = MeshGraph
    streams = (
        _Stream("primal features", "x", "primal_"),
        _Stream("dual features", "x_dual", "dual_"),
    )


class EdgeStandardizer(_Standardizer):
    """The same for the features of edges.

    Args:
        channels: Number of channels.
    """

    structure = EdgeGraph
    streams = (_Stream("features", "x", ""),)

    def __init__(self, channels: int = 5) -> None:
        super().__init__((channels,))
