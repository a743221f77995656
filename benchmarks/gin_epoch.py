"""One training epoch of a GIN with softmax aggregation, here and in PyG, on the same random graph.

    python benchmarks/gin_epoch.py --quick

Three layers of ``MLP((1 + eps) h_i + aggregate h_j)`` with batch norm. Ours reads the neighbours in place
(``gather``); PyG's makes the messages first. Both start from the same weights and see the same data, so
their losses must agree.
"""

from __future__ import annotations

import torch
from _common import in_turn, machine, make_parser, peak_extra_memory, prepare, record, table
from _scripts import run as run_script
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.nn import GINConv
from torch_geometric.nn.aggr import SoftmaxAggregation

from graphpool import Segments, ops


def mlp(inputs: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden))


class Gin(nn.Module):
    """Three layers; ``aggregate(h, t)`` pools the neighbours of every node."""

    def __init__(self, features: int, hidden: int, classes: int) -> None:
        super().__init__()
        widths = [features, hidden, hidden]
        self.mlps = nn.ModuleList(mlp(width, hidden) for width in widths)
        self.norms = nn.ModuleList(nn.BatchNorm1d(hidden) for _ in widths)
        self.t = nn.ParameterList(torch.ones(1) for _ in widths)
        self.out = nn.Linear(hidden, classes)

    def forward(self, h: Tensor, segments: Segments, sources: Segments) -> Tensor:
        for net, norm, t in zip(self.mlps, self.norms, self.t, strict=True):
            pooled = ops.segment_softpool(h, segments, t, gather=sources)
            h = norm(net(h + pooled)).relu()
        return self.out(h)


class PygGin(nn.Module):
    def __init__(self, features: int, hidden: int, classes: int) -> None:
        super().__init__()
        widths = [features, hidden, hidden]
        self.convs = nn.ModuleList(
            GINConv(mlp(width, hidden), aggr=SoftmaxAggregation(learn=True)) for width in widths
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(hidden) for _ in widths)
        self.out = nn.Linear(hidden, classes)

    def forward(self, h: Tensor, edge_index: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            h = norm(conv(h, edge_index)).relu()
        return self.out(h)


def same_start(ours: Gin, theirs: PygGin) -> None:
    for net, conv in zip(ours.mlps, theirs.convs, strict=True):
        net.load_state_dict(conv.nn.state_dict())
    ours.norms.load_state_dict(theirs.norms.state_dict())
    ours.out.load_state_dict(theirs.out.state_dict())


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--nodes", type=int, default=50_000, help="with 16 edges each")
    parser.add_argument("--epochs", type=int, default=3, help="of the comparison of losses")
    args = parser.parse_args()
    prepare(args)
    nodes = 2_000 if args.quick else args.nodes
    edges = 16 * nodes
    hidden, classes = 64, 10
    edge_index = torch.randint(nodes, (2, edges))
    x, y = torch.randn(nodes, hidden), torch.randint(classes, (nodes,))
    edge_index, x, y = (v.to(args.device) for v in (edge_index, x, y))
    segments = Segments(index=edge_index[1], num_segments=nodes)
    sources = Segments(index=edge_index[0], num_segments=nodes)
    theirs = PygGin(hidden, hidden, classes).to(args.device)
    ours = Gin(hidden, hidden, classes).to(args.device)
    same_start(ours, theirs)
    runs = {"graphpool": (ours, (segments, sources)), "PyG": (theirs, (edge_index,))}
    losses: dict[str, list[float]] = {name: [] for name in runs}
    optimisers = {name: torch.optim.Adam(m.parameters(), 1e-3) for name, (m, _) in runs.items()}

    def epoch(name: str):
        def step() -> None:
            model, where = runs[name]
            optimisers[name].zero_grad()
            loss = F.cross_entropy(model(x, *where), y)
            loss.backward()
            optimisers[name].step()
            losses[name].append(float(loss.detach()))

        return step

    steps = {name: epoch(name) for name in runs}
    args.repeats = max(1, args.epochs - 1)
    times = in_turn(steps, args)
    drift = max(abs(a - b) for a, b in zip(losses["graphpool"], losses["PyG"], strict=True))
    ratio = times["PyG"] / times["graphpool"]
    record(args, "gin_epoch", "ms", times["graphpool"], "PyG", times["PyG"])
    rows = [["ms per epoch", *(f"{times[n]:.0f}" for n in runs), f"{ratio:.1f}x"]]
    if args.device == "cpu":
        memory = {name: peak_extra_memory(step) for name, step in steps.items()}
        rows.append(["peak extra memory, MiB", *(f"{memory[n]:.0f}" for n in runs), ""])
    text = (
        f"## GIN, {nodes:,} nodes, {edges:,} edges\n\n{machine(args)}\n\n"
        f"{table(['', *runs, 'ratio'], rows)}\n\n"
        f"Largest difference of the losses over {args.epochs} epochs: {drift:.1e}\n"
    )
    print(text)
    (args.out / "gin_epoch.md").write_text(text)


if __name__ == "__main__":
    run_script(main)
