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


def in_double(aggr: torch.nn.Module, channels: int) -> tuple[torch.nn.Module, Tensor, Segments]:
    """A pool in float64, and a sample for it."""
    return aggr.double(), *sample(channels)


def result(output: Any) -> Tensor:
    """The pooled tensor ``[S, ...]``. Of several results the first; a ragged one is padded with 0, and has
    one more channel, 1 for the rows that there are."""
    if not isinstance(output, tuple):
        return output
    y, extra = output[0], output[1]
    if not isinstance(extra, Segments):
        return y
    width = int(extra.counts.max()) if extra.num_segments else 0
    y = torch.cat([y, torch.ones_like(y[..., :1])], dim=-1)
    padded = y.new_zeros(extra.num_segments, width, *y.shape[1:])
    place = torch.arange(y.size(0), device=y.device) - extra.ptr[extra.index]
    return padded.index_put((extra.index, place), y)


def pooled(aggr: torch.nn.Module, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return result(aggr(x, *args, **kwargs))


def trainable(aggr: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The parameters that are learned, by name."""
    return {name: p for name, p in aggr.named_parameters() if p.requires_grad}


def gradients(y: Tensor, *inputs: Tensor, create_graph: bool = False) -> list[Tensor]:
    """The gradient of a fixed combination of the numbers in ``y``, 0 where there is none."""
    total = (y * torch.linspace(1, 2, y.numel(), dtype=y.dtype).view(y.shape)).sum()
    found = torch.autograd.grad(
        total, inputs, retain_graph=True, create_graph=create_graph, allow_unused=True
    )
    return [torch.zeros_like(v) if g is None else g for v, g in zip(inputs, found, strict=True)]


def close(
    actual: Tensor, expected: Tensor, rtol: float = 1e-8, atol: float = 1e-10, nan: bool = False
) -> None:
    """Raises an ``AssertionError`` that shows where two results differ; with ``nan`` NaN equals NaN."""
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol, equal_nan=nan)


def expect_error(kinds: tuple[type[Exception], ...], call: Any, what: str) -> str:
    """Raises an ``AssertionError`` unless ``call()`` raises one of ``kinds``, whose text is returned."""
    try:
        call()
    except kinds as error:
        return str(error)
    names = " or ".join(kind.__name__ for kind in kinds)
    raise AssertionError(f"{what} must raise {names}; nothing was raised.")
