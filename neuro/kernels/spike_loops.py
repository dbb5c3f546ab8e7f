"""Dense layers and convolutions driven by events, for Numba: lists of active inputs, and sums of the rows of a matrix that a list names.

Spikes come as planes of bits, 64 elements to a word, element 64*w + b at bit b of word w; an element's value is the number of
planes that have its bit set. All arrays are flat but the planes. Every sum is taken in an order that depends on shapes alone,
never on how a call is split over threads.
"""

from __future__ import annotations

import numpy as np

from neuro.kernels.cache import machine
from neuro.kernels.shared_loops import aligned, copy, popcount, positions, sum_rows, sums, turn

_WIDE = 128  # columns of a matrix taken at a time, so that what is read stays in L2
_SHORT = 1536  # bytes of a row of a weight up to which 64 are turned at a time
_LISTED = 4096  # rows of spikes listed at a time
_SUMMED = 256  # rows of a gradient taken at a time: a byte names one


@machine
def _bits_in(planes, start, stop):
    """How many bits are set in the words that hold bits start .. stop: as many as `positions` finds, or up to 126 more."""
    n = 0
    for p in range(planes.shape[0]):
        for w in range(start >> 6, (stop + 63) >> 6):
            n += popcount(planes[p, w])
    return n


@machine
def transpose(a, rows, columns, b, low, high):
    """b [columns, rows] = a [rows, columns] transposed, for columns low .. high."""
    turn(a, low, columns, rows, high - low, b, low * rows, rows)


@machine
def times(planes, inner, weight, columns, bias, y, add, low, high):
    """y[low:high] = bias (with `add`, y itself) + X[low:high] @ weight.T; X [rows, inner] spikes, weight [columns, inner], y [rows, columns].

    64 rows of the weight at a time, or 32 that are long, are turned into a panel [inner, 64], of which L1 holds a good part and L2 the rest. Beside
    each other its rows fill the cache evenly; rows of a whole turned matrix lie a power of two apart.
    """
    wide = 64 if inner * weight.itemsize <= _SHORT else 32
    ends = np.empty(_LISTED + 1, np.int64)
    panel, source = aligned(inner * wide, weight.dtype), y if add else bias
    for start in range(low, high, _LISTED):
        rows, n = min(_LISTED, high - start), 0
        lists = np.empty(_bits_in(planes, start * inner, (start + rows) * inner), np.uint32)
        ends[0] = 0
        for r in range(rows):
            for p in range(planes.shape[0]):
                n = positions(planes[p], (start + r) * inner, (start + r + 1) * inner, lists, n)
            ends[r + 1] = n
        for c in range(0, columns, wide):
            width = min(wide, columns - c)
            for j in range(0, width, 16):  # sixteen rows from end to end, which the processor fetches ahead
                turn(weight, (c + j) * inner, inner, min(16, width - j), inner, panel, j, wide)
            for r in range(rows):
                t = (start + r) * columns + c
                s = t if add else c
                sums(source, s, y, t, width, panel, 0, wide, lists, None, ends[r], ends[r + 1])


@machine
def transposed_times(planes, rows, inner, dense, columns, y, low, high):
    """y[low:high] = X.T[low:high] @ dense; X [rows, inner] spikes, dense [rows, columns], y [inner, columns].

    Sums go over the rows in order. Of 256 rows 64 columns at a time are copied side by side, for the reason given in `times`.
    """
    depth = min(_SUMMED, rows) * planes.shape[0]
    lists, ends = np.empty((high - low) * depth, np.uint8), np.empty(high - low, np.int64)
    found = np.empty(high - low, np.uint32)
    panel = aligned(min(_SUMMED, rows) * 64, dense.dtype)
    y[low * columns : high * columns] = 0
    for start in range(0, rows, _SUMMED):
        some = min(_SUMMED, rows - start)
        for i in range(high - low):
            ends[i] = i * depth
        for r in range(some):
            for p in range(planes.shape[0]):
                n = positions(planes[p], (start + r) * inner + low, (start + r) * inner + high, found, 0)
                for k in range(n):
                    i = np.int64(found[k])
                    lists[ends[i]] = r
                    ends[i] += 1
        for c in range(0, columns, 64):
            width = min(64, columns - c)
            for r in range(some):
                copy(dense, (start + r) * columns + c, panel, r * 64, width)
            for i in range(high - low):
                at = (low + i) * columns + c
                sums(y, at, y, at, width, panel, 0, 64, lists, None, i * depth, ends[i])


@machine
def convolve(planes, sizes, dense, bias, y, add, low, high):
    """Items low .. high of a convolution; an item is one image and one group: y[n, group] = bias (with `add`, y itself) + taps of active inputs.

    sizes: C, H, W of a group's input, D, H, W of its output, kernel, stride, padding, dilation (each for H and W), groups.
    dense [groups, C * taps, D]: row c * taps + tap. y [N, groups * D, H_out, W_out].
    """
    C, H, W, D, H_out, W_out, K_h, K_w, s_h, s_w, p_h, p_w, d_h, d_w, groups = sizes
    P, taps = planes.shape[0], K_h * K_w
    most = C * P
    channels = np.empty(H * W * most, np.uint32)
    counts = np.empty(H * W, np.int64)
    found = np.empty(H * W, np.uint32)
    lists = np.empty(W_out * taps * most, np.uint32)
    ends = np.empty(W_out, np.int64)
    line = np.empty(W_out * D, y.dtype)
    source = line if add else bias
    for item in range(low, high):
        group = item % groups
        counts[:] = 0
        for c in range(C):
            for p in range(P):
                n = positions(planes[p], (item * C + c) * H * W, (item * C + c + 1) * H * W, found, 0)
                for k in range(n):
                    q = np.int64(found[k])
                    channels[q * most + counts[q]] = c * taps
                    counts[q] += 1
        for ho in range(H_out):
            for wo in range(W_out):
                ends[wo] = wo * taps * most
            for a in range(K_h):
                h = ho * s_h - p_h + a * d_h
                if h < 0 or h >= H:
                    continue
                for q in range(h * W, (h + 1) * W):
                    if counts[q] == 0:
                        continue
                    for b in range(K_w):
                        wo = q - h * W + p_w - b * d_w
                        if s_w != 1:
                            if wo % s_w:
                                continue
                            wo //= s_w
                        if wo < 0 or wo >= W_out:
                            continue
                        tap, n = np.uint32(a * K_w + b), ends[wo]
                        for k in range(q * most, q * most + counts[q]):
                            lists[n] = tap + channels[k]
                            n += 1
                        ends[wo] = n
            origin, at = group * taps * C * D, item * D * H_out * W_out + ho * W_out
            if add:
                turn(y, at, H_out * W_out, D, W_out, line, 0, D)
            for c in range(0, D, _WIDE):
                width = min(_WIDE, D - c)
                for wo in range(W_out):
                    t = wo * D + c
                    s = t if add else group * D + c
                    sums(source, s, line, t, width, dense, origin + c, D, lists, None, wo * taps * most, ends[wo])
            turn(line, 0, D, W_out, D, y, at, H_out * W_out)


@machine
def frame_gradient(g, channels, rows, columns, framed, frame_h, frame_w, top, left, low, high):
    """framed [n, frame_h, frame_w, channels] = g [n, channels, rows, columns] inside a frame of zeros, for images low .. high."""
    for n in range(low, high):
        start = n * frame_h * frame_w * channels
        framed[start : start + frame_h * frame_w * channels] = 0
        for h in range(rows):
            at = start + ((h + top) * frame_w + left) * channels
            turn(g, n * channels * rows * columns + h * columns, rows * columns, channels, columns, framed, at, channels)


@machine
def convolve_gradient(planes, sizes, first, images, framed, frame_h, frame_w, top, left, grad, low, high):
    """Add the weight's gradient of some images, for input channels low .. high; grad [groups * C, taps, D].

    framed: the gradient of the outputs [images, frame_h, frame_w, groups * D], channels last, in a frame of zeros.
    """
    C, H, W, D, H_out, W_out, K_h, K_w, s_h, s_w, p_h, p_w, d_h, d_w, groups = sizes
    P, taps, width = planes.shape[0], K_h * K_w, groups * D
    found = np.empty(H * W * P, np.uint32)
    lists = np.empty(H * W * P, np.uint32)
    for n in range(images):
        for channel in range(low, high):
            origin = n * frame_h * frame_w * width + channel // C * D
            start, m = ((first + n) * groups * C + channel) * H * W, 0
            for p in range(P):
                m = positions(planes[p], start, start + H * W, found, m)
            if s_h == 1 and s_w == 1:
                for k in range(m):
                    q = np.int64(found[k])
                    lists[k] = (q // W + p_h + top) * frame_w + q % W + p_w + left
            for a in range(K_h):
                for b in range(K_w):
                    target, i = (channel * taps + a * K_w + b) * D, m
                    at = origin - (a * d_h * frame_w + b * d_w) * width
                    if s_h != 1 or s_w != 1:
                        i, at = 0, origin
                        for k in range(m):
                            q = np.int64(found[k])
                            h, w = q // W + p_h - a * d_h, q % W + p_w - b * d_w
                            if h >= 0 and w >= 0 and h % s_h == 0 and w % s_w == 0 and h // s_h < H_out and w // s_w < W_out:
                                lists[i] = (h // s_h + top) * frame_w + w // s_w + left
                                i += 1
                    sum_rows(grad, target, grad, target, D, framed, at, width, lists, 0, i)
