"""Augmentations of single clouds, with a generator."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.transforms import BaseTransform

from graphpool._arguments import check_at_least, check_one_of
from graphpool.ops.neighbors.clouds import check_coordinates

# What says which points belong together names them by position.
_CONNECTIVITY = ("edge_index", "adj", "adj_t", "face")

Range = tuple[float, float]


class RandomTransform(BaseTransform):
    """A transform that draws from a generator.

    Args:
        generator: Source of randomness; the global one of torch if ``None``. Give every DataLoader worker
            its own, or they draw the same numbers.
    """

    def __init__(self, generator: torch.Generator | None = None) -> None:
        self.generator = generator

    def uniform(self, size: tuple[int, ...], low: float, high: float, like: Tensor) -> Tensor:
        u = torch.rand(size, generator=self.generator, dtype=like.dtype)
        return (low + (high - low) * u).to(like.device)


class Normalize(BaseTransform):
    r"""Moves the centroid to the origin and scales the farthest point to distance 1.

    A cloud whose points all coincide is only moved. Centroid and differences are computed in float64,
    and the result has the dtype of the positions. What was taken away is kept: ``offset`` ``[1, D]`` and
    ``scale`` ``[1]``, both float64, such that ``pos * scale + offset`` are the positions that came, or, if
    ``offset`` (and ``scale``) were there already, as folders of clouds leave them, those that they stood
    for.

    Coordinates far from the origin (maps, surveys) must come in float64. float32 has rounded them already
    when the transform sees them, and it warns where that is more than a thousandth of the radius.

    Raises:
        ValueError: When applied: a coordinate is not finite, or the data is a batch of clouds.

    Example:
        >>> data = Normalize()(Data(pos=torch.tensor([[0.0, 0, 0], [4.0, 0, 0]])))
        >>> data.pos
        tensor([[-1.,  0.,  0.],
                [ 1.,  0.,  0.]])
        >>> data.offset, data.scale
        (tensor([[2., 0., 0.]], dtype=torch.float64), tensor([2.], dtype=torch.float64))
    """

    def forward(self, data: Data) -> Data:
        pos = _single(data, "Normalize")
        check_coordinates(pos, "pos")
        exact = pos.double()
        # Differences to a point, not sums of coordinates: equal points end up exactly at the origin.
        offset = exact[:1].clone() if len(exact) else exact.new_zeros(1, pos.size(1))
        exact = exact - offset
        if len(exact):
            centre = exact.mean(0, keepdim=True)
            offset, exact = offset + centre, exact - centre
        largest = exact.abs().max() if len(exact) else exact.new_zeros(())
        scale = exact.new_ones(1)
        if largest > 0:
            # The squares of tiny coordinates would vanish.
            scale = ((exact / largest).norm(dim=1).max() * largest).view(1)
            step = float(offset.abs().max()) * torch.finfo(pos.dtype).eps
            if step > 1e-3 * float(scale):
                warnings.warn(
                    f"Normalize: {pos.dtype} holds coordinates of {float(offset.abs().max()):.3g} in "
                    f"steps of {step:.1g}, but the cloud has a radius of {float(scale):.3g}: pass "
                    f"`pos` in float64.",
                    stacklevel=2,
                )
        data.pos = (exact / scale).to(pos.dtype)
        if data.get("offset") is not None:
            outer = data.get("scale", torch.ones_like(scale))
            offset, scale = data.offset.to(offset) + outer * offset, outer * scale
        data.offset, data.scale = offset, scale
        return data


class Jitter(RandomTransform):
    """Adds independent normal noise to every coordinate.

    Args:
        sigma: Standard deviation, >= 0.
        clip: Noise beyond this is set to it.
        generator: Source of randomness.
    """

    def __init__(
        self, sigma: float = 0.01, clip: float = 0.05, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(generator)
        if not sigma >= 0 or not clip >= 0:
            raise ValueError(f"`sigma` and `clip` must be >= 0; got {sigma} and {clip}.")
        self.sigma, self.clip = sigma, clip

    def forward(self, data: Data) -> Data:
        pos = _pos(data)
        noise = torch.randn(pos.shape, generator=self.generator, dtype=pos.dtype) * self.sigma
        data.pos = pos + noise.clamp_(-self.clip, self.clip).to(pos.device)
        return data


class Scale(RandomTransform):
    """Multiplies the coordinates by a uniform random factor.

    Args:
        factors: Range of the factor, > 0.
        per_axis: Whether each axis has its own.
        generator: Source of randomness.
    """

    def __init__(
        self,
        factors: Range = (2 / 3, 3 / 2),
        per_axis: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(generator)
        if not 0 < factors[0] <= factors[1]:
            raise ValueError(f"`factors` must be an ascending pair > 0; got {factors}.")
        self.factors, self.per_axis = factors, per_axis

    def forward(self, data: Data) -> Data:
        pos = _pos(data)
        data.pos = pos * self.uniform((pos.size(1) if self.per_axis else 1,), *self.factors, pos)
        return data


class Shift(RandomTransform):
    """Moves the cloud by a uniform random vector.

    Args:
        distance: Largest shift along each axis, >= 0.
        generator: Source of randomness.
    """

    def __init__(self, distance: float = 0.2, generator: torch.Generator | None = None) -> None:
        super().__init__(generator)
        check_at_least(distance, "distance", 0)
        self.distance = distance

    def forward(self, data: Data) -> Data:
        pos = _pos(data)
        data.pos = pos + self.uniform((pos.size(1),), -self.distance, self.distance, pos)
        return data


class Rotate(RandomTransform):
    """Rotates the cloud, about one axis or uniformly in all of SO(3).

    Args:
        axis: ``"x"``, ``"y"``, ``"z"``, or ``None`` for a uniformly random rotation.
        degrees: Range of the angle about ``axis``.
        generator: Source of randomness.
    """

    def __init__(
        self,
        axis: str | None = "z",
        degrees: Range = (-180.0, 180.0),
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(generator)
        check_one_of(axis, "axis", ("x", "y", "z", None))
        self.axis, self.degrees = axis, degrees

    def forward(self, data: Data) -> Data:
        pos = _pos(data)
        data.pos = (pos.double() @ self._matrix(pos).T).to(pos.dtype)
        if data.get("normal") is not None:
            raise ValueError("Rotate turns `pos` only; remove `normal` or compute it afterwards.")
        return data

    def _matrix(self, pos: Tensor) -> Tensor:
        if self.axis is None:
            # A uniformly random unit quaternion is a uniformly random rotation.
            q = torch.randn(4, generator=self.generator, dtype=torch.float64)
            w, x, y, z = (q / q.norm()).tolist()
            rows = [
                [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
            ]
            return torch.tensor(rows, dtype=torch.float64, device=pos.device)
        angle = math.radians(float(self.uniform((1,), *self.degrees, pos.double())))
        c, s = math.cos(angle), math.sin(angle)
        a = "xyz".index(self.axis)
        b, d = (a + 1) % 3, (a + 2) % 3
        matrix = torch.eye(3, dtype=torch.float64, device=pos.device)
        matrix[b, b] = matrix[d, d] = c
        matrix[b, d], matrix[d, b] = -s, s
        return matrix


class Drop(RandomTransform):
    """Leaves out a random part of the points, with everything that belongs to them; at least one stays.

    What belongs to them is said at :class:`Sample`.

    Args:
        fraction: Range of the fraction that is left out, in [0, 1).
        generator: Source of randomness.
    """

    def __init__(
        self, fraction: Range = (0.0, 0.5), generator: torch.Generator | None = None
    ) -> None:
        super().__init__(generator)
        if not 0 <= fraction[0] <= fraction[1] < 1:
            raise ValueError(f"`fraction` must be an ascending pair in [0, 1); got {fraction}.")
        self.fraction = fraction

    def forward(self, data: Data) -> Data:
        pos = _single(data, "Drop")
        count = pos.size(0)
        share = float(self.uniform((1,), *self.fraction, pos))
        kept = max(count - int(share * count), 1)
        return _take(data, torch.randperm(count, generator=self.generator)[:kept], "Drop")


class Sample(RandomTransform):
    """Takes a fixed number of the points, without repetition, with everything that belongs to them.

    These are all attributes with one entry per point, under any name: tensors and arrays by their first
    dimension, lists by their length. An attribute of the whole cloud that happens to be as long as the cloud
    cannot be told from them.

    Args:
        num: Number of points.
        random: Whether they are drawn at random (and so shuffled); otherwise the first ones.
        generator: Source of randomness.

    Raises:
        ValueError: When applied: the cloud has fewer points; the data is a batch of clouds, or has edges or
            faces, which name points by position.

    Example:
        >>> data = Data(pos=torch.rand(4, 3), y=torch.arange(4), category=torch.tensor([7]))
        >>> out = Sample(2, random=False)(data)
        >>> out.pos.shape, out.y, out.category
        (torch.Size([2, 3]), tensor([0, 1]), tensor([7]))
    """

    def __init__(
        self, num: int, random: bool = True, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(generator)
        check_at_least(num, "num", 1)
        self.num, self.random = num, random

    def forward(self, data: Data) -> Data:
        count = _single(data, "Sample").size(0)
        if count < self.num:
            raise ValueError(f"Sample({self.num}) needs as many points; the cloud has {count}.")
        if self.random:
            chosen = torch.randperm(count, generator=self.generator)[: self.num]
        else:
            chosen = torch.arange(self.num)
        return _take(data, chosen, "Sample")


def _take(data: Data, chosen: Tensor, who: str) -> Data:
    """``data`` with the chosen points only, and what belongs to them."""
    for key in _CONNECTIVITY:
        if data.get(key) is not None:
            raise ValueError(
                f"{who} leaves points out, but `{key}` names points by position: remove it, or compute "
                f"it afterwards (torch_geometric's SamplePoints turns faces into points)."
            )
    count = len(_pos(data))
    # All that belongs to points is found before the first attribute is shortened.
    for key, value in [(k, v) for k, v in data.to_dict().items() if _length(v) == count]:
        if isinstance(value, Tensor):
            data[key] = value.index_select(0, chosen.to(value.device))
        elif isinstance(value, np.ndarray):
            data[key] = value[chosen.numpy()]
        else:
            data[key] = type(value)([value[i] for i in chosen.tolist()])
    if "num_nodes" in data:
        data.num_nodes = len(chosen)
    return data


def _length(value: Any) -> int:
    """Entries along the first dimension, -1 where there is none."""
    if isinstance(value, (Tensor, np.ndarray)):
        return value.shape[0] if value.ndim else -1
    return len(value) if type(value) in (list, tuple) else -1


def _single(data: Data, who: str) -> Tensor:
    if isinstance(data, Batch):
        raise ValueError(f"{who} takes one cloud, not a Batch: apply it before batching.")
    return _pos(data)


def _pos(data: Data) -> Tensor:
    pos = data.pos
    if not isinstance(pos, Tensor) or pos.dim() != 2 or not pos.is_floating_point():
        raise ValueError("The data has no points: `pos` must be a floating point tensor [N, D].")
    return pos
