"""One process of a group: trains a few steps on its share of each batch, and rank 0 writes what came out.

Arguments: what to train (graphs, points, meshes or bags), a folder, and the number of steps.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch_geometric.data import Batch

from graphpool import aggr
from graphpool.datasets import GeneratedMeshes, GeneratedParts, MaxDegree
from graphpool.models import GraphModel, MeshClassifier, PointNet2Classifier

BATCH = 4


def double(x: Tensor) -> Tensor:
    return x.double() if x.is_floating_point() else x


def fix_statistics(network: nn.Module) -> None:
    """Statistics of a batch depend on who is in it: each process would see those of its share."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


class Graphs(nn.Module):
    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.items = list(MaxDegree(folder, num_graphs=9))[:8]
        self.model = GraphModel(1, 8, 1, num_layers=2, aggr="gnp", readout="gnp").double()

    def forward(self, ids: list[int]) -> Tensor:
        batch = Batch.from_data_list([self.items[i] for i in ids])
        y = self.model(batch.x.double(), batch.edge_index, batch.batch, batch_size=len(ids))
        return (y - batch.y.double().view(-1, 1)).square().sum()


class Points(nn.Module):
    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.items = GeneratedParts(per_category=2, num_points=64)
        self.model = PointNet2Classifier(6, pool="gnp", width=8, dropout=0.0).double()
        fix_statistics(self)

    def forward(self, ids: list[int]) -> Tensor:
        batch = Batch.from_data_list([self.items[i] for i in ids])
        logits = self.model(batch.pos.double(), ptr=batch.ptr)
        return nn.functional.cross_entropy(logits, batch.category, reduction="sum")


class Meshes(nn.Module):
    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.items = GeneratedMeshes(8, "vase", num_faces=(100, 900))
        self.model = MeshClassifier(
            2, channels=(16,), heads=1, keep=(0.8,), reduce="gnp", readout="gnp", read="both"
        ).double()
        fix_statistics(self)

    def forward(self, ids: list[int]) -> Tensor:
        batch = Batch.from_data_list([self.items[i] for i in ids])
        logits = self.model(batch.apply(double))
        return nn.functional.cross_entropy(logits, torch.tensor(ids) % 2, reduction="sum")


class Bags(nn.Module):
    """Samples of bags, whose pool remembers the bags it has seen."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.x = torch.randn(8, 20, 3, dtype=torch.float64)
        self.lse = aggr.MIDAMLogSumExp(3, num_segments=8, gamma=0.5).double()
        self.attention = aggr.MIDAMAttention(3, num_segments=8, gamma=0.5).double()
        self.layer = nn.Linear(3, 3).double()
        self.step = 0

    def forward(self, ids: list[int]) -> Tensor:
        self.step += 1
        generator = torch.Generator().manual_seed(self.step)
        sample = torch.rand(8, 20, generator=generator).argsort(1)[:, :4]
        x = self.layer(torch.cat([self.x[i, sample[i]] for i in ids]))
        index, bag = torch.arange(len(ids)).repeat_interleave(4), torch.tensor(ids)
        soft = self.lse(x, index, dim_size=len(ids), segment_index=bag)
        scored = self.attention(x, index, dim_size=len(ids), segment_index=bag)
        return (soft.sum(1) + scored[:, 0] - bag % 2).square().sum()


def main() -> None:
    what, folder, steps = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    task = {"graphs": Graphs, "points": Points, "meshes": Meshes, "bags": Bags}[what](
        folder / f"data{rank}"
    )
    network = DistributedDataParallel(task, find_unused_parameters=True)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    losses = []
    for step in range(steps):
        ids = [(BATCH * step + i) % 8 for i in range(BATCH)]
        error = network(ids[rank::size])
        optimizer.zero_grad()
        (error * size / BATCH).backward()
        optimizer.step()
        total = error.detach().clone()
        dist.all_reduce(total)
        losses.append(total.item() / BATCH)
    state = task.state_dict()
    state = {name: value for name, value in state.items() if value.dtype != torch.bool}
    summary = {name: float(value.double().cos().sum()) for name, value in state.items()}
    (folder / f"rank{rank}of{size}.json").write_text(
        json.dumps({"losses": losses, "state": summary, "pid": os.getpid()})
    )
    # Its destructor waits, with Python's lock, for a thread that may want that lock: it must not come last.
    del network
    gc.collect()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
