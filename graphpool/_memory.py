"""Large outputs on huge pages.

A fresh output of some hundred megabytes costs one page fault per 4 KiB, which takes longer than
computing it. Where the system leaves huge pages to the program's choice (Linux, ``madvise``), asking for
them makes that 2 MiB.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import sys

import numpy as np
import torch
from torch import Tensor

_LARGE = 1 << 23
_HUGE_PAGE = getattr(mmap, "MADV_HUGEPAGE", None)
_libc = ctypes.CDLL(None) if sys.platform == "linux" and _HUGE_PAGE is not None else None


def large(out: Tensor) -> Tensor:
    """``out``, a fresh CPU tensor that nothing has been written to, on huge pages if it is large."""
    size = out.numel() * out.element_size()
    if _libc is not None and size >= _LARGE:
        page = mmap.PAGESIZE
        start = -(-out.data_ptr() // page) * page
        length = (out.data_ptr() + size - start) // page * page
        # Advice only: a system that refuses it gives ordinary pages.
        _libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), _HUGE_PAGE)
    return out


def is_large(shape: tuple[int, ...], dtype: torch.dtype) -> bool:
    """Whether a result of this shape is one that :func:`large` does something about."""
    return math.prod(shape) * dtype.itemsize >= _LARGE


def fresh(shape: tuple[int, ...], like: np.ndarray) -> np.ndarray:
    """An uninitialised array of the dtype of ``like``."""
    return large(torch.from_numpy(np.empty(shape, like.dtype))).numpy()
