"""Evaluation procedures."""

from graphpool.evaluate.expressiveness import (
    Separation,
    embed,
    relabelled,
    relative_distance,
    separate_pairs,
    separate_pairs_by_part,
)
from graphpool.evaluate.flow import FlowErrors, flow_errors
from graphpool.evaluate.forgetting import Counterexample, counterexample, matching_distance
from graphpool.evaluate.links import adamic_adar, hits_at, topological_concentration
from graphpool.evaluate.lipschitz import lipschitz
from graphpool.evaluate.paired import (
    PairedResult,
    compare_pair,
    copies_block,
    hotelling,
    statistical_threshold,
)
from graphpool.evaluate.partitions import MatchedBags, double_majority
from graphpool.evaluate.sampling import SampledSeparation, separate_pairs_by_sampling
from graphpool.evaluate.squashing import (
    by_distance,
    effective_resistance,
    jacobian_bound,
    jacobian_norms,
)
from graphpool.evaluate.undistinguished import (
    similar_pairs,
    undistinguished_pairs,
    undistinguished_pairs_by_part,
)

__all__ = [
    "Counterexample",
    "MatchedBags",
    "FlowErrors",
    "PairedResult",
    "SampledSeparation",
    "Separation",
    "adamic_adar",
    "by_distance",
    "compare_pair",
    "copies_block",
    "counterexample",
    "double_majority",
    "effective_resistance",
    "embed",
    "flow_errors",
    "hits_at",
    "hotelling",
    "jacobian_bound",
    "jacobian_norms",
    "lipschitz",
    "matching_distance",
    "relabelled",
    "relative_distance",
    "separate_pairs",
    "separate_pairs_by_part",
    "separate_pairs_by_sampling",
    "similar_pairs",
    "statistical_threshold",
    "topological_concentration",
    "undistinguished_pairs",
    "undistinguished_pairs_by_part",
]
