"""Models, pools and pairs of graphs shared by the tables of ``expressiveness.py``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import GIN

from graphpool import Segments
from graphpool.aggr import Aggregation, resolve
from graphpool.datasets import BREC, CEXP, CSL, EXP, SR25, brec_ranges, cfi_pair
from graphpool.relational import Distance, LabelPooling, RelationalPooling

WIDTH = 16

# Random weights reach the bound of colour refinement with an analytic activation that is no polynomial; a
# ReLU network can be linear on all that occurs. With eps = 0 a node would count as one of its neighbours.
RANDOM = {"act": "tanh", "eps": 0.37}

# So many copies at once stay in the cache.
COPIES_AT_ONCE = 1024

# Inner pool (nodes of a copy) and outer pool (copies of a graph).
POOLS = (
    ("sum", "sum"),
    ("mean", "max"),
    ("max", "mean"),
    ("softmax", "softmax"),
    ("gnp", "gnp"),
)


class SideBySide(Aggregation):
    """Equal parts of the channels, each with a pool of its own."""

    def __init__(self, names: Sequence[str], channels: int) -> None:
        super().__init__(channels * len(names))
        self.width = channels
        self.members = nn.ModuleList(resolve(name, channels=channels) for name in names)

    def pool(self, x: Tensor, segments: Segments, weight: Tensor | None = None) -> Tensor:
        parts = zip(self.members, x.split(self.width, dim=-1), strict=True)
        return torch.cat([pool(part, segments, dim=0, weight=weight) for pool, part in parts], -1)


def pools_at_once(width: int = WIDTH) -> dict[str, Any]:
    """Pools for one run of a network of this width whose result holds those of :data:`POOLS` side by side."""
    return {
        "inner": [inner for inner, _ in POOLS],
        "outer": SideBySide([outer for _, outer in POOLS], width),
    }


@dataclass(frozen=True)
class Model:
    """A row of the tables: what is pooled over; ``extra`` is how many input channels the labels take."""

    name: str
    labels: int = 0
    settings: tuple[tuple[str, Any], ...] = ()
    extra: int | None = None

    def build(
        self,
        features: int,
        layers: int,
        inner: Any = "sum",
        outer: Any = "sum",
        sample: int | None = None,
        width: int = WIDTH,
        gin: type[GIN] = GIN,
        **gnn: Any,
    ) -> LabelPooling:
        extra = self.labels if self.extra is None else self.extra
        network = gin(features + extra, width, layers, **gnn)
        settings = {**dict(self.settings), "sample": sample}
        return LabelPooling(network, labels=self.labels, inner=inner, outer=outer, **settings)


GIN_ALONE = Model("GIN")
ONE_LABEL = Model("GIN + one label", 1)
EGO = Model("GIN + ego nets, 3 hops", 1, (("policy", "ego"), ("hops", 3)))
ADJACENT = Model("GIN + adjacent pairs", 2, (("policy", "adjacent"),))
TWO_LABELS = Model("GIN + two labels", 2, (("max_copies", COPIES_AT_ONCE),))
DISTANCES = Model("GIN + one label, distances", 1, (("encoding", Distance(10)),), 12)
MODELS = (GIN_ALONE, EGO, ONE_LABEL, ADJACENT, TWO_LABELS)


@dataclass(frozen=True)
class Orders:
    """A row of relational pooling: one-hot ids modulo ``ids``."""

    name: str
    ids: int

    def build(
        self,
        features: int,
        layers: int,
        permutations: int | str,
        inner: Any = "sum",
        outer: Any = "mean",
        **gnn: Any,
    ) -> RelationalPooling:
        network = GIN(features + self.ids, WIDTH, layers, **gnn)
        return RelationalPooling(
            network, permutations, self.ids, inner, outer, max_copies=COPIES_AT_ONCE
        )


# Two ids mark a random half of the nodes: less noise than the ten of the paper.
HALVES = Orders("GIN + RP, 2 ids", 2)
RP = Orders("GIN + RP, 10 ids", 10)
ALL_ORDERS = f"{HALVES.name}, all orders"


def default_data() -> Path:
    """Where the files of EXP, CEXP and SR25 are looked for."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("GRAPHPOOL_SHARED_DATA", beside)) / "expressive"


@dataclass
class PairSet:
    """Pairs of graphs to be told apart; ``layers`` is deep enough for what the models can do."""

    name: str
    graphs: list[Data]
    pairs: Tensor
    layers: int

    @property
    def features(self) -> int:
        return self.graphs[0].x.size(1)


def all_pairs(count: int) -> Tensor:
    return torch.combinations(torch.arange(count))


def pair_sets(folder: Path, limit: int | None) -> tuple[list[PairSet], list[str]]:
    """The sets that can be had, and what is missing; ``limit`` caps the pairs of EXP, CEXP and SR25."""
    csl = CSL(copies=1)
    found = [PairSet("CSL", [csl[i] for i in range(10)], all_pairs(10), 8)]
    bases = [[(0, 1), (1, 2), (2, 0)], [(a, b) for a in range(4) for b in range(a)]]
    cfi = [graph for base in bases for graph in cfi_pair(base)]
    found.append(PairSet("CFI", cfi, torch.arange(4).view(2, 2), 6))
    missing = []
    for name, cls, layers in (("EXP", EXP, 4), ("CEXP", CEXP, 4), ("SR25", SR25, 3)):
        try:
            data = cls(folder)
        except FileNotFoundError as error:
            missing.append(f"{name} is left out: {error}")
            continue
        pairs = all_pairs(len(data)) if name == "SR25" else data.pairs()
        if limit is not None:
            # Evenly spread: in CEXP, every other pair is of the other kind.
            pairs = pairs[torch.linspace(0, len(pairs) - 1, limit).round().long()]
        used, pairs = torch.unique(pairs, return_inverse=True)
        found.append(PairSet(name, [data[i] for i in used.tolist()], pairs, layers))
    return found, missing


#: Depth at which the networks tell apart about what deeper ones do.
_BREC_LAYERS = {
    "basic": 6,
    "regular": 6,
    "strongly_regular": 3,
    "extension": 6,
    "cfi": 10,
    "four_vertex_condition": 3,
    "distance_regular": 4,
}


def brec_sets(folder: Path, limit: int | None) -> list[PairSet]:
    """The pairs of BREC by their kind; ``limit`` caps each."""
    found = []
    for kind in brec_ranges():
        data = BREC(folder, (kind,))
        count = min(len(data) // 2, limit or len(data))
        graphs = [data[i] for i in range(2 * count)]
        name = kind.replace("_", " ")
        found.append(PairSet(name, graphs, torch.arange(2 * count).view(-1, 2), _BREC_LAYERS[kind]))
    return found


# Options that only choose among sets, networks and tables: what is kept belongs to all of them.
APART = (
    "full", "tables", "data", "brec", "sets", "train", "only", "pools", "epochs", "limit", "untrained",
)  # fmt: skip


def chosen_sets(sets: Sequence[PairSet], args: argparse.Namespace) -> list[PairSet]:
    """Those that ``--sets`` names, all if it is absent.

    Raises:
        ValueError: There is none of that name.
    """
    known = [data.name for data in sets]
    for name in args.sets or ():
        if name not in known:
            raise ValueError(f"`sets` must be out of {', '.join(known)}; got {name!r}.")
    return [data for data in sets if not args.sets or data.name in args.sets]


def named(args: argparse.Namespace) -> None:
    """Checks the names of the networks.

    Raises:
        ValueError: ``--only`` holds one that there is not.
    """
    known = [*(m.name for m in (*MODELS, DISTANCES, HALVES, RP)), ALL_ORDERS]
    for name in args.only or ():
        if name not in known:
            raise ValueError(f"`only` must be out of {', '.join(map(repr, known))}; got {name!r}.")


def wanted(args: argparse.Namespace, model: str) -> bool:
    return not args.only or model in args.only
