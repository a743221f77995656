"""Coarsening: select, reduce, connect, lift. Graphs, voxels, face clusters and edge collapses speak it.

:class:`Selection` says which fine element belongs to which coarse one. :func:`reduce` pools the elements of
each coarse one with any pool, :func:`connect` joins coarse nodes whose members were joined, :func:`lift`
leads back. :func:`contract` is all of it in one call.
"""

from graphpool.coarsen.connect import Connection, connect
from graphpool.coarsen.contract import Coarsened, contract
from graphpool.coarsen.lift import lift
from graphpool.coarsen.reduce import reduce
from graphpool.coarsen.select import Selection, select

__all__ = [
    "Coarsened",
    "Connection",
    "Selection",
    "connect",
    "contract",
    "lift",
    "reduce",
    "select",
]
