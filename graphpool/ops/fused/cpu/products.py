"""CPU kernels of products of small matrices, one for each bag."""

from __future__ import annotations

import numpy as np

from graphpool._memory import fresh
from graphpool.ops.fused.cpu.core import REDUCTION_FLAGS, kernel, pieces, row_chunks, run

_PIECE = 256
"""A longer bag is taken in pieces of so many elements: work for threads, and short sums. Pieces are longer
where matrices are large, so that those of the pieces take less room than the elements."""
_NARROW = 32
"""Below so many columns a product is made of sums along the rows."""


@kernel
def _outer(x, y, perm, begin, end, out, slot, first, last):  # type: ignore[no-untyped-def]
    """``sum x_e y_e^T``, four elements at a time: so a sum is loaded and stored once for four terms."""
    has_perm = perm.size > 0
    for n in range(first, last):
        for p in range(out.shape[1]):
            for q in range(out.shape[2]):
                out[n, p, q] = 0
        i = begin[n]
        while i + 4 <= end[n]:
            a = perm[i] if has_perm else i
            b = perm[i + 1] if has_perm else i + 1
            c = perm[i + 2] if has_perm else i + 2
            d = perm[i + 3] if has_perm else i + 3
            # As arrays of their own they are read without their strides.
            ya, yb, yc, yd = y[a], y[b], y[c], y[d]
            for p in range(out.shape[1]):
                u, v, w, z = x[a, p], x[b, p], x[c, p], x[d, p]
                row = out[n, p]
                for q in range(out.shape[2]):
                    row[q] += u * ya[q] + v * yb[q] + w * yc[q] + z * yd[q]
            i += 4
        while i < end[n]:
            a = perm[i] if has_perm else i
            for p in range(out.shape[1]):
                u = x[a, p]
                for q in range(out.shape[2]):
                    out[n, p, q] += u * y[a, q]
            i += 1


@kernel
def _wide(x, matrices, turned, perm, begin, end, owner, out, slot, first, last):  # type: ignore[no-untyped-def]
    """Rows times matrices, as sums of rows of the matrices, four at a time."""
    has_perm, rows = perm.size > 0, x.shape[1]
    matrix = np.empty((x.shape[1], out.shape[1]), x.dtype)
    for n in range(first, last):
        given = matrices[owner[n] if owner.size else n]
        matrix[:] = given.T if turned else given
        for i in range(begin[n], end[n]):
            e = perm[i] if has_perm else i
            row, values = out[e], x[e]
            row[:] = 0
            p = 0
            while p + 4 <= rows:
                u, v, w, z = values[p], values[p + 1], values[p + 2], values[p + 3]
                a, b, c, d = matrix[p], matrix[p + 1], matrix[p + 2], matrix[p + 3]
                for q in range(out.shape[1]):
                    row[q] += u * a[q] + v * b[q] + w * c[q] + z * d[q]
                p += 4
            while p < rows:
                u, a = values[p], matrix[p]
                for q in range(out.shape[1]):
                    row[q] += u * a[q]
                p += 1


def _narrow_rows(x, matrices, turned, perm, begin, end, owner, out, slot, first, last):  # type: ignore[no-untyped-def]
    """Rows times matrices of few columns, as inner products."""
    has_perm = perm.size > 0
    columns = np.empty((out.shape[1], x.shape[1]), x.dtype)
    for n in range(first, last):
        given = matrices[owner[n] if owner.size else n]
        columns[:] = given if turned else given.T
        for i in range(begin[n], end[n]):
            e = perm[i] if has_perm else i
            for q in range(out.shape[1]):
                total = x.dtype.type(0)
                for p in range(x.shape[1]):
                    total += x[e, p] * columns[q, p]
                out[e, q] = total


_narrow = kernel(_narrow_rows, fastmath=REDUCTION_FLAGS)


def outer(x: np.ndarray, y: np.ndarray, ptr: np.ndarray, perm: np.ndarray) -> np.ndarray:
    """Sums of outer products ``[S, P, Q]``."""
    if x.shape[1] > y.shape[1]:
        return np.ascontiguousarray(outer(y, x, ptr, perm).transpose(0, 2, 1))
    begin, end, owner = _cut(ptr, max(_PIECE, 4 * y.shape[1]))
    out = fresh((len(begin), x.shape[1], y.shape[1]), x)
    run(_outer, (x, y, perm, begin, end, out), row_chunks(len(begin), out.size * 16))
    if not owner.size:
        return out
    whole = np.zeros((len(ptr) - 1, *out.shape[1:]), x.dtype)
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    whole[owner[first]] = np.add.reduceat(out, first, axis=0, dtype=np.float64)
    return whole


def matmul(x: np.ndarray, matrices: np.ndarray, ptr: np.ndarray, perm: np.ndarray) -> np.ndarray:
    """Each row times the matrix of its bag ``[E, Q]``; the matrices, or their transposes, are contiguous."""
    out = fresh((len(x), matrices.shape[2]), x)
    begin, end, owner = _cut(ptr, _PIECE)
    work = _narrow if out.shape[1] < _NARROW else _wide
    chunks = row_chunks(len(begin), len(x) * matrices[0].size if len(matrices) else 0)
    turned = not matrices.flags.c_contiguous
    stored = matrices.transpose(0, 2, 1) if turned else matrices
    run(work, (x, stored, turned, perm, begin, end, owner, out), chunks)
    return out


def _cut(ptr: np.ndarray, longest: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Begin and end of each piece, and its bag; no bags where each is a piece."""
    counts = np.diff(ptr)
    if counts.max(initial=0) <= longest:
        return ptr[:-1], ptr[1:], np.empty(0, np.int64)
    bags = np.flatnonzero(counts)
    cut = pieces(ptr, bags, longest)
    return cut.begin, cut.end, bags[cut.owner]
