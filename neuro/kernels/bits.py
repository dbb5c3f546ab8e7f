"""Spike tensors kept as bits: a plane for 0/1, several for small counts, bytes for counts up to 255, and anything else as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuro.kernels.memory import fresh, values_of
from neuro.kernels.pool import spread

PLANES = 16  # an element's value is the number of planes that have its bit; two bytes at most, for what a deep residual sum may hold
_SECONDS = 64 * 0.05e-9  # of a word, one thread; only decides how many threads are worth waking
_FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Packed:
    """A tensor made small. `held`: planes of 64 bits [P, words], bytes uint8 [elements], or the tensor itself.

    `events`: sum of all elements where they are planes, otherwise -1.
    """

    held: Tensor | np.ndarray
    shape: torch.Size
    dtype: torch.dtype
    events: int

    @property
    def is_planes(self) -> bool:
        return self.events >= 0

    @property
    def data(self) -> Tensor:
        """What is held, for autograd to keep: planes are int64."""
        return torch.from_numpy(self.held.view(np.int64)) if isinstance(self.held, np.ndarray) else self.held

    @property
    def planes(self) -> np.ndarray:
        """uint64 [P, words] for the loops."""
        return self.held if isinstance(self.held, np.ndarray) else self.held.numpy().view(np.uint64)

    @property
    def is_smaller(self) -> bool:
        """Whether it is anything but the tensor itself."""
        return self.is_planes or self.data.dtype != self.dtype

    def by_plane(self) -> tuple[int, ...]:
        """How many bits each plane has; their sum is `events`."""
        from neuro.kernels import bit_loops

        return (self.events,) if len(self.held) == 1 else tuple([bit_loops.count(plane) for plane in self.planes])

    def unpack(self) -> Tensor:
        """The tensor again, contiguous."""
        if not self.is_planes:
            return self.data.to(self.dtype).view(self.shape)
        from neuro.kernels import bit_loops

        x = fresh(self.shape, self.dtype if self.dtype == torch.float64 else torch.float32)
        into, planes = x.view(-1).numpy(), self.planes
        _over(planes.shape[1], lambda low, high: bit_loops.unpack(planes, into, low, high))
        return x.to(self.dtype)


def pack(x: Tensor, values: np.ndarray | None = None) -> Packed:
    """Keep a tensor in as little memory as it can be read back from: `pack(x).unpack()` equals x.

    Whole numbers 0 .. 16 of any floating type become planes of bits (-0 becomes 0), up to 255 bytes, the rest stays itself: other
    values, other types, other devices.

    Args:
        values: those of x, as `values_of` gives them, where they are at hand already.

    >>> kept = pack(torch.eye(100))
    >>> kept.data.nbytes, kept.events, torch.equal(kept.unpack(), torch.eye(100))
    (1256, 100, True)
    """
    if values is None:
        if x.device.type != "cpu" or x.dtype not in _FLOATS or x.layout != torch.strided:
            return Packed(x.detach(), x.shape, x.dtype, -1)
        values = values_of(x if x.dtype in (torch.float32, torch.float64) else x.float())
    words = (values.size + 63) // 64
    planes = np.empty((1, words), np.uint64)
    active, odd = _bits(values, planes[0])
    if not odd:
        return Packed(planes, x.shape, x.dtype, active)
    planes = np.empty((PLANES, words), np.uint64)
    active, used, odd = _counts(values, planes)
    if not odd:
        return Packed(planes[:used].copy(), x.shape, x.dtype, active)
    wide = torch.from_numpy(values)
    low, high = (v.item() for v in wide.aminmax())
    if low >= 0 and high <= 255 and torch.equal(wide, wide.round()):  # none of which holds where there is a NaN
        return Packed(wide.to(torch.uint8), x.shape, x.dtype, -1)
    return Packed(x.detach(), x.shape, x.dtype, -1)


def _bits(values: np.ndarray, words: np.ndarray) -> tuple[int, bool]:
    """Bits of x > 0 into words; how many are set, and whether an element is neither 0 nor 1."""
    from neuro.kernels import bit_loops

    found: list[tuple[int, bool]] = []
    _over(words.size, lambda low, high: found.append(bit_loops.pack(values, words, low, high)))
    return sum(active for active, _ in found), any(odd for _, odd in found)


def _counts(values: np.ndarray, planes: np.ndarray) -> tuple[int, int, int]:
    """Bits of x > p into plane p; how many are set, how many planes have any, and how many elements are no whole number of 0 .. PLANES."""
    from neuro.kernels import bit_loops

    found: list[tuple[int, int, int]] = []
    _over(planes.shape[1], lambda low, high: found.append(bit_loops.pack_counts(values, planes, low, high)))
    return sum(f[0] for f in found), max(f[1] for f in found), sum(f[2] for f in found)


def _over(words: int, work: Any) -> None:
    spread(work, words, cost=_SECONDS)
