"""Max pooling that remembers one byte per output: torch's keeps its whole input and an index of eight bytes."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from neuro.kernels.memory import fresh
from neuro.kernels.pool import spread

_TAP = 0.2e-9  # seconds of one tap of one output
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
    if x.dim() != 4 or kernel[0] * kernel[1] > 255 or any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        return False
    out = [(n + 2 * p - k) // s + 1 for n, p, k, s in zip(x.shape[2:], padding, kernel, stride, strict=True)]
    if min(out) < 1 or x.shape[0] * x.shape[1] * out[0] * out[1] < _WORTH:
        return False
    watched = torch._C._len_torch_dispatch_stack() > 0 or torch._C._functorch.peek_interpreter_stack() is not None
    return not watched and torch._C._get_tracing_state() is None and torch.autograd.forward_ad._current_level < 0


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Pair, stride: Pair, padding: Pair) -> Tensor:
        from neuro.kernels import max_pooling_loops

        ctx.sizes, ctx.shape = (kernel, stride, padding), x.shape
        N, C, H, W = x.shape
        H_out, W_out = ((n + 2 * p - k) // s + 1 for n, p, k, s in zip((H, W), padding, kernel, stride, strict=True))
        y = fresh((N, C, H_out, W_out), x.dtype)
        taps = fresh((N, C, H_out, W_out), torch.uint8)
        arrays = (x.detach().contiguous().view(N * C, H, W).numpy(), y.view(N * C, H_out, W_out).numpy(), taps.view(N * C, H_out, W_out).numpy())
        spread(lambda low, high: max_pooling_loops.forward(*arrays, *ctx.sizes, low, high), N * C, cost=H_out * W_out * kernel[0] * kernel[1] * _TAP)
        ctx.save_for_backward(taps)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        from neuro.kernels import max_pooling_loops

        (taps,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True: a gather and scatter that torch can differentiate again
            return _scattered(grad, taps, ctx.sizes, ctx.shape), None, None, None
        N, C, H, W = ctx.shape
        result = fresh(tuple(ctx.shape), grad.dtype)
        planes = N * C
        arrays = (grad.contiguous().view(planes, *grad.shape[2:]).numpy(), taps.view(planes, *taps.shape[2:]).numpy(), result.view(planes, H, W).numpy())
        spread(lambda low, high: max_pooling_loops.backward(*arrays, *ctx.sizes, low, high), planes, cost=(H * W + 4 * grad[0, 0].numel()) * _TAP)
        return result, None, None, None


def _scattered(grad: Tensor, taps: Tensor, sizes: tuple[Pair, Pair, Pair], shape: torch.Size) -> Tensor:
    (_, k_w), stride, padding = sizes
    row = torch.arange(grad.shape[2])[:, None] * stride[0] - padding[0] + taps.long() // k_w
    column = torch.arange(grad.shape[3]) * stride[1] - padding[1] + taps.long() % k_w
    place = (row * shape[3] + column).flatten(2)
    return grad.new_zeros(shape).flatten(2).scatter_add(2, place, grad.flatten(2)).view(shape)
