"""Functions of elements and bags: no parameters, no state.

Every one obeys the same contract. An empty bag gives 0 and gets no derivative. A NaN stays in its own
bag and channel. A bag's result depends on nothing outside it. ``weight`` counts an element as often as
its weight says. Half precision is accumulated in float32.

This is the whole of what other parts of the library, and pools of your own, may use of the operations:
which kernel runs below is theirs to choose.
"""

from graphpool.ops.backends import backend, fused_is_allowed, use_backend
from graphpool.ops.components import (
    Contraction,
    check_edges,
    connected_components,
    contract_edges,
    distinct,
    merge_edges,
)
from graphpool.ops.derivatives import differentiate_again
from graphpool.ops.dispatch import explain
from graphpool.ops.gather import segment_cumsum, segment_gather
from graphpool.ops.inputs import (
    Gather,
    align,
    check_elements,
    check_weight,
    gathered,
    wide,
    working,
)
from graphpool.ops.moments import (
    segment_max,
    segment_mean,
    segment_min,
    segment_moments,
    segment_product,
    segment_standardized_moments,
    segment_std,
    segment_sum,
    segment_var,
)
from graphpool.ops.order import (
    INTERPOLATIONS,
    segment_median,
    segment_quantile,
    segment_sort,
    segment_topk,
)
from graphpool.ops.power import norms_and_sums, segment_mixed_means, segment_power
from graphpool.ops.primitives import with_value
from graphpool.ops.ranked import segment_cosine, segment_trimmed_mean
from graphpool.ops.reference import net_sign, standard_deviation
from graphpool.ops.second_moment import segment_matmul, segment_outer, segment_second_moment
from graphpool.ops.softmax import (
    segment_logsumexp,
    segment_softmax,
    segment_softmax_sum,
    segment_softpool,
)

__all__ = [
    "INTERPOLATIONS",
    "Contraction",
    "Gather",
    "align",
    "backend",
    "check_elements",
    "check_weight",
    "connected_components",
    "check_edges",
    "contract_edges",
    "merge_edges",
    "differentiate_again",
    "distinct",
    "explain",
    "fused_is_allowed",
    "gathered",
    "net_sign",
    "norms_and_sums",
    "segment_cosine",
    "segment_cumsum",
    "segment_gather",
    "segment_logsumexp",
    "segment_matmul",
    "segment_max",
    "segment_mean",
    "segment_median",
    "segment_min",
    "segment_mixed_means",
    "segment_moments",
    "segment_outer",
    "segment_power",
    "segment_product",
    "segment_quantile",
    "segment_second_moment",
    "segment_softmax",
    "segment_softmax_sum",
    "segment_softpool",
    "segment_sort",
    "segment_standardized_moments",
    "segment_std",
    "segment_sum",
    "segment_topk",
    "segment_trimmed_mean",
    "segment_var",
    "standard_deviation",
    "use_backend",
    "with_value",
    "wide",
    "working",
]
