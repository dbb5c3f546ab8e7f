"""Freed memory kept by the process for its next tensors."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4  # of glibc's malloc.h
_KEEP = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 16 << 20}
_USUAL = {_MMAP_MAX: 65536, _TRIM_THRESHOLD: 128 << 10, _TOP_PAD: 0}


def keep_small_blocks(most: int) -> bool:
    """As `keep_memory`, of blocks of up to `most` bytes, 32 MB at the largest, and of as much that lies free at the heap's end: for workers."""
    return _set({_MMAP_THRESHOLD: most, _TRIM_THRESHOLD: most})


def keep_memory(on: bool = True) -> bool:
    """Let the C library keep what is freed, in the whole process. Returns whether it can: glibc, so most Linux systems, not macOS or Windows.

    Training frees and allocates the same large tensors at every step. glibc hands every block above 32 MB back to the system at once, and
    the next step pays for each page again before it can write to it: of a step of Spikformer-2-256 on 128x128 frames about a quarter of the
    processor's time, of Spikformer-4-384 on 32x32 images a twentieth (`python benchmarks/spikformer_step.py`). The price: what was
    once needed is not given back before the process ends, and blocks fit together less well, so that the peak of these two rose by a
    tenth and not at all. `neuro train`, `evaluate` and `demo` begin with this; in a script or a notebook it is one line, best before
    the first tensor.

    Args:
        on: False returns to the C library's usual ways and gives back what lies free.

    >>> kept = keep_memory()
    >>> keep_memory(False) == kept
    True
    """
    done = _set(_KEEP if on else _USUAL)
    if done and not on:
        ctypes.CDLL(None).malloc_trim(0)
    return done


def _set(choices: dict[int, int]) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not (hasattr(library, "mallopt") and hasattr(library, "gnu_get_libc_version")):  # musl's mallopt does nothing
        return False
    return all([library.mallopt(name, value) == 1 for name, value in choices.items()])
