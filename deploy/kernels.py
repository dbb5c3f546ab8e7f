"""The twin's loops: serial Numba functions that release the interpreter lock. Time first, channels last.

Maps are [T, H, W, C] and tokens [T, N, C], so that the innermost loop runs over channels, contiguous in both the
weights and the accumulators. A synapse walks its input and, where it is not zero, adds the row of weights that leaves
it: the cost follows the activity. All values are int32; `neuro.deploy.rules` has bounded every sum.
"""

from __future__ import annotations

import numba
import numpy as np

jit = numba.njit(nogil=True, cache=True)
TOP = 1 << 23
i32 = np.int32


@jit
def conv(x, weight, out, stride, padding, dilation, groups):
    """out += conv2d(x). x [T, H, W, C], weight int16 [C, kh, kw, O/groups], out [T, H', W', O] zeroed.

    Returns (nonzero inputs, inputs above 1, weights added).
    """
    T, H, W, C = x.shape
    rows, columns = out.shape[1], out.shape[2]
    _, kh, kw, share = weight.shape
    per_group = C // groups
    active = np.empty(C, np.int64)
    events, graded, taps = 0, 0, 0
    for t in range(T):
        for y in range(H):
            for z in range(W):
                pixel = x[t, y, z]
                n = 0
                for c in range(C):
                    if pixel[c] != 0:
                        active[n] = c
                        n += 1
                        graded += pixel[c] != 1
                if n == 0:
                    continue
                events += n
                for i in range(kh):
                    oy = y + padding[0] - i * dilation[0]
                    if oy < 0 or oy % stride[0] != 0 or oy // stride[0] >= rows:
                        continue
                    for j in range(kw):
                        oz = z + padding[1] - j * dilation[1]
                        if oz < 0 or oz % stride[1] != 0 or oz // stride[1] >= columns:
                            continue
                        taps += n
                        there = out[t, oy // stride[0], oz // stride[1]]
                        for k in range(n):
                            c = active[k]
                            value, row = pixel[c], weight[c, i, j]
                            target = there if groups == 1 else there[c // per_group * share:]
                            for o in range(share):
                                target[o] += value * i32(row[o])
    return events, graded, taps * share


@jit
def conv_by_rows(x, mirrored, out, padding):
    """As `conv`, for stride and dilation 1 and one group. mirrored: int16 [C, kh, kw, D], its columns in reverse order.

    What an input adds to one row of outputs then lies side by side, taps and channels alike, in the weights and in `out`: one long loop.
    """
    T, H, W, C = x.shape
    rows, columns, D = out.shape[1:]
    kh, kw = mirrored.shape[1:3]
    along, weight = out.reshape(T, rows, columns * D), mirrored.reshape(C, kh, kw * D)
    events, graded, taps = 0, 0, 0
    for t in range(T):
        for y in range(H):
            for z in range(W):
                first = z + padding[1] - kw + 1  # column of the mirrored kernel's first tap
                left, right = max(0, -first), min(kw, columns - first)
                top, bottom = max(0, y + padding[0] - rows + 1), min(kh, y + padding[0] + 1)
                for c in range(C):
                    value = x[t, y, z, c]
                    if value == 0:
                        continue
                    events += 1
                    graded += value != 1
                    if right <= left:
                        continue
                    for i in range(top, bottom):
                        taps += right - left
                        target = along[t, y + padding[0] - i, (first + left) * D : (first + right) * D]
                        row = weight[c, i, left * D : right * D]
                        if value == 1:
                            for k in range(len(row)):
                                target[k] += i32(row[k])
                        else:
                            for k in range(len(row)):
                                target[k] += value * i32(row[k])
    return events, graded, taps * D


@jit
def dense(x, weight, out):
    """out += x weight. x [R, I], weight int16 [I, O], out [R, O] zeroed; four active rows are added at a time.

    Returns (nonzero inputs, inputs above 1, weights added).
    """
    R, width = x.shape
    outputs = weight.shape[1]
    active = np.empty(width + 3, np.int64)
    scale = np.empty(width + 3, np.int32)
    events, graded = 0, 0
    for r in range(R):
        n, plain = 0, True
        for i in range(width):
            if x[r, i] != 0:
                active[n] = i
                scale[n] = x[r, i]
                if x[r, i] != 1:
                    plain = False
                    graded += 1
                n += 1
        events += n
        target = out[r]
        full = n - n % 4
        for k in range(0, full, 4):
            w0, w1, w2, w3 = weight[active[k]], weight[active[k + 1]], weight[active[k + 2]], weight[active[k + 3]]
            if plain:
                for o in range(outputs):
                    target[o] += i32(w0[o]) + i32(w1[o]) + i32(w2[o]) + i32(w3[o])
            else:
                a, b, c, d = scale[k], scale[k + 1], scale[k + 2], scale[k + 3]
                for o in range(outputs):
                    target[o] += a * i32(w0[o]) + b * i32(w1[o]) + c * i32(w2[o]) + d * i32(w3[o])
        for k in range(full, n):
            w0, a = weight[active[k]], scale[k]
            for o in range(outputs):
                target[o] += a * i32(w0[o])
    return events, graded, events * outputs


@jit
def attention(q, k, v, out, heads, factor):
    """out = factor * (q k^T) v per head and step. q, k, v [T, N, D], out [T, N, D] zeroed.

    Returns (nonzero inputs, inputs above 1, operations): one per nonzero q that meets a nonzero k, and one per nonzero v that
    meets a nonzero score.
    """
    T, N, D = q.shape
    d = D // heads
    score = np.zeros(N, np.int32)
    columns = np.zeros((d, N), np.int32)
    spikes, keys = np.zeros(N, np.int64), np.zeros(d, np.int64)
    events, graded, operations = 0, 0, 0
    for t in range(T):
        for h in range(heads):
            first = h * d
            keys[:] = 0
            for m in range(N):
                spikes[m] = 0
                for j in range(d):
                    a, b, c = q[t, m, first + j], k[t, m, first + j], v[t, m, first + j]
                    columns[j, m] = b
                    keys[j] += b != 0
                    spikes[m] += c != 0
                    events += (a != 0) + (b != 0) + (c != 0)
                    graded += (a > 1) + (b > 1) + (c > 1)
            for n in range(N):
                score[:] = 0
                for j in range(d):
                    a = q[t, n, first + j]
                    if a != 0:
                        operations += keys[j]
                        for m in range(N):
                            score[m] += a * columns[j, m]
                target = out[t, n, first:first + d]
                for m in range(N):
                    s = score[m]
                    if s != 0:
                        operations += spikes[m]
                        value = i32(s * factor)
                        row = v[t, m, first:first + d]
                        for j in range(d):
                            target[j] += value * row[j]
    return events, graded, operations


@jit
def pool(x, out, kernel, stride, padding):
    """out = max over windows, of what lies inside the map. x [T, H, W, C], out [T, H', W', C]; every window meets the map."""
    T, H, W, C = x.shape
    for t in range(T):
        for y in range(out.shape[1]):
            for z in range(out.shape[2]):
                target = out[t, y, z]
                top, left = y * stride[0] - padding[0], z * stride[1] - padding[1]
                target[:] = x[t, max(top, 0), max(left, 0)]
                for i in range(max(top, 0), min(top + kernel[0], H)):
                    for j in range(max(left, 0), min(left + kernel[1], W)):
                        row = x[t, i, j]
                        for c in range(C):
                            target[c] = max(target[c], row[c])


@jit
def lif(a, spikes, membranes, bias, du, dv, vth, keep):
    """Lava's LIF over time from zero state; see `neuro.deploy.reference.lif_step`.

    a, spikes [T, N]; membranes [T, N] where `keep`, else anything; bias [N], already shifted. |a| < 2^17.
    The product x * m >> 12 is taken in two halves that fit 32 bits: (hi * m + (lo * m >> 11)) >> 1, x = hi * 2^11 + lo.
    Returns (spikes, cases of v exactly at the threshold).
    """
    T, N = a.shape
    u, v = np.zeros(N, np.int32), np.zeros(N, np.int32)
    mu, mv, limit = i32(4095 - du), i32(4096 - dv), i32(vth << 6)
    top, wrap = i32(TOP), i32(2 * TOP)
    fired, equal = 0, 0
    for t in range(T):
        at, st = a[t], spikes[t]
        if mu == 0:
            for n in range(N):
                u[n] = at[n] << 6
        else:
            for n in range(N):
                x = abs(u[n])
                x = i32(i32(i32(x >> 11) * mu) + i32(i32(i32(x & 2047) * mu) >> 11)) >> 1
                u[n] = (-x if u[n] < 0 else x) + (at[n] << 6)
        count, same = i32(0), i32(0)
        for n in range(N):
            current = u[n]
            if current > top:
                current -= wrap
            elif current <= -top:
                current += wrap
            u[n] = current
            x = abs(v[n])
            x = i32(i32(i32(i32(x >> 11) * mv) + i32(i32(i32(x & 2047) * mv) >> 11)) >> 1)
            x = i32(i32(i32(-x if v[n] < 0 else x) + i32(current)) + bias[n])
            x = min(max(x, i32(1 - top)), i32(top - 1))
            s = i32(x > limit)
            same += i32(x == limit)
            count += s
            st[n] = s
            v[n] = i32(0) if s else x
        fired += count
        equal += same
        if keep:
            membranes[t] = v
    return fired, equal


@jit
def sum_pool(x, out, kernel, stride, padding):
    """out = sum over windows. x [T, H, W, C], out [T, H', W', C] zeroed."""
    T, H, W, C = x.shape
    for t in range(T):
        for y in range(out.shape[1]):
            for z in range(out.shape[2]):
                target = out[t, y, z]
                top, left = y * stride[0] - padding[0], z * stride[1] - padding[1]
                for i in range(max(top, 0), min(top + kernel[0], H)):
                    for j in range(max(left, 0), min(left + kernel[1], W)):
                        row = x[t, i, j]
                        for c in range(C):
                            target[c] += row[c]


@jit
def decayed(x, k):
    """sign(x) * (|x| * (4096 - k) >> 12) in 64 bits."""
    return (x * (4096 - k)) >> 12 if x >= 0 else -((-x * (4096 - k)) >> 12)


@jit
def cell(a, spikes, membranes, constants, weight, reset, levels, keep):
    """A Cell over time from zero state; see `neuro.deploy.reference.cell_step`.

    a, spikes [T, N]; membranes [T, N] where `keep`; constants int64 [6, N]: dv, vth, du, bias, dh, jump; weight int16 [N, N], row j
    leaving neuron j, or [0, 0] without feedback. reset 0 zero, 1 subtract, 2 none, 3 late.
    Returns (spikes fed back, of them above 1, weights added, spikes, cases of v exactly at a threshold).
    """
    T, N = a.shape
    dv, vth, du, bias, dh, jump = constants
    u, v, h = np.zeros(N, np.int64), np.zeros(N, np.int64), np.zeros(N, np.int64)
    gathered = np.zeros(N, np.int64)
    back, graded, fired, equal = 0, 0, 0, 0
    for t in range(T):
        gathered[:] = 0
        if len(weight) and t:
            for j in range(N):
                last = spikes[t - 1, j]
                if last != 0:
                    back += 1
                    graded += last > 1
                    for n in range(N):
                        gathered[n] += last * weight[j, n]
        for n in range(N):
            u[n] = decayed(u[n], du[n] + 1) + ((np.int64(a[t, n]) + gathered[n]) << 6) + bias[n]
            x = decayed(v[n], dv[n]) + u[n]
            if reset == 3 and t:
                x -= np.int64(spikes[t - 1, n]) * (vth[n] << 6)
            x = min(max(x, np.int64(1 - TOP)), np.int64(TOP - 1))
            theta = (vth[n] << 6) + h[n]
            s = np.int64(0)
            while s < levels and x > (s + 1) * theta:
                s += 1
            equal += s < levels and x == (s + 1) * theta
            fired += s
            h[n] = min(decayed(h[n], dh[n]) + s * jump[n], np.int64(TOP - 1))
            spikes[t, n] = s
            if s > 0 and reset == 0:
                x = np.int64(0)
            elif reset == 1:
                x -= s * theta
            v[n] = x
            if keep:
                membranes[t, n] = x
    return back, graded, back * N, fired, equal
