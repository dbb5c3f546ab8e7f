"""One pass over decoded events: the first that steps back in time or lies off the sensor."""

from __future__ import annotations

import numba


@numba.njit(cache=True, nogil=True)
def first_bad(x, y, t, width, height, last):
    """Index of the first event with t below the one before (the first: below `last`) or x, y off the sensor; -1 for none."""
    for k in range(len(t)):
        now = t[k]
        if now < last or x[k] < 0 or y[k] < 0 or x[k] >= width or y[k] >= height:
            return k
        last = now
    return -1
