"""Relational pooling: a network made more expressive by pooling it over labelled copies of a graph."""

from graphpool.relational.copies import Copies
from graphpool.relational.encodings import Distance, Embedding, LabelEncoding, OneHot, Unmarked
from graphpool.relational.graphs import GraphBatch
from graphpool.relational.label_pooling import LabelPooling
from graphpool.relational.labelings import Labelings
from graphpool.relational.policies import POLICIES, LabelPolicy

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
    "Unmarked",
]
