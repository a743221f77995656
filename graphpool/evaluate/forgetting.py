"""Two bags that a pool cannot tell apart, or those that it tells apart worst."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from graphpool._arguments import as_count, what_came
from graphpool.aggr.registry import one_vector_per_segment

EQUAL = 1e-12
"""Relative difference of two outputs in float64 up to which they are the same."""
_STEPS = 20

# Six numbers each with the same sums of powers up to the fifth, between two that both bags have: sums,
# moments and extrema agree. Then five with the same middle as well.
_POWERS = ((0, 1, 6, 7, 17, 18, 23, 24), (0, 2, 3, 11, 13, 21, 22, 24))
_RANKS = ((0, 1, 5, 9, 10), (0, 2, 5, 8, 10))

_Embed = Callable[[Tensor], Tensor]


class Counterexample(NamedTuple):
    """Two bags, and what a pool makes of them."""

    x: Tensor
    """The one bag, ``[n, C]``, float64."""
    y: Tensor
    """The other."""
    distance: float
    """Matching distance of the bags."""
    difference: float
    """Euclidean distance of their outputs."""
    same: bool
    """Whether the outputs are equal, up to :data:`EQUAL` of their size."""
    how: str
    """How the pair was found."""

    @property
    def distortion(self) -> float:
        """``difference / distance``."""
        return self.difference / self.distance


def matching_distance(x: Tensor, y: Tensor) -> float:
    """Least sum of distances over all ways to match the elements of two bags, of which the smaller one is
    filled up with zero vectors. For bags of one size ``n`` it is ``n`` times the 1-Wasserstein distance.

    Example:
        >>> matching_distance(torch.tensor([[0.0], [3.0]]), torch.tensor([[4.0], [0.0]]))
        1.0
    """
    cost = _matched(x, y)
    return float((cost[0] - cost[1]).norm(dim=1).sum())


def counterexample(
    pool: torch.nn.Module,
    *,
    channels: int | None = None,
    size: int | None = None,
    starts: int = 10,
    steps: int = 200,
    seed: int = 0,
) -> Counterexample:
    """Looks for two different bags that a pool cannot tell apart.

    Three ways, of which the first that succeeds counts; every pair is put to a copy of the pool in float64.

    1. Pairs by construction: a bag and its double; numbers with the same sums of powers up to the fifth and
       the same extrema; numbers with the same sum, extrema and median.
    2. A bag of more numbers than come out can be moved without moving what comes out: along the kernel of the
       derivative, and back onto the level by Newton's steps.
    3. Where neither finds any, the pair with the smallest distortion, by gradient steps from random pairs and
       from bags with two equal elements that are pulled apart.

    Args:
        pool: The pool, of this package or of PyTorch Geometric.
        channels: Number of channels of the elements; that of the pool, or 2, if ``None``.
        size: Bags of at most so many elements. If ``None``, enough for the second way to find one.
        starts: Random starts of the second and the third way.
        steps: Gradient steps from each start of the third.
        seed: Seed of the bags.

    Raises:
        TypeError: ``pool`` is no module.
        ValueError: The pool does not give one vector for each bag, or a number is less than 1.

    Example:
        >>> from graphpool import aggr
        >>> found = counterexample(aggr.Mean())
        >>> found.same, found.how
        (True, 'a bag and its double')
        >>> counterexample(aggr.FSW(1, out_channels=6), size=2, starts=2, steps=50).same
        False
    """
    starts, steps = as_count(starts, "starts"), as_count(steps, "steps")
    if not isinstance(pool, torch.nn.Module):
        raise TypeError(
            f"`pool` must be a module, such as graphpool.aggr.resolve gives; got {what_came(pool)}."
        )
    one_vector_per_segment(pool)
    pool = copy.deepcopy(pool).double().eval()
    known = getattr(pool, "channels", None)
    channels = channels or (known if isinstance(known, int) and known > 0 else 2)
    random = torch.Generator().manual_seed(seed)

    def embed(x: Tensor) -> Tensor:
        return pool(x, torch.zeros(len(x), dtype=torch.long), dim_size=1).flatten()

    def draw(n: int) -> Tensor:
        return torch.randn(n, channels, generator=random, dtype=torch.double)

    with torch.no_grad():
        width = embed(draw(2)).numel()
    size = width // channels + 2 if size is None else as_count(size, "size")
    for x, y, how in _constructed(draw, channels):
        if max(len(x), len(y)) <= max(size, 8):
            found = _judged(embed, x, y, how)
            if found.same:
                return found
    for _ in range(starts):
        pair = _along_a_level(embed, draw(size), random)
        if pair is not None:
            return pair
    return _worst(embed, draw, size, starts, steps)


def _judged(embed: _Embed, x: Tensor, y: Tensor, how: str) -> Counterexample:
    with torch.no_grad():
        a, b = embed(x), embed(y)
    difference = float((a - b).norm())
    same = difference <= EQUAL * float(torch.maximum(a.norm(), b.norm()))
    return Counterexample(x, y, matching_distance(x, y), difference, same, how)


def _constructed(
    draw: Callable[[int], Tensor], channels: int
) -> Iterator[tuple[Tensor, Tensor, str]]:
    x = draw(3)
    yield x, torch.cat([x, x]), "a bag and its double"
    for pair, how in (
        (_RANKS, "the same sum, extrema and median"),
        (_POWERS, "the same sums of powers up to the fifth, and extrema"),
    ):
        a, b = (torch.tensor(row, dtype=torch.double)[:, None].expand(-1, channels) for row in pair)
        yield a, b, how


def _along_a_level(embed: _Embed, x: Tensor, random: torch.Generator) -> Counterexample | None:
    """Another bag with the output of ``x``, where the derivative has a kernel."""

    def of_numbers(z: Tensor) -> Tensor:
        return embed(z.view_as(x))

    level = of_numbers(x.flatten()).detach()
    jacobian = torch.autograd.functional.jacobian(of_numbers, x.flatten())
    _, scale, rows = torch.linalg.svd(jacobian)
    rank = int((scale > 1e-10 * scale[:1].clamp_min(1e-300)).sum())
    if rank == x.numel():
        return None
    kernel = rows[rank:]
    weights = torch.randn(len(kernel), generator=random, dtype=torch.double)
    direction = torch.nn.functional.normalize(weights @ kernel, dim=0)
    for length in (1.0, 0.3, 0.1):
        z = x.flatten() + length * direction
        for _ in range(_STEPS):
            jacobian = torch.autograd.functional.jacobian(of_numbers, z)
            z = (
                z
                - torch.linalg.lstsq(
                    jacobian, of_numbers(z).detach() - level, driver="gelsd"
                ).solution
            )
        if not z.isfinite().all():
            continue
        found = _judged(embed, x, z.view_as(x), "moved along a level of the pool")
        if found.same and found.distance > length / 3:
            return found
    return None


def _worst(
    embed: _Embed, draw: Callable[[int], Tensor], size: int, starts: int, steps: int
) -> Counterexample:
    how = f"the worst of {2 * starts} starts of {steps} steps"
    least = math.inf
    worst: tuple[Tensor, Tensor] | None = None
    for start in range(2 * starts):
        x = draw(size)
        if start % 2 and size > 1:
            # Two equal elements: what a pool gives to one it takes from the other, to first order.
            x[1] = x[0]
            apart = 10.0 ** -(1 + start // 2 % 4) * draw(1)
            y = torch.cat([x[:1] + apart, x[1:2] - apart, x[2:]])
        else:
            y = draw(size)
        pair = [x.clone().requires_grad_(), y.clone().requires_grad_()]
        optimizer = torch.optim.Adam(pair, lr=0.02 * min(1.0, matching_distance(x, y)))
        for _ in range(steps):
            a, b = _matched(*pair)
            distance = (a - b).norm(dim=1).sum()
            ratio = (embed(pair[0]) - embed(pair[1])).norm() / distance
            value = float(ratio.detach())
            # Nearer than rounding can tell, a ratio says nothing.
            if not math.isfinite(value) or float(distance.detach()) <= 1e-6:
                break
            if value < least:
                least, worst = value, (pair[0].detach().clone(), pair[1].detach().clone())
            optimizer.zero_grad()
            ratio.log().backward()
            optimizer.step()
    if worst is None:
        raise ValueError("No two bags were found whose outputs are finite; `pool` gives none.")
    return _judged(embed, *worst, how)


def _matched(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The elements of both bags, side by side as they match best; the smaller filled up with zeros."""
    n = max(len(x), len(y))
    x, y = (torch.cat([v, v.new_zeros(n - len(v), v.size(1))]) for v in (x, y))
    rows, columns = linear_sum_assignment(torch.cdist(x.detach(), y.detach()).numpy())
    return x[torch.from_numpy(rows)], y[torch.from_numpy(columns)]
