from __future__ import annotations

import pytest
import torch

from graphpool import aggr
from graphpool.aggr.attentive.faset import faset_parameter_groups, faset_stage


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = torch.nn.Linear(3, 4)
        self.pool = aggr.AttSets(4)
        self.decoder = torch.nn.Linear(4, 2)

    def forward(self, x, index, size):
        return self.decoder(self.pool(self.encoder(x), index, dim_size=size))


def test_groups_cover_every_parameter_once():
    model = Model()
    groups = faset_parameter_groups(model)
    assert {id(p) for p in groups["attention"]} == {id(p) for p in model.pool.parameters()}
    together = [id(p) for group in groups.values() for p in group]
    assert sorted(together) == sorted(id(p) for p in model.parameters())


def test_bags_of_one_give_the_attention_no_gradient():
    model, x = Model(), torch.randn(5, 3)
    model(x, torch.arange(5), 5).sum().backward()
    assert model.pool.score.weight.grad.abs().max() < 1e-7
    assert model.encoder.weight.grad.abs().max() > 0


@pytest.mark.parametrize("stage", ["base", "attention"])
def test_a_stage_changes_only_its_parameters(stage):
    model, x = Model(), torch.randn(6, 3)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model.decoder.bias.requires_grad_(False)
    with faset_stage(model, stage) as parameters:
        optimizer = torch.optim.SGD(parameters, lr=1.0)
        model(x, torch.tensor([0, 0, 0, 1, 1, 1]), 2).square().sum().backward()
        optimizer.step()
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    attention = {"pool.score.weight"}  # the softmax cancels the bias
    assert changed - {"pool.score.bias"} == (
        attention if stage == "attention" else set(before) - attention - {"pool.score.bias"}
    )
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["decoder.bias"]


def test_after_the_attention_stage_bags_of_one_are_as_before():
    model, x = Model(), torch.randn(6, 3)
    before = model(x, torch.arange(6), 6)
    with faset_stage(model, "attention") as parameters:
        optimizer = torch.optim.Adam(parameters, lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            model(x, torch.tensor([0, 0, 0, 1, 1, 1]), 2).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(model(x, torch.arange(6), 6), before)


def test_conv_shaped_elements():
    """Maps as elements: the scores are those of a 1x1 convolution, the softmax is per position."""
    pool = aggr.AttSets(3).double()
    maps = torch.randn(7, 3, 4, 5, dtype=torch.float64)
    index = torch.tensor([0, 2, 0, 2, 2, 0, 0])
    y = pool(maps.movedim(1, -1), index, dim_size=3, dim=0).movedim(-1, 1)
    score = torch.nn.functional.conv2d(maps, pool.score.weight[:, :, None, None], pool.score.bias)
    for bag in (0, 2):
        rows = index == bag
        expected = (score[rows].softmax(0) * maps[rows]).sum(0)
        torch.testing.assert_close(y[bag], expected)
    assert (y[1] == 0).all()


def test_bad_arguments():
    with pytest.raises(ValueError, match="holds no AttSets"):
        faset_parameter_groups(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="channels=-1"):
        faset_parameter_groups(torch.nn.ModuleList([aggr.AttSets(-1)]))
    with pytest.raises(ValueError, match="`stage` must be one of"), faset_stage(Model(), "third"):
        pass
