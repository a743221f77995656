"""Runs a script; the last line says how many layers it evaluated by running statistics, and which of these
held averages over networks before the one that was evaluated.

    python evaluated.py SCRIPT [options of the script]
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

from torch import nn

import graphpool.train
from graphpool.files import fitting
from graphpool.train import loops, running

SETTLED: set[tuple[bytes, ...]] = set()
USED: set[int] = set()
LAGGING: set[str] = set()


def held(norm: nn.Module) -> tuple[bytes, ...]:
    return tuple(v.detach().cpu().numpy().tobytes() for v in running.running_statistics(norm))


def recalibrate(model: nn.Module, *args, **kwargs) -> int:
    count = ORIGINAL(model, *args, **kwargs)
    SETTLED.update(held(module) for module in model.modules())
    return count


def look(module: nn.Module, inputs: object) -> None:
    """Statistics are good if they were computed in one pass, or nothing was seen in training."""
    if module.training or not (found := running.running_statistics(module)):
        return
    USED.add(id(module))
    untouched = not bool(found[0].any()) and bool((found[1] == 1).all())
    if not untouched and held(module) not in SETTLED:
        LAGGING.add(f"{type(module).__name__} of {found[0].numel()}")


ORIGINAL = running.recalibrate
for module in (running, loops, fitting, graphpool.train):
    module.recalibrate = recalibrate
nn.modules.module.register_module_forward_pre_hook(look)
sys.argv = sys.argv[1:]
sys.path.insert(0, str(Path(sys.argv[0]).resolve().parent))
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print(json.dumps({"used": len(USED), "lagging": sorted(LAGGING)}))
