"""Compiled loops over pixels that remember: which events a filter keeps.

Each writes `keep` [n] and expects checked events.
"""

from __future__ import annotations

from typing import no_type_check

import numba
import numpy as np

NEVER = -(2**63)


@numba.njit(cache=True, nogil=True)
@no_type_check
def supported(x, y, t, height, width, reach, radius, mutual, keep):
    """Keep events with another one on a neighbouring pixel at most `reach` before, or with `mutual` also after."""
    wide = width + 2 * radius  # a border of pixels that never see an event
    last = np.full((height + 2 * radius) * wide, NEVER, np.int64)
    for i in range(len(t)):
        pixel = (np.int64(y[i]) + radius) * wide + np.int64(x[i]) + radius
        last[pixel] = NEVER  # a pixel is no company to itself
        keep[i] = near(last, pixel, wide, radius, t[i] - reach)
        last[pixel] = t[i]
    if mutual:
        last[:] = NEVER
        for i in range(len(t) - 1, -1, -1):  # backwards, with the sign of time turned
            pixel = (np.int64(y[i]) + radius) * wide + np.int64(x[i]) + radius
            last[pixel] = NEVER
            if not keep[i]:
                keep[i] = near(last, pixel, wide, radius, -t[i] - reach)
            last[pixel] = -t[i]


@numba.njit(cache=True, nogil=True, inline="always")
@no_type_check
def near(last, pixel, wide, radius, since):
    """Whether a pixel of the square around `pixel` has a time of `since` or later."""
    for r in range(-radius, radius + 1):
        for c in range(-radius, radius + 1):
            if last[np.uint64(pixel + r * wide + c)] >= since:
                return True
    return False


@numba.njit(cache=True, nogil=True)
@no_type_check
def rested(x, y, t, height, width, dead, every_event, keep):
    """Keep an event at least `dead` after the pixel's last kept one, or with `every_event` after its last one."""
    last = np.full(height * width, NEVER, np.int64)
    for i in range(len(t)):
        pixel = np.int64(y[i]) * width + np.int64(x[i])
        keep[i] = last[pixel] == NEVER or t[i] - last[pixel] >= dead
        if keep[i] or every_event:
            last[pixel] = t[i]


@numba.njit(cache=True, nogil=True)
@no_type_check
def every(x, y, height, width, n, keep):
    """Keep the n-th, 2n-th, ... event of each pixel."""
    seen = np.zeros(height * width, np.int64)
    for i in range(len(x)):
        pixel = np.int64(y[i]) * width + np.int64(x[i])
        seen[pixel] += 1
        keep[i] = seen[pixel] == n
        if keep[i]:
            seen[pixel] = 0


@numba.njit(cache=True, nogil=True)
@no_type_check
def integrated(x, y, p, factor_y, factor_x, height, width, threshold, keep, sign):
    """Keep the event with which the signed sum of a block of pixels reaches `threshold`, and write the sum's sign."""
    level = np.zeros(height * width, np.int64)
    for i in range(len(x)):
        block = (np.int64(y[i]) // factor_y) * width + np.int64(x[i]) // factor_x
        level[block] += 2 * np.int64(p[i]) - 1
        keep[i] = abs(level[block]) >= threshold
        sign[i] = level[block] > 0
        if keep[i]:
            level[block] = 0
