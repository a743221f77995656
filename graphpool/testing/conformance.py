"""The points that every pool must pass."""

from __future__ import annotations

from collections.abc import Callable

import torch

from graphpool._arguments import check_one_of
from graphpool.testing import derivatives, invariance, modules, numerics, pieces

POINTS: dict[str, Callable[[torch.nn.Module, int], None]] = {
    "permutation": invariance.assert_permutation_invariant,
    "independence": invariance.assert_batch_independent,
    "forms": invariance.assert_segment_forms_agree,
    "unsorted": invariance.assert_unsorted_index_agrees,
    "empty": numerics.assert_empty_bags_are_zero,
    "gradients": derivatives.assert_gradients,
    "half": numerics.assert_half_precision,
    "compile": numerics.assert_compiles,
    "deterministic": invariance.assert_deterministic,
    "weights": invariance.assert_weights_repeat,
    "offset": numerics.assert_stable_under_offset,
    "duplicates": invariance.assert_duplicates_agree,
    "ndim": numerics.assert_dimensions_agree,
    "integers": numerics.assert_integers,
    "ties": invariance.assert_ties_share_the_gradient,
    "mismatch": numerics.assert_mismatch_raises,
    "neighbors": invariance.assert_neighbors_do_not_matter,
    "absent": invariance.assert_absent_elements_leave_no_trace,
    "regradients": derivatives.assert_gradients_can_be_differentiated,
    "transforms": derivatives.assert_transforms,
    "inference": derivatives.assert_trains_after_inference,
    "channels": modules.assert_channels_first,
    "lazy": modules.assert_waits_for_the_width,
    "arguments": modules.assert_unknown_arguments_raise,
    "hooks": modules.assert_hooks_fire,
    "sizes": modules.assert_sizes_of_any_integer_type,
    "pieces": pieces.assert_pieces_agree,
    "passes": pieces.assert_passes_differentiate,
}
"""Name of each point, and the assertion behind it."""


def check(point: str, aggr: torch.nn.Module, channels: int) -> str | None:
    """Asserts one point for one pool.

    Args:
        point: A key of :data:`POINTS`.
        aggr: The pool; its dtype is changed, and it is put in evaluation mode.
        channels: The number of channels it was made for.

    Returns:
        The reason, if the pool's class declares that the point cannot hold (``exempt``), else ``None``.

    Raises:
        AssertionError: The pool fails the point.
        ValueError: There is no such point.

    Example:
        >>> from graphpool import aggr, testing
        >>> testing.check("permutation", aggr.Mean(), channels=4)
    """
    check_one_of(point, "point", POINTS)
    reason = getattr(aggr, "exempt", {}).get(point)
    if reason is not None:
        return reason
    POINTS[point](aggr.eval(), channels)
    return None


def conformance(aggr: torch.nn.Module, channels: int) -> dict[str, str]:
    """Asserts all points for one pool.

    Returns:
        The points that its class declares exempt, with the reasons.

    Raises:
        AssertionError: The pool fails a point.
    """
    exempt = {}
    for point in POINTS:
        reason = check(point, aggr, channels)
        if reason is not None:
            exempt[point] = reason
    return exempt
