"""Is the word safe? Every pool as one word in the same networks, trained by the same plain recipe.

    python benchmarks/safe_word.py --data ../shared/data
    python benchmarks/safe_word.py --tasks blocks-sage edges --pools sum mean gnp --seeds 0
    python benchmarks/safe_word.py --quick                     # to see that it runs

For every task, pool and seed the pool stands at every site of the network, over neighbours, groups or
clusters and as the readout, and is trained with Adam, at a rate that falls to 0 along a cosine: the same for
all pools, without groups of parameters, clipping or choice of an epoch. What is finished is in the file of
--out at once, and an interrupted run goes on from there. Tasks that need files (TU, ModelNet10, SHREC) look
for them under --data, and are left out, with a note, where they are not. --part val is for choosing
recipes: other draws of generated data, and parts of the training data instead of the test data.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _safe_word.problem import Problem, Task, average
from _safe_word.tasks import TASKS
from tqdm import tqdm

from graphpool import aggr

sys.path.append(str(Path(__file__).resolve().parents[1] / "examples"))
from _scripts import ScriptParser  # noqa: E402
from _scripts import run as run_script  # noqa: E402

FIXED = ("sum", "mean", "max", "min")
Run = dict[str, Any]


class Mixture(aggr.Multi):
    """The four fixed pools, with learned weights."""

    def __init__(self, channels: int | None = None) -> None:
        super().__init__(channels, members=FIXED, mode="mixture")


POOLS: dict[str, Any] = {
    **{name: name for name in (*FIXED, "std", "softmax", "attsets", "pma")},
    "multi": Mixture,
    "gnp_old": aggr.PaperGNP,
    "gnp": "gnp",
}
NEEDS = {
    "mutag": "tu/MUTAG",
    "enzymes": "tu/ENZYMES",
    "proteins": "tu/PROTEINS",
    "modelnet": "modelnet10",
    "shrec": "shrec16",
}


def train(problem: Problem, task: Task, args: argparse.Namespace) -> float:
    """Trains with the one recipe; returns the largest norm of the gradient.

    Raises:
        FloatingPointError: The loss or the gradient is not finite.
    """
    problem.model.to(args.device)
    weights = list(problem.model.parameters())
    optimizer = torch.optim.Adam(weights, task.lr)
    epochs, largest = 1 if args.quick else task.epochs, 0.0
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        problem.model.train()
        for batch in problem.batches():
            optimizer.zero_grad()
            loss = problem.loss(problem.model, batch)
            loss.backward()
            given = [weight.grad for weight in weights if weight.grad is not None]
            norm = float(torch.nn.utils.get_total_norm(given))
            if not (math.isfinite(norm) and math.isfinite(float(loss.detach()))):
                raise FloatingPointError("the loss or its gradient is not finite")
            largest = max(largest, norm)
            optimizer.step()
        cosine.step()
    return largest


def learned(model: torch.nn.Module) -> dict[str, dict[str, list[float]]]:
    """Exponents and growth of every GNP of a network, and the mean weights of its norms."""
    return {
        site: {
            "p": pool.p.detach().mean(1).tolist(),
            "growth": pool.g.detach().tolist(),
            "shares": pool.shares.detach().mean(1).tolist(),
        }
        for site, pool in model.named_modules()
        if type(pool) is aggr.GNP
    }


def run(name: str, pool: str, seed: int, args: argparse.Namespace) -> Run:
    """Trains and judges the networks of one task."""
    task, begin = TASKS[name], time.process_time()
    for seeded in (random.seed, np.random.seed, torch.manual_seed):
        seeded(seed)
    found: Run = {"task": name, "pool": pool, "seed": seed, "diverged": "", "gradient": 0.0}
    scores: list[dict[str, float]] = []
    found["exponents"] = []
    for problem in task.make(POOLS[pool], seed, args):
        try:
            found["gradient"] = max(found["gradient"], train(problem, task, args))
        except FloatingPointError as error:
            found["diverged"] = str(error)
            break
        scores.append(problem.score(problem.model))
        found["parameters"] = sum(weight.numel() for weight in problem.model.parameters())
        pools = [m for m in problem.model.modules() if type(m) is aggr.GNP]
        found["channels"] = sum(m.channels for m in pools)
        found["exponents"].append(learned(problem.model))
    if not found["diverged"]:
        found["scores"] = {
            key: average(kind, [score[key] for score in scores])
            for key, kind in task.measures.items()
        }
    return found | {"seconds": time.process_time() - begin}


def table(cells: list[list[Any]], header: list[str]) -> str:
    rule = ["---"] * len(header)
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in [header, rule, *cells])


def shared_seeds(runs: list[Run], task: str, pools: list[str]) -> set[int]:
    """The seeds that all of these pools have been trained with."""
    mine = [r for r in runs if r["task"] == task]
    return set.intersection(*({r["seed"] for r in mine if r["pool"] == pool} for pool in pools))


def summarise(runs: list[Run], pools: list[str]) -> dict[str, dict[str, float]]:
    """The score of each pool by measure: means over the seeds that all of these pools have."""
    rows: dict[str, dict[str, float]] = {}
    for name, task in TASKS.items():
        mine = [r for r in runs if r["task"] == name and r["pool"] in pools]
        seeds = shared_seeds(runs, name, pools)
        for measure, kind in task.measures.items():
            for pool in pools:
                values = [
                    r.get("scores", {}).get(measure, math.nan)
                    for r in mine
                    if r["pool"] == pool and r["seed"] in seeds
                ]
                if values:
                    rows.setdefault(measure, {})[pool] = average(kind, values)
    return rows


def ranks(rows: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """1 for the best pool of a measure; equal ones share the mean of their places."""
    kinds = {m: kind for task in TASKS.values() for m, kind in task.measures.items()}
    found = {}
    for measure, row in rows.items():
        sign = -1 if kinds[measure] == "accuracy" else 1
        cost = {p: math.inf if math.isnan(v) else sign * v for p, v in row.items()}
        found[measure] = {
            p: 1
            + sum(other < mine for other in cost.values())
            + (sum(other == mine for other in cost.values()) - 1) / 2
            for p, mine in cost.items()
        }
    return found


def report(runs: list[Run], pools: list[str]) -> str:
    rows = summarise(runs, pools)
    place = ranks(rows)
    kinds = {m: kind for task in TASKS.values() for m, kind in task.measures.items()}
    task_of = {m: name for name, task in TASKS.items() for m in task.measures}
    seeds = {m: len(shared_seeds(runs, task_of[m], pools)) for m in rows}
    digits = {"accuracy": ".1f", "error": ".3g"}
    units = {"accuracy": "%", "error": "error"}
    cells = [
        [f"{m}, {units[kinds[m]]}", seeds[m], *(format(row[p], digits[kinds[m]]) for p in pools)]
        for m, row in rows.items()
    ]
    means = [f"{statistics.mean(place[m][p] for m in place):.1f}" for p in pools]
    text = table([*cells, ["**mean rank**", "", *means]], ["measure", "seeds", *pools])
    if set(FIXED) | {"gnp"} <= set(pools):
        checks = []
        for m, row in rows.items():
            choose = max if kinds[m] == "accuracy" else min
            best = choose(FIXED, key=lambda p: (choose is min and math.isnan(row[p]), row[p]))
            if kinds[m] == "accuracy":
                far, kept = f"{row['gnp'] - row[best]:+.1f}", row["gnp"] >= row[best] - 2
            else:
                far, kept = f"x {row['gnp'] / row[best]:.2f}", row["gnp"] <= 1.25 * row[best]
            checks.append([m, best, far, "yes" if kept else "**no**"])
        header = [
            "measure",
            "best of sum, mean, max, min",
            "gnp against it",
            "within 2 points or x 1.25",
        ]
        text += "\n\n" + table(checks, header)
    lines = []
    for pool in pools:
        mine = [r for r in runs if r["pool"] == pool]
        more = [
            r["parameters"] - other["parameters"]
            for r in mine
            for other in runs
            if other["pool"] == "mean" and (r["task"], r["seed"]) == (other["task"], other["seed"])
            if "parameters" in r and "parameters" in other
        ]
        norms = [r["gradient"] for r in mine]
        diverged = sum(bool(r["diverged"]) for r in mine)
        middle = statistics.median(norms)
        beyond = max(more, default="")
        lines.append([pool, len(mine), diverged, f"{max(norms):.3g}", f"{middle:.3g}", beyond])
    header = [
        "pool",
        "runs",
        "diverged",
        "largest gradient",
        "its median over runs",
        "most parameters beyond mean",
    ]
    return text + "\n\n" + table(lines, header)


def draw(runs: list[Run], pools: list[str], path: Path) -> None:
    """The rank of every pool by task, the best pools on the left."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    place = ranks(summarise(runs, pools))
    mean = {p: statistics.mean(row[p] for row in place.values()) for p in pools}
    order = sorted(pools, key=mean.__getitem__)
    names = [*place, "mean rank"]
    cells = [[place[m][p] for p in order] for m in place] + [[mean[p] for p in order]]
    figure, axes = plt.subplots(
        figsize=(0.75 * len(order) + 3, 0.36 * len(names) + 1.2), layout="constrained"
    )
    axes.imshow(cells, cmap="cividis", aspect="auto", vmin=1, vmax=len(order))
    for i, row in enumerate(cells):
        for j, value in enumerate(row):
            colour = "white" if value < 0.5 * len(order) else "black"
            style = {"ha": "center", "va": "center", "color": colour, "fontsize": 9}
            axes.text(j, i, f"{value:.1f}".removesuffix(".0"), **style)
    axes.axhline(len(place) - 0.5, color="white", lw=3)
    axes.set_xticks(range(len(order)), order, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_title("rank of the pool, 1 is best", fontsize=10)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def parse() -> argparse.Namespace:
    parser = ScriptParser(__doc__)
    parser.add_argument(
        "--tasks",
        nargs="+",
        choices=TASKS,
        default=list(TASKS),
        metavar="TASK",
        help=", ".join(TASKS),
    )
    parser.add_argument(
        "--pools",
        nargs="+",
        choices=POOLS,
        default=list(POOLS),
        metavar="POOL",
        help=", ".join(POOLS),
    )
    parser.add_argument(
        "--seeds", nargs="+", type=int, help="default: three, from the seed on (--seed)"
    )
    parser.add_argument(
        "--data", type=Path, default=Path("datasets"), help="folder of the data sets"
    )
    parser.add_argument(
        "--cache", type=Path, default=Path("datasets"), help="for what is generated"
    )
    parser.add_argument("--part", choices=["test", "val"], default="test")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one epoch")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    args.seeds = args.seeds or [args.seed + i for i in range(3)]
    return args


def main() -> None:
    args = parse()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    log = args.out / f"safe_word{'_quick' * args.quick}{'_val' * (args.part == 'val')}.json"
    runs: list[Run] = json.loads(log.read_text()) if log.exists() else []
    tasks = []
    for name in args.tasks:
        if name in NEEDS and not (args.data / NEEDS[name]).exists():
            print(
                f"note: {name} is left out, there is no {args.data / NEEDS[name]}", file=sys.stderr
            )
        else:
            tasks.append(name)
    done = {(r["task"], r["pool"], r["seed"]) for r in runs}
    wanted = [
        key
        for seed in args.seeds
        for name in tasks
        for pool in args.pools
        if (key := (name, pool, seed)) not in done
    ]
    for name, pool, seed in (bar := tqdm(wanted, file=sys.stderr)):
        bar.set_postfix(task=name, pool=pool, seed=seed)
        runs.append(run(name, pool, seed, args))
        part = log.with_suffix(".part")
        part.write_text(json.dumps(runs, indent=0))
        part.replace(log)
    shown = [r for r in runs if r["task"] in tasks and r["pool"] in args.pools]
    pools = [p for p in args.pools if any(r["pool"] == p for r in shown)]
    if not shown:
        raise SystemExit("nothing was run")
    text = report(shown, pools)
    (args.out / log.with_suffix(".md").name).write_text(text + "\n")
    picture = args.out / log.with_suffix(".png").name
    draw(shown, pools, picture)
    seconds = sum(r["seconds"] for r in shown)
    print(
        f"{text}\n\n{len(shown)} runs, {seconds / 60:.0f} core minutes\nnumbers: {log}\npicture: {picture}"
    )


if __name__ == "__main__":
    run_script(main)
