"""Dense layers whose inputs are spikes: the rows of the weight that spikes name are summed, or sums are looked up (`spike_lookup.py`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from neuro.kernels import again, batched, spike_lookup
from neuro.kernels.bits import Packed
from neuro.kernels.choosing import is_small
from neuro.kernels.costs import Work
from neuro.kernels.dense import input_gradient, product
from neuro.kernels.gating import Gate
from neuro.kernels.memory import fresh, values_of
from neuro.kernels.planning import Plan, is_plain, needs_gradient, plan
from neuro.kernels.pool import spread

_GRAIN = 512  # rows, or inputs, of a range: for each the weight is turned, or every row looked through
_ADD, _TURN = 0.05e-9, 0.3e-9  # seconds of an element, one thread; only decide how many threads are worth waking


def spike_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, gate: Gate | None = None) -> Tensor:
    """`x W^T + b` on the last axis, as torch.nn.functional.linear, up to the order of summation.

    Where x holds spikes (0, 1 or counts up to 16) and the table of costs says so, only the active inputs are touched, or sums are looked
    up by bits, forward and in the weight's gradient, and what backward needs of x is kept as bits. Otherwise, and for all that is not an ordinary float32 or
    float64 CPU tensor, or is watched by a compiler, a transform, autocast or a counter, it is torch's own product. A gradient
    that is to be differentiated itself is that of torch's own product too.

    Args:
        gate: of the neuron that gave x, where x is seen by nobody else. The gradient by x is then formed only at the gate's open places, where
            the table of costs says that this is faster, and is 0 elsewhere.

    Shapes: x [..., C], weight [D, C], bias [D] -> [..., D].

    >>> x, w = torch.eye(3), torch.arange(6.0).view(2, 3)
    >>> spike_linear(x, w).tolist()
    [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
    """
    if is_small(x.numel() * weight.shape[0]) or not is_plain(x, weight, bias) or x.dim() < 2 or not _fits(x, weight, bias):
        return F.linear(x, weight, bias)
    D, C = weight.shape
    rows = x.numel() // C
    work = Work("linear", x.numel(), D * C, rows * D, rows, D)
    planned = plan(x, work, keeps=torch.is_grad_enabled() and weight.requires_grad)
    if planned is None:
        return F.linear(x, weight, bias)
    if not needs_gradient(x, weight, bias):
        return forward(planned.packed, weight, bias, planned.forward or 0)
    return _SpikeLinear.apply(x, weight, bias, planned, gate if planned.places and x.requires_grad else None)


def _fits(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """The loops do not look at bounds; what does not fit is torch's to refuse."""
    return weight.dim() == 2 and x.shape[-1] == weight.shape[1] and (bias is None or bias.shape == weight.shape[:1])


@batched.one_by_one
class _SpikeLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, planned: Plan, gate: Gate | None) -> Tensor:
        packed = planned.packed
        ctx.packed, ctx.form, ctx.onednn = (packed.shape, packed.dtype, packed.events), planned.gradient, planned.onednn
        needs_x, needs_weight, _ = ctx.needs_input_grad[:3]
        ctx.gate, ctx.places = None if gate is None else gate.emptied(), planned.places
        ctx.past = again.history(x) if needs_weight else None
        ctx.save_for_backward(packed.data if needs_weight else None, weight if needs_x else None, *(() if gate is None else gate.tensors()))
        return product(x, weight, bias, onednn=planned.onednn) if planned.forward is None else forward(packed, weight, bias, planned.forward)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        data, weight, *held = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True
            return (*_again(ctx, grad, data, weight), None, None)
        g = grad.reshape(-1, grad.shape[-1])
        grad_x = grad_weight = None
        if weight is not None:
            places = None if ctx.gate is None else ctx.gate.holding(held).places(ctx.places)
            grad_x = (input_gradient(g, weight, onednn=ctx.onednn) if places is None else input_gradient_at(places, g, weight)).view(ctx.packed[0])
        if data is not None:
            packed = Packed(data, *ctx.packed)
            grad_weight = g.t() @ packed.unpack().view(g.shape[0], -1) if ctx.form is None else weight_gradient(packed, g, ctx.form)
        grad_bias = g.sum(0) if ctx.needs_input_grad[2] else None
        return grad_x, grad_weight, grad_bias, None, None


def _again(ctx: Any, grad: Tensor, data: Tensor | None, weight: Tensor | None) -> tuple[Tensor | None, ...]:
    """The whole gradients by torch's own products."""
    g = grad.flatten(0, -2)
    grad_x = None if weight is None else grad @ weight
    grad_weight = None if data is None else g.t() @ again.with_history(ctx.past, Packed(data, *ctx.packed).unpack()).flatten(0, -2)
    return grad_x, grad_weight, g.sum(0) if ctx.needs_input_grad[2] else None


def forward(packed: Packed, weight: Tensor, bias: Tensor | None, looked: int = 0) -> Tensor:
    """The product with so many planes looked up, and the rest driven by events. packed [..., C], weight [D, C] -> [..., D]."""
    from neuro.kernels import spike_loops

    D, C = weight.shape
    rows = packed.shape.numel() // C
    dense, planes, add = values_of(weight), packed.planes[looked:], looked > 0
    y = spike_lookup.linear(packed, looked, weight, bias) if looked else fresh((*packed.shape[:-1], D), weight.dtype)
    if looked and not len(planes):
        return y
    flat = values_of(y)
    first = np.zeros(D, flat.dtype) if bias is None else values_of(bias)
    cost = D * _ADD * (4 + packed.events / max(1, rows))
    spread(lambda low, high: spike_loops.times(planes, C, dense, D, first, flat, add, low, high), rows, cost=cost, grain=_GRAIN)
    return y


def weight_gradient(packed: Packed, g: Tensor, looked: int = 0) -> Tensor:
    """g^T x, [D, C], with so many planes of x looked up, and the rest driven by its events; packed [..., C], g [rows, D]."""
    from neuro.kernels import spike_loops

    rows, D = g.shape
    C, planes = packed.shape[-1], packed.planes[looked:]
    found = spike_lookup.linear_gradient(packed, looked, g) if looked else None
    if found is not None and not len(planes):
        return found
    turned_grad = fresh((C, D), g.dtype)
    flat, dense = turned_grad.view(-1).numpy(), values_of(g)
    cost = D * _ADD * (4 + packed.events / C)
    spread(lambda low, high: spike_loops.transposed_times(planes, rows, C, dense, D, flat, low, high), C, cost=cost, grain=_GRAIN)
    return turned(turned_grad) if found is None else found.add_(turned(turned_grad))


def input_gradient_at(places: Packed, g: Tensor, weight: Tensor) -> Tensor:
    """g W, [rows, C], at the places whose bit is set, and 0 elsewhere; places [..., C] of one plane, g [rows, D], weight [D, C]."""
    from neuro.kernels import gated_loops

    (rows, D), C = g.shape, weight.shape[1]
    found = fresh((rows, C), g.dtype)
    words, flat = places.planes[0], found.view(-1).numpy()
    gradient, dense = values_of(g), values_of(weight)
    cost = D * _ADD * (4 + places.events / max(1, rows))
    spread(lambda low, high: gated_loops.named_products(words, C, gradient, dense, D, flat, low, high), rows, cost=cost, grain=_GRAIN)
    return found


def turned(a: Tensor) -> Tensor:
    """A matrix transposed, contiguous, twice as fast as torch's copy."""
    from neuro.kernels import spike_loops

    rows, columns = a.shape
    b = fresh((columns, rows), a.dtype)
    source, target = values_of(a), b.view(-1).numpy()
    blocks = (columns + 15) // 16
    spread(lambda low, high: spike_loops.transpose(source, rows, columns, target, 16 * low, min(16 * high, columns)), blocks, cost=16 * rows * _TURN)
    return b
