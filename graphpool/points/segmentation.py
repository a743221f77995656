"""Training-free part segmentation: features for every point, and remembered parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from graphpool import ops
from graphpool._arguments import as_count
from graphpool._recorded import savable
from graphpool.ops.neighbors.interpolation import interpolate
from graphpool.points.inputs import check_per_point, sorted_clouds
from graphpool.points.memory import MemoryBank
from graphpool.points.point_nn import PointNN
from graphpool.segments import Segments


@savable
class PointNNSegmenter(PointNN):
    r"""The Point-NN encoder followed by its decoder: one feature vector per point.

    Coarse features are carried to the next finer points from their ``neighbors`` nearest coarse points
    with weights :math:`1 / d^2` (:func:`graphpool.ops.neighbors.interpolate`; the released code adds
    :math:`10^{-8}` to :math:`d^2`) and written behind the features that are there.

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
        if self.descriptor != "last":
            raise ValueError("`descriptor` is of clouds; the features of points have none.")
        self.neighbors = neighbors
        self.out_channels = channels * (2 ** (self.stages + 1) - 1)

    def forward(
        self,
        pos: Tensor,
        batch: Tensor | Segments | None = None,
        ptr: Tensor | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        pos, segments, perm = sorted_clouds(pos, batch, ptr, batch_size)
        encoded = self.encode_levels(pos, segments)
        x, level = encoded[-1]
        x = self.in_order(x)
        skips = [self.embed(pos, segments), *(self.in_order(skip) for skip, _ in encoded[:-1])]
        for skip, (_, level) in zip(reversed(skips), reversed(encoded), strict=True):
            carried = interpolate(
                x, level.centre_pos, level.pos, level.centre_segments, level.segments,
                k=self.neighbors,
            )  # fmt: skip
            x = torch.cat([skip, carried], 1)
        if perm is None:
            return x
        return torch.empty_like(x).index_copy_(0, perm, x)


@savable
class PartMemory(torch.nn.Module):
    """Remembered parts: for each category of objects a bank of one mean vector per cloud and part.

    What is remembered is the state of the module: ``state_dict`` and ``load_state_dict`` carry it, whatever
    the module remembered before.

    Args:
        num_parts: Number of part labels, over all categories.
        gamma: Sharpness of the banks; see :class:`MemoryBank`.

    Example:
        >>> memory, one_cloud = PartMemory(num_parts=2), Segments(ptr=torch.tensor([0, 2]))
        >>> _ = memory.add(torch.eye(2), torch.tensor([1, 0]), one_cloud)
        >>> memory.predict(torch.tensor([[0.1, 1.0], [1.0, 0.1]]), one_cloud)
        tensor([0, 1])
    """

    gamma: Tensor

    def __init__(self, num_parts: int, gamma: float = 300.0) -> None:
        super().__init__()
        self.num_parts = as_count(num_parts, "num_parts")
        self.register_buffer("gamma", MemoryBank(gamma=gamma).gamma)
        self.banks = torch.nn.ModuleDict()

    @torch.no_grad()
    def add(
        self,
        features: Tensor,
        parts: Tensor,
        segments: Segments,
        categories: Tensor | None = None,
        ignore_index: int | None = None,
    ) -> PartMemory:
        """Remembers the parts of these clouds, in addition to what is there.

        Args:
            features: Features of the points ``[N, D]``.
            parts: Part of each point ``[N]``, in ``[0, num_parts)``.
            segments: The cloud of each point.
            categories: Category of each cloud ``[B]``; ``None`` where there are no categories, so that all
                clouds are compared with each other.
            ignore_index: Points with this label are left out.

        Raises:
            TypeError: Labels are not integers.
            ValueError: Sizes or values do not fit.
        """
        self._check(features, segments)
        check_per_point(parts, features.size(0), "parts")
        category = self._categories(segments, categories)
        index = segments.index
        if ignore_index is not None:
            kept = (parts != ignore_index).nonzero().squeeze(1)
            features, parts, index = features[kept], parts[kept], index[kept]
        _check_parts(parts, self.num_parts, "parts")
        found, group = (index * self.num_parts + parts).unique(return_inverse=True)
        bags = Segments(index=group, num_segments=found.numel())
        keys, labels = ops.segment_mean(features, bags), found % self.num_parts
        owner = category[found // self.num_parts]
        for c in owner.unique().tolist():
            mine, name = owner == c, self._name(c, categories)
            if name in self.banks:
                self._bank(name).add(keys[mine], labels[mine])
            else:
                bank = MemoryBank(gamma=float(self.gamma))
                self.banks[name] = bank.fit(keys[mine], labels[mine], self.num_parts)
        return self

    @torch.no_grad()
    def scores(
        self, features: Tensor, segments: Segments, categories: Tensor | None = None
    ) -> Tensor:
        """``[N, num_parts]``: each point is compared with the parts of its cloud's category only.

        Args:
            features: Features of the points ``[N, D]``.
            segments: The cloud of each point.
            categories: Category of each cloud ``[B]``; ``None`` as in :meth:`add`.

        Raises:
            ValueError: Sizes do not fit, or nothing of a category is remembered.
        """
        self._check(features, segments)
        category = self._categories(segments, categories).index_select(0, segments.index)
        out = features.new_zeros(features.size(0), self.num_parts)
        for c in category.unique().tolist():
            name = self._name(c, categories)
            if name not in self.banks:
                known = ", ".join(sorted(self.banks)) or "nothing"
                raise ValueError(
                    f"No part of category {name} is remembered; known: {known}. `categories` must be "
                    f"given to `add` and to `scores`, or to neither."
                )
            mine = (category == c).nonzero().squeeze(1)
            out[mine] = self._bank(name).scores(features[mine]).to(out.dtype)
        return out

    def predict(
        self, features: Tensor, segments: Segments, categories: Tensor | None = None
    ) -> Tensor:
        """The part with the largest score, ``[N]``."""
        return self.scores(features, segments, categories).argmax(1)

    def _bank(self, name: str) -> MemoryBank:
        bank = self.banks[name]
        if not isinstance(bank, MemoryBank):
            raise TypeError(f"Entry {name!r} of `banks` is a {type(bank).__name__}.")
        return bank

    def _check(self, features: Tensor, segments: Segments) -> None:
        if features.dim() != 2 or features.size(0) != segments.num_elements:
            raise ValueError(
                f"`features` must have shape [{segments.num_elements}, D]; "
                f"got {tuple(features.shape)}."
            )

    def _categories(self, segments: Segments, categories: Tensor | None) -> Tensor:
        if categories is None:
            return segments.counts.new_zeros(segments.num_segments)
        check_per_point(categories, segments.num_segments, "categories")
        return categories

    def _name(self, category: int, categories: Tensor | None) -> str:
        return "all" if categories is None else str(category)

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        # Which categories are remembered is part of the state: the banks are there before they are filled.
        start = prefix + "banks."
        names = {key[len(start) :].split(".")[0] for key in state_dict if key.startswith(start)}
        device = self.gamma.device
        self.banks = torch.nn.ModuleDict({
            name: MemoryBank(gamma=0.0).to(device) for name in sorted(names)
        })  # fmt: skip
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        for name in names:
            values = state_dict.get(f"{start}{name}.values")
            if isinstance(values, Tensor) and values.shape[1:] != (self.num_parts,):
                args[4].append(
                    f"{start}{name} was remembered with {list(values.shape[1:])} parts, but "
                    f"`num_parts` is {self.num_parts}."
                )


def part_iou(
    predicted: Tensor, parts: Tensor, segments: Segments, ignore_index: int | None = None
) -> Tensor:
    """Mean intersection over union of the parts that are present in the ground truth, per cloud.

    Args:
        predicted: Predicted part of each point ``[N]``, >= 0.
        parts: True part of each point ``[N]``, >= 0 but for ``ignore_index``.
        segments: The cloud of each point.
        ignore_index: Points with this true label, such as -1, count nowhere, whatever is predicted there.

    Returns:
        ``[B]`` in float64; the instance mIoU is its mean. (The protocol that counts parts absent from
        both as 1 gives slightly other numbers.) A cloud without labelled points gives 0.

    Raises:
        TypeError: Labels are not integers.
        ValueError: Sizes do not fit, or a label is negative; the message names the first.

    Example:
        >>> cloud = Segments(ptr=torch.tensor([0, 4]))
        >>> part_iou(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 0, 1]), cloud)
        tensor([0.5833], dtype=torch.float64)
    """
    check_per_point(predicted, segments.num_elements, "predicted")
    check_per_point(parts, segments.num_elements, "parts")
    cloud = segments.index
    if ignore_index is not None:
        kept = parts != ignore_index
        predicted, parts, cloud = predicted[kept], parts[kept], cloud[kept]
    _check_parts(predicted, None, "predicted")
    _check_parts(parts, None, "parts")
    # Renumbered: labels may be far apart.
    names, label = torch.cat([predicted, parts]).unique(return_inverse=True)
    guessed, true = label.split([len(predicted), len(parts)])
    size = max(names.numel(), 1)
    cells, base = segments.num_segments * size, cloud * size

    def count(where: Tensor) -> Tensor:
        return torch.bincount(where, minlength=cells)

    both = count((base + true)[guessed == true])
    union = count(base + true) + count(base + guessed) - both
    present = (count(base + true) > 0).view(-1, size)
    iou = (both.double() / union.clamp_min(1)).view(-1, size)
    return (iou * present).sum(1) / present.sum(1).clamp_min(1)


def _check_parts(labels: Tensor, count: int | None, name: str) -> None:
    outside = labels < 0 if count is None else (labels < 0) | (labels >= count)
    if bool(outside.any()):
        where = ">= 0" if count is None else f"in [0, {count})"
        raise ValueError(
            f"`{name}` must be {where}; got {int(labels[outside][0])}. Unlabelled points are left out "
            f"with ignore_index=, such as ignore_index=-1."
        )
