"""The loops that decode events of fixed width: pairs of 32-bit words (AEDAT 2 and 3, DAT) and N-MNIST's five bytes.

What the bits mean stands in the files of the formats, as a `Layout`.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

SPAN = 1 << 32  # of a time before it overflows


class Layout(NamedTuple):
    """Where a pair of words keeps what. A word is an event if it has all bits of `need` and none of `drop`."""

    swap: int  # 1: big-endian
    address: int  # 0 or 1: which word of the pair is the address; the other is the time
    x_at: int
    x_mask: int
    y_at: int
    y_mask: int
    p_at: int
    p_mask: int
    p_flip: int  # 1: a bit of 0 is ON
    need: int
    drop: int

    def kept(self, data: np.ndarray) -> np.ndarray:
        """Which pairs of words become events."""
        a = data.view(">u4" if self.swap else "<u4").reshape(-1, 2)[:, self.address]
        return (a & self.need == self.need) & (a & self.drop == 0)


@numba.njit(cache=True, nogil=True)
def swapped(word):
    """The bytes of a word in the other order."""
    return (word & 0xFF) << 24 | (word & 0xFF00) << 8 | word >> 8 & 0xFF00 | word >> 24


@numba.njit(cache=True, nogil=True)
def pairs(words, layout, x, y, t, p, state):
    """Number of events in `words` (uint32 [2 n]). `state`: [0] last time as stored, -1: none; [1] what overflows added.

    A step back by more than half the range is an overflow; a step forward by more, behind an overflow, its undoing.
    """
    swap, address, x_at, x_mask, y_at, y_mask, p_at, p_mask, p_flip, need, drop = layout
    n, last, base = 0, state[0], state[1]
    for k in range(len(words) // 2):
        a, now = numba.int64(words[2 * k + address]), numba.int64(words[2 * k + 1 - address])
        if swap:
            a, now = swapped(a), swapped(now)
        if last >= 0:
            if last - now > SPAN // 2:
                base += SPAN
            elif now - last > SPAN // 2 and base > 0:
                base -= SPAN
        last = now
        if a & need == need and a & drop == 0:
            x[n], y[n], t[n] = a >> x_at & x_mask, a >> y_at & y_mask, base + now
            p[n] = (a >> p_at & p_mask > 0) != (p_flip > 0)
            n += 1
    state[0], state[1] = last, base
    return n


@numba.njit(cache=True, nogil=True)
def fives(data, x, y, t, p):
    """Decode bytes (uint8 [5 n]) of N-MNIST."""
    for k in range(len(data) // 5):
        at = 5 * k
        x[k], y[k], p[k] = data[at], data[at + 1], data[at + 2] >> 7
        t[k] = numba.int64(data[at + 2] & 127) << 16 | numba.int64(data[at + 3]) << 8 | data[at + 4]
