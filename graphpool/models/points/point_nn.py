"""Point-NN as a classifier."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from graphpool._recorded import savable
from graphpool.points.memory import MemoryBank
from graphpool.points.point_nn import PointNN
from graphpool.segments import Segments


@savable
class PointNNClassifier(nn.Module):
    """Point-NN and a memory of training clouds (Zhang et al., CVPR 2023): no gradient, no epochs.

    Args:
        num_classes: Number of classes.
        gamma: Sharpness of the memory; see :class:`graphpool.points.MemoryBank`.
        **encoder: Arguments of :class:`graphpool.points.PointNN`.

    Shape:
        Arguments as :class:`graphpool.models.PointNet2Classifier`, without features. Result: logarithms of
        the scores ``[B, num_classes]``.

    Example:
        >>> model = PointNNClassifier(2, channels=12, stages=2, k=8)
        >>> _ = model.remember(torch.rand(60, 3), torch.tensor([0, 1]), ptr=torch.tensor([0, 30, 60]))
        >>> model(torch.rand(30, 3)).exp().sum().round(decimals=4)
        tensor(1.)
    """

    def __init__(self, num_classes: int, gamma: float | None = None, **encoder: Any) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.encoder, self.bank = PointNN(**encoder), MemoryBank(gamma)

    def remember(self, pos: Tensor, y: Tensor, **clouds: Any) -> PointNNClassifier:
        """Remembers labelled clouds and forgets all others."""
        self.bank.fit(self.encoder(pos, **clouds), y, self.num_classes)
        return self

    def forward(
        self,
        pos: Tensor,
        batch: Tensor | Segments | None = None,
        ptr: Tensor | None = None,
        batch_size: int | None = None,
        x: Tensor | None = None,
    ) -> Tensor:
        if x is not None:
            raise ValueError("`x` must be None: Point-NN sees coordinates alone.")
        return torch.log(self.bank(self.encoder(pos, batch, ptr, batch_size)))
