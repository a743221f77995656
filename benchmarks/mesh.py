"""Meshes: building graphs, pooling, collapsing edges and an epoch of training, with the loops beside.

    python benchmarks/mesh.py --bunny path/to/stanford-bunny.obj

Loops are those of ``tests/mesh/loop_reference.py``: dictionaries and union-find, one node at a time.
Times are medians over repeats in one process.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import torch
from _common import make_parser, prepare, record, table, timed
from _scripts import run as run_script
from torch_geometric.data import Batch
from torch_geometric.loader import DataLoader

from graphpool.datasets import generate_mesh
from graphpool.mesh import (
    EdgeCollapsePool,
    FaceClusterPool,
    PrimalDualConv,
    clean,
    edge_graph,
    icosphere,
    primal_dual,
    read_mesh,
)
from graphpool.models import MeshSegmenter


def load_loops():
    path = Path(__file__).resolve().parents[1] / "tests" / "mesh" / "loop_reference.py"
    spec = importlib.util.spec_from_file_location("mesh_loop_reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def median_time(fn: Callable[[], object], args: argparse.Namespace, repeats: int = 1) -> float:
    """Seconds of one call."""
    return statistics.median(timed(fn, args) for _ in range(repeats)) / 1e3


def seconds(value: float) -> str:
    return f"{1000 * value:.1f} ms" if value < 1 else f"{value:.2f} s"


def graph_rows(args: argparse.Namespace, loops) -> list[list[str]]:
    if args.bunny is not None:
        mesh = clean(*read_mesh(args.bunny))
        name = "Stanford bunny"
    else:
        mesh = clean(*icosphere(3 if args.quick else 6))
        name = "icosphere"
    rows = []
    for config in "ABC":
        primal_dual(mesh.vertices, mesh.faces, config)
        ours = median_time(lambda c=config: primal_dual(mesh.vertices, mesh.faces, c), args, 5)

        def with_loops(config=config):
            loops.features(mesh.vertices, mesh.faces, config)
            pairs = list(loops.adjacency(mesh.faces))
            loops.dual_edges(pairs, range(len(mesh.faces)), config)

        theirs = median_time(with_loops, args)
        record(
            args,
            f"mesh primal_dual {name} {config}",
            "ms",
            1e3 * ours,
            "loops over faces",
            1e3 * theirs,
        )
        what = f"`primal_dual`, {name}, {len(mesh.faces):,} faces, {config}"
        rows.append([what, seconds(ours), seconds(theirs), f"{theirs / ours:.0f}x"])
    return rows


def pool_rows(args: argparse.Namespace, loops, graphs: list) -> list[list[str]]:
    rows = []
    batch = Batch.from_data_list(graphs)
    topology = batch.topology()
    conv = PrimalDualConv((1, 8), (32, 32))
    with torch.no_grad():
        out = conv(batch.x, batch.x_dual, topology)
    pairs = [tuple(pair) for pair in topology.pairs.t().tolist()]
    keys = loops.dual_keys(pairs, "A")
    score = out.attention.mean(1).reshape(-1, 2).mean(1)
    for keep in (0.8, 0.5):
        pool = FaceClusterPool((32, 32), keep=keep)

        @torch.no_grad()
        def ours(pool=pool):
            return pool(out.primal, out.dual, topology, out.attention)

        def theirs(keep=keep):
            primal = dict(enumerate(out.primal.numpy()))
            dual = dict(zip(keys, out.dual.numpy(), strict=True))
            selected = []
            mesh = topology.pair_batch.tolist()
            for b in range(topology.num_meshes):
                mine = [t for t in range(len(pairs)) if mesh[t] == b]
                mine.sort(key=lambda t: -float(score[t]))
                selected += [pairs[t] for t in mine[: int((1 - keep) * len(mine))]]
            _, new_primal, new_dual, new_pairs = loops.pool(primal, dual, pairs, selected, "A")
            loops.dual_edges(new_pairs, sorted(new_primal), "A")

        ours()
        a, b = median_time(ours, args, 7), median_time(theirs, args)
        what = f"pool {len(graphs)} meshes, {topology.num_faces:,} faces, keep {keep}"
        rows.append([what, seconds(a), seconds(b), f"{b / a:.0f}x"])
    return rows


def collapse_rows(args: argparse.Namespace) -> list[list[str]]:
    rows = []
    for subdivisions in (3,) if args.quick else (4, 5, 6):
        graph = edge_graph(*icosphere(subdivisions))
        topology = graph.topology()
        x = torch.randn(graph.x.size(0), 16)
        pool = EdgeCollapsePool(16, graph.x.size(0) // 4)
        pool(x, topology)
        took = median_time(lambda p=pool, x=x, t=topology: p(x, t), args, 5)
        tracemalloc.start()
        pairs = len(pool(x, topology).collapses.members)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        what = f"collapse {topology.num_faces:,} faces to {topology.num_faces // 4:,}"
        note = f"{peak / 2**20:.1f} MiB of arrays, {pairs:,} memberships"
        rows.append([what, seconds(took), note, ""])
    return rows


def epoch_row(args: argparse.Namespace, graphs: list) -> list[str]:
    model = MeshSegmenter(5)
    model.standardizer.fit(graphs)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)

    def epoch():
        for batch in DataLoader(graphs, 16, shuffle=True):
            loss = torch.nn.functional.cross_entropy(model(batch), batch.y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    epoch()
    faces = sum(graph.num_nodes for graph in graphs)
    took = median_time(epoch, args)
    what = f"one epoch of the U-Net, {len(graphs)} meshes, {faces:,} faces"
    return [what, seconds(took), "", ""]


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--bunny", type=Path, help="a mesh file; an icosphere by default")
    parser.add_argument("--meshes", type=int, default=100, help="of the epoch")
    args = parser.parse_args()
    prepare(args)
    loops = load_loops()
    graphs = []
    for seed in range(4 if args.quick else args.meshes):
        mesh = generate_mesh("creature", seed, (1400, 1600))
        graphs.append(primal_dual(mesh.vertices, mesh.faces, labels=mesh.labels))
    rows = [
        *graph_rows(args, loops),
        *pool_rows(args, loops, graphs[:16]),
        *collapse_rows(args),
        epoch_row(args, graphs),
    ]
    text = table(["what", "graphpool", "loops", "ratio"], rows)
    print(text)
    (args.out / "mesh.md").write_text(text + "\n")


if __name__ == "__main__":
    run_script(main)
