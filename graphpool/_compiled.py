"""Compiled code: how a kernel is compiled and kept, and the threads that it runs on.

The only file that knows Numba's compiler, so that every kernel of the library works where no cache folder
can be written. Numba's own ``prange`` pools are not safe in forked workers nor under several Python
threads: kernels here are ``nogil`` functions over a range of work, and :func:`parallel_for` runs a list of
such ranges on ordinary Python threads.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
import warnings
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch

_state: dict[str, Any] = {"cached": True, "seconds": {}}
_known: set[tuple[Any, ...]] = set()


def kernel(
    fn: Callable[..., Any] | None = None,
    *,
    fastmath: Collection[str] = (),
    inline: bool = False,
) -> Any:
    """Compiles ``fn`` at its first call, without the interpreter's lock, and keeps it on disk.

    Where no cache folder can be written it is compiled anew in every process, and the first kernel warns.

    Args:
        fn: The function; without it, a decorator.
        fastmath: LLVM's flags that loosen floating-point arithmetic; none by default.
        inline: Whether callers take in its body.
    """
    from numba import njit  # here, because Numba takes a while to load

    if fn is None:
        return partial(kernel, fastmath=fastmath, inline=inline)
    options: dict[str, Any] = {
        "nogil": True,
        "fastmath": set(fastmath) or False,
        # As IEEE 754 has it: a check for zero before each division keeps loops from being vectorised.
        "error_model": "numpy",
    }
    if inline:
        options["inline"] = "always"
    try:
        return njit(cache=True, **options)(fn)
    except RuntimeError as error:
        # "No locator available": neither the package's folder nor the user's can be written.
        if _state["cached"]:
            _state["cached"] = False
            warnings.warn(
                "graphpool's CPU kernels are compiled anew in every process, because no cache folder "
                f"can be written ({error}). Set NUMBA_CACHE_DIR to a folder that can.",
                RuntimeWarning,
                stacklevel=3,
            )
        return njit(**options)(fn)


def report() -> tuple[bool, dict[str, float]]:
    """Whether compiled kernels are kept on disk, and the seconds each took to compile or load."""
    return _state["cached"], dict(_state["seconds"])


def ready(function: Any, args: tuple[Any, ...]) -> None:
    """Compiles ``function`` for these arguments, before threads would wait for each other to do it."""
    # Kinds of arguments that came before: Numba takes longer to name a type than a small kernel runs.
    kind = (
        function,
        *(
            (a.dtype, a.ndim, a.flags.num) if isinstance(a, np.ndarray) else a.__class__
            for a in args
        ),
    )
    if kind not in _known:
        from numba import typeof

        begin = time.perf_counter()
        before = len(function.overloads)
        function.compile(tuple(typeof(a) for a in args))
        _note(function, before, begin)
        _known.add(kind)


def call(function: Any, args: tuple[Any, ...]) -> None:
    """``function(*args)``, compiled at the first call for such arguments."""
    before, begin = len(function.overloads), time.perf_counter()
    function(*args)
    _note(function, before, begin)


def _note(function: Any, before: int, begin: float) -> None:
    """Writes down the time since ``begin`` if ``function`` was compiled or loaded in it."""
    if len(function.overloads) > before:
        from numba import types

        arrays = (s.dtype for s in next(reversed(function.overloads)) if isinstance(s, types.Array))
        real = next((str(dtype) for dtype in arrays if isinstance(dtype, types.Float)), "")
        name = f"{function.__name__}[{real}]"
        _state["seconds"][name] = _state["seconds"].get(name, 0.0) + time.perf_counter() - begin


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
