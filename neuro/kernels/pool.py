"""Threads for serial kernels that release the GIL, spread over contiguous ranges of items.

Not Numba's `parallel=True`: its OpenMP layer kills workers forked after its first use, its workqueue layer dies when two
threads enter it. A pool of ours is remade in a forked child, and may be entered from any number of threads.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_size = 0


def spread(work: Callable[[int, int], None], items: int, *, cost: float) -> None:
    """Call `work(low, high)` on ranges that together cover `0 .. items`, side by side on at most `torch.get_num_threads()` threads.

    Args:
        work: releases the GIL and writes only what belongs to its items; then the result does not depend on the split.
        items: number of items.
        cost: estimated time of one item in seconds; a thread of its own is worth about 50 us of work.

    Raises:
        whatever `work` raised first, after every range has ended.

    >>> done = [0] * 5
    >>> def work(low, high):
    ...     for i in range(low, high):
    ...         done[i] += 1
    >>> spread(work, 5, cost=1.0)
    >>> done
    [1, 1, 1, 1, 1]
    """
    ranges = min(torch.get_num_threads(), items, max(1, int(items * cost / WORTH_A_THREAD)))
    if ranges <= 1:
        if items:
            work(0, items)
        return
    cuts = [items * k // ranges for k in range(ranges + 1)]
    pool = _threads(ranges - 1)
    others: list[Future[None]] = [pool.submit(work, low, high) for low, high in zip(cuts[1:-1], cuts[2:], strict=True)]
    try:
        work(cuts[0], cuts[1])
    finally:
        failures = [f.exception() for f in others]
    for failure in failures:
        if failure is not None:
            raise failure


WORTH_A_THREAD = 50e-6  # seconds of work that pay for waking a thread


def _threads(count: int) -> ThreadPoolExecutor:
    global _pool, _size
    with _lock:
        if _pool is None or _size < count:
            # An outgrown pool ends by itself once its work is done: other threads may still be waiting on it.
            _pool, _size = ThreadPoolExecutor(count, thread_name_prefix="neuro-kernel"), count
        return _pool


def _forget() -> None:
    """A forked child has none of its parent's threads, and perhaps a lock that nobody will open."""
    global _pool, _size, _lock
    _pool, _size, _lock = None, 0, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
