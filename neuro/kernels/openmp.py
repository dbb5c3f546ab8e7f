"""The threads that torch's own operations run on, lent to Python functions.

An OpenMP library keeps its threads between operations, and by default lets them spin for some milliseconds in wait for the
next one. Threads of our own would share the cores with those; the same threads share nothing. GNU's entry point
`GOMP_parallel` runs one function on all of them. Intel's and LLVM's libraries have it too on Linux.

With `OMP_WAIT_POLICY=PASSIVE` in the environment before torch is loaded they sleep instead. Then threads of our own are left in
peace, and are woken sooner than these (an empty call on two cores: 0.03 to 0.05 ms against 0.07 to 0.1).
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Task = Callable[[], None]

_forked = False


def team() -> Callable[[Task, int], None] | None:
    """What calls a function once on each of up to so many threads, the caller among them, and returns when all are done.

    How many there are is the library's decision (`OMP_THREAD_LIMIT`; one where the caller itself is in such a region), so the
    function takes its work from a common list. An exception that leaves the function is printed and lost. None: there is no
    such library, its threads sleep, or this is a forked child, in which they are missing while the library believes in them.

    >>> done = []
    >>> run = team() or (lambda task, threads: task())
    >>> run(lambda: done.append("called"), 2)
    >>> 1 <= len(done) <= 2
    True
    """
    return None if _forked else _found()


@functools.cache
def _found() -> Callable[[Task, int], None] | None:
    spins = os.environ.get("OMP_WAIT_POLICY", "").strip().upper() != "PASSIVE"
    parallel = _entry() if spins and sys.platform == "linux" and torch.backends.openmp.is_available() else None
    if parallel is None:
        return None
    try:
        called = _CALLED(lambda task: task())
    except MemoryError:  # a hardened system gives no memory that is both written and run
        return None
    parallel.argtypes, parallel.restype = (_CALLED, ctypes.py_object, ctypes.c_uint, ctypes.c_uint), None
    return lambda task, threads: parallel(called, task, threads, 0)


_CALLED = ctypes.CFUNCTYPE(None, ctypes.py_object)


def _entry() -> Any:
    """`GOMP_parallel` of the library that torch itself calls: the process's global one, else the one that torch was linked to.

    That is the order in which torch's own calls are resolved. A process may hold several such libraries (scikit-learn brings
    its own), each with threads of its own; nothing is loaded here.
    """
    linked = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    for name in (None, str(linked)):
        try:
            return ctypes.CDLL(name, mode=os.RTLD_NOW | os.RTLD_NOLOAD).GOMP_parallel
        except (OSError, AttributeError):  # not loaded under this name; has no such function
            continue
    return None


def _left_behind() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_left_behind)
