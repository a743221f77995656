"""BREC by its published protocol: a network of its own is trained for every pair of graphs."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
from _common import seed_everything
from _expressive import APART, MODELS, RANDOM, WIDTH, Model, PairSet, brec_sets, chosen_sets, wanted
from _kept import Kept, fingerprint
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import GIN, MLP

from graphpool.conv import GINConv
from graphpool.datasets import brec_ranges
from graphpool.evaluate import PairedResult, compare_pair, copies_block, relabelled

COPIES, EPOCHS = 32, 20


class InPlaceGIN(GIN):
    """GIN whose layers read neighbours in place: the same function, in about half the time here."""

    supports_copy_axis = True

    def init_conv(self, in_channels: Any, out_channels: int, **kwargs: Any) -> Any:
        mlp = MLP([in_channels, out_channels, out_channels], act=self.act, norm=None)
        return GINConv(in_channels, out_channels, nn=mlp, **kwargs)


class Siamese(nn.Module):
    """A pooled network and a head of width 16. Counts the batches it was trained on."""

    def __init__(self, pooling: nn.Module) -> None:
        super().__init__()
        self.pooling, self.steps = pooling, 0
        # The cosine of two sums over all copies is 1 up to a small difference: they are centred first.
        hidden = (nn.BatchNorm1d(WIDTH), nn.Linear(WIDTH, WIDTH), nn.ReLU())
        self.head = nn.Sequential(*hidden, nn.Linear(WIDTH, WIDTH))

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor, batch_size: int) -> Tensor:
        self.steps += self.training
        return self.head(self.pooling(x, edge_index, batch, batch_size))


def judge(
    model: Model, pools: str, layers: int, pair: Sequence[Data], epochs: int, seed: int
) -> Any:
    """Trains and tests a network on one pair; all that is random comes from ``seed``."""
    started = time.process_time()
    first, second = pair
    block = copies_block(first, second, COPIES, 2 * seed)
    coin = torch.randint(2, (), generator=torch.Generator().manual_seed(seed))
    alike = relabelled([pair[int(coin)]] * 2 * COPIES, 2 * seed + 1)
    seed_everything(seed)
    inner, outer = pools.split("/")
    network = Siamese(model.build(1, layers, inner, outer, gin=InPlaceGIN, **RANDOM))
    found = compare_pair(lambda: network, block, alike, epochs=epochs)
    passes = network.steps / max(1, 2 * COPIES // 16)
    return {**asdict(found), "epochs": passes, "seconds": time.process_time() - started}


def verdicts(found: dict[str, Any]) -> dict[str, bool]:
    """One pair by the rule for invariant networks, and by the statistic alone with either threshold."""
    fields = {k: v for k, v in found.items() if k not in ("epochs", "seconds")}
    result = PairedResult(**fields)
    # With zero covariance, too.
    alone = replace(result, constant=False)
    return {
        "told apart": result.distinguished() and result.reliable(),
        "published": alone.distinguished("published"),
        "statistical": alone.distinguished("statistical"),
        "published, unreliable": not alone.reliable("published"),
        "statistical, unreliable": not alone.reliable("statistical"),
    }


def pairs_of(sets: Sequence[PairSet]) -> Iterator[tuple[int, PairSet, list[Data]]]:
    """Every pair with its number in the whole of BREC."""
    starts = {kind.replace("_", " "): ids.start for kind, ids in brec_ranges().items()}
    for data in sets:
        for k, ids in enumerate(data.pairs.tolist()):
            yield starts[data.name] + k, data, [data.graphs[i] for i in ids]


def brec_table(args: argparse.Namespace) -> tuple[list[str], list[list[str]]]:
    """Headers and rows: pairs told apart by kind, and what the statistic alone would count.

    Raises:
        ValueError: No folder was given, or a kind is unknown.
    """
    if args.brec is None:
        raise ValueError("`brec` must be the folder of BREC for the table of that name; got None.")
    limit = args.limit or (None if args.full else 1 if args.quick else 5)
    sets = chosen_sets(brec_sets(args.brec, limit), args)
    if args.quick:
        sets = [data for data in sets if data.graphs[0].num_nodes <= 16]
    pairs = sorted(pairs_of(sets), key=lambda pair: pair[2][0].num_nodes or 0)
    if not pairs:
        raise ValueError(
            f"`sets` must name kinds with small graphs where --quick leaves out the others; got "
            f"{', '.join(args.sets or ['all'])}."
        )
    models = [model for model in MODELS if wanted(args, model.name)]
    rows_of = [(model, pools) for model in models for pools in args.pools]
    # So that what is kept is of these graphs.
    of_pair = [fingerprint(v for g in pair for v in (g.x, g.edge_index)) for *_, pair in pairs]
    epochs = 0 if args.untrained else args.epochs
    by_case = {
        (model.name, pools, epochs, number, args.seed, digits): (model, data, pair)
        for model, pools in rows_of
        for (number, data, pair), digits in zip(pairs, of_pair, strict=True)
    }
    kept = Kept("brec", args, APART)
    for case in kept.missing(by_case):
        model, data, pair = by_case[case]
        kept.keep(case, judge(model, case[1], data.layers, pair, case[2], 1000 * case[4] + case[3]))
    rows = []
    for model, pools in rows_of:
        cases = {c: data.name for c, (m, data, _) in by_case.items() if (m, c[1]) == (model, pools)}
        found = kept.of(cases)
        named = list(zip(cases.values(), map(verdicts, found), strict=True))
        cells = []
        for data in sets:
            here = [verdict["told apart"] for name, verdict in named if name == data.name]
            cells.append(f"{sum(here)}/{len(here)}")
        totals = {rule: sum(v[rule] for _, v in named) for rule in named[0][1]}
        total, *others = map(str, totals.values())
        passes = sum(f["epochs"] for f in found) / len(found)
        spent = f"{sum(f['seconds'] for f in found) / 60:.0f}"
        rows.append([model.name, pools, *cells, total, *others, f"{passes:.1f}", spent])
    columns = ["T2", "q T2", "T2 fails", "q T2 fails", "epochs", "CPU minutes"]
    return ["", "pools", *(data.name for data in sets), "all", *columns], rows
