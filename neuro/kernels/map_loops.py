"""Convolutions and pooling of one step of one sample, for Numba: maps lie channels last, in one flat array with all other values."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from neuro.kernels.active_loops import add_rows, list_active, repeat
from neuro.kernels.shared_loops import copy, machine
from neuro.kernels.table import BIAS, FIRST, MAX, MEAN, MEAN_INSIDE, SUM, WEIGHT

PARTS = "33d83acb48df"  # of active_loops.py, shared_loops.py, which says why, and table.py


@intrinsic
def _across_8(context: Any, y: Any, t: Any, x: Any, a: Any, stride: Any, n: Any, largest: Any) -> Any:
    """y[t : t + 8] = the largest of x[a + v * stride : ... + 8] for v in 0 .. n, a NaN being the largest, or their sum."""

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector, word = ir.VectorType(ir.FloatType(), 8), ir.IntType(64)

        def place(k: int, at: Any) -> Any:
            data = context.make_array(signature.args[k])(context, builder, args[k]).data
            return builder.bitcast(builder.gep(data, [at]), vector.as_pointer())

        first = builder.load(place(2, args[3]), align=4)
        before, loop, done = builder.block, builder.append_basic_block("columns"), builder.append_basic_block("columns_end")
        builder.cbranch(builder.icmp_signed("<", ir.Constant(word, 1), args[5]), loop, done)
        builder.position_at_end(loop)
        v, old = builder.phi(word), builder.phi(vector)
        new = builder.load(place(2, builder.add(args[3], builder.mul(v, args[4]))), align=4)
        takes = builder.or_(builder.fcmp_ordered(">", new, old), builder.fcmp_unordered("uno", new, new))
        joined = builder.select(args[6], builder.select(takes, new, old), builder.fadd(old, new))
        after = builder.add(v, ir.Constant(word, 1))
        builder.cbranch(builder.icmp_signed("<", after, args[5]), loop, done)
        builder.position_at_end(done)
        found = builder.phi(vector)
        for phi, start, then in ((v, ir.Constant(word, 1), after), (old, first, joined), (found, first, joined)):
            phi.add_incoming(start, before)
            phi.add_incoming(then, loop)
        builder.store(found, place(0, args[1]), align=4)
        return context.get_dummy_value()

    return types.void(y, types.intp, x, types.intp, types.intp, types.intp, types.boolean), write


@machine
def sizes_of(row):
    """The fifteen sizes of a row."""
    f = row[FIRST : FIRST + 15]
    return f[0], f[1], f[2], f[3], f[4], f[5], f[6], f[7], f[8], f[9], f[10], f[11], f[12], f[13], f[14]


@machine
def conv(row, x, at, y, to, w, index, values, starts):
    """One step of a convolution. x [H, W, C], weights [groups, K_h, K_w, C / groups, D], y [H_out, W_out, groups * D].

    What is active in a row of x stands in one list, in order of place and channel. The taps of one kernel row lie side by side in x
    and in the weights, so without dilation and groups they are one stretch of that list.
    """
    C, H, W, D, H_out, W_out, K_h, K_w, s_h, s_w, p_h, p_w, d_h, d_w, groups = sizes_of(row)
    base, ends, width = row[WEIGHT], W * groups + 1, C * groups
    m = 0
    for h in range(H):
        first = m
        m = list_active(x, at + h * W * width, W * width, 0, index, values, m)
        k = first
        for j in range(ends - 1):
            starts[h * ends + j] = k
            while k < m and np.int64(index[k]) < (j + 1) * C:
                k += 1
        starts[(h + 1) * ends - 1] = m
    if row[FIRST + 15] >= 0 and m * (D + 64) <= 128 * H_out * W_out:  # measured: the more outputs, the sooner registers win
        _scatter(row, H_out, W_out, D, C, H, W, K_h, K_w, p_h, p_w, y, to, w, index, values, starts)
        return
    simple = d_w == 1 and groups == 1
    stretches = 1 if simple else K_w * groups
    for ho in range(H_out):
        for wo in range(W_out):
            target, w0 = to + (ho * W_out + wo) * groups * D, wo * s_w - p_w
            copy(w, row[BIAS], y, target, groups * D)
            for a in range(K_h):
                h = ho * s_h - p_h + a * d_h
                if h < 0 or h >= H:
                    continue
                for q in range(stretches):
                    if simple:
                        g, v, tap = 0, w0, a * K_w
                        left, right = max(w0, 0), min(w0 + K_w, W)
                    else:
                        b, g = q // groups, q % groups
                        v, tap = (w0 + b * d_w) * groups + g, (g * K_h + a) * K_w + b
                        left, right = v, v + 1 if w0 + b * d_w >= 0 and w0 + b * d_w < W else v
                    if left < right and starts[h * ends + left] < starts[h * ends + right]:
                        origin = base + (tap - v) * C * D
                        add_rows(y, target + g * D, w, origin, D, 0, D, index, values, starts[h * ends + left], starts[h * ends + right])


@machine
def _scatter(row, H_out, W_out, D, C, H, W, K_h, K_w, p_h, p_w, y, to, w, index, values, starts):
    """The convolution of few events, of stride 1: each adds its taps to the outputs that it reaches, which are neighbours.

    Here the weights are [K_h, C, K_w, D] with the taps of a kernel row from right to left. Each output gets its terms in the same
    order as in the other form, so the sums are the same to the last bit.
    """
    repeat(y, to, H_out * W_out, w, row[BIAS], D)
    for h in range(H):
        for k in range(starts[h * (W + 1)], starts[(h + 1) * (W + 1) - 1]):
            p = np.int64(index[k])
            v = p // C
            left = v + p_w - (K_w - 1)
            low, high = max(left, 0), min(v + p_w + 1, W_out)
            for a in range(K_h):
                ho = h + p_h - a
                if ho >= 0 and ho < H_out and low < high:
                    origin = row[FIRST + 15] + ((a * C + p - v * C) * K_w + low - left) * D
                    add_rows(y, to + (ho * W_out + low) * D, w, origin, 0, 0, (high - low) * D, index, values, k, k + 1)


@machine
def depthwise(row, x, at, y, to, w):
    """One step of a convolution with one filter for each channel. x [H, W, C], weights [K_h, K_w, C], y [H_out, W_out, C]."""
    C, H, W, D, H_out, W_out, K_h, K_w, s_h, s_w, p_h, p_w, d_h, d_w, groups = sizes_of(row)
    for ho in range(H_out):
        for wo in range(W_out):
            target = y[to + (ho * W_out + wo) * groups : to + (ho * W_out + wo + 1) * groups]
            copy(w, row[BIAS], target, 0, groups)
            for a in range(K_h):
                h = ho * s_h - p_h + a * d_h
                for b in range(K_w):
                    v = wo * s_w - p_w + b * d_w
                    if h >= 0 and h < H and v >= 0 and v < W:
                        source = x[at + (h * W + v) * groups : at + (h * W + v + 1) * groups]
                        weight = w[row[WEIGHT] + (a * K_w + b) * groups : row[WEIGHT] + (a * K_w + b + 1) * groups]
                        for c in range(groups):
                            target[c] += weight[c] * source[c]


@machine
def pool(row, x, at, y, to, work):
    """One step of the windows of a map: first down, then across. x [H, W, C], y [H_out, W_out, C]. A NaN is the largest value."""
    C, H, W, H_out, W_out, K_h, K_w, s_h, s_w, p_h, p_w, how, _, _, _ = sizes_of(row)
    n = W * C
    column = work[:n]
    for ho in range(H_out):
        top = ho * s_h - p_h
        rows = min(top + K_h, H + p_h) - top
        first, last = max(top, 0), min(top + K_h, H)
        copy(x, at + first * n, column, 0, n)
        for h in range(first + 1, last):
            source = x[at + h * n : at + (h + 1) * n]
            if how == MAX:
                for i in range(n):
                    value, most = source[i], column[i]
                    column[i] = value if (value > most) | (value != value) else most
            else:
                for i in range(n):
                    column[i] += source[i]
        for wo in range(W_out):
            left = wo * s_w - p_w
            columns = min(left + K_w, W + p_w) - left
            begin, end = max(left, 0), min(left + K_w, W)
            count = np.float32(1)
            if how == MEAN:
                count = np.float32(rows * columns)
            elif how == MEAN_INSIDE:
                count = np.float32((last - first) * (end - begin))
            _window(work, C, begin, end, how == MAX, how != MAX and how != SUM, count, y, to + (ho * W_out + wo) * C)


@machine
def _window(work, C, begin, end, largest, shared, count, y, there):
    """y[there : there + C] = the largest, the sum or the mean of columns begin .. end of work [W, C]."""
    c = 0
    while C - c >= 8:
        _across_8(y, there + c, work, begin * C + c, C, end - begin, largest)
        c += 8
    for j in range(c, C):
        found = work[begin * C + j]
        for v in range(begin + 1, end):
            value = work[v * C + j]
            if largest:
                found = value if (value > found) | (value != value) else found
            else:
                found += value
        y[there + j] = found
    if shared:
        for j in range(C):
            y[there + j] /= count
