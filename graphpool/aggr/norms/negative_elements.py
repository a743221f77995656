"""What pools made for non-negative elements do with negative ones."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from graphpool import _debug
from graphpool.states import Powers, Tensors, magnitude

POLICIES = ("abs", "split", "clamp", "raise")


def check_policy(policy: str) -> str:
    """``policy``, if it is one of :data:`POLICIES`."""
    if policy not in POLICIES:
        raise ValueError(f"`negative` must be one of {POLICIES}; got {policy!r}.")
    return policy


def seen(policy: str, x: Tensor) -> str:
    """What :func:`graphpool.ops.segment_power` is to see of ``x`` under a policy for negative elements.

    * ``"abs"``: ``pool(|x|)``, which is what the formulas say.
    * ``"split"``: ``pool(max(x, 0)) - pool(max(-x, 0))``: an odd function of the bag. With the sum or the
      mean inside it is the sum or the mean of signed elements.
    * ``"clamp"``: ``pool(max(x, 0))``.
    * ``"raise"``: a negative element is an error (not checked on accelerators, see :func:`graphpool.debug`).
    """
    if policy != "raise":
        return policy
    if _debug.values_are_checked(x.device) and bool((x < 0).any()):
        first = (x < 0).nonzero()[0].tolist()
        raise ValueError(
            f"`x` must not be negative under negative='raise'; got {float(x[tuple(first)])} at {first}."
        )
    return "abs"


def norms(
    policy: str,
    exponents: Callable[[Tensor], tuple[Tensor, Tensor]],
    finish: Callable[[Tensor], Tensor] | None = None,
    offset: float = 0.0,
) -> Powers:
    """How generalised norms of pieces merge, under a policy for negative elements.

    Args:
        policy: One of :data:`POLICIES`.
        exponents: See :class:`graphpool.states.Powers`.
        finish: What is made of the norms, side by side, ``[S, K C]``.
        offset: Added to what is seen of the elements.
    """

    def above(x: Tensor) -> Tensor:
        return x.relu() + offset

    def below(x: Tensor) -> Tensor:
        return (-x).relu() + offset

    def whole(x: Tensor) -> Tensor:
        return x.abs() + offset if offset else magnitude(x)

    def both(y: Tensor, sums: Tensors) -> Tensor:
        if policy == "split":
            first, second = y.chunk(2, 1)
            y = first - second
        return y.flatten(1) if finish is None else finish(y.flatten(1))

    def encode(x: Tensor) -> Tensors:
        seen(policy, x)
        return {"x": x}

    sides = {"split": (above, below), "clamp": (above,)}.get(policy, (whole,))
    named = policy if len(sides) == 1 and policy != "raise" and not offset else None
    return Powers(exponents, both, sides, encode, named)
