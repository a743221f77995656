"""Bags pooled in pieces, or refused by name."""

from __future__ import annotations

import pickle

import torch
from torch import Tensor

from graphpool.aggr.base import Aggregation
from graphpool.segments import Segments
from graphpool.states import BagState
from graphpool.testing.samples import (
    close,
    expect_error,
    gradients,
    in_double,
    pooled,
    sample,
    trainable,
)

_WEIGHTS = (
    None,
    torch.tensor([1, 2, 1, 3, 1, 0, 2, 1, 3, 0, 1]),
    torch.tensor([0, 0, 0, 0, 1, 2, 0, 1, 0, 0, 0]),
)


def assert_pieces_agree(aggr: torch.nn.Module, channels: int) -> None:
    """Pieces give what the whole does: any cuts, orders and trees of merging, empty pieces, weights, pickled
    on the way, in half precision, infinite elements; a pool that needs whole bags refuses by name."""
    if not getattr(aggr, "mergeable", False):
        _assert_refused(aggr)
        return
    assert isinstance(aggr, Aggregation)
    aggr, x, segments = _double(aggr, channels)
    for weight in _WEIGHTS:
        expected = pooled(aggr, x, segments, weight=weight).detach()
        for seed in range(4):
            states = [
                begun.add(x[rows], segments.index[rows], None if weight is None else weight[rows])
                for rows in _cuts(x.size(0), seed)
                for begun in [aggr.begin(len(segments))]
            ]
            one_by_one = aggr.begin(len(segments))
            for state in states:
                one_by_one.merge(state)
            for merged in (_tree(states, seed), one_by_one, pickle.loads(pickle.dumps(one_by_one))):
                close(merged.result().detach(), expected, rtol=1e-9, atol=1e-11)
    x, segments = sample(channels, (3, 0, 1, 50, 400), torch.bfloat16)
    found = _in_pieces(aggr.float(), x, segments)
    expected = pooled(aggr.double(), x.double(), segments)
    if found.dtype != x.dtype:
        raise AssertionError(f"{x.dtype} elements must give {x.dtype}; got {found.dtype}.")
    scale = float(expected.detach().abs().max().clamp_min(1))
    close(found.double(), expected, rtol=3e-2, atol=3e-2 * scale)
    x, segments = sample(channels, (3, 0, 1, 9), torch.float32)
    for value in (torch.inf, -torch.inf, torch.nan):
        x[0, 0] = x[7, -1] = value
        found, whole = _in_pieces(aggr.float(), x, segments), pooled(aggr, x, segments)
        torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-4, equal_nan=True)


def _in_pieces(aggr: Aggregation, x: Tensor, segments: Segments) -> Tensor:
    state = aggr.begin(len(segments))
    for rows in _cuts(x.size(0), 0):
        state.add(x[rows], segments.index[rows])
    return state.result()


def assert_passes_differentiate(aggr: torch.nn.Module, channels: int) -> None:
    """Two passes over pieces give the gradients of the whole: of elements, weights and parameters."""
    if not getattr(aggr, "mergeable", False):
        _assert_refused(aggr)
        return
    assert isinstance(aggr, Aggregation)
    aggr, x, segments = _double(aggr, channels)
    for weight in _WEIGHTS:
        w = None if weight is None else weight.double()
        leaves = [x.requires_grad_(), *trainable(aggr).values()]
        # At the weight 0 of whole bags there is no derivative by it.
        if w is not None and weight is not _WEIGHTS[-1]:
            leaves.append(w.requires_grad_())
        expected = gradients(pooled(aggr, x, segments, weight=w), *leaves)
        state = aggr.begin(len(segments))
        pieces = [
            (x[rows], segments.index[rows], None if w is None else w[rows])
            for rows in _cuts(x.size(0), 1)
        ]
        for piece in pieces:
            state.add(*piece)
        before = [v.grad for v in leaves]
        for leaf in leaves:
            leaf.grad = None
        y = state.result()
        if y.requires_grad:
            # As in `gradients`: a fixed combination of the numbers in the result.
            (y * torch.linspace(1, 2, y.numel(), dtype=y.dtype).view(y.shape)).sum().backward()
            for piece in pieces:
                state.backprop(*piece)
        for leaf, wanted, old in zip(leaves, expected, before, strict=True):
            found, leaf.grad = leaf.grad, old
            close(torch.zeros_like(leaf) if found is None else found, wanted, rtol=1e-8, atol=1e-9)


def _double(aggr: Aggregation, channels: int) -> tuple[Aggregation, Tensor, Segments]:
    in_precision, x, segments = in_double(aggr, channels)
    assert isinstance(in_precision, Aggregation)
    return in_precision, x, segments


def _assert_refused(aggr: torch.nn.Module) -> None:
    if not isinstance(aggr, Aggregation):
        return
    message = expect_error((TypeError,), lambda: aggr.begin(1), "A pool that needs whole bags")
    if type(aggr).__name__ not in message:
        raise AssertionError(f"The error must name {type(aggr).__name__}; got {message!r}.")


def _cuts(count: int, seed: int) -> list[Tensor]:
    """Rows in any order, in pieces of any size, some of them empty."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(count, generator=generator)
    places = torch.randint(count + 1, (4,), generator=generator).sort().values.tolist()
    return list(order.tensor_split([places[0], *places]))


def _tree(states: list[BagState], seed: int) -> BagState:
    """All states merged, two that happen to be picked at a time."""
    generator, states = torch.Generator().manual_seed(seed), list(states)
    while len(states) > 1:
        i, j = torch.randperm(len(states), generator=generator)[:2].tolist()
        merged = states[i] | states[j]
        states = [state for k, state in enumerate(states) if k not in (i, j)] + [merged]
    return states[0]
