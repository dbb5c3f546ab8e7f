"""Maximum over windows, as serial loops over image planes. Loaded when they are used, because they load Numba."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(nogil=True, error_model="numpy", cache=True)
def _larger(value, name, offset, best, place):
    """Where value is larger than best (or no number): best becomes value, and place becomes name + offset."""
    for i in range(len(best)):
        more = (value[i] > best[i]) | (value[i] != value[i])
        best[i] = value[i] if more else best[i]
        place[i] = np.int32(name[i] + offset) if more else place[i]


@numba.njit(nogil=True, error_model="numpy", cache=True)
def forward(x, y, taps, kernel, stride, padding, low, high):
    """y [P, H_out, W_out] = largest of each window of x [P, H, W]; taps: which of its k_h * k_w places was the first to hold it.

    A plane is laid into a frame of minus infinity, and windows are taken at every place of it in long loops, first along the rows, then
    across them; the places that the stride names are picked at the end. So the first row that holds the largest value wins, and
    in it the first place.
    """
    H, W = x.shape[1], x.shape[2]
    H_out, W_out = y.shape[1], y.shape[2]
    k_h, k_w = kernel
    s_h, s_w = stride
    p_h, p_w = padding
    width = W + 2 * p_w
    size = (H + 2 * p_h) * width
    framed = np.full(size + k_w, -np.inf, x.dtype)
    none = np.zeros(size, np.int32)
    along, tap = np.empty(size, x.dtype), np.empty(size, np.int32)
    reached = ((H_out - 1) * s_h + 1) * width  # first places of windows
    best, place = np.empty(reached, x.dtype), np.empty(reached, np.int32)
    for p in range(low, high):
        for h in range(H):
            begin = (h + p_h) * width + p_w
            framed[begin : begin + W] = x[p, h]
        along[:] = framed[:size]
        tap[:] = 0
        for j in range(1, k_w):
            _larger(framed[j : j + size], none, np.int32(j), along, tap)
        best[:] = along[:reached]
        place[:] = tap[:reached]
        for i in range(1, k_h):
            _larger(along[i * width : i * width + reached], tap[i * width : i * width + reached], np.int32(i * k_w), best, place)
        for row in range(H_out):
            begin = row * s_h * width
            for c in range(W_out):
                y[p, row, c] = best[begin + c * s_w]
                taps[p, row, c] = place[begin + c * s_w]


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
