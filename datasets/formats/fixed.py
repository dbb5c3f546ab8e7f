"""The loops that decode events of fixed width: pairs of 32-bit words (AEDAT 2 and 3, DAT) and N-MNIST's five bytes.

What the bits mean stands in the files of the formats, as a `Layout`. Each loop writes the events in one pass and gives
their number, the largest x and y, and whether no time steps back: what a check would read all of them again for.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numba
import numpy as np

SPAN = 1 << 32  # of a time before it overflows
PAIR = np.dtype([("a", "<u4"), ("b", "<u4")])  # a record may lie at any byte, unlike a word of 4 bytes
FIVE = np.dtype([("x", "u1"), ("y", "u1"), ("high", "u1"), ("middle", "u1"), ("low", "u1")])


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


@cache
def pair_loop(layout: Layout):
    """The loop for one layout, with its numbers compiled in: a third of the time that it takes with variables.

    `loop(words, events, state)` over records `PAIR`. `state`: [0] last time as stored, -1: none; [1] what overflows
    added. A step back by more than half the range is an overflow; a step forward by more, behind an overflow, its undoing.
    """
    swap, address, x_at, x_mask, y_at, y_mask, p_at, p_mask, p_flip, need, drop = layout

    @numba.njit(cache=True, nogil=True)
    def pairs(words, events, state):
        n, last, base = 0, state[0], state[1]
        right, below, ordered = numba.int64(-1), numba.int64(-1), True
        for k in range(len(words)):
            a, time = words[k].a, words[k].b
            if address == 1:
                a, time = time, a
            if swap == 1:
                a, time = swapped(a), swapped(time)
            now = numba.int64(time)
            if numba.uint64(now - last) > SPAN // 2:  # in one comparison, what hardly ever is
                if last - now > SPAN // 2:
                    base += SPAN
                elif now < last:
                    ordered = False
                elif base > 0:
                    base -= SPAN
                    ordered = False
            last = now
            if a & need == need and a & drop == 0:
                event = events[n]
                x, y = a >> x_at & x_mask, a >> y_at & y_mask
                event.x, event.y, event.t = x, y, base + now
                event.p = (a >> p_at & p_mask > 0) != (p_flip > 0)
                right = x if x > right else right
                below = y if y > below else below
                n += 1
        state[0], state[1] = last, base
        return n, right, below, ordered

    return pairs


@numba.njit(cache=True, nogil=True)
def fives(words, events):
    """Decode records `FIVE` of N-MNIST."""
    right, below, before, ordered = numba.int64(-1), numba.int64(-1), numba.int64(0), True
    for k in range(len(words)):
        word, event = words[k], events[k]
        x, y = word.x, word.y
        t = numba.int64(word.high & 127) << 16 | numba.int64(word.middle) << 8 | numba.int64(word.low)
        event.x, event.y, event.t, event.p = x, y, t, word.high > 127
        if t < before:
            ordered = False
        right = x if x > right else right
        below = y if y > below else below
        before = t
    return len(words), right, below, ordered
