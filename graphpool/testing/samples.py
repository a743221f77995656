"""Bags to test with, and what comes out of a pool in a form that can be compared."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphpool.segments import Segments

COUNTS = (3, 0, 1, 5, 0, 2, 0)
"""Sizes of the sample bags: one element, several, none; in the middle, and at the end."""


def sample(
    channels: int,
    counts: tuple[int, ...] = COUNTS,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> tuple[Tensor, Segments]:
    """Sorted random elements ``[sum(counts), channels]`` without ties, and their bags."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(sum(counts), channels, generator=generator, dtype=torch.float64)
    return x.to(dtype), Segments.from_counts(torch.tensor(counts, dtype=torch.long))


def result(output: Any) -> Tensor:
    """The pooled tensor ``[S, ...]``. Of several results the first; a ragged one is padded with NaN."""
    if not isinstance(output, tuple):
        return output
    y, extra = output[0], output[1]
    if not isinstance(extra, Segments):
        return y
    width = int(extra.counts.max()) if extra.num_segments else 0
    padded = y.new_full((extra.num_segments, width, *y.shape[1:]), torch.nan)
    place = torch.arange(y.size(0), device=y.device) - extra.ptr[extra.index]
    return padded.index_put((extra.index, place), y)


def pool(aggr: torch.nn.Module, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return result(aggr(x, *args, **kwargs))


def close(actual: Tensor, expected: Tensor, rtol: float = 1e-8, atol: float = 1e-10) -> None:
    """Raises an ``AssertionError`` that shows where two results differ; NaN equals NaN."""
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol, equal_nan=True)


def expect_error(kinds: tuple[type[Exception], ...], call: Any, what: str) -> None:
    """Raises an ``AssertionError`` unless ``call()`` raises one of ``kinds``."""
    try:
        call()
    except kinds:
        return
    names = " or ".join(kind.__name__ for kind in kinds)
    raise AssertionError(f"{what} must raise {names}; nothing was raised.")
