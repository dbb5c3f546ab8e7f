"""Products with spikes, for Numba: lists of active inputs, and sums of the rows of a matrix that a list names.

Spikes come as planes of bits, 64 elements to a word, element 64*w + b at bit b of word w; an element's value is the number of
planes that have its bit set. All arrays are flat but the planes. Every sum is taken in an order that depends on shapes alone,
never on how a call is split over threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.cpython.unsafe.numbers import trailing_zeros
from numba.extending import intrinsic

from neuro.kernels.shared_loops import LANES, aligned, columns_of_bits, machine, popcount, turn

PARTS = "97232687e484"  # of shared_loops.py, which says why
_WIDE = 128  # columns of a matrix taken at a time, so that what is read stays in L2
_LISTED = 4096  # rows of spikes listed at a time
_SUMMED = 512  # rows of a gradient taken at a time; part of the order of summation
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_ONE = np.uint64(1)


@machine
def _positions(words, start, stop, found, n):
    """Append to found[n:] where bits of start .. stop are set, counted from start. Returns the new n."""
    first, last = start >> 6, (stop + 63) >> 6
    for w in range(first, last):
        word = words[w]
        if w == first:
            word &= _ALL << np.uint64(start & 63)
        if w == last - 1 and stop & 63:
            word &= _ALL >> np.uint64(64 - (stop & 63))
        base = w * 64 - start
        while word != 0:
            found[n] = base + np.int64(trailing_zeros(word))
            n += 1
            word &= word - _ONE
    return n


@machine
def _bits_in(planes, start, stop):
    """How many bits are set in the words that hold bits start .. stop: as many as `_positions` finds, or up to 126 more."""
    n = 0
    for p in range(planes.shape[0]):
        for w in range(start >> 6, (stop + 63) >> 6):
            n += popcount(planes[p, w])
    return n


def _summing(vectors: int) -> Any:
    """Machine code: target[t:t+n] = source[s:s+n] + sum of rows[index[k] * stride + c : ... + n], n = 16 * vectors, sums held in registers."""

    @intrinsic
    def tile(
        context: Any, source: Any, s: Any, target: Any, t: Any, rows: Any, stride: Any, c: Any, index: Any, first: Any, last: Any
    ) -> Any:  # fmt: skip
        def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kinds = signature.args
            element = context.get_value_type(kinds[0].dtype)
            vector, word = ir.VectorType(element, LANES), ir.IntType(64)
            size = context.get_abi_sizeof(element)

            def data(k: int) -> Any:
                return context.make_array(kinds[k])(context, builder, args[k]).data

            def vectors_at(pointer: Any) -> list[Any]:
                start = builder.bitcast(pointer, vector.as_pointer())
                return [builder.gep(start, [ir.Constant(word, v)]) for v in range(vectors)]

            out, base, listed = vectors_at(builder.gep(data(2), [args[3]])), builder.gep(data(4), [args[6]]), data(7)
            starts = [builder.load(p, align=size) for p in vectors_at(builder.gep(data(0), [args[1]]))]
            before, loop, done = builder.block, builder.append_basic_block("rows"), builder.append_basic_block("rows_end")
            builder.cbranch(builder.icmp_signed("<", args[8], args[9]), loop, done)
            builder.position_at_end(loop)
            k = builder.phi(word)
            sums = [builder.phi(vector) for _ in range(vectors)]
            row = builder.zext(builder.load(builder.gep(listed, [k])), word)
            found = vectors_at(builder.gep(base, [builder.mul(row, args[5])]))
            more = [builder.fadd(s, builder.load(p, align=size)) for s, p in zip(sums, found, strict=True)]
            after = builder.add(k, ir.Constant(word, 1))
            builder.cbranch(builder.icmp_signed("<", after, args[9]), loop, done)
            builder.position_at_end(done)
            totals = [builder.phi(vector) for _ in range(vectors)]
            for phi, old, new in [(k, args[8], after), *zip(sums, starts, more, strict=True), *zip(totals, starts, more, strict=True)]:
                phi.add_incoming(old, before)
                phi.add_incoming(new, loop)
            for p, total in zip(out, totals, strict=True):
                builder.store(total, p, align=size)
            return context.get_dummy_value()

        signature = types.void(source, types.intp, target, types.intp, rows, types.intp, types.intp, index, types.intp, types.intp)
        return signature, write

    return tile


_tile_128, _tile_64, _tile_32, _tile_16 = _summing(8), _summing(4), _summing(2), _summing(1)


@machine
def _sum_rows(source, s, target, t, width, rows, origin, stride, index, first, last):
    """target[t + j] = source[s + j] + sum over k in first .. last of rows[origin + index[k] * stride + j], for j in 0 .. width, in the order of k."""
    c = 0
    while width - c >= 128:
        _tile_128(source, s + c, target, t + c, rows, stride, origin + c, index, first, last)
        c += 128
    if width - c >= 64:
        _tile_64(source, s + c, target, t + c, rows, stride, origin + c, index, first, last)
        c += 64
    if width - c >= 32:
        _tile_32(source, s + c, target, t + c, rows, stride, origin + c, index, first, last)
        c += 32
    while width - c >= 16:
        _tile_16(source, s + c, target, t + c, rows, stride, origin + c, index, first, last)
        c += 16
    for j in range(c, width):
        total = source[s + j]
        for k in range(first, last):
            total += rows[origin + np.int64(index[k]) * stride + j]
        target[t + j] = total


@machine
def transpose(a, rows, columns, b, low, high):
    """b [columns, rows] = a [rows, columns] transposed, for columns low .. high."""
    turn(a, low, columns, rows, high - low, b, low * rows, rows)


@machine
def times(planes, inner, weight, columns, bias, y, add, low, high):
    """y[low:high] = bias (with `add`, y itself) + X[low:high] @ weight.T; X [rows, inner] spikes, weight [columns, inner], y [rows, columns].

    128 rows of the weight at a time are turned into a panel [inner, 128] that stays in L2. Beside each other its rows fill the
    cache evenly; rows of a whole turned matrix lie a power of two apart.
    """
    ends = np.empty(_LISTED + 1, np.int64)
    panel = aligned(inner * min(_WIDE, columns), weight.dtype)
    for start in range(low, high, _LISTED):
        rows, n = min(_LISTED, high - start), 0
        lists = np.empty(_bits_in(planes, start * inner, (start + rows) * inner), np.uint32)
        ends[0] = 0
        for r in range(rows):
            for p in range(planes.shape[0]):
                n = _positions(planes[p], (start + r) * inner, (start + r + 1) * inner, lists, n)
            ends[r + 1] = n
        for c in range(0, columns, _WIDE):
            width = min(_WIDE, columns - c)
            turn(weight, c * inner, inner, width, inner, panel, 0, width)
            for r in range(rows):
                t = (start + r) * columns + c
                if add:
                    _sum_rows(y, t, y, t, width, panel, 0, width, lists, ends[r], ends[r + 1])
                else:
                    _sum_rows(bias, c, y, t, width, panel, 0, width, lists, ends[r], ends[r + 1])


@machine
def transposed_times(planes, rows, inner, dense, columns, y, low, high):
    """y[low:high] = X.T[low:high] @ dense; X [rows, inner] spikes, dense [rows, columns], y [inner, columns].

    Sums over rows go block after block and in order inside one.
    """
    depth = min(_SUMMED, rows) * planes.shape[0]
    lists = np.empty((high - low) * depth, np.uint32)
    ends = np.empty(high - low, np.int64)
    found = np.empty(high - low, np.uint32)
    y[low * columns : high * columns] = 0
    for start in range(0, rows, _SUMMED):
        ends[:] = 0
        for r in range(start, min(start + _SUMMED, rows)):
            for p in range(planes.shape[0]):
                n = _positions(planes[p], r * inner + low, r * inner + high, found, 0)
                for k in range(n):
                    i = np.int64(found[k])
                    lists[i * depth + ends[i]] = r
                    ends[i] += 1
        for c in range(0, columns, _WIDE):
            for i in range(high - low):
                at = (low + i) * columns + c
                _sum_rows(y, at, y, at, min(_WIDE, columns - c), dense, c, columns, lists, i * depth, i * depth + ends[i])


@machine
def convolve(planes, sizes, dense, bias, y, add, low, high):
    """Items low .. high of a convolution; an item is one image and one group: y[n, group] = bias (with `add`, y itself) + taps of active inputs.

    sizes: C, H, W of a group's input, D, H, W of its output, kernel, stride, padding, dilation (each for H and W), groups.
    dense [groups, C * taps, D]: row c * taps + tap. y [N, groups * D, H_out, W_out].
    """
    C, H, W, D, H_out, W_out, K_h, K_w, s_h, s_w, p_h, p_w, d_h, d_w, groups = sizes
    P = planes.shape[0]
    channels = np.empty((H, W, C * P), np.uint32)
    counts = np.empty((H, W), np.int64)
    found = np.empty(W, np.uint32)
    lists = np.empty(W_out * K_h * K_w * C * P, np.uint32)
    ends = np.empty(W_out + 1, np.int64)
    line = np.empty(W_out * D, y.dtype)
    for item in range(low, high):
        group = item % groups
        counts[:] = 0
        for c in range(C):
            for h in range(H):
                for p in range(P):
                    n = _positions(planes[p], ((item * C + c) * H + h) * W, ((item * C + c) * H + h + 1) * W, found, 0)
                    for k in range(n):
                        w = np.int64(found[k])
                        channels[h, w, counts[h, w]] = c * K_h * K_w
                        counts[h, w] += 1
        for ho in range(H_out):
            n = 0
            ends[0] = 0
            for wo in range(W_out):
                for a in range(K_h):
                    h = ho * s_h - p_h + a * d_h
                    if h < 0 or h >= H:
                        continue
                    for b in range(K_w):
                        w = wo * s_w - p_w + b * d_w
                        if w < 0 or w >= W:
                            continue
                        tap = np.uint32(a * K_w + b)
                        for k in range(counts[h, w]):
                            lists[n] = tap + channels[h, w, k]
                            n += 1
                ends[wo + 1] = n
            origin, at = group * K_h * K_w * C * D, item * D * H_out * W_out + ho * W_out
            if add:
                turn(y, at, H_out * W_out, D, W_out, line, 0, D)
            for c in range(0, D, _WIDE):
                width = min(_WIDE, D - c)
                for wo in range(W_out):
                    if add:
                        _sum_rows(line, wo * D + c, line, wo * D + c, width, dense, origin + c, D, lists, ends[wo], ends[wo + 1])
                    else:
                        _sum_rows(bias, group * D + c, line, wo * D + c, width, dense, origin + c, D, lists, ends[wo], ends[wo + 1])
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
                m = _positions(planes[p], start, start + H * W, found, m)
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
                    _sum_rows(grad, target, grad, target, D, framed, at, width, lists, 0, i)


@machine
def _pairs(k, v, first, d, width, tokens, kv, counts):
    """kv [d, d] = K^T V of the head whose channels begin at first: for each pair of channels, how many tokens have both active."""
    for c in range(d):
        counts[:] = 0
        for w in range((tokens + 63) >> 6):
            with_k = k[w * width + first + c]
            if with_k != 0:
                with_v = v[w * width + first : w * width + first + d]
                for e in range(d):
                    counts[e] += popcount(with_k & with_v[e])
        kv[c * d : (c + 1) * d] = counts


@machine
def attend(q, k, v, tokens, heads, d, scale, y, low, high):
    """y = scale * Q (K^T V) of each head, for images low .. high; planes q, k, v and y [images, tokens, heads * d]. Exact up to the factor.

    K^T V of all heads first, then token after token: rows that are written one after the other need not be waited for.
    """
    width = heads * d
    of_k, of_v = np.empty((tokens + 63) // 64 * width, np.uint64), np.empty((tokens + 63) // 64 * width, np.uint64)
    block, counts, found = np.empty(64, np.uint64), np.empty(d, np.int64), np.empty(d, np.uint32)
    kv, zeros, factor, P = aligned(heads * d * d, y.dtype), np.zeros(d, y.dtype), y.dtype.type(scale), d * d
    for image in range(low, high):
        start = image * tokens * width
        columns_of_bits(k[0], image * tokens, tokens, width, 0, width, of_k, 0, block)
        columns_of_bits(v[0], image * tokens, tokens, width, 0, width, of_v, 0, block)
        for head in range(heads):
            _pairs(of_k, of_v, head * d, d, width, tokens, kv[head * P : (head + 1) * P], counts)
        for i in range(tokens):
            for head in range(heads):
                at = start + i * width + head * d
                n = _positions(q[0], at, at + d, found, 0)
                _sum_rows(zeros, 0, y, at, d, kv, head * P, d, found, 0, n)
                for e in range(at, at + d):
                    y[e] *= factor


@machine
def attend_gradients(q, k, v, g, tokens, heads, d, scale, gq, gk, gv, low, high):
    """Gradients of `attend` by q, k and v for images low .. high; all [images, tokens, heads * d].

    With P = scale * Q^T G per head: dV = K P, dK = V P^T, both sums of the rows that spikes name, and dQ = scale * G (V^T K), dense.
    P and V^T K of all heads first, then four tokens after four: rows that are written one after the other need not be waited for.
    """
    width, words, P = heads * d, (tokens + 63) >> 6, d * d
    of_q, of_k, of_v = (np.empty(words * width, np.uint64), np.empty(words * width, np.uint64), np.empty(words * width, np.uint64))
    block, counts, found = np.empty(64, np.uint64), np.empty(d, np.int64), np.empty(max(d, tokens), np.uint32)
    vk, p, turned = aligned(heads * P, g.dtype), aligned(heads * P, g.dtype), aligned(heads * P, g.dtype)
    zeros, factor = np.zeros(d, g.dtype), g.dtype.type(scale)
    for image in range(low, high):
        start = image * tokens * width
        columns_of_bits(q[0], image * tokens, tokens, width, 0, width, of_q, 0, block)
        columns_of_bits(k[0], image * tokens, tokens, width, 0, width, of_k, 0, block)
        columns_of_bits(v[0], image * tokens, tokens, width, 0, width, of_v, 0, block)
        for head in range(heads):
            first, m = head * d, head * P
            for c in range(d):
                n = 0
                for w in range(words):
                    word = of_q[w * width + first + c]
                    while word != 0:
                        found[n] = 64 * w + np.int64(trailing_zeros(word))
                        n += 1
                        word &= word - _ONE
                _sum_rows(zeros, 0, p, m + c * d, d, g, start + first, width, found, 0, n)
            _pairs(of_v, of_k, first, d, width, tokens, vk[m : m + P], counts)
            for c in range(m, m + P):
                p[c] *= factor
                vk[c] *= factor
            turn(p, m, d, d, d, turned, m, d)
        for j in range(0, tokens, 4):
            some = min(4, tokens - j)
            for i in range(j, j + some):
                for head in range(heads):
                    row, m = start + i * width + head * d, head * P
                    n = _positions(k[0], row, row + d, found, 0)
                    _sum_rows(zeros, 0, gv, row, d, p, m, d, found, 0, n)
                    n = _positions(v[0], row, row + d, found, 0)
                    _sum_rows(zeros, 0, gk, row, d, turned, m, d, found, 0, n)
            for head in range(heads):
                _times_small(g, vk, head * P, gq, start + j * width + head * d, width, some, d)


def _multiplying(vectors: int) -> Any:
    """Machine code: y[at + r * stride + c + j] = sum over e in 0 .. d of a[at + r * stride + e] * b[bt + e * d + c + j], for 4 rows r, j in 0 .. 16 * vectors."""

    @intrinsic
    def tile(context: Any, a: Any, at: Any, stride: Any, b: Any, bt: Any, c: Any, d: Any, y: Any) -> Any:
        def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            element, word, half = context.get_value_type(signature.args[0].dtype), ir.IntType(64), ir.IntType(32)
            vector, size = ir.VectorType(element, LANES), context.get_abi_sizeof(element)

            def place(k: int, offset: Any) -> Any:
                return builder.gep(context.make_array(signature.args[k])(context, builder, args[k]).data, [offset])

            def vectors_at(pointer: Any) -> list[Any]:
                start = builder.bitcast(pointer, vector.as_pointer())
                return [builder.gep(start, [ir.Constant(word, v)]) for v in range(vectors)]

            rows = [builder.add(args[1], builder.mul(args[2], ir.Constant(word, r))) for r in range(4)]
            before, loop, done = builder.block, builder.append_basic_block("terms"), builder.append_basic_block("terms_end")
            builder.branch(loop)
            builder.position_at_end(loop)
            e = builder.phi(word)
            sums = [[builder.phi(vector) for _ in range(vectors)] for _ in rows]
            line = place(3, builder.add(args[4], builder.add(builder.mul(e, args[6]), args[5])))
            values = [builder.load(p, align=size) for p in vectors_at(line)]
            more = []
            for row, totals in zip(rows, sums, strict=True):
                factor = builder.load(place(0, builder.add(row, e)))
                first = builder.insert_element(ir.Constant(vector, ir.Undefined), factor, ir.Constant(half, 0))
                spread = builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(half, LANES), [0] * LANES))
                more.append([builder.fadd(s, builder.fmul(spread, v, flags=("contract",)), flags=("contract",)) for s, v in zip(totals, values, strict=True)])
            after = builder.add(e, ir.Constant(word, 1))
            for phi, old, new in [(e, ir.Constant(word, 0), after), *[(s, ir.Constant(vector, [0.0] * LANES), m) for a, b in zip(sums, more, strict=True) for s, m in zip(a, b, strict=True)]]:
                phi.add_incoming(old, before)
                phi.add_incoming(new, loop)
            builder.cbranch(builder.icmp_signed("<", after, args[6]), loop, done)
            builder.position_at_end(done)
            for row, totals in zip(rows, more, strict=True):
                for p, total in zip(vectors_at(place(7, builder.add(row, args[5]))), totals, strict=True):
                    builder.store(total, p, align=size)
            return context.get_dummy_value()

        return types.void(a, types.intp, types.intp, b, types.intp, types.intp, types.intp, y), write

    return tile


_four_by_32, _four_by_16 = _multiplying(2), _multiplying(1)


@machine
def _times_small(a, b, bt, y, at, stride, rows, d):
    """y = a B; a and y [rows, d], at most four, their rows at + i * stride; B [d, d] begins at bt of b."""
    c = 0
    while rows == 4 and d - c >= 32:
        _four_by_32(a, at, stride, b, bt, c, d, y)
        c += 32
    while rows == 4 and d - c >= 16:
        _four_by_16(a, at, stride, b, bt, c, d, y)
        c += 16
    for i in range(rows):
        row = at + i * stride
        for j in range(c, d):
            total = y.dtype.type(0)
            for e in range(d):
                total += a[row + e] * b[bt + e * d + j]
            y[row + j] = total
