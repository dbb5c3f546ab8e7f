"""The loop that decodes the bytes of Event Stream files; what they mean stands in `es.py`."""

from __future__ import annotations

import numba


@numba.njit(cache=True, nogil=True)
def decode(data, atis, x, y, t, p, state, others):
    """Number of events decoded. `state`: [0] time, [1] bytes used, which end with the last whole event or time step.

    `others`: [0] exposure measurements of an ATIS, [1] resets, which change nothing.
    """
    n, at, now = 0, 0, state[0]
    bits = 2 if atis else 1
    full = 255 >> bits
    while at < len(data):
        first = data[at]
        if first >> bits == full:
            now += full * (first & 3 if atis else first & 1)
            others[1] += not atis and first & 1 == 0
            at += 1
            continue
        if at + 5 > len(data):
            break
        now += first >> bits
        if atis and first & 1:
            others[0] += 1
        else:
            x[n], y[n] = data[at + 1] | data[at + 2] << 8, data[at + 3] | data[at + 4] << 8
            t[n], p[n] = now, first >> (bits - 1) & 1
            n += 1
        at += 5
    state[0], state[1] = now, at
    return n
