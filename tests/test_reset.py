"""``reset_parameters`` gives every parameter of every module a fresh start."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.nn import GIN

from graphpool import conv, mesh, models, relational

MODULES = {
    "edge_conv": lambda: conv.EdgeConv(3, 4, aggr="gnp"),
    "pair_mlp": lambda: conv.PairMLPConv(3, 4, aggr="attsets"),
    "primal_dual_conv": lambda: mesh.PrimalDualConv((1, 8), (4, 4), heads=2),
    "primal_dual_residual": lambda: mesh.PrimalDualResidual((1, 8), (4, 4)),
    "face_cluster_pool": lambda: mesh.FaceClusterPool((4, 4), reduce="attsets"),
    "edge_collapse_pool": lambda: mesh.EdgeCollapsePool(4, target=10, reduce="attsets"),
    "label_pooling": lambda: relational.LabelPooling(GIN(4, 4, 2), 1, inner="gnp", outer="attsets"),
    "graph_model": lambda: models.GraphModel(3, 4, 2, aggr="gnp", readout="attsets"),
}


@pytest.mark.parametrize("name", MODULES)
def test_every_parameter_starts_afresh(name):
    torch.manual_seed(0)
    module = MODULES[name]()
    before = {key: p.detach().clone() for key, p in module.named_parameters()}
    assert before
    with torch.no_grad():
        for p in module.parameters():
            p.fill_(1e6)
    module.reset_parameters()
    for key, p in module.named_parameters():
        assert p.abs().max() < 1e3, key
        # What is constant is the same constant again; what is drawn is small again, see above.
        constant = before[key].numel() > 1 and float(before[key].std()) == 0
        if constant:
            assert torch.equal(p, before[key]), key
