"""What an op would do with a tensor, in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from graphpool import _compiled
from graphpool.ops.dispatch import FUSED, choose

_PATHS = {
    "numba": "fused CPU kernel (Numba)",
    "triton": "fused CUDA kernel (Triton)",
    "torch": "composed form on plain PyTorch",
    "torch_scatter": "composed form on torch-scatter",
}


def explain(op: str | Callable[..., Any], x: Tensor, weight: Tensor | None = None) -> str:
    """Tells which path an op takes for the elements ``x``, and why.

    Args:
        op: A function of :mod:`graphpool.ops`, or its name.
        x: The elements ``[E, ...]``.
        weight: The weights that go with them, if any.

    Returns:
        One line for the path, and one for the compilation of the CPU kernels where they are taken.

    Raises:
        TypeError: ``op`` is neither a function nor a name.

    Example:
        >>> import torch, graphpool
        >>> x = torch.zeros(3, 2)
        >>> with graphpool.use_backend("torch"):
        ...     print(explain("segment_power", x))
        segment_power: composed form on plain PyTorch, because use_backend('torch') is in force
    """
    name = op if isinstance(op, str) else getattr(op, "__name__", None)
    if not isinstance(name, str) or not isinstance(x, Tensor):
        raise TypeError(f"explain() takes an op or its name, and a tensor; got {op!r}, {x!r}.")
    alias = {
        "segment_max": "segment_extremum",
        "segment_min": "segment_extremum",
        "segment_var": "segment_moments",
        "segment_std": "segment_moments",
    }
    path = choose(alias.get(name, name), x, weight)
    line = f"{name}: {_PATHS[path.name]}, because {path.reason}"
    if path.name != "numba":
        return line
    cached, seconds = _compiled.report()
    where = "kept on disk" if cached else "for this process only: no cache folder can be written"
    spent = sum(seconds.values())
    return (
        f"{line}\nkernels compiled or loaded so far: {len(seconds)}, in {spent:.1f} s ({where}); "
        f"ops with a kernel: {', '.join(sorted(FUSED))}"
    )
