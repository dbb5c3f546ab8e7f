"""Products with bits by looking sums up, for Numba: of every four terms of a sum, the sixteen subtotals are made once and then named by four bits.

A vector of 16 floats holds the subtotals of four terms of one output; one instruction of AVX-512 looks up sixteen of them at once, by sixteen
lines of bits (`permvar`), and one more adds them up: 64 products of a dense layer for two instructions, whatever the bits are. It is the
method of four Russians (V. L. Arlazarov, E. A. Dinic, M. A. Kronrod, I. A. Faradzhev, Doklady 194, 1970) with the table in a register.

An output is a row of numbers (a row of a weight, or of a gradient) and a lane a line of bits; both run over the same terms. Bits lie as
words of 32 terms, the word of all lanes beside each other: `bits[word * lanes + lane]`; lanes come in blocks of 64. Lines end in zeros.
Sums are formed in the order of the terms, whatever the threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from neuro.kernels.shared_loops import LANES, aligned, bits_at, columns_of_bits, copy, machine, turn

PARTS = "5ad85fac7393"  # of shared_loops.py, which says why
BLOCK = 64  # lanes taken at a time: four vectors
ROWS = 16  # outputs whose subtotals are at hand at a time
_OUTPUTS = 4  # of them summed at a time; with the lanes 16 sums, which stay in registers
_TERMS = 1024  # terms whose subtotals are at hand at a time: 256 kB for 16 outputs, which L2 holds
_LISTED = 1024  # rows of spikes, lanes, taken at a time
_LOW = np.uint64(0xFFFFFFFF)
_VECTORS = BLOCK // LANES

inlined = njit(nogil=True, error_model="numpy", inline="always")  # a call costs more than the few operations


@intrinsic
def _look_up(context: Any, tables: Any, t: Any, bits: Any, b: Any, lanes: Any, words: Any, one: Any, out: Any, o: Any, stride: Any, add: Any) -> Any:
    """out[o + i * stride : ... + 64] = (or, with `add`, +=) the sums of 4 outputs i and 64 lanes.

    tables: from t on, 16 subtotals for each four terms and output; bits: from b on, a word for each 32 terms and lane; one: 1.0, not known to
    the compiler, so that sums are formed by multiply-add units, which do not share a port with the look-up.
    """

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word, half = ir.IntType(64), ir.IntType(32)
        floats, names = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(half, LANES)
        module = builder.module
        permute = module.declare_intrinsic("llvm.x86.avx512.permvar.sf.512", (), ir.FunctionType(floats, [floats, names]))
        multiply_add = module.declare_intrinsic(f"llvm.fma.v{LANES}f32", (), ir.FunctionType(floats, [floats, floats, floats]))

        def place(k: int, offset: Any, kind: Any) -> Any:
            data = context.make_array(signature.args[k])(context, builder, args[k]).data
            return builder.bitcast(builder.gep(data, [offset]), kind.as_pointer())

        def constant(n: int) -> Any:
            return ir.Constant(word, n)

        first = builder.insert_element(ir.Constant(floats, ir.Undefined), args[6], ir.Constant(half, 0))
        ones = builder.shuffle_vector(first, ir.Constant(floats, ir.Undefined), ir.Constant(names, [0] * LANES))
        four = ir.Constant(names, [4] * LANES)
        targets = [place(7, builder.add(args[8], builder.mul(args[9], constant(i))), floats) for i in range(_OUTPUTS)]
        places = [[builder.gep(p, [constant(v)]) for v in range(_VECTORS)] for p in targets]
        zero = ir.Constant(floats, [0.0] * LANES)
        starts = [[builder.select(args[10], builder.load(p, align=4), zero) for p in row] for row in places]
        before, loop, done = builder.block, builder.append_basic_block("words"), builder.append_basic_block("words_end")
        builder.cbranch(builder.icmp_signed("<", constant(0), args[5]), loop, done)
        builder.position_at_end(loop)
        k = builder.phi(word)
        sums = [[builder.phi(floats) for _ in row] for row in starts]
        line = place(2, builder.add(args[3], builder.mul(k, args[4])), names)
        named = [builder.load(builder.gep(line, [constant(v)]), align=4) for v in range(_VECTORS)]
        table = place(0, builder.add(args[1], builder.mul(k, constant(8 * _OUTPUTS * LANES))), floats)
        more: list[list[Any]] = [list(row) for row in sums]
        for group in range(8):
            for i in range(_OUTPUTS):
                subtotals = builder.load(builder.gep(table, [constant(group * _OUTPUTS + i)]), align=64)
                for v in range(_VECTORS):
                    more[i][v] = builder.call(multiply_add, [builder.call(permute, [subtotals, named[v]]), ones, more[i][v]])
            named = [builder.lshr(n, four) for n in named]
        after = builder.add(k, constant(1))
        builder.cbranch(builder.icmp_signed("<", after, args[5]), loop, done)
        builder.position_at_end(done)
        totals = [[builder.phi(floats) for _ in row] for row in starts]
        k.add_incoming(constant(0), before)
        k.add_incoming(after, loop)
        for i in range(_OUTPUTS):
            for v in range(_VECTORS):
                for phi in (sums[i][v], totals[i][v]):
                    phi.add_incoming(starts[i][v], before)
                    phi.add_incoming(more[i][v], loop)
                builder.store(totals[i][v], places[i][v], align=4)
        return context.get_dummy_value()

    kinds = (tables, types.intp, bits, types.intp, types.intp, types.intp, types.float32, out, types.intp, types.intp, types.boolean)
    return types.void(*kinds), write


@intrinsic
def _subtotals(context: Any, a: Any, at: Any, tables: Any, t: Any) -> Any:
    """tables[t + m] = sum of a[at + j] over the bits j of m, for m in 0 .. 16."""

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        half = ir.IntType(32)
        floats, names = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(half, LANES)
        source = builder.gep(context.make_array(signature.args[0])(context, builder, args[0]).data, [args[1]])
        target = builder.bitcast(builder.gep(context.make_array(signature.args[2])(context, builder, args[2]).data, [args[3]]), floats.as_pointer())
        zero, total = ir.Constant(floats, [0.0] * LANES), None
        for j in range(4):
            value = builder.load(builder.gep(source, [ir.Constant(ir.IntType(64), j)]))
            first = builder.insert_element(ir.Constant(floats, ir.Undefined), value, ir.Constant(half, 0))
            spread = builder.shuffle_vector(first, ir.Constant(floats, ir.Undefined), ir.Constant(names, [0] * LANES))
            chosen = ir.Constant(ir.VectorType(ir.IntType(1), LANES), [m >> j & 1 for m in range(LANES)])
            total = builder.select(chosen, spread, zero) if total is None else builder.select(chosen, builder.fadd(total, spread), total)
        builder.store(total, target, align=64)
        return context.get_dummy_value()

    return types.void(a, types.intp, tables, types.intp), write


@machine
def _fill(a, at, stride, outputs, terms, tables, t):
    """Subtotals of 4 rows of a, of `outputs` rows that are there and zeros for the rest; row i begins at at + i * stride. Up to whole words of terms."""
    whole, tail = terms // 4, np.zeros(4, a.dtype)
    for i in range(_OUTPUTS):
        line = t + i * LANES
        if i < outputs:
            for g in range(whole):
                _subtotals(a, at + i * stride + 4 * g, tables, line + g * _OUTPUTS * LANES)
            for j in range(4):
                tail[j] = a[at + i * stride + 4 * whole + j] if 4 * whole + j < terms else 0.0
        else:
            tail[:] = 0
        for g in range(whole if i < outputs else 0, (terms + 31) // 32 * 8):
            _subtotals(tail, 0, tables, line + g * _OUTPUTS * LANES)
            tail[:] = 0


@machine
def _sums(rows, at, stride, terms, outputs, bits, b, lanes, one, tables, y, add):
    """y[i * lanes + lane] = (+= with `add`) sum over terms of rows[at + i * stride + term] * bit of that lane, for outputs i, at most 16.

    `lanes`, a multiple of 64; y has room for outputs up to a multiple of 4, `tables` for `room(terms)`.
    """
    for term in range(0, terms, _TERMS):
        some = min(_TERMS, terms - term)
        words = (some + 31) // 32
        for i in range(0, outputs, _OUTPUTS):
            _fill(rows, at + i * stride + term, stride, outputs - i, some, tables, i * words * 8 * LANES)
        for lane in range(0, lanes, BLOCK):
            for i in range(0, outputs, _OUTPUTS):
                _look_up(tables, i * words * 8 * LANES, bits, b + term // 32 * lanes + lane, lanes, words, one, y, i * lanes + lane, lanes, add or term > 0)


@machine
def _room(terms):
    """Subtotals of 16 outputs and as many terms as are at hand at a time."""
    return aligned(ROWS * ((min(_TERMS, terms) + 31) // 32) * 8 * LANES, np.float32)


@machine
def _whole(lanes):
    return (lanes + BLOCK - 1) // BLOCK * BLOCK


@machine
def _cut(words, start, terms, bits, b, lanes):
    """bits[b + k * lanes] = bits 32 * k .. of a line of so many terms, which begins at start."""
    for k in range((terms + 31) // 32):
        bits[b + k * lanes] = np.int32(bits_at(words, start + 32 * k, min(32, terms - 32 * k)))


@machine
def times(planes, inner, weight, columns, bias, one, y, low, high):
    """y[low:high] = bias + X[low:high] @ weight.T; X [rows, inner] spikes, weight [columns, inner], y [rows, columns]. A lane is a row of X."""
    P, words = planes.shape[0], (inner + 31) // 32
    most = _whole(min(_LISTED, high - low))
    bits, tables, found = np.empty(P * words * most, np.int32), _room(inner), aligned(ROWS * most, np.float32)
    for start in range(low, high, _LISTED):
        rows = min(_LISTED, high - start)
        lanes = _whole(rows)
        for p in range(P):
            for r in range(rows):
                _cut(planes[p], (start + r) * inner, inner, bits, p * words * lanes + r, lanes)
            for k in range(words):
                at = (p * words + k) * lanes
                bits[at + rows : at + lanes] = 0
        for c in range(0, columns, ROWS):
            outputs = min(ROWS, columns - c)
            for i in range(outputs):
                found[i * lanes : (i + 1) * lanes] = bias[c + i]
            for p in range(P):
                _sums(weight, c * inner, inner, inner, outputs, bits, p * words * lanes, lanes, one, tables, found, True)
            turn(found, 0, lanes, outputs, rows, y, start * columns + c, columns)


@machine
def columns(planes, rows, inner, lanes, bits, low, high):
    """bits [P, rows / 32, lanes]: columns of X [rows, inner] as lanes, for 64 rows times low .. high. A last half of 64 rows may be left out."""
    words, block = (rows + 31) // 32, np.empty(64, np.uint64)
    found = np.empty(inner, np.uint64)
    for p in range(planes.shape[0]):
        for w in range(low, high):
            columns_of_bits(planes[p], 64 * w, min(64, rows - 64 * w), inner, 0, inner, found, 0, block)
            for half in range(2):
                k = 2 * w + half
                if k < words:
                    at = (p * words + k) * lanes
                    for c in range(inner):
                        bits[at + c] = np.int32((found[c] >> np.uint64(32 * half)) & _LOW)
                    bits[at + inner : at + lanes] = 0


@machine
def transposed_times(bits, planes, rows, inner, lanes, dense, outputs, one, y, low, high):
    """y [outputs, inner] = dense.T @ X for 16 outputs times low .. high; dense [rows, outputs], X as `columns` gives it: a lane is one of them."""
    words = (rows + 31) // 32
    tables, turned, found = _room(rows), np.empty(ROWS * rows, np.float32), aligned(ROWS * lanes, np.float32)
    for block in range(low, high):
        o = block * ROWS
        some = min(ROWS, outputs - o)
        turn(dense, o, outputs, rows, some, turned, 0, rows)
        for p in range(planes):
            _sums(turned, 0, rows, rows, some, bits, p * words * lanes, lanes, one, tables, found, p > 0)
        for i in range(some):
            copy(found, i * lanes, y, (o + i) * inner, inner)


@inlined
def _appended(acc, fill, piece, n, bits, at, lanes):
    """A line's next n bits, at most 32; full words go to bits[at], bits[at + lanes] and so on. Returns the bits left over, their number, the next place."""
    acc |= piece << np.uint64(fill)
    fill += n
    if fill >= 32:
        bits[at] = np.int32(acc & _LOW)
        return acc >> np.uint64(32), fill - 32, at + lanes
    return acc, fill, at


@machine
def convolve(planes, sizes, images, weight, bias, one, y, low, high):
    """Images low .. high of a convolution: y [N, groups * D, H_out, W_out]; a lane is a place of the output, a term a tap of a channel.

    sizes: C, H, W of a group's input, D, H, W of its output, kernel, stride, padding, dilation (each for H and W), groups; `images` at a time.
    weight [groups * D, taps * C].
    """
    C, H, W, D, H_out, W_out, K_h, K_w, s_h, s_w, p_h, p_w, d_h, d_w, groups = sizes
    P, terms, places = planes.shape[0], K_h * K_w * C, H_out * W_out
    words, pieces = (terms + 31) // 32, (C + 63) // 64
    most = _whole(min(images, high - low) * places)
    bits, tables, found = np.empty(P * words * most, np.int32), _room(terms), aligned(ROWS * most, np.float32)
    channels, block = np.empty(pieces * H * W, np.uint64), np.empty(64, np.uint64)
    wide = W + 2 * p_w
    framed = np.zeros((H + 2 * p_h) * wide * pieces, np.uint64)  # the channels of every place, inside a frame of zeros
    for start in range(low, high, images):
        some = min(images, high - start)
        lanes = _whole(some * places)
        for group in range(groups):
            for p in range(P):
                first = p * words * lanes
                for n in range(some):
                    columns_of_bits(planes[p], ((start + n) * groups + group) * C, C, H * W, 0, H * W, channels, 0, block)
                    for h in range(H):
                        for w in range(W):
                            for k in range(pieces):
                                framed[((h + p_h) * wide + w + p_w) * pieces + k] = channels[k * H * W + h * W + w]
                    for ho in range(H_out):
                        for wo in range(W_out):
                            at, acc, fill = first + n * places + ho * W_out + wo, np.uint64(0), 0
                            for a in range(K_h):
                                for b in range(K_w):
                                    place = ((ho * s_h + a * d_h) * wide + wo * s_w + b * d_w) * pieces
                                    for k in range(pieces):
                                        m, word = min(64, C - 64 * k), framed[place + k]
                                        acc, fill, at = _appended(acc, fill, word & _LOW, min(32, m), bits, at, lanes)
                                        if m > 32:
                                            acc, fill, at = _appended(acc, fill, word >> np.uint64(32), m - 32, bits, at, lanes)
                            if fill:
                                bits[at] = np.int32(acc & _LOW)
                for k in range(words):
                    bits[first + k * lanes + some * places : first + (k + 1) * lanes] = 0
            for d in range(0, D, ROWS):
                outputs = min(ROWS, D - d)
                for i in range(outputs):
                    found[i * lanes : (i + 1) * lanes] = bias[group * D + d + i]
                for p in range(P):
                    _sums(weight, (group * D + d) * terms, terms, terms, outputs, bits, p * words * lanes, lanes, one, tables, found, True)
                for i in range(outputs):
                    for n in range(some):
                        at = (((start + n) * groups + group) * D + d + i) * places
                        copy(found, i * lanes + n * places, y, at, places)


@machine
def _placed(words, start, n, into, line, shift):
    """Bits start .. start + n go to bits line + shift .. of `into`; a line begins with a word, and is zero before its bits and behind them."""
    into[line >> 6 : (line + n + shift + 63) >> 6] = 0
    for k in range(0, n, 64):
        m, w = min(64, n - k), (line + shift + k) >> 6
        word, inside = bits_at(words, start + k, m), (shift + k) & 63
        into[w] |= word << np.uint64(inside)
        if inside + m > 64:
            into[w + 1] |= word >> np.uint64(64 - inside)


@machine
def taps(planes, sizes, first, lanes, bits, low, high):
    """Inputs under the taps of a convolution with stride 1: bits [images, P, groups, words, lanes]; a lane is c * taps + tap, a term a place of the output.

    Images first + low .. first + high of planes go to low .. high of bits.
    """
    C, H, W, D, H_out, W_out, K_h, K_w, s_h, s_w, p_h, p_w, d_h, d_w, groups = sizes
    P, places = planes.shape[0], H_out * W_out
    wide, words = (W + 2 * p_w + 63) // 64 * 64, (places + 31) // 32
    frame = (H + 2 * p_h) * wide  # bits of a channel inside a frame of zeros
    framed = np.zeros(C * frame // 64 + 1, np.uint64)
    lines, sizes_of, shifts = np.empty(32, np.int64), np.empty(32, np.int64), np.empty(32, np.uint64)
    for n in range(low, high):
        for p in range(P):
            for group in range(groups):
                for c in range(C):
                    plane = (((first + n) * groups + group) * C + c) * H * W
                    for h in range(H):
                        _placed(planes[p], plane + h * W, W, framed, c * frame + (h + p_h) * wide, p_w)
                for k in range(words):
                    place, parts = 32 * k, 0  # a word of places is a part of a row, or of several
                    while place < min(places, 32 * k + 32):
                        m = min(W_out - place % W_out, 32 * k + 32 - place, places - place)
                        lines[parts], sizes_of[parts], shifts[parts] = place // W_out * wide + place % W_out, m, place - 32 * k
                        place, parts = place + m, parts + 1
                    at = (((n * P + p) * groups + group) * words + k) * lanes
                    for c in range(C):
                        for a in range(K_h):
                            for b in range(K_w):
                                tap, word = c * frame + a * d_h * wide + b * d_w, np.uint64(0)
                                for i in range(parts):
                                    word |= bits_at(framed, tap + lines[i], sizes_of[i]) << shifts[i]
                                bits[at] = np.int32(word & _LOW)
                                at += 1
                    bits[at : at + lanes - C * K_h * K_w] = 0


@machine
def convolve_gradient(bits, planes, sizes, images, lanes, g, first, one, grad, add, low, high):
    """The weight's gradient, grad [groups * D, C * taps], from images first .. first + images, for 16 outputs times low .. high of all groups.

    bits as `taps` gives them, g [N, groups * D, H_out, W_out]; with `add`, grad is added to.
    """
    C, H, W, D, H_out, W_out, K_h, K_w, s_h, s_w, p_h, p_w, d_h, d_w, groups = sizes
    places, used, blocks = H_out * W_out, C * K_h * K_w, (D + ROWS - 1) // ROWS
    words = (places + 31) // 32
    tables, found = _room(places), aligned(ROWS * lanes, np.float32)
    for block in range(low, high):
        group, d = block // blocks, block % blocks * ROWS
        outputs = min(ROWS, D - d)
        for n in range(images):
            at = ((first + n) * groups * D + group * D + d) * places
            for p in range(planes):
                b = ((n * planes + p) * groups + group) * words * lanes
                _sums(g, at, places, places, outputs, bits, b, lanes, one, tables, found, n > 0 or p > 0)
        for i in range(outputs):
            row = (group * D + d + i) * used
            for j in range(used):
                grad[row + j] = grad[row + j] + found[i * lanes + j] if add else found[i * lanes + j]
