"""PointNet++ for clouds and for points."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from graphpool._recorded import savable
from graphpool.points.inputs import (
    absolute,
    check_positions,
    cloud_segments,
    one_hot,
    parameter_dtype,
)
from graphpool.points.pooling import choose_norm, dense_block, head
from graphpool.points.set_abstraction import (
    FeaturePropagation,
    GlobalAbstraction,
    SetAbstraction,
)
from graphpool.segments import Segments

Batch = Tensor | Segments | None


class _Abstractions(nn.Module):
    """The encoder of PointNet++: two set abstractions and a pool over the whole cloud."""

    def __init__(
        self,
        in_channels: int,
        pool: Any,
        readout: Any,
        ratios: tuple[float, float],
        radii: tuple[float | None, float | None],
        k: int,
        width: int,
        top: tuple[int, ...],
    ) -> None:
        super().__init__()
        w = width
        self.first = SetAbstraction(in_channels, (w, w, 2 * w), ratios[0], radii[0], k, pool)
        self.second = SetAbstraction(2 * w, (2 * w, 2 * w, 4 * w), ratios[1], radii[1], k, pool)
        self.top = GlobalAbstraction(4 * w, top, pool if readout is None else readout)


@savable
class PointNet2Classifier(_Abstractions):
    """PointNet++ for clouds (Qi et al., 2017): two set abstractions, a global pool, a classifier.

    Args:
        num_classes: Number of classes.
        in_channels: Width of the features beside the coordinates.
        pool: The pool over neighbourhoods: whatever :func:`graphpool.aggr.resolve` takes.
        readout: The pool over the cloud; the same as ``pool`` if ``None``.
        ratios: Fraction of the points kept by each set abstraction.
        radii: Radius of the neighbourhoods; ``None`` for the ``k`` nearest.
        k: Largest number of neighbours.
        width: Width of the first perceptron; the others grow from it.
        dropout: Dropout of the classifier.
        norm: ``"batch"``, or ``"layer"``, which has no running statistics that could lag behind the weights.

    Shape:
        Arguments as :class:`graphpool.points.PointNN`, and ``x`` ``[N, in_channels]``. Result: logits
        ``[B, num_classes]``.

    Example:
        >>> model = PointNet2Classifier(4, pool="gnp", width=16).eval()
        >>> model(torch.rand(80, 3), ptr=torch.tensor([0, 30, 80])).shape
        torch.Size([2, 4])
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 0,
        pool: Any = "max",
        readout: Any = None,
        ratios: tuple[float, float] = (0.5, 0.25),
        radii: tuple[float | None, float | None] = (0.2, 0.4),
        k: int = 32,
        width: int = 64,
        dropout: float = 0.5,
        norm: str = "batch",
    ) -> None:
        w = width
        super().__init__(in_channels, pool, readout, ratios, radii, k, w, (4 * w, 8 * w, 16 * w))
        self.head = head(16 * w, (8 * w, 4 * w), num_classes, dropout)
        choose_norm(self, norm)

    def forward(
        self,
        pos: Tensor,
        batch: Batch = None,
        ptr: Tensor | None = None,
        batch_size: int | None = None,
        x: Tensor | None = None,
    ) -> Tensor:
        check_positions(pos)
        segments = cloud_segments(pos.size(0), batch, ptr, batch_size, pos.device)
        return self.head(self.top(*self.second(*self.first(x, pos, segments))))


@savable
class PointNet2Segmenter(_Abstractions):
    """PointNet++ for points (Qi et al., 2017): the encoder, and feature propagation back to every point.

    Args:
        num_classes: Number of part labels.
        in_channels: Width of the features beside the coordinates.
        num_categories: Number of categories of objects; if > 0, :meth:`forward` takes the ``category`` of
            each cloud.
        pool: The pool over neighbourhoods.
        readout: The pool over the cloud; the same as ``pool`` if ``None``.
        ratios: Fraction of the points kept by each set abstraction.
        radii: Radius of the neighbourhoods; ``None`` for the ``k`` nearest.
        k: Largest number of neighbours.
        width: Width of the first perceptron; the others grow from it.
        dropout: Dropout of the classifier.
        norm: ``"batch"``, or ``"layer"``, which has no running statistics that could lag behind the weights.

    Shape:
        Arguments as :class:`PointNet2Classifier`. Result: logits ``[N, num_classes]`` in the order of the
        points.

    Example:
        >>> model = PointNet2Segmenter(6, num_categories=3, width=16).eval()
        >>> model(torch.rand(40, 3), category=torch.tensor([1])).shape
        torch.Size([40, 6])
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 0,
        num_categories: int = 0,
        pool: Any = "max",
        readout: Any = None,
        ratios: tuple[float, float] = (0.5, 0.25),
        radii: tuple[float | None, float | None] = (0.2, 0.4),
        k: int = 32,
        width: int = 64,
        dropout: float = 0.5,
        norm: str = "batch",
    ) -> None:
        w = width
        super().__init__(in_channels, pool, readout, ratios, radii, k, w, (4 * w, 8 * w))
        self.num_categories = num_categories
        self.mix = nn.Sequential(dense_block(12 * w, 4 * w))
        self.up2 = FeaturePropagation(4 * w, 2 * w, (4 * w, 2 * w))
        self.up1 = FeaturePropagation(2 * w, in_channels + 3 + num_categories, (2 * w, 2 * w))
        self.head = head(2 * w, (2 * w,), num_classes, dropout)
        choose_norm(self, norm)

    def forward(
        self,
        pos: Tensor,
        batch: Batch = None,
        ptr: Tensor | None = None,
        batch_size: int | None = None,
        x: Tensor | None = None,
        category: Tensor | None = None,
    ) -> Tensor:
        check_positions(pos)
        segments = cloud_segments(pos.size(0), batch, ptr, batch_size, pos.device)
        x1, pos1, seg1 = self.first(x, pos, segments)
        x2, pos2, seg2 = self.second(x1, pos1, seg1)
        whole = self.top(x2, pos2, seg2)
        x2 = self.mix(torch.cat([x2, whole.index_select(0, seg2.index)], 1))
        x1 = self.up2(x2, pos2, seg2, x1, pos1, seg1)
        dtype = parameter_dtype(self.head)
        skip = [absolute(pos, segments, dtype)]
        if x is not None:
            skip.append(x.to(dtype))
        if self.num_categories:
            skip.append(one_hot(category, segments, self.num_categories, dtype))
        elif category is not None:
            raise ValueError("`category` was given, but the network was made without categories.")
        return self.head(self.up1(x1, pos1, seg1, torch.cat(skip, 1), pos, segments))
