"""The functions of :mod:`graphpool.ops` in one form, for tests that hold all of them to the same contract."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from graphpool import ops
from graphpool.segments import Segments

SegmentFunction = Callable[..., Tensor]

_FILLED_IN: dict[str, Any] = {
    "moments": ("sum", "std", "min"),
    "t": 0.7,
    "p": 1.5,
    "q": 0.4,
    "k": 2,
    "trim": 0.2,
    "frequency": 0.7,
    "exponents": torch.tensor([3.0, -2.0]),
    "mix": torch.tensor([[0.5], [-0.4], [0.9]]),
    "growth": torch.tensor(0.3),
}
"""By the name of the parameter: what it gets. The level of a quantile is called ``q``, too."""


def segment_functions() -> dict[str, SegmentFunction]:
    """Every function of :mod:`graphpool.ops` from elements and bags to values, by its name.

    Called as ``f(x, segments, **options)``, with the options that the function has out of ``weight`` and
    ``gather``; further arguments are filled in, scores are the elements themselves, and several results are
    concatenated. Whether ``f`` has an option tells ``inspect.signature(f)``.

    Example:
        >>> segments = Segments(ptr=torch.tensor([0, 2]))
        >>> segment_functions()["segment_power"](torch.tensor([[3.0], [4.0]]), segments).shape
        torch.Size([1, 1])
    """
    found = {}
    for name in (name for name in ops.__all__ if name.startswith("segment_")):
        function = getattr(ops, name)
        parameters = inspect.signature(function).parameters
        known = {"x", "score", "value", "segments", "weight", "gather", *_FILLED_IN}
        needed = {v for v, p in parameters.items() if p.default is p.empty}
        if "segments" in needed and needed <= known:
            found[name] = _filled_in(function, parameters)
    return found


def _filled_in(function: Callable[..., Any], parameters: Any) -> SegmentFunction:
    more = {v: example for v, example in _FILLED_IN.items() if v in parameters}
    rows = next(v for v in ("value", "x", "score") if v in parameters)

    def call(x: Tensor, segments: Segments, **options: Tensor) -> Tensor:
        arguments = {rows: x, "segments": segments, **more, **options}
        if rows == "value":
            arguments["score"] = ops.gathered(x, options.get("gather"))
        y = function(**arguments)
        if not isinstance(y, tuple):
            return y
        return torch.cat([v for v in y if v.is_floating_point()])

    options = [p for v, p in parameters.items() if v in ("weight", "gather")]
    call.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    return call
