"""The loops that decode Prophesee's words: EVT 2.0, EVT 2.1 and EVT 3.0. What the words mean stands in the files of the formats.

`loop(words, events, state, others)` takes words as records of one field, which may lie at any byte, and gives the number of
events, the largest x and y, and whether no time steps back. `state`: [0] upper part of the time (-1: none met),
[1] overflows, [2] time, [3] y, [4] x of the vector, [5] its polarity, [6] time of the last event (-1: none met).
`others[k]` counts words of type k that are no events; `others[16]` events before the first time, which are left out.
"""

from __future__ import annotations

import numba
import numpy as np

UNTIMED = 16
FARTHEST = 32767  # x beyond any sensor: a vector that goes on and on stays there
WORDS = {width: np.dtype([("bits", f"<u{width}")]) for width in (2, 4, 8)}


@numba.njit(cache=True, nogil=True)
def raised(high, before, overflows, bits):
    """Overflows with a new upper part of `bits` bits; a step back by more than half the range is one more."""
    return overflows + 1 if before >= 0 and before - high > 1 << (bits - 1) else overflows


@numba.njit(cache=True, nogil=True)
def evt2(words, events, state, others):
    """Words of 32 bits: type 4, time 6, x 11, y 11; time-high: type 4, time 28."""
    n, high, overflows, last = 0, state[0], state[1], state[6]
    base = (overflows << 28) + high << 6
    right, below, ordered = numba.int64(-1), numba.int64(-1), True
    for k in range(len(words)):
        word = words[k].bits
        kind = numba.int64(word >> 28)
        if kind < 2 and high >= 0:
            event = events[n]
            x, y, t = word >> 11 & 2047, word & 2047, base | (word >> 22 & 63)
            event.x, event.y, event.t, event.p = x, y, t, kind == 1
            if t < last:
                ordered = False
            last = t
            right = x if x > right else right
            below = y if y > below else below
            n += 1
        elif kind == 8:
            now = numba.int64(word & 0xFFFFFFF)
            overflows, high = raised(now, high, overflows, 28), now
            base = (overflows << 28) + high << 6
        else:
            others[UNTIMED if kind < 2 else kind] += 1
    state[0], state[1], state[6] = high, overflows, last
    return n, right, below, ordered


@numba.njit(cache=True, nogil=True)
def evt21(words, events, state, others):
    """Words of 64 bits: type 4, time 6, x 11, y 11, mask of 32 pixels; time-high: type 4, time 28, unused 32."""
    n, high, overflows, last = 0, state[0], state[1], state[6]
    right, below, ordered = numba.int64(-1), numba.int64(-1), True
    for k in range(len(words)):
        word = words[k].bits
        kind, upper = numba.int64(word >> numba.uint64(60)), numba.int64(word >> numba.uint64(32))
        if kind < 2 and high >= 0:
            mask = numba.int64(word & numba.uint64(0xFFFFFFFF))
            t = ((overflows << 28) + high << 6) | (upper >> 22 & 63)
            x, y = upper >> 11 & 2047, upper & 2047
            if mask:
                if t < last:
                    ordered = False
                last = t
                below = y if y > below else below
            while mask:
                if mask & 1:
                    event = events[n]
                    event.x, event.y, event.t, event.p = x, y, t, kind == 1
                    right = x if x > right else right
                    n += 1
                mask >>= 1
                x += 1
        elif kind == 8:
            now = upper & 0xFFFFFFF
            overflows, high = raised(now, high, overflows, 28), now
        else:
            others[UNTIMED if kind < 2 else kind] += 1
    state[0], state[1], state[6] = high, overflows, last
    return n, right, below, ordered


@numba.njit(cache=True, nogil=True)
def evt3(words, events, state, others):
    """Words of 16 bits, type 4 and 12 bits of content, which change y, the time, or the place of the next vector."""
    n, high, overflows, t, y, column, sign, last = 0, state[0], state[1], state[2], state[3], state[4], state[5], state[6]
    right, below, ordered = numba.int64(-1), numba.int64(-1), True
    for k in range(len(words)):
        word = numba.int64(words[k].bits)
        kind, low = word >> 12, word & 4095
        if kind == 2 and high >= 0:
            x, event = low & 2047, events[n]
            event.x, event.y, event.t, event.p = x, y, t, low > 2047
            if t < last:
                ordered = False
            last = t
            right = x if x > right else right
            below = y if y > below else below
            n += 1
        elif kind == 0:
            y = low & 2047
        elif kind == 6:
            t = ((overflows << 12) + high << 12) + low
        elif kind == 3:
            column, sign = low & 2047, low >> 11
        elif (kind == 4 or kind == 5) and high >= 0:
            mask, x = low if kind == 4 else low & 255, column
            column = min(column + (12 if kind == 4 else 8), FARTHEST)
            if mask:
                if t < last:
                    ordered = False
                last = t
                below = y if y > below else below
            while mask:
                if mask & 1:
                    event = events[n]
                    event.x, event.y, event.t, event.p = x, y, t, sign == 1
                    right = x if x > right else right
                    n += 1
                mask >>= 1
                x += 1
        elif kind == 8:
            if high != low:  # the low part follows; repeats of the same high part leave it alone
                overflows, high = raised(low, high, overflows, 12), low
                t = (overflows << 12) + high << 12
        else:
            others[UNTIMED if kind == 2 or kind == 4 or kind == 5 else kind] += 1
    state[0], state[1], state[2], state[3], state[4], state[5], state[6] = high, overflows, t, y, column, sign, last
    return n, right, below, ordered
