"""Message passing with any pool over the neighbours."""

from .edge import EdgeConv, PairMLPConv
from .gat import GATv2Conv
from .gin import GINConv
from .neighborhoods import Neighborhoods, neighborhoods
from .sage import SAGEConv

__all__ = [
    "EdgeConv",
    "GATv2Conv",
    "GINConv",
    "Neighborhoods",
    "PairMLPConv",
    "SAGEConv",
    "neighborhoods",
]
