"""The loop that counts events into cells: one pass that also checks what it reads."""

from __future__ import annotations

import numba


@numba.njit(cache=True, nogil=True)
def count(x, y, t, p, origin, multiple, divisor, span, cells_TPHW):
    """Add each event to window `(t - origin) * multiple // divisor`, at most the last one; returns (outside, first, bad).

    outside: how many events have a time before the origin or more than `span` after it; they are not counted.
    first: the first of them. bad: the first event off the sensor or out of order, where counting stops; -1 for neither.
    """
    length, _, height, width = cells_TPHW.shape
    outside, first, window, edge = 0, -1, 0, divisor
    for i in range(len(t)):
        if x[i] < 0 or x[i] >= width or y[i] < 0 or y[i] >= height or (i > 0 and t[i] < t[i - 1]):
            return outside, first, i
        since = t[i] - origin
        if since < 0 or since > span:
            first = i if first < 0 else first
            outside += 1
            continue
        scaled = since * multiple
        if scaled >= edge:  # time never decreases, so neither does the window: divide only where it changes
            window = scaled // divisor
            edge = (window + 1) * divisor
        cells_TPHW[min(window, length - 1), int(p[i]), y[i], x[i]] += 1
    return outside, first, -1
