"""Derivatives, and what PyTorch does to functions that have them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vmap

from graphpool.segments import Segments
from graphpool.testing.samples import close, gradients, in_double, pooled, result, sample, trainable


def assert_gradients(aggr: torch.nn.Module, channels: int, second: bool = True) -> None:
    """First and second derivatives by finite differences, for elements and parameters; offsets give what
    the index does."""
    x, segments = sample(channels, (3, 0, 1, 4))
    aggr = aggr.double()
    names = list(trainable(aggr))
    # gradcheck perturbs what it is given, so the parameters are handed over as inputs.
    values = [p.detach().clone().requires_grad_() for p in trainable(aggr).values()]
    inputs = (x.requires_grad_(), *values)

    def by(**bags: Any) -> Callable[..., Tensor]:
        def call(x: Tensor, *parameters: Tensor) -> Tensor:
            given = dict(zip(names, parameters, strict=True))
            return result(functional_call(aggr, given, (x,), bags))

        return call

    by_index, by_ptr = by(index=segments.index, dim_size=len(segments)), by(ptr=segments.ptr)
    # The slow check compares whole Jacobians; many parameters make it long.
    fast = sum(v.numel() for v in values) > 40
    torch.autograd.gradcheck(by_index, inputs, fast_mode=fast)
    if second:
        torch.autograd.gradgradcheck(by_index, inputs, fast_mode=True, atol=1e-4)
    both = (_orders(call, inputs, second) for call in (by_ptr, by_index))
    for a, b in zip(*both, strict=True):
        close(a, b)


def _orders(
    call: Callable[..., Tensor], inputs: tuple[Tensor, ...], second: bool
) -> Iterator[Tensor]:
    """Values, the gradient of a combination of them and, of a combination of its entries, the next one."""
    y = call(*inputs)
    yield y
    slopes = gradients(y, *inputs, create_graph=second)
    yield from slopes
    entries = torch.cat([slope.flatten() for slope in slopes])
    if entries.requires_grad:
        yield from gradients(entries, *inputs)


def assert_gradients_can_be_differentiated(aggr: torch.nn.Module, channels: int) -> None:
    """A gradient is the same whether or not it is to be differentiated again (``create_graph``)."""
    aggr, x, segments = in_double(aggr, channels)
    inputs = (x.requires_grad_(), *trainable(aggr).values())
    plain, graphed = (
        gradients(pooled(aggr, x, segments), *inputs, create_graph=flag) for flag in (False, True)
    )
    for a, b in zip(graphed, plain, strict=True):
        close(a, b, rtol=1e-7, atol=1e-9)


def assert_transforms(aggr: torch.nn.Module, channels: int) -> None:
    """The transforms of :mod:`torch.func` agree with reverse mode and with loops."""
    x, segments = sample(channels, (3, 0, 1, 4))
    aggr = aggr.double()
    index, size = segments.index, len(segments)
    parameters = {name: p.detach() for name, p in trainable(aggr).items()}

    def f(x: Tensor, given: dict[str, Tensor] = parameters) -> Tensor:
        return result(functional_call(aggr, given, (x, index), {"dim_size": size}))

    def total(x: Tensor, given: dict[str, Tensor] = parameters) -> Tensor:
        return (f(x, given) ** 2).sum()

    slope, by_parameters = _reverse(total, x, parameters)
    close(grad(total)(x), slope)
    for name, value in grad(total, argnums=1)(x, parameters).items():
        close(value, by_parameters[name])
    direction = torch.linspace(-1, 1, x.numel(), dtype=x.dtype).view_as(x)
    jacobian = torch.autograd.functional.jacobian(f, x)
    along = torch.einsum("...ec,ec->...", jacobian, direction)
    y, tangent = jvp(f, (x,), (direction,))[:2]
    close(y, f(x))
    close(tangent, along)
    close(jacrev(f)(x), jacobian)
    # One element will do: Jacobians column by column take long.
    first = x[:1]

    def of_first(v: Tensor) -> Tensor:
        return total(torch.cat([v, x[1:]]))

    close(jacfwd(of_first)(first), slope[:1])
    expected = torch.autograd.functional.hessian(of_first, first)
    close(hessian(of_first)(first), expected, rtol=1e-6, atol=1e-8)
    batch = torch.stack([x, x.flip(1), 2 * x])
    close(vmap(f)(batch), torch.stack([f(v) for v in batch]))
    slopes = torch.stack([_reverse(total, v, parameters)[0] for v in batch])
    close(vmap(grad(total))(batch), slopes)


def _reverse(
    total: Callable[..., Tensor], x: Tensor, parameters: dict[str, Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    leaves = {name: p.clone().requires_grad_() for name, p in parameters.items()}
    x = x.clone().requires_grad_()
    inputs: list[Any] = [x, *leaves.values()]
    found = torch.autograd.grad(total(x, leaves), inputs, allow_unused=True)
    slopes = [torch.zeros_like(v) if g is None else g for v, g in zip(inputs, found, strict=True)]
    return slopes[0], dict(zip(leaves, slopes[1:], strict=True))


def assert_trains_after_inference(aggr: torch.nn.Module, channels: int) -> None:
    """Used under ``torch.inference_mode``, it can be trained afterwards, on the same bags, too."""
    x, segments = sample(channels)
    order = torch.randperm(x.size(0), generator=torch.Generator().manual_seed(2))
    bags = Segments(index=segments.index[order], num_segments=len(segments))
    aggr, x = aggr.double(), x[order]
    with torch.inference_mode():
        before = pooled(aggr, x, bags)
        weighed = pooled(aggr, x, bags, weight=torch.ones(x.size(0)))
    close(weighed.clone(), before.clone())
    x.requires_grad_()
    y = pooled(aggr, x, bags)
    close(y, before.clone())
    for slope in gradients(y, x, *trainable(aggr).values()):
        if not slope.isfinite().all():
            raise AssertionError(f"Gradients must be finite after inference; got {slope}.")
