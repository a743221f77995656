"""Networks that read the weights of other networks."""

from graphpool.models.weight_space.entries import Perceptrons, WeightTable
from graphpool.models.weight_space.layers import DWSLayer
from graphpool.models.weight_space.network import DWSNet

__all__ = ["DWSLayer", "DWSNet", "Perceptrons", "WeightTable"]
