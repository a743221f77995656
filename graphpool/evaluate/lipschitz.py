"""How far a pool can move when its bag moves a little."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch

from graphpool import aggr
from graphpool._arguments import as_count

DISTANCES = ("matching", "wasserstein", "wasserstein2", "hausdorff")
_NONE = math.inf


class _Row(NamedTuple):
    """The constants of a pool for bags of any sizes, and for the 1-Wasserstein distance of two bags of
    one; ``None`` where nobody has said."""

    of_one_size: float | None
    matching: float = _NONE
    wasserstein: float = _NONE
    wasserstein2: float = _NONE
    hausdorff: float = _NONE


_Rule = Callable[[aggr.Aggregation, int, int], _Row | None]


def _quantile(pool: aggr.Aggregation, n: int, d: int) -> _Row:
    return _Row(n * len(pool.levels) ** 0.5)  # type: ignore[arg-type]


def _power_mean(pool: aggr.Aggregation, n: int, d: int) -> _Row:
    p = torch.as_tensor(pool.p).detach()
    least, most = float(p.min()), float(p.max())
    if least < 1 or pool.negative == "split":
        return _Row(_NONE)
    return _Row(n ** (1 - 1 / most), wasserstein2=1.0 if most <= 2 else _NONE)


def _trimmed(pool: aggr.Aggregation, n: int, d: int) -> _Row:
    bound = 1 / (1 - 2 * pool.trim)  # type: ignore[operator]
    return _Row(min(bound, n), wasserstein=bound, wasserstein2=bound)


def _fsw(pool: aggr.Aggregation, n: int, d: int) -> _Row:
    f, slices = pool.frequencies.detach().double(), pool.slices.detach().double()  # type: ignore[operator]

    def along(steepest: torch.Tensor) -> float:
        return float(torch.linalg.matrix_norm((2 * (1 + f) * steepest)[:, None] * slices, 2))

    few = along((n / (torch.pi * f.abs())).clamp(max=1))
    # Copies of a whole bag are the same measure, and have another total.
    bound = along(torch.ones_like(f)) if pool.total is None else _NONE
    return _Row(few, wasserstein=bound, wasserstein2=bound)


def _pna(pool: aggr.Aggregation, n: int, d: int) -> _Row | None:
    if set(pool.scalers) == {"identity"}:  # type: ignore[arg-type]
        return None
    # The squared derivative of each statistic by one element, which is not the least and the largest at once.
    squares = {"sum": 1, "mean": n**-2, "std": (n - 1) / n**2, "var": _NONE, "min": 1, "max": 1}
    total = sum(squares[name] for name in pool.statistics)  # type: ignore[union-attr]
    if n > 1 and {"min", "max"} <= set(pool.statistics):  # type: ignore[arg-type]
        total -= 1
    log = math.log1p(n) / float(pool.delta)  # type: ignore[arg-type]
    scales = {"identity": 1.0, "amplification": log**2, "attenuation": log**-2}
    return _Row(n * (total * sum(scales[name] for name in pool.scalers)) ** 0.5)  # type: ignore[union-attr]


def _gnp(pool: aggr.Aggregation, n: int, d: int) -> _Row | None:
    if isinstance(pool, aggr.PaperGNP):
        return None
    p, growth, scale = (v.detach().double().flatten() for v in (pool.p, pool.g, pool.c))  # type: ignore[operator, union-attr]
    # No derivative by an element is more than these, of the three means (see GNP).
    most = [
        3 * n ** float(growth - 1 / p[0]),
        3 * n ** float(growth - 1 / p[1]),
        n ** float(growth - 1),
    ]
    shares = pool.shares.detach().double().abs()  # type: ignore[operator]
    return _Row(n * float(scale * (shares * shares.new_tensor(most)[:, None]).sum(0).max()))


def _moments(pool: aggr.Aggregation, n: int, d: int) -> _Row:
    # The gradients of mean and deviation are at right angles, and of one length.
    if pool.order == 1:
        return _Row(1, wasserstein=1, wasserstein2=1)
    return _Row(n**0.5, wasserstein2=1) if pool.order == 2 else _Row(None)


def softmax_slope(n: int) -> float:
    r"""The largest derivative of a softmax pool of ``n`` elements by one of them, at any temperature:
    :math:`\max_w w (1 + (1 - w) \log((n - 1) w / (1 - w)))`.

    Example:
        >>> round(softmax_slope(10), 3)
        1.374
    """
    if n == 1:
        return 1.0
    w = torch.linspace(0, 1, 100_001, dtype=torch.double)[1:-1]
    return float((w * (1 + (1 - w) * ((n - 1) * w / (1 - w)).log())).max())


_RULES: dict[type, _Rule] = {
    aggr.Sum: lambda pool, n, d: _Row(n, matching=1),
    aggr.Mean: lambda pool, n, d: _Row(1, wasserstein=1, wasserstein2=1),
    aggr.Max: lambda pool, n, d: _Row(n, hausdorff=d**0.5),
    aggr.Min: lambda pool, n, d: _Row(n, hausdorff=d**0.5),
    aggr.Std: lambda pool, n, d: _Row((n - 1) ** 0.5, wasserstein2=1),
    aggr.VariancePreserving: lambda pool, n, d: _Row(n**0.5),
    aggr.Quantile: _quantile,
    aggr.TrimmedMean: _trimmed,
    aggr.PowerMean: _power_mean,
    aggr.LogSumExp: lambda pool, n, d: _Row(n),
    aggr.SoftPool: lambda pool, n, d: _Row(n * softmax_slope(n)),
    aggr.FSW: _fsw,
    aggr.KMax: lambda pool, n, d: _Row(n),
    aggr.PNA: _pna,
    aggr.GNP: _gnp,
    aggr.Moments: _moments,
    # Half of a bag at one place and half at another: the median jumps.
    aggr.GeometricMedian: lambda pool, n, d: _Row(None),
    aggr.SoftMedian: lambda pool, n, d: _Row(None),
    **dict.fromkeys(
        (
            aggr.Var,
            aggr.Bilinear,
            aggr.CompactBilinear,
            aggr.Conjunctive,
            aggr.OTKE,
            aggr.AttSets,
            aggr.PMA,
            aggr.GatedAttention,
            aggr.DSMIL,
            aggr.Set2Set,
            aggr.Fishnets,
            aggr.SlotAttention,
        ),
        lambda pool, n, d: _Row(_NONE),
    ),
}


def lipschitz(
    pool: aggr.Aggregation, distance: str, *, size: int | None = None, channels: int | None = None
) -> float:
    """A constant ``L`` such that outputs are never farther apart, in the Euclidean norm, than ``L`` times the
    distance of their bags; infinity where there is none.

    ================== ==============================================================================
    ``distance``       of two bags
    ================== ==============================================================================
    ``"matching"``     see :func:`matching_distance`; zero vectors are free
    ``"wasserstein"``  least mean distance over all ways to carry the one to the other, bags as measures
    ``"wasserstein2"`` the same with the root of the mean square
    ``"hausdorff"``    the farthest that an element of one is from the other
    ================== ==============================================================================

    The parameters are those that the pool has now. Elements may be any vectors: an attention over vectors
    without a bound has no constant for any of the distances. What holds for a distance shows in what the pool
    ignores: zero vectors, copies of the whole bag, copies of single elements.

    Args:
        pool: The pool.
        distance: Which.
        size: Both bags have so many elements; of any sizes if ``None``.
        channels: Number of channels, where the pool does not know it.

    Raises:
        ValueError: The distance is unknown, nothing is known about the pool (or of bags of one size), or
            ``channels`` is missing.

    Example:
        >>> lipschitz(aggr.Mean(), "wasserstein"), lipschitz(aggr.Sum(), "wasserstein")
        (1.0, inf)
        >>> lipschitz(aggr.Sum(), "wasserstein", size=5), lipschitz(aggr.Max(4), "hausdorff")
        (5.0, 2.0)
    """
    if distance not in DISTANCES:
        raise ValueError(f"`distance` must be one of {DISTANCES}; got {distance!r}.")
    rule = next((_RULES[cls] for cls in type(pool).__mro__ if cls in _RULES), None)
    channels = channels or pool.channels
    if channels is None or channels < 1:
        channels = None if distance == "hausdorff" else 1
    if channels is None:
        raise ValueError(
            "`channels` must be given for 'hausdorff' where the pool does not know it."
        )
    n = 1 if size is None else as_count(size, "size")
    row = None if rule is None else rule(pool, n, channels)
    if row is None:
        raise ValueError(f"No constant of {type(pool).__name__} is known, nor that there is none.")
    anyhow = float(getattr(row, distance))
    if size is None or distance == "hausdorff":
        return anyhow
    if row.of_one_size is None:
        raise ValueError(
            f"No constant of {type(pool).__name__} is known for bags of one `size`, nor that there is none; "
            "leave it out for bags of any sizes."
        )
    return min(anyhow, row.of_one_size / (n if distance == "matching" else 1.0))
