"""The words that generated CPU kernels are written in. Loaded by those kernels alone, because it loads Numba.

Mathematical functions are computed in the precision of their argument. `widen` and `narrow` are bfloat16 in its 16 bits:
widening is exact, narrowing rounds to nearest, ties to even, and keeps a NaN a NaN.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, register_jitable

__all__ = [
    "atan", "ceil", "cos", "exp", "expm1", "fabs", "floor", "log", "log1p", "narrow", "pow", "rint", "sin", "sqrt", "tanh", "trunc", "where", "widen",
]  # fmt: skip

exp, expm1, log, log1p, tanh, sin, cos, atan, sqrt, fabs = (
    math.exp, math.expm1, math.log, math.log1p, math.tanh, math.sin, math.cos, math.atan, math.sqrt, math.fabs,
)  # fmt: skip
floor, ceil, rint, trunc = np.floor, np.ceil, np.rint, np.trunc


@register_jitable
def where(condition, a, b):
    return a if condition else b


@register_jitable
def pow(a, b):  # noqa: A001
    return a**b


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


@register_jitable
def widen(half):
    return _bits_to_float(np.uint32(np.uint32(half) << np.uint32(16)))


@register_jitable
def narrow(value):
    bits = _float_to_bits(value)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = np.uint32(bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)
    return np.uint16(rounded) if value == value else np.uint16(0x7FC0)
