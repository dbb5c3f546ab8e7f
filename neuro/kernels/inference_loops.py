"""The operations of a compiled network, for Numba: one row of an integer table each, over some steps of one sample.

Values lie in one flat array, time first, channels last. A product walks its input and, where that is not zero, adds the row of the
weights that leaves it, so its cost follows the activity. Every sum is taken in an order that depends on shapes alone. All in one
file: Numba keeps machine code by the time stamp of the file of the function called, and would not see a change in another one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.cpython.unsafe.numbers import trailing_zeros
from numba.extending import intrinsic

machine = njit(nogil=True, error_model="numpy", cache=True)

LINEAR, CONV, DEPTHWISE, POOL, ADD, ATTENTION, TURN, MEAN_TOKENS, AFFINE, LOAD, STORE, OVER_TIME = range(12)
NEURON = 16  # from here on: the neurons of a network, functions called by their addresses
MAX, MEAN, MEAN_INSIDE, SUM = range(4)  # of a window; MEAN_INSIDE leaves padding out of the count

# Columns of the table. Places are elements of one step; a buffer begins at its place times the steps it has room for.
KIND, OUT, IN, IN_2, IN_3, SIZE, STRIDE, WEIGHT, BIAS, STATE, FIRST = range(11)  # SIZE of a step of the output, STRIDE of the input
COLUMNS = 28

_LISTED = 32  # rows of an input listed at a time
_WIDE = 128  # columns of a matrix taken at a time, so that what is read stays in L2
_ONE = np.uint64(1)


def _summing(lanes: int, vectors: int) -> Any:
    """A function of machine code: target[t:t+n] += sum of values[k] * rows[index[k] * stride + c : ... + n], n = lanes * vectors."""

    @intrinsic
    def tile(context: Any, target: Any, t: Any, rows: Any, stride: Any, c: Any, index: Any, values: Any, first: Any, last: Any) -> Any:
        def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            element, word = ir.FloatType(), ir.IntType(64)
            vector = ir.VectorType(element, lanes)

            def data(k: int) -> Any:
                return context.make_array(signature.args[k])(context, builder, args[k]).data

            def vectors_at(pointer: Any) -> list[Any]:
                start = builder.bitcast(pointer, vector.as_pointer())
                return [builder.gep(start, [ir.Constant(word, v)]) for v in range(vectors)]

            out, base = vectors_at(builder.gep(data(0), [args[1]])), builder.gep(data(2), [args[4]])
            listed, factors = data(5), data(6)
            starts = [builder.load(p, align=4) for p in out]
            before, loop, done = builder.block, builder.append_basic_block("rows"), builder.append_basic_block("rows_end")
            builder.cbranch(builder.icmp_signed("<", args[7], args[8]), loop, done)
            builder.position_at_end(loop)
            k = builder.phi(word)
            sums = [builder.phi(vector) for _ in range(vectors)]
            row = builder.zext(builder.load(builder.gep(listed, [k])), word)
            one = builder.insert_element(ir.Constant(vector, ir.Undefined), builder.load(builder.gep(factors, [k])), ir.Constant(ir.IntType(32), 0))
            factor = builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes))
            found = [builder.load(p, align=4) for p in vectors_at(builder.gep(base, [builder.mul(row, args[3])]))]
            more = [builder.fadd(s, builder.fmul(factor, p, flags=["contract"]), flags=["contract"]) for s, p in zip(sums, found, strict=True)]
            after = builder.add(k, ir.Constant(word, 1))
            builder.cbranch(builder.icmp_signed("<", after, args[8]), loop, done)
            builder.position_at_end(done)
            totals = [builder.phi(vector) for _ in range(vectors)]
            for phi, old, new in [(k, args[7], after), *zip(sums, starts, more, strict=True), *zip(totals, starts, more, strict=True)]:
                phi.add_incoming(old, before)
                phi.add_incoming(new, loop)
            for p, total in zip(out, totals, strict=True):
                builder.store(total, p, align=4)
            return context.get_dummy_value()

        return types.void(target, types.intp, rows, types.intp, types.intp, index, values, types.intp, types.intp), write

    return tile


_tile_128, _tile_64, _tile_32, _tile_16, _tile_8 = _summing(16, 8), _summing(16, 4), _summing(16, 2), _summing(16, 1), _summing(8, 1)


@intrinsic
def _block(
    context: Any, y: Any, t: Any, y_stride: Any, w: Any, c: Any, w_stride: Any, x: Any, at: Any, x_stride: Any, inner: Any
) -> Any:  # fmt: skip
    """y[t + r * y_stride + j] += sum over k in 0 .. inner of x[at + r * x_stride + k] * w[c + k * w_stride + j]; r in 0 .. 4, j in 0 .. 32."""

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        element, word, rows, vectors = ir.FloatType(), ir.IntType(64), 4, 2
        vector, lane = ir.VectorType(element, 16), ir.Constant(ir.IntType(32), 0)

        def place(k: int, at: Any) -> Any:
            return builder.gep(context.make_array(signature.args[k])(context, builder, args[k]).data, [at])

        def vectors_at(pointer: Any) -> list[Any]:
            start = builder.bitcast(pointer, vector.as_pointer())
            return [builder.gep(start, [ir.Constant(word, v)]) for v in range(vectors)]

        def moved(start: Any, stride: Any, r: int) -> Any:
            return builder.add(start, builder.mul(stride, ir.Constant(word, r)))

        out = [p for r in range(rows) for p in vectors_at(place(0, moved(args[1], args[2], r)))]
        sources = [place(6, moved(args[7], args[8], r)) for r in range(rows)]
        base = place(3, args[4])
        starts = [builder.load(p, align=4) for p in out]
        before, loop, done = builder.block, builder.append_basic_block("inner"), builder.append_basic_block("inner_end")
        builder.cbranch(builder.icmp_signed("<", ir.Constant(word, 0), args[9]), loop, done)
        builder.position_at_end(loop)
        k = builder.phi(word)
        sums = [builder.phi(vector) for _ in starts]
        found = [builder.load(p, align=4) for p in vectors_at(builder.gep(base, [builder.mul(k, args[5])]))]
        more = []
        for r in range(rows):
            one = builder.insert_element(ir.Constant(vector, ir.Undefined), builder.load(builder.gep(sources[r], [k])), lane)
            factor = builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), 16), [0] * 16))
            for v in range(vectors):
                product = builder.fmul(factor, found[v], flags=["contract"])
                more.append(builder.fadd(sums[r * vectors + v], product, flags=["contract"]))
        after = builder.add(k, ir.Constant(word, 1))
        builder.cbranch(builder.icmp_signed("<", after, args[9]), loop, done)
        builder.position_at_end(done)
        totals = [builder.phi(vector) for _ in starts]
        for phi, old, new in [(k, ir.Constant(word, 0), after), *zip(sums, starts, more, strict=True), *zip(totals, starts, more, strict=True)]:
            phi.add_incoming(old, before)
            phi.add_incoming(new, loop)
        for p, total in zip(out, totals, strict=True):
            builder.store(total, p, align=4)
        return context.get_dummy_value()

    return types.void(y, types.intp, types.intp, w, types.intp, types.intp, x, types.intp, types.intp, types.intp), write


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


@intrinsic
def _active(context: Any, x: Any, at: Any) -> Any:
    """Bits of x[at : at + 64] != 0; a NaN counts as active."""

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word, lanes = ir.IntType(64), 16
        vector = ir.VectorType(ir.FloatType(), lanes)
        start = builder.bitcast(builder.gep(context.make_array(signature.args[0])(context, builder, args[0]).data, [args[1]]), vector.as_pointer())
        zero, bits = ir.Constant(vector, [0.0] * lanes), ir.Constant(word, 0)
        for v in range(4):
            found = builder.fcmp_unordered("!=", builder.load(builder.gep(start, [ir.Constant(word, v)]), align=4), zero)
            part = builder.zext(builder.bitcast(found, ir.IntType(lanes)), word)
            bits = builder.or_(bits, builder.shl(part, ir.Constant(word, lanes * v)))
        return bits

    return types.uint64(x, types.intp), write


@machine
def _list(x, at, n, base, index, values, m):
    """Append position - at + base and value of what is not zero in x[at : at + n] to index[m:], values[m:]. Returns the new m."""
    whole = n - n % 64
    for j in range(0, whole, 64):
        word = _active(x, at + j)
        while word != 0:
            p = j + np.int64(trailing_zeros(word))
            index[m] = base + p
            values[m] = x[at + p]
            m += 1
            word &= word - _ONE
    for p in range(whole, n):
        if x[at + p] != 0:
            index[m] = base + p
            values[m] = x[at + p]
            m += 1
    return m


@machine
def _add_rows(y, t, w, origin, stride, low, high, index, values, first, last):
    """y[t + j] += sum over k in first .. last of values[k] * w[origin + index[k] * stride + j] for j in low .. high, in the order of k."""
    c = low
    while high - c >= 128:
        _tile_128(y, t + c, w, stride, origin + c, index, values, first, last)
        c += 128
    if high - c >= 64:
        _tile_64(y, t + c, w, stride, origin + c, index, values, first, last)
        c += 64
    if high - c >= 32:
        _tile_32(y, t + c, w, stride, origin + c, index, values, first, last)
        c += 32
    if high - c >= 16:
        _tile_16(y, t + c, w, stride, origin + c, index, values, first, last)
        c += 16
    if high - c >= 8:
        _tile_8(y, t + c, w, stride, origin + c, index, values, first, last)
        c += 8
    for j in range(c, high):
        total = y[t + j]
        for k in range(first, last):
            total += values[k] * w[origin + np.int64(index[k]) * stride + j]
        y[t + j] = total


@machine
def _product(x, at, x_stride, rows, inner, w, origin, w_stride, columns, y, to, y_stride, index, values, starts):
    """y += x w on rows; x [rows, inner], w [inner, columns], y [rows, columns], each with its own distance between rows.

    Driven by what is not zero in x, unless most of it is.
    """
    for start in range(0, rows, _LISTED):
        count, m = min(_LISTED, rows - start), 0
        starts[0] = 0
        for r in range(count):
            m = _list(x, at + (start + r) * x_stride, inner, 0, index, values, m)
            starts[r + 1] = m
        done, left = 0, columns
        if count >= 4 and 3 * m > count * inner:  # mostly active: each weight is read once for four rows; the same sums in the same order
            done, left = count - count % 4, columns % 32
            for c in range(0, columns - left, 32):
                for r in range(start, start + done, 4):
                    _block(y, to + r * y_stride + c, y_stride, w, origin + c, w_stride, x, at + r * x_stride, x_stride, inner)
        for c in range(0, columns, _WIDE):
            for r in range(count):
                first = max(c, columns - left) if r < done else c
                last = min(c + _WIDE, columns)
                if first < last and starts[r] < starts[r + 1]:
                    _add_rows(y, to + (start + r) * y_stride, w, origin, w_stride, first, last, index, values, starts[r], starts[r + 1])


@machine
def _repeat(y, to, rows, bias, at, n):
    """The bias in each row of y; what is filled is copied again and again, twice as much each time."""
    y[to : to + n] = bias[at : at + n]
    done, stop = n, rows * n
    while done < stop:
        more = min(done, stop - done)
        y[to + done : to + done + more] = y[to : to + more]
        done += more


@machine
def _sizes(row):
    """The fifteen sizes of a row."""
    f = row[FIRST : FIRST + 15]
    return f[0], f[1], f[2], f[3], f[4], f[5], f[6], f[7], f[8], f[9], f[10], f[11], f[12], f[13], f[14]


@machine
def _conv(row, x, at, y, to, w, index, values, starts):
    """One step of a convolution. x [H, W, C], weights [groups, K_h, K_w, C / groups, D], y [H_out, W_out, groups * D].

    What is active in a row of x stands in one list, in order of place and channel. The taps of one kernel row lie side by side in x
    and in the weights, so without dilation and groups they are one stretch of that list.
    """
    C, H, W, D, H_out, W_out, K_h, K_w, s_h, s_w, p_h, p_w, d_h, d_w, groups = _sizes(row)
    base, ends, width = row[WEIGHT], W * groups + 1, C * groups
    m = 0
    for h in range(H):
        first = m
        m = _list(x, at + h * W * width, W * width, 0, index, values, m)
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
            y[target : target + groups * D] = w[row[BIAS] : row[BIAS] + groups * D]
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
                        _add_rows(y, target + g * D, w, origin, D, 0, D, index, values, starts[h * ends + left], starts[h * ends + right])


@machine
def _scatter(row, H_out, W_out, D, C, H, W, K_h, K_w, p_h, p_w, y, to, w, index, values, starts):
    """The convolution of few events, of stride 1: each adds its taps to the outputs that it reaches, which are neighbours.

    Here the weights are [K_h, C, K_w, D] with the taps of a kernel row from right to left. Each output gets its terms in the same
    order as in the other form, so the sums are the same to the last bit.
    """
    _repeat(y, to, H_out * W_out, w, row[BIAS], D)
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
                    _add_rows(y, to + (ho * W_out + low) * D, w, origin, 0, 0, (high - low) * D, index, values, k, k + 1)


@machine
def _depthwise(row, x, at, y, to, w):
    """One step of a convolution with one filter for each channel. x [H, W, C], weights [K_h, K_w, C], y [H_out, W_out, C]."""
    C, H, W, D, H_out, W_out, K_h, K_w, s_h, s_w, p_h, p_w, d_h, d_w, groups = _sizes(row)
    for ho in range(H_out):
        for wo in range(W_out):
            target = y[to + (ho * W_out + wo) * groups : to + (ho * W_out + wo + 1) * groups]
            target[:] = w[row[BIAS] : row[BIAS] + groups]
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
def _pool(row, x, at, y, to, work):
    """One step of the windows of a map: first down, then across. x [H, W, C], y [H_out, W_out, C]. A NaN is the largest value."""
    C, H, W, H_out, W_out, K_h, K_w, s_h, s_w, p_h, p_w, how, _, _, _ = _sizes(row)
    n = W * C
    column = work[:n]
    for ho in range(H_out):
        top = ho * s_h - p_h
        rows = min(top + K_h, H + p_h) - top
        first, last = max(top, 0), min(top + K_h, H)
        column[:] = x[at + first * n : at + (first + 1) * n]
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


@machine
def _turn(a, at, rows, columns, b, to):
    """b [columns, rows] = a [rows, columns] transposed."""
    for r in range(rows):
        for c in range(columns):
            b[to + c * rows + r] = a[at + r * columns + c]


@machine
def _attention(row, scale, arena, q, k, v, to, index, values, starts, work):
    """One step of `scale * (q k^T) v` per head; q, k, v, y [N, D]. Either product first, each driven by what is not zero.

    work: [D / heads, N] the turned keys, then the first product.
    """
    N, D, heads, qk_first, _, _, _, _, _, _, _, _, _, _, _ = _sizes(row)
    d = D // heads
    between = d * N
    arena[to : to + N * D] = 0
    for h in range(heads):
        for n in range(N):
            for j in range(d):
                work[j * N + n] = arena[k + n * D + h * d + j]
        if qk_first:
            work[between : between + N * N] = 0
            _product(arena, q + h * d, D, N, d, work, 0, N, N, work, between, N, index, values, starts)
            _product(work, between, N, N, N, arena, v + h * d, D, d, arena, to + h * d, D, index, values, starts)
        else:
            work[between : between + d * d] = 0
            _product(work, 0, N, d, N, arena, v + h * d, D, d, work, between, d, index, values, starts)
            _product(arena, q + h * d, D, N, d, work, between, d, d, arena, to + h * d, D, index, values, starts)
    y = arena[to : to + N * D]
    for i in range(N * D):
        y[i] *= scale


@machine
def _over_time(row, arena, x, steps, state, at, outs, to, is_last):
    """Sum of the steps that count and their number, carried in the state; at the end the sum or the mean goes out."""
    n = row[SIZE]
    total = state[at : at + n]
    for t in range(steps):
        source = arena[x + t * n : x + (t + 1) * n]
        for i in range(n):
            total[i] += source[i]
    state[at + n] += steps
    if is_last:
        count = max(state[at + n], np.float32(1)) if row[FIRST] else np.float32(1)
        for i in range(n):
            outs[to + i] = total[i] / count


@machine
def _common(row, weights, numbers, arena, index, values, starts, work, state, origin, ins, outs, samples, sample, begin, steps, valid, room, is_last, T):
    """Do what one row of the table says, for `steps` steps from `begin` on, of which `valid` count."""
    kind, n = row[KIND], row[SIZE]
    to, at = row[OUT] * room, row[IN] * room
    if kind == LINEAR:
        rows, inner, columns = row[FIRST] * steps, row[FIRST + 1], row[FIRST + 2]
        _repeat(arena, to, rows, weights, row[BIAS], columns)
        _product(arena, at, inner, rows, inner, weights, row[WEIGHT], columns, columns, arena, to, columns, index, values, starts)
    elif kind == ADD:
        a, b, y = arena[at : at + steps * n], arena[row[IN_2] * room : row[IN_2] * room + steps * n], arena[to : to + steps * n]
        for i in range(steps * n):
            y[i] = a[i] + b[i]
    elif kind == OVER_TIME:
        _over_time(row, arena, at, valid, state, origin + row[STATE], outs, row[OUT] * samples * T + sample * n, is_last)
    else:
        for t in range(steps):
            here, there = at + t * row[STRIDE], to + t * n
            if kind == CONV:
                _conv(row, arena, here, arena, there, weights, index, values, starts)
            elif kind == DEPTHWISE:
                _depthwise(row, arena, here, arena, there, weights)
            elif kind == POOL:
                _pool(row, arena, here, arena, there, work)
            elif kind == ATTENTION:
                k, v = row[IN_2] * room + t * n, row[IN_3] * room + t * n
                _attention(row, np.float32(numbers[row[WEIGHT]]), arena, here, k, v, there, index, values, starts, work)
            elif kind == TURN:
                _turn(arena, here, row[FIRST], row[FIRST + 1], arena, there)
            elif kind == MEAN_TOKENS:
                _mean_tokens(arena, here, row[FIRST], n, arena, there)
            elif kind == AFFINE:
                _affine(arena, here, weights, row[WEIGHT], row[BIAS], n, there)
            elif kind == LOAD:
                outside = row[IN] * samples * T + ((begin + t) * samples + sample) * n
                _turn(ins, outside, row[FIRST], row[FIRST + 1], arena, there)
            elif kind == STORE:
                outside = row[OUT] * samples * T + ((begin + t) * samples + sample) * n
                _turn(arena, here, row[FIRST], row[FIRST + 1], outs, outside)


@machine
def _mean_tokens(x, at, tokens, n, y, to):
    target = y[to : to + n]
    target[:] = 0
    for r in range(tokens):
        source = x[at + r * n : at + (r + 1) * n]
        for c in range(n):
            target[c] += source[c]
    for c in range(n):
        target[c] /= np.float32(tokens)


@machine
def _affine(arena, at, weights, scale, shift, n, to):
    x, y, a, b = arena[at : at + n], arena[to : to + n], weights[scale : scale + n], weights[shift : shift + n]
    for i in range(n):
        y[i] = x[i] * a[i] + b[i]


@machine
def _feed_back(x, at, work, n, last, begin, weights, matrix, bias, index, values, starts):
    """work[:n] = x[at : at + n] + b + W s for the spikes s = last[begin : begin + n]; W turned [N, N]."""
    for i in range(n):
        work[i] = x[at + i] + weights[bias + i]
    _product(last, begin, n, 1, n, weights, matrix, n, n, work, 0, n, index, values, starts)


@intrinsic
def _call(context: Any, address: Any, x: Any, at: Any, y: Any, to: Any, state: Any, place: Any, weights: Any, first: Any, numbers: Any, number: Any, n: Any) -> Any:
    """The function at this address, given pointers to these elements, and n."""

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        single, double, word = ir.FloatType().as_pointer(), ir.DoubleType().as_pointer(), ir.IntType(64)
        pointers = [
            builder.gep(context.make_array(signature.args[k])(context, builder, args[k]).data, [args[k + 1]]) for k in (1, 3, 5, 7, 9)
        ]  # fmt: skip
        function = ir.FunctionType(ir.VoidType(), [single, single, single, single, double, word])
        builder.call(builder.inttoptr(args[0], function.as_pointer()), [*pointers, args[11]])
        return context.get_dummy_value()

    return types.void(types.int64, x, types.intp, y, types.intp, state, types.intp, weights, types.intp, numbers, types.intp, types.int64), write


@machine
def _neurons(row, functions, weights, numbers, arena, index, values, starts, work, state, origin, steps, valid, room):
    """`steps` steps of one layer; those beyond `valid` give zeros and leave the state alone."""
    n, address = row[SIZE], functions[row[KIND] - NEURON]
    place, matrix, last = origin + row[STATE], row[FIRST], origin + row[FIRST + 2]
    arena[row[OUT] * room + valid * n : row[OUT] * room + steps * n] = 0
    for t in range(valid):
        at, to = row[IN] * room + t * n, row[OUT] * room + t * n
        if matrix < 0:
            _call(address, arena, at, arena, to, state, place, weights, row[WEIGHT], numbers, row[BIAS], n)
        else:
            _feed_back(arena, at, work, n, state, last, weights, matrix, row[FIRST + 1], index, values, starts)
            _call(address, work, 0, arena, to, state, place, weights, row[WEIGHT], numbers, row[BIAS], n)
            state[last : last + n] = arena[to : to + n]


@machine
def drive(
    table, first, stop, repeat, functions, weights, numbers, arena, index, values, starts, work, state, ins, outs, lengths, T, samples, room, low, high
):  # fmt: skip
    """Rows first .. stop of a table for samples low .. high, `room` steps at a time, each row `repeat` times.

    state [samples, S] is the state before and becomes the one after. ins, outs: the values that come from and go outside, one after the other,
    each [T, samples, size].
    """
    for sample in range(low, high):
        origin = sample * (state.size // samples)
        for begin in range(0, T, room):
            steps = min(room, T - begin)
            valid = min(max(lengths[sample] - begin, 0), steps)
            for o in range(first, stop):
                row = table[o]
                for _ in range(repeat):
                    if row[KIND] < NEURON:
                        is_last = begin + steps == T
                        _common(row, weights, numbers, arena, index, values, starts, work, state, origin, ins, outs, samples, sample, begin, steps, valid, room, is_last, T)
                    else:
                        _neurons(row, functions, weights, numbers, arena, index, values, starts, work, state, origin, steps, valid, room)
