"""Batch normalisation's sums and the last step of its gradient, as serial loops. Loaded when they are used, because they load Numba."""

from __future__ import annotations

import numpy as np

from neuro.kernels.cache import machine


@machine(fastmath={"reassoc", "contract"})
def moments_of_planes(x, origin, sums, low, high):
    """sums [P, 2]: sum and sum of squares of x - origin over each plane of x [P, S], in double; planes repeat the channels of origin in order."""
    for p in range(low, high):
        total, square, zero = 0.0, 0.0, origin[p % len(origin)]
        plane = x[p]
        for i in range(len(plane)):
            v = np.float64(plane[i]) - zero
            total += v
            square += v * v
        sums[p, 0] = total
        sums[p, 1] = square


@machine
def moments_of_rows(x, origin, sums, rows, low, high):
    """sums [pieces, 2, C]: the same over every `rows` rows of x [R, C], in double; origin [C]."""
    for piece in range(low, high):
        total, square = sums[piece, 0], sums[piece, 1]
        total[:] = 0
        square[:] = 0
        begin, end = piece * rows, min((piece + 1) * rows, x.shape[0])
        fours = begin + (end - begin) // 4 * 4
        for r in range(begin, fours, 4):  # four at once: the sums are read and written a quarter as often
            a, b, c, d = x[r], x[r + 1], x[r + 2], x[r + 3]
            for i in range(x.shape[1]):
                zero = origin[i]
                p, q, s, t = np.float64(a[i]) - zero, np.float64(b[i]) - zero, np.float64(c[i]) - zero, np.float64(d[i]) - zero
                total[i] += (p + q) + (s + t)
                square[i] += (p * p + q * q) + (s * s + t * t)
        for r in range(fours, end):
            row = x[r]
            for c in range(len(row)):
                v = np.float64(row[c]) - origin[c]
                total[c] += v
                square[c] += v * v


@machine
def finish_planes(grad, x, slope, offset, low, high):
    """grad [P, S] += slope * x + offset, with a slope and an offset for each channel; planes repeat the channels in order."""
    for p in range(low, high):
        a, b = slope[p % len(slope)], offset[p % len(slope)]
        g, v = grad[p], x[p]
        for i in range(len(g)):
            g[i] = g[i] + (a * v[i] + b)


@machine
def finish_rows(grad, x, slope, offset, low, high):
    """grad [R, C] += slope * x + offset, with a slope and an offset for each column."""
    for r in range(low, high):
        g, v = grad[r], x[r]
        for c in range(len(g)):
            g[c] = g[c] + (slope[c] * v[c] + offset[c])
