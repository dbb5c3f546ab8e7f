"""Spikes as planes of bits, for Numba: written from a tensor, read back, and a sample of the tensor looked at before.

64 elements to a word, element 64*w + b at bit b of word w; an element's value is the number of planes that have its bit set, and what has
no bit in one plane has none in the next.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from neuro.kernels.cache import machine
from neuro.kernels.shared_loops import LANES, fetch, popcount

_AHEAD = 2048  # elements that are asked for before they are read: the processor itself does so only up to the end of a page
_ONE = np.uint64(1)
_LOW = np.uint64(0xFFFF)


@intrinsic
def _masks(context: Any, x: Any, at: Any, above: Any) -> Any:
    """Of x[at : at + 16]: a bit for each element > above, and above those 16 a bit for each that is neither 0 nor 1."""

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        element = context.get_value_type(signature.args[0].dtype)
        vector, wide = ir.VectorType(element, LANES), ir.IntType(64)
        data = builder.gep(context.make_array(signature.args[0])(context, builder, args[0]).data, [args[1]])
        values = builder.load(builder.bitcast(data, vector.as_pointer()), align=context.get_abi_sizeof(element))
        fetch(builder, builder.gep(data, [ir.Constant(wide, _AHEAD)]))

        def differs(sign: str, number: float) -> Any:
            return builder.fcmp_unordered(sign, values, ir.Constant(vector, [number] * LANES))

        first = builder.insert_element(ir.Constant(vector, ir.Undefined), args[2], ir.Constant(ir.IntType(32), 0))
        level = builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))
        found = builder.fcmp_ordered(">", values, level)
        odd = builder.and_(differs("!=", 0.0), differs("!=", 1.0))
        low, high = (builder.zext(builder.bitcast(m, ir.IntType(LANES)), wide) for m in (found, odd))
        return builder.or_(low, builder.shl(high, ir.Constant(wide, LANES)))

    return types.uint64(x, types.intp, x.dtype), write


@machine
def pack(x, words, low, high):
    """Bits of `x > 0` into words[low:high]. Returns how many are set, and whether an element is neither 0 nor 1."""
    level = x.dtype.type(0)
    active, odd = 0, np.uint64(0)
    for w in range(low, high):
        start = 64 * w
        word = np.uint64(0)
        if start + 64 <= x.size:
            for k in range(4):
                both = _masks(x, start + 16 * k, level)
                word |= (both & _LOW) << np.uint64(16 * k)
                odd |= both >> np.uint64(16)
        else:
            for j in range(start, x.size):
                v = x[j]
                if v > level:
                    word |= _ONE << np.uint64(j - start)
                if v != 0 and v != 1:
                    odd = _ONE
        words[w] = word
        active += popcount(word)
    return active, odd != 0


@machine
def pack_counts(x, planes, low, high):
    """Bits of `x > p` into planes[p, low:high]. Returns how many are set, the planes with any, and how many elements are no whole number of 0 .. P."""
    active, used, odd = 0, 0, 0
    for w in range(low, high):
        start, stop = 64 * w, min(64 * w + 64, x.size)
        part = x[start:stop]
        for j in range(stop - start):
            v = part[j]
            odd += not (v >= 0 and v <= planes.shape[0] and v == np.floor(v))
        left = True  # what has no bit in one plane has none in the next
        for p in range(planes.shape[0]):
            word = np.uint64(0)
            if left:
                level = x.dtype.type(p)
                if stop - start == 64:
                    for k in range(4):
                        word |= (_masks(x, start + 16 * k, level) & _LOW) << np.uint64(16 * k)
                else:
                    for j in range(stop - start):
                        if part[j] > level:
                            word |= _ONE << np.uint64(j)
                left = word != 0
                if left:
                    used = max(used, p + 1)
            planes[p, w] = word
            active += popcount(word)
    return active, used, odd


@intrinsic
def _place(context: Any, x: Any, at: Any, bits: Any, add: Any) -> Any:
    """x[at : at + 16] becomes the lowest 16 bits of a word, or has them added."""

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        element = context.get_value_type(signature.args[0].dtype)
        vector = ir.VectorType(element, LANES)
        data = builder.gep(context.make_array(signature.args[0])(context, builder, args[0]).data, [args[1]])
        place, align = builder.bitcast(data, vector.as_pointer()), context.get_abi_sizeof(element)
        mask = builder.bitcast(builder.trunc(args[2], ir.IntType(LANES)), ir.VectorType(ir.IntType(1), LANES))
        ones, zeros = (ir.Constant(vector, [number] * LANES) for number in (1.0, 0.0))
        values = builder.select(mask, ones, zeros)
        before = builder.select(args[3], builder.load(place, align=align), zeros)
        builder.store(builder.fadd(before, values), place, align=align)
        return context.get_dummy_value()

    return types.void(x, types.intp, types.uint64, types.boolean), write


@machine
def unpack(planes, x, low, high):
    """x[64 * low : 64 * high] becomes the sum of the bits of these planes."""
    for w in range(low, high):
        start, n = 64 * w, min(64, x.size - 64 * w)
        for p in range(planes.shape[0]):
            word = planes[p, w]
            if p > 0 and word == 0:
                continue
            if n == 64:
                for k in range(4):
                    _place(x, start + 16 * k, word >> np.uint64(16 * k), p > 0)
            else:
                for j in range(n):
                    bit = x.dtype.type((word >> np.uint64(j)) & _ONE)
                    x[start + j] = x[start + j] + bit if p > 0 else bit


@machine
def look(x, found):
    """Into found[p], from 32 stretches of 64 elements: how many are above p. Returns how many were seen, and how many are not whole numbers of 0 .. found.size."""
    length = min(64, x.size)
    stretches = min(32, x.size // length)
    step = (x.size - length) // max(1, stretches - 1)
    odd = 0
    found[:] = 0
    for k in range(stretches):
        for j in range(k * step, k * step + length):
            v = x[j]
            if v >= 0 and v <= found.size and v == np.floor(v):
                for p in range(int(v)):
                    found[p] += 1
            else:
                odd += 1
    return stretches * length, odd


@machine
def count(words):
    """How many bits are set."""
    n = 0
    for w in range(words.size):
        n += popcount(words[w])
    return n
