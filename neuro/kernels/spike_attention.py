"""The product of spiking attention from bits: pairs of channels by counting bits, then rows that the queries' spikes name."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from neuro.kernels import again, batched
from neuro.kernels.bits import Packed, pack
from neuro.kernels.choosing import current, is_small
from neuro.kernels.costs import Costs, Work
from neuro.kernels.memory import fresh, values_of
from neuro.kernels.planning import expected_events, is_plain, needs_gradient
from neuro.kernels.pool import spread

_OUTPUT = 0.3e-9  # seconds of an output and a channel of a head, one thread; only decides how many threads are worth waking


def spike_attention(q: Tensor, k: Tensor, v: Tensor, heads: int, scale: float) -> Tensor:
    """`scale * Q (K^T V)` of each head.

    Where q, k, v are 0 or 1 and the table of costs says so, it is formed from their bits, which are also all that backward
    needs; then every value is an integer times `scale` and equals torch's. Otherwise, and wherever `spike_linear` would be, it is torch's
    own product, and so is a gradient that is to be differentiated itself.

    Shapes: q, k, v [T, B, N, D], D a multiple of heads -> [T, B, N, D].

    >>> q = torch.eye(2).view(1, 1, 2, 2)
    >>> spike_attention(q, torch.ones_like(q), q, 1, 0.5).tolist()
    [[[[0.5, 0.5], [0.5, 0.5]]]]
    """
    planned = None if heads < 1 or is_small(2 * q.numel() * q.shape[-1] // heads) else _plan(q, k, v, heads, scale)
    if planned is None:
        return dense(q, k, v, heads, scale)
    if not needs_gradient(q, k, v):
        return forward(*planned, heads, scale)
    return _SpikeAttention.apply(q, k, v, planned, heads, scale)


def dense(q: Tensor, k: Tensor, v: Tensor, heads: int, scale: float) -> Tensor:
    """The same by torch's products."""
    q, k, v = (by_heads(x, heads) for x in (q, k, v))
    return joined(q @ (k.transpose(-1, -2) @ v) * scale)


def by_heads(x: Tensor, heads: int) -> Tensor:
    """[T, B, N, D] -> [T, B, h, N, d]."""
    return x.unflatten(-1, (heads, -1)).transpose(2, 3)


def joined(x: Tensor) -> Tensor:
    """[T, B, h, N, d] -> [T, B, N, D]."""
    return x.transpose(2, 3).flatten(-2)


def _plan(q: Tensor, k: Tensor, v: Tensor, heads: int, scale: float) -> tuple[Packed, Packed, Packed] | None:
    """q, k, v as bits, or None for torch's own product."""
    if not is_plain(q, k, v) or type(scale) not in (int, float) or not q.shape == k.shape == v.shape or q.shape[-1] % heads:
        return None
    table = current()
    if table == "dense":
        return None
    if not isinstance(table, str):
        work = Work("attention", 3 * q.numel(), 0, q.numel(), q.shape[-2], q.shape[-1] // heads)
        expected = [expected_events(values_of(x)) for x in (q, k, v)]
        if None in expected or not _prefers_bits(table, work, [sum(e) for e in expected if e], needs_gradient(q, k, v)):
            return None
    packed = pack(q), pack(k), pack(v)
    return packed if all(p.is_planes and len(p.planes) == 1 for p in packed) else None


def _prefers_bits(table: Costs, work: Work, events: list[float], trains: bool) -> bool:
    return table.prefers_bits_in_training(work, events[0], sum(events)) if trains else table.prefers_events(work, events[0])


@batched.one_by_one
class _SpikeAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, planned: tuple[Packed, Packed, Packed], heads: int, scale: float) -> Tensor:
        ctx.heads, ctx.scale, ctx.shape, ctx.dtype = heads, scale, q.shape, q.dtype
        ctx.past = [again.history(x) for x in (q, k, v)]
        ctx.save_for_backward(*(p.data for p in planned))
        return forward(*planned, heads, scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v = (Packed(data, ctx.shape, ctx.dtype, 0) for data in ctx.saved_tensors)
        if torch.is_grad_enabled():  # create_graph=True
            inputs = [again.with_history(past, x.unpack()) for past, x in zip(ctx.past, (q, k, v), strict=True)]
            return *again.gradients(lambda q, k, v: [dense(q, k, v, ctx.heads, ctx.scale)], inputs, ctx.needs_input_grad[:3], [grad]), None, None, None
        found = gradients(q, k, v, grad, ctx.heads, ctx.scale)
        wanted = (g if needed else None for g, needed in zip(found, ctx.needs_input_grad[:3], strict=True))
        return *wanted, None, None, None


def forward(q: Packed, k: Packed, v: Packed, heads: int, scale: float) -> Tensor:
    """The product from bits; packed [T, B, N, D] of one plane each -> [T, B, N, D]."""
    from neuro.kernels import attention_loops

    T, B, N, D = q.shape
    y, d = fresh((T, B, N, D), q.dtype), D // heads
    flat, planes = y.view(-1).numpy(), (q.planes, k.planes, v.planes)
    spread(lambda low, high: attention_loops.attend(*planes, N, heads, d, scale, flat, low, high), T * B, cost=N * D * _OUTPUT)
    return y


def gradients(q: Packed, k: Packed, v: Packed, grad: Tensor, heads: int, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Of q, k and v, each [T, B, N, D], from their bits and the gradient of the product."""
    from neuro.kernels import attention_loops

    T, B, N, D = q.shape
    found = tuple(fresh(q.shape, grad.dtype) for _ in range(3))
    g, into = grad.contiguous().view(-1).numpy(), [f.view(-1).numpy() for f in found]
    planes, d = (q.planes, k.planes, v.planes), D // heads
    cost = 4 * N * D * _OUTPUT
    spread(lambda low, high: attention_loops.attend_gradients(*planes, g, N, heads, d, scale, *into, low, high), T * B, cost=cost)
    return found  # type: ignore[return-value]
