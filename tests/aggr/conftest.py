from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor


@pytest.fixture
def against_oracle() -> Callable[..., None]:
    """Compares a pool with a formula for one bag: values, and gradients of elements and parameters."""

    def compare(
        pool: torch.nn.Module,
        oracle: Callable[[Tensor], Tensor],
        channels: int = 8,
        x: Tensor | None = None,
        atol: float = 1e-9,
    ) -> None:
        pool.double()
        generator = torch.Generator().manual_seed(5)
        index = torch.tensor([2, 0, 2, 4, 2, 4, 0, 2, 2, 4, 4, 3])
        if x is None:
            x = torch.randn(len(index), channels, generator=generator, dtype=torch.float64)
        x = x.double().requires_grad_()
        y = pool(x, index, dim_size=6)
        rows = [oracle(x[index == s]).flatten() if (index == s).any() else None for s in range(6)]
        width = next(len(row) for row in rows if row is not None)
        expected = torch.stack([y.new_zeros(width) if row is None else row for row in rows])
        torch.testing.assert_close(y, expected, atol=atol, rtol=1e-7)
        assert pool.out_channels in (None, width)

        direction = torch.randn(y.shape, generator=generator, dtype=torch.float64)
        inputs = [x, *(p for p in pool.parameters() if p.requires_grad)]
        actual, wanted = (
            torch.autograd.grad((v * direction).sum(), inputs, allow_unused=True)
            for v in (y, expected)
        )
        for a, b in zip(actual, wanted, strict=True):
            a, b = (torch.zeros(()) if g is None else g for g in (a, b))
            if a.dim() != b.dim():
                assert a.abs().max() < atol and b.abs().max() < atol
            else:
                torch.testing.assert_close(a, b, atol=10 * atol, rtol=1e-6)

    return compare
