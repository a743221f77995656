"""Arrays that lie in pieces on the machines of a Dask cluster."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from graphpool import _optional
from graphpool._arguments import as_count, what_came
from graphpool.states.bag_state import BagState
from graphpool.states.held import begin


def from_dask(
    pool: Any,
    x: Any,
    bag: Any = None,
    weight: Any = None,
    num_bags: int = 1,
    *,
    split_every: int = 8,
    **kind: Any,
) -> Any:
    """The state of bags whose elements are a Dask array, as a tree of tasks.

    Each chunk of rows becomes a state where it lies, and states travel and are merged in a tree. Dask does
    all of that, on threads, processes or a cluster, whichever it is set up for. The tree is
    always the same, and so are the bits.

    Args:
        pool: A pool whose bags can be pooled in pieces.
        x: Elements ``[E, C]``, a Dask array in chunks of whole rows.
        bag: The bag of each, ``[E]``, a Dask array in any chunks, or an array; not needed of one bag.
        weight: How often each element counts, ``[E]``, likewise.
        num_bags: The number of bags.
        split_every: How many states are merged by one task.
        **kind: Further arguments of ``pool.begin``.

    Returns:
        A ``dask.delayed.Delayed`` whose ``compute()`` is a :class:`BagState`.

    Raises:
        ImportError: Dask is not installed.
        TypeError: ``x`` is no Dask array, or the pool must see a bag at once.
        ValueError: Sizes do not fit or are not known, or rows are cut.
    """
    _optional.require("dask", purpose="states.from_dask")
    delayed = _optional.require("dask.delayed", purpose="states.from_dask").delayed
    array = _optional.require("dask.array", purpose="states.from_dask")
    if not all(hasattr(x, name) for name in ("to_delayed", "chunks")):
        raise TypeError(f"`x` must be a Dask array [E, C]; got {what_came(x)}.")
    if x.ndim != 2 or x.numblocks[1] != 1:
        raise ValueError(
            f"`x` must have two dimensions, and chunks of whole rows (`x.rechunk({{1: -1}})`); "
            f"got chunks {x.chunks}."
        )
    split_every = as_count(split_every, "split_every", least=2)
    begun = begin(pool, num_bags, kind)
    columns = [x.to_delayed().ravel()]
    for name, value in (("bag", bag), ("weight", weight)):
        if value is None:
            columns.append([None] * x.numblocks[0])
            continue
        if np.isnan(x.shape[0]):
            raise ValueError(
                f"`x` must have chunks of known sizes where there is a `{name}`: call "
                "`x.compute_chunk_sizes()` first."
            )
        if not hasattr(value, "to_delayed"):
            value = array.from_array(np.asarray(value))
        if value.shape != x.shape[:1]:
            raise ValueError(f"`{name}` must have shape {x.shape[:1]}; got {value.shape}.")
        columns.append(value.rechunk((x.chunks[0],)).to_delayed().ravel())
    add, merge = delayed(_add, pure=True), delayed(_merge, pure=True)
    states = [add(begun, *parts) for parts in zip(*columns, strict=True)]
    while len(states) > 1:
        states = [merge(states[i : i + split_every]) for i in range(0, len(states), split_every)]
    return states[0] if states else delayed(begun)


def _add(begun: BagState, *parts: Any) -> BagState:
    x, bag, weight = (
        None if p is None else torch.as_tensor(np.ascontiguousarray(p)) for p in parts
    )
    assert x is not None
    return begun.copy().add(x, bag, weight)


def _merge(states: list[BagState]) -> BagState:
    merged = states[0].copy()
    for state in states[1:]:
        merged.merge(state)
    return merged
