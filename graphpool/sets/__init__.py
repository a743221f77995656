"""Layers from bags to bags, and losses of bags; :mod:`graphpool.aggr` offers them beside its pools."""

from graphpool.sets.attention import ISAB
from graphpool.sets.equivariant import SetEquivariant
from graphpool.sets.losses import MinMaxAUCLoss
from graphpool.sets.mixers import PoNetMixer, PoolMixer

__all__ = ["ISAB", "MinMaxAUCLoss", "PoNetMixer", "PoolMixer", "SetEquivariant"]
