"""Generators and loaders. Everything comes out as :class:`torch_geometric.data.Data`."""

from .extrapolation import HarmonicDegree, InverseSize, MaxDegree, ShortestPath
from .nbody import NBody
from .sets import SetStatistics
from .tu import TUGraphs

__all__ = [
    "HarmonicDegree",
    "InverseSize",
    "MaxDegree",
    "NBody",
    "SetStatistics",
    "ShortestPath",
    "TUGraphs",
]
