"""Train one network in several processes, and get what one process would have got.

Every process takes its share of each batch; DistributedDataParallel averages the derivatives. With the
loss scaled by the size of the *global* batch the parameters, those of the pools included, follow the
same path as in one process. A killed process does not end the run: torchrun starts the group again,
and it goes on from the last checkpoint.

    python examples/distributed.py                     # 1 process, 2 processes, 2 of which one dies
    torchrun --nproc-per-node 2 examples/distributed.py --worker --out outputs/mine
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from _common import format_table, make_parser, out_dir, seed_everything
from _scripts import run as run_script
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch_geometric.data import Batch
from tqdm import tqdm

from graphpool.datasets import MaxDegree
from graphpool.models import GraphModel


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--processes", type=int, default=2, help="processes to compare with one")
    parser.add_argument("--graphs", type=int, default=1440, help="number of training graphs")
    parser.add_argument("--batch", type=int, default=48, help="graphs per step, over all processes")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--aggr", default="gnp", help="pool over neighbours")
    parser.add_argument("--readout", default="gnp", help="pool over the nodes of a graph")
    parser.add_argument("--root", default="datasets", help="folder of the data cache")
    parser.add_argument("--crash", type=int, help="epoch at whose start one process dies, once")
    parser.add_argument(
        "--worker", action="store_true", help="train: this process is one of a group"
    )
    args = parser.parse_args(arguments)
    if args.quick:
        args.graphs, args.epochs, args.hidden, args.batch = 180, 3, 16, 30
    if args.batch < args.processes:
        parser.error(f"--batch {args.batch} leaves some of {args.processes} processes without work")
    return args


class GraphRegression(nn.Module):
    """A :class:`GraphModel` that takes a PyG batch."""

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__()
        self.model = GraphModel(
            1, args.hidden, 1, num_layers=2, conv="pair_mlp", aggr=args.aggr, readout=args.readout
        )

    def forward(self, batch: Batch) -> Tensor:
        return self.model(batch.x, batch.edge_index, batch.batch, batch_size=batch.num_graphs)


def save(path: Path, state: dict) -> None:
    """Writes beside and renames, so that a process that dies here leaves the old checkpoint whole."""
    unfinished = path.with_suffix(".new")
    torch.save(state, unfinished)
    os.replace(unfinished, path)


def join_group(backend: str) -> None:
    """Joins the group that torchrun started.

    The store of torchrun outlives a restart, addresses of dead processes included; a process that is
    quick to come back would knock there. So every life of the group has its own corner of the store.
    """
    store = dist.TCPStore(
        os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False
    )
    life = os.environ["TORCHELASTIC_RESTART_COUNT"]
    dist.init_process_group(
        backend,
        store=dist.PrefixStore(f"life {life}", store),
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
    )


def work(args: argparse.Namespace) -> None:
    """The life of one process of the group."""
    join_group("nccl" if args.device.startswith("cuda") else "gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    device = torch.device(args.device)
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    if args.batch < size:
        raise ValueError(f"--batch must give each of {size} processes a graph, got {args.batch}")

    if rank == 0:  # one process draws and caches the graphs, the others read them
        MaxDegree(args.root, num_graphs=args.graphs, seed=args.seed)
    dist.barrier()
    graphs = MaxDegree(args.root, num_graphs=args.graphs, seed=args.seed)
    seed_everything(args.seed)
    network = DistributedDataParallel(GraphRegression(args).to(device))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.005)

    folder = out_dir(args)
    checkpoint, history = folder / "checkpoint.pt", []
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        network.module.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        history = state["history"]

    for epoch in range(len(history), args.epochs):
        first_life = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
        if epoch == args.crash and rank == size - 1 and first_life:
            print(f"process {rank} dies at the start of epoch {epoch}", flush=True)
            os._exit(1)
        order = torch.randperm(
            len(graphs), generator=torch.Generator().manual_seed(args.seed + epoch)
        )
        steps = [ids for ids in order.split(args.batch) if len(ids) >= size]
        total = torch.zeros((), dtype=torch.float64, device=device)
        for ids in tqdm(steps, desc=f"epoch {epoch}", disable=rank > 0, leave=False):
            batch = Batch.from_data_list([graphs[int(i)] for i in ids[rank::size]]).to(device)
            error = (network(batch) - batch.y).square().sum()
            optimizer.zero_grad()
            # DistributedDataParallel divides by the number of processes; len(ids) is the global batch.
            (error * size / len(ids)).backward()
            optimizer.step()
            total += error.detach()
        dist.all_reduce(total)
        history.append(total.item() / sum(map(len, steps)))
        if rank == 0:
            state = {
                "network": network.module.state_dict(),
                "optimizer": optimizer.state_dict(),
                "history": history,
            }
            save(checkpoint, state)
        dist.barrier()
    if rank == 0:
        (folder / "losses.json").write_text(json.dumps(history))
    # Its destructor waits, with Python's lock, for a thread that may want that lock: it must not come last.
    del network
    gc.collect()
    dist.destroy_process_group()


def launch(
    args: argparse.Namespace, processes: int, folder: Path, crash: int | None
) -> list[float]:
    """Runs a group under torchrun and returns its loss per epoch."""
    for old in ("checkpoint.pt", "losses.json"):
        (folder / old).unlink(missing_ok=True)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={processes}", f"--max-restarts={0 if crash is None else 1}"]
    command += [__file__, "--worker", f"--out={folder}"]
    for name in (
        "seed",
        "device",
        "graphs",
        "batch",
        "epochs",
        "hidden",
        "aggr",
        "readout",
        "root",
    ):
        command.append(f"--{name}={getattr(args, name)}")
    if crash is not None:
        command.append(f"--crash={crash}")
    threads = max(1, (os.cpu_count() or 1) // processes)
    done = subprocess.run(
        command,
        env={**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return json.loads((folder / "losses.json").read_text())


def draw(curves: dict[str, list[float]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
    styles = zip(curves.items(), ("#0072B2", "#D55E00", "#009E73"), ("o", "x", "+"), strict=False)
    for width, ((name, losses), colour, marker) in enumerate(styles):
        ax.plot(losses, color=colour, marker=marker, lw=3.5 - width, ms=9, label=name, alpha=0.8)
    ax.set(xlabel="epoch", ylabel="mean squared error", yscale="log")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set_title("the same path, however many processes")
    ax.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    args = parse()
    if args.worker:
        work(args)
        return
    folder = out_dir(args)
    runs = {
        "1 process": (1, None),
        f"{args.processes} processes": (args.processes, None),
        f"{args.processes}, one dies and restarts": (args.processes, args.epochs // 2),
    }
    if args.quick:
        del runs[f"{args.processes} processes"]
    curves, rows = {}, []
    for name, (processes, crash) in tqdm(runs.items(), desc="runs"):
        place = folder / name.replace(" ", "_").replace(",", "")
        place.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        curves[name] = launch(args, processes, place, crash)
        apart = max(
            abs(a - b) / max(abs(b), 1e-12)
            for a, b in zip(curves[name], curves["1 process"], strict=True)
        )
        rows.append(
            [
                name,
                f"{curves[name][0]:.4f}",
                f"{curves[name][-1]:.6f}",
                f"{apart:.1e}",
                f"{time.perf_counter() - start:.1f} s",
            ]
        )
    headers = ["run", "first loss", "last loss", "largest relative difference", "time"]
    print(format_table(rows, headers))
    picture = folder / "distributed.png"
    draw(curves, picture)
    print(picture)
    if not all(math.isfinite(loss) for losses in curves.values() for loss in losses):
        raise RuntimeError("a loss is not finite")


if __name__ == "__main__":
    run_script(main)
