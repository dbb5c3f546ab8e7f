"""The loops that count events into cells: one pass that also checks what it reads.

Polarity comes in as uint8: with a boolean the compiler branches on it, and half of the guesses are wrong.
"""

from __future__ import annotations

from typing import no_type_check

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
@no_type_check
def first_bad(x, y, t, height, width):
    """The first event off the sensor or earlier than the one before it; -1 for none."""
    before = t[0] if len(t) else 0
    for i in range(len(t)):
        if x[i] < 0 or x[i] >= width or y[i] < 0 or y[i] >= height or t[i] < before:
            return i
        before = t[i]
    return -1


@numba.njit(cache=True, nogil=True)
@no_type_check
def count(x, y, t, p, origin, multiple, divisor, span, length, height, width, most, cells):
    """Add each event to window `(t - origin) * multiple // divisor`, at most the last one.

    Returns (outside, first, bad, clipped). outside: events before the origin or more than `span` after it, not counted;
    first: the first of them. bad: the first event off the sensor or out of order, where counting stops; -1 for neither.
    clipped: events that met a cell already at `most`. cells: flat, [length * 2 * height * width].
    """
    outside, first, clipped, edge, base = 0, -1, 0, 0, 0
    plane = height * width
    wide, high = np.uint64(width), np.uint64(height)
    before = t[0] if len(t) else 0
    for i in range(len(t)):
        column, row, now = np.int64(x[i]), np.int64(y[i]), t[i]
        if np.uint64(column) >= wide or np.uint64(row) >= high or now < before:  # below 0 is above any size
            return outside, first, i, clipped
        before = now
        since = now - origin
        if since < 0 or since > span:
            first = i if first < 0 else first
            outside += 1
            continue
        scaled = since * multiple
        if scaled >= edge:  # time never decreases, so neither does the window: divide only where it changes
            window = scaled // divisor
            edge = (window + 1) * divisor
            base = min(window, length - 1) * 2 * plane
        cell = np.uint64(base + np.int64(p[i]) * plane + row * width + column)  # needs no look at its sign
        if cells[cell] == most:
            clipped += 1
        else:
            cells[cell] += 1
    return outside, first, -1, clipped


@numba.njit(cache=True, nogil=True)
@no_type_check
def place(x, y, t, origin, multiple, divisor, span, length, height, width, window):
    """Write the window of each event, -1 outside; returns (outside, first, bad) as `count` does."""
    outside, first, edge, here = 0, -1, 0, 0
    before = t[0] if len(t) else 0
    for i in range(len(t)):
        if x[i] < 0 or x[i] >= width or y[i] < 0 or y[i] >= height or t[i] < before:
            return outside, first, i
        before = t[i]
        since = t[i] - origin
        if since < 0 or since > span:
            first = i if first < 0 else first
            outside += 1
            window[i] = -1
            continue
        scaled = since * multiple
        if scaled >= edge:
            here = scaled // divisor
            edge = (here + 1) * divisor
            here = min(here, length - 1)
        window[i] = here
    return outside, first, -1


@numba.njit(cache=True, nogil=True)
@no_type_check
def count_ranges(x, y, p, starts, stops, height, width, most, cells):
    """Add events starts[k]..stops[k]-1 to frame k, for ranges that may overlap; returns how many met a full cell."""
    plane = height * width
    clipped = 0
    for k in range(len(starts)):
        base = k * 2 * plane
        for i in range(starts[k], stops[k]):
            cell = np.uint64(base + np.int64(p[i]) * plane + np.int64(y[i]) * width + np.int64(x[i]))
            if cells[cell] == most:
                clipped += 1
            else:
                cells[cell] += 1
    return clipped
