"""A convolution's gradient by its input, by Winograd's F(4x4, 3x3): a quarter of the products of the direct sum.

What comes back to a convolution is dense, so nothing can be skipped or looked up; a tile of 4 x 4 places takes 36 products of a channel with another
where the direct sum takes 144. Rounding is with the magnitude of the whole tile: the error, 2e-6 to 3e-6 of the root mean square with 100 to 400
channels, is thirteen times that of oneDNN's blocked sums and four to five times that of float32 numbers added up one after the other. An infinite
value makes its tile NaN. `neuro.deterministic("dense")` and a table with `input_winograd` 0 keep to the direct sum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from neuro.kernels.memory import fresh
from neuro.kernels.pool import spread

if TYPE_CHECKING:
    from neuro.kernels.spike_conv import Sizes

_MOVE = 0.3e-9  # seconds of an element, one thread; only decides how many threads are worth waking
_TILES = 512  # tiles at a time: their products lie in L3, and are many enough for a fast matrix product
_LANES, _FEW = 16, 32  # channels that transforms take at a time; channels below which products of matrices are too narrow to gain


def fits(sizes: Sizes) -> bool:
    """Whether it is a convolution of 3 x 3 without strides, dilation or groups, of channels in sixteens, 32 or more."""
    s = sizes
    plain = (s.K_h, s.K_w, s.s_h, s.s_w, s.d_h, s.d_w, s.groups) == (3, 3, 1, 1, 1, 1, 1) and max(s.p_h, s.p_w) <= 2
    return plain and s.C % _LANES == 0 and s.D % _LANES == 0 and min(s.C, s.D) >= _FEW


def input_gradient(grad: Tensor, weight: Tensor, sizes: Sizes) -> Tensor:
    """[N, C, H, W] from the gradient of the outputs [N, D, H', W'] and the weight [D, C, 3, 3]."""
    from neuro.kernels import spike_loops, winograd_loops

    s, N = sizes, grad.shape[0]
    kernels = _kernels(weight)  # [36, D, C]
    x = fresh((N, s.C, s.H, s.W), grad.dtype)
    down, across = -(-s.H // 4), -(-s.W // 4)
    frame_h, frame_w = 4 * down + 2, 4 * across + 2
    some = max(1, min(N, _TILES // (down * across)))
    framed = torch.empty(some * frame_h * frame_w * s.D, dtype=grad.dtype).numpy()
    tiles = some * down * across
    v, m = fresh((36, tiles, s.D), grad.dtype), fresh((36, tiles, s.C), grad.dtype)
    g, flat = grad.detach().contiguous().view(-1).numpy(), x.view(-1).numpy()
    top, left, plane = 2 - s.p_h, 2 - s.p_w, s.D * s.H_out * s.W_out
    for n in range(0, N, some):
        images = min(some, N - n)
        part = g[n * plane : (n + images) * plane]
        count = images * down * across
        v_of, m_of = v.view(-1)[: 36 * count * s.D], m.view(-1)[: 36 * count * s.C]
        v_flat, m_flat = v_of.numpy(), m_of.numpy()
        spread(lambda low, high, part=part: spike_loops.frame_gradient(part, s.D, s.H_out, s.W_out, framed, frame_h, frame_w, top, left, low, high), images, cost=plane * _MOVE)
        spread(lambda low, high, v=v_flat, k=images: winograd_loops.into(framed, frame_h, frame_w, s.D, down, across, k, v, low, high), images, cost=3 * plane * _MOVE)
        torch.bmm(v_of.view(36, count, s.D), kernels, out=m_of.view(36, count, s.C))
        spread(lambda low, high, m=m_flat, k=images, n=n: winograd_loops.out(m, s.C, down, across, k, flat, n, s.H, s.W, low, high), images, cost=3 * s.C * s.H * s.W * _MOVE)
    return x


def _kernels(weight: Tensor) -> Tensor:
    """[36, D, C]: G w' G^T of every pair of channels, w' the kernel turned by half a circle."""
    from neuro.kernels.spike_linear import turned
    from neuro.kernels.winograd_loops import KERNEL

    D, C = weight.shape[:2]
    G = np.array(KERNEL)
    both = torch.from_numpy(np.kron(G, G)[:, ::-1].copy()).to(weight.dtype)  # of the kernel's places, first to last, the last comes first
    with torch.autocast("cpu", enabled=False):  # backward may run inside of one; forward did not
        return (both @ turned(weight.detach().reshape(D * C, 9))).view(36, D, C)
