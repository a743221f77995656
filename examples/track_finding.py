"""Which hits belong to one track? A graph network proposes pairs, a set transformer decides on bags.

    python examples/track_finding.py
    python examples/track_finding.py --aggr softmax --mixer max       # any pool at both places
    python examples/track_finding.py --seeds 3

Generated helices on ten cylinders, with missing hits and noise. Pairs of hits whose cells of space a training
track has linked go to graphpool.models.HyperTrack. Efficiency and purity (two bags match if they share more
than half of both; from four hits on) of unseen events, beside: DBSCAN on directions, without training; the
same network without the set transformer, by the connected components of the pairs above a cut, or by DBSCAN
on 1 - p. Thresholds of these three are the best of validation events; the set transformer has the cut it
learned with.

What is finished is in --out, and an interrupted run goes on from there.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from _common import format_table, make_parser, mean_and_spread, seed_everything
from _kept import Kept, seeds_of
from _scripts import run
from _tracks import LinkedCells, features, helical_tracks, pair_features
from scipy.sparse import coo_matrix
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from tqdm import trange

from graphpool import Segments
from graphpool.evaluate import MatchedBags, double_majority
from graphpool.models import HyperTrack
from graphpool.ops import connected_components

DIRECTIONS, CUT, SIMILAR, FULL = (
    "DBSCAN on directions", "network, cut, components", "network, DBSCAN on 1 - p",
    "network, set transformer",
)  # fmt: skip


class Events(NamedTuple):
    """Some events as one heap of hits, with the pairs that may belong together."""

    pos: Tensor
    x: Tensor
    pairs: Tensor
    attr: Tensor
    track: Tensor
    batch: Tensor


def collect(events: list[Data], cells: LinkedCells, device: str) -> Events:
    heap = Batch.from_data_list(events)
    pairs = cells.pairs(heap.pos, Segments(index=heap.batch, num_segments=len(events)))
    attr = pair_features(heap.pos, pairs)
    parts = (heap.pos, features(heap.pos), pairs, attr, heap.track_index, heap.batch)
    return Events(*(part.to(device) for part in parts))


def drawn(first: int, count: int, args: argparse.Namespace) -> list[Data]:
    shares = {"missing": args.missing, "noise": args.noise}
    return [helical_tracks(args.tracks, seed=first + i, **shares) for i in range(count)]


def train(events: list[Data], cells: LinkedCells, args: argparse.Namespace) -> HyperTrack:
    model = HyperTrack(
        7,
        args.hidden,
        args.aggr,
        pair_dim=4,
        mixer=args.mixer,
        num_layers=args.layers,
        cut=args.cut,
    ).to(args.device)
    optimizer = torch.optim.AdamW(model.parameters(), args.lr, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, args.steps)
    for step in trange(args.steps, desc="training"):
        chosen = torch.randint(len(events), (args.batch,)).tolist()
        heap = collect([events[i] for i in chosen], cells, args.device)
        # Candidates mean something once likely pairs do.
        share = 0.2 if step > 0.2 * args.steps else 0.0
        loss = model.loss(heap.x, heap.pairs, heap.track, heap.attr, share)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval()


def components(events: Events, p: Tensor, cut: float) -> Tensor:
    return connected_components(events.pairs[:, p > cut], events.x.size(0))


def bags_of(labels: np.ndarray) -> Tensor:
    """What DBSCAN says, where noise is a bag each."""
    alone = -1 - np.arange(labels.size)
    return torch.from_numpy(np.where(labels < 0, alone, labels).astype(np.int64))


def by_direction(events: Events, eps: float) -> Tensor:
    """DBSCAN on the directions of the hits, event by event."""
    from sklearn.cluster import DBSCAN

    x, found, used = events.x[:, 4:].cpu().numpy(), torch.empty_like(events.track.cpu()), 0
    for event in range(int(events.batch.max()) + 1):
        rows = (events.batch == event).cpu()
        labels = bags_of(DBSCAN(eps=eps, min_samples=3).fit_predict(x[rows.numpy()]))
        found[rows] = torch.where(labels < 0, labels - used, labels + used)
        used += int(rows.sum())
    return found


def by_distance(events: Events, p: Tensor, eps: float) -> Tensor:
    """DBSCAN with the distance 1 - p between hits that form a pair."""
    from sklearn.cluster import DBSCAN

    (i, j), size = events.pairs.cpu().numpy(), events.x.size(0)
    far = (1.0 - p.cpu().double()).clamp_min(1e-9).numpy()
    both = (np.r_[far, far], (np.r_[i, j], np.r_[j, i]))
    matrix = coo_matrix(both, shape=(size, size)).tocsr()
    return bags_of(DBSCAN(eps=eps, min_samples=3, metric="precomputed").fit_predict(matrix))


def best(way: Callable[[float], Tensor], settings: Iterable[float], true: Tensor) -> float:
    """The setting with the best harmonic mean of efficiency and purity."""

    def score(setting: float) -> float:
        counts = double_majority(way(setting), true.cpu())
        return 2 * counts.matched / max(counts.true + counts.found, 1)

    return max(settings, key=score)


def one_run(seed: int, args: argparse.Namespace) -> tuple[list[dict[str, Any]], list[Tensor]]:
    """Efficiency and purity of all ways on the same events; hits of the first, true and found tracks."""
    seed_everything(seed)
    first = 10**6 * seed
    events = drawn(first, args.events, args)
    heap = Batch.from_data_list(events)
    cells = LinkedCells.fit(heap.pos, heap.track_index, args.cells, rounds=3, seed=seed)
    begin = time.process_time()
    model = train(events, cells, args)
    trained = time.process_time() - begin
    val, test = (
        collect(drawn(first + start, args.test, args), cells, args.device)
        for start in (500_000, 600_000)
    )
    with torch.no_grad():
        p_val, p_test = (model(e.x, e.pairs, e.attr)[1].sigmoid() for e in (val, test))
    ways: dict[str, Tensor] = {}
    try:
        eps = best(lambda v: by_direction(val, v), np.geomspace(0.01, 0.3, 12), val.track)
        ways[DIRECTIONS] = by_direction(test, eps)
        eps = best(lambda v: by_distance(val, p_val, v), np.linspace(0.02, 0.6, 15), val.track)
        ways[SIMILAR] = by_distance(test, p_test, eps)
    except ImportError:
        print("note: no DBSCAN, because scikit-learn is not installed")
    cut = best(lambda v: components(val, p_val, v), np.linspace(0.3, 0.98, 18), val.track)
    ways[CUT] = components(test, p_test, cut)
    ways[FULL] = model.find(test.x, test.pairs, test.attr)
    runs = []
    for name, found in ways.items():
        counts: MatchedBags = double_majority(found.cpu(), test.track.cpu())
        runs.append({"seed": seed, "way": name, **counts._asdict(), "seconds": trained})
    here = test.batch == 0
    return runs, [v[here].cpu() for v in (test.pos, test.track, ways[FULL])]


def draw(picture: list[Tensor], runs: list[dict[str, Any]], path: Path) -> None:
    """The first test event across the beam, true and found, and the numbers of all ways."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
    pos, *names = picture
    for axis, label, title in zip(axes, names, ("true", "found"), strict=False):
        _, bag, size = label.unique(return_inverse=True, return_counts=True)
        large = size[bag] >= 4
        axis.scatter(*pos[~large, :2].T, s=6, c="lightgrey")
        axis.scatter(*pos[large, :2].T, s=10, c=(bag[large] * 7) % 20, cmap="tab20")
        axis.set(title=f"hits by {title} track", aspect="equal", xticks=[], yticks=[])
    for k, way in enumerate(dict.fromkeys(r["way"] for r in runs)):
        for kind, total, color in (("efficiency", "true", "C0"), ("purity", "found", "C1")):
            shares = [r["matched"] / max(r[total], 1) for r in runs if r["way"] == way]
            y = [k + (0.15 if kind == "purity" else -0.15)] * len(shares)
            axes[2].scatter(shares, y, color=color, s=18, label=kind if k == 0 else None)
    axes[2].set_yticks(range(k + 1), dict.fromkeys(r["way"] for r in runs))
    axes[2].set(xlim=(0, 1), title="one point for each seed")
    axes[2].invert_yaxis()
    axes[2].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--tracks", type=int, default=20, help="of an event")
    parser.add_argument("--missing", type=float, default=0.05, help="share of the hits")
    parser.add_argument("--noise", type=float, default=0.05, help="share of the hits")
    parser.add_argument("--events", type=int, default=400, help="for training")
    parser.add_argument(
        "--test", type=int, default=30, help="events for validation, and as many to test"
    )
    parser.add_argument("--cells", type=int, default=768)
    parser.add_argument("--aggr", default="mean", help="pool over the partners of a hit")
    parser.add_argument("--mixer", default="attention", help="or a pool over candidates")
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--cut", type=float, default=0.7, help="pairs above it make candidates")
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--lr", type=float, default=0.003)
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    args = parser.parse_args()
    if args.quick:
        args.events, args.test, args.steps, args.tracks = 20, 3, 10, 8
    kept, seeds = Kept("track_finding", args), seeds_of(args)
    for seed in kept.missing(seeds):
        kept.keep(seed, *one_run(seed, args))
    rows, runs = [], kept.of(seeds)
    for way in dict.fromkeys(r["way"] for r in runs):
        mine = [r for r in runs if r["way"] == way]
        shares = (
            torch.tensor([r["matched"] / max(r[total], 1) for r in mine])
            for total in ("true", "found")
        )
        rows.append([way, *(mean_and_spread(share) for share in shares)])
    print(format_table(rows, ["way", "efficiency", "purity"]))
    print(f"training: {np.mean([r['seconds'] for r in runs]):.0f} s of CPU for each seed")
    draw(kept.picture(seeds[0]), runs, path := kept.file.with_suffix(".png"))
    print(f"wrote {kept.file} and {path}")


if __name__ == "__main__":
    run(main)
