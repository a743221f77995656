"""How pools that need positions take them: as the leading columns of ``x``.

So they work wherever any other pool does, neighbour aggregation included: concatenate positions and
features, and say with ``pos_dim`` how many columns are positions. What comes out has no position.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from graphpool._arguments import as_count


def check_pos_dim(channels: int | None, pos_dim: Any, low: int = 0) -> int:
    """``pos_dim``, if that many columns of positions leave room for features.

    Raises:
        ValueError: They do not, or ``pos_dim`` is less than ``low``.
    """
    pos_dim = as_count(pos_dim, "pos_dim", low)
    if channels is not None and 0 < channels <= pos_dim:
        raise ValueError(
            f"`channels` must count the {pos_dim} columns of positions and at least one feature; "
            f"got {channels}. Elements are torch.cat([pos, features], dim=-1)."
        )
    return pos_dim


def split_positions(x: Tensor, pos_dim: int) -> tuple[Tensor, Tensor]:
    """Positions and features of elements ``[E, C]``."""
    return x[:, :pos_dim], x[:, pos_dim:] if pos_dim else x


def feature_channels(channels: int | None, pos_dim: int) -> int | None:
    """The number of feature channels."""
    return channels if channels in (None, -1) else channels - pos_dim  # type: ignore[operator]
