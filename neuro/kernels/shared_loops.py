"""What the loops over spikes share: bits counted, cut out, listed and transposed, matrices transposed, rows summed that a list names, arrays on a cache line.

Numba keeps machine code by the time stamp of the file of the function called, and would not see a change in this one. So each file that uses
it names the hash of its text (`PARTS`), which a test compares: after a change here those files change too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core.cgutils import raw_memcpy
from numba.cpython.unsafe.numbers import trailing_zeros
from numba.extending import intrinsic

LANES = 16  # elements of one vector of the machine code; a narrower processor takes two or four
_AHEAD = 64  # elements of a row that are asked for before they are read
_ONE, _ALL = np.uint64(1), np.uint64(0xFFFFFFFFFFFFFFFF)


def machine(function: Any) -> Any:
    """Machine code that releases the GIL and is kept on disk; compiled once for all numbers, where Numba would do so for each one written out in a call."""
    made = njit(nogil=True, error_model="numpy", cache=True)(function)
    called = made.get_call_template
    made.get_call_template = lambda args, kws: called([types.unliteral(a) for a in args], {name: types.unliteral(a) for name, a in kws.items()})
    return made


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


_tile_128, tile_64, tile_32, _tile_16 = _summing(8), _summing(4), _summing(2), _summing(1)


@machine
def sum_rows(source, s, target, t, width, rows, origin, stride, index, first, last):
    """target[t + j] = source[s + j] + sum over k in first .. last of rows[origin + index[k] * stride + j], for j in 0 .. width, in the order of k."""
    c = 0
    while width - c >= 128:
        _tile_128(source, s + c, target, t + c, rows, stride, origin + c, index, first, last)
        c += 128
    if width - c >= 64:
        tile_64(source, s + c, target, t + c, rows, stride, origin + c, index, first, last)
        c += 64
    if width - c >= 32:
        tile_32(source, s + c, target, t + c, rows, stride, origin + c, index, first, last)
        c += 32
    while width - c >= 16:
        _tile_16(source, s + c, target, t + c, rows, stride, origin + c, index, first, last)
        c += 16
    for j in range(c, width):
        total = source[s + j]
        for k in range(first, last):
            total += rows[origin + np.int64(index[k]) * stride + j]
        target[t + j] = total
