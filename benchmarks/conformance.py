"""The points of ``graphpool.testing`` on PyTorch Geometric's pools, and on those of this library.

    python benchmarks/conformance.py
    python benchmarks/conformance.py --quick      # four pools

The suite describes bags by :class:`graphpool.Segments`; PyG's pools get the index and the number of bags
instead, or the offsets where a test gives offsets. A pool fails a point if its result is wrong or if it
raises an error. PyG's pools take no weights: that counts once, for the point that is about weights, and a
point that happens to use them is not counted for PyG. Points that are conventions of this library are asked
of none: where the width stands, how a pool waits for it, and what an error suggests.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from _common import machine, make_parser, prepare, record, table
from _scripts import run as run_script
from torch import Tensor, nn
from torch.autograd.gradcheck import GradcheckError
from torch_geometric.nn import aggr as pyg
from tqdm import tqdm

from graphpool import Segments, aggr, testing

CHANNELS = 8
POINTS = [point for point in testing.POINTS if point not in ("channels", "lazy", "arguments")]
PAIRS: dict[str, Callable[[], nn.Module]] = {
    "sum": pyg.SumAggregation,
    "softmax": lambda: pyg.SoftmaxAggregation(learn=True),
    "powermean": lambda: pyg.PowerMeanAggregation(learn=True),
    "max": pyg.MaxAggregation,
    "min": pyg.MinAggregation,
    "mean": pyg.MeanAggregation,
    "var": pyg.VarAggregation,
    "std": pyg.StdAggregation,
    "median": pyg.MedianAggregation,
    "quantile": lambda: pyg.QuantileAggregation(0.3),
    "multi": lambda: pyg.MultiAggregation(["mean", "std"]),
    "deepsets": lambda: pyg.DeepSetsAggregation(
        nn.Linear(CHANNELS, CHANNELS), nn.Linear(CHANNELS, CHANNELS)
    ),
    "set_transformer": lambda: pyg.SetTransformerAggregation(CHANNELS),
}


NO_WEIGHTS = "the pool takes no weights"


class Asked(nn.Module):
    """A pool of PyG, called as the suite calls pools."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.inner = PAIRS[name]()
        # What our own pool is exempt from, with a reason, is asked of neither.
        self.exempt = aggr.lookup(name).exempt
        # Sum, maximum and minimum of integers are expected to be exact.
        self.moment, self.accepts_integers = name, name in ("sum", "max", "min")

    def forward(
        self,
        x: Tensor,
        index: Tensor | Segments | None = None,
        ptr: Tensor | None = None,
        dim_size: int | None = None,
        dim: int = -2,
        max_num_elements: int | None = None,
        weight: Tensor | None = None,
    ) -> Any:
        if weight is not None:
            raise TypeError(NO_WEIGHTS)
        if isinstance(index, Segments):
            index, dim_size = index.index, index.num_segments
        return self.inner(x, index=index, ptr=ptr, dim_size=dim_size, dim=dim)


def failures(make: Callable[[], nn.Module]) -> dict[str, str]:
    """The points that a pool fails: ``"wrong"`` result, or ``"error"`` where it has none; and
    ``"unasked"``, those that only use weights."""
    found = {}
    for point in POINTS:
        torch.manual_seed(0)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                testing.check(point, make(), CHANNELS)
        except (AssertionError, GradcheckError):
            found[point] = "wrong"
        except Exception as error:  # whatever it is, it is no answer
            only_used = point != "weights" and NO_WEIGHTS in str(error)
            found[point] = "unasked" if only_used else "error"
        torch.compiler.reset()
    return found


def main() -> None:
    parser = make_parser(__doc__)
    args = parser.parse_args()
    prepare(args)
    names = list(PAIRS)[:4] if args.quick else list(PAIRS)
    total, rows = len(POINTS), []
    for name in tqdm(names):
        cls = aggr.lookup(name)
        ours = failures(
            lambda name=name, cls=cls: aggr.resolve(name, CHANNELS, **cls.example_arguments)
        )
        theirs = failures(lambda name=name: Asked(name))
        passed = total - len(ours), total - len(theirs)
        record(args, f"conformance {name}", f"of {total}", passed[0], "PyG", passed[1])
        asked = total - list(theirs.values()).count("unasked")
        row = [f"`{name}`", f"{passed[0]}/{total}", f"{passed[1]}/{asked}"]
        for kind in ("wrong", "error"):
            row.append(", ".join(point for point, how in theirs.items() if how == kind))
        rows.append(row)
    headers = ["pool", "graphpool", "PyG", "PyG answers wrongly", "PyG raises an error"]
    text = f"## Conformance\n\n{machine(args)}\n\n{table(headers, rows)}\n"
    print(text)
    (args.out / "conformance.md").write_text(text)


if __name__ == "__main__":
    run_script(main)
