"""The trigonometric position encoding of Point-NN."""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool._arguments import check_one_of
from graphpool.ops.neighbors.clouds import full_precision

_LAYOUTS = ("interleaved", "blocked")


def frequencies(channels: int, alpha: float = 1000.0, beta: float = 100.0) -> Tensor:
    r"""The ladder :math:`\omega_m = \beta / \alpha^{m / F}`, :math:`m < F`, ``F = channels / 6``.

    Args:
        channels: Width of the encoding, a positive multiple of 6 (three axes, sine and cosine).
        alpha: Base of the geometric ladder, > 0.
        beta: The highest frequency, > 0.

    Returns:
        ``[F]`` in float64.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> frequencies(12).round(decimals=3)
        tensor([100.0000, 3.1620], dtype=torch.float64)
    """
    if channels < 6 or channels % 6:
        raise ValueError(f"`channels` must be a positive multiple of 6; got {channels}.")
    if not (alpha > 0 and beta > 0):
        raise ValueError(f"`alpha` and `beta` must be > 0; got {alpha} and {beta}.")
    count = channels // 6
    exponent = torch.arange(count, dtype=torch.float64) / count
    return beta / alpha**exponent


def encoding_matrix(
    channels: int, alpha: float = 1000.0, beta: float = 100.0, layout: str = "interleaved"
) -> tuple[Tensor, Tensor]:
    r"""``W`` ``[3, channels]`` and :math:`\varphi` ``[channels]`` with ``encoding = sin(u @ W + phase)``.

    Every column of ``W`` has one entry, a frequency in the row of its axis; the phase of a cosine is
    :math:`\pi / 2`. The channels of one axis lie together: with ``layout="interleaved"`` (Point-NN) sine
    and cosine alternate, with ``"blocked"`` (Point-PN) all sines come before all cosines.
    """
    check_one_of(layout, "layout", _LAYOUTS)
    omega = frequencies(channels, alpha, beta)
    count = omega.numel()
    if layout == "interleaved":
        ladder, phase = omega.repeat_interleave(2), torch.tensor([0.0, torch.pi / 2]).repeat(count)
    else:
        ladder = omega.repeat(2)
        phase = torch.tensor([0.0, torch.pi / 2]).repeat_interleave(count)
    return torch.block_diag(*[ladder[None]] * 3), phase.double().repeat(3)


def position_encoding(
    u: Tensor,
    channels: int,
    alpha: float = 1000.0,
    beta: float = 100.0,
    layout: str = "interleaved",
) -> Tensor:
    r"""Sines and cosines of the coordinates at ``channels / 6`` frequencies (Zhang et al., CVPR 2023).

    .. math:: e_{a, m} = \bigl(\sin(\omega_m u_a), \cos(\omega_m u_a)\bigr), \qquad
              \omega_m = \beta / \alpha^{m / F}

    Args:
        u: Vectors ``[..., 3]``, floating point.
        channels: Width of the encoding, a positive multiple of 6.
        alpha: Base of the geometric ladder of frequencies.
        beta: The highest frequency.
        layout: Order of the channels of one axis; see :func:`encoding_matrix`.

    Returns:
        ``[..., channels]`` in the dtype of ``u``. The arguments are computed in float64 (half precision
        cannot even resolve ``u``: convert).

    Raises:
        ValueError: The last dimension is not 3, or an argument is out of range.

    Example:
        >>> position_encoding(torch.tensor([0.01, 0.0, 0.0]), 6)
        tensor([0.8415, 0.5403, 0.0000, 1.0000, 0.0000, 1.0000])
    """
    if u.size(-1) != 3:
        raise ValueError(f"`u` must have shape [..., 3]; got {tuple(u.shape)}.")
    matrix, phase = encoding_matrix(channels, alpha, beta, layout)
    # Frequency times coordinate may be many turns, of which float32 would lose the fraction that counts.
    with full_precision(u):
        turns = u.double() @ matrix.to(u.device).div_(2 * torch.pi) + phase.to(u.device) / (
            2 * torch.pi
        )
        return (turns.sub_(turns.detach().round()).to(u.dtype) * (2 * torch.pi)).sin_()
