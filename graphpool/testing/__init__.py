"""Assertions that every pool must pass; use them for your own.

``conformance(pool, channels)`` runs them all::

    @pytest.mark.parametrize("point", graphpool.testing.POINTS)
    def test_my_pool(point):
        graphpool.testing.check(point, MyPool(8), channels=8)
"""

from graphpool.testing.conformance import POINTS, check, conformance
from graphpool.testing.derivatives import (
    assert_gradients,
    assert_gradients_can_be_differentiated,
    assert_trains_after_inference,
    assert_transforms,
)
from graphpool.testing.invariance import (
    assert_absent_elements_leave_no_trace,
    assert_batch_independent,
    assert_deterministic,
    assert_duplicates_agree,
    assert_neighbors_do_not_matter,
    assert_permutation_invariant,
    assert_segment_forms_agree,
    assert_ties_share_the_gradient,
    assert_unsorted_index_agrees,
    assert_weights_repeat,
)
from graphpool.testing.modules import (
    assert_channels_first,
    assert_hooks_fire,
    assert_sizes_of_any_integer_type,
    assert_unknown_arguments_raise,
    assert_waits_for_the_width,
)
from graphpool.testing.numerics import (
    assert_compiles,
    assert_dimensions_agree,
    assert_empty_bags_are_zero,
    assert_half_precision,
    assert_integers,
    assert_mismatch_raises,
    assert_stable_under_offset,
)
from graphpool.testing.pieces import assert_passes_differentiate, assert_pieces_agree

__all__ = [
    "POINTS",
    "assert_absent_elements_leave_no_trace",
    "assert_batch_independent",
    "assert_channels_first",
    "assert_compiles",
    "assert_deterministic",
    "assert_dimensions_agree",
    "assert_duplicates_agree",
    "assert_empty_bags_are_zero",
    "assert_gradients",
    "assert_gradients_can_be_differentiated",
    "assert_half_precision",
    "assert_hooks_fire",
    "assert_integers",
    "assert_mismatch_raises",
    "assert_neighbors_do_not_matter",
    "assert_passes_differentiate",
    "assert_permutation_invariant",
    "assert_pieces_agree",
    "assert_segment_forms_agree",
    "assert_sizes_of_any_integer_type",
    "assert_stable_under_offset",
    "assert_ties_share_the_gradient",
    "assert_trains_after_inference",
    "assert_transforms",
    "assert_unknown_arguments_raise",
    "assert_unsorted_index_agrees",
    "assert_waits_for_the_width",
    "assert_weights_repeat",
    "check",
    "conformance",
]
