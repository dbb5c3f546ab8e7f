"""The loops that decode Prophesee's words: EVT 2.0, EVT 2.1 and EVT 3.0. What the words mean stands in the files of the formats.

`state`: [0] upper part of the time (-1: none met), [1] overflows, [2] time, [3] y, [4] x of the vector, [5] its polarity.
`others[k]` counts words of type k that are no events; `others[16]` events before the first time, which are left out.
"""

from __future__ import annotations

import numba

UNTIMED = 16


@numba.njit(cache=True, nogil=True)
def raise_time(high, state, bits):
    """Take a new upper part of `bits` bits; a step back by more than half the range is an overflow."""
    if state[0] >= 0 and state[0] - high > 1 << (bits - 1):
        state[1] += 1
    state[0] = high


@numba.njit(cache=True, nogil=True)
def evt2(words, x, y, t, p, state, others):
    """Words of 32 bits: type 4, time 6, x 11, y 11; time-high: type 4, time 28."""
    n = 0
    for word in words:
        kind = word >> 28
        if kind < 2:
            if state[0] < 0:
                others[UNTIMED] += 1
                continue
            x[n], y[n], p[n] = word >> 11 & 2047, word & 2047, kind
            t[n] = ((state[1] << 28) + state[0] << 6) | (word >> 22 & 63)
            n += 1
        elif kind == 8:
            raise_time(numba.int64(word & 0xFFFFFFF), state, 28)
        else:
            others[kind] += 1
    return n


@numba.njit(cache=True, nogil=True)
def evt21(words, x, y, t, p, state, others):
    """Words of 64 bits: type 4, time 6, x 11, y 11, mask of 32 pixels; time-high: type 4, time 28, unused 32."""
    n = 0
    for word in words:
        kind = word >> numba.uint64(60)
        high = numba.int64(word >> numba.uint64(32))
        if kind < 2:
            mask = numba.int64(word & numba.uint64(0xFFFFFFFF))
            if state[0] < 0:
                others[UNTIMED] += 1
                continue
            now = ((state[1] << 28) + state[0] << 6) | (high >> 22 & 63)
            column, row = high >> 11 & 2047, high & 2047
            while mask:
                if mask & 1:
                    x[n], y[n], t[n], p[n] = column, row, now, kind
                    n += 1
                mask >>= 1
                column += 1
        elif kind == 8:
            raise_time(high & 0xFFFFFFF, state, 28)
        else:
            others[kind] += 1
    return n


@numba.njit(cache=True, nogil=True)
def evt3(words, x, y, t, p, state, others):
    """Words of 16 bits, type 4 and 12 bits of content, which change y, the time, or the place of the next vector."""
    n = 0
    for word in words:
        kind, low = word >> 12, numba.int64(word & 4095)
        if kind == 2 or kind == 4 or kind == 5:
            if state[0] < 0:
                others[UNTIMED] += 1
                continue
            if kind == 2:
                x[n], y[n], t[n], p[n] = low & 2047, state[3], state[2], low >> 11
                n += 1
                continue
            column, width, mask = state[4], 12, low
            if kind == 5:
                width, mask = 8, low & 255
            state[4] += width
            while mask:
                if mask & 1:
                    x[n], y[n], t[n], p[n] = column, state[3], state[2], state[5]
                    n += 1
                mask >>= 1
                column += 1
        elif kind == 0:
            state[3] = low & 2047
        elif kind == 3:
            state[4], state[5] = low & 2047, low >> 11
        elif kind == 6:
            state[2] = ((state[1] << 12) + state[0] << 12) + low
        elif kind == 8:
            before = state[0]
            raise_time(low, state, 12)
            if before != low:  # the low part follows; repeats of the same high part leave it alone
                state[2] = (state[1] << 12) + state[0] << 12
        else:
            others[kind] += 1
    return n
