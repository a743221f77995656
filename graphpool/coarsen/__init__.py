"""Coarsening: select, reduce, connect, lift. Graphs, voxels, face clusters and edge collapses speak it.

:class:`Selection` says which fine element belongs to which coarse one. :func:`reduce` pools the elements of
each coarse one with any pool, :func:`connect` joins coarse nodes whose members were joined, :func:`lift`
leads back. :func:`contract` is all of it in one call, and :class:`Coarsening` a layer with a selector that
may be learned.
"""

from graphpool.coarsen.connect import Connection, connect
from graphpool.coarsen.contract import Coarsened, contract
from graphpool.coarsen.layer import Coarsening
from graphpool.coarsen.lift import lift
from graphpool.coarsen.reduce import reduce
from graphpool.coarsen.select import Selected, Selection, select
from graphpool.coarsen.selectors import (
    KMIS,
    SAG,
    EdgeContraction,
    Matching,
    TopK,
    resolve_selector,
)

__all__ = [
    "KMIS",
    "SAG",
    "Coarsened",
    "Coarsening",
    "Connection",
    "EdgeContraction",
    "Matching",
    "Selected",
    "Selection",
    "TopK",
    "connect",
    "contract",
    "lift",
    "reduce",
    "resolve_selector",
    "select",
]
