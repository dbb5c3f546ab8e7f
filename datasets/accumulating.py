"""Compiled loops behind the representations that weigh events: voxels, surfaces, leaky sums, HATS, groups of points."""

from __future__ import annotations

from typing import no_type_check

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
@no_type_check
def voxels(x, y, t, p, origin, span, steps, height, width, split, grid):
    """Share each event between the two nearest of `steps + 1` slices; returns (outside, first, bad) as `count` does."""
    outside, first = 0, -1
    plane = height * width
    channel = plane if split else 0  # from OFF to ON
    slice_ = 2 * plane if split else plane
    off, turn = (
        (1.0, 0.0) if split else (-1.0, 2.0)
    )  # the sign is off + turn * p: no branch that would be guessed wrong
    before = t[0] if len(t) else 0
    scale, most = steps / span, max(steps - 1, 0)
    lower, edge, base = -1, 0.0, 0
    wide, high = np.uint64(width), np.uint64(height)
    for i in range(len(t)):
        column, row, now = np.int64(x[i]), np.int64(y[i]), t[i]
        if np.uint64(column) >= wide or np.uint64(row) >= high or now < before:  # below 0 is above any size
            return outside, first, i
        before = now
        since = now - origin
        if since < 0 or since > span:
            first = i if first < 0 else first
            outside += 1
            continue
        place = since * scale
        if place >= edge and lower < most:  # time never decreases, so neither does the slice
            lower = min(np.int64(place), most)  # the end of the span is all of the last slice
            edge, base = lower + 1.0, lower * slice_
        on = np.int64(p[i])
        sign = off + turn * on
        upper = sign * (place - lower)
        cell = base + on * channel + row * width + column
        grid[np.uint64(cell)] += sign - upper  # an unsigned index needs no look at its sign
        if steps:
            grid[np.uint64(cell + slice_)] += upper
    return outside, first, -1


@numba.njit(cache=True, nogil=True)
@no_type_check
def latest(x, y, t, p, origin, window, ends, tau, surface_TPHW):
    """exp(-(end of the window - last event) / tau) of each pixel."""
    length, _, height, width = surface_TPHW.shape
    last = np.full((2, height, width), -np.inf)
    i = 0
    for k in range(length):
        while i < len(t) and window[i] <= k:
            if window[i] >= 0:
                last[np.int64(p[i]), y[i], x[i]] = t[i] - origin
            i += 1
        for c in range(2):
            for row in range(height):
                for column in range(width):
                    if last[c, row, column] > -np.inf:
                        surface_TPHW[k, c, row, column] = np.exp((last[c, row, column] - ends[k]) / tau)


@numba.njit(cache=True, nogil=True)
@no_type_check
def decayed(x, y, t, p, origin, window, ends, tau, sum_TPHW):
    """Add exp(-(end of the window - t) / tau) for each event."""
    for i in range(len(t)):
        k = window[i]
        if k >= 0:
            sum_TPHW[k, np.int64(p[i]), y[i], x[i]] += np.exp((t[i] - origin - ends[k]) / tau)


@numba.njit(cache=True, nogil=True)
@no_type_check
def averaged(x, y, t, group, order, radius, tau, window, surface_GSS):
    """Sum of local time surfaces per group; `order` sorts the events by group and keeps time within it."""
    begin = 0
    for a in range(len(order)):
        i = order[a]
        if group[i] != group[order[begin]]:
            begin = a
        for b in range(a - 1, begin - 1, -1):
            j = order[b]
            age = t[i] - t[j]
            if age > window:
                break
            dx, dy = np.int64(x[j]) - np.int64(x[i]), np.int64(y[j]) - np.int64(y[i])
            if age > 0 and abs(dx) <= radius and abs(dy) <= radius:
                surface_GSS[group[i], dy + radius, dx + radius] += np.exp(-age / tau)


@numba.njit(cache=True, nogil=True)
@no_type_check
def farthest(points_N3, start, chosen_S):
    """Indices such that each next point is the one farthest from all before it; the lowest index of equals."""
    n = len(points_N3)
    distance = np.full(n, np.inf)
    here = start
    for k in range(len(chosen_S)):
        chosen_S[k] = here
        best, far = 0, -1.0
        for i in range(n):
            d = 0.0
            for c in range(points_N3.shape[1]):
                d += (points_N3[i, c] - points_N3[here, c]) ** 2
            distance[i] = min(distance[i], d)
            if distance[i] > far:
                best, far = i, distance[i]
        distance[here] = 0.0
        here = best
