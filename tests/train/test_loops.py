from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch_geometric.loader import DataLoader

from graphpool.datasets import MaxDegree, NBody, SetStatistics
from graphpool.train import GraphBatches, fit, predict


@pytest.mark.parametrize("cls", [MaxDegree, NBody])
def test_batches_equal_the_loader(tmp_path, cls):
    graphs = cls(tmp_path, num_graphs=45)
    for ours, theirs in zip(GraphBatches(graphs, 7), DataLoader(graphs, 7), strict=True):
        assert torch.equal(ours.x, theirs.x) and torch.equal(ours.y, theirs.y)
        assert torch.equal(ours.edge_index, theirs.edge_index)
        assert torch.equal(ours.nodes.index, theirs.batch)
        assert ours.num_graphs == theirs.num_graphs
        if cls is NBody:
            assert torch.equal(ours.edge_attr, theirs.edge_attr)


def test_indices_shuffling_and_sets(tmp_path):
    sets = SetStatistics(tmp_path, num_graphs=20)
    part = GraphBatches(sets, 4, indices=torch.tensor([3, 1, 7]))
    assert len(part) == 1
    (batch,) = part
    assert batch.edge_index is None
    assert torch.equal(batch.y, torch.cat([sets[i].y for i in (3, 1, 7)]))
    # A data set that is itself a selection.
    (batch,) = GraphBatches(sets[10:], 99, indices=torch.tensor([2]))
    assert torch.equal(batch.x, sets[12].x)
    mixed = GraphBatches(sets, 20, shuffle=True, generator=torch.Generator().manual_seed(0))
    first, second = (next(iter(mixed)).y for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(first.sort(0).values, second.sort(0).values)


def linear(model, batch):
    n = batch.nodes
    return model(torch.zeros(n.num_segments, 1).index_add(0, n.index, batch.x)) / 10


def test_fit_learns_and_returns_to_the_best_epoch(tmp_path):
    sets = SetStatistics(tmp_path, target="mean", num_graphs=60, sizes=(10, 11))
    torch.manual_seed(0)
    model = nn.Linear(1, 1)
    batches = GraphBatches(sets, 20)
    seen = []
    history = fit(
        model,
        batches,
        batches,
        torch.optim.Adam(model.parameters(), lr=0.3),
        epochs=25,
        loss=nn.functional.mse_loss,
        metric=nn.functional.l1_loss,
        forward=linear,
        after_epoch=lambda epoch, h: seen.append((epoch, h.validation[-1])),
    )
    assert [e for e, _ in seen] == list(range(25)) and len(history.train_loss) == 25
    assert history.validation[history.best_epoch] == min(history.validation)
    assert history.train_loss[-1] < 0.1 * history.train_loss[0]
    error = nn.functional.l1_loss(*predict(model, batches, linear))
    assert error.item() == pytest.approx(min(history.validation))


def test_what_is_validated_has_the_statistics_of_the_whole_training_set(tmp_path):
    sets = SetStatistics(tmp_path, target="mean", num_graphs=60, sizes=(10, 11))
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(1, affine=False)
    model = nn.Sequential(norm, nn.Linear(1, 1))
    order = torch.Generator().manual_seed(0)
    train, validation = GraphBatches(sets, 20, True, order), GraphBatches(sets, 7)
    seen = []
    fit(
        model, train, validation, torch.optim.SGD(model.parameters(), lr=0.1), 2, nn.functional.mse_loss,
        nn.functional.l1_loss, linear,
        after_epoch=lambda *_: seen.append((norm.running_mean.clone(), norm.running_var.clone())),
        restore_best=False,
    )  # fmt: skip
    nodes = [sets[i].x.sum(0).double() for i in range(60)]
    rows = torch.stack(nodes)
    assert len(seen) == 2
    for mean, var in seen:
        torch.testing.assert_close(mean.double(), rows.mean(0), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(var.double(), rows.var(0), rtol=1e-5, atol=1e-6)


def test_errors(tmp_path):
    sets = SetStatistics(tmp_path, num_graphs=6)
    with pytest.raises(ValueError, match="batch_size"):
        GraphBatches(sets, 0)
    with pytest.raises(ValueError, match="at least one graph"):
        GraphBatches(sets, 2, indices=torch.tensor([], dtype=torch.long))
    with pytest.raises(ValueError, match="transform"):
        GraphBatches(SetStatistics(tmp_path, num_graphs=6, transform=lambda d: d), 2)
    model = nn.Linear(1, 1)
    batches = GraphBatches(sets, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    mse = nn.functional.mse_loss
    with pytest.raises(ValueError, match="epochs"):
        fit(model, batches, batches, optimizer, 0, mse, mse, linear)
    with pytest.raises(FloatingPointError, match="epoch 0"):
        fit(model, batches, batches, optimizer, 1, lambda o, y: mse(o, y) * math.inf, mse, linear)
