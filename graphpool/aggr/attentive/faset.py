"""Training a network and its attention pools in turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch.nn import Parameter

from graphpool._arguments import check_one_of
from graphpool.aggr.attentive.attsets import AttSets

STAGES = ("base", "attention")


def faset_parameter_groups(
    model: torch.nn.Module, pools: type | Sequence[type] = AttSets
) -> dict[str, list[Parameter]]:
    """Splits the parameters of a model into those of its attention pools and all others.

    FASet (Yang et al., "Robust attentional aggregation of deep feature sets", IJCV 2020) trains them with
    two optimizers: first the base on bags of one element, where the attention has no influence; then, with
    the base fixed, the attention on bags of several. At bags of one the network stays what it was::

        groups = faset_parameter_groups(model)
        base = torch.optim.Adam(groups["base"], lr=1e-4)
        attention = torch.optim.Adam(groups["attention"], lr=1e-4)

    Args:
        model: Any module that holds attention pools.
        pools: The classes that count as attention pools.

    Returns:
        ``{"base": [...], "attention": [...]}``: every parameter once.

    Raises:
        ValueError: The model has no such pool, or one that awaits its first input.

    Example:
        >>> from graphpool import aggr
        >>> model = torch.nn.ModuleList([torch.nn.Linear(4, 8), aggr.AttSets(8)])
        >>> {name: len(group) for name, group in faset_parameter_groups(model).items()}
        {'base': 2, 'attention': 2}
    """
    kinds = (pools,) if isinstance(pools, type) else tuple(pools)
    found = [module for module in model.modules() if isinstance(module, kinds)]
    if not found:
        names = " or ".join(kind.__name__ for kind in kinds)
        raise ValueError(
            f"`model` holds no {names}; say with `pools` what its attention pools are."
        )
    if any(getattr(module, "channels", None) == -1 for module in found):
        raise ValueError("A pool of `model` has channels=-1: run one batch first.")
    attention = {id(p): p for module in found for p in module.parameters()}
    base = [p for p in model.parameters() if id(p) not in attention]
    return {"base": base, "attention": list(attention.values())}


@contextmanager
def faset_stage(
    model: torch.nn.Module, stage: str, pools: type | Sequence[type] = AttSets
) -> Iterator[list[Parameter]]:
    """One stage of FASet: only the parameters that it trains require gradients while it lasts.

    Args:
        model: Any module that holds attention pools.
        stage: ``"base"`` or ``"attention"``.
        pools: As in :func:`faset_parameter_groups`.

    Yields:
        The parameters that the stage trains.

    Raises:
        ValueError: ``stage`` is unknown.

    Example:
        >>> from graphpool import aggr
        >>> model = torch.nn.ModuleList([torch.nn.Linear(4, 8), aggr.AttSets(8)])
        >>> with faset_stage(model, "attention"):
        ...     [p.requires_grad for p in model.parameters()]
        [False, False, True, True]
    """
    check_one_of(stage, "stage", STAGES)
    groups = faset_parameter_groups(model, pools)
    before = [(p, p.requires_grad) for group in groups.values() for p in group]
    for name, group in groups.items():
        for parameter in group:
            parameter.requires_grad_(name == stage)
    try:
        yield groups[stage]
    finally:
        for parameter, flag in before:
            parameter.requires_grad_(flag)
