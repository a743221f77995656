"""Explainers of PyTorch Geometric over our models: what was planted is what they find."""

from __future__ import annotations

import pytest
import torch
import torch_geometric.nn as pyg
from torch import nn
from torch_geometric.explain import AttentionExplainer, Explainer, GNNExplainer, PGExplainer
from torch_geometric.explain.algorithm.utils import clear_masks, set_masks

from graphpool.conv import GATv2Conv
from graphpool.models import GraphModel
from graphpool.relational import LabelPooling

# A square among nodes 0 to 3 that carry a mark, and a path through nodes 4 to 9 that do not.
ENDS = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 7, 8, 3], [1, 2, 3, 0, 5, 6, 7, 8, 9, 4]])
EDGES = torch.cat([ENDS, ENDS.flip(0)], dim=1)
X = torch.tensor([1.0] * 4 + [0.0] * 6).unsqueeze(1)
PLANTED = torch.tensor([e for e in range(20) if e % 10 < 4])

CONFIG = {"mode": "regression", "task_level": "graph", "return_type": "raw"}


class SumOfMarks(nn.Module):
    """A layer that adds up the marks of the neighbours: edges between unmarked nodes do nothing."""

    out_channels = 1

    def __init__(self) -> None:
        super().__init__()
        self.conv = pyg.SimpleConv(aggr="sum")

    def forward(self, x, edge_index):
        return self.conv(x[..., :1], edge_index)


def found_by(explainer, model, **settings):
    torch.manual_seed(0)
    made = Explainer(
        model, explainer, explanation_type="model", edge_mask_type="object", model_config=CONFIG,
        **settings,
    )  # fmt: skip
    mask = made(X, EDGES).edge_mask
    assert mask.isfinite().all() and mask.shape == (20,)
    return mask


def model_of(kind):
    if kind == "GraphModel":
        torch.manual_seed(1)
        model = GraphModel(1, 1, 1, num_layers=1, conv="sage", encoder=None, readout="sum")
        with torch.no_grad():
            model.convs[0].lin_neighbors.weight.fill_(1.0)
            model.convs[0].lin_root.weight.fill_(0.0)
            model.head.weight.fill_(1.0)
        return model
    settings = {"rectangular": {}, "ragged": {}, "ego": {"policy": "ego", "hops": 2}}[kind]
    settings["max_copies"] = 3 if kind == "ragged" else None
    form = "rectangular" if kind == "rectangular" else "ragged"
    return LabelPooling(SumOfMarks(), 1, form=form, outer="mean", **settings)


@pytest.mark.parametrize("kind", ["GraphModel", "rectangular", "ragged", "ego"])
def test_the_planted_edges_are_the_most_important_ones(kind):
    model = model_of(kind).eval()
    mask = found_by(GNNExplainer(epochs=60, lr=0.1, edge_size=0.2), model)
    # An edge from node 3 to node 4 carries a mark, too; of the others none does.
    top = mask.topk(PLANTED.numel() + 1).indices
    assert set(PLANTED.tolist()) <= set(top.tolist())
    assert mask[PLANTED].min() > mask[[4, 5, 6, 7, 8, 14, 15, 16, 17, 18]].max()
    # The masks are gone.
    assert all(getattr(m, "_edge_mask", None) is None for m in model.modules())


@pytest.mark.parametrize("policy", [{}, {"policy": "ego", "hops": 1}, {"sample": 4}])
def test_the_mask_of_an_edge_is_that_of_its_copies(policy):
    """Against a loop over the copies, and the derivative against differences."""
    pooling = LabelPooling(SumOfMarks().double(), 1, form="ragged", outer="sum", **policy)
    x, logits = X.double(), torch.randn(20, dtype=torch.double)

    def run(mask):
        set_masks(pooling, mask, EDGES)
        torch.manual_seed(3)
        y = pooling(x, EDGES, generator=torch.Generator().manual_seed(2))
        clear_masks(pooling)
        return y

    mask = nn.Parameter(logits)
    (slope,) = torch.autograd.grad(run(mask).sum(), mask)
    assert slope.isfinite().all() and (slope[PLANTED] != 0).all()
    for e in (0, 9, 13):
        step = torch.zeros(20, dtype=torch.double)
        step[e] = 1e-5
        with torch.no_grad():
            difference = run(nn.Parameter(logits + step)) - run(nn.Parameter(logits - step))
        torch.testing.assert_close(slope[e], difference.sum() / 2e-5, rtol=1e-6, atol=1e-8)
    if not policy:
        whole = LabelPooling(SumOfMarks().double(), 1, form="rectangular", outer="sum")
        set_masks(whole, mask, EDGES)
        expected = whole(x, EDGES)
        torch.testing.assert_close(run(mask), expected)


def test_a_parametric_explainer():
    model = model_of("ragged").eval()
    explainer = PGExplainer(epochs=30, lr=0.02, edge_size=0.5)
    made = Explainer(
        model,
        explainer,
        explanation_type="phenomenon",
        edge_mask_type="object",
        model_config=CONFIG,
    )
    torch.manual_seed(0)
    target = model(X, EDGES).detach()
    for epoch in range(30):
        assert abs(made.algorithm.train(epoch, model, X, EDGES, target=target)) < torch.inf
    mask = made(X, EDGES, target=target).edge_mask
    assert mask.shape == (20,) and mask.isfinite().all()


def test_an_explainer_that_listens_to_attention():
    torch.manual_seed(0)
    model = GraphModel(1, 4, 1, num_layers=2, conv="gatv2", readout="sum").eval()
    mask = found_by(AttentionExplainer(), model)
    assert (mask > 0).all()
    over_copies = LabelPooling(GATv2Conv(2, 4), 1).eval()
    with pytest.raises(ValueError, match="GATv2Conv attends to copies of the edges.*GNNExplainer"):
        found_by(AttentionExplainer(), over_copies)
