"""Convolutions whose inputs are spikes: each output sums the rows of the weight that its active inputs name, or sums are looked up."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from neuro.kernels import again, batched, spike_lookup, winograd
from neuro.kernels.bits import Packed
from neuro.kernels.choosing import is_small
from neuro.kernels.costs import Work
from neuro.kernels.gating import Gate
from neuro.kernels.memory import fresh
from neuro.kernels.planning import Plan, is_plain, needs_gradient, plan
from neuro.kernels.pool import spread
from neuro.kernels.spike_linear import turned

_ADD, _MOVE = 0.1e-9, 0.5e-9  # seconds of an element, one thread; only decide how many threads are worth waking
_FRAMED = 4 << 20  # bytes of a gradient that is rearranged at a time; part of the order of summation
_NARROW = 16  # outputs of a group below which its rows are shorter than a vector: such groups stay dense

Pair = tuple[int, int]


class Sizes(NamedTuple):
    """C, H, W of a group's input, D, H, W of its output, kernel, stride, padding, dilation, number of groups."""

    C: int
    H: int
    W: int
    D: int
    H_out: int
    W_out: int
    K_h: int
    K_w: int
    s_h: int
    s_w: int
    p_h: int
    p_w: int
    d_h: int
    d_w: int
    groups: int


def spike_conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Pair = (1, 1), padding: Pair = (0, 0), dilation: Pair = (1, 1), groups: int = 1,
    gate: Gate | None = None,
) -> Tensor:  # fmt: skip
    """Convolution as torch.nn.functional.conv2d, up to the order of summation; when it is driven by events, and what a gate is: see `spike_linear`. A gate is
    of use to convolutions of one group.

    Groups of fewer than 16 outputs, depthwise ones among them, are torch's own: their rows are shorter than a vector, and a depthwise
    convolution driven by events took three to ten times as long as the dense one at densities of 2 to 20 %.

    Shapes: x [N, C, H, W], weight [D, C / groups, K, K], bias [D] -> [N, D, H', W'].

    >>> x = torch.zeros(1, 1, 3, 3)
    >>> x[0, 0, 1, 1] = 1
    >>> spike_conv2d(x, torch.arange(4.0).view(1, 1, 2, 2)).tolist()
    [[[[3.0, 2.0], [1.0, 0.0]]]]
    """
    if weight.shape[0] < _NARROW * groups or is_small(x.numel() * weight.numel() // max(1, weight.shape[1])):
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    if not is_plain(x, weight, bias) or not _fits(x, weight, bias, groups) or min(*stride, *dilation) < 1 or min(padding) < 0:
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    sizes = sizes_of(x.shape, weight.shape, stride, padding, dilation, groups)
    if min(sizes.H_out, sizes.W_out) < 1:
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    N, taps = x.shape[0], sizes.K_h * sizes.K_w
    fan = max(1, taps * sizes.D // (sizes.s_h * sizes.s_w))
    work = Work("conv", x.numel(), weight.numel(), N * groups * sizes.D * sizes.H_out * sizes.W_out, N, fan, winograd.fits(sizes))
    planned = plan(x, work, keeps=torch.is_grad_enabled() and weight.requires_grad, looks=stride == (1, 1))
    if planned is None:
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    if not needs_gradient(x, weight, bias):
        return forward(planned.packed, weight, bias, sizes, planned.forward or 0)
    gated = planned.places and x.requires_grad and groups == 1
    return _SpikeConv.apply(x, weight, bias, sizes, planned, gate if gated else None)


def spike_conv1d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1, padding: int = 0, dilation: int = 1, groups: int = 1, gate: Gate | None = None
) -> Tensor:  # fmt: skip
    """As `spike_conv2d`, over one axis: x [N, C, L], weight [D, C / groups, K] -> [N, D, L']."""
    if not is_plain(x, weight, bias) or x.dim() != 3 or weight.dim() != 3:
        return F.conv1d(x, weight, bias, stride, padding, dilation, groups)
    return spike_conv2d(x[:, :, None], weight[:, :, None], bias, (1, stride), (0, padding), (1, dilation), groups, gate)[:, :, 0]


def _fits(x: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> bool:
    """The loops do not look at bounds; what does not fit is torch's to refuse."""
    if x.dim() != 4 or weight.dim() != 4 or groups < 1 or weight.shape[0] % groups:
        return False
    return x.shape[1] == weight.shape[1] * groups and (bias is None or bias.shape == weight.shape[:1])


def sizes_of(x: torch.Size, weight: torch.Size, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> Sizes:
    kernel = tuple(weight[2:])
    out = [(x[2 + i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in (0, 1)]
    return Sizes(weight[1], x[2], x[3], weight[0] // groups, *out, *kernel, *stride, *padding, *dilation, groups)


@batched.one_by_one
class _SpikeConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, sizes: Sizes, planned: Plan, gate: Gate | None) -> Tensor:
        packed = planned.packed
        ctx.packed, ctx.form, ctx.sizes, ctx.kernel = (packed.shape, packed.dtype, packed.events), planned.gradient, sizes, weight.shape
        ctx.winograd = planned.winograd
        needs_x, needs_weight, _ = ctx.needs_input_grad[:3]
        ctx.gate, ctx.places = None if gate is None else gate.emptied(), planned.places
        ctx.past = again.history(x) if needs_weight else None
        ctx.save_for_backward(packed.data if needs_weight else None, weight if needs_x else None, *(() if gate is None else gate.tensors()))
        return F.conv2d(x, weight, bias, *_arguments(sizes)) if planned.forward is None else forward(packed, weight, bias, sizes, planned.forward)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        data, weight, *held = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True
            return (*_again(ctx, grad, data, weight), None, None, None)
        grad_x = grad_weight = None
        if weight is not None:
            places = None if ctx.gate is None else ctx.gate.holding(held).places(ctx.places)
            if places is not None:
                grad_x = input_gradient_at(places, grad, weight, ctx.sizes)
            else:
                grad_x = winograd.input_gradient(grad, weight, ctx.sizes) if ctx.winograd else input_gradient(grad, weight, ctx.sizes, ctx.packed[0])
        if data is not None:
            packed = Packed(data, *ctx.packed)
            if ctx.form is not None:
                grad_weight = weight_gradient(packed, grad, ctx.sizes, ctx.form)
            else:
                nothing = grad.new_empty(1).expand(ctx.kernel)
                grad_weight = _dense_backward(grad, packed.unpack(), nothing, ctx.sizes, (False, True, False))[1]
        grad_bias = grad.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None
        return grad_x, grad_weight, grad_bias, None, None, None


def _again(ctx: Any, grad: Tensor, data: Tensor | None, weight: Tensor | None) -> tuple[Tensor | None, ...]:
    """The whole gradients by torch's own convolution."""
    how = _arguments(ctx.sizes)
    grad_x = None if weight is None else torch.nn.grad.conv2d_input(ctx.packed[0], weight, grad, *how)
    grad_weight = None if data is None else torch.nn.grad.conv2d_weight(again.with_history(ctx.past, Packed(data, *ctx.packed).unpack()), ctx.kernel, grad, *how)
    return grad_x, grad_weight, grad.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None


def _arguments(s: Sizes) -> tuple[Pair, Pair, Pair, int]:
    return (s.s_h, s.s_w), (s.p_h, s.p_w), (s.d_h, s.d_w), s.groups


def input_gradient(grad: Tensor, weight: Tensor, sizes: Sizes, shape: torch.Size) -> Tensor:
    """[N, C, H, W] by torch's own convolution."""
    nothing = grad.new_empty(1).expand(shape)
    return _dense_backward(grad, nothing, weight, sizes, (True, False, False))[0]


def input_gradient_at(places: Packed, grad: Tensor, weight: Tensor, sizes: Sizes) -> Tensor:
    """The same at the places whose bit is set, and 0 elsewhere; places N * C * H * W of one plane. One group."""
    from neuro.kernels import gated_loops, spike_loops

    s, N = sizes, grad.shape[0]
    found = fresh((N, s.C, s.H, s.W), grad.dtype)
    g, flat, words = grad.detach().contiguous().view(-1).numpy(), found.view(-1).numpy(), places.planes[0]
    taps = _by_remainder(weight, s).numpy()
    top, left, frame_h, frame_w = _frame(s)
    image, plane = frame_h * frame_w * s.D, s.D * s.H_out * s.W_out
    some = min(N, max(1, _FRAMED // (image * grad.dtype.itemsize)))
    framed = torch.empty(some * image, dtype=grad.dtype).numpy()
    of_input, of_frame = (s.C, s.H, s.W, s.D, s.K_h, s.K_w, s.s_h, s.s_w, s.p_h, s.p_w, s.d_h, s.d_w), (frame_h, frame_w, top, left)
    cost = s.C * s.H * s.W * _MOVE + places.events / N * s.K_h * s.K_w * s.D * _ADD
    for n in range(0, N, some):
        images = min(some, N - n)
        part, y = g[n * plane : (n + images) * plane], flat[n * s.C * s.H * s.W :]
        spread(lambda low, high, part=part: spike_loops.frame_gradient(part, s.D, s.H_out, s.W_out, framed, frame_h, frame_w, top, left, low, high), images, cost=image * _MOVE)
        spread(lambda low, high, n=n, y=y: gated_loops.named_taps(words, n, of_input, of_frame, taps, framed, y, low, high), images, cost=cost)
    return found


def _dense_backward(grad: Tensor, x: Tensor, weight: Tensor, sizes: Sizes, wants: tuple[bool, bool, bool]) -> Any:
    stride, padding, dilation, groups = _arguments(sizes)
    return torch.ops.aten.convolution_backward(grad, x, weight, None, stride, padding, dilation, False, (0, 0), groups, wants)


def forward(packed: Packed, weight: Tensor, bias: Tensor | None, sizes: Sizes, looked: int = 0) -> Tensor:
    """The convolution with so many planes looked up, and the rest driven by events; packed [N, C, H, W] -> [N, D, H', W']."""
    from neuro.kernels import spike_loops

    s, N = sizes, packed.shape[0]
    y = spike_lookup.convolution(packed, looked, weight, bias, s) if looked else fresh((N, s.groups * s.D, s.H_out, s.W_out), weight.dtype)
    planes = packed.planes[looked:]
    if looked and not len(planes):
        return y
    first = (torch.zeros(s.groups * s.D, dtype=weight.dtype) if bias is None else bias.detach().contiguous()).numpy()
    dense = _turned(weight.detach().reshape(s.groups, s.D, -1)).view(-1).numpy()  # [groups, C * taps, D]
    flat, add, plain = y.view(-1).numpy(), looked > 0, tuple(s)
    items = N * s.groups
    cost = s.C * s.H * s.W * _MOVE + packed.events / items * s.K_h * s.K_w * s.D * _ADD
    spread(lambda low, high: spike_loops.convolve(planes, plain, dense, first, flat, add, low, high), items, cost=cost)
    return y


def weight_gradient(packed: Packed, grad: Tensor, sizes: Sizes, looked: int = 0) -> Tensor:
    """The weight's gradient [D, C / groups, K, K], with so many planes looked up, and the rest driven by events; packed [N, C, H, W], grad [N, D, H', W']."""
    from neuro.kernels import spike_loops

    s, N, taps = sizes, packed.shape[0], sizes.K_h * sizes.K_w
    by_lookup = spike_lookup.convolution_gradient(packed, looked, grad, s) if looked else None
    g, planes, plain = grad.detach().contiguous().view(-1).numpy(), packed.planes[looked:], tuple(sizes)
    if by_lookup is not None and not len(planes):
        return by_lookup
    C, width, cost = s.C * s.groups, s.groups * s.D, packed.events * taps * s.D * _ADD
    found = torch.zeros((C, taps, s.D), dtype=grad.dtype)
    flat = found.view(-1).numpy()
    top, left, frame_h, frame_w = _frame(s)
    image = frame_h * frame_w * width
    some = min(N, max(1, _FRAMED // (image * grad.dtype.itemsize)))
    framed = torch.empty(some * image, dtype=grad.dtype).numpy()
    plane = width * s.H_out * s.W_out
    for n in range(0, N, some):
        images = min(some, N - n)
        part = g[n * plane : (n + images) * plane]
        spread(lambda low, high, part=part: spike_loops.frame_gradient(part, width, s.H_out, s.W_out, framed, frame_h, frame_w, top, left, low, high), images, cost=image * _MOVE)
        spread(
            lambda low, high, n=n, images=images: spike_loops.convolve_gradient(
                planes, plain, n, images, framed, frame_h, frame_w, top, left, flat, low, high
            ),
            C, cost=images / N * cost / C,
        )  # fmt: skip
    grad_weight = _turned(found.view(s.groups, s.C * taps, s.D)).view(width, s.C, s.K_h, s.K_w)
    return grad_weight if by_lookup is None else by_lookup.add_(grad_weight)


def _turned(a: Tensor) -> Tensor:
    """Matrices [groups, m, n] transposed, contiguous."""
    return turned(a[0])[None] if len(a) == 1 else a.transpose(1, 2).contiguous()


def _by_remainder(weight: Tensor, s: Sizes) -> Tensor:
    """The weight [C, taps, D] of the taps that places share, last to first, for each pair of a place's remainders by the strides; flat, one after the other."""
    whole = turned(weight.detach().reshape(s.D, -1)).view(s.C, s.K_h, s.K_w, s.D)
    axes = ((s.K_h, s.s_h, s.p_h, s.d_h), (s.K_w, s.s_w, s.p_w, s.d_w))
    rows, columns = ([[i for i in reversed(range(size)) if (a + before - i * dilation) % stride == 0] for a in range(stride)] for size, stride, before, dilation in axes)
    return torch.cat([whole[:, r][:, :, c].reshape(-1) for r in rows for c in columns])


def _frame(s: Sizes) -> tuple[int, int, int, int]:
    """Zeros before the rows and columns of a gradient, and its size with those after: wherever an input's tap may point."""
    top, left = max(0, -(-((s.K_h - 1) * s.d_h - s.p_h) // s.s_h)), max(0, -(-((s.K_w - 1) * s.d_w - s.p_w) // s.s_w))
    return top, left, top + max(s.H_out, (s.H - 1 + s.p_h) // s.s_h + 1), left + max(s.W_out, (s.W - 1 + s.p_w) // s.s_w + 1)
