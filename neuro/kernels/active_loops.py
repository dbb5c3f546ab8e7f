"""Products of values of which many are zero, for Numba: what is not zero is listed, and for each of it a row of the weights is added.

The cost follows the activity. Every sum is taken in an order that depends on shapes alone.
Numba keeps machine code by the time stamp of the file of the function called, and would not see a change in this one. So each file that uses
it names the hash of its text (`PARTS`), which a test compares: after a change here those files change too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.cpython.unsafe.numbers import trailing_zeros
from numba.extending import intrinsic

from neuro.kernels.shared_loops import copy, machine

PARTS = "5ad85fac7393"  # of shared_loops.py, which says why
LISTED = 32  # rows of an input listed at a time
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
def list_active(x, at, n, base, index, values, m):
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
def add_rows(y, t, w, origin, stride, low, high, index, values, first, last):
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
def product(x, at, x_stride, rows, inner, w, origin, w_stride, columns, y, to, y_stride, index, values, starts):
    """y += x w on rows; x [rows, inner], w [inner, columns], y [rows, columns], each with its own distance between rows.

    Driven by what is not zero in x, unless most of it is.
    """
    for start in range(0, rows, LISTED):
        count, m = min(LISTED, rows - start), 0
        starts[0] = 0
        for r in range(count):
            m = list_active(x, at + (start + r) * x_stride, inner, 0, index, values, m)
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
                    add_rows(y, to + (start + r) * y_stride, w, origin, w_stride, first, last, index, values, starts[r], starts[r + 1])


@machine
def repeat(y, to, rows, bias, at, n):
    """The bias in each row of y; what is filled is copied again and again, twice as much each time."""
    copy(bias, at, y, to, n)
    done, stop = n, rows * n
    while done < stop:
        more = min(done, stop - done)
        copy(y, to, y, to + done, more)
        done += more
