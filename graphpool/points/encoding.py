"""Encodings of positions without parameters: sines of Point-NN, bells of Point-GN and NPNet."""

from __future__ import annotations

import torch
from torch import Tensor

from graphpool._arguments import as_count, check_one_of
from graphpool.ops.neighbors.clouds import full_precision

_LAYOUTS = ("interleaved", "blocked")
_EPS = 1e-6


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


def anchors(channels: int) -> tuple[Tensor, Tensor]:
    """The axis of each channel, and its anchor ``v_j = -1 + 2 j / (F + 1)``, ``F = ceil(channels / 3)``.

    Channels of one axis lie together. Where ``3 F`` exceeds ``channels``, those of
    ``floor(linspace(0, 3 F - 1, channels))`` are kept.
    """
    count = -(-as_count(channels, "channels") // 3)
    at = -1 + 2 * torch.arange(1, count + 1, dtype=torch.float64) / (count + 1)
    axis = torch.arange(3).repeat_interleave(count)
    kept = torch.linspace(0, 3 * count - 1, channels, dtype=torch.float64).floor().long()
    return axis[kept], at.repeat(3)[kept]


def gaussian_encoding(
    u: Tensor, channels: int, sigma: float | Tensor = 0.4, blend: float | Tensor = 1.0
) -> Tensor:
    r"""How close the coordinates are to anchors (Mohammadi and Salarpour, *Point-GN*, WACV 2025).

    .. math:: e_{a, j} = \lambda\, \exp\Bigl(-\frac{(u_a - v_j)^2}{2 \sigma^2}\Bigr)
              + (1 - \lambda) \cos\frac{u_a - v_j}{\sigma}

    with ``ceil(channels / 3)`` anchors between -1 and 1 for each axis; the cosine is that of NPNet (Saeid et
    al., IEEE IV 2026).

    Args:
        u: Vectors ``[..., 3]``, floating point.
        channels: Width of the encoding.
        sigma: Width of the bells, > 0; a tensor goes with ``u[..., :1]``.
        blend: :math:`\lambda` in [0, 1], likewise.

    Returns:
        ``[..., channels]``, the channels of one axis together.

    Raises:
        ValueError: The last dimension is not 3, or an argument is out of range.

    Example:
        >>> gaussian_encoding(torch.tensor([1 / 3, 0.0, 0.0]), 6, sigma=1.0).round(decimals=4)
        tensor([0.8007, 1.0000, 0.9460, 0.9460, 0.9460, 0.9460])
    """
    if u.size(-1) != 3:
        raise ValueError(f"`u` must have shape [..., 3]; got {tuple(u.shape)}.")
    if not isinstance(sigma, Tensor) and not sigma > 0:
        raise ValueError(f"`sigma` must be > 0; got {sigma}.")
    if not isinstance(blend, Tensor) and not 0 <= blend <= 1:
        raise ValueError(f"`blend` must be in [0, 1]; got {blend}.")
    axis, at = anchors(channels)
    off = (u.index_select(-1, axis.to(u.device)) - at.to(u)) / sigma
    bell = off.square().mul(-0.5).exp()
    if not isinstance(blend, Tensor) and blend == 1:
        return bell
    return blend * bell + (1 - blend) * off.cos()


def adapted(spread: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """Width and blend of NPNet for points of this standard deviation (the mean of the three axes)."""
    return sigma * (1 + spread) + _EPS, torch.sigmoid(10 * (spread - 0.1))


def bells(u: Tensor, channels: int, sigma: float, spread: Tensor | None) -> Tensor:
    """Encodings of ``u`` ``[m, ..., 3]``: of Point-GN, or of NPNet if points have a ``spread`` ``[m]``."""
    if spread is None:
        return gaussian_encoding(u, channels, sigma)
    spread = spread.to(u.dtype).view(-1, *(1,) * (u.dim() - 1))
    return gaussian_encoding(u, channels, *adapted(spread, sigma))
