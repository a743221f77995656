"""Pools: modules that work as neighbour aggregation, readout, point, voxel, face-cluster or set pool."""

from graphpool.aggr.attentive.attsets import AttSets
from graphpool.aggr.attentive.conjunctive import Conjunctive
from graphpool.aggr.attentive.delf import DELF
from graphpool.aggr.attentive.dsmil import DSMIL
from graphpool.aggr.attentive.dsvt import DSVTPool
from graphpool.aggr.attentive.faset import faset_parameter_groups, faset_stage
from graphpool.aggr.attentive.gated import GatedAttention
from graphpool.aggr.attentive.latent_attention import LatentAttention, LayerAttention
from graphpool.aggr.attentive.midam import MIDAMAttention, MIDAMLogSumExp
from graphpool.aggr.attentive.set2set import Set2Set
from graphpool.aggr.attentive.set_transformer import PMA, SetTransformer
from graphpool.aggr.attentive.slots import SlotAttention, SlotMixture
from graphpool.aggr.base import Aggregation
from graphpool.aggr.contributions import attention, contributions
from graphpool.aggr.multi import Multi
from graphpool.aggr.networks.deepsets import DeepSets
from graphpool.aggr.networks.fishnets import Fishnets
from graphpool.aggr.networks.inset import INSET
from graphpool.aggr.networks.mixers import PoNet, PoolFormer
from graphpool.aggr.networks.pyramid import Pyramid
from graphpool.aggr.networks.ward import WardPool
from graphpool.aggr.norms.adapool import AdaPool
from graphpool.aggr.norms.ggem import GGeM
from graphpool.aggr.norms.gnp import GNP, PaperGNP
from graphpool.aggr.norms.power import GeM, PowerMean
from graphpool.aggr.norms.softmax import LogSumExp, SoftPool
from graphpool.aggr.registry import lookup, names, register, resolve, unregister
from graphpool.aggr.robust.geometric_median import GeometricMedian
from graphpool.aggr.robust.soft_median import SoftMedian
from graphpool.aggr.robust.trimmed_mean import TrimmedMean
from graphpool.aggr.second_order.bilinear import Bilinear, ISqrtCov
from graphpool.aggr.second_order.lowrank import MFB, CompactBilinear, LowRankBilinear
from graphpool.aggr.statistics.kmax import DynamicKMax, KMax
from graphpool.aggr.statistics.moments import Max, Mean, Min, Mul, Std, Sum, Var
from graphpool.aggr.statistics.order import Median, Quantile
from graphpool.aggr.statistics.pna import PNA
from graphpool.aggr.statistics.shape import Moments, VariancePreserving
from graphpool.aggr.transport.fsw import FSW
from graphpool.aggr.transport.otke import OTKE
from graphpool.sets import ISAB, MinMaxAUCLoss, PoNetMixer, PoolMixer, SetEquivariant

__all__ = [
    "DELF",
    "FSW",
    "OTKE",
    "VariancePreserving",
    "Moments",
    "PNA",
    "TrimmedMean",
    "SoftMedian",
    "GeometricMedian",
    "Fishnets",
    "Set2Set",
    "GatedAttention",
    "DSMIL",
    "Conjunctive",
    "GNP",
    "INSET",
    "ISAB",
    "MFB",
    "PMA",
    "PaperGNP",
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
    "faset_parameter_groups",
    "faset_stage",
    "lookup",
    "names",
    "register",
    "resolve",
    "unregister",
]
