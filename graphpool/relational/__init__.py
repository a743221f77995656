"""Relational pooling: a network made more expressive by pooling it over labelled copies of a graph."""

from graphpool.relational.copies import Copies
from graphpool.relational.encodings import Distance, Embedding, LabelEncoding, OneHot, Unmarked
from graphpool.relational.graphs import GraphBatch
from graphpool.relational.label_pooling import LabelPooling
from graphpool.relational.labelings import Labelings
from graphpool.relational.orders import draw_orders
from graphpool.relational.permutation_pooling import RelationalPooling
from graphpool.relational.policies import POLICIES, LabelPolicy
from graphpool.relational.published import (
    distance_encoding_gnn,
    esan,
    i2_gnn,
    identity_aware_gnn,
    kl_gnn,
    nested_gnn,
    rp_gin,
)
from graphpool.relational.transform import DataWithCopies, LabelledCopies, copies_of

__all__ = [
    "POLICIES",
    "Copies",
    "Distance",
    "Embedding",
    "GraphBatch",
    "LabelEncoding",
    "LabelPolicy",
    "LabelPooling",
    "Labelings",
    "OneHot",
    "RelationalPooling",
    "Unmarked",
    "DataWithCopies",
    "LabelledCopies",
    "copies_of",
    "distance_encoding_gnn",
    "esan",
    "i2_gnn",
    "identity_aware_gnn",
    "kl_gnn",
    "nested_gnn",
    "rp_gin",
    "draw_orders",
]
