"""Pools: modules that work as neighbour aggregation, readout, point, voxel, face-cluster or set pool."""

from graphpool.aggr.adapool import AdaPool
from graphpool.aggr.attsets import AttSets
from graphpool.aggr.base import Aggregation
from graphpool.aggr.basic import Max, Mean, Min, Mul, Std, Sum, Var
from graphpool.aggr.bilinear import Bilinear, ISqrtCov
from graphpool.aggr.contributions import attention, contributions
from graphpool.aggr.deepsets import DeepSets, SetEquivariant
from graphpool.aggr.delf import DELF
from graphpool.aggr.dsvt import DSVTPool
from graphpool.aggr.faset import faset_parameter_groups, faset_stage
from graphpool.aggr.ggem import GGeM
from graphpool.aggr.gnp import GNP, exponent_parameter_groups
from graphpool.aggr.inset import INSET
from graphpool.aggr.kmax import DynamicKMax, KMax
from graphpool.aggr.latent_attention import LatentAttention, LayerAttention
from graphpool.aggr.lowrank import MFB, CompactBilinear, LowRankBilinear
from graphpool.aggr.midam import MIDAMAttention, MIDAMLogSumExp, MinMaxAUCLoss
from graphpool.aggr.mixers import PoNet, PoNetMixer, PoolFormer, PoolMixer
from graphpool.aggr.multi import Multi
from graphpool.aggr.order import Median, Quantile
from graphpool.aggr.power import GeM, PowerMean
from graphpool.aggr.pyramid import Pyramid
from graphpool.aggr.registry import lookup, names, register, resolve, unregister
from graphpool.aggr.set_transformer import ISAB, PMA, SetTransformer
from graphpool.aggr.slots import SlotAttention, SlotMixture
from graphpool.aggr.softmax import LogSumExp, SoftPool
from graphpool.aggr.ward import WardPool

__all__ = [
    "DELF",
    "GNP",
    "INSET",
    "ISAB",
    "MFB",
    "PMA",
    "AdaPool",
    "Aggregation",
    "AttSets",
    "Bilinear",
    "CompactBilinear",
    "DSVTPool",
    "DeepSets",
    "DynamicKMax",
    "GGeM",
    "GeM",
    "ISqrtCov",
    "KMax",
    "LatentAttention",
    "LayerAttention",
    "LogSumExp",
    "LowRankBilinear",
    "MIDAMAttention",
    "MIDAMLogSumExp",
    "Max",
    "Mean",
    "Median",
    "Min",
    "Mul",
    "MinMaxAUCLoss",
    "Multi",
    "PoNet",
    "PoNetMixer",
    "PoolFormer",
    "PoolMixer",
    "PowerMean",
    "Pyramid",
    "Quantile",
    "SetEquivariant",
    "SetTransformer",
    "SlotAttention",
    "SlotMixture",
    "SoftPool",
    "Std",
    "Sum",
    "Var",
    "WardPool",
    "attention",
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
