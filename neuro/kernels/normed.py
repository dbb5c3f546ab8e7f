"""Batch normalisation and a neuron's steps in one kernel: what lies between them is neither written nor kept.

`y = (x - mean) * scale + shift`, with scale = weight / sqrt(var + eps), is made part of the neuron's step, and the three are parameters
of it, one value for each channel. The kernel's backward gives the gradient by `x` through `y` and those of scale and shift; that through
the batch's own mean and variance is `slope * x + offset` for each channel, and is added in one pass.

With max pooling between the two, what is pooled is x itself: `scale * x + shift` is largest where x is, where the scale is negative where x is
smallest, and rounding keeps that order. Mean and variance are those of the whole x. Places of a window that differ in x, but no longer once they are
normalised and rounded, are told apart: the gradient goes to the larger x, where pooling what is rounded takes the first. An infinite x that was pooled away is not multiplied by
the 0 that reaches it, which makes the weight's gradient NaN where the norm is taken alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from neuro.kernels import again, batched, cpu, gating, max_pooling, programs
from neuro.kernels.calls import Call
from neuro.kernels.max_pooling import Windows
from neuro.kernels.pool import spread
from neuro.kernels.programs import Found

_READ = 0.15e-9  # seconds of one element read and summed; only decides how many threads are worth waking
_ROWS = 256  # rows of a partial sum; part of the order of summation
_JOINED = 1024  # neurons up to which short rows are joined
_LONG = 256  # places of a channel from which a row of neurons holds one channel; shorter ones are joined to a whole sample


class NormedParams(NamedTuple):
    mean: Tensor  # [C]
    scale: Tensor  # [C]
    shift: Tensor  # [C]
    neuron: Any


def normed_step(x: Tensor, state: Any, p: NormedParams, *, inner: Callable[..., Any], **choices: Any) -> tuple[Any, Any]:
    """One step of a neuron whose input is normalised first."""
    return inner((x - p.mean) * p.scale + p.shift, state, p.neuron, **choices)


class Places(NamedTuple):
    """Where channels lie in an input [T, B, ...] that is seen as [T, R, K] for the kernel and as `planes` for the sums."""

    channels: int
    R: int
    K: int
    kind: str  # "row": a row of neurons holds one channel; "column": each neuron of a row has its own
    last: bool  # whether channels are the last axis


class Norm(NamedTuple):
    """mean and var [C] are None where they are the batch's; eps."""

    mean: Tensor | None
    var: Tensor | None
    eps: float


def places(shape: torch.Size, last: bool) -> Places:
    """The view of [T, B, C, ...] or, with `last`, [T, B, ..., C]."""
    if last:
        C, rows = shape[-1], shape[1:-1].numel()
        joined = max(1, min(rows, _JOINED // C))  # several rows of few channels are one long row
        while rows % joined:
            joined -= 1
        return Places(C, rows // joined, joined * C, "column", True)
    C, S = shape[2], shape[3:].numel()
    return Places(C, shape[1] * C, S, "row", False) if S >= _LONG else Places(C, shape[1], C * S, "column", False)


def moments(x: Tensor, at: Places) -> tuple[Tensor, Tensor]:
    """Mean and variance (divided by n) of each channel [C], summed in double in a fixed order.

    Sums are of the distance to a channel's first value: squares of a large mean would leave few digits to the variance.
    """
    from neuro.kernels import norm_loops

    n = x.numel() // at.channels
    if at.last:
        rows = x.detach().view(-1, at.channels)
        pieces = (len(rows) + _ROWS - 1) // _ROWS
        sums, origin = torch.empty(pieces, 2, at.channels, dtype=torch.float64, device="cpu"), rows[0].double()
        arrays = (rows.numpy(), origin.numpy(), sums.numpy())
        spread(lambda low, high: norm_loops.moments_of_rows(*arrays, _ROWS, low, high), pieces, cost=_ROWS * at.channels * _READ)
        total, square = sums.sum(0)
    else:
        planes = x.detach().view(x.shape[0] * x.shape[1] * at.channels, -1)
        sums, origin = torch.empty(len(planes), 2, dtype=torch.float64, device="cpu"), planes[: at.channels, 0].double()
        arrays = (planes.numpy(), origin.numpy(), sums.numpy())
        spread(lambda low, high: norm_loops.moments_of_planes(*arrays, low, high), len(planes), cost=planes.shape[1] * _READ)
        total, square = sums.view(-1, at.channels, 2).sum(0).unbind(-1)
    away = total / n
    return origin + away, (square / n - away.square()).clamp(min=0)


def find(x: Tensor, inner: Callable[..., Any], state: Any, params: Any, choices: dict[str, Any], keep: bool, after: bool) -> Found | None:
    """The program of the step with its normalisation, or None where it has no kernel or gives more than one output. after: whether the state afterwards is wanted."""
    structure = NormedParams(*(torch.full((3,), 0.5, dtype=x.dtype, device="cpu") for _ in range(3)), params)
    if keep:
        structure.scale.requires_grad_(), structure.shift.requires_grad_()
    choices = {"inner": inner, **choices}
    found = programs.find(normed_step, x, state, structure, choices, x.dtype)
    if found.program is None or not found.single:
        return None
    x = x.detach().requires_grad_(keep)
    return found if programs.agrees(normed_step, found, x, state, structure, None, choices, keep, after) else None


def run(
    found: Found, x: Tensor, last: bool, norm: Norm, weight: Tensor, bias: Tensor, inner: Callable[..., Any], state: Any, params: Any, choices: dict[str, Any], keep: bool,
    windows: Windows | None = None, after: bool = True,
) -> tuple[Tensor, Any, tuple[Tensor, Tensor]]:  # fmt: skip
    """Outputs, state afterwards (with `after`, else None), and the mean and variance (divided by n, in double) that were used.

    Args:
        x: [T, B, C, ...] or, with `last`, [T, B, ..., C], contiguous, float32 or float64, on the CPU.
        weight, bias: [C], of the normalisation.
        inner, state, params, choices: as of `neuro.scan`; tensors among the parameters have one value or one for each channel.
        keep: whether gradients are wanted.
        windows: of a max pooling between the two, of x [T, B, C, H, W]; states are of the pooled size.
    """
    whole = places(x.shape, last)
    states, given = programs.tensors(state), programs.tensors(params)
    numbers = [] if found.baked else programs.numbers(params)
    with torch.no_grad():
        mean, var = moments(x, whole) if norm.mean is None or norm.var is None else (norm.mean.double(), norm.var.double())
    loop = programs.by_loop(inner, x, state, params, None, choices)

    def by_loop(x: Tensor, weight: Tensor, bias: Tensor, states: Any, given: Any) -> list[Tensor]:
        return loop([_defined(x, last, norm, weight, bias, windows)], states, given)

    results = _Normed.apply(found.program, windows, last, norm.mean is None, norm.eps, tuple(numbers), by_loop, len(states), keep, after, mean, var, x, weight, bias, *states, *given)
    end = (type(state)(*results[1:]) if hasattr(state, "_fields") else tuple(results[1:])) if after else None
    return results[0], end, (mean, var)


def gate(
    found: Found, x: Tensor, last: bool, used: tuple[Tensor, Tensor], eps: float, weight: Tensor, bias: Tensor, state: Any, params: Any
) -> gating.Gate | None:
    """Where the neuron passes gradients on; `used`: mean and variance, as `run` gave them."""
    if not gating.is_gated(found):
        return None
    mean, var = used
    shape = (-1,) if last else (-1, *[1] * (x.dim() - 3))  # as they broadcast against a step
    mean, scale, shift = (p.detach().view(shape) for p in (mean.to(x.dtype), _scale(weight, _spreads(var, eps), x.dtype), bias))
    return gating.gate(found, x, state, NormedParams(mean, scale, shift, params))


def _spreads(var: Tensor, eps: float) -> Tensor:
    """One over the standard deviation, in double."""
    return 1.0 / (var + eps).sqrt()


def _scale(weight: Tensor, each: Tensor, dtype: torch.dtype) -> Tensor:
    return (weight.detach().double() * each).to(dtype)


def _defined(x: Tensor, last: bool, norm: Norm, weight: Tensor, bias: Tensor, windows: Windows | None) -> Tensor:
    """The normalisation in torch's own operations: gradients that are to be differentiated again are taken from here."""
    axis = x.dim() - 1 if last else 2
    others = [a for a in range(x.dim()) if a != axis]
    shape = [-1 if a == axis else 1 for a in range(x.dim())]
    mean = x.mean(others) if norm.mean is None else norm.mean
    var = (x - mean.view(shape)).square().mean(others) if norm.var is None else norm.var
    y = (x - mean.view(shape)) * (weight / (var + norm.eps).sqrt()).view(shape) + bias.view(shape)
    return y if windows is None else torch.nn.functional.max_pool2d(y.flatten(0, 1), *windows).unflatten(0, y.shape[:2])


@batched.one_by_one
class _Normed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, program: str, windows: Windows | None, last: bool, batch: bool, eps: float, numbers: tuple[float, ...], by_loop: Callable[..., Any], states: int, keep: bool, after: bool,
        mean: Tensor, var: Tensor, x: Tensor, weight: Tensor, bias: Tensor, *rest: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        each = _spreads(var, eps)
        scale = _scale(weight, each, x.dtype)
        z, *taps = (x,) if windows is None else max_pooling.forward(x.detach(), windows, scale.sign())
        at = places(z.shape, last)
        xs, state, params = _viewed(at, z, mean.to(x.dtype), scale, bias, rest, states)
        results = cpu.forward(program, xs, state, params, numbers, None, keep, call=_call(at, x.shape[0], params), after=after)
        ends, kept = results[1 : 1 + states * after], results[1 + states * after :]
        ctx.set_materialize_grads(False)
        ctx.program, ctx.windows, ctx.last, ctx.batch, ctx.numbers, ctx.by_loop, ctx.states = program, windows, last, batch, numbers, by_loop, states
        ctx.save_for_backward(x, z, *taps, weight, bias, mean, each, scale, *rest, *kept)
        return (results[0].view(z.shape), *[e.view(z.shape[1:]) for e in ends])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        x, z, *saved = ctx.saved_tensors
        taps = None if ctx.windows is None else saved.pop(0)
        weight, bias, mean, each, scale, *saved = saved
        rest, kept = saved[: len(saved) - ctx.states], saved[len(saved) - ctx.states :]
        needs = ctx.needs_input_grad[12:]
        if torch.is_grad_enabled():  # create_graph=True
            return (None,) * 12 + tuple(again.gradients(lambda x, w, b, *rest: ctx.by_loop(x, w, b, rest[: ctx.states], rest[ctx.states :]), (x, weight, bias, *rest), needs, grads))
        at = places(z.shape, ctx.last)
        xs, state, params = _viewed(at, z, mean.to(x.dtype), scale, bias, rest, ctx.states)
        call = _call(at, x.shape[0], params)
        need_params = needs[3 + ctx.states :]
        wants = (True, False, True, True, *need_params)
        wants_state = any(needs[3 : 3 + ctx.states])
        grad_y = [None if grads[0] is None else grads[0].contiguous().view(call.T, at.R, at.K)]
        grad_state = [None if g is None else g.contiguous().view(at.R, at.K) for g in grads[1:]]
        found = cpu.backward(ctx.program, grad_y, grad_state, xs, state, params, kept, ctx.numbers, None, wants, wants_state, call=call)
        grad_x = found[0].view(z.shape)
        begins = [g.view(z.shape[1:]) for g in found[1 : 1 + ctx.states]] if wants_state else [None] * ctx.states
        by_scale, by_shift, *by_params = found[1 + ctx.states * wants_state :]
        by_scale, by_shift, wide = _by_channel(by_scale, at), _by_channel(by_shift, at), scale.double()
        n = x.numel() // at.channels
        slope = -wide * each.square() * by_scale / n
        affine = (slope.to(x.dtype), (-wide * by_shift / n - slope * mean).to(x.dtype)) if ctx.batch else None
        if not needs[0]:
            grad_x = None
        elif taps is not None:
            grad_x = max_pooling.backward(grad_x, taps, ctx.windows, x.shape, None if affine is None else (x, *affine))
        elif affine is not None:
            _finish(grad_x, x, at, *affine)
        rest_of = iter(by_params)
        given = [_by_channel(next(rest_of), at).view(p.shape).to(p.dtype) if p.numel() > 1 and need else next(rest_of).view(p.shape) if need else None for p, need in zip(rest[ctx.states :], need_params, strict=True)]
        by_weight, by_bias = (by_scale * each).to(weight.dtype), by_shift.to(bias.dtype)
        return (None,) * 12 + (grad_x, by_weight, by_bias, *begins, *given)


def _call(at: Places, steps: int, params: list[Tensor]) -> Call:
    return Call(steps, at.R, at.K, tuple(["one" if p.numel() == 1 else at.kind for p in params]))


def _viewed(at: Places, x: Tensor, mean: Tensor, scale: Tensor, shift: Tensor, rest: tuple[Tensor, ...] | list[Tensor], states: int) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Input [T, R, K], states [R, K] and parameters as the kernel takes them."""

    def spread_out(p: Tensor) -> Tensor:
        p = p.detach().contiguous()
        if p.numel() == 1:
            return p
        if at.kind == "row":
            return p.view(-1)
        times = at.K // at.channels
        return p.view(1, -1).expand(times, -1).reshape(-1) if at.last else p.view(-1, 1).expand(-1, times).reshape(-1)

    params = [spread_out(p) for p in (mean, scale, shift, *rest[states:])]
    return [x.detach().view(-1, at.R, at.K)], [_as_rows(s.detach(), at) for s in rest[:states]], params


def _as_rows(state: Tensor, at: Places) -> Tensor:
    """[R, K]; of one number for all neurons, that number expanded."""
    return state.contiguous().view(at.R, at.K) if any(state.stride()) else state[(0,) * state.dim()].expand(at.R, at.K)


def _by_channel(grad: Tensor, at: Places) -> Tensor:
    """[C] in double."""
    return grad.view(-1, at.channels).sum(0, dtype=torch.float64) if at.last else grad.view(at.channels, -1).sum(1, dtype=torch.float64)


def _finish(grad: Tensor, x: Tensor, at: Places, slope: Tensor, offset: Tensor) -> None:
    """grad += slope * x + offset, in place."""
    from neuro.kernels import norm_loops

    shape = (-1, at.channels) if at.last else (x.shape[0] * x.shape[1] * at.channels, -1)
    g, v = grad.view(shape).numpy(), x.detach().view(shape).numpy()
    a, b = slope.numpy(), offset.numpy()
    work = norm_loops.finish_rows if at.last else norm_loops.finish_planes
    spread(lambda low, high: work(g, v, a, b, low, high), len(g), cost=g.shape[1] * _READ)
