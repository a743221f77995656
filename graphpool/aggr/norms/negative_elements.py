"""What pools made for non-negative elements do with negative ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from graphpool import _debug

POLICIES = ("abs", "split", "clamp", "raise")


def check_policy(policy: str) -> str:
    """``policy``, if it is one of :data:`POLICIES`."""
    if policy not in POLICIES:
        raise ValueError(f"`negative` must be one of {POLICIES}; got {policy!r}.")
    return policy


def apply_policy(policy: str, x: Tensor, pool: Callable[[Tensor], Tensor]) -> Tensor:
    """Pools ``x`` with a function of non-negative elements, under a policy for the negative ones.

    * ``"abs"``: ``pool(|x|)``, which is what the formulas say.
    * ``"split"``: ``pool(max(x, 0)) - pool(max(-x, 0))``: an odd function of the bag. With the sum or the
      mean inside it is the sum or the mean of signed elements.
    * ``"clamp"``: ``pool(max(x, 0))``.
    * ``"raise"``: a negative element is an error (not checked on accelerators, see :func:`graphpool.debug`).
    """
    if policy == "split":
        return pool(torch.relu(x)) - pool(torch.relu(-x))
    if policy == "clamp":
        return pool(torch.relu(x))
    if policy == "raise" and _debug.values_are_checked(x.device) and bool((x < 0).any()):
        first = (x < 0).nonzero()[0].tolist()
        raise ValueError(
            f"`x` must not be negative under negative='raise'; got {float(x[tuple(first)])} at {first}."
        )
    return pool(x)
