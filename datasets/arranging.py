"""Compiled copies of events: a selection, an order of time, new coordinates. Indexing packed records in NumPy is 5 times slower."""

from __future__ import annotations

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
    t = events["t"]
    if len(t) < 2:
        return events.copy()
    first, last = int(t.min()), int(t.max())
    if last - first >= 2**33:  # the sort would need more than three passes
        return events.take(np.argsort(t, kind="stable"))
    order = np.arange(len(t))
    other, digits = np.empty_like(order), max(-(-(last - first).bit_length() // DIGIT), 1)
    for digit in range(digits):
        radix_pass(t, first, digit * DIGIT, order, other)
        order, other = other, order
    return events.take(order)


@numba.njit(cache=True, nogil=True)
def compact(events, keep, out):
    """Copy the events where `keep` to the front of `out`, which is one longer than their number."""
    j = 0
    for i in range(len(events)):
        out[j].x, out[j].y, out[j].t, out[j].p = events[i].x, events[i].y, events[i].t, events[i].p
        j += keep[i]


@numba.njit(cache=True, nogil=True)
def radix_pass(t, least, shift, order, out):
    """Order indices by one digit of t - least, equal ones as they were."""
    mask = (1 << DIGIT) - 1
    place = np.zeros((1 << DIGIT) + 1, np.int64)
    for i in range(len(order)):
        place[(((t[i] - least) >> shift) & mask) + 1] += 1
    for k in range(1 << DIGIT):
        place[k + 1] += place[k]
    for i in range(len(order)):
        digit = ((t[order[i]] - least) >> shift) & mask
        out[place[digit]] = order[i]
        place[digit] += 1


@numba.njit(cache=True, nogil=True)
def chance(rng, p, keep):
    """Keep each with probability 1 - p."""
    for i in range(len(keep)):
        keep[i] = rng.random() >= p


@numba.njit(cache=True, nogil=True)
def sample(rng, n, keep):
    """Keep exactly n, every subset equally likely. Knuth, The Art of Computer Programming 2, 3.4.2, algorithm S."""
    left = len(keep)
    for i in range(len(keep)):
        keep[i] = rng.random() * left < n
        n -= keep[i]
        left -= 1


@numba.njit(cache=True, nogil=True)
def jitter_time(rng, sigma, events):
    """Move times by normal draws within the first and last; returns how many were held at either end."""
    first, last, clipped = events[0].t, events[-1].t, 0
    for i in range(len(events)):
        moved = events[i].t + np.int64(np.rint(rng.normal(0.0, sigma)))
        clipped += moved < first or moved > last
        events[i].t = min(max(moved, first), last)
    return clipped


@numba.njit(cache=True, nogil=True)
def jitter_space(rng, sigma_x, sigma_y, height, width, clip, events, keep):
    """Move coordinates by normal draws; off the sensor they are held at its edge or not kept; returns how many were off."""
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
def shrink(factor_x, factor_y, events):
    """Divide coordinates, rounding down."""
    for i in range(len(events)):
        events[i].x //= factor_x
        events[i].y //= factor_y


@numba.njit(cache=True, nogil=True)
def shift(dx, dy, left, top, height, width, events, out):
    """Copy the events inside a box, moved by (dx, dy), to the front of `out`; returns their number."""
    j = 0
    for i in range(len(events)):
        x, y = np.int64(events[i].x), np.int64(events[i].y)
        if x >= left and x < left + width and y >= top and y < top + height:
            out[j].x, out[j].y, out[j].t, out[j].p = x + dx, y + dy, events[i].t, events[i].p
            j += 1
    return j
