"""Batches of small graphs, where a step is calls and hardly any arithmetic: here and in PyG.

    python benchmarks/small_batches.py --quick

Graphs of 18 nodes and 40 edges, as molecules are; three GIN layers of width 32 and a readout. Every step
sees a batch of its own, as from a loader, so that nothing of it has been sorted before. Both networks have
the same weights, and their outputs must agree.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable

import torch
from _common import in_turn, machine, make_parser, prepare, record, table
from _scripts import run as run_script
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric import nn as pyg
from torch_geometric.data import Batch, Data
from torch_geometric.nn.resolver import aggregation_resolver

from graphpool import aggr
from graphpool.conv import GINConv

NODES, EDGES, FEATURES, WIDTH = 18, 40, 7, 32
POOLS = ("sum", "mean", "max", "softmax")


def mlp(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))


class Network(nn.Module):
    """Convolutions, a readout and a linear map, whichever library they are from."""

    def __init__(self, convs: list[nn.Module], readout: nn.Module) -> None:
        super().__init__()
        self.convs, self.readout, self.out = nn.ModuleList(convs), readout, nn.Linear(WIDTH, 2)

    def forward(self, batch: Batch) -> Tensor:
        x = batch.x
        for conv in self.convs:
            x = conv(x, batch.edge_index).relu()
        return self.out(self.readout(x, batch.batch, dim_size=batch.num_graphs))


def networks(pool: str) -> dict[str, Network]:
    """Both, with the same weights."""
    widths = (FEATURES, WIDTH, WIDTH)
    theirs = aggregation_resolver(pool)
    found = {
        "graphpool": Network(
            [GINConv(w, WIDTH, aggr=pool, nn=mlp(w)) for w in widths], aggr.resolve(pool, WIDTH)
        ),
        "PyG": Network([pyg.GINConv(mlp(w), aggr=copy.deepcopy(theirs)) for w in widths], theirs),
    }
    for ours, other in zip(found["graphpool"].convs, found["PyG"].convs, strict=True):
        ours.nn.load_state_dict(other.nn.state_dict())
    found["graphpool"].out.load_state_dict(found["PyG"].out.state_dict())
    return found


def batches(graphs: int, count: int) -> list[Batch]:
    return [
        Batch.from_data_list(
            [
                Data(x=torch.randn(NODES, FEATURES), edge_index=torch.randint(NODES, (2, EDGES)))
                for _ in range(graphs)
            ]
        )
        for _ in range(count)
    ]


def call(model: Network, data: list[Batch], labels: Tensor, train: bool) -> Callable[[], None]:
    """A step of training, or a forward pass, on the next batch."""
    queue = itertools.cycle(data)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)

    def forward() -> None:
        with torch.no_grad():
            model(next(queue))

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(next(queue)), labels).backward()
        optimizer.step()

    return step if train else forward


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--graphs", type=int, nargs="+", default=[8, 64, 512], help="in a batch")
    args = parser.parse_args()
    prepare(args)
    args.repeats = 2 if args.quick else max(args.repeats, 25)
    rows = []
    for graphs, pool in itertools.product([8] if args.quick else args.graphs, POOLS):
        models = networks(pool)
        data = [b.to(args.device) for b in batches(graphs, 2 * args.repeats + 1)]
        labels = torch.randint(2, (graphs,), device=args.device)
        with torch.no_grad():
            ours, theirs = (models[name].to(args.device)(data[0]) for name in models)
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)

        row = [graphs, f"`{pool}`"]
        for train in (False, True):
            calls = {name: call(model, data, labels, train) for name, model in models.items()}
            times = in_turn(calls, args)
            ratio = times["graphpool"] / times["PyG"]
            row += [f"{times['graphpool']:.2f}", f"{times['PyG']:.2f}", f"{ratio:.2f}"]
            if train:
                key = f"small_batches_{graphs}_{pool}"
                record(args, key, "ms", times["graphpool"], "PyG", times["PyG"])
        rows.append(row)
    headers = ["graphs", "pool", "forward, ms", "PyG", "ratio", "step, ms", "PyG", "ratio"]
    text = f"## Batches of small graphs\n\n{machine(args)}\n\n{table(headers, rows)}\n"
    print(text)
    (args.out / "small_batches.md").write_text(text)


if __name__ == "__main__":
    run_script(main)
