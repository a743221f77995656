"""Pools: modules that work as neighbour aggregation, readout, point, voxel, face-cluster or set pool."""

from graphpool.aggr.adapool import AdaPool
from graphpool.aggr.attsets import AttSets
from graphpool.aggr.base import Aggregation
from graphpool.aggr.basic import Max, Mean, Min, Std, Sum, Var
from graphpool.aggr.bilinear import Bilinear, ISqrtCov
from graphpool.aggr.contributions import contributions
from graphpool.aggr.deepsets import DeepSets, SetEquivariant
from graphpool.aggr.faset import faset_parameter_groups, faset_stage
from graphpool.aggr.ggem import GGeM
from graphpool.aggr.gnp import GNP, exponent_parameter_groups
from graphpool.aggr.kmax import DynamicKMax, KMax
from graphpool.aggr.lowrank import MFB, CompactBilinear, LowRankBilinear
from graphpool.aggr.multi import Multi
from graphpool.aggr.order import Median, Quantile
from graphpool.aggr.power import GeM, PowerMean
from graphpool.aggr.registry import lookup, names, register, resolve, unregister
from graphpool.aggr.set_transformer import ISAB, PMA, SetTransformer
from graphpool.aggr.softmax import LogSumExp, SoftPool

__all__ = [
    "GNP",
    "ISAB",
    "MFB",
    "PMA",
    "AdaPool",
    "Aggregation",
    "AttSets",
    "Bilinear",
    "CompactBilinear",
    "DeepSets",
    "DynamicKMax",
    "GGeM",
    "GeM",
    "ISqrtCov",
    "KMax",
    "LogSumExp",
    "LowRankBilinear",
    "Max",
    "Mean",
    "Median",
    "Min",
    "Multi",
    "PowerMean",
    "Quantile",
    "SetEquivariant",
    "SetTransformer",
    "SoftPool",
    "Std",
    "Sum",
    "Var",
    "contributions",
    "exponent_parameter_groups",
    "faset_parameter_groups",
    "faset_stage",
    "lookup",
    "names",
    "register",
    "resolve",
    "unregister",
]
