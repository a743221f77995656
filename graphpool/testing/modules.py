"""A pool as a module: how it is made and called, and its life before the first input."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.nn import GraphConv, MultiAggregation, SAGEConv

from graphpool.testing.samples import (
    close,
    expect_error,
    gradients,
    in_double,
    pooled,
    result,
    sample,
    trainable,
)


def assert_channels_first(aggr: nn.Module, channels: int) -> None:
    """``channels`` is the first argument of the class, and everything else goes by name."""
    arguments = list(inspect.signature(type(aggr)).parameters.values())
    first, others = (arguments[0] if arguments else None), arguments[1:]
    by_name = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
    if (
        first is None
        or first.name != "channels"
        or first.kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD
    ):
        raise AssertionError(f"The first argument must be `channels`; got `{first}`.")
    for other in others:
        if other.kind not in by_name:
            raise AssertionError(f"`{other.name}` must be taken by name only: put a `*` before it.")


def assert_waits_for_the_width(aggr: nn.Module, channels: int) -> None:
    """With ``channels=-1`` it can be reset, saved, copied, cast, put into layers before its first input."""
    cls = type(aggr)

    def make(width: int) -> nn.Module:
        torch.manual_seed(0)
        return cls(width, **getattr(cls, "example_arguments", {})).eval()

    lazy, twin = make(-1), make(-1)
    lazy.reset_parameters()  # type: ignore[operator]
    state = lazy.state_dict()
    make(-1).load_state_dict(state)
    twin = pickle.loads(pickle.dumps(copy.deepcopy(twin))).double()
    for layer in (SAGEConv, GraphConv):
        layer(channels, 2, aggr=make(-1)).reset_parameters()
    MultiAggregation([make(-1), "mean"]).reset_parameters()
    x, segments = sample(channels, dtype=torch.float32)
    with torch.inference_mode():
        lazy(x, segments)
        twin(x.double(), segments)
    _assert_same_precision(twin)
    if any(module.training for module in lazy.modules()):
        raise AssertionError("What is made at the first input must keep to evaluation mode.")
    x.requires_grad_()
    y = pooled(lazy, x, segments)
    gradients(y, x, *trainable(lazy).values())
    _assert_optimizers_wait(make(-1), lazy)
    stored = lazy.state_dict()
    for other in (make(channels), make(-1)):
        other.load_state_dict(stored)
        close(pooled(other, x, segments), y)
    if getattr(lazy, "out_channels", None) != getattr(make(channels), "out_channels", None):
        raise AssertionError("`out_channels` must not depend on how the width became known.")


def _assert_same_precision(twin: nn.Module) -> None:
    kinds = {p.dtype for p in twin.parameters() if p.is_floating_point()}
    if kinds - {torch.float64}:
        raise AssertionError(
            f"Cast before its first input, it must keep the precision; got {kinds}."
        )


def _assert_optimizers_wait(waiting: nn.Module, used: nn.Module) -> None:
    """An optimizer is refused what does not exist yet, and nothing else."""
    count = sum(1 for _ in used.parameters())
    others = list(nn.Linear(1, 1).parameters())
    try:
        torch.optim.SGD([*others, *waiting.parameters()], lr=0.1)
    except ValueError:
        if not count:
            raise AssertionError("A pool without parameters must not stop an optimizer.") from None
    else:
        # Those that were there from the start may be handed over.
        if sum(1 for _ in waiting.parameters()) != count:
            raise AssertionError("An optimizer must not be made before the parameters are.")


def assert_unknown_arguments_raise(aggr: nn.Module, channels: int) -> None:
    """An argument of a call that nobody knows is a ``TypeError`` that names it, and the closest one."""
    aggr, x, segments = in_double(aggr, channels)
    for wrong, right in (
        ("no_such_argument", ""),
        ("weights", "`weight`"),
        ("dimsize", "`dim_size`"),
    ):
        text = expect_error(
            (TypeError,),
            lambda wrong=wrong: aggr(x, segments, **{wrong: None}),
            f"The unknown argument {wrong!r}",
        )
        if wrong not in text or right not in text:
            raise AssertionError(f"The error must name {wrong!r} and {right or 'it'}; got: {text}")


def assert_hooks_fire(aggr: nn.Module, channels: int) -> None:
    """Hooks fire once, see what goes in and comes out, and may change it; with rows read in place, too."""
    aggr, x, segments = in_double(aggr, channels)
    calls: list[dict[str, Any]] = [{}]
    if getattr(aggr, "supports_gather", False):
        calls.append({"gather": torch.arange(x.size(0)).flip(0)})
    for arguments in calls:
        expected = pooled(aggr, 2 * x, segments, **arguments)
        seen: list[Tensor] = []

        def double(module: nn.Module, args: Any) -> Any:
            return (2 * args[0], *args[1:])

        def keep(module: nn.Module, args: Any, output: Any, seen: list = seen) -> None:
            seen.append(result(output))

        handles = [aggr.register_forward_pre_hook(double), aggr.register_forward_hook(keep)]
        try:
            y = pooled(aggr, x, segments, **arguments)
        finally:
            for handle in handles:
                handle.remove()
        if len(seen) != 1:
            raise AssertionError(f"A forward hook must fire once; it fired {len(seen)} times.")
        close(y, expected)
        close(seen[0], y)


def assert_sizes_of_any_integer_type(aggr: nn.Module, channels: int) -> None:
    """Numbers of bags, elements and dimensions are integers of any type, and nothing else."""
    aggr, x, segments = in_double(aggr, channels)
    size, longest = len(segments), int(segments.counts.max())
    expected = pooled(aggr, x, segments)
    for kind in (int, np.int64, np.int32, np.array, torch.tensor):
        y = pooled(
            aggr,
            x,
            segments.index,
            dim_size=kind(size),
            dim=kind(-2),
            max_num_elements=kind(longest),
        )
        close(y, expected)
    for wrong in (float(size), torch.tensor(float(size)), True, str(size)):
        expect_error(
            (TypeError, ValueError),
            lambda wrong=wrong: aggr(x, segments.index, dim_size=wrong),
            f"`dim_size={wrong!r}`",
        )
