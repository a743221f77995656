"""Gradients of several processes that hold pieces of the same bags."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist


def average_gradients(parameters: Iterable[torch.nn.Parameter], group: Any = None) -> None:
    """Averages the gradients of all processes of a group, as DistributedDataParallel does.

    For bags that are spread over processes (``stream(..., group=...)``, :meth:`BagState.all_reduce`). What
    lies behind the pool has the same gradient in every process, and what lies before it has the number of
    processes times its part: the mean is right for both, and for parameters on both sides. A sum would
    count the former once per process.

    All processes must give the same parameters in the same order. Where no process has a gradient, none is
    made.

    Args:
        parameters: Those of encoder, pool and head.
        group: The group; all processes if ``None``.

    Raises:
        ValueError: There is no process group.
    """
    if not dist.is_available() or not dist.is_initialized():
        raise ValueError("There is no group: call torch.distributed.init_process_group first.")
    parameters = [p for p in parameters if p.requires_grad]
    if not parameters:
        return
    there = torch.tensor(
        [p.grad is not None for p in parameters], device=parameters[0].device
    ).long()
    dist.all_reduce(there, op=dist.ReduceOp.MAX, group=group)
    for parameter, somewhere in zip(parameters, there.tolist(), strict=True):
        if somewhere:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad, group=group)
            parameter.grad /= dist.get_world_size(group)
