"""Training-free part segmentation: features for every point, and remembered parts."""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool import ops
from graphpool.ops.neighbors.interpolation import interpolate
from graphpool.points.memory import MemoryBank
from graphpool.points.point_nn import PointNN, cloud_segments, sorted_clouds
from graphpool.points.stages import together
from graphpool.segments import Segments


class PointNNSegmenter(PointNN):
    r"""The Point-NN encoder followed by its decoder: one feature vector per point.

    Coarse features are carried to the next finer points from their ``neighbors`` nearest coarse points
    with weights :math:`1 / (d^2 + 10^{-8})` and written behind the features that are there.

    Args:
        channels: Width of the first encoding, a multiple of 6. A point gets
            ``channels * (2 ** (stages + 1) - 1)`` features.
        neighbors: Coarse points that a fine one is interpolated from.
        **kwargs: As in :class:`PointNN`.

    Shape:
        Arguments as in :class:`PointNN`. Result ``[N, out_channels]``, in the order of the points.

    Example:
        >>> PointNNSegmenter(channels=12, stages=2, k=8)(torch.rand(64, 3)).shape
        torch.Size([64, 84])
    """

    def __init__(self, channels: int = 144, neighbors: int = 6, **kwargs: object) -> None:
        super().__init__(channels, **kwargs)  # type: ignore[arg-type]
        self.neighbors = neighbors
        self.out_channels = channels * (2 ** (self.stages + 1) - 1)

    def forward(
        self,
        pos: Tensor,
        batch: Tensor | Segments | None = None,
        ptr: Tensor | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        perm = cloud_segments(pos.size(0), batch, ptr, batch_size, pos.device).perm
        pos, segments = sorted_clouds(pos, batch, ptr, batch_size)
        encoded = self.encode_levels(pos, segments)
        x, level = encoded[-1]
        x = together(x)
        skips = [self.embed(pos), *(together(skip) for skip, _ in encoded[:-1])]
        for skip, (_, level) in zip(reversed(skips), reversed(encoded), strict=True):
            carried = interpolate(
                x, level.centre_pos, level.pos, level.centre_segments, level.segments,
                k=self.neighbors,
            )  # fmt: skip
            x = torch.cat([skip, carried], 1)
        if perm is None:
            return x
        return torch.empty_like(x).index_copy_(0, perm, x)


class PartMemory(torch.nn.Module):
    """Remembered parts: for each category of objects a bank of one mean vector per cloud and part.

    Args:
        num_parts: Number of part labels, over all categories.
        gamma: Sharpness of the banks; see :class:`MemoryBank`.

    Example:
        >>> memory = PartMemory(num_parts=2)
        >>> one_cloud, category = Segments(ptr=torch.tensor([0, 2])), torch.tensor([0])
        >>> _ = memory.add(torch.eye(2), torch.tensor([1, 0]), one_cloud, category)
        >>> memory.predict(torch.tensor([[0.1, 1.0], [1.0, 0.1]]), one_cloud, category)
        tensor([0, 1])
    """

    def __init__(self, num_parts: int, gamma: float = 300.0) -> None:
        super().__init__()
        self.num_parts = num_parts
        self.gamma = gamma
        self.banks = torch.nn.ModuleDict()

    @torch.no_grad()
    def add(
        self, features: Tensor, parts: Tensor, segments: Segments, categories: Tensor
    ) -> PartMemory:
        """Remembers the parts of these clouds, in addition to what is there.

        Args:
            features: Features of the points ``[N, D]``.
            parts: Part of each point ``[N]``, in ``[0, num_parts)``.
            segments: The cloud of each point.
            categories: Category of each cloud ``[B]``.

        Raises:
            ValueError: Sizes or values do not fit.
        """
        self._check(features, segments, categories)
        if parts.shape != features.shape[:1]:
            raise ValueError(
                f"`parts` must have shape ({features.size(0)},); got {tuple(parts.shape)}."
            )
        if parts.numel() and not (int(parts.min()) >= 0 and int(parts.max()) < self.num_parts):
            raise ValueError(
                f"`parts` must lie in [0, {self.num_parts}); got values from {int(parts.min())} "
                f"to {int(parts.max())}."
            )
        found, group = (segments.index * self.num_parts + parts).unique(return_inverse=True)
        bags = Segments(index=group, num_segments=found.numel())
        keys, labels = ops.segment_mean(features, bags), found % self.num_parts
        category = categories[found // self.num_parts]
        for c in category.unique().tolist():
            mine = category == c
            name = str(c)
            if name in self.banks:
                self._bank(name).add(keys[mine], labels[mine])
            else:
                bank = MemoryBank(gamma=self.gamma)
                self.banks[name] = bank.fit(keys[mine], labels[mine], self.num_parts)
        return self

    @torch.no_grad()
    def scores(self, features: Tensor, segments: Segments, categories: Tensor) -> Tensor:
        """``[N, num_parts]``: each point is compared with the parts of its cloud's category only.

        Raises:
            ValueError: Sizes do not fit, or nothing of a category is remembered.
        """
        self._check(features, segments, categories)
        out = features.new_zeros(features.size(0), self.num_parts)
        category = categories[segments.index]
        for c in category.unique().tolist():
            if str(c) not in self.banks:
                known = ", ".join(sorted(self.banks)) or "none"
                raise ValueError(f"No part of category {c} is remembered; known: {known}.")
            mine = (category == c).nonzero().squeeze(1)
            out[mine] = self._bank(str(c)).scores(features[mine])
        return out

    def predict(self, features: Tensor, segments: Segments, categories: Tensor) -> Tensor:
        """The part with the largest score, ``[N]``."""
        return self.scores(features, segments, categories).argmax(1)

    def _bank(self, name: str) -> MemoryBank:
        bank = self.banks[name]
        if not isinstance(bank, MemoryBank):
            raise TypeError(f"Entry {name!r} of `banks` is a {type(bank).__name__}.")
        return bank

    def _check(self, features: Tensor, segments: Segments, categories: Tensor) -> None:
        if features.dim() != 2 or features.size(0) != segments.num_elements:
            raise ValueError(
                f"`features` must have shape [{segments.num_elements}, D]; "
                f"got {tuple(features.shape)}."
            )
        if categories.shape != (segments.num_segments,):
            raise ValueError(
                f"`categories` must have shape ({segments.num_segments},), one per cloud; "
                f"got {tuple(categories.shape)}."
            )


def part_iou(predicted: Tensor, parts: Tensor, segments: Segments) -> Tensor:
    """Mean intersection over union of the parts that are present in the ground truth, per cloud.

    Args:
        predicted: Predicted part of each point ``[N]``.
        parts: True part of each point ``[N]``.
        segments: The cloud of each point.

    Returns:
        ``[B]`` in float64; the instance mIoU is its mean. (The protocol that counts parts absent from
        both as 1 gives slightly other numbers.) An empty cloud gives 0.

    Example:
        >>> cloud = Segments(ptr=torch.tensor([0, 4]))
        >>> part_iou(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 0, 1]), cloud)
        tensor([0.5833], dtype=torch.float64)
    """
    if predicted.shape != parts.shape or parts.dim() != 1:
        raise ValueError(
            f"`predicted` and `parts` must both be [N]; got {tuple(predicted.shape)} and "
            f"{tuple(parts.shape)}."
        )
    count = 1 + int(max(predicted.max(), parts.max())) if parts.numel() else 1
    cells = segments.num_segments * count
    base = segments.index * count
    true = torch.bincount(base + parts, minlength=cells)
    guess = torch.bincount(base + predicted, minlength=cells)
    both = torch.bincount((base + parts)[predicted == parts], minlength=cells)
    iou = (both / (true + guess - both).clamp_min(1)).double().view(-1, count)
    present = (true > 0).view(-1, count)
    return (iou * present).sum(1) / present.sum(1).clamp_min(1)
