"""What every part is given: the device, the sizes, clocks, and what there is to compare with."""

from __future__ import annotations

import gc
import importlib
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from graphpool import use_backend

Item = tuple[str, Callable[[], dict[str, Any]]]
"""One thing to do: a name, and a function that returns what is recorded of it, or raises."""
Part = Callable[["Run"], Iterator[Item]]


@dataclass(frozen=True)
class Run:
    """``size`` is ``"full"``, ``"quick"`` or ``"interpret"``: small enough for the interpreter of Triton."""

    device: str
    seed: int
    size: str

    @property
    def interpreted(self) -> bool:
        return self.size == "interpret"

    def pick(self, full: Any, quick: Any, interpret: Any) -> Any:
        return {"full": full, "quick": quick, "interpret": interpret}[self.size]

    def reference(self) -> AbstractContextManager[None]:
        """In force while the CPU computes what is compared with: its kernels, or where these have been
        replaced the composed form."""
        return use_backend("torch") if self.interpreted else nullcontext()

    def seeded(self) -> torch.Generator:
        """Inputs are drawn on the CPU, so that every device gets the same."""
        return torch.Generator().manual_seed(self.seed)

    def synchronise(self) -> None:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)

    def milliseconds(self, call: Callable[[], Any]) -> float:
        """Median time of one call after warm-up: by events of the device, or by the clock on a CPU."""
        for _ in range(1 if self.interpreted else 3):
            call()
        self.synchronise()
        found: list[float] = []
        until = time.perf_counter() + self.pick(0.5, 0.2, 0.0)
        while len(found) < 3 or (time.perf_counter() < until and len(found) < 100):
            found.append(self._once(call))
            if self.interpreted:
                break
        return statistics.median(found)

    def _once(self, call: Callable[[], Any]) -> float:
        if not self.device.startswith("cuda"):
            start = time.perf_counter()
            call()
            return 1e3 * (time.perf_counter() - start)
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        with torch.cuda.device(self.device):
            begin.record()
            call()
            end.record()
            end.synchronize()
        return begin.elapsed_time(end)

    def peak(self, call: Callable[[], Any]) -> float | None:
        """MiB that a call needs at its peak beyond what is there before."""
        if not self.device.startswith("cuda"):
            return None
        gc.collect()
        torch.cuda.synchronize(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        call()
        torch.cuda.synchronize(self.device)
        return (torch.cuda.max_memory_allocated(self.device) - before) / 2**20

    def race(self, rivals: dict[str, Callable[[], Any]]) -> dict[str, Any]:
        """Times and peaks of all rivals; one that cannot run says why, the first must run."""
        row: dict[str, Any] = {}
        for place, (name, call) in enumerate(rivals.items()):
            try:
                row[f"{name} ms"] = self.milliseconds(call)
                row[f"{name} MiB"] = self.peak(call)
            except Exception as error:
                if place == 0 or "CUDA error" in str(error):
                    raise
                row[f"{name} ms"] = (
                    f"cannot: {type(error).__name__}: {str(error).splitlines()[0][:120]}"
                )
            torch.compiler.reset()
        return row


def found(name: str) -> ModuleType | None:
    """A package to compare with, where it can be imported."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError):
        return None


def differentiated(call: Callable[[], Tensor], inputs: list[Tensor], grad: Tensor) -> Callable:
    return lambda: torch.autograd.grad(call(), inputs, grad, allow_unused=True)
