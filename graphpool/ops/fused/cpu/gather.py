"""CPU kernel of running totals."""

from __future__ import annotations

import numpy as np

from graphpool.ops.fused.cpu.core import bag_chunks, kernel, run


@kernel
def running_totals(x, perm, ptr, backwards, out, slot, first, last):  # type: ignore[no-untyped-def]
    """The totals of each bag up to each of its elements, or from it on, added up in float64."""
    channels = x.shape[1]
    total = np.empty(channels, np.float64)
    for n in range(first, last):
        for c in range(channels):
            total[c] = 0.0
        for k in range(ptr[n], ptr[n + 1]):
            place = ptr[n] + ptr[n + 1] - 1 - k if backwards else k
            e = perm[place] if perm.size > 0 else place
            for c in range(channels):
                total[c] += x[e, c]
                out[e, c] = total[c]


def fill(
    x: np.ndarray, perm: np.ndarray, ptr: np.ndarray, backwards: bool, out: np.ndarray
) -> None:
    """Fills ``out`` ``[E, C]``. A total waits for the one before it: a bag is one thread's, however long."""
    run(running_totals, (x, perm, ptr, backwards, out), bag_chunks(ptr, x.shape[1])[0])
