"""The motion of each point from one cloud to the next, by a small network for each pair of clouds."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from graphpool._arguments import as_count, check_at_least, what_came
from graphpool.aggr.pyg import pool as pool_with
from graphpool.aggr.pyg import pooled_width
from graphpool.aggr.registry import resolve_pool
from graphpool.nn import perceptron
from graphpool.ops import segment_mean, segment_moments
from graphpool.ops.neighbors.clouds import Clouds, as_clouds, largest_coordinate
from graphpool.ops.neighbors.search import knn
from graphpool.points.inputs import check_resolution
from graphpool.ragged import ragged_arange, ragged_gather
from graphpool.segments import Segments


class SceneFlow(NamedTuple):
    """What :func:`scene_flow` gives.

    Args:
        flow: Motion of each point ``[N, D]``, of the step with the lowest loss.
        loss: That loss, ``[P]``; 0 where one of the clouds is empty.
        steps: Steps that each pair took, ``[P]``.
        matched: Share of the points of each pair that the motion brings nearer to the target than the
            limit ``[P]``. A low share means that the loss hardly says anything about the flow.
    """

    flow: Tensor
    loss: Tensor
    steps: Tensor
    matched: Tensor


def chamfer_distance(
    pos: Tensor,
    target: Tensor,
    segments: Segments | None = None,
    target_segments: Segments | None = None,
    *,
    pool: Any = "mean",
    limit: float = math.inf,
) -> Tensor:
    r"""How far pairs of clouds are apart: the squared distances to the nearest point, pooled.

    .. math:: C_s = \mathrm{pool}_{i \in s}\, d(x_i, Y_s) + \mathrm{pool}_{j \in s}\, d(y_j, X_s), \qquad
              d(x, Y) = \min_{y \in Y} |x - y|^2

    Distances of ``limit`` and more count as 0 and have no gradient, and so does what has no other cloud. They
    remain elements of their bag: a mean divides by all points. The nearest points are exact.

    Args:
        pos: First clouds ``[N, D]``.
        target: Second clouds ``[M, D]``.
        segments: The cloud of each point, in any order; one cloud if ``None``.
        target_segments: The same of ``target``, with as many clouds.
        pool: What :func:`graphpool.aggr.resolve` takes, for one channel.
        limit: The least *squared* distance that does not count, above 0.

    Returns:
        ``[P]``; an empty cloud adds 0.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: Sizes do not fit, a coordinate is not finite, or ``limit`` is not above 0.

    Example:
        >>> a, b = torch.tensor([[0.0], [3.0]]), torch.tensor([[1.0]])
        >>> chamfer_distance(a, b), chamfer_distance(a, b, limit=2.0)
        (tensor([3.5000]), tensor([1.5000]))
    """
    _as_pairs(pos, target, segments, target_segments)
    bags, others = _as_bags(pos, segments), _as_bags(target, target_segments)
    aggr, limit = _reducer(pool), _checked_limit(limit)
    forth = _pooled(pos, target, bags, others, aggr, limit)
    return forth + _pooled(target, pos, others, bags, aggr, limit)


def scene_flow(
    pos: Tensor,
    target: Tensor,
    segments: Segments | None = None,
    target_segments: Segments | None = None,
    *,
    pool: Any = "mean",
    limit: float = 2.0,
    width: int = 128,
    layers: int = 8,
    backward: bool = True,
    lr: float = 0.008,
    weight_decay: float = 1e-4,
    max_steps: int = 5000,
    patience: int = 30,
    min_delta: float = 1e-4,
) -> SceneFlow:
    r"""The motion of the points of ``pos`` towards ``target``, of many pairs of clouds at once.

    For each pair two perceptrons :math:`g, h` are fitted, whose smoothness is all that is assumed:

    .. math:: X' = X + g(X), \qquad X'' = X' - h(X'), \qquad
              \min_{g, h}\; C(Y, X') + C(X'', X)

    with :func:`chamfer_distance` as :math:`C`. A pair leaves the batch when ``patience`` steps have not
    lowered its loss by ``min_delta``. All perceptrons start from the same weights, drawn from PyTorch's
    generator, so that a pair does what it would do alone, and see the points of a pair from the middle of
    the first cloud: where the origin lies does not matter. The unit does, as networks begin with weights for
    lengths of about 1: the larger it is, the less the flow bends. Parameters of a learnable ``pool`` stay as
    they are.

    Li, Pontes, Lucey, "Neural scene flow prior", NeurIPS 2021.

    Args:
        pos: First clouds ``[N, D]``.
        target: Second clouds ``[M, D]``, of the same dtype.
        segments: The pair of each point of ``pos``, in any order; one pair if ``None``.
        target_segments: The pair of each point of ``target``.
        pool: What reduces the distances of a cloud to its loss: what :func:`graphpool.aggr.resolve` takes.
        limit: Squared distances from here on do not count; 2 is meant for metres.
        width: Width of the hidden layers.
        layers: Number of hidden layers.
        backward: Fit :math:`h`, too.
        lr: Rate of Adam. Published: 0.008 for 2,048 points, 0.003 and 0.001 for whole sweeps.
        weight_decay: Decay of the weights.
        max_steps: The most steps of a pair.
        patience: Steps without progress that a pair is given.
        min_delta: What progress is.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: Sizes do not fit, a coordinate is not finite or too far from the origin for its dtype, an
            argument is out of range, or a loss is not finite.

    Warns:
        UserWarning: No point of a pair comes near its target, so that its flow says nothing.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> pos = torch.rand(60, 3)
        >>> pairs = Segments(ptr=torch.tensor([0, 25, 60]))
        >>> moved = pos + torch.tensor([0.2, 0.0, -0.1])
        >>> found = scene_flow(pos, moved, pairs, pairs, width=16, layers=2, max_steps=300)
        >>> bool((found.flow - (moved - pos)).norm(dim=1).mean() < 0.02)
        True
    """
    clouds, others = _as_pairs(pos, target, segments, target_segments)
    for name, value in (("lr", lr), ("weight_decay", weight_decay), ("min_delta", min_delta)):
        check_at_least(value, name, 0)
    how = _Settings(
        _reducer(pool), _checked_limit(limit), bool(backward), lr, weight_decay,
        as_count(max_steps, "max_steps"), as_count(patience, "patience"), min_delta,
    )  # fmt: skip
    hidden = [as_count(width, "width")] * as_count(layers, "layers")
    bags = Segments(ptr=clouds.ptr)
    check_resolution(clouds.points, bags, clouds.points.dtype, torch.finfo(clouds.points.dtype).eps)
    # A network at coordinates of kilometres begins with motions of kilometres, which the limit hides.
    low, high = segment_moments(clouds.points, bags, ("min", "max"))
    middle = 0.5 * (low + high)
    clouds, others = (replace(c, points=c.points - middle[c.cloud]) for c in (clouds, others))
    x = clouds.points
    with torch.inference_mode(False), torch.enable_grad():
        flow, loss = torch.zeros_like(x), x.new_zeros(clouds.num_clouds)
        steps = torch.zeros(clouds.num_clouds, dtype=torch.long, device=x.device)
        start = perceptron(x.size(1), *hidden, x.size(1)).to(x)
        for group in _of_like_size(clouds.counts, others.counts):
            _fit(clouds, others, group, start, how, (flow, loss, steps))
    reached = _nearest(x + flow, others.points, bags, Segments(ptr=others.ptr), how.limit)[1]
    matched = segment_mean(reached.to(x.dtype), bags)
    lost = ((matched == 0) & (clouds.counts > 0) & (others.counts > 0)).nonzero().flatten()
    if lost.numel():
        warnings.warn(
            f"no point of pair {int(lost[0])} comes nearer to the target than the root of `limit`, "
            f"{math.sqrt(how.limit):g} ({lost.numel()} such pairs of {clouds.num_clouds}): their flow says "
            "nothing. The coordinates may be in other units, or the clouds too far apart; a larger `limit` "
            "sees farther.",
            stacklevel=2,
        )
    if clouds.perm is not None:
        flow = torch.empty_like(flow).index_copy_(0, clouds.perm, flow)
    return SceneFlow(flow, loss, steps, matched)


class _Settings(NamedTuple):
    """Arguments of :func:`scene_flow`."""

    aggr: torch.nn.Module
    limit: float
    backward: bool
    lr: float
    weight_decay: float
    max_steps: int
    patience: int
    min_delta: float


def _perceptrons(parameters: list[Tensor], x: Tensor) -> Tensor:
    """A perceptron for each pair: weights ``[pairs, in, out]`` and biases ``[pairs, 1, out]`` in turn."""
    for i in range(0, len(parameters), 2):
        x = torch.baddbmm(parameters[i + 1], x.relu() if i else x, parameters[i])
    return x


class _Batch(NamedTuple):
    """Pairs that are still being fitted."""

    x: Tensor
    y: Tensor
    bags: Segments  # the pairs of x
    rows: Tensor  # [n] of x in all clouds
    grid: Tensor  # [pairs, longest] of x, with the last point of a pair on free places
    places: Tensor  # [n] of x in the grid
    asks: Segments  # the clouds from which nearest points are looked for, see _step
    answers: Segments  # those among which they are


def _batch(clouds: Clouds, others: Clouds, pairs: Tensor, both: bool) -> _Batch:
    rows, columns = (ragged_gather(c.ptr, pairs)[1] for c in (clouds, others))
    n, m = clouds.counts[pairs], others.counts[pairs]
    bags, longest = Segments.from_counts(n), int(n.max())
    inside = torch.arange(longest, device=rows.device).expand(n.numel(), -1)
    grid = bags.ptr[:-1, None] + inside.minimum(n[:, None] - 1)
    pair, place = ragged_arange(n)
    asks, answers = ([m, n, n, n], [n, m, n, n]) if both else ([m, n], [n, m])
    return _Batch(
        clouds.points.index_select(0, rows), others.points.index_select(0, columns), bags, rows, grid,
        pair * longest + place, *(Segments.from_counts(torch.cat(c)) for c in (asks, answers)),
    )  # fmt: skip


def _fit(
    clouds: Clouds,
    others: Clouds,
    pairs: Tensor,
    start: torch.nn.Sequential,
    how: _Settings,
    results: tuple[Tensor, Tensor, Tensor],
) -> None:
    """Fits pairs together and writes their flow, loss and number of steps."""
    flow, lowest, steps = results
    shared = [p.detach().t() if p.dim() > 1 else p.detach() for p in start.parameters()]
    shared *= 1 + how.backward
    parameters = [p.repeat(pairs.numel(), 1, 1).requires_grad_() for p in shared]
    optimizer = torch.optim.Adam(parameters, how.lr, weight_decay=how.weight_decay)
    batch = _batch(clouds, others, pairs, how.backward)
    best = batch.x.new_full(pairs.shape, math.inf)
    bar, idle = best.clone(), torch.zeros_like(pairs)
    for step in range(how.max_steps):
        moved, loss = _step(parameters, batch, how)
        value = loss.detach()
        if not bool(value.isfinite().all()):
            raise ValueError(
                f"The loss of pair {int(pairs[~value.isfinite()][0])} is not finite after {step} steps: take "
                f"a smaller `lr` than {how.lr}, or another `pool`."
            )
        lower = value < best
        kept = lower.index_select(0, batch.bags.index)
        flow[batch.rows[kept]] = (moved.detach() - batch.x)[kept]
        best, progress = torch.where(lower, value, best), value < bar - how.min_delta
        bar, idle = torch.where(progress, value, bar), torch.where(progress, 0, idle + 1)
        lowest[pairs], steps[pairs] = best, step + 1
        stays = (idle < how.patience).nonzero().squeeze(1)
        if stays.numel() == 0 or step == how.max_steps - 1:
            return
        # Not by backward(): nobody asked for gradients of a learnable pool.
        gradients = torch.autograd.grad(loss.sum(), parameters)
        for p, gradient in zip(parameters, gradients, strict=True):
            p.grad = gradient
        optimizer.step()
        if stays.numel() < pairs.numel():
            pairs, best, bar, idle = (t[stays] for t in (pairs, best, bar, idle))
            batch = _batch(clouds, others, pairs, how.backward)
            parameters = _thinned(optimizer, stays)


def _thinned(optimizer: torch.optim.Optimizer, stays: Tensor) -> list[Tensor]:
    """The parameters of the pairs that stay, with what the optimiser remembers of them."""
    kept = []
    for p in optimizer.param_groups[0]["params"]:
        kept.append(p.detach()[stays].requires_grad_())
        memory = optimizer.state.pop(p)
        optimizer.state[kept[-1]] = {k: v[stays] if v.dim() else v for k, v in memory.items()}
    optimizer.param_groups[0]["params"] = kept
    return kept


def _step(parameters: list[Tensor], batch: _Batch, how: _Settings) -> tuple[Tensor, Tensor]:
    """The moved points and the loss of each pair."""
    x = batch.x.index_select(0, batch.grid.flatten()).unflatten(0, batch.grid.shape)
    half = len(parameters) // (1 + how.backward)
    grid = x + _perceptrons(parameters[:half], x)
    moved = grid.flatten(0, 1).index_select(0, batch.places)
    asks, answers = [batch.y, moved], [moved, batch.y]
    if how.backward:
        back = grid - _perceptrons(parameters[half:], grid)
        back = back.flatten(0, 1).index_select(0, batch.places)
        asks, answers = [*asks, back, batch.x], [*answers, batch.x, back]
    # Compared in one go: a search has its price however few points it is given.
    asking, answering, pairs = torch.cat(asks), torch.cat(answers), grid.size(0)
    lost = ~(asking.detach().abs() <= largest_coordinate(asking)).all(1)
    if bool(lost.any()):
        loss = asking.new_zeros(pairs)
        loss[batch.asks.index[lost] % pairs] = math.nan
        return moved, loss
    loss = _pooled(asking, answering, batch.asks, batch.answers, how.aggr, how.limit)
    return moved, loss.view(-1, pairs).sum(0)


def _pooled(
    x: Tensor, y: Tensor, bags: Segments, others: Segments, aggr: torch.nn.Module, limit: float
) -> Tensor:
    return pool_with(aggr, _nearest(x, y, bags, others, limit)[0][:, None], bags).squeeze(1)


def _nearest(
    x: Tensor, y: Tensor, bags: Segments, others: Segments, limit: float
) -> tuple[Tensor, Tensor]:
    """Squared distances of ``x`` to the nearest of ``y``, 0 from the limit on, and which are below it."""
    nearest = knn(y, 1, x, others, bags, max_distance=math.sqrt(limit) * (1 + 1e-6)).index.squeeze(
        1
    )
    if y.size(0) == 0:
        return 0 * x.sum(1), nearest >= 0
    squared = (x - y.index_select(0, nearest.clamp_min(0))).square().sum(1)
    below = (nearest >= 0) & (squared < limit)
    return torch.where(below, squared, 0), below


def _of_like_size(counts: Tensor, others: Tensor) -> list[Tensor]:
    """Pairs whose clouds have points, in groups in which the first ones differ by less than a factor of 2."""
    alive = ((counts > 0) & (others > 0)).nonzero().squeeze(1)
    size = counts[alive].double().log2().floor()
    return [alive[size == s] for s in size.unique()]


def _reducer(pool: Any) -> torch.nn.Module:
    aggr = resolve_pool(pool, 1)
    if pooled_width(aggr, 1) != 1:
        raise ValueError(
            f"`pool` must give one number for each cloud; got {type(aggr).__name__}, which gives "
            f"{pooled_width(aggr, 1)}."
        )
    return aggr


def _checked_limit(limit: float) -> float:
    if not limit > 0:
        raise ValueError(f"`limit` must be above 0; got {limit}.")
    return float(limit)


def _as_bags(x: Tensor, segments: Segments | None) -> Segments:
    if segments is None:
        return Segments(ptr=torch.tensor([0, x.size(0)], device=x.device))
    return segments


def _as_pairs(
    pos: Tensor, target: Tensor, segments: Segments | None, target_segments: Segments | None
) -> tuple[Clouds, Clouds]:
    clouds = as_clouds(pos, segments, "pos", "segments")
    others = as_clouds(target, target_segments, "target", "target_segments")
    if clouds.num_clouds != others.num_clouds:
        raise ValueError(
            f"`segments` and `target_segments` must have as many clouds; got {clouds.num_clouds} and "
            f"{others.num_clouds}."
        )
    if pos.size(1) != target.size(1) or pos.dtype != target.dtype:
        raise ValueError(
            f"`target` must have the columns and the dtype of `pos`, {what_came(pos)}; got "
            f"{what_came(target)}."
        )
    return clouds, others
