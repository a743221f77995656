"""In which numbers sums are kept: as they are, with what rounding took, or as integers."""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool.ops import align, segment_sum
from graphpool.segments import Segments

_MOST = 2.0**62


def sizes(segments: Segments, weight: Tensor | None) -> Tensor:
    """The size of each bag ``[S]``; exact up to 2**53 elements where the device knows float64."""
    dtype = torch.float32 if segments.device.type == "mps" else torch.float64
    return segments.counts.to(dtype) if weight is None else segment_sum(weight.to(dtype), segments)


def compensated_sum(
    a: Tensor, lost_a: Tensor, b: Tensor, lost_b: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """``a + b`` and all that it lacks, what each of them lacked included."""
    total = a + b
    back = total - a
    lost = (a - (total - back)) + (b - back)
    lost = lost + (lost_a if lost_b is None else lost_a + lost_b)
    kept = total + lost
    rest = lost - (kept - total)
    finite = kept.isfinite()
    return torch.where(finite, kept, total), torch.where(finite, rest, 0)


def rounded_sums(
    terms: dict[str, Tensor],
    segments: Segments,
    weight: Tensor | None,
    bits: int,
    held: dict[str, Tensor],
) -> dict[str, Tensor]:
    """Sums of terms, each of which is rounded to ``bits`` binary digits after the point.

    Raises:
        ValueError: A term is not finite, or the sums that are ``held`` might overflow.
    """
    count, found = segments.num_elements, {}
    ones = torch.ones(count, dtype=torch.float64, device=segments.device)
    for name, term in {"n": ones, **terms}.items():
        term = term.double() if weight is None else term.double() * align(weight.double(), term)
        most = float(term.abs().max()) if term.numel() else 0.0
        before = float(held[name].abs().max()) if name in held and held[name].numel() else 0.0
        if not before + 2.0**bits * most * count < _MOST:
            raise ValueError(
                f"`fixed_point` of {bits} digits is too much for the sum {name!r}: {count} terms of up to "
                f"{most:.3g} may exceed 2**62. Take fewer digits."
            )
        found[name] = segment_sum((term * 2.0**bits).round().long(), segments)
    return found


def total(value: Tensor, lost: Tensor | None, bits: int | None) -> Tensor:
    """A sum as one number."""
    if bits is not None:
        return value.double() * 2.0**-bits
    return value if lost is None else value + lost


def shares(share: Tensor, value: Tensor) -> Tensor:
    """The product, in which what has no share is nothing, and what is infinite is not moved by shares."""
    if bool(value.detach().sum().isfinite()):
        return share * value
    infinite = value.isinf()
    there = torch.where(infinite & (share > 0), share.detach() * value, 0)
    return share * torch.where(infinite | (share == 0), 0, value) + there
