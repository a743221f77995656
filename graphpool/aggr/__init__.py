"""Pools: modules that work as neighbour aggregation, readout, point, voxel, face-cluster or set pool."""

from graphpool.aggr.attsets import AttSets
from graphpool.aggr.base import Aggregation
from graphpool.aggr.basic import Max, Mean, Min, Std, Sum, Var
from graphpool.aggr.contributions import contributions
from graphpool.aggr.gnp import GNP, exponent_parameter_groups
from graphpool.aggr.multi import Multi
from graphpool.aggr.order import Median, Quantile
from graphpool.aggr.power import GeM, PowerMean
from graphpool.aggr.registry import lookup, names, register, resolve, unregister
from graphpool.aggr.softmax import LogSumExp, SoftPool

__all__ = [
    "AttSets",
    "Aggregation",
    "GNP",
    "GeM",
    "LogSumExp",
    "Max",
    "Mean",
    "Median",
    "Min",
    "Multi",
    "PowerMean",
    "Quantile",
    "SoftPool",
    "Std",
    "Sum",
    "Var",
    "contributions",
    "exponent_parameter_groups",
    "lookup",
    "names",
    "register",
    "resolve",
    "unregister",
]
