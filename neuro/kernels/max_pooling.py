"""Max pooling that remembers one byte per output: torch's keeps its whole input and an index of eight bytes."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from neuro.kernels import batched, cache
from neuro.kernels.max_pooling_source import WIDE, forward_source
from neuro.kernels.memory import fresh
from neuro.kernels.pool import spread

_EACH = 0.4e-9  # seconds of one input; only decides how many threads are worth waking
_TAPS = 64  # places of a window, at most: each is written out
_WORTH = 1 << 14  # outputs below which torch's own is as fast

Pair = tuple[int, int]


def max_pool2d(x: Tensor, kernel: Pair, stride: Pair, padding: Pair) -> Tensor:
    """`torch.nn.functional.max_pool2d` of [N, C, H, W], gradients included: ties go to the first place of the window.

    What is small, or no plain float32 or float64 CPU tensor, or is looked at by a compiler, a mode or a transform, is left to torch;
    so is a gradient that is to be differentiated again.
    """
    if not _takes(x, kernel, stride, padding):
        return F.max_pool2d(x, kernel, stride, padding)
    return _MaxPool.apply(x, kernel, stride, padding)


def _takes(x: Tensor, kernel: Pair, stride: Pair, padding: Pair) -> bool:
    if torch.compiler.is_compiling() or type(x) is not Tensor or x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64):
        return False
    if x.dim() != 4 or not fits(x.shape, Windows(kernel, stride, padding)) or math.prod(Windows(kernel, stride, padding).out(x.shape)) < _WORTH:
        return False
    watched = torch._C._len_torch_dispatch_stack() > 0 or torch._C._functorch.peek_interpreter_stack() is not None
    return not watched and torch._C._get_tracing_state() is None and torch.autograd.forward_ad._current_level < 0


def fits(shape: Sequence[int], windows: Windows) -> bool:
    """Whether these windows of [..., H, W] have a kernel."""
    kernel, stride, padding = windows
    if min(*kernel, *stride) < 1 or min(padding) < 0 or kernel[0] * kernel[1] > _TAPS or any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        return False
    return shape[-1] + 2 * padding[1] <= WIDE and min(windows.out(shape)) > 0


class Windows(NamedTuple):
    """Rows and columns of each."""

    kernel: Pair
    stride: Pair
    padding: Pair

    def out(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Shape [..., H_out, W_out] of the windows of [..., H, W]."""
        sizes = [(n + 2 * p - k) // s + 1 for n, p, k, s in zip(shape[-2:], self.padding, self.kernel, self.stride, strict=True)]
        return (*shape[:-2], *sizes)


def forward(x: Tensor, windows: Windows, signs: Tensor) -> tuple[Tensor, Tensor]:
    """Of each window of x [..., H, W], contiguous: its value [..., H_out, W_out], and as a byte which of its places held it first.

    Args:
        signs: [C], of planes that repeat them in order, in the type of x: 1 for the largest value, -1 for the smallest, 0 for the first (or the last that is not finite: times 0 it is NaN).
    """
    y, taps = fresh(windows.out(x.shape), x.dtype), fresh(windows.out(x.shape), torch.uint8)
    planes = x.shape[:-2].numel()
    kernel = _forward_kernel(str(x.dtype).removeprefix("torch."), windows)
    arrays = (_planes(x), signs.numpy(), _planes(y), _planes(taps))
    spread(lambda low, high: kernel(*arrays, low, high), planes, cost=(x.numel() + 3 * y.numel()) / planes * _EACH)
    return y, taps


def backward(grad: Tensor, taps: Tensor, windows: Windows, shape: Sequence[int], affine: tuple[Tensor, Tensor, Tensor] | None = None) -> Tensor:
    """Gradient by the input, of this shape [..., H, W]: each output's goes to the place that the output was taken from.

    Args:
        affine: x, slope [C] and offset [C] of planes that repeat them in order; `slope * x + offset` is added everywhere.
    """
    from neuro.kernels import max_pooling_loops

    result = fresh(tuple(shape), grad.dtype)
    H, W = shape[-2:]
    planes = result.numel() // (H * W)
    (k_h, k_w), (s_h, s_w), (p_h, p_w) = windows
    away = (torch.arange(k_h)[:, None] * W + torch.arange(k_w)).flatten().numpy()
    given = (_planes(grad.contiguous()), _planes(taps), away, (s_h * W, s_w), -p_h * W - p_w)
    flat = result.view(planes, H * W).numpy()
    if affine is None:
        work, arrays = max_pooling_loops.backward, (*given, flat)
    else:
        x, slope, offset = affine
        work, arrays = max_pooling_loops.backward_affine, (*given, x.detach().view(planes, H * W).numpy(), slope.numpy(), offset.numpy(), flat)
    spread(lambda low, high: work(*arrays, low, high), planes, cost=H * W * _EACH)
    return result


@functools.lru_cache(maxsize=64)
def _forward_kernel(dtype: str, windows: Windows) -> Any:
    return cache.function(forward_source(dtype, *windows), "forward")


def _planes(x: Tensor) -> Any:
    return x.detach().view(-1, *x.shape[-2:]).numpy()


@batched.one_by_one
class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Pair, stride: Pair, padding: Pair) -> Tensor:
        ctx.windows, ctx.shape = Windows(kernel, stride, padding), x.shape
        y, taps = forward(x.detach().contiguous(), ctx.windows, torch.ones(1, dtype=x.dtype))
        ctx.save_for_backward(taps)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (taps,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True: a gather and scatter that torch can differentiate again
            return _scattered(grad, taps, ctx.windows, ctx.shape), None, None, None
        return backward(grad, taps, ctx.windows, ctx.shape), None, None, None


def _scattered(grad: Tensor, taps: Tensor, windows: Windows, shape: torch.Size) -> Tensor:
    (_, k_w), stride, padding = windows
    row = torch.arange(grad.shape[2])[:, None] * stride[0] - padding[0] + taps.long() // k_w
    column = torch.arange(grad.shape[3]) * stride[1] - padding[1] + taps.long() % k_w
    place = (row * shape[3] + column).flatten(2)
    return grad.new_zeros(shape).flatten(2).scatter_add(2, place, grad.flatten(2)).view(shape)
