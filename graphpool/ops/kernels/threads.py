"""The thread pool that the CPU kernels run on.

Numba's own ``prange`` pools are not safe in forked workers nor under several Python threads. The kernels
here are ``nogil`` functions over a range of work, and this module runs a list of such ranges on ordinary
Python threads.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None


def _forget_pool() -> None:
    """The threads of the parent do not exist in a forked child, and its lock may be held by one of them."""
    global _pool, _lock
    _pool = None
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def _get_pool() -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(max(1, os.cpu_count() or 1), "graphpool")
        return _pool


def parallel_for(fn: Callable[..., Any], chunks: Sequence[tuple[Any, ...]]) -> None:
    """Calls ``fn(*chunk)`` for every chunk, on ``torch.get_num_threads()`` threads.

    The calling thread works too, so a call never waits for a free thread of the pool: calls from many
    Python threads, or from inside another call, make progress. One chunk, or one thread, runs inline.
    Chunks are handed out in order, to whichever thread is free.

    Args:
        fn: the work; it gains from threads only where it releases the GIL.
        chunks: one tuple of arguments per call.

    Raises:
        Exception: the first exception that a call raised; the chunks not yet started are dropped.

    Example:
        >>> done = []
        >>> parallel_for(lambda a, b: done.append(a + b), [(1, 2), (3, 4)])
        >>> sorted(done)
        [3, 7]
    """
    helpers = min(torch.get_num_threads(), len(chunks)) - 1
    if helpers <= 0:
        for chunk in chunks:
            fn(*chunk)
        return
    ticket = itertools.count()
    total = len(chunks)

    def work() -> None:
        nonlocal total
        while (i := next(ticket)) < total:
            try:
                fn(*chunks[i])
            except BaseException:
                total = 0
                raise

    pool = _get_pool()
    futures: list[Future[None]] = [pool.submit(work) for _ in range(helpers)]
    try:
        work()
    finally:
        # A helper that has not begun by now has nothing left to do; one that has still writes.
        for future in futures:
            if not future.cancel():
                future.exception()
    for future in futures:
        if not future.cancelled():
            future.result()
