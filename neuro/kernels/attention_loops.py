"""Products of attention with spikes, for Numba: K^T V by counting bits that channels share, and sums of the rows that active channels name.

Spikes come as planes of bits, as in `spike_loops.py`, of which attention takes one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from neuro.kernels.shared_loops import (
    LANES,
    aligned,
    columns_of_bits,
    list_bits,
    machine,
    popcount,
    positions,
    sum_rows,
    turn,
)

PARTS = "5ad85fac7393"  # of shared_loops.py, which says why


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
        for e in range(d):
            kv[c * d + e] = counts[e]


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
                n = positions(q[0], at, at + d, found, 0)
                sum_rows(zeros, 0, y, at, d, kv, head * P, d, found, 0, n)
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
                    n = list_bits(of_q[w * width + first + c], 64 * w, found, n)
                sum_rows(zeros, 0, p, m + c * d, d, g, start + first, width, found, 0, n)
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
                    n = positions(k[0], row, row + d, found, 0)
                    sum_rows(zeros, 0, gv, row, d, p, m, d, found, 0, n)
                    n = positions(v[0], row, row + d, found, 0)
                    sum_rows(zeros, 0, gk, row, d, turned, m, d, found, 0, n)
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
