"""A product's gradient by its input at named places alone, for Numba: a sum of products for each, everything else 0.

`y[m, k] = g[m, :] . w[:, k]` where bit (m, k) is set. Eight places of a row are summed at a time, so that the row of the gradient is read once for
eight; the columns of the weight lie turned in a panel that stays in L2. Each sum is formed in an order that the length alone fixes, whatever
other places are named and however a call is split over threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from neuro.kernels.shared_loops import LANES, aligned, bits_at, columns_of_bits, copy, list_bits, machine, turn

PARTS = "5ad85fac7393"  # of shared_loops.py, which says why
_PANEL = 1 << 17  # numbers of the weight taken at a time, a quarter of L2
_WIDE = 128  # columns of them at most


def _dotting(places: int) -> Any:
    """Machine code: y[t + index[first + i]] = sum over j < 16 * vectors of g[at + j + skip * (j // (16 * run))] * panel[index[first + i] * stride + j], i in 0 .. places.

    After each `run` vectors of g, that is, so many numbers of it are left out.
    """

    @intrinsic
    def dots(
        context: Any, g: Any, at: Any, vectors: Any, run: Any, skip: Any, panel: Any, stride: Any, index: Any, first: Any, y: Any, t: Any
    ) -> Any:  # fmt: skip
        def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kinds = signature.args
            element = context.get_value_type(kinds[0].dtype)
            vector, word = ir.VectorType(element, LANES), ir.IntType(64)
            size = context.get_abi_sizeof(element)

            def data(k: int, offset: Any) -> Any:
                return builder.gep(context.make_array(kinds[k])(context, builder, args[k]).data, [offset])

            def load(pointer: Any, k: Any) -> Any:
                return builder.load(builder.gep(pointer, [k]), align=size)

            listed = [builder.gep(data(7, args[8]), [ir.Constant(word, i)]) for i in range(places)]
            named = [builder.zext(builder.load(p), word) for p in listed]
            rows = [builder.bitcast(data(5, builder.mul(n, args[6])), vector.as_pointer()) for n in named]
            zero = ir.Constant(vector, [0.0] * LANES)
            before, loop, done = builder.block, builder.append_basic_block("terms"), builder.append_basic_block("terms_end")
            builder.cbranch(builder.icmp_signed("<", ir.Constant(word, 0), args[2]), loop, done)
            builder.position_at_end(loop)
            k, place, left = builder.phi(word), builder.phi(word), builder.phi(word)
            sums = [builder.phi(vector) for _ in rows]
            value = builder.load(builder.bitcast(data(0, place), vector.as_pointer()), align=size)
            more = [builder.fadd(s, builder.fmul(value, load(row, k), flags=("contract",)), flags=("contract",)) for s, row in zip(sums, rows, strict=True)]
            after, ends = builder.add(k, ir.Constant(word, 1)), builder.icmp_signed("==", left, ir.Constant(word, 1))
            onward = builder.add(place, builder.select(ends, builder.add(args[4], ir.Constant(word, LANES)), ir.Constant(word, LANES)))
            rest = builder.select(ends, args[3], builder.sub(left, ir.Constant(word, 1)))
            builder.cbranch(builder.icmp_signed("<", after, args[2]), loop, done)
            builder.position_at_end(done)
            totals = [builder.phi(vector) for _ in rows]
            moving = [(k, ir.Constant(word, 0), after), (place, args[1], onward), (left, args[3], rest)]
            for phi, old, new in moving + [(phi, zero, new) for phis in (sums, totals) for phi, new in zip(phis, more, strict=True)]:
                phi.add_incoming(old, before)
                phi.add_incoming(new, loop)
            for i, total in enumerate(_joined(builder, totals)):
                builder.store(total, data(9, builder.add(args[10], named[i])))
            return context.get_dummy_value()

        signature = types.void(g, types.intp, types.intp, types.intp, types.intp, panel, types.intp, index, types.intp, y, types.intp)
        return signature, write

    return dots


def _joined(builder: Any, sums: list[Any]) -> list[Any]:
    """The sum of each vector's lanes: neighbours are added, then neighbouring pairs and so on, of two vectors in one operation."""
    names, half = ir.VectorType(ir.IntType(32), LANES), ir.IntType(32)
    even, odd = ([ir.Constant(half, 2 * j + k) for j in range(LANES)] for k in (0, 1))
    count, lanes = len(sums), LANES
    while lanes > 1:
        pairs = list(zip(sums[::2], sums[1::2], strict=True)) if len(sums) > 1 else [(sums[0], sums[0])]
        sums = [builder.fadd(builder.shuffle_vector(a, b, ir.Constant(names, even)), builder.shuffle_vector(a, b, ir.Constant(names, odd))) for a, b in pairs]
        lanes //= 2
    return [builder.extract_element(sums[0], ir.Constant(half, i)) for i in range(count)]


_dots_8, _dots_4, _dots_2, _dots_1 = _dotting(8), _dotting(4), _dotting(2), _dotting(1)


@machine
def named_products(words, inner, g, weight, columns, y, low, high):
    """y[low:high] = (g[low:high] @ weight) where bits are set, else 0; words: bits [rows, inner], g [rows, columns], weight [columns, inner]."""
    width = min(inner, _WIDE, max(16, _PANEL // columns))
    stride = columns + 16  # beside a power of two, so that rows of the panel lie in different sets of the cache
    panel = aligned(width * stride, weight.dtype)
    found = np.empty(width + 1, np.uint32)
    y[low * inner : high * inner] = 0
    for c in range(0, inner, width):
        n = min(width, inner - c)
        turn(weight, c, inner, columns, n, panel, 0, stride)
        for r in range(low, high):
            t, listed = r * inner + c, 0
            for base in range(0, n, 64):
                listed = list_bits(bits_at(words, t + base, min(64, n - base)), base, found, listed)
            _sums(g, r * columns, columns, columns, 0, panel, stride, found, listed, y, t)


@machine
def named_taps(words, first, sizes, frame, weight, g, y, low, high):
    """Images low .. high of a convolution's gradient by its input, where bits are set, else 0; one group.

    words: bits [images, C, H, W], of which image `first` is the first of y [., C, H, W]. sizes: C, H, W, D, kernel, stride, padding, dilation (each for H and W).
    g: the gradient of the outputs as `frame_gradient` writes it, [., rows, columns, D]; frame: rows, columns, and zeros before them.
    weight: of places with the same remainders by the strides, which share their taps, [C, taps, D]; the taps last to first, so that those of a row follow each
    other in g. One remainder after the other. Where taps are no whole vectors, or lie apart, they are laid in a line once for all channels of a place.
    """
    C, H, W, D, K_h, K_w, s_h, s_w, p_h, p_w, d_h, d_w = sizes
    frame_h, frame_w, top, left = frame
    terms, places = K_h * K_w * D, H * W
    blocks = -(-C // max(16, _PANEL // (-(-K_h // s_h) * -(-K_w // s_w) * D)))
    width = -(-C // blocks)
    line, sums = aligned(terms, weight.dtype), np.empty(C, weight.dtype)
    found, bits, block = np.empty(width + 1, np.uint32), np.empty(((width + 63) >> 6) * places, np.uint64), np.empty(64, np.uint64)
    rows, columns = np.empty(K_h, np.int64), np.empty(K_w, np.int64)
    y[low * C * places : high * C * places] = 0
    for c in range(0, C, width):
        n = min(width, C - c)
        for image in range(low, high):
            columns_of_bits(words, (first + image) * C + c, n, places, 0, places, bits, 0, block)
            start = 0
            for place in range(s_h * s_w):
                a, b = place // s_w, place % s_w
                above, beside = _taps(a + p_h, s_h, d_h, K_h, top, rows), _taps(b + p_w, s_w, d_w, K_w, left, columns)
                count, joined = above * beside * D, columns[beside - 1] - columns[0] == beside - 1
                panel = weight[start : start + C * count]
                start += C * count
                if count == 0:
                    continue
                skip = 0 if above == 1 else (rows[1] - rows[0]) * frame_w * D - beside * D
                for h in range(a, H, s_h):
                    for w in range(b, W, s_w):
                        listed, p = 0, h * W + w
                        for base in range(0, n, 64):
                            listed = list_bits(bits[(base >> 6) * places + p], c + base, found, listed)
                        if listed == 0:
                            continue
                        at = ((image * frame_h + h // s_h) * frame_w + w // s_w) * D
                        if joined and (above == 1 or D % LANES == 0):
                            _sums(g, at + (rows[0] * frame_w + columns[0]) * D, count, beside * D, skip, panel, count, found, listed, sums, 0)
                        else:
                            _lay(g, at, frame_w, D, rows, above, columns, beside, line)
                            _sums(line, 0, count, count, 0, panel, count, found, listed, sums, 0)
                        for i in range(listed):
                            y[(image * C + np.int64(found[i])) * places + p] = sums[found[i]]


@machine
def _taps(at, stride, dilation, size, before, found):
    """found[:n]: rows (or columns) of the frame that the taps of a place at `at` point to, first to last, less those of the place itself. Returns n."""
    n = 0
    for i in range(size - 1, -1, -1):
        if (at - i * dilation) % stride == 0:
            found[n] = (at - i * dilation) // stride + before
            n += 1
    return n


@machine
def _lay(g, at, frame_w, D, rows, above, columns, beside, line):
    """line = the D values of g at each of these rows and columns from `at` on; of columns that follow each other at once."""
    joined = columns[beside - 1] - columns[0] == beside - 1
    runs, length, t = (1, beside * D, 0) if joined else (beside, D, 0)
    for i in range(above):
        for j in range(runs):
            copy(g, at + (rows[i] * frame_w + columns[j]) * D, line, t, length)
            t += length


@machine
def _sums(g, at, terms, run, skip, panel, stride, found, listed, y, t):
    """y[t + f] = sum over j < terms of g[at + j] * panel[f * stride + j], for each of the f that are listed; there is room for one more.

    After each `run` terms, a multiple of 16 or all of them, so many numbers of g are left out. Three are summed as four, the last one twice: few sums at a
    time wait for each other's additions.
    """
    vectors, part, whole, k, summed = terms // LANES, run // LANES, terms - terms % LANES, 0, listed
    if listed & 3 == 3:
        found[listed] = found[listed - 1]
        summed += 1
    while summed - k >= 8:
        _dots_8(g, at, vectors, part, skip, panel, stride, found, k, y, t)
        k += 8
    if summed - k >= 4:
        _dots_4(g, at, vectors, part, skip, panel, stride, found, k, y, t)
        k += 4
    if summed - k >= 2:
        _dots_2(g, at, vectors, part, skip, panel, stride, found, k, y, t)
        k += 2
    if summed - k >= 1:
        _dots_1(g, at, vectors, part, skip, panel, stride, found, k, y, t)
    if whole < terms:
        for i in range(listed):
            total = y[t + found[i]]
            for j in range(whole, terms):
                total += g[at + j] * panel[np.int64(found[i]) * stride + j]
            y[t + found[i]] = total
