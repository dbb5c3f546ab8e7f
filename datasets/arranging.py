"""Compiled copies of events: a selection, an order of time, new coordinates.

On packed records they are several times faster than indexing in NumPy.
"""

from __future__ import annotations

from typing import no_type_check

import numba
import numpy as np

DIGIT = 11  # bits of one pass of the sort
NEVER = -(2**63)


def selected(events: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """A copy of the events where `keep`."""
    n = int(np.count_nonzero(keep))
    out = np.empty(n + 1, events.dtype)  # the loop writes before it knows whether to keep
    compact(events, keep, out)
    return out[:n]


def by_time(events: np.ndarray) -> np.ndarray:
    """A copy of the events in order of time; events of one time keep their order."""
    if len(events) < 2:
        return events.copy()
    t = events["t"]
    first, last = int(t.min()), int(t.max())
    if last - first >= 2**33:  # the sort would need more than three passes
        return events.take(np.argsort(t, kind="stable"))
    out = np.empty_like(events)
    radix_sort(events, first, -(-(last - first).bit_length() // DIGIT), out)
    return out


@numba.njit(cache=True, nogil=True)
@no_type_check
def compact(events, keep, out):
    """Copy the events where `keep` to the front of `out`, which is one longer than their number."""
    j = 0
    for i in range(len(events)):
        out[j].x, out[j].y, out[j].t, out[j].p = events[i].x, events[i].y, events[i].t, events[i].p
        j += keep[i]


@numba.njit(cache=True, nogil=True)
@no_type_check
def radix_sort(events, least, passes, out):
    """Copy the events to `out` in order of t - least, digit by digit from the lowest, equal ones as they were."""
    n, mask = len(events), (1 << DIGIT) - 1
    key, other_key = np.empty(n, np.int64), np.empty(n, np.int64)
    index, other_index = np.empty(n, np.int32), np.empty(n, np.int32)
    for i in range(n):
        key[i] = events[i].t - least
        index[i] = i
    for digit in range(passes):
        shift = digit * DIGIT
        place = np.zeros((1 << DIGIT) + 1, np.int64)
        for i in range(n):
            place[((key[i] >> shift) & mask) + 1] += 1
        for k in range(1 << DIGIT):
            place[k + 1] += place[k]
        for i in range(n):
            k = (key[i] >> shift) & mask
            other_key[place[k]], other_index[place[k]] = key[i], index[i]
            place[k] += 1
        key, other_key, index, other_index = other_key, key, other_index, index
    for i in range(n):
        j = index[i]
        out[i].x, out[i].y, out[i].t, out[i].p = events[j].x, events[j].y, events[j].t, events[j].p


@numba.njit(cache=True, nogil=True)
@no_type_check
def outside_box(x, y, top, left, height, width, keep):
    """Keep what does not lie in the box."""
    for i in range(len(x)):
        row, column = np.int64(y[i]) - top, np.int64(x[i]) - left
        keep[i] = (row < 0) | (row >= height) | (column < 0) | (column >= width)


@numba.njit(cache=True, nogil=True)
@no_type_check
def chance(rng, p, keep):
    """Keep each with probability 1 - p."""
    for i in range(len(keep)):
        keep[i] = rng.random() >= p


@numba.njit(cache=True, nogil=True)
@no_type_check
def sample(rng, n, keep):
    """Keep exactly n, every subset equally likely. Knuth, The Art of Computer Programming 2, 3.4.2, algorithm S."""
    left = len(keep)
    for i in range(len(keep)):
        keep[i] = rng.random() * left < n
        n -= keep[i]
        left -= 1


@numba.njit(cache=True, nogil=True)
@no_type_check
def jitter_time(rng, sigma, events):
    """Move times by normal draws within the first and last; returns how many were held at either end."""
    first, last, clipped = events[0].t, events[-1].t, 0
    for i in range(len(events)):
        moved = events[i].t + np.int64(np.rint(rng.normal(0.0, sigma)))
        clipped += moved < first or moved > last
        events[i].t = min(max(moved, first), last)
    return clipped


@numba.njit(cache=True, nogil=True)
@no_type_check
def jitter_space(rng, sigma_x, sigma_y, height, width, clip, events, keep):
    """Move coordinates by normal draws; off the sensor they are held at its edge or not kept; returns how many."""
    off = 0
    for i in range(len(events)):
        x = events[i].x + np.int64(np.rint(rng.normal(0.0, sigma_x)))
        y = events[i].y + np.int64(np.rint(rng.normal(0.0, sigma_y)))
        inside = x >= 0 and x < width and y >= 0 and y < height
        off += not inside
        keep[i] = inside or clip
        events[i].x, events[i].y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
    return off


@numba.njit(cache=True, nogil=True)
@no_type_check
def looked_up(new_x, new_y, events, out):
    """Copy the events with x -> new_x[x] and y -> new_y[y]: a table is faster than a division."""
    for i in range(len(events)):
        out[i].x, out[i].y = new_x[events[i].x], new_y[events[i].y]
        out[i].t, out[i].p = events[i].t, events[i].p


@numba.njit(cache=True, nogil=True)
@no_type_check
def shift(dx, dy, left, top, height, width, events, out):
    """Copy the events inside a box, moved by (dx, dy), to the front of `out`; returns their number."""
    j = 0
    for i in range(len(events)):
        x, y = np.int64(events[i].x), np.int64(events[i].y)
        if x >= left and x < left + width and y >= top and y < top + height:
            out[j].x, out[j].y, out[j].t, out[j].p = x + dx, y + dy, events[i].t, events[i].p
            j += 1
    return j
