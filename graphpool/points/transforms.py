"""Augmentations of single clouds, with a generator."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.transforms import BaseTransform

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
    """Moves the centroid to the origin and scales the farthest point to distance 1.

    A cloud whose points all coincide is only moved.

    Example:
        >>> Normalize()(Data(pos=torch.tensor([[0.0, 0, 0], [4.0, 0, 0]]))).pos
        tensor([[-1.,  0.,  0.],
                [ 1.,  0.,  0.]])
    """

    def forward(self, data: Data) -> Data:
        pos = _pos(data)
        if pos.size(0):
            pos = pos - pos.mean(0)
            radius = pos.norm(dim=1).max()
            pos = pos / radius if radius > 0 else pos
        data.pos = pos
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
        if not distance >= 0:
            raise ValueError(f"`distance` must be >= 0; got {distance}.")
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
        if axis not in ("x", "y", "z", None):
            raise ValueError(f"`axis` must be 'x', 'y', 'z' or None; got {axis!r}.")
        self.axis, self.degrees = axis, degrees

    def forward(self, data: Data) -> Data:
        pos = _pos(data)
        data.pos = pos @ self._matrix(pos).T
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
            return torch.tensor(rows, dtype=pos.dtype, device=pos.device)
        angle = math.radians(float(self.uniform((1,), *self.degrees, pos.double())))
        c, s = math.cos(angle), math.sin(angle)
        a = "xyz".index(self.axis)
        b, d = (a + 1) % 3, (a + 2) % 3
        matrix = torch.eye(3, dtype=pos.dtype, device=pos.device)
        matrix[b, b] = matrix[d, d] = c
        matrix[b, d], matrix[d, b] = -s, s
        return matrix


class Drop(RandomTransform):
    """Leaves out a random part of the points, with everything that belongs to them; at least one stays.

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
        pos = _pos(data)
        count = pos.size(0)
        share = float(self.uniform((1,), *self.fraction, pos))
        return take_points(
            data,
            torch.randperm(count, generator=self.generator)[: max(count - int(share * count), 1)],
        )


class Sample(RandomTransform):
    """Takes a fixed number of the points, without repetition.

    Args:
        num: Number of points.
        random: Whether they are drawn at random (and so shuffled); otherwise the first ones.
        generator: Source of randomness.

    Raises:
        ValueError: When applied: the cloud has fewer points.
    """

    def __init__(
        self, num: int, random: bool = True, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(generator)
        if num < 1:
            raise ValueError(f"`num` must be >= 1; got {num}.")
        self.num, self.random = num, random

    def forward(self, data: Data) -> Data:
        count = _pos(data).size(0)
        if count < self.num:
            raise ValueError(f"Sample({self.num}) needs as many points; the cloud has {count}.")
        if self.random:
            chosen = torch.randperm(count, generator=self.generator)[: self.num]
        else:
            chosen = torch.arange(self.num)
        return take_points(data, chosen)


def take_points(data: Data, chosen: Tensor) -> Data:
    """``data`` with the chosen points only: every tensor with one row per point is indexed."""
    count = _pos(data).size(0)
    for key, value in data.to_dict().items():
        if (
            isinstance(value, Tensor)
            and value.dim() > 0
            and value.size(0) == count
            and (key in ("pos", "x", "normal") or data.is_node_attr(key))
        ):
            data[key] = value[chosen.to(value.device)]
    return data


def _pos(data: Data) -> Tensor:
    if not isinstance(data.pos, Tensor) or data.pos.dim() != 2:
        raise ValueError("The data has no points: `pos` must be a tensor [N, D].")
    return data.pos
