"""Bags in pieces: states that merge, streams, windows, processes.

A pool gives a state (``pool.begin(num_bags)``), pieces are added to it, states are merged, and the result is
that of all elements at once, its gradients included. See the guide to streams.
"""

from graphpool.states.bag_state import BagState
from graphpool.states.clusters import from_dask
from graphpool.states.families import (
    Central,
    Exponential,
    Extremum,
    Largest,
    Sums,
)
from graphpool.states.mergeable import Mapped, Mergeable, Several, Tensors, size_of
from graphpool.states.powers import Powers, magnitude
from graphpool.states.processes import average_gradients
from graphpool.states.quantiles import QuantileSketch, exact_quantile
from graphpool.states.streams import stream
from graphpool.states.window import Window

__all__ = [
    "BagState",
    "Central",
    "Exponential",
    "Extremum",
    "Largest",
    "Mapped",
    "Mergeable",
    "Powers",
    "QuantileSketch",
    "Several",
    "Sums",
    "Tensors",
    "Window",
    "average_gradients",
    "exact_quantile",
    "from_dask",
    "magnitude",
    "size_of",
    "stream",
]
