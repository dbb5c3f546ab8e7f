"""What the loops over spikes share: bits counted, cut out, listed and transposed, matrices transposed, rows summed that a list names, arrays on a cache line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.cgutils import for_range, raw_memcpy
from numba.cpython.unsafe.numbers import trailing_zeros
from numba.extending import intrinsic

from neuro.kernels.cache import machine

LANES = 16  # elements of one vector of the machine code; a narrower processor takes two or four
_AHEAD = 64  # elements of a row that are asked for before they are read
_ONE, _ALL = np.uint64(1), np.uint64(0xFFFFFFFFFFFFFFFF)


def fetch(builder: Any, pointer: Any) -> None:
    """Code that asks for the cache line at a pointer, which is soon read; one beyond the end of an array does no harm."""
    kind, number = ir.IntType(8).as_pointer(), ir.IntType(32)
    asked = builder.module.declare_intrinsic("llvm.prefetch", (kind,), ir.FunctionType(ir.VoidType(), [kind, number, number, number]))
    builder.call(asked, [builder.bitcast(pointer, kind), *(ir.Constant(number, n) for n in (0, 3, 1))])  # read, into L1, data


@intrinsic
def popcount(context: Any, word: Any) -> Any:
    """How many bits of a uint64 are set."""

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.int64(types.uint64), write


@machine
def bits_at(words, start, n):
    """Bits start .. start + n, at most 64, as one word."""
    w, shift = start >> 6, start & 63
    word = words[w] >> np.uint64(shift)
    if shift + n > 64:
        word |= words[w + 1] << np.uint64(64 - shift)
    return word if n == 64 else word & ((_ONE << np.uint64(n)) - _ONE)


@machine
def list_bits(word, base, found, n):
    """found[n:] = base + k for each bit k of a word. Returns the new n."""
    while word != 0:
        found[n] = base + np.int64(trailing_zeros(word))
        n += 1
        word &= word - _ONE
    return n


@machine
def positions(words, start, stop, found, n):
    """Append to found[n:] where bits of start .. stop are set, counted from start. Returns the new n."""
    first, last = start >> 6, (stop + 63) >> 6
    for w in range(first, last):
        word = words[w]
        if w == first:
            word &= _ALL << np.uint64(start & 63)
        if w == last - 1 and stop & 63:
            word &= _ALL >> np.uint64(64 - (stop & 63))
        n = list_bits(word, w * 64 - start, found, n)
    return n


@machine
def turn_bits(block):
    """Transpose 64 words of 64 bits in place: exchange halves, then halves of halves, down to single bits."""
    j, mask = 32, np.uint64(0xFFFFFFFF)
    while j:
        for base in range(0, 64, 2 * j):
            for k in range(base, base + j):
                moved = ((block[k] >> np.uint64(j)) ^ block[k + j]) & mask
                block[k] ^= moved << np.uint64(j)
                block[k + j] ^= moved
        j >>= 1
        mask ^= mask << np.uint64(j)


@intrinsic
def copy(context: Any, a: Any, at: Any, b: Any, t: Any, n: Any) -> Any:
    """b[t : t + n] = a[at : at + n] of one type; a loop would ask whether the two overlap, and Numba takes seconds to compile one slice's assignment to another."""

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, target = (builder.gep(context.make_array(signature.args[k])(context, builder, args[k]).data, [args[k + 1]]) for k in (0, 2))
        raw_memcpy(builder, target, source, args[4], context.get_abi_sizeof(context.get_value_type(signature.args[0].dtype)))
        return context.get_dummy_value()

    return (types.void(a, types.intp, b, types.intp, types.intp), write) if a.dtype == b.dtype else None


@machine
def columns_of_bits(words, start, rows, inner, low, high, found, at, block):
    """found[at + w * (high - low) + i]: bits of rows start + 64 * w .. of column low + i, of a matrix of bits [., inner]; `block` holds 64 words."""
    for w in range((rows + 63) >> 6):
        n = min(64, rows - 64 * w)
        for c in range(low, high, 64):
            m = min(64, high - c)
            for j in range(n):
                block[j] = bits_at(words, (start + 64 * w + j) * inner + c, m)
            block[n:] = 0
            turn_bits(block)
            first = at + w * (high - low) + c - low
            copy(block, 0, found, first, m)


@intrinsic
def _square(context: Any, a: Any, at: Any, a_stride: Any, b: Any, bt: Any, b_stride: Any) -> Any:
    """b[bt + i + j * b_stride] = a[at + i * a_stride + j] for i, j in 0 .. 16, in registers: four rounds of riffling."""

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        element = context.get_value_type(signature.args[0].dtype)
        size, word, half = context.get_abi_sizeof(element), ir.IntType(64), LANES // 2

        def line(array: int, start: Any, i: int) -> Any:
            data = context.make_array(signature.args[array])(context, builder, args[array]).data
            place = builder.add(start, builder.mul(args[array + 2], ir.Constant(word, i)))
            return builder.bitcast(builder.gep(data, [place]), ir.VectorType(element, LANES).as_pointer())

        lines = [builder.load(line(0, args[1], i), align=size) for i in range(LANES)]
        for i in range(LANES):  # several squares on
            fetch(builder, line(0, builder.add(args[1], ir.Constant(word, _AHEAD)), i))
        masks = [
            ir.Constant(ir.VectorType(ir.IntType(32), LANES), [n for j in range(first, first + half) for n in (j, LANES + j)]) for first in (0, half)
        ]
        for _ in range(4):
            lines = [builder.shuffle_vector(lines[i], lines[i + half], mask) for i in range(half) for mask in masks]
        for i, value in enumerate(lines):
            builder.store(value, line(3, args[4], i), align=size)
        return context.get_dummy_value()

    return types.void(a, types.intp, types.intp, b, types.intp, types.intp), write


@machine
def turn(a, at, a_stride, rows, columns, b, bt, b_stride):
    """b[bt + c * b_stride + r] = a[at + r * a_stride + c] for r in 0 .. rows, c in 0 .. columns."""
    whole_r, whole_c = rows - rows % 16, columns - columns % 16
    for c in range(0, whole_c, 16):
        for r in range(0, whole_r, 16):
            _square(a, at + r * a_stride + c, a_stride, b, bt + c * b_stride + r, b_stride)
    for c in range(columns):
        for r in range(whole_r if c < whole_c else 0, rows):
            b[bt + c * b_stride + r] = a[at + r * a_stride + c]


@machine
def aligned(size, kind):
    """An uninitialised array that starts on a cache line: a wide vector that lies on two lines takes twice as long."""
    whole = np.empty(size + 64, kind)
    return whole[(-whole.ctypes.data % 64) // whole.itemsize :]


def in_halves(builder: Any, count: Any, most: int, tile: Callable[[Any, int], None]) -> None:
    """Write machine code that covers 0 .. count by tiles of `most`, a power of two, then by half as many and so on: tile(start, how many)."""
    word, bits = count.type, most.bit_length() - 1
    with for_range(builder, builder.lshr(count, ir.Constant(word, bits)), intp=word) as whole:
        tile(builder.shl(whole.index, ir.Constant(word, bits)), most)
    for bit in reversed(range(bits)):
        with builder.if_then(builder.trunc(builder.lshr(count, ir.Constant(word, bit)), ir.IntType(1))):
            tile(builder.and_(count, ir.Constant(word, -2 << bit)), 1 << bit)


@intrinsic
def sums(
    context: Any, source: Any, s: Any, target: Any, t: Any, width: Any, rows: Any, origin: Any, stride: Any, index: Any, factors: Any, first: Any, last: Any
) -> Any:  # fmt: skip
    """target[t + j] = source[s + j] + sum over k in first .. last of factors[k] * rows[origin + index[k] * stride + j], for j in 0 .. width, in the order of k.

    factors: None where all are 1. 128 columns at a time are summed in registers, then 64, and so on down to one.
    """

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds, word = signature.args, ir.IntType(64)
        element = context.get_value_type(kinds[0].dtype)
        size = context.get_abi_sizeof(element)

        def data(k: int, at: Any) -> Any:
            return builder.gep(context.make_array(kinds[k])(context, builder, args[k]).data, [at])

        out, begin, base = data(2, args[3]), data(0, args[1]), data(5, args[6])

        def tile(c: Any, columns: int) -> None:
            lanes, vectors = min(columns, LANES), max(columns // LANES, 1)
            vector = ir.VectorType(element, lanes)

            def vectors_at(pointer: Any) -> list[Any]:
                start = builder.bitcast(builder.gep(pointer, [c]), vector.as_pointer())
                return [builder.gep(start, [ir.Constant(word, v)]) for v in range(vectors)]

            starts = [builder.load(p, align=size) for p in vectors_at(begin)]
            before, loop, done = builder.block, builder.append_basic_block("rows"), builder.append_basic_block("rows_end")
            builder.cbranch(builder.icmp_signed("<", args[10], args[11]), loop, done)
            builder.position_at_end(loop)
            k = builder.phi(word)
            held = [builder.phi(vector) for _ in range(vectors)]
            row = builder.zext(builder.load(data(8, k)), word)
            terms = [builder.load(p, align=size) for p in vectors_at(builder.gep(base, [builder.mul(row, args[7])]))]
            if kinds[9] != types.none:
                one = builder.insert_element(ir.Constant(vector, ir.Undefined), builder.load(data(9, k)), ir.Constant(ir.IntType(32), 0))
                factor = builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes))
                terms = [builder.fmul(factor, term, flags=["contract"]) for term in terms]
            more = [builder.fadd(h, term, flags=["contract"]) for h, term in zip(held, terms, strict=True)]
            after = builder.add(k, ir.Constant(word, 1))
            builder.cbranch(builder.icmp_signed("<", after, args[11]), loop, done)
            builder.position_at_end(done)
            totals = [builder.phi(vector) for _ in range(vectors)]
            for phi, old, new in [(k, args[10], after), *zip(held, starts, more, strict=True), *zip(totals, starts, more, strict=True)]:
                phi.add_incoming(old, before)
                phi.add_incoming(new, loop)
            for p, total in zip(vectors_at(out), totals, strict=True):
                builder.store(total, p, align=size)

        in_halves(builder, args[4], 128, tile)
        return context.get_dummy_value()

    return types.void(source, types.intp, target, types.intp, types.intp, rows, types.intp, types.intp, index, factors, types.intp, types.intp), write


@machine
def sum_rows(source, s, target, t, width, rows, origin, stride, index, first, last):
    """target[t + j] = source[s + j] + sum over k in first .. last of rows[origin + index[k] * stride + j], for j in 0 .. width, in the order of k."""
    sums(source, s, target, t, width, rows, origin, stride, index, None, first, last)
