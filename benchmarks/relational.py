"""Labelled copies of molecule-sized graphs: building them, and pooling a GIN over them, with loops beside.

    python benchmarks/relational.py --clock cpu --threads 1

The loop builds one copy after the other, as subgraph networks usually do before training: PyG's
``k_hop_subgraph`` (or the whole graph), a mark, and ``Batch.from_data_list`` at the end.
"""

from __future__ import annotations

import argparse
from itertools import product

import torch
from _common import in_turn, machine, make_parser, peak_extra_memory, prepare, record, table, timed
from _scripts import run as run_script
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GIN
from torch_geometric.utils import k_hop_subgraph, to_undirected

from graphpool.relational import Copies, GraphBatch, LabelPolicy, LabelPooling

NODES = 23


def molecule_sized(count: int, seed: int) -> list[Data]:
    """Random graphs as large and as sparse as the molecules of ZINC: 23 nodes, 24 or 25 edges."""
    generator = torch.Generator().manual_seed(seed)
    graphs = []
    for _ in range(count):
        node = torch.arange(1, NODES)
        parent = (node - 1 - torch.randint(3, node.shape, generator=generator)).clamp(min=0)
        rings = torch.tensor([[0, 7, 12], [5, 12, 17]])
        edges = to_undirected(torch.cat([torch.stack([parent, node]), rings], dim=1))
        graphs.append(Data(x=torch.ones(NODES, 1), edge_index=edges, num_nodes=NODES))
    return graphs


def vectorised(batch: Batch, policy: LabelPolicy) -> tuple[Copies, Tensor]:
    graphs = GraphBatch(batch.edge_index, batch.num_nodes, batch.batch, batch.num_graphs)
    copies = policy.copies(graphs, policy.labelings(graphs))
    return copies, torch.cat([batch.x[copies.node], copies.marks().float()], dim=1)


def with_loops(graphs: list[Data], policy: LabelPolicy) -> Batch:
    copies = []
    for data in graphs:
        for labels in product(range(NODES), repeat=policy.labels):
            marks = torch.zeros(NODES, policy.labels)
            marks[list(labels), range(policy.labels)] = 1
            x, edges = torch.cat([data.x, marks], dim=1), data.edge_index
            if policy.hops is not None:
                kept, edges, _, _ = k_hop_subgraph(
                    list(labels), policy.hops, edges, relabel_nodes=True, num_nodes=NODES
                )
                x = x[kept]
            copies.append(Data(x=x, edge_index=edges))
    return Batch.from_data_list(copies)


CASES = (
    ("one label, whole graphs", 128, LabelPolicy("all", 1), 15.0),
    ("one label, 3 hops", 128, LabelPolicy("ego", 1, hops=3), None),
    ("two labels, 2 hops", 32, LabelPolicy("ego", 2, hops=2), 150.0),
    ("two labels, whole graphs", 32, LabelPolicy("all", 2), None),
)


def building(args: argparse.Namespace) -> str:
    rows = []
    for name, count, policy, limit in CASES:
        count = 4 if args.quick else count
        graphs = molecule_sized(count, args.seed)
        batch = Batch.from_data_list(graphs)
        copies, _ = vectorised(batch, policy)
        ours = in_turn({"ours": lambda b=batch, p=policy: vectorised(b, p)}, args)["ours"]
        looped = with_loops(graphs, policy)  # the warm-up, too
        theirs = timed(lambda g=graphs, p=policy: with_loops(g, p), args)
        if looped.num_nodes != copies.num_nodes or looped.num_edges != copies.edge_index.size(1):
            raise RuntimeError(f"{name}: the loop and graphpool built different copies")
        record(args, f"relational {name}", "ms", ours, "loop with PyG", theirs)
        target = "" if limit is None else f"{limit:.0f} ms"
        rows.append(
            [name, count, copies.num_copies, copies.num_nodes, copies.edge_index.size(1)]
            + [f"{ours:.1f} ms", target, f"{theirs:.0f} ms", f"{theirs / ours:.0f}x"]
        )
    return table(
        ["copies", "graphs", "copies", "nodes", "edges", "graphpool", "target", "loop", "ratio"],
        rows,
    )


def pooling(args: argparse.Namespace) -> str:
    """Forward, and forward with backward, of a 3-layer GIN of width 64 in both forms and in pieces."""
    rows = []
    for labels, count in ((1, 128), (2, 8)):
        batch = Batch.from_data_list(molecule_sized(2 if args.quick else count, args.seed))
        gnn = GIN(1 + labels, 64, 3)
        variants = {
            (form, chunk): LabelPooling(gnn, labels, form=form, max_copies=chunk)
            for form in ("ragged", "rectangular")
            for chunk in (None, 1024)
        }

        def forward(model, batch=batch):
            with torch.no_grad():
                return model(batch.x, batch.edge_index, batch.batch, batch.num_graphs)

        def step(model, batch=batch):
            return model(batch.x, batch.edge_index, batch.batch, batch.num_graphs).sum().backward()

        for what, run in (("forward", forward), ("forward and backward", step)):
            times = in_turn(
                {str(key): lambda m=model, r=run: r(m) for key, model in variants.items()}, args
            )
            for key, model in variants.items():
                memory = peak_extra_memory(lambda m=model, r=run: r(m))
                rows.append(
                    [labels, batch.num_graphs, what, key[0], key[1] or "all"]
                    + [f"{times[str(key)]:.0f} ms", f"{memory:.0f} MiB"]
                )
    return table(["labels", "graphs", "what", "form", "copies at once", "time", "memory"], rows)


def main() -> None:
    parser = make_parser(__doc__)
    parts = {"building": building, "pooling": pooling}
    parser.add_argument("--parts", nargs="+", default=list(parts), choices=list(parts))
    args = parser.parse_args()
    prepare(args)
    text = [machine(args)]
    for name in args.parts:
        text.append(parts[name](args))
        print(text[-1], flush=True)
    (args.out / "relational.md").write_text("\n\n".join(text) + "\n")


if __name__ == "__main__":
    run_script(main)
