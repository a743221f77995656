"""Processes of their own for ``streaming.py``, whose time and memory are measured."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch
from _scripts import peak_memory
from torch import Tensor, nn

import graphpool
from graphpool import aggr

CHANNELS, ROWS = 16, 1 << 15
#: Rows of a piece where nothing but the pool is at work: to add one costs about a millisecond besides.
LARGE = 1 << 18
POOLS = ["mean", "std", "logsumexp", "gnp"]


def generated(
    count: int, width: int = CHANNELS, seed: int = 0, rows: int = ROWS
) -> Iterator[Tensor]:
    g = torch.Generator().manual_seed(seed)
    for start in range(0, count, rows):
        yield torch.randn(min(rows, count - start), width, generator=g)


def ahead(pieces: Iterable[Tensor]) -> Iterator[Tensor]:
    """The same pieces, of which the next is made while one is used."""
    source = iter(pieces)
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, source, None)
        while (piece := coming.result()) is not None:
            coming = pool.submit(next, source, None)
            yield piece


def job_make(count: int) -> dict:
    """Makes the elements and reads them once."""
    start, spent = time.perf_counter(), time.thread_time()
    total = sum(float(piece.sum()) for piece in generated(count, rows=LARGE))
    spent = time.thread_time() - spent
    return {"seconds": time.perf_counter() - start, "processor": spent, "sum": total}


def job_pool(count: int, names: Any = POOLS) -> dict:
    state = aggr.resolve(names, channels=CHANNELS).begin(1, exact=False)
    start, spent = time.perf_counter(), time.thread_time()
    for piece in ahead(generated(count, rows=LARGE)):
        state.add(piece)
    # Of this thread, which pools; another one makes.
    spent, y = time.thread_time() - spent, state.result().flatten().tolist()[:2]
    return {"seconds": time.perf_counter() - start, "processor": spent, "y": y}


def _network() -> tuple[nn.Module, nn.Module, nn.Module]:
    torch.manual_seed(0)
    encoder = nn.Sequential(
        nn.Linear(32, 256), nn.GELU(), nn.Linear(256, 256), nn.GELU(), nn.Linear(256, 64)
    )
    pool = aggr.resolve(["std", "pma", "logsumexp"], channels=64)
    return encoder, pool, nn.Linear(192, 1)


def _pieces(count: int) -> Iterator[Tensor]:
    for piece in generated(count, 32):
        yield from piece.split(4096)


def job_stream(count: int) -> dict:
    encoder, pool, head = _network()
    start = time.perf_counter()
    head(graphpool.stream(encoder, pool, lambda: _pieces(count))).sum().backward()
    return {"seconds": time.perf_counter() - start, "slope": float(encoder[0].weight.grad.norm())}


def job_full(count: int) -> dict:
    encoder, pool, head = _network()
    start = time.perf_counter()
    head(pool(encoder(torch.cat(list(_pieces(count)))))).sum().backward()
    return {"seconds": time.perf_counter() - start, "slope": float(encoder[0].weight.grad.norm())}


JOBS: dict[str, Callable[[int], dict]] = {
    "make": job_make,
    "all": job_pool,
    **{name: partial(job_pool, names=name) for name in POOLS},
    "stream": job_stream,
    "full": job_full,
}


if __name__ == "__main__":
    name, number = sys.argv[1:]
    # Kernels are loaded before the clock is started.
    JOBS[name](ROWS)
    print(json.dumps({**JOBS[name](int(number)), "peak": peak_memory()}))
