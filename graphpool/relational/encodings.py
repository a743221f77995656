"""How a labelled copy tells a network which nodes carry labels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from graphpool._arguments import check_at_least


class LabelEncoding(Module):
    """Turns features and labels into the input of the network.

    Attributes:
        max_distance: How far distances to the labels are measured; ``None`` if they are not needed. With
            distances, ``labels`` of :meth:`forward` holds them; else it holds marks.
    """

    max_distance: int | None = None

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Combines them.

        Args:
            x: Node features ``[..., d]``.
            labels: ``[..., l]``: whether a node carries each label (bool), or its distance to each.
        """
        raise TypeError(f"{type(self).__name__} does not say how it encodes labels.")


class OneHot(LabelEncoding):
    """One further channel per label, 1 at the labelled node: ``[x | z]``, d + l channels."""

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return torch.cat([x, labels.to(x.dtype)], dim=-1)


class Unmarked(LabelEncoding):
    """Features as they are: the copies differ by their nodes and edges only."""

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return x


class Distance(LabelEncoding):
    """One-hot distances to every label: d + l (h + 2) channels, for 0, ..., h hops and for farther.

    Args:
        max_distance: The largest distance told apart, h.

    Raises:
        ValueError: If ``max_distance`` is negative.
    """

    def __init__(self, max_distance: int) -> None:
        super().__init__()
        check_at_least(max_distance, "max_distance", 0)
        self.max_distance = max_distance

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        steps = torch.arange((self.max_distance or 0) + 2, device=x.device)
        hot = (labels.unsqueeze(-1) == steps).flatten(-2)
        return torch.cat([x, hot.to(x.dtype)], dim=-1)

    def extra_repr(self) -> str:
        return f"max_distance={self.max_distance}"


class Embedding(LabelEncoding):
    r"""Features times a learned vector of the label: :math:`x_v \odot E_a` at a node with label
    :math:`a` (the product over its labels, if it has several), :math:`x_v \odot E_l` elsewhere.

    The encoding of the ID-MPNN of Zhou et al. (ICML 2023); d channels.

    Args:
        labels: Number of labels l.
        channels: Number of features d.
    """

    def __init__(self, labels: int, channels: int) -> None:
        super().__init__()
        self.weight = Parameter(torch.empty(labels + 1, channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the vectors from a standard normal distribution."""
        torch.nn.init.normal_(self.weight)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        marked = labels.unsqueeze(-1)
        factor = torch.where(marked, self.weight[:-1], torch.ones_like(self.weight[:-1])).prod(-2)
        return x * torch.where(labels.any(-1, keepdim=True), factor, self.weight[-1])


def resolve_encoding(
    encoding: str | Module | None, marked: bool, hops: int | None
) -> LabelEncoding | Module:
    """The encoding of a name: ``"one_hot"``, ``"distance"`` (needs ``hops``) or ``"none"``.

    Raises:
        ValueError: If the name is unknown, or ``"distance"`` is asked for without ``hops``.
    """
    if isinstance(encoding, Module):
        return encoding
    if encoding is None:
        return OneHot() if marked else Unmarked()
    if encoding == "one_hot":
        return OneHot()
    if encoding == "none":
        return Unmarked()
    if encoding == "distance":
        if hops is None:
            raise ValueError(
                "`encoding`='distance' needs `hops`; without it, give "
                "graphpool.relational.Distance(max_distance)."
            )
        return Distance(hops)
    raise ValueError(
        f"`encoding` must be 'one_hot', 'distance', 'none' or a module; got {encoding!r}."
    )
