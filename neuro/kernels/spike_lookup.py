"""Products with spikes by looking sums up (the method of four Russians): as fast at any density, where the processor looks up sixteen floats
at once (AVX-512). How, and the source: `lookup_loops.py`."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from neuro.kernels.bits import Packed
from neuro.kernels.memory import fresh, values_of
from neuro.kernels.pool import spread

if TYPE_CHECKING:
    from neuro.kernels.spike_conv import Sizes

_LOOK, _CUT = 1.2e-11, 1e-10  # seconds of a product and of a bit that is moved, one thread; only decide how many threads are worth waking
_PLACES = 1024  # rows, or places of an output, that are lanes together: the subtotals are made once for them
_KEPT = 8 << 20  # bytes of bits under taps made at a time; part of the order of summation
_ONE = np.float32(1.0)


@functools.cache
def has_lookup(dtype: torch.dtype) -> bool:
    """Whether Numba makes code for a processor with AVX-512, and the type is float32."""
    if dtype != torch.float32:
        return False
    import llvmlite.binding
    import numba

    if numba.config.CPU_NAME or numba.config.CPU_FEATURES:
        return "+avx512f" in (numba.config.CPU_FEATURES or "").split(",")
    return bool(numba.config.ENABLE_AVX) and llvmlite.binding.get_host_cpu_features().get("avx512f", False)


def linear(packed: Packed, looked: int, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`x W^T + b` with x of the first so many planes. packed [..., C], weight [D, C] -> [..., D]."""
    from neuro.kernels import lookup_loops

    D, C = weight.shape
    rows = packed.shape.numel() // C
    y = fresh((*packed.shape[:-1], D), weight.dtype)
    flat, planes, dense, first = y.view(-1).numpy(), packed.planes[:looked], values_of(weight), _first(bias, D)
    cost = len(planes) * D * C * _LOOK
    spread(lambda low, high: lookup_loops.times(planes, C, dense, D, first, _ONE, flat, low, high), rows, cost=cost, grain=_PLACES)
    return y


def linear_gradient(packed: Packed, looked: int, g: Tensor) -> Tensor:
    """g^T x, [D, C], with x of the first so many planes; packed [..., C], g [rows, D]."""
    from neuro.kernels import lookup_loops

    rows, D = g.shape
    C, planes = packed.shape[-1], packed.planes[:looked]
    P, lanes = len(planes), _lanes(C)
    bits = np.empty(P * -(-rows // 32) * lanes, np.int32)
    spread(lambda low, high: lookup_loops.columns(planes, rows, C, lanes, bits, low, high), -(-rows // 64), cost=64 * C * P * _CUT)
    found = fresh((D, C), g.dtype)
    flat, dense = found.view(-1).numpy(), values_of(g)
    blocks, cost = -(-D // lookup_loops.ROWS), lookup_loops.ROWS * P * rows * lanes * _LOOK
    spread(lambda low, high: lookup_loops.transposed_times(bits, P, rows, C, lanes, dense, D, _ONE, flat, low, high), blocks, cost=cost)
    return found


def convolution(packed: Packed, looked: int, weight: Tensor, bias: Tensor | None, sizes: Sizes) -> Tensor:
    """With x of the first so many planes, packed [N, C, H, W], weight [D, C / groups, K, K] -> [N, D, H', W']."""
    from neuro.kernels import lookup_loops

    s, N = sizes, packed.shape[0]
    y = fresh((N, s.groups * s.D, s.H_out, s.W_out), weight.dtype)
    images = max(1, min(_PLACES // (s.H_out * s.W_out), -(-N // torch.get_num_threads())))
    dense = values_of(weight.detach().flatten(2).transpose(1, 2))  # [D, taps, C]
    flat, planes, first, plain = y.view(-1).numpy(), packed.planes[:looked], _first(bias, s.groups * s.D), tuple(s)
    cost = len(planes) * y[0].numel() * s.C * s.K_h * s.K_w * _LOOK
    spread(lambda low, high: lookup_loops.convolve(planes, plain, images, dense, first, _ONE, flat, low, high), N, cost=cost, grain=images)
    return y


def convolution_gradient(packed: Packed, looked: int, grad: Tensor, sizes: Sizes) -> Tensor:
    """The weight's gradient [D, C / groups, K, K] of a convolution of stride 1, with x of the first so many planes; packed [N, C, H, W], grad [N, D, H', W']."""
    from neuro.kernels import lookup_loops

    s, N, planes, plain = sizes, packed.shape[0], packed.planes[:looked], tuple(sizes)
    P, places = len(planes), s.H_out * s.W_out
    taps = s.K_h * s.K_w
    used = s.C * taps
    lanes = _lanes(used)
    words = P * s.groups * -(-places // 32) * lanes  # of an image
    some = max(1, min(N, _KEPT // (4 * words)))
    bits, g = np.empty(some * words, np.int32), values_of(grad)
    found = fresh((s.groups * s.D, s.C, s.K_h, s.K_w), grad.dtype)
    flat = found.view(-1).numpy()
    blocks = s.groups * -(-s.D // lookup_loops.ROWS)
    for n in range(0, N, some):
        images = min(some, N - n)
        spread(lambda low, high, n=n: lookup_loops.taps(planes, plain, n, lanes, bits, low, high), images, cost=P * s.groups * used * places * _CUT)
        cost = images * P * lookup_loops.ROWS * lanes * places * _LOOK
        spread(
            lambda low, high, n=n, images=images: lookup_loops.convolve_gradient(bits, P, plain, images, lanes, g, n, _ONE, flat, n > 0, low, high),
            blocks, cost=cost,
        )  # fmt: skip
    return found


def _first(bias: Tensor | None, outputs: int) -> np.ndarray:
    return np.zeros(outputs, np.float32) if bias is None else values_of(bias)


def _lanes(n: int) -> int:
    from neuro.kernels.lookup_loops import BLOCK

    return -(-n // BLOCK) * BLOCK
