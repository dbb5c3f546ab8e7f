"""What the loops over spikes share: bits counted, cut out and transposed, matrices transposed, arrays on a cache line.

Numba keeps machine code by the time stamp of the file of the function called, and would not see a change in this one. So each file that uses
it names the hash of its text (`PARTS`), which a test compares: after a change here those files change too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

machine = njit(nogil=True, error_model="numpy", cache=True)

LANES = 16  # elements of one vector of the machine code; a narrower processor takes two or four
_ONE = np.uint64(1)


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
            found[first : first + m] = block[:m]


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
