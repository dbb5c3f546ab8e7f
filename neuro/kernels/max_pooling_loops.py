"""Maximum over windows, as serial loops over image planes. Loaded when they are used, because they load Numba."""

from __future__ import annotations

import numba
import numpy as np

_NOWHERE = np.int32(1 << 20)  # the place of what lies outside the input: it loses every tie


@numba.njit(nogil=True, error_model="numpy", cache=True)
def _down(value, name, best, place):
    """Where value is larger than best (or no number): best becomes value, and place becomes name."""
    for i in range(len(best)):
        more = (value[i] > best[i]) | (value[i] != value[i])
        best[i] = value[i] if more else best[i]
        place[i] = name if more else place[i]


@numba.njit(nogil=True, error_model="numpy", cache=True)
def _along(value, name, offset, best, place):
    """The same along a row, where a place is name + offset: of equal values the first place wins, of values that are no number the last."""
    for i in range(len(best)):
        v, b, here, there = value[i], best[i], np.int32(name[i] + offset), place[i]
        more = (v > b) | ((v == b) & (here < there)) | ((v != v) & ((b == b) | (here > there)))
        best[i] = v if more else b
        place[i] = here if more else there


@numba.njit(nogil=True, error_model="numpy", cache=True)
def forward(x, y, taps, kernel, stride, padding, low, high):
    """y [P, H_out, W_out] = largest of each window of x [P, H, W]; taps: which of its k_h * k_w places was the first to hold it.

    For a row of outputs: the largest of each column of the windows' rows, then of neighbouring columns at every place, in long loops;
    the places that the stride names are picked at the end.
    """
    H, W = x.shape[1], x.shape[2]
    H_out, W_out = y.shape[1], y.shape[2]
    k_h, k_w = kernel
    s_h, s_w = stride
    p_h, p_w = padding
    reached = (W_out - 1) * s_w + 1  # first places of windows
    column = np.full(W + 2 * p_w + k_w, -np.inf, x.dtype)
    row_of = np.full(W + 2 * p_w + k_w, _NOWHERE, np.int32)
    best, place = np.empty(reached, x.dtype), np.empty(reached, np.int32)
    for p in range(low, high):
        for row in range(H_out):
            first = row * s_h - p_h
            begin, end = max(0, first), min(H, first + k_h)
            top, where = column[p_w : p_w + W], row_of[p_w : p_w + W]
            top[:] = x[p, begin]
            where[:] = (begin - first) * k_w
            for h in range(begin + 1, end):
                _down(x[p, h], np.int32((h - first) * k_w), top, where)
            best[:] = column[:reached]
            place[:] = row_of[:reached]
            for j in range(1, k_w):
                _along(column[j : j + reached], row_of[j : j + reached], np.int32(j), best, place)
            for c in range(W_out):
                y[p, row, c] = best[c * s_w]
                taps[p, row, c] = place[c * s_w]


@numba.njit(nogil=True, error_model="numpy", cache=True)
def backward(g, taps, grad, kernel, stride, padding, low, high):
    """grad [P, H, W]: each output's gradient goes to the place that it was taken from."""
    H, W = grad.shape[1], grad.shape[2]
    k_w = kernel[1]
    for p in range(low, high):
        into = grad[p]
        into[:] = 0
        for row in range(g.shape[1]):
            for c in range(g.shape[2]):
                tap = np.int64(taps[p, row, c])
                i = tap // k_w
                h = row * stride[0] + i - padding[0]
                w = c * stride[1] + (tap - i * k_w) - padding[1]
                if 0 <= h < H and 0 <= w < W:
                    into[h, w] += g[p, row, c]
