"""Memory for the large results of kernels, used again after it is freed.

Touching memory that is new to the process costs more than the kernel that fills it: on the machine where this was measured,
16 MB took 6 ms page by page and 0.7 ms on large pages, where the kernel takes 1.5 ms. So a large result is allocated by NumPy, which asks
the system for large pages, and when its tensor is gone its memory waits for the next result of that size, up to `LIMIT` bytes in all.
What waits gives way to what is needed: a size that nobody left behind takes as many bytes from those waiting longest.
"""

from __future__ import annotations

import math
import os
import threading
import weakref

import numpy as np
import torch
from torch import Tensor

LARGE = 1 << 20  # bytes from which a result is kept here
LIMIT = 256 << 20  # bytes that may wait
_LINE = 64  # bytes of a cache line

_NUMPY = {torch.bfloat16: np.dtype(np.uint16)}
_lock = threading.RLock()  # a tensor may be freed by the garbage collector while this thread holds it
_waiting: list[np.ndarray] = []  # the oldest first
_bytes = 0


def fresh(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """An uninitialised CPU tensor that starts on a cache line."""
    return fresh_with_array(shape, dtype)[0]


def fresh_with_array(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, np.ndarray]:
    """The same, and the array on its memory; of bfloat16, the bits."""
    size = math.prod(shape) * dtype.itemsize
    if size < LARGE:
        tensor = torch.empty(shape, dtype=dtype, device="cpu")  # whatever `torch.set_default_device` names
        return tensor, (tensor.view(torch.uint16) if dtype == torch.bfloat16 else tensor).numpy()
    memory = _take(size)
    held = np.ndarray(shape, numpy_dtype(dtype), memory)
    tensor = torch.from_numpy(held)
    lent = _Lent(held, _give_back)
    lent.memory = memory
    _lent[id(lent)] = lent
    return tensor.view(dtype) if dtype == torch.bfloat16 else tensor, held


def values_of(tensor: Tensor) -> np.ndarray:
    """The values of a CPU tensor in a row, on its own memory where they lie so; without history."""
    return tensor.detach().contiguous().numpy().reshape(-1)


def numpy_dtype(dtype: torch.dtype) -> np.dtype:
    """NumPy's type for a tensor's values; for bfloat16, which it lacks, that of the bits."""
    if dtype not in _NUMPY:
        _NUMPY[dtype] = np.dtype(str(dtype).removeprefix("torch."))
    return _NUMPY[dtype]


def waiting() -> int:
    """Bytes that wait to be used again."""
    return _bytes


def release() -> None:
    """Give the waiting memory back to the system."""
    global _bytes
    with _lock:
        _waiting.clear()
        _bytes = 0


def _take(size: int) -> np.ndarray:
    """A waiting piece of this size; where there is none, new memory, for which as much of what waits is let go."""
    global _bytes
    with _lock:
        for k, piece in enumerate(_waiting):
            if piece.nbytes == size:
                _bytes -= size
                return _waiting.pop(k)
        gone = 0
        while _waiting and gone < size:
            gone += _waiting.pop(0).nbytes
        _bytes -= gone
    whole = np.empty(size + _LINE, np.uint8)  # NumPy starts 16 bytes off a cache line: every wide vector would lie on two
    return whole[-whole.ctypes.data % _LINE :][:size]


class _Lent(weakref.ref):
    """Waits for the end of an array, which lives as long as any tensor on its memory, and gives the memory back."""

    __slots__ = ("memory",)

    memory: np.ndarray


_lent: dict[int, _Lent] = {}  # by their own `id`: a weak reference would be found by the value of its array


def _give_back(lent: _Lent) -> None:
    global _bytes
    memory = lent.memory
    with _lock:
        del _lent[id(lent)]
        if _bytes + memory.nbytes <= LIMIT:
            _waiting.append(memory)
            _bytes += memory.nbytes


def _new_lock() -> None:
    """A child forked while another thread held the lock would never see it opened."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)
