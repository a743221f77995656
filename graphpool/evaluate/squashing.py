"""Where messages are lost: how much a node still hears of another one."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphpool._arguments import (
    as_count,
    as_indices,
    check_at_least,
    check_one_per,
    what_came,
)
from graphpool.ops import segment_mean
from graphpool.overlap import checked_edges
from graphpool.segments import Segments


def jacobian_norms(
    function: Callable[[Tensor], Tensor], x: Tensor, nodes: Tensor | None = None, p: float = 1.0
) -> Tensor:
    r"""How far each output depends on each input: :math:`\|\partial h_v / \partial x_u\|_p`, exactly.

    Args:
        function: Takes node features ``[N, C]`` to ``[N, D]``, such as
            ``lambda x: model.embed(x, edge_index)``.
        x: Where the derivative is taken.
        nodes: The outputs ``v`` that are looked at, ``[V]``; all if ``None``.
        p: The norm of the matrix ``[D, C]`` of one pair as a vector: 1 for the sum of absolute entries, 2 for
            Frobenius' norm; at least 1 and finite.

    Returns:
        ``[V, N]``, row ``v``, column ``u``.

    The backward pass runs once for each output channel, for all of ``nodes`` at once.

    Raises:
        TypeError: ``nodes`` does not hold integers, or ``x`` and what ``function`` gives are no floating
            point tensors.
        ValueError: ``function`` does not give one row per node, one of ``nodes`` is none, or ``p`` is out of
            range.

    Example:
        >>> mixing = torch.tensor([[1.0, 0.0], [0.5, -2.0]])
        >>> jacobian_norms(lambda x: mixing @ x, torch.zeros(2, 3))
        tensor([[3.0000, 0.0000],
                [1.5000, 6.0000]])
    """
    if not 1 <= p < math.inf:
        raise ValueError(f"`p` must be at least 1 and finite; got {p}.")
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise TypeError(f"`x` must be a floating point tensor [N, C]; got {what_came(x)}.")
    out, pull = torch.func.vjp(function, x)[:2]
    if not isinstance(out, Tensor):
        raise TypeError(f"`function` must give a tensor; got {what_came(out)}.")
    if out.dim() != 2 or out.size(0) != x.size(0):
        raise ValueError(
            f"`function` must give [{x.size(0)}, D], a row for each row of `x`; got {tuple(out.shape)}."
        )
    size, width = out.shape
    chosen = (torch.arange(size) if nodes is None else _among(nodes, size)).to(out.device)
    rows = torch.zeros(chosen.numel(), size, dtype=out.dtype, device=out.device)
    rows[torch.arange(chosen.numel(), device=out.device), chosen] = 1.0
    total = out.new_zeros(chosen.numel(), x.size(0))
    channels = torch.eye(width, dtype=out.dtype, device=out.device)
    for channel in channels:
        (found,) = torch.func.vmap(lambda row, c=channel: pull(row[:, None] * c))(rows)
        total += found.detach().abs().pow(p).sum(-1)
    return total.pow(1 / p)


def jacobian_bound(
    edge_index: Tensor,
    num_nodes: int,
    layers: int,
    width: int,
    largest: float,
    edge_weight: Tensor | None = None,
    self_weight: float = 1.0,
    neighbor_weight: float = 1.0,
    slope: float = 1.0,
) -> Tensor:
    r"""The largest that :func:`jacobian_norms` (with ``p=1``) can be, ``[N, N]`` float64:

    .. math::
        \left\|\frac{\partial h^{(m)}_v}{\partial x_u}\right\|_1
            \le c_\sigma^m\, w^m\, p^{m + 1}\, (S^m)_{vu}, \quad S = |c_r| I + |c_a| |A|

    for ``m`` layers :math:`h' = \sigma(c_r W_r h + c_a W_a A h)` whose matrices ``[p, p]`` have entries of at
    most :math:`w` and whose activation has slopes of at most :math:`c_\sigma`. Theorem 3.2 of Di Giovanni et
    al., "On Over-Squashing in Message Passing Neural Networks", ICML 2023, says it for one input channel,
    with :math:`p^m`.

    Args:
        edge_index: ``[2, E]``.
        num_nodes: N.
        layers: m.
        width: p.
        largest: w.
        edge_weight: Entries of A, ``[E]``, of either sign; those of repeated edges add up; ones if ``None``.
        self_weight: :math:`c_r`.
        neighbor_weight: :math:`c_a`.
        slope: :math:`c_\sigma`.

    Returns:
        ``[N, N]``, row ``v``, column ``u``.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A number is out of range or none, a shape does not fit, or the bound is beyond float64.

    Example:
        >>> jacobian_bound(torch.tensor([[0], [1]]), num_nodes=2, layers=2, width=1, largest=1.0).tolist()
        [[1.0, 0.0], [2.0, 1.0]]
    """
    layers, width = as_count(layers, "layers"), as_count(width, "width")
    for name, value in (("largest", largest), ("slope", slope)):
        check_at_least(value, name, 0)
    for name, value in (("self_weight", self_weight), ("neighbor_weight", neighbor_weight)):
        if not math.isfinite(value):
            raise ValueError(f"`{name}` must be finite; got {value}.")
    step = abs(neighbor_weight) * abs(incoming_matrix(edge_index, num_nodes, edge_weight))
    step = step + abs(self_weight) * sparse.identity(num_nodes)
    # One entry of a product of m matrices is a sum of p^(m-1) terms; the norm sums p^2 entries.
    with np.errstate(over="ignore", invalid="ignore"):
        once = slope * largest * width * step.toarray()
        bound = width * np.linalg.matrix_power(once, layers)
    if not np.isfinite(bound).all():
        raise ValueError(
            f"The bound for `layers` {layers}, `width` {width} and `largest` {largest} is beyond float64."
        )
    return torch.from_numpy(bound)


def effective_resistance(edge_index: Tensor, num_nodes: int) -> Tensor:
    r"""Resistance between each two nodes if every edge is a resistor of 1, ``[N, N]`` float64.

    :math:`R_{uv} = L^+_{uu} + L^+_{vv} - 2 L^+_{uv}` with the pseudo-inverse of the Laplacian; infinite
    between parts that are not connected. The time that a random walk takes from ``u`` to ``v`` and back is
    the resistance times the number of directed edges.

    Args:
        edge_index: ``[2, E]``, one direction of each edge or both; repeated edges count once, self-loops not.
        num_nodes: N; time grows with its cube.

    Example:
        >>> path = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
        >>> effective_resistance(path, num_nodes=3)[0].round(decimals=6).tolist()
        [0.0, 1.0, 2.0]
    """
    matrix = incoming_matrix(edge_index, num_nodes).sign()
    matrix = matrix.maximum(matrix.T).toarray()
    np.fill_diagonal(matrix, 0.0)
    inverse = np.linalg.pinv(np.diag(matrix.sum(1)) - matrix, hermitian=True)
    own = np.diag(inverse)
    found = np.maximum(own[:, None] + own - 2 * inverse, 0.0)
    _, part = sparse.csgraph.connected_components(sparse.csr_matrix(matrix), directed=False)
    found[part[:, None] != part] = np.inf
    np.fill_diagonal(found, 0.0)
    return torch.from_numpy(found)


def by_distance(values: Tensor, edge_index: Tensor, nodes: Tensor | None = None) -> Tensor:
    """The mean of ``values`` over pairs of nodes at each distance: ``[D + 1]`` from 0 to the largest.

    Args:
        values: ``[V, N]``, such as :func:`jacobian_norms` gives.
        edge_index: ``[2, E]``; a distance is the fewest edges from sender to receiver, from ``u`` to ``v``.
        nodes: The node of each row, ``[V]``; all N if ``None``. Pairs without a path are left out.

    Raises:
        TypeError: ``values`` are not floating point, or the others no integers.
        ValueError: Shapes do not fit, or a node is not there.

    Example:
        >>> path = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
        >>> by_distance(torch.tensor([[9.0, 3.0, 1.0], [5.0, 9.0, 1.0], [0.0, 4.0, 9.0]]), path)
        tensor([9.0000, 3.2500, 0.5000])
    """
    if values.dim() != 2:
        raise ValueError(f"`values` must be [V, N]; got {tuple(values.shape)}.")
    if not values.is_floating_point():
        raise TypeError(f"`values` must be floating point; got {what_came(values)}.")
    size = values.size(1)
    rows = (torch.arange(size) if nodes is None else _among(nodes, size)).cpu().numpy()
    if rows.size != values.size(0):
        raise ValueError(
            f"`values` must have a row for each of {rows.size} nodes; got {values.size(0)}."
        )
    steps = sparse.csgraph.shortest_path(
        incoming_matrix(edge_index, size), unweighted=True, indices=rows
    )
    distance = torch.from_numpy(steps)
    there = distance.isfinite()
    buckets = distance[there].long()
    count = int(buckets.max()) + 1 if buckets.numel() else 0
    bags = Segments(index=buckets, num_segments=count).to(values.device)
    return segment_mean(values[there.to(values.device)], bags)


def _among(nodes: Tensor, size: int) -> Tensor:
    chosen = as_indices(nodes, "nodes")
    if chosen.numel() and not 0 <= int(chosen.min()) <= int(chosen.max()) < size:
        raise ValueError(f"`nodes` must lie in [0, {size}); got {chosen.tolist()}.")
    return chosen


def incoming_matrix(
    edge_index: Tensor, num_nodes: int, edge_weight: Tensor | None = None
) -> sparse.csr_matrix:
    """Row ``v`` holds what comes into ``v``; repeated edges add up."""
    senders, receivers = checked_edges(edge_index, "edge_index", num_nodes).cpu().numpy()
    weight = np.ones(senders.size)
    if edge_weight is not None:
        if not isinstance(edge_weight, Tensor):
            raise TypeError(f"`edge_weight` must be a tensor [E]; got {what_came(edge_weight)}.")
        check_one_per("edge", senders.size, "edge_weight", tuple(edge_weight.shape))
        if not bool(edge_weight.isfinite().all()):
            raise ValueError("`edge_weight` must be finite; got a value that is not.")
        weight = edge_weight.detach().double().cpu().numpy()
    return sparse.csr_matrix((weight, (receivers, senders)), shape=(num_nodes, num_nodes))
