"""One call for every aggregation, ours and PyTorch Geometric's."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import chain

import torch
from torch import Tensor, nn

from graphpool.aggr.base import Aggregation
from graphpool.aggr.matrix import MatrixAggregation
from graphpool.nn import reset
from graphpool.ops import gathered, use_backend
from graphpool.segments import Segments
from graphpool.states import Mergeable


def pool(
    aggr: nn.Module,
    x: Tensor,
    segments: Segments,
    weight: Tensor | None = None,
    *,
    gather: Segments | None = None,
    dim: int = 0,
) -> Tensor:
    """Pools ``x`` with an aggregation of this package or of PyTorch Geometric.

    Args:
        aggr: The aggregation.
        x: Elements in the order of ``segments``, on dimension ``dim``.
        segments: The bags.
        weight: Weight of each element ``[E]``.
        gather: The row of ``x`` that each element reads.
        dim: The dimension that counts the elements, or the rows.

    Raises:
        ValueError: If a weight is given to an aggregation of PyTorch Geometric, which knows none.
    """
    if isinstance(aggr, Aggregation):
        return aggr(x, segments, dim=dim, weight=weight, gather=gather)
    if weight is not None:
        raise ValueError(
            f"`weight` was given, but {type(aggr).__name__} is not an aggregation of graphpool "
            "and takes no `weight`."
        )
    # Several of them insist on a sorted index.
    index = segments.sort_elements(segments.index)
    x = segments.sort_elements(gathered(x.movedim(dim, 0), gather))
    return aggr(x, index, dim_size=segments.num_segments, dim=0).movedim(0, dim)


def merging_of(aggr: nn.Module) -> Mergeable:
    """How pieces of a bag merge under an aggregation.

    Raises:
        TypeError: It is one of PyTorch Geometric, which does not tell, or must see a bag at once.
    """
    if not isinstance(aggr, Aggregation):
        raise TypeError(
            f"{type(aggr).__name__} cannot pool a bag in pieces: it is not an aggregation of graphpool, and "
            "does not say how they merge."
        )
    return aggr.merging()


class Deferred(MatrixAggregation):
    """A pool of PyTorch Geometric that is made when the first input tells the number of channels.

    Args:
        channels: -1, to read it off the first input.
        make: Makes the pool out of a number of channels.
    """

    invariant = False
    multiplicity_aware = True
    whole_bag = "pools of PyTorch Geometric do not say how pieces merge"

    def __init__(self, channels: int, *, make: Callable[[int], nn.Module]) -> None:
        super().__init__(channels)
        self.make = make

    def build(self, channels: int) -> None:
        self.made = self.make(channels)

    def reset_parameters(self) -> None:
        reset(self.made)

    @property
    def out_channels(self) -> int | None:
        return pooled_width(self.made, self.channels) if self._built else -1  # type: ignore[arg-type]

    def pool_matrix(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        return pool(self.made, x, segments, weight)


def pooled_width(aggr: nn.Module, channels: int) -> int:
    """Channels that come out of an aggregation of ``channels`` channels; -1 if these are not known.

    A pool of this package that knows its channels says it. Any other is tried: a copy of it pools
    three elements.

    Raises:
        ValueError: If a pool cannot be tried, and does not say how wide its output is.
    """
    said = getattr(aggr, "out_channels", None)
    said = said if isinstance(said, int) and said > 0 else None
    if isinstance(aggr, Aggregation) and (aggr.channels or -1) > 0 and said is not None:
        return said
    if channels < 0:
        return -1
    try:
        with torch.no_grad():
            return tried(aggr, channels).size(-1)
    # Whatever a stranger's pool raises, it has not told its width.
    except Exception as error:
        if hasattr(aggr, "get_out_channels"):
            return int(aggr.get_out_channels(channels))  # type: ignore[operator]
        if said is not None:
            return said
        raise ValueError(
            f"How wide the output of {type(aggr).__name__} is cannot be found out: pooling three "
            f"elements of {channels} channels raised {type(error).__name__} ({error}). If the pool is "
            "right, give it an attribute `out_channels`."
        ) from error


def keeps_width(aggr: nn.Module) -> bool:
    """Whether as many channels come out of an aggregation as go in."""
    known = getattr(aggr, "channels", None)
    widths = (known,) if isinstance(known, int) and known > 0 else (16, 32)
    return all(pooled_width(aggr, width) == width for width in widths)


def tried(aggr: nn.Module, channels: int, weight: Tensor | None = None) -> Tensor:
    """What a copy of a pool makes of three elements in two bags.

    A lazy pool stays lazy, one with a memory keeps it, and the random numbers their order.
    """
    trial = copy.deepcopy(aggr).eval()
    floats = (t for t in chain(trial.parameters(), trial.buffers()) if t.is_floating_point())
    like = next(floats, torch.empty(0))
    x = torch.arange(3.0 * channels, dtype=like.dtype, device=like.device).view(3, channels)
    bags = Segments(index=torch.tensor([0, 0, 1], device=like.device), num_segments=2)
    devices = [like.device] if like.is_cuda else []
    with torch.random.fork_rng(devices), use_backend("torch"):
        return pool(trial, x, bags, None if weight is None else weight.to(like))
