"""Message passing with any pool over the neighbours."""

from graphpool.conv.edge import EdgeConv, PairMLPConv
from graphpool.conv.gat import GATv2Conv
from graphpool.conv.gin import GINConv
from graphpool.conv.neighborhoods import Neighborhoods, neighborhoods
from graphpool.conv.sage import SAGEConv

__all__ = [
    "EdgeConv",
    "GATv2Conv",
    "GINConv",
    "Neighborhoods",
    "PairMLPConv",
    "SAGEConv",
    "neighborhoods",
]
