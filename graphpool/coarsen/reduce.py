"""The features of coarse elements, by any pool."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor, nn

from graphpool.aggr.pyg import pool as run_pool
from graphpool.aggr.pyg import tried
from graphpool.aggr.registry import one_vector_per_segment, resolve
from graphpool.coarsen.select import Selection


def reduce(x: Tensor, selection: Selection, pool: Any = "mean") -> Tensor:
    """Pools the fine elements of each coarse one.

    Pools that can (``supports_gather``) read members in place, without making them. Weights count as in every
    pool; an empty coarse element gives 0.

    Args:
        x: Features of the fine elements, ``[N, C]`` or ``[N]``.
        selection: Who belongs where.
        pool: Whatever :func:`graphpool.aggr.resolve` takes. One with parameters must be a module, made once
            and kept where an optimizer finds it.

    Returns:
        ``[K, C']``, or ``[K]`` for ``[N]``.

    Raises:
        ValueError: Sizes do not fit; the pool gives more than one vector per bag, has parameters and was
            given by name, or takes no weights where there are some; or a gradient is wanted for weights
            by a pool that gives them none: in ``max``, ``min``, ``median``, ``quantile`` and ``kmax`` a
            weight only says whether an element takes part, or moves a rank.

    Example:
        >>> clusters = Selection.from_cluster(torch.tensor([0, 1, 0]), num_coarse=2)
        >>> reduce(torch.tensor([[1.0], [5.0], [3.0]]), clusters, "max")
        tensor([[3.],
                [5.]])
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"`x` must be a tensor; got {type(x).__name__}.")
    if x.dim() == 0 or x.size(0) != selection.num_fine:
        raise ValueError(
            f"`x` must have one row per fine element, {selection.num_fine}; got {tuple(x.shape)}."
        )
    elements = x[:, None] if x.dim() == 1 else x
    module = _resolved(pool, elements.size(-1))
    weight = selection.weight
    if weight is not None and weight.requires_grad and torch.is_grad_enabled():
        _refuse_where_weights_learn_nothing(module, elements.size(-1))
    pooled = run_pool(module, elements, selection.coarse, weight, gather=selection.fine)
    return pooled.squeeze(-1) if x.dim() == 1 and pooled.size(-1) == 1 else pooled


def _resolved(query: Any, channels: int) -> nn.Module:
    module = one_vector_per_segment(resolve(query, channels=channels))
    if not isinstance(query, nn.Module) and any(True for _ in module.parameters()):
        raise ValueError(
            f"`pool` {query!r} has parameters, which would be made anew in each call and never "
            f"trained. Make it once: pool = graphpool.aggr.resolve({query!r}, channels={channels})."
        )
    return module


_LEARNS: weakref.WeakKeyDictionary[nn.Module, bool] = weakref.WeakKeyDictionary()


def _refuse_where_weights_learn_nothing(module: nn.Module, channels: int) -> None:
    learns = _LEARNS.get(module)
    if learns is None:
        learns = _LEARNS[module] = _weights_learn(module, channels)
    if not learns:
        raise ValueError(
            f"{type(module).__name__} gives weights no gradient, so the assignment would not learn from "
            "it. Take a pool in which weights count by their size, such as 'mean' or 'sum', or detach "
            "the weights."
        )


def _weights_learn(module: nn.Module, channels: int) -> bool:
    """Whether what the pool gives depends on weights by their size."""
    weight = torch.ones(3, requires_grad=True)
    pooled = tried(module, channels, weight)
    if not pooled.requires_grad:
        return False
    return torch.autograd.grad(pooled.sum(), weight, allow_unused=True)[0] is not None
