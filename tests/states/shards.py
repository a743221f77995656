"""One process of a group that holds a share of the same bags; writes what came out.

Arguments: what to do, rank, number of processes, a folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

import graphpool
from graphpool import aggr
from graphpool.conv import SAGEConv
from graphpool.states import average_gradients

SHARES = {1: [0, 1001], 2: [0, 200, 1001], 4: [0, 0, 500, 501, 1001]}
"""Where the elements of each process begin; one of four has none."""


def data() -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(3)
    x = torch.randn(1001, 3, generator=g, dtype=torch.float64)
    return x, torch.randint(2, (1001,), generator=g)


def network(name: str) -> tuple[nn.Module, aggr.Aggregation, nn.Module]:
    torch.manual_seed(0)
    pool = aggr.resolve(name, channels=4).double()
    encoder = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 4)).double()
    return encoder, pool, nn.Linear(pool.out_channels or 4, 1).double()


def train(rank: int, size: int, name: str) -> dict:
    """Twenty steps on two bags that all processes hold together."""
    encoder, pool, head = network(name)
    modules = nn.ModuleList([encoder, pool, head])
    # Long steps of GNP double the last bit's difference again and again, in one process as in several.
    optimizer = torch.optim.SGD(modules.parameters(), lr=1e-3 if name == "logsumexp" else 1e-5)
    x, bag = data()
    rows = slice(SHARES[size][rank], SHARES[size][rank + 1])
    pieces = list(zip(x[rows].split(97), bag[rows].split(97), strict=True))
    losses = []
    for _ in range(20):
        y = graphpool.stream(encoder, pool, pieces, 2, group=dist.group.WORLD)
        loss = (head(y).squeeze(1) - torch.tensor([1.0, -1.0])).square().mean()
        optimizer.zero_grad()
        loss.backward()
        average_gradients(modules.parameters())
        optimizer.step()
        losses.append(loss.item())
    gradients = [p.grad for p in modules.parameters()]
    return {"losses": losses, "gradients": gradients, "state": modules.state_dict()}


def trap(rank: int, size: int, name: str) -> dict:
    """What sums of gradients would be, and those of the collective with a derivative."""
    encoder, pool, head = network(name)
    x, bag = data()
    rows = slice(SHARES[size][rank], SHARES[size][rank + 1])
    y = graphpool.stream(encoder, pool, [(x[rows], bag[rows])], 2, group=dist.group.WORLD)
    head(y).sum().backward()
    before, behind = encoder[0].weight.grad.clone(), head.weight.grad.clone()
    dist.all_reduce(before)
    dist.all_reduce(behind)
    return {"before": before, "behind": behind}


def graph(rank: int, size: int, name: str) -> dict:
    """A readout of a graph of which each process holds some nodes, with their neighbours around them."""
    _, pool, head = network(name)
    torch.manual_seed(1)
    conv = SAGEConv(3, 4, aggr="mean").double()
    x, _ = data()
    x, edges = x[:60], torch.randint(60, (2, 300), generator=torch.Generator().manual_seed(5))
    own = (torch.arange(60) * size) // 60 == rank
    mine = edges[:, own[edges[1]]]
    there = own.clone()
    there[mine[0]] = True
    number = there.long().cumsum(0) - 1
    # Neighbours of other processes send messages, and count as 0 in the readout.
    piece = ((x[there], number[mine]), None, own[there].double())
    y = graphpool.stream(conv, pool, [piece], group=dist.group.WORLD)
    loss = head(y).square().sum()
    loss.backward()
    modules = nn.ModuleList([conv, pool, head])
    average_gradients(modules.parameters())
    return {"losses": [loss.item()], "gradients": [p.grad for p in modules.parameters()]}


def bits(rank: int, size: int, name: str) -> dict:
    """Sums in fixed point of elements that are dealt out in another way to every number of processes."""
    _, pool, _ = network(name)
    g = torch.Generator().manual_seed(9)
    x, bag = torch.randn(1001, 4, generator=g, dtype=torch.float64), data()[1]
    fixed = pool.begin(2).add(x, bag).fixed_point(40)
    order = torch.randperm(1001, generator=torch.Generator().manual_seed(size))
    for rows in order[rank::size].split(100 + size):
        fixed.add(x[rows], bag[rows])
    fixed.all_reduce()
    return {"state": fixed.state_dict(), "pieces": fixed.pieces}


def main() -> None:
    what, name, rank, size, folder = sys.argv[1:]
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=int(rank), world_size=int(size)
    )
    job = {"train": train, "trap": trap, "graph": graph, "bits": bits}[what]
    torch.save(job(int(rank), int(size), name), Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
