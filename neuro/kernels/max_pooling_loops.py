"""Maximum over windows, as serial loops over image planes. Loaded when they are used, because they load Numba."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(nogil=True, error_model="numpy", cache=True)
def _along(padded, k_w, s_w, best, tap):
    """best[c] = largest of padded[c * s_w .. + k_w], tap[c]: which was the first to hold it. A stride of 1 or 2 is written out, so
    that it becomes vector instructions."""
    n = len(best)
    for c in range(n):
        best[c] = padded[c * s_w]
        tap[c] = 0
    for j in range(1, k_w):
        shifted, name = padded[j:], np.int32(j)
        if s_w == 1:
            for c in range(n):
                v = shifted[c]
                more = (v > best[c]) | (v != v)
                best[c] = v if more else best[c]
                tap[c] = name if more else tap[c]
        elif s_w == 2:
            for c in range(n):
                v = shifted[2 * c]
                more = (v > best[c]) | (v != v)
                best[c] = v if more else best[c]
                tap[c] = name if more else tap[c]
        else:
            for c in range(n):
                v = shifted[c * s_w]
                more = (v > best[c]) | (v != v)
                best[c] = v if more else best[c]
                tap[c] = name if more else tap[c]


@numba.njit(nogil=True, error_model="numpy", cache=True)
def forward(x, y, taps, kernel, stride, padding, low, high):
    """y [P, H_out, W_out] = largest of each window of x [P, H, W]; taps: which of its k_h * k_w places was the first to hold it.

    First along the rows, once per row, then across them: the first row that holds the largest value, and in it the first place.
    """
    H, W = x.shape[1], x.shape[2]
    H_out, W_out = y.shape[1], y.shape[2]
    k_h, k_w = kernel
    s_h, s_w = stride
    p_h, p_w = padding
    padded = np.full(W + 2 * p_w + s_w + k_w, -np.inf, x.dtype)
    rows, places = np.empty((H, W_out), x.dtype), np.empty((H, W_out), np.int32)
    place = np.empty(W_out, np.int32)
    for p in range(low, high):
        for h in range(H):
            padded[p_w : p_w + W] = x[p, h]
            _along(padded, k_w, s_w, rows[h], places[h])
        for row in range(H_out):
            first = max(0, row * s_h - p_h)
            best = y[p, row]
            best[:] = rows[first]
            offset = np.int32((first - row * s_h + p_h) * k_w)
            for c in range(W_out):
                place[c] = places[first, c] + offset
            for h in range(first + 1, min(H, row * s_h - p_h + k_h)):
                value, where = rows[h], places[h]
                offset = np.int32((h - row * s_h + p_h) * k_w)
                for c in range(W_out):
                    more = (value[c] > best[c]) | (value[c] != value[c])
                    best[c] = value[c] if more else best[c]
                    place[c] = where[c] + offset if more else place[c]
            tap = taps[p, row]
            for c in range(W_out):
                tap[c] = place[c]


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
