"""Units of length in which squared distances do not underflow."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from graphpool.ops.neighbors.clouds import Clouds, largest_coordinate

# Differences of coordinates of at least 2^-40 (float32) or 2^-459 (float64) are 0 or so large that their
# squares are normal numbers: the root of the smallest, times the digits of one.
_SMALLEST = {torch.float32: -40, torch.float64: -459}


def comparable(*sets: Clouds, name: str = "points") -> tuple[tuple[Clouds, ...], int]:
    """The clouds in a unit of length in which no squared difference underflows, and its exponent.

    Lengths become ``2^lift`` times as large: a power of two changes no bit of a coordinate, nor of a
    distance that did not underflow before. Where one unit of float32 cannot hold what is there, from the
    smallest to the largest coordinate, the clouds become float64, which can.

    Raises:
        ValueError: No unit of float64 can.
    """
    dtype = sets[0].points.dtype
    smallest = _SMALLEST[dtype]
    sizes = [s.points.abs() for s in dict.fromkeys(sets) if s.points.numel()]
    if all(float(size.min()) >= 2.0**smallest for size in sizes):
        return sets, 0
    least = min(float(size.masked_fill_(size == 0, torch.inf).min()) for size in sizes)
    if least >= 2.0**smallest:
        return sets, 0
    largest = max(float(s.points.abs().max()) for s in sets if s.points.numel())
    lift = smallest + 1 - math.frexp(least)[1]
    room = math.frexp(largest_coordinate(sets[0].points))[1] - 1 - math.frexp(largest)[1]
    if lift <= room:
        return tuple(replace(s, points=times_power(s.points, lift)) for s in sets), lift
    if dtype == torch.float32:
        return tuple(replace(s, points=s.points.double()) for s in sets), 0
    raise ValueError(
        f"`{name}` must be such that squared distances do not underflow; got coordinates from {least:g} to "
        f"{largest:g}, for which float64 has no unit of length. Set to 0 what does not count, or measure "
        f"clouds of different size apart."
    )


def times_power(x: Tensor, exponent: int) -> Tensor:
    """``x * 2^exponent``, also where the power itself is no number."""
    while exponent:
        step = max(-100, min(exponent, 100))
        x, exponent = x * 2.0**step, exponent - step
    return x


def precision_of(points: Tensor) -> torch.dtype:
    return torch.float64 if points.dtype == torch.float64 else torch.float32


def squared_limit(distance: float, points: Tensor, clouds: Clouds, lift: int) -> float:
    """The square that squared distances of ``clouds`` are compared with, as they are computed."""
    rounded = torch.tensor(distance, dtype=precision_of(points))
    rounded = times_power(rounded.to(clouds.points.dtype), lift)
    square = float(rounded * rounded)
    precision = torch.finfo(rounded.dtype)
    # The smallest number of all: only 0 is below any distance that there is, however small.
    return max(square, precision.tiny * precision.eps) if distance > 0 else square


def as_measured(squared: Tensor, lift: int, points: Tensor) -> Tensor:
    """Squared distances in the unit and precision of the points."""
    if lift:
        squared = times_power(squared.double(), -2 * lift)
    return squared.to(precision_of(points))
