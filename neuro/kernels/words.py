"""The words that generated CPU kernels are written in. Loaded by those kernels alone, because it loads Numba.

Mathematical functions are computed in the precision of their argument. In float32, `exp` and `tanh` are polynomials after
Cephes (Moshier 1992; at most 2 units in the last place), because a call of the mathematical library would keep a loop from becoming
vector instructions. `widen` and `narrow` are bfloat16 in its 16 bits:
widening is exact, narrowing rounds to nearest, ties to even, and keeps a NaN a NaN.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload, register_jitable

__all__ = [
    "atan", "ceil", "cos", "exp", "expm1", "fabs", "floor", "log", "log1p", "narrow", "pow", "rint", "sin", "sqrt", "tanh", "total", "trunc", "where", "widen",
]  # fmt: skip

expm1, log, log1p, sin, cos, atan, sqrt, fabs = math.expm1, math.log, math.log1p, math.sin, math.cos, math.atan, math.sqrt, math.fabs
floor, ceil, rint, trunc, pow = np.floor, np.ceil, np.rint, np.trunc, operator.pow  # noqa: A001

@register_jitable(fastmath={"reassoc"})
def total(values, n):
    """Sum of n numbers in double, in several chains side by side; the same values give the same sum."""
    found = 0.0
    for i in range(n):
        found += values[i]
    return found


@intrinsic
def where(context: Any, condition: Any, a: Any, b: Any) -> Any:
    """a where the condition holds, else b, of the same type."""

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(*args)

    return a(types.boolean, a, a), write



@intrinsic
def _bits_to_float(context: Any, bits: Any) -> Any:
    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.uint32), write


@intrinsic
def _float_to_bits(context: Any, value: Any) -> Any:
    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(32))

    return types.uint32(types.float32), write


F, Bits, Half = np.float32, np.uint32, np.uint16


@register_jitable
def widen(half):
    return _bits_to_float(Bits(Bits(half) << Bits(16)))


@register_jitable
def narrow(value):
    bits = _float_to_bits(value)
    odd = (bits >> Bits(16)) & Bits(1)
    rounded = Bits(bits + Bits(0x7FFF) + odd) >> Bits(16)
    return where(value == value, Half(rounded), Half(0x7FC0))


_LOG2E, _LN2_HIGH, _LN2_LOW = F(1.44269504088896341), F(0.693359375), F(-2.12194440e-4)
_SHIFT = F(1.5 * 2.0**23)  # added to a number, it leaves no place for a fraction: the sum is rounded to a whole number
_EXP_MOST, _EXP_LEAST, _INFINITE = F(88.72283), F(-87.33654), F(np.inf)  # beyond: infinity, and zero in place of subnormal numbers


def exp(x):
    return math.exp(x)


def tanh(x):
    return math.tanh(x)


@overload(exp, jit_options={"fastmath": {"contract"}})
def _exp(x):
    return _exp32 if x == types.float32 else lambda x: math.exp(x)


@overload(tanh)
def _tanh(x):
    return _tanh32 if x == types.float32 else lambda x: math.tanh(x)


@register_jitable(fastmath={"contract"})
def _exp32(x):
    shifted = x * _LOG2E + _SHIFT  # its last bits are the whole number n
    n = shifted - _SHIFT
    r = x - n * _LN2_HIGH - n * _LN2_LOW
    p = F(1.9875691500e-4)
    p = p * r + F(1.3981999507e-3)
    p = p * r + F(8.3334519073e-3)
    p = p * r + F(4.1665795894e-2)
    p = p * r + F(1.6666665459e-1)
    p = p * r + F(5.0000001201e-1)
    p = p * (r * r) + r + F(1.0)
    p = _bits_to_float(Bits(_float_to_bits(p) + Bits(_float_to_bits(shifted) << Bits(23))))  # n is added to the exponent
    return where(x <= _EXP_MOST, where(x >= _EXP_LEAST, p, F(0.0)), x + _INFINITE)  # the last is infinity, or NaN of NaN


@register_jitable
def _tanh32(x):
    size = fabs(x)
    z = x * x
    p = F(-5.70498872745e-3)
    p = p * z + F(2.06390887954e-2)
    p = p * z + F(-5.37397155531e-2)
    p = p * z + F(1.33314422036e-1)
    p = p * z + F(-3.33332819422e-1)
    near = p * z * x + x
    far = F(1.0) - F(2.0) / (_exp32(size + size) + F(1.0))
    return where(size < F(0.625), near, where(x < F(0.0), -far, where(x == x, far, x)))


# What a translated kernel writes out in place of a call: a function for its types, and whether products and sums in it may be contracted
WRITTEN_OUT = {(exp, types.float32): (_exp32, True), (_exp32, types.float32): (_exp32, True), (tanh, types.float32): (_tanh32, False), (widen, types.uint16): (widen, False), (narrow, types.float32): (narrow, False)}
