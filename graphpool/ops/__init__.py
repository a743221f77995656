"""Functions of elements and bags: no parameters, no state.

Every one obeys the same contract. An empty bag gives 0 and gets no derivative. A NaN stays in its own
bag and channel. A bag's result depends on nothing outside it. ``weight`` counts an element as often as
its weight says. Half precision is accumulated in float32.
"""

from graphpool.ops.order import segment_median, segment_quantile, segment_sort, segment_topk
from graphpool.ops.power import segment_power
from graphpool.ops.product import segment_product
from graphpool.ops.reduce import (
    segment_max,
    segment_mean,
    segment_min,
    segment_moments,
    segment_std,
    segment_sum,
    segment_var,
)
from graphpool.ops.softmax import (
    segment_logsumexp,
    segment_softmax,
    segment_softmax_sum,
    segment_softpool,
)

__all__ = [
    "segment_logsumexp",
    "segment_max",
    "segment_mean",
    "segment_median",
    "segment_min",
    "segment_moments",
    "segment_power",
    "segment_product",
    "segment_quantile",
    "segment_softmax",
    "segment_softmax_sum",
    "segment_softpool",
    "segment_sort",
    "segment_std",
    "segment_sum",
    "segment_topk",
    "segment_var",
]
