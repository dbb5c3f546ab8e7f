"""Threads for serial kernels that release the GIL, spread over contiguous ranges of items.

Not Numba's `parallel=True`: its OpenMP layer kills workers forked after its first use, its workqueue layer dies when two
threads enter it. Ranges run on torch's own threads (`neuro.kernels.openmp`), which would otherwise spin on the cores that ours
need; where there are none, where they sleep while they wait, or where others use the cores, on a pool of ours, which is remade
in a forked child. Both may be entered from any number of threads.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import torch

from neuro.kernels import openmp

WORTH_A_THREAD = 100e-6  # seconds of work that pay for a thread of torch's which spins
WORTH_WAKING = 250e-6  # that pay for one of ours, which sleeps
WORTH_A_RANGE = 150e-6  # seconds of work that pay for calling once more
A_CALL = 20e-6  # seconds that a thread of torch's adds to a call in which nothing is left for it
MOST_RANGES = 8  # of a thread
LATE = 2e-3  # seconds of waiting at the end of a call, and three times the work before, that tell of cores which others use
SPARED = 1.0  # seconds for which torch's threads are then not called

_lock = threading.Lock()
_offers: queue.SimpleQueue[Any] = queue.SimpleQueue()  # read by all threads of ours
_size = 0  # how many there are
_spared_until = 0.0
_here = threading.local()


def spread(work: Callable[[int, int], None], items: int, *, cost: float, grain: int = 1) -> None:
    """Call `work(low, high)` on ranges that together cover `0 .. items`, side by side on at most `torch.get_num_threads()` threads.

    A thread takes the next range when it is done with one: there are several for each where they are long, so that a thread that
    comes late, or whose core others use, does less. It may be called from within `work`.

    Args:
        work: releases the GIL and writes only what belongs to its items; then the result does not depend on the split.
        items: number of items.
        cost: estimated time of one item in seconds; a thread of its own is worth `WORTH_A_THREAD` or `WORTH_WAKING`.
        grain: items for which a range first makes something that they share. A thread gets several ranges only of so many items.

    Raises:
        whatever `work` raised first, after every range that began has ended.

    >>> done = [0] * 5
    >>> def work(low, high):
    ...     for i in range(low, high):
    ...         done[i] += 1
    >>> spread(work, 5, cost=1.0)
    >>> done
    [1, 1, 1, 1, 1]
    """
    seconds = items * cost
    threads, run = _worth(seconds, items)
    if threads <= 1:
        if items:
            work(0, items)
        return
    ranges = min(items, threads * max(1, min(MOST_RANGES, int(seconds / (threads * WORTH_A_RANGE)), items // (threads * grain))))
    ahead = [(items * k // ranges, items * (k + 1) // ranges) for k in reversed(range(ranges))]

    def take() -> None:
        while (limits := _next(ahead)) is not None:
            work(*limits)

    _together(take, run, threads, ahead.clear)


def share(task: Callable[[], object], items: int, *, cost: float) -> None:
    """Call `task()` here and on as many threads as its items are worth; it asks for an item or a few, does them, and asks again until none is left.

    Such a task shares its work more finely than the ranges of `spread`, for asking costs it nothing: a thread that comes late still helps.

    Args:
        task: releases the GIL, and may be called by several threads, once more when all is done, or by this one alone.
        items, cost: as in `spread`.
    """
    threads, run = _worth(items * cost, items)
    if threads <= 1:
        task()
    else:
        _together(task, run, threads)


def _worth(seconds: float, items: int) -> tuple[int, Callable[[openmp.Task, int], None] | None]:
    """Threads that this much work is worth, and what calls those of torch's; None for threads of ours."""
    if seconds < 2 * min(WORTH_A_THREAD, WORTH_WAKING) or getattr(_here, "is_ours", False):
        return 1, None
    most = torch.get_num_threads()
    run = openmp.team() if most > 1 and time.perf_counter() >= _spared_until else None
    if run is not None and seconds < most * A_CALL:
        return 1, None
    return min(most, items, max(1, int(seconds / (WORTH_WAKING if run is None else WORTH_A_THREAD)))), run


def _watched(run: Callable[[openmp.Task, int], None], take: openmp.Task, threads: int) -> None:
    """The call, and whether its threads came too late: where others use the cores, each waits in turn while the rest spin and hold
    the very core that it needs. For a while threads of ours are the better ones, which sleep while they wait."""
    global _spared_until
    caller, ends = threading.get_ident(), []

    def timed() -> None:
        take()
        if threading.get_ident() == caller:
            ends.append(time.perf_counter())

    began = time.perf_counter()
    run(timed, threads)
    now = time.perf_counter()
    if ends and now - ends[0] > max(LATE, 3 * (ends[0] - began)):
        _spared_until = now + SPARED


def _together(take: Callable[[], object], run: Callable[[openmp.Task, int], None] | None, threads: int, stop: Callable[[], object] = lambda: None) -> None:
    """Let so many threads call `take`, each until nothing is left. stop: what makes nothing be left, after a failure."""
    ended: list[int] = []
    failures: list[BaseException] = []

    def taking() -> None:
        try:
            take()
        except BaseException as failure:  # also an interrupt: raised below, once no thread writes any longer
            failures.append(failure)
            stop()
        ended.append(threading.get_ident())

    if run is None:
        _on_pool(taking, threads)
    else:  # on all, as torch: GNU's library would end the others, and torch's next operation make them anew, in milliseconds
        _watched(run, taking, torch.get_num_threads())
    if failures:
        raise failures.pop(0)  # not kept here: the arrays of its frames would outlive it in a cycle
    if threading.get_ident() not in ended:
        stop()
        taking()  # for want of stack this fails again
        raise KeyboardInterrupt  # it came in the caller's thread outside `try`, and ctypes printed and lost it


def _next(ahead: list[Any]) -> Any:
    try:
        return ahead.pop()  # whole under any thread
    except IndexError:
        return None


def _on_pool(take: openmp.Task, threads: int) -> None:
    """Here and on threads of ours, of which those that come too late find nothing left to do and are not waited for."""
    offer, ended, news = [take] * (threads - 1), [], queue.SimpleQueue()
    offers = _served_by(threads - 1)
    for _ in range(threads - 1):
        offers.put((offer, ended, news))
    interrupt = None
    try:
        take()
    finally:
        others = threads - 1
        while _next(offer) is not None:  # what nobody took up is taken back
            others -= 1
        while len(ended) < others:
            try:
                news.get()
            except BaseException as failure:  # an interrupt: raised once no thread writes any longer
                interrupt = failure
    if interrupt is not None:
        raise interrupt


def _served_by(count: int) -> queue.SimpleQueue[Any]:
    """Where so many threads of ours wait for an offer."""
    global _size
    with _lock:
        while _size < count:
            threading.Thread(target=_serve, args=(_offers,), name=f"neuro-kernel-{_size}", daemon=True).start()
            _size += 1
        return _offers


def _serve(offers: queue.SimpleQueue[Any]) -> None:
    _here.is_ours = True  # one that waited for another one of ours might wait for ever, so it is told apart
    while True:
        offer, ended, news = offers.get()
        take = _next(offer)
        if take is not None:
            take()
            del take  # with what the work used, before the caller is told
            ended.append(None)
            news.put(None)


def _forget() -> None:
    """A forked child has none of its parent's threads, and perhaps a lock that nobody will open."""
    global _offers, _size, _lock
    _offers, _size, _lock = queue.SimpleQueue(), 0, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
