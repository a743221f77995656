"""Assertions that every pool must pass; use them for your own.

``conformance(pool, channels)`` runs them all::

    @pytest.mark.parametrize("point", graphpool.testing.POINTS)
    def test_my_pool(point):
        graphpool.testing.check(point, MyPool(8), channels=8)
"""

from graphpool.testing.conformance import POINTS, check, conformance
from graphpool.testing.invariance import (
    assert_batch_independent,
    assert_deterministic,
    assert_duplicates_agree,
    assert_permutation_invariant,
    assert_segment_forms_agree,
    assert_ties_share_the_gradient,
    assert_unsorted_index_agrees,
    assert_weights_repeat,
)
from graphpool.testing.numerics import (
    assert_compiles,
    assert_dimensions_agree,
    assert_empty_bags_are_zero,
    assert_gradients,
    assert_half_precision,
    assert_integers,
    assert_mismatch_raises,
    assert_stable_under_offset,
)

__all__ = [
    "POINTS",
    "assert_batch_independent",
    "assert_compiles",
    "assert_deterministic",
    "assert_dimensions_agree",
    "assert_duplicates_agree",
    "assert_empty_bags_are_zero",
    "assert_gradients",
    "assert_half_precision",
    "assert_integers",
    "assert_mismatch_raises",
    "assert_permutation_invariant",
    "assert_segment_forms_agree",
    "assert_stable_under_offset",
    "assert_ties_share_the_gradient",
    "assert_unsorted_index_agrees",
    "assert_weights_repeat",
    "check",
    "conformance",
]
