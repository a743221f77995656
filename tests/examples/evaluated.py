"""Runs a script; the last line says how many layers it evaluated by running statistics, and which of these
held averages over networks before the one that was evaluated.

    python evaluated.py SCRIPT [options of the script]
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

import graphpool.train
from graphpool.files import fitting
from graphpool.train import loops, running

SETTLED: set[tuple[bytes, ...]] = set()
USED: set[int] = set()
LAGGING: set[str] = set()


def statistics(norm: nn.Module) -> list[np.ndarray]:
    """Mean and variance as they are, inside a transform of ``torch.func``, too; nothing if there are none."""
    with torch._C._DisableFuncTorch():
        return [value.numpy().copy() for value in running.running_statistics(norm)]


def held(norm: nn.Module) -> tuple[bytes, ...]:
    return tuple(value.tobytes() for value in statistics(norm))


def recalibrate(model: nn.Module, *args, **kwargs) -> int:
    count = ORIGINAL(model, *args, **kwargs)
    SETTLED.update(held(module) for module in model.modules())
    return count


def look(module: nn.Module, inputs: object) -> None:
    """Statistics are good if they were computed in one pass, or nothing was seen in training."""
    if module.training or not (found := statistics(module)):
        return
    USED.add(id(module))
    mean, variance = found
    untouched = not mean.any() and (variance == 1).all()
    if not untouched and held(module) not in SETTLED:
        LAGGING.add(f"{type(module).__name__} of {mean.size}")


ORIGINAL = running.recalibrate


def main() -> None:
    for module in (running, loops, fitting, graphpool.train):
        module.recalibrate = recalibrate
    nn.modules.module.register_module_forward_pre_hook(look)
    sys.argv = sys.argv[1:]
    sys.path.insert(0, str(Path(sys.argv[0]).resolve().parent))
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        print(json.dumps({"used": len(USED), "lagging": sorted(LAGGING)}))


# Doctests import this file, and must not be watched.
if __name__ == "__main__":
    main()
